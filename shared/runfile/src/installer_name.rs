//! Version, architecture and flavour of an installer, from its header and its
//! file name.

/// What machine it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM, servers too.
    Aarch64,
    /// POWER.
    Ppc64le,
    /// 32-bit x86, until 390.
    X86,
    /// 32-bit ARM, until 390.
    Armv7l,
}

impl Arch {
    /// The word in names and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::Ppc64le => "ppc64le",
            Arch::X86 => "x86",
            Arch::Armv7l => "armv7l",
        }
    }

    fn of(word: &str) -> Option<Arch> {
        Some(match word {
            "x86_64" => Arch::X86_64,
            "aarch64" | "sbsa" => Arch::Aarch64,
            "ppc64le" => Arch::Ppc64le,
            "x86" | "i386" | "i686" => Arch::X86,
            "armv7l" | "armv7l-gnueabihf" => Arch::Armv7l,
            _ => return None,
        })
    }
}

/// What kind of installer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The driver that everybody downloads.
    Driver,
    /// The driver for vGPU guests.
    Grid,
    /// The driver for vGPU hosts.
    VgpuKvm,
    /// The CUDA toolkit, with a driver inside.
    Cuda,
    /// Some other program packed with makeself.
    Other,
}

impl Flavour {
    /// The word used in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Flavour::Driver => "driver",
            Flavour::Grid => "grid",
            Flavour::VgpuKvm => "vgpu-kvm",
            Flavour::Cuda => "cuda",
            Flavour::Other => "other",
        }
    }
}

/// What names say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallerName {
    /// Version as NVIDIA writes it: leading zeros count.
    pub version: Option<String>,
    /// Of a CUDA installer: the driver that it brings, as its file name says.
    pub bundled_driver: Option<String>,
    /// What machine it is for.
    pub arch: Option<Arch>,
    /// What kind it is.
    pub flavour: Flavour,
    /// Other words behind the version: `no-compat32`, `custom`, `pkg2`, ...
    pub variants: Vec<String>,
}

/// Words behind the version that name a flavour or a variant, longest first.
const SUFFIXES: [&str; 9] = [
    "no-compat32",
    "vgpu-kvm",
    "diagnostic",
    "patched",
    "internal",
    "custom",
    "grid",
    "aie",
    "pkg",
];

impl InstallerName {
    /// Puts together what a header's assignments and a file name say. What the
    /// header says wins; a difference becomes a problem.
    pub fn of(
        file_name: &str,
        version_string: Option<&str>,
        target_arch: Option<&str>,
        label: Option<&str>,
        target_dir: Option<&str>,
        problems: &mut Vec<String>,
    ) -> InstallerName {
        if let Some(name) = cuda(file_name, label) {
            return name;
        }
        let by_file = driver(file_name.strip_suffix(".run").unwrap_or(file_name));
        let by_dir = target_dir.and_then(driver);
        let by_label = label.and_then(|label| label.rsplit(' ').next()).filter(|w| is_version(w));
        let stated = version_string.filter(|version| is_version(version));
        let named = by_file.as_ref().or(by_dir.as_ref());
        let version = stated.or(by_label).map(str::to_string);
        let version = version.or_else(|| named.map(|parts| parts.version.clone()));
        let arch = target_arch.and_then(Arch::of);
        let is_driver = named.is_some() || label.is_some_and(|l| l.contains("NVIDIA Accelerated"));
        if let (Some(version), Some(file)) = (&version, &by_file) {
            if *version != file.version {
                problems.push(format!("named {} and holds {version}", file.version));
            }
        }
        if let (Some(arch), Some(file)) = (arch, &by_file) {
            if file.arch != arch {
                let (file, arch) = (file.arch.as_str(), arch.as_str());
                problems.push(format!("named {file} and is for {arch}"));
            }
        }
        let mut words: Vec<String> = Vec::new();
        for word in [&by_file, &by_dir].into_iter().flatten().flat_map(|parts| &parts.suffixes) {
            if !words.contains(word) {
                words.push(word.clone());
            }
        }
        let has = |word: &str| words.iter().any(|w| w == word);
        let flavour = match () {
            () if has("vgpu-kvm") => Flavour::VgpuKvm,
            () if has("grid") => Flavour::Grid,
            () if is_driver => Flavour::Driver,
            () => Flavour::Other,
        };
        let arch = arch.or_else(|| named.map(|parts| parts.arch));
        words.retain(|word| word != flavour.as_str());
        // what is no driver has no driver's version
        let version = version.filter(|_| flavour != Flavour::Other || stated.is_some());
        InstallerName { version, bundled_driver: None, arch, flavour, variants: words }
    }
}

/// `NVIDIA-Linux-<arch>-<version>[-suffix...]`.
struct Parts {
    arch: Arch,
    version: String,
    suffixes: Vec<String>,
}

fn driver(name: &str) -> Option<Parts> {
    let rest = name.strip_prefix("NVIDIA-Linux-")?;
    let (arch, rest) = rest.split_once('-')?;
    let arch = Arch::of(arch)?;
    let (version, mut tail) = match rest.split_once('-') {
        Some((version, tail)) => (version, tail),
        None => (rest, ""),
    };
    if !is_version(version) {
        return None;
    }
    let mut suffixes = Vec::new();
    while !tail.is_empty() && suffixes.len() < 8 {
        let known = SUFFIXES.iter().find(|suffix| tail.starts_with(**suffix));
        let length = known.map_or(0, |suffix| suffix.len());
        let end = tail[length..].find('-').map_or(tail.len(), |at| at + length);
        suffixes.push(tail[..end].to_string());
        tail = tail[end..].trim_start_matches('-');
    }
    Some(Parts { arch, version: version.into(), suffixes })
}

