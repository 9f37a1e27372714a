//! Records from standard input.

use std::io::{self, BufReader, IsTerminal};

use record::{Exit, Failure, ReadLimits, Record, fail, read};

use crate::Say;

/// Reads all records of standard input, before the caller changes anything.
///
/// `what` says what to pipe, `wanted` which types are of use. Errors: standard
/// input is a terminal, a line is not a record, an `error` record came in, or
/// there is no usable record (an empty pipe means that an earlier tool
/// failed).
pub fn records_from_stdin(say: &Say, wanted: &[&str], what: &str) -> Result<Vec<Record>, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(fail(
            Exit::Usage,
            format!("no input: pipe {what}, or name it on the command line"),
        ));
    }
    let mut input = BufReader::with_capacity(64 << 10, stdin.lock());
    let stream = read(&mut input, ReadLimits::default(), wanted)?;
    for (name, count) in &stream.passed_over {
        let records = if *count == 1 { "record" } else { "records" };
        say.note(&format!("ignored {count} {records} of type '{name}'"));
    }
    if stream.records.is_empty() {
        let message = if stream.passed_over.is_empty() {
            format!("standard input is empty: expected {what}")
        } else {
            format!("no usable record on standard input: expected {what}")
        };
        return Err(fail(Exit::Usage, message));
    }
    Ok(stream.records.into_iter().map(|(_, record)| record).collect())
}
