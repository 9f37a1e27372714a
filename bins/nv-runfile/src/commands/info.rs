//! `info`: shows what an installer is.

use ::cli::{Exit, Say, fail};
use record::{Record, RecordWriter};
use runfile::ArchiveLimits;

use crate::cli::{Info, Options};
use crate::installer::content::{ContentDepth, read_content};
use crate::installer::gpu_support::SelectedGpus;
use crate::installer::runfile_record::{content, describe};
use crate::installer::{Installer, named};

pub fn run(
    options: &Options,
    info: &Info,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let from_stdin = info.functions.iter().any(|function| function == "-");
    if from_stdin && info.named.files.is_empty() {
        return Err(fail(
            Exit::Usage,
            "--for - reads standard input, so the installer must be named",
        )
        .into());
    }
    let gpus = match info.functions.is_empty() {
        true => None,
        false => Some(SelectedGpus::find(&options.common.machine()?, &info.functions, say)?),
    };
    let mut exit = Exit::Done;
    for named in named(&info.named, None, say)? {
        let mut installer = Installer::of_named(&named)?;
        if let Some(gpus) = &gpus {
            let found = read_content(
                &mut installer,
                ContentDepth::ManifestAndGpus,
                ArchiveLimits::default(),
                say,
                &mut |_| {},
            )?;
            for check in gpus.checks(&installer, &found) {
                if check.status != record::CheckStatus::Ok {
                    exit = exit.max(Exit::Difference);
                }
                writer.put(Record::Check(check))?;
            }
            continue;
        }
        let mut record = describe(&installer.path, &installer.header);
        if info.contents {
            let found = read_content(
                &mut installer,
                ContentDepth::All,
                ArchiveLimits::default(),
                say,
                &mut |_| {},
            )?;
            if let Some(Err(why)) = &found.gpus {
                record.problems.push(format!("the list of GPUs cannot be read: {why}"));
            }
            record.content = Some(content(&found));
        }
        writer.put(Record::Runfile(Box::new(record)))?;
    }
    Ok(exit)
}
