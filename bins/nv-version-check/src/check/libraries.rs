//! What can be wrong with the libraries of a root file system whatever the host
//! has: two versions, leftovers, a file without a version.

use std::cmp::Ordering;

use nvidia::{Installation, compare_versions};
use record::{Hint, Severity};

use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::check::hints::remove_from;
use crate::collect::checked_root::CheckedRoot;
use crate::collect::host_facts::HostFacts;
use crate::collect::libraries::{Libraries, MixedLibrary};
use crate::collect::root_facts::RootFacts;

/// Two versions that programs can load, and leftovers of others.
pub fn findings(
    subject: &str,
    place: Option<&CheckedRoot>,
    root: &RootFacts,
    host: &HostFacts,
    expected: Option<&str>,
) -> Vec<Finding> {
    let keep = || keep_one(place, root, expected);
    let mixed = mixed(subject, root).into_iter().map(|finding| Some(finding.hint(keep())));
    let found = [
        nvml_without_version(subject, root, expected),
        compat_first(subject, root, host),
        torn(subject, root).map(|finding| finding.hint(keep())),
        second_userspace(subject, root, expected).map(|finding| finding.hint(keep())),
        record_without_libraries(subject, root),
        leftovers(subject, root),
    ];
    found.into_iter().chain(mixed).flatten().collect()
}

/// Libraries beside libcuda and NVML that the dynamic linker takes: each by itself,
/// since one good library says nothing of another. Programs that are 32-bit are
/// rare, so theirs is a warning.
fn mixed(subject: &str, root: &RootFacts) -> Vec<Finding> {
    let version = root.libraries.version();
    let finding = |library: &MixedLibrary| {
        let finding = match library.is_64 {
            true => Finding::error(Cause::LibraryMixed),
            false => Finding::warning(Cause::LibraryMixed),
        };
        let bits = if library.is_64 { "" } else { " (32-bit)" };
        finding
            .on(subject, format!("library {}{bits}", library.soname))
            .found(version, Some(&library.version))
            .because(format!("programs load {}", library.path))
    };
    root.libraries.mixed.iter().map(finding).collect()
}

/// NVML comes first in the dynamic linker's order and its name has no version:
/// that of libcuda says nothing about it.
fn nvml_without_version(
    subject: &str,
    root: &RootFacts,
    expected: Option<&str>,
) -> Option<Finding> {
    let libraries = &root.libraries;
    libraries.version()?;
    let ml = libraries.ml.as_ref().filter(|ml| ml.version.is_none())?;
    Some(
        Finding::unknown(Cause::Unversioned)
            .on(subject, "nvml")
            .found(expected, None)
            .because(format!("programs load {}, whose name has no version", ml.path)),
    )
}

/// A libcuda for forward compatibility that programs load before the driver's own.
/// It fails where it is older than the driver (CUDA error 803) and on GeForce
/// GPUs (804); NVIDIA's CUDA Compatibility guide.
fn compat_first(subject: &str, root: &RootFacts, host: &HostFacts) -> Option<Finding> {
    let compat = root.libraries.cuda.as_ref().filter(|library| library.compat)?;
    let version = compat.version.as_deref()?;
    let driver = host.loaded.as_deref().or(host.installed())?;
    let geforce = host.models.iter().find(|model| model.contains("GeForce"));
    let because = match (compare_versions(version, driver), geforce) {
        (Ordering::Less, _) => format!("it is older than the driver {driver} (CUDA error 803)"),
        (Ordering::Equal, _) => return None,
        (_, Some(model)) => format!("it does not work with a {model} (CUDA error 804)"),
        (_, None) => return None,
    };
    Some(
        Finding::error(Cause::CompatUnusable)
            .on(subject, "libcuda")
            .found(Some(driver), Some(version))
            .because(format!("programs load {}: {because}", compat.path))
            .hint(Hint::words(
                "remove its directory from /etc/ld.so.conf.d and from LD_LIBRARY_PATH, then run \
                 ldconfig; or remove the package cuda-compat",
            )),
    )
}

/// libcuda and NVML are of different versions.
fn torn(subject: &str, root: &RootFacts) -> Option<Finding> {
    let libraries = &root.libraries;
    let (cuda, ml) = libraries.torn()?;
    let because = format!(
        "programs load libcuda of {cuda} ({}) and NVML of {ml} ({})",
        libraries.cuda.as_ref().map_or("", |library| &library.path),
        libraries.ml.as_ref().map_or("", |library| &library.path),
    );
    Some(
        Finding::error(Cause::TwoUserspaces)
            .on(subject, "userspace")
            .found(Some(ml), Some(cuda))
            .because(because),
    )
}

