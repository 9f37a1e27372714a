//! The report: records, metrics, and the exit status.

mod prometheus;

use std::path::Path;

use ::cli::{Exit, Failure, fail};
use anyhow::Context;
use host::{FileKind, Machine};
use record::{Check, CheckStatus, Record, RecordWriter, Severity};

use crate::check::Finding;
use crate::cli::{Options, OutputFormat};

/// Prints the findings, writes the metrics, and returns the exit status: the
/// highest that a finding asks for.
pub fn report(
    options: &Options,
    findings: &[Finding],
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let exit = findings.iter().map(Finding::exit).max().unwrap_or(Exit::Done);
    let checks: Vec<&Check> = findings.iter().map(Finding::check).collect();
    let now = prometheus::now();
    let good = (exit == Exit::Done).then_some(now);
    if let Some(path) = &options.prometheus_file {
        write_metrics(path, &checks, now, good)?;
    } else if options.output == OutputFormat::Prometheus {
        let text = prometheus::render(&checks, now, good);
        record::print_text(&text).context("standard output")?;
    }
    if options.output == OutputFormat::Prometheus {
        return Ok(exit);
    }
    for check in checks {
        // with --all-cts a stopped container on a block device is unreadable every night
        let idle = check.status == CheckStatus::Unknown && check.severity == Severity::Info;
        if !options.problems || check.status != CheckStatus::Ok && !idle {
            writer.put(Record::Check(check.clone()))?;
        }
    }
    Ok(exit)
}

/// Replaces the metrics file, which keeps the time of the last good run.
fn write_metrics(
    path: &Path,
    checks: &[&Check],
    now: u64,
    good: Option<u64>,
) -> anyhow::Result<()> {
    // the user names it: it is taken as given, whatever --root says
    let machine = Machine::new(None).map_err(Failure::from)?;
    let usage = |what: String| fail(Exit::Usage, format!("--prometheus-file: {what}"));
    let path = std::path::absolute(path).context("--prometheus-file")?;
    let file = path.to_str().ok_or_else(|| usage("the path is not UTF-8".into()))?;
    // the new file is renamed over the old one, which would replace /dev/null
    if machine.lstat(file).is_ok_and(|stat| stat.kind != FileKind::File) {
        return Err(usage(format!("'{file}' is not a regular file")).into());
    }
    let parent = file.rsplit_once('/').map_or("", |(dir, _)| dir);
    let dir = if parent.is_empty() { "/" } else { parent };
    if !machine.exists(dir) {
        return Err(usage(format!("directory '{dir}' does not exist"))
            .hint("name the directory of the node exporter's textfile collector")
            .into());
    }
    let good = good.or_else(|| prometheus::last_good(&machine, file));
    let text = prometheus::render(checks, now, good);
    prometheus::write(&machine, file, &text).map_err(Failure::from)?;
    Ok(())
}
