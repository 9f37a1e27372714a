//! Before anything is installed: the whole file is read once, its digests are
//! compared and its manifest is taken out.

use ::cli::{Exit, Failure, Progress, Say, fail, interrupted};
use host::Machine;
use record::Verified;
use runfile::{
    Algorithm, ArchiveLimits, DigestScope, DigestSpec, Flavour, Manifest, SupportedGpus, unpack,
};

use crate::content::{Look, archive_error, read};
use crate::describe::{mismatches, verdict};
use crate::installer::Installer;

/// What a driver's installer holds, all of it verified.
pub struct Study {
    /// The driver's version.
    pub version: String,
    /// Of the whole file.
    pub sha256: String,
    /// What goes where.
    pub manifest: Manifest,
    /// Which GPUs it drives.
    pub gpus: Option<SupportedGpus>,
}

/// Refuses what is no driver.
pub fn require_driver(installer: &Installer) -> Result<String, Failure> {
    let path = &installer.path;
    match installer.header.flavour() {
        Flavour::Driver | Flavour::Grid | Flavour::VgpuKvm => {}
        Flavour::Cuda => {
            return Err(fail(Exit::Usage, format!("'{path}' is CUDA's installer, not a driver's"))
                .hint("the driver in it can be had with extract, from builds/"));
        }
        Flavour::Other => {
            return Err(fail(Exit::Usage, format!("'{path}' is no driver's installer")));
        }
    }
    let version = installer.header.version();
    version
        .map(str::to_string)
        .ok_or_else(|| fail(Exit::Usage, format!("'{path}' does not say which version it is")))
}

/// Reads it. Errors: it is damaged, or has no manifest.
pub fn study(
    installer: &mut Installer,
    sha256: Option<&str>,
    limits: ArchiveLimits,
    say: &Say,
) -> Result<Study, Failure> {
    let version = require_driver(installer)?;
    let mut wanted = installer.header.digests.clone();
    wanted.push(DigestSpec::whole_file(installer.header.size, sha256));
    let progress = Progress::new(say, "verifying", Some(installer.header.size));
    let at = |at| progress.at(at);
    let (source, header) = installer.source(&interrupted, &at)?;
    let passed = unpack(
        source,
        header,
        &wanted,
        |plain| read(plain, Look::All, limits, &mut |_| {}),
        |_| false,
    );
    let passed = passed.map_err(|error| installer.pass_error(error))?;
    drop(progress);
    let path = &installer.path;
    if verdict(&passed.digests) == Verified::Mismatch {
        let what = mismatches(&passed.digests).join(", ");
        return Err(
            fail(Exit::Refused, format!("'{path}' is damaged: {what}")).hint("get it again")
        );
    }
    let content = passed.outcome.map_err(|error| archive_error(path, &error))?;
    let whole = |digested: &&runfile::DigestResult| {
        digested.spec.scope == DigestScope::File && digested.spec.algorithm == Algorithm::Sha256
    };
    let sha256 = passed.digests.iter().find(whole).map(|digested| digested.actual.clone());
    let manifest = content
        .manifest
        .ok_or_else(|| fail(Exit::Usage, format!("'{path}' has no manifest that could be read")))?;
    if manifest.version != version {
        let other = &manifest.version;
        let message = format!("'{path}' says that it is {version}, its manifest says {other}");
        return Err(fail(Exit::Refused, message));
    }
    Ok(Study {
        version,
        sha256: sha256.unwrap_or_default(),
        manifest,
        gpus: content.gpus.and_then(Result::ok),
    })
}

/// Refuses a version that is not that of the loaded kernel module.
pub fn require_loaded(
    machine: &Machine,
    version: &str,
    force: bool,
    say: &Say,
) -> Result<(), Failure> {
    let (message, hint) = match nvidia::module_version(machine) {
        Some(loaded) if loaded == version => return Ok(()),
        Some(loaded) => (
            format!(
                "the loaded kernel module is {loaded}, this is {version}: they would not work together"
            ),
            format!("take the installer of {loaded}; --force installs this one all the same"),
        ),
        None => (
            "no kernel module of NVIDIA's is loaded that the version could be compared with".into(),
            "load it, or use --force".into(),
        ),
    };
    if force {
        say.warn(&message);
        return Ok(());
    }
    Err(fail(Exit::Refused, message).hint(hint))
}
