//! CDI specifications against the version whose files they should name.

use advice::external;
use record::Hint;

use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::collect::cdi::CdiSpec;
use crate::collect::checked_root::CheckedRoot;
use crate::collect::root_facts::RootFacts;

/// Findings about the specifications of the host, each a subject of its own.
pub fn host_findings(host: &RootFacts, driver: Option<&str>) -> Vec<Finding> {
    let finding = |spec: &CdiSpec| {
        let unreadable = Finding::unknown(Cause::Unreadable);
        finding(spec, driver, None, unreadable).on(&format!("cdi {}", spec.path), "libraries")
    };
    host.cdi.iter().map(finding).collect()
}

/// Findings about the specifications of another root file system; paths are
/// given as it sees them.
pub fn findings(root: &CheckedRoot, facts: &RootFacts, driver: Option<&str>) -> Vec<Finding> {
    let finding = |spec: &CdiSpec| {
        let unreadable = Finding::unknown_aside(Cause::Unreadable);
        finding(spec, driver, root.ctid, unreadable).on(&root.subject, format!("cdi {}", spec.path))
    };
    facts.cdi.iter().map(finding).collect()
}

fn finding(
    spec: &CdiSpec,
    driver: Option<&str>,
    ctid: Option<u32>,
    unreadable: Finding,
) -> Finding {
    if let Some(why) = &spec.unreadable {
        return unreadable.because(why.clone());
    }
    match stale(spec, driver) {
        Some((actual, because)) => Finding::error(Cause::CdiStale)
            .found(driver, actual)
            .because(because)
            .hint(generate(spec, ctid)),
        None => Finding::ok("", "", spec.versions.first().map(|(version, _)| version.as_str())),
    }
}

/// The version that a specification should not name, and why it is stale.
fn stale<'a>(spec: &'a CdiSpec, driver: Option<&str>) -> Option<(Option<&'a str>, String)> {
    let other = spec.versions.iter().find(|(version, _)| Some(version.as_str()) != driver);
    match (other.filter(|_| driver.is_some()), &spec.missing) {
        (Some((version, file)), _) => Some((Some(version), format!("it names {file}"))),
        (None, Some(missing)) => Some((None, format!("it names {missing}, which does not exist"))),
        (None, None) => None,
    }
}

/// Generates the specification again, where it is.
fn generate(spec: &CdiSpec, ctid: Option<u32>) -> Hint {
    // a container chooses its files' names, and some people paste hints into a shell
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let output = Some(spec.path.as_str()).filter(|path| path.chars().all(plain));
    let command = external::nvidia_ctk_cdi_generate(output);
    Hint::command(match ctid {
        Some(ctid) => external::pct_exec(ctid, command),
        None => command,
    })
}
