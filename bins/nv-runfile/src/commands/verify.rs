//! `verify`: computes and compares the digests that an installer carries.

use ::cli::{Exit, Progress, Say, fail};
use record::{Record, RecordWriter, Verified};
use runfile::digest;

use crate::cli::Verify;
use crate::installer::runfile_record::{describe, mismatches, with_digests};
use crate::installer::{Installer, named};

pub fn run(verify: &Verify, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let all = named(&verify.named, verify.sha256.as_deref(), say)?;
    if verify.sha256.is_some() && all.len() > 1 {
        return Err(fail(Exit::Usage, "--sha256 needs exactly one file").into());
    }
    let mut exit = Exit::Done;
    for named in all {
        let mut installer = Installer::of_named(&named)?;
        let stated = installer.stated_digests();
        let progress = Progress::new(say, "verifying", Some(installer.header.size));
        let at = |at| progress.at(at);
        let (source, _) = installer.source(&|| false, &at)?;
        let digests = digest(source, &stated);
        let digests = digests.map_err(|error| installer.pass_error(error))?;
        drop(progress);
        let shown = &installer.path;
        for what in mismatches(&digests) {
            say.note(&format!("'{shown}': {what}"));
        }
        let record = with_digests(describe(shown, &installer.header), &digests);
        match record.verified {
            Verified::Intact | Verified::Pinned => {}
            Verified::Undigested => {
                say.note(&format!("'{shown}' carries no digest to compare"));
                exit = exit.max(Exit::Difference);
            }
            Verified::Mismatch | Verified::Unchecked => exit = exit.max(Exit::Difference),
        }
        writer.put(Record::Runfile(Box::new(record)))?;
    }
    Ok(exit)
}
