//! A copy of an installer that only root can change, for other programs to read.

use std::io::Read;

use ::cli::{Failure, Progress, Say, fail, interrupted};
use host::{InputFile, Machine, PrivateDir, PrivateDirError};
use record::Exit;

/// The directory of copies; each is removed when its run ends, and those of killed runs by
/// the next one.
const DIR: &str = "/var/cache/pve-gpu-tools/verified";

pub struct PrivateCopy {
    dir: PrivateDir,
    name: String,
}

fn unusable(error: PrivateDirError) -> Failure {
    let foreign = matches!(error, PrivateDirError::Foreign { .. });
    let exit = if foreign { Exit::Refused } else { Exit::System };
    fail(exit, error.to_string())
}

impl PrivateCopy {
    /// Copies a file. Errors: the disk is full, the kernel refuses, or a signal arrived.
    pub fn of(
        file: &mut InputFile,
        machine: &Machine,
        shown: &str,
        say: &Say,
    ) -> Result<PrivateCopy, Failure> {
        let dir = PrivateDir::open(machine, DIR, true).map_err(unusable)?;
        let dir = dir.ok_or_else(|| fail(Exit::System, format!("'{DIR}' cannot be created")))?;
        dir.remove_abandoned()?;
        let (free, size) = (dir.free()?, file.size());
        if free < size {
            let message = format!("'{shown}' has {size} bytes, and '{DIR}' has room for {free}");
            return Err(fail(Exit::System, message).hint(
                "free space on that file system, or move the file to a directory that only root \
                 can write in",
            ));
        }
        let copy = PrivateCopy { name: format!("copy.{}", std::process::id()), dir };
        match copy.fill(file, say) {
            Ok(()) => Ok(copy),
            Err(failure) => {
                copy.remove(say);
                Err(failure)
            }
        }
    }

    fn fill(&self, file: &mut InputFile, say: &Say) -> Result<(), Failure> {
        let progress = Progress::new(say, "copying", Some(file.size()));
        let mut to = self.dir.growing(&self.name).map_err(unusable)?;
        to.clear()?;
        file.rewind()?;
        let mut buffer = vec![0; 256 << 10];
        let (mut at, most) = (0, file.size());
        loop {
            if interrupted() {
                return Err(fail(Exit::System, "interrupted"));
            }
            let got = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(file.error(error).into()),
            };
            at += got as u64;
            if at > most {
                return Err(fail(Exit::System, "the file grows while it is copied"));
            }
            to.write(&buffer[..got])?;
            progress.at(at);
        }
        Ok(to.finish()?)
    }

    pub fn open(&self) -> Result<InputFile, Failure> {
        Ok(self.dir.input(&self.name)?)
    }

    pub fn path(&self) -> String {
        self.dir.shown(&self.name)
    }

    /// A copy that cannot be removed is not a failure: the next run removes it.
    pub fn remove(self, say: &Say) {
        if let Err(error) = self.dir.remove(&self.name) {
            say.warn(&error.to_string());
        }
    }
}
