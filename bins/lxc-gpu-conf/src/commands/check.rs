//! `check`: what is wrong with the GPU configuration of containers.

use ::cli::{Exit, Say};
use pve::Guest;
use record::{Check, CheckStatus, Record, RecordWriter};

use crate::check::finding::Finding;
use crate::cli::{ContainerSelection, Options};
use crate::commands::selection::{for_each, problems};
use crate::config::given_nodes::ContainerView;

/// What was seen of all containers.
#[derive(Default)]
struct Tally {
    with_gpu: usize,
    findings: usize,
    on_other_nodes: usize,
}

/// Runs `check`.
pub fn run(
    options: &Options,
    selection: &ContainerSelection,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let mut tally = Tally::default();
    let exit = for_each(options, selection, say, &mut |view, findings| {
        if !view.has_gpu() && findings.is_empty() {
            if !selection.all {
                say.note(&format!("{} has no GPU", view.guest.target()));
            }
            return Ok(());
        }
        tally.with_gpu += 1;
        tally.findings += findings.len();
        tally.on_other_nodes += usize::from(!view.guest.local);
        report(view, findings, say, writer)
    })?;
    if tally.with_gpu == 0 && selection.all {
        say.note("no container has a GPU");
    }
    if tally.on_other_nodes > 0 {
        say.note(&format!(
            "{} containers are on other cluster nodes, where their device nodes and numbers have \
             to be checked",
            tally.on_other_nodes
        ));
    }
    Ok(if tally.findings > 0 { exit.max(Exit::Difference) } else { exit })
}

/// The findings of a container, or one record for each GPU without any.
fn report(
    view: &ContainerView<'_>,
    findings: &[Finding],
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<()> {
    let subject = view.guest.target();
    for finding in findings {
        writer.put(Record::Check(finding.check(&subject)))?;
    }
    if !view.guest.local {
        writer.put(Record::Check(on_other_node(view.guest)))?;
    } else if findings.is_empty() && !say.is_quiet() {
        // with -q a cron job prints nothing where nothing is wrong
        for gpu in view.records(&problems(findings)) {
            let minor = gpu.minor.map(|minor| format!("/dev/nvidia{minor}"));
            let address = gpu.gpu.map(|address| address.to_string());
            let property = minor.as_deref().unwrap_or("gpu");
            let mut check = Check::ok(&subject, property, address);
            if view.has_hook() && view.minors().is_empty() {
                check.status = CheckStatus::Unknown;
                check.reason =
                    Some("a hook gives the GPU: what it gives is known when it has run".into());
            }
            writer.put(Record::Check(check))?;
        }
    }
    Ok(())
}

/// What cannot be known of a container on another cluster node.
fn on_other_node(guest: &Guest) -> Check {
    let node = guest.node.as_deref().unwrap_or_default();
    let mut check = Check::ok(&guest.target(), "host", None);
    check.status = CheckStatus::Unknown;
    check.reason = Some(format!(
        "{} is on cluster node {node}, whose GPUs and device nodes are not known here",
        guest.target()
    ));
    check.hint = Some(format!("run the check on cluster node {node}"));
    check.commands = vec![advice::lxc_gpu_conf::check(guest.ctid)];
    check
}
