//! CUDA toolkits against the driver, and libraries for forward compatibility.

use std::cmp::Ordering;

use nvidia::{CudaNeed, branch, compare_versions, cuda_need};
use record::Severity;

use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::check::hints::install_on_host;
use crate::collect::cuda::{CompatLibrary, CudaToolkit};
use crate::collect::root_facts::RootFacts;

/// All findings about CUDA in a root file system whose programs use `driver`.
pub fn findings(subject: &str, root: &RootFacts, driver: Option<&str>) -> Vec<Finding> {
    let compatible = root.compats.iter().any(|compat| is_usable(compat, driver));
    let compats = root.compats.iter().map(|compat| compatibility(subject, compat, driver));
    let toolkits = root.toolkits.iter().map(|kit| toolkit(subject, kit, driver, compatible));
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
    driver: Option<&str>,
    compatible: bool,
) -> Finding {
    let property = format!("cuda {}", toolkit.path);
    let known = toolkit.release.as_deref().and_then(|r| Some((r, cuda_need(r)?)));
    let (Some((release, need)), Some(driver)) = (known, driver) else {
        return Finding::ok(subject, &property, None)
            .found(None, toolkit.release.as_deref())
            .because("it is not known which driver it needs");
    };
    let below = |least: &str| compare_versions(driver, least) == Ordering::Less;
    if below(need.minimum) && !compatible {
        return too_new(release, need, driver).on(subject, property);
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

fn too_new(release: &str, need: CudaNeed, driver: &str) -> Finding {
    let hint = install_on_host(need.bundled.unwrap_or(need.minimum));
    Finding::error(Cause::ToolkitTooNew)
        .found(Some(&format!("driver {}", need.minimum)), Some(driver))
        .because(format!("CUDA {release} needs driver {} or newer", need.minimum))
        .hint(hint.because(format!("install a newer driver, or use a toolkit for {driver}")))
}
