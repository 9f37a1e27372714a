//! Whether the kernel accepts modules that are built on this host: Secure Boot, and the
//! machine owner keys that its firmware knows.

use host::Machine;

/// The firmware's variable: four bytes of attributes, then 1 if Secure Boot is on.
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// The machine owner keys that shim passes to the kernel: certificates in signature lists
/// (shim's lib/guid.c, SHIM_LOCK_GUID).
const ENROLLED: &str = "/sys/firmware/efi/efivars/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23";
/// Certificates with which DKMS signs what it builds: its own (dkms(8), mok_certificate),
/// and that of Debian's and Ubuntu's shim-signed.
const OF_DKMS: [&str; 2] = ["/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der"];
/// Certificates have one or two kilobytes, lists of them some tens.
const MOST: usize = 1 << 20;

/// A certificate, and whether the firmware knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    pub path: String,
    /// `None`: the list of enrolled keys cannot be read.
    pub enrolled: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signing {
    /// `None`: the firmware's variable cannot be read.
    pub secure_boot: Option<bool>,
    /// The certificate of DKMS.
    pub of_dkms: Option<SigningKey>,
}

impl Signing {
    /// A host that was not booted by EFI, or whose firmware has no such variable, has no
    /// Secure Boot.
    pub fn read(machine: &Machine) -> Signing {
        let secure_boot = match machine.read(SECURE_BOOT, MOST) {
            Ok(bytes) => bytes.last().map(|last| *last == 1),
            Err(error) => error.is_not_found().then_some(false),
        };
        let of_dkms = OF_DKMS.iter().find(|path| machine.exists(path));
        Signing { secure_boot, of_dkms: of_dkms.map(|path| SigningKey::read(machine, path)) }
    }
}

impl SigningKey {
    /// Looks for a certificate, in DER, among the enrolled ones.
    pub fn read(machine: &Machine, path: &str) -> SigningKey {
        let enrolled = || -> Option<bool> {
            let certificate = machine.read(path, MOST).ok().filter(|bytes| !bytes.is_empty())?;
            match machine.read(ENROLLED, MOST) {
                Ok(list) => Some(list.windows(certificate.len()).any(|part| part == certificate)),
                Err(error) => error.is_not_found().then_some(false),
            }
        };
        SigningKey { path: path.into(), enrolled: enrolled() }
    }
}
