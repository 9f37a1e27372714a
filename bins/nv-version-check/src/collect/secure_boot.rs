//! Whether the kernel takes only signed modules, and whether the key that DKMS
//! signs with is one that the firmware knows.

use host::Machine;

/// The firmware's variable: four bytes of attributes, then 1 if Secure Boot is on.
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// shim's copy of the list of machine owner keys, which may be read at run time.
const KEYS: &str = "/sys/firmware/efi/efivars/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23";
/// The certificate of the key that dkms 3 makes and signs with (framework.conf).
pub const DKMS_KEY: &str = "/var/lib/dkms/mok.pub";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// Bytes of a list of keys, and of a certificate.
const MOST: usize = 1 << 20;

/// What the kernel demands of modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecureBoot {
    /// The kernel refuses modules without a valid signature: Secure Boot is on, or
    /// the kernel is locked down.
    pub enforced: bool,
    /// Whether the firmware knows the key that DKMS signs with; `None`: DKMS has no
    /// key.
    pub dkms_key_enrolled: Option<bool>,
}

impl SecureBoot {
    /// Reads both. A variable that cannot be read says nothing.
    pub fn read(machine: &Machine) -> SecureBoot {
        let on = machine.read(SECURE_BOOT, MOST).is_ok_and(|bytes| bytes.last() == Some(&1));
        // `none [integrity] confidentiality`
        let lockdown = machine.attr(LOCKDOWN).unwrap_or_default();
        let locked = lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]");
        let key = machine.read(DKMS_KEY, MOST).ok().filter(|key| !key.is_empty());
        let keys = machine.read(KEYS, MOST).unwrap_or_default();
        let enrolled = key.map(|key| memchr::memmem::find(&keys, &key).is_some());
        SecureBoot { enforced: on || locked, dkms_key_enrolled: enrolled }
    }
}
