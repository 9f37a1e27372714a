//! CUDA toolkits against the driver, and libraries for forward compatibility.

use std::cmp::Ordering;

use nvidia::{CudaNeed, branch, compare_versions, cuda_need};
use record::{Hint, Severity};

use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::check::hints::{install_on_host, not_to_be_had};
use crate::collect::cuda::{CompatLibrary, CudaToolkit};
use crate::collect::host_facts::HostFacts;
use crate::collect::root_facts::RootFacts;

/// All findings about CUDA in a root file system whose programs use `driver`.
pub fn findings(
    subject: &str,
    root: &RootFacts,
    host: &HostFacts,
    driver: Option<&str>,
) -> Vec<Finding> {
    let compatible = root.compats.iter().any(|compat| is_usable(compat, driver));
    let compats = root.compats.iter().map(|compat| compatibility(subject, compat, driver));
    let toolkits = root.toolkits.iter().map(|kit| toolkit(subject, kit, host, driver, compatible));
    compats.chain(toolkits).collect()
}

/// A library for forward compatibility, and whether it is of use.
fn compatibility(subject: &str, compat: &CompatLibrary, driver: Option<&str>) -> Finding {
    let use_of = match (&compat.drivers, is_usable(compat, driver)) {
        (Some(drivers), false) => format!(
            "it does not work with this driver (it is for branches {})",
            drivers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
        ),
        (None, false) => "it is not newer than the driver".into(),
        (_, true) => "data centre GPUs only".into(),
    };
    Finding::note(Cause::ForwardCompat, Severity::Info)
        .on(subject, "forward compatibility")
        .found(None, Some(&compat.version))
        .because(format!("{}: {use_of}", compat.path))
}

/// Forward compatibility works where the library is newer than the driver and
/// supports its branch.
fn is_usable(compat: &CompatLibrary, driver: Option<&str>) -> bool {
    let Some(driver) = driver else { return false };
    let supported = match (&compat.drivers, branch(driver).parse::<u64>()) {
        (Some(drivers), Ok(branch)) => drivers.contains(&branch),
        _ => true,
    };
    supported && compare_versions(&compat.version, driver) == Ordering::Greater
}

/// A toolkit against the driver; `compatible`: a library for forward
/// compatibility works with the driver.
fn toolkit(
    subject: &str,
    toolkit: &CudaToolkit,
    host: &HostFacts,
    driver: Option<&str>,
    compatible: bool,
) -> Finding {
    let property = format!("cuda {}", toolkit.path);
    let known = toolkit.release.as_deref().and_then(|r| Some((r, cuda_need(r)?)));
    let (Some((release, need)), Some(driver)) = (known, driver) else {
        return Finding::unknown_aside(Cause::NotInTable)
            .on(subject, property)
            .found(None, toolkit.release.as_deref())
            .because("it is not known which driver it needs, or which driver it would use");
    };
    let below = |least: &str| compare_versions(driver, least) == Ordering::Less;
    if below(need.minimum) && !compatible {
        return too_new(host, release, need, driver).on(subject, property);
    }
    if let Some((newest, its_driver)) = need.after {
        return past_the_table(release, newest, its_driver, driver).on(subject, property);
    }
    match need.bundled.filter(|bundled| below(bundled)) {
        Some(bundled) => Finding::note(Cause::ToolkitNewer, Severity::Warning)
            .on(subject, property)
            .found(Some(&format!("driver {bundled}")), Some(driver))
            .because(format!(
                "CUDA {release} was released with {bundled}; it works, but PTX that it compiles \
                 and its newest features may fail"
            )),
        None => Finding::ok(subject, &property, Some(release)),
    }
}

/// A release that is newer than the table: the driver of the newest one that the
/// table has is a lower bound of what was made for it.
fn past_the_table(release: &str, newest: &str, its_driver: &str, driver: &str) -> Finding {
    if compare_versions(driver, its_driver) == Ordering::Less {
        return Finding::note(Cause::ToolkitNewer, Severity::Warning)
            .found(Some(&format!("driver {its_driver}")), Some(driver))
            .because(format!(
                "CUDA {release} is newer than {newest}, which was released with {its_driver}: PTX \
                 that it compiles and its newest features may fail"
            ));
    }
    Finding::unknown_aside(Cause::NotInTable).found(None, Some(driver)).because(format!(
        "CUDA {release} is newer than this tool's table, which ends with {newest}: which driver it \
         needs is not known"
    ))
}

fn too_new(host: &HostFacts, release: &str, need: CudaNeed, driver: &str) -> Finding {
    let least = need.bundled.unwrap_or(need.minimum);
    let hint = match nvidia::is_version(least) && not_to_be_had(host, least).is_none() {
        true => install_on_host(host, least),
        // the lower bound is a branch, or a version that cannot be downloaded
        false => Hint::default(),
    };
    Finding::error(Cause::ToolkitTooNew)
        .found(Some(&format!("driver {}", need.minimum)), Some(driver))
        .because(format!("CUDA {release} needs driver {} or newer", need.minimum))
        .hint(hint.because(format!(
            "install driver {least} or newer on the host, or use a toolkit for {driver}"
        )))
}
