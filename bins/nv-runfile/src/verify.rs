//! `verify`: every digest of an installer, computed and compared.

use ::cli::{Exit, Progress, Say, fail};
use record::{Record, RecordWriter, Verified};
use runfile::{DigestSpec, digest};

use crate::cli::Verify;
use crate::describe::{describe, mismatches, with_digests};
use crate::installer::{Installer, named};

/// The verb.
pub fn run(verify: &Verify, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let paths = named(&verify.named, say)?;
    if verify.sha256.is_some() && paths.len() > 1 {
        return Err(fail(Exit::Usage, "--sha256 is for one file").into());
    }
    let mut exit = Exit::Done;
    for path in paths {
        let mut installer = Installer::open(&path)?;
        let mut wanted = installer.header.digests.clone();
        wanted.push(DigestSpec::whole_file(installer.header.size, verify.sha256.as_deref()));
        let progress = Progress::new(say, "verifying", Some(installer.header.size));
        let at = |at| progress.at(at);
        let (source, _) = installer.source(&|| false, &at)?;
        let digests = digest(source, &wanted);
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
                say.note(&format!("'{shown}' carries no digest that could be checked"));
                exit = exit.max(Exit::Difference);
            }
            Verified::Mismatch | Verified::Unchecked => exit = exit.max(Exit::Difference),
        }
        writer.put(Record::Runfile(Box::new(record)))?;
    }
    Ok(exit)
}
