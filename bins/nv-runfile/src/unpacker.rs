//! Makes the tree of an archive, member by member, and refuses what no
//! installer has.

use std::collections::BTreeMap;

use ::cli::interrupted;
use host::{AtomicDir, Attributes, FileError};
use runfile::{ArchiveLimits, Decompressed, Member, MemberKind, TarError, TarReader};

use crate::cli::Owner;

/// Why unpacking stops.
#[derive(Debug)]
pub enum Stop {
    /// The archive cannot be read on.
    Archive(TarError),
    /// It holds what is not unpacked, in words.
    Hostile(String),
    /// A file cannot be made.
    File(FileError),
    /// A signal came in.
    Interrupted,
}

impl From<TarError> for Stop {
    fn from(error: TarError) -> Stop {
        Stop::Archive(error)
    }
}

impl From<FileError> for Stop {
    fn from(error: FileError) -> Stop {
        Stop::File(error)
    }
}

/// How the tree is to be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Owner; `None` leaves the caller's.
    pub owner: Option<Owner>,
    /// Permissions to take away.
    pub umask: u32,
    /// How much it may hold.
    pub limits: ArchiveLimits,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Members.
    pub entries: u64,
    /// Bytes in files.
    pub bytes: u64,
}

/// Makes the tree; with no staging it only looks whether it could.
pub struct Unpacker<'a> {
    staging: Option<&'a AtomicDir>,
    wanted: Wanted,
    /// Directories, which get what they are to have when all is in them.
    dirs: BTreeMap<Vec<u8>, Attributes>,
    counts: Counts,
}

/// What a directory has that the archive does not name.
const IMPLIED: Attributes = Attributes { owner: None, mode: 0o755, mtime: None };

/// What the kernel answers where the archive has another member at the same path.
const IN_THE_WAY: [i32; 5] = [libc::EEXIST, libc::EXDEV, libc::ENOTDIR, libc::EISDIR, libc::ELOOP];

impl<'a> Unpacker<'a> {
    /// Into `staging`, or nowhere.
    pub fn new(staging: Option<&'a AtomicDir>, wanted: Wanted) -> Unpacker<'a> {
        Unpacker { staging, wanted, dirs: BTreeMap::new(), counts: Counts::default() }
    }

    /// Unpacks all parts of an archive.
    pub fn unpack(&mut self, plain: &mut Decompressed) -> Result<Counts, Stop> {
        self.dirs.insert(Vec::new(), self.implied());
        let mut limits = self.wanted.limits;
        while plain.next_part().map_err(TarError::Io)? {
            let mut tar = TarReader::new(plain, limits);
            while let Some(member) = tar.next_member()? {
                self.member(&member, &mut tar)?;
                self.counts.entries += 1;
                self.counts.bytes += member.size;
            }
            limits = tar.left();
        }
        Ok(self.counts)
    }

    /// Gives the directories their attributes, the deepest first.
    pub fn finish(&self) -> Result<(), FileError> {
        let Some(staging) = self.staging else { return Ok(()) };
        self.dirs.iter().rev().try_for_each(|(path, dir)| staging.finish_dir(path, *dir))
    }

    fn implied(&self) -> Attributes {
        let owner = match self.wanted.owner {
            Some(Owner::Ids(uid, gid)) => Some((uid, gid)),
            _ => None,
        };
        Attributes { owner, mode: IMPLIED.mode & !self.wanted.umask, ..IMPLIED }
    }

    fn attributes(&self, member: &Member) -> Result<Attributes, Stop> {
        let owner = match self.wanted.owner {
            None => None,
            Some(Owner::Ids(uid, gid)) => Some((uid, gid)),
            Some(Owner::Archive) => {
                let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
                let ids = id(member.uid).zip(id(member.gid));
                Some(ids.ok_or_else(|| hostile(member, "an owner that no system has"))?)
            }
        };
        let mode = member.mode & !self.wanted.umask;
        Ok(Attributes { owner, mode, mtime: Some(member.mtime) })
    }

    fn member(&mut self, member: &Member, tar: &mut TarReader<'_>) -> Result<(), Stop> {
        if interrupted() {
            return Err(Stop::Interrupted);
        }
        let place = member.relative_path().map_err(|why| hostile(member, why))?;
        let attributes = self.attributes(member)?;
        if place.is_empty() && member.kind != MemberKind::Dir {
            return Err(hostile(member, "no directory where the directory itself is"));
        }
        self.imply_above(&place);
        match self.make(member, &place, attributes, tar) {
            Err(Stop::File(error)) if IN_THE_WAY.contains(&error.errno()) => {
                Err(hostile(member, "a member where another one is"))
            }
            other => other,
        }
    }

    fn make(
        &mut self,
        member: &Member,
        place: &[u8],
        attributes: Attributes,
        tar: &mut TarReader<'_>,
    ) -> Result<(), Stop> {
        let staging = self.staging;
        match &member.kind {
            MemberKind::Dir => {
                if let Some(staging) = staging {
                    staging.dir(place)?;
                }
                self.dirs.insert(place.to_vec(), attributes);
            }
            MemberKind::File => {
                let mut file = staging.map(|staging| staging.file(place)).transpose()?;
                tar.content::<Stop>(&mut |bytes| {
                    if interrupted() {
                        return Err(Stop::Interrupted);
                    }
                    file.as_mut().map_or(Ok(()), |file| file.write(bytes)).map_err(Stop::File)
                })?;
                if let Some(file) = file {
                    file.finish(attributes)?;
                }
            }
            MemberKind::Symlink(_) => {
                let target = member.link_target().map_err(|why| hostile(member, why))?;
                if let Some(staging) = staging {
                    staging.symlink(place, &target, attributes.owner)?;
                }
            }
            MemberKind::Hardlink(_) => {
                let target = member.link_target().map_err(|why| hostile(member, why))?;
                if let Some(staging) = staging {
                    staging.hardlink(place, &target).map_err(|error| {
                        match error.is_not_found() {
                            true => hostile(member, "a link to what is not there"),
                            // a directory, a symbolic link
                            false if [libc::EPERM, libc::ELOOP].contains(&error.errno()) => {
                                hostile(member, "a link to no file")
                            }
                            false => Stop::File(error),
                        }
                    })?;
                }
            }
            MemberKind::Other(what) => return Err(hostile(member, what)),
        }
        Ok(())
    }

    /// Directories above a member that the archive may never name.
    fn imply_above(&mut self, place: &[u8]) {
        let implied = self.implied();
        let ends = place.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends {
            let above = &place[..end];
            if !self.dirs.contains_key(above) {
                self.dirs.insert(above.to_vec(), implied);
            }
        }
    }
}

fn hostile(member: &Member, why: &str) -> Stop {
    Stop::Hostile(format!("'{}' in it is {why}", String::from_utf8_lossy(&member.path)))
}
