//! `show`: which GPUs containers have.

use ::cli::{Exit, Say};
use record::{Record, RecordWriter};

use crate::cli::{ContainerSelection, Options};
use crate::commands::selection::{for_each, problems};

/// Runs `show`.
pub fn run(
    options: &Options,
    selection: &ContainerSelection,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let mut shown = 0;
    let exit = for_each(options, selection, say, &mut |view, findings| {
        let records = view.records(&problems(findings));
        if records.is_empty() && !selection.all {
            let target = view.guest.target();
            say.note(&match findings.first() {
                None => format!("{target} has no GPU"),
                Some(finding) => format!("{target} has no GPU: {}", finding.reason),
            });
        }
        for record in records {
            shown += 1;
            writer.put(Record::LxcGpu(Box::new(record)))?;
        }
        Ok(())
    })?;
    if shown == 0 && selection.all {
        say.note("no container has a GPU");
    }
    Ok(exit)
}
