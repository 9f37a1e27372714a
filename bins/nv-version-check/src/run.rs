//! The one verb of the tool: collect, compare with the baseline, report.

use ::cli::{Exit, Say, fail};
use record::RecordWriter;

use crate::baseline::{Baseline, pin};
use crate::cause::Cause;
use crate::check::{self, Finding, HostScope};
use crate::cli::Options;
use crate::collect::host_facts::HostFacts;
use crate::collect::roots::{self, CollectedRoot, RootsRequest};
use crate::collect::xid;
use crate::report::report;

/// Runs the check.
pub fn run(options: &Options, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    if options.no_host && options.ct.is_empty() && !options.all_cts && options.rootfs.is_empty() {
        return Err(fail(Exit::Usage, "--no-host leaves nothing to check")
            .hint("add --ct, --all-cts or --rootfs")
            .into());
    }
    let machine = options.common.machine()?;
    let pin = options.pin.as_deref().map(|pin| pin::pinned(pin, say)).transpose()?;
    let request = RootsRequest {
        cts: options.ct.clone(),
        all: options.all_cts,
        rootfs: options.rootfs.clone(),
    };
    let roots = roots::collect(&machine, &request, options.cuda, say)?;
    let host = HostFacts::read(&machine, options.cuda);
    let baseline = Baseline::of(&host, pin.as_deref(), options.next_boot);
    let mut findings = findings(options, &host, &roots, &baseline);
    if options.xid {
        match xid::read(&machine) {
            Ok(counts) => findings.extend(check::xid(&counts)),
            Err(error) => {
                let finding = Finding::unknown(Cause::Unreadable).on("host", "xid");
                findings.push(finding.because(error.to_string()));
            }
        }
    }
    if host.is_bare() && pin.is_none() {
        say.note("this host has no NVIDIA driver; 'nv-runfile install --host' installs one");
    }
    report(options, &findings, writer)
}

/// The host first, then the root file systems in their order.
fn findings(
    options: &Options,
    host: &HostFacts,
    roots: &[CollectedRoot],
    baseline: &Baseline,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !options.no_host {
        let gpu_given = roots.iter().any(|root| root.root.gpu);
        let scope = HostScope { baseline, gpu_given, next_boot: options.next_boot };
        findings = check::host(host, &scope);
        findings.extend(check::cuda("host", &host.root, host, baseline.version.as_deref()));
    }
    for CollectedRoot { root, facts } in roots {
        match facts {
            Ok(facts) => findings.extend(check::root(root, facts, host, baseline)),
            Err(unreadable) => findings.extend(check::unreadable(root, unreadable)),
        }
    }
    findings
}
