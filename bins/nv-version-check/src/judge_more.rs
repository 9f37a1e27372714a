//! What goes with a root file system's libraries: CUDA toolkits, CDI
//! specifications, container engines.

use std::cmp::Ordering;

use nvidia::{branch, compare_versions, cuda_need};
use record::{Check, Severity};

use crate::cause::{Cause, Finding};
use crate::judge_root::Place;
use crate::root::Root;

/// Toolkits against the driver, and forward compatibility.
pub fn cuda(subject: &str, root: &Root, driver: Option<&str>, checks: &mut Vec<Check>) {
    let usable: Vec<_> = root.compats.iter().filter(|c| usable(c, driver)).collect();
    for compat in &root.compats {
        let says = match (&compat.drivers, usable.contains(&compat)) {
            (Some(drivers), false) => format!(
                "it is of no use with this driver (for branches {})",
                drivers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
            ),
            (None, false) => "it is not newer than the driver".into(),
            (_, true) => "data centre GPUs only".into(),
        };
        checks.push(
            Finding::note(Cause::ForwardCompat, Severity::Info)
                .on(subject, "forward compatibility")
                .found(None, Some(&compat.version))
                .because(format!("{}: {says}", compat.path))
                .done(),
        );
    }
    for toolkit in &root.toolkits {
        let property = format!("cuda {}", toolkit.path);
        let known = toolkit.release.as_deref().and_then(|r| Some((r, cuda_need(r)?)));
        let (Some((release, need)), Some(driver)) = (known, driver) else {
            let mut check = Check::ok(subject, &property, toolkit.release.clone());
            check.expected = None;
            check.reason = Some("what driver it needs is not known here".into());
            checks.push(check);
            continue;
        };
        let below = |least: &str| compare_versions(driver, least) == Ordering::Less;
        if below(need.minimum) && usable.is_empty() {
            checks.push(
                Finding::error(Cause::ToolkitTooNew)
                    .on(subject, property)
                    .found(Some(&format!("driver {}", need.minimum)), Some(driver))
                    .because(format!("CUDA {release} needs a driver from {} on", need.minimum))
                    .hint(format!(
                        "nv-runfile fetch {} | nv-runfile install --host, or a toolkit for {driver}",
                        need.bundled.unwrap_or(need.minimum)
                    )),
            );
        } else if need.bundled.is_some_and(below) {
            let bundled = need.bundled.unwrap_or_default();
            checks.push(
                Finding::note(Cause::ToolkitNewer, Severity::Warning)
                    .on(subject, property)
                    .found(Some(&format!("driver {bundled}")), Some(driver))
                    .because(format!(
                        "CUDA {release} was made with {bundled}: it works, but PTX compiled by it \
                         and its newest features may fail"
                    ))
                    .done(),
            );
        } else {
            checks.push(Check::ok(subject, &property, release.to_string()));
        }
    }
}

/// Forward compatibility works where the library is newer than the driver and
/// knows its branch.
fn usable(compat: &crate::cuda::Compat, driver: Option<&str>) -> bool {
    let Some(driver) = driver else { return false };
    let knows = match (&compat.drivers, branch(driver).parse::<u64>()) {
        (Some(drivers), Ok(branch)) => drivers.contains(&branch),
        _ => true,
    };
    knows && compare_versions(&compat.version, driver) == Ordering::Greater
}

/// CDI specifications. On the host each is a subject of its own.
pub fn cdi(
    subject: &str,
    ctid: Option<u32>,
    root: &Root,
    driver: Option<&str>,
    checks: &mut Vec<Check>,
) {
    let within = ctid.map_or_else(String::new, |ctid| format!("pct exec {ctid} -- "));
    for spec in &root.cdi {
        let own = format!("cdi {}", spec.path);
        let (subject, property) = match subject {
            "host" => (own.as_str(), "libraries".to_string()),
            other => (other, own.clone()),
        };
        if let Some(why) = &spec.unreadable {
            let finding = Finding::unknown(Cause::Unreadable).on(subject, property);
            checks.push(finding.because(why.clone()).done());
            continue;
        }
        let stale = spec.versions.iter().find(|(version, _)| Some(version.as_str()) != driver);
        let finding = Finding::error(Cause::CdiStale).on(subject, property.clone());
        // a container chooses its files' names, and somebody may give hints to a shell
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let hint = match spec.path.chars().all(plain) {
            true => format!("{within}nvidia-ctk cdi generate --output={}", spec.path),
            false => format!("{within}nvidia-ctk cdi generate"),
        };
        match (stale, &spec.missing, driver) {
            (Some((version, file)), _, Some(driver)) => checks.push(
                finding
                    .found(Some(driver), Some(version))
                    .because(format!("it names {file}"))
                    .hint(hint),
            ),
            (_, Some(missing), _) => checks.push(
                finding
                    .found(driver, None)
                    .because(format!("it names {missing}, which is not there"))
                    .hint(hint),
            ),
            (_, None, _) => {
                let version = spec.versions.first().map(|(version, _)| version.clone());
                checks.push(Check::ok(subject, &property, version));
            }
        }
    }
}

/// A container engine in an unprivileged container.
pub fn runtime(place: &Place, root: &Root, checks: &mut Vec<Check>) {
    let Some(runtime) = &root.runtime else { return };
    let Some(ctid) = place.ctid.filter(|_| place.unprivileged && !runtime.no_cgroups) else {
        return;
    };
    checks.push(
        Finding::warning(Cause::NoCgroupsMissing)
            .on(&place.subject, format!("{} {}", runtime.engine, runtime.config))
            .found(Some("no-cgroups = true"), Some("no-cgroups = false"))
            .because(format!(
                "an unprivileged container may not set device rules: {} cannot give a GPU to what \
                 it runs",
                runtime.engine
            ))
            .hint(format!(
                "pct exec {ctid} -- nvidia-ctk config --set nvidia-container-cli.no-cgroups=true \
                 --in-place"
            )),
    );
}
