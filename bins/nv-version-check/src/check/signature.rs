//! Signatures of modules, where the kernel refuses modules without one.

use advice::external;
use record::Hint;

use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::collect::host_facts::HostFacts;
use crate::collect::secure_boot::DKMS_KEY;

/// The finding that the kernel will refuse the module that is on disk for the
/// kernel that boots next, or for the running one. A module that is loaded has
/// passed.
pub fn finding(host: &HostFacts) -> Option<Finding> {
    if !host.secure_boot.enforced {
        return None;
    }
    let next = host.next.as_ref().ok().map(|next| next.release.as_str());
    let release = next.or(host.running.as_deref())?;
    let module = host.kernel(release)?.module()?;
    let loaded = host.loaded.is_some() && host.running.as_deref() == Some(release);
    if loaded && host.loaded.as_deref() == module.info.version.as_deref() {
        return None;
    }
    let unsigned = !module.info.signed;
    let unknown_key = host.secure_boot.dkms_key_enrolled == Some(false);
    if !unsigned && !unknown_key {
        return None;
    }
    let because = match unsigned {
        true => "Secure Boot is on or the kernel is locked down, and the module has no signature",
        false => "the module is signed with DKMS's key, which the firmware does not know",
    };
    Some(
        Finding::error(Cause::ModuleUnsigned)
            .on(&format!("kernel {release}"), "signature")
            .found(Some("a valid signature"), Some(if unsigned { "none" } else { "unknown key" }))
            .because(format!("{}: {because}", module.path))
            .hint(sign(host, release, unsigned)),
    )
}

/// Has DKMS sign the module, which it does with each build, and the firmware know
/// its key: the firmware asks for the password at the next boot.
fn sign(host: &HostFacts, release: &str, unsigned: bool) -> Hint {
    let module = host.dkms.iter().find(|m| m.source && host.installed() == Some(&m.version));
    let key = host.secure_boot.dkms_key_enrolled;
    let Some(module) = module.filter(|_| key.is_some()) else {
        return Hint::words(
            "sign the module with a machine owner key that the firmware knows, or turn Secure Boot \
             off in the firmware setup",
        );
    };
    let name = module.name();
    let mut commands = Vec::new();
    if unsigned {
        commands.push(external::dkms_build_forced(&name, release));
        commands.push(external::dkms_install_forced(&name, release));
    }
    if key == Some(false) {
        commands.push(external::mokutil_import(DKMS_KEY));
    }
    let hint = Hint::commands(commands);
    match key {
        Some(false) => hint.because("enrol DKMS's key: reboot, and confirm it in MokManager"),
        _ => hint.because("DKMS signs what it builds"),
    }
}