/// `cuda_<version>_<driver>_linux[_sbsa|_ppc64le].run`.
fn cuda(file_name: &str, label: Option<&str>) -> Option<InstallerName> {
    let mut name = InstallerName {
        version: None,
        bundled_driver: None,
        arch: None,
        flavour: Flavour::Cuda,
        variants: Vec::new(),
    };
    let words = || {
        let rest = file_name.strip_prefix("cuda_")?.strip_suffix(".run")?;
        Some(rest.split('_').collect::<Vec<&str>>())
    };
    match words().as_deref() {
        Some([version, driver, "linux", rest @ ..]) if is_dotted(version) && is_dotted(driver) => {
            name.version = Some((*version).into());
            name.bundled_driver = Some((*driver).into());
            name.arch = match rest {
                [] => Some(Arch::X86_64),
                [word, ..] => Arch::of(word),
            };
            Some(name)
        }
        _ if label.is_some_and(|label| label.starts_with("CUDA")) => Some(name),
        _ => None,
    }
}

fn is_dotted(word: &str) -> bool {
    word.len() <= 24
        && word.split('.').all(|part| {
            !part.is_empty() && part.len() <= 5 && part.bytes().all(|b| b.is_ascii_digit())
        })
}

pub use nvidia::is_version;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &str) -> (InstallerName, Vec<String>) {
        let mut problems = Vec::new();
        (InstallerName::of(file, None, None, None, None, &mut problems), problems)
    }

    #[test]
    fn names_that_nvidia_uses_are_taken_apart() {
        for (file, version, arch, flavour, variants) in [
            ("NVIDIA-Linux-x86_64-550.163.01.run", "550.163.01", "x86_64", "driver", ""),
            ("NVIDIA-Linux-aarch64-580.95.05.run", "580.95.05", "aarch64", "driver", ""),
            (
                "NVIDIA-Linux-x86_64-390.157-no-compat32.run",
                "390.157",
                "x86_64",
                "driver",
                "no-compat32",
            ),
            ("NVIDIA-Linux-x86_64-550.90.05-vgpu-kvm.run", "550.90.05", "x86_64", "vgpu-kvm", ""),
            ("NVIDIA-Linux-x86_64-550.90.07-grid.run", "550.90.07", "x86_64", "grid", ""),
            (
                "NVIDIA-Linux-x86_64-535.129.03-vgpu-kvm-custom.run",
                "535.129.03",
                "x86_64",
                "vgpu-kvm",
                "custom",
            ),
            (
                "NVIDIA-Linux-x86_64-535.54.06-grid-vgpu-kvm-patched.run",
                "535.54.06",
                "x86_64",
                "vgpu-kvm",
                "grid patched",
            ),
            (
                "NVIDIA-Linux-x86_64-410.129-diagnostic.run",
                "410.129",
                "x86_64",
                "driver",
                "diagnostic",
            ),
            ("NVIDIA-Linux-x86-304.137-pkg2.run", "304.137", "x86", "driver", "pkg2"),
            ("cuda_12.8.0_570.86.10_linux.run", "12.8.0", "x86_64", "cuda", ""),
            ("cuda_12.8.0_570.86.10_linux_sbsa.run", "12.8.0", "aarch64", "cuda", ""),
        ] {
            let (name, problems) = of(file);
            assert_eq!(name.version.as_deref(), Some(version), "{file}");
            assert_eq!(name.arch.map(Arch::as_str), Some(arch), "{file}");
            assert_eq!(name.flavour.as_str(), flavour, "{file}");
            assert_eq!(name.variants.join(" "), variants, "{file}");
            assert!(problems.is_empty());
        }
        assert_eq!(of("cuda_12.8.0_570.86.10_linux.run").0.bundled_driver.unwrap(), "570.86.10");
    }

    #[test]
    fn other_names_say_nothing() {
        for file in [
            "",
            "setup.run",
            "NVIDIA-Linux-x86_64.run",
            "NVIDIA-Linux-mips-1.2.run",
            "cuda_1_2.run",
        ] {
            let (name, _) = of(file);
            assert_eq!((name.version, name.flavour), (None, Flavour::Other), "{file}");
        }
    }

    #[test]
    fn a_file_that_was_renamed_is_told() {
        let mut problems = Vec::new();
        let name = InstallerName::of(
            "NVIDIA-Linux-aarch64-550.54.14.run",
            Some("550.163.01"),
            Some("x86_64"),
            Some("NVIDIA Accelerated Graphics Driver for Linux-x86_64 550.163.01"),
            Some("NVIDIA-Linux-x86_64-550.163.01"),
            &mut problems,
        );
        assert_eq!(name.version.as_deref(), Some("550.163.01"));
        assert_eq!(name.arch, Some(Arch::X86_64));
        assert_eq!(
            problems,
            ["named 550.54.14 and holds 550.163.01", "named aarch64 and is for x86_64"]
        );
    }

    #[test]
    fn versions_have_two_or_three_numbers() {
        for good in ["390.48", "550.163.01", "580.142"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "550", "550.", ".1", "1.2.3.4", "550.163.01b", "1.0-9639", "550..1"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
