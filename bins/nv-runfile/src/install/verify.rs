//! Before anything is installed: the whole installer is read once, its digests
//! are compared and its manifest is taken out; its version must be that of the
//! loaded kernel module.

use ::cli::{Exit, Failure, Progress, Say, fail, interrupted};
use host::Machine;
use record::Verified;
use runfile::{
    Algorithm, ArchiveLimits, DigestResult, DigestScope, Flavour, Manifest, SupportedGpus, unpack,
};

use crate::installer::Installer;
use crate::installer::content::{ContentDepth, archive_error, read};
use crate::installer::runfile_record::{mismatches, verdict};

/// What a driver's installer holds, after all its digests were compared.
pub struct VerifiedDriver {
    pub version: String,
    /// Of the whole file.
    pub sha256: String,
    pub manifest: Manifest,
    /// The GPUs that it supports.
    pub gpus: Option<SupportedGpus>,
}

/// The version of a driver's installer. Errors: it is another kind of installer.
fn require_driver(installer: &Installer) -> Result<String, Failure> {
    let path = &installer.path;
    match installer.header.flavour() {
        Flavour::Driver | Flavour::Grid | Flavour::VgpuKvm => {}
        Flavour::Cuda => {
            return Err(fail(Exit::Usage, format!("'{path}' is a CUDA installer, not a driver"))
                .hint("extract it; the driver's installer is in the directory builds/")
                .run(advice::nv_runfile::extract(path, "cuda")));
        }
        Flavour::Other => {
            return Err(fail(Exit::Usage, format!("'{path}' is not a driver installer")));
        }
    }
    let version = installer.header.version();
    version
        .map(str::to_string)
        .ok_or_else(|| fail(Exit::Usage, format!("'{path}' does not state its version")))
}

/// Reads a driver's installer. Errors: it is damaged, or has no manifest.
pub fn verify_driver(
    installer: &mut Installer,
    limits: ArchiveLimits,
    say: &Say,
) -> Result<VerifiedDriver, Failure> {
    let version = require_driver(installer)?;
    let stated = installer.stated_digests();
    let progress = Progress::new(say, "verifying", Some(installer.header.size));
    let at = |at| progress.at(at);
    let (source, header) = installer.source(&interrupted, &at)?;
    let passed = unpack(
        source,
        header,
        &stated,
        |plain| read(plain, ContentDepth::All, limits, &mut |_| {}),
        |_| false,
    );
    let passed = passed.map_err(|error| installer.pass_error(error))?;
    drop(progress);
    let path = &installer.path;
    if verdict(&passed.digests) == Verified::Mismatch {
        return Err(damaged(path, &passed.digests));
    }
    let content = passed.outcome.map_err(|error| archive_error(path, &error))?;
    let whole = |digested: &&DigestResult| {
        digested.spec.scope == DigestScope::File && digested.spec.algorithm == Algorithm::Sha256
    };
    let sha256 = passed.digests.iter().find(whole).map(|digested| digested.actual.clone());
    let manifest = content
        .manifest
        .ok_or_else(|| fail(Exit::Usage, format!("'{path}' has no readable manifest")))?;
    if manifest.version != version {
        let other = &manifest.version;
        let message =
            format!("'{path}' is version {version}, but its manifest is of version {other}");
        return Err(fail(Exit::Refused, message));
    }
    Ok(VerifiedDriver {
        version,
        sha256: sha256.unwrap_or_default(),
        manifest,
        gpus: content.gpus.and_then(Result::ok),
    })
}

/// A file whose digests are wrong.
pub fn damaged(path: &str, digests: &[DigestResult]) -> Failure {
    let what = mismatches(digests).join(", ");
    fail(Exit::Refused, format!("'{path}' is damaged: {what}")).hint("download it again")
}

/// Refuses a version that is not that of the loaded kernel module.
pub fn require_loaded(
    machine: &Machine,
    version: &str,
    force: bool,
    say: &Say,
) -> Result<(), Failure> {
    let failure = match nvidia::module_version(machine) {
        Some(loaded) if loaded == version => return Ok(()),
        Some(loaded) => {
            let message = format!(
                "the loaded kernel module is {loaded} and does not work with the libraries of {version}"
            );
            fail(Exit::Refused, message)
                .hint(format!(
                    "use the installer of {loaded}, or --force to install {version} anyway"
                ))
                .run(advice::nv_runfile::fetch(&loaded))
        }
        None => {
            let message =
                format!("no NVIDIA kernel module is loaded; {version} cannot be compared");
            fail(Exit::Refused, message)
                .hint("load the kernel module, or use --force")
                .run(advice::external::modprobe("nvidia"))
        }
    };
    if force {
        say.warn(&failure.message);
        return Ok(());
    }
    Err(failure)
}