/// A second version that has links of its own.
fn second_userspace(subject: &str, root: &RootFacts, expected: Option<&str>) -> Option<Finding> {
    let libraries = &root.libraries;
    let other = libraries.others.iter().find(|library| library.linked)?;
    if libraries.torn().is_some() {
        return None;
    }
    let finding = match hides_expected(root, expected) {
        true => Finding::error(Cause::TwoUserspaces),
        false => Finding::warning(Cause::TwoUserspaces),
    };
    let because =
        format!("{} has links of its own: programs with another search path load it", other.path);
    Some(
        finding
            .on(subject, "second userspace")
            .found(libraries.version(), other.version.as_deref())
            .because(because),
    )
}

/// The record of a .run installation whose libraries were removed.
fn record_without_libraries(subject: &str, root: &RootFacts) -> Option<Finding> {
    let (run, version) = (root.run_install()?, root.libraries.version()?);
    let exists = root.libraries.others.iter().any(|l| l.version.as_deref() == Some(run));
    (run != version && !exists).then(|| {
        let because = format!(
            "{} records a .run installation whose libraries are missing",
            nvidia::INSTALLER_RECORD
        );
        Finding::note(Cause::StaleLeftovers, Severity::Info)
            .on(subject, "run install")
            .found(Some(version), Some(run))
            .because(because)
    })
}

/// Packages of the driver that are unpacked and not configured.
pub fn incomplete(subject: &str, root: &RootFacts) -> Option<Finding> {
    let packages = root.installations.packages();
    let names: Vec<&str> =
        packages.iter().filter(|p| !p.complete).map(|p| p.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        Finding::error(Cause::PackagesIncomplete)
            .on(subject, "packages")
            .found(Some("installed"), Some("not completely installed"))
            .because(format!("{}: their installation did not finish", names.join(", ")))
    })
}

/// Files of other versions without a link. Where no library has a link they are
/// not leftovers, but all that there is, which the caller reports.
fn leftovers(subject: &str, root: &RootFacts) -> Option<Finding> {
    let version = root.libraries.version()?;
    let unlinked: Vec<_> = root.libraries.others.iter().filter(|l| !l.linked).collect();
    let first = unlinked.first()?;
    let files = match unlinked.len() {
        1 => "1 file".into(),
        count => format!("{count} files"),
    };
    let because = format!(
        "{files} of other versions without a link, such as {}; ldconfig may create one",
        first.path
    );
    Some(
        Finding::note(Cause::StaleLeftovers, Severity::Info)
            .on(subject, "leftovers")
            .found(Some(version), first.version.as_deref())
            .because(because),
    )
}

/// The expected version is installed, but programs load another one.
pub fn hides_expected(root: &RootFacts, expected: Option<&str>) -> bool {
    let libraries = &root.libraries;
    let is_expected = |version: Option<&str>| version.is_some() && version == expected;
    let other = libraries.others.iter().any(|l| l.linked && is_expected(l.version.as_deref()));
    let cuda = libraries.torn().is_some_and(|(cuda, _)| is_expected(Some(cuda)));
    !is_expected(libraries.version()) && (other || cuda)
}

/// The installation of the expected version is kept. Where none is of it, a person
/// decides.
fn keep_one(place: Option<&CheckedRoot>, root: &RootFacts, expected: Option<&str>) -> Hint {
    let all = &root.installations.all;
    let right = |one: &&Installation| expected.is_some() && one.version.as_deref() == expected;
    let wrong: Vec<&Installation> = all.iter().filter(|one| !right(one)).collect();
    let removal = match (wrong.as_slice(), all.iter().any(|one| right(&one))) {
        ([one], true) => one.removal().and_then(|removal| remove_from(place, removal)),
        _ => None,
    };
    let words = match (root.is_packaged(), root.run_install()) {
        (true, Some(run)) => format!(
            "two installations are mixed; keep one: purge the driver's packages, or run \
             nvidia-uninstall for {run}; then run ldconfig"
        ),
        (true, None) => "reinstall the driver's packages, remove the files of the other version, \
             then run ldconfig"
            .into(),
        (false, _) => "remove the files of the other version, then run ldconfig".into(),
    };
    match removal {
        Some(hint) => hint.because("two installations are mixed; remove the other version"),
        None => Hint::words(words),
    }
}

/// A library whose name has no version.
pub fn unversioned(
    subject: &str,
    libraries: &Libraries,
    expected: Option<&str>,
) -> Option<Finding> {
    let library = [&libraries.ml, &libraries.cuda]
        .into_iter()
        .flatten()
        .find(|library| library.version.is_none())?;
    Some(
        Finding::unknown(Cause::Unversioned)
            .on(subject, "userspace")
            .found(expected, None)
            .because(format!("the file name of {} has no version", library.path)),
    )
}
