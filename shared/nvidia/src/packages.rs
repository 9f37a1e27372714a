//! Names of the packages in which distributions and NVIDIA's repositories ship
//! the driver.

const PACKAGES: &str = include_str!("../data/driver-packages.txt");

/// What a package of the driver holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverPart {
    /// Libraries and programs that must be of the kernel module's version.
    Libraries,
    /// The kernel module, its source or its firmware.
    Kernel,
    /// Meta packages, tools and configuration.
    Support,
}

/// Which part of the driver a package holds, by its name (`libcuda1`, also with
/// an architecture: `libcuda1:amd64`). `None`: it is not a package of the driver;
/// packages of CUDA toolkits and of the container toolkit are not.
pub fn driver_part(package: &str) -> Option<DriverPart> {
    let name = package.split(':').next().unwrap_or(package);
    let (part, _) = patterns().find(|(_, pattern)| match pattern.strip_suffix('*') {
        Some(stem) => name.starts_with(stem),
        None => name == *pattern,
    })?;
    part
}

/// Patterns of the names of all packages of the driver, for a package manager's
/// own lists: `libcuda1`, `libnvidia-*`, in the syntax that `Package:` of
/// apt_preferences(5) and `excludepkgs` of dnf.conf(5) share. These have no
/// exceptions, so the container toolkit's libraries (`libnvidia-container1`)
/// match as well.
pub fn driver_package_patterns() -> impl Iterator<Item = &'static str> {
    patterns().filter(|(part, _)| part.is_some()).map(|(_, pattern)| pattern)
}

/// Whether DKMS builds the driver under this name: `nvidia` (a `.run` file,
/// Ubuntu, NVIDIA's repositories), `nvidia-current`, `nvidia-tesla-470` and
/// `nvidia-legacy-390xx` (Debian), `nvidia-srv-450` (Ubuntu's server branches),
/// `nvidia-390xx` (Arch Linux). Other modules of NVIDIA's have versions of their
/// own: `nvidia-fs` 2.26.6 is GPUDirect Storage.
pub fn is_driver_dkms_module(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("nvidia") else { return false };
    let branch = rest.strip_prefix("-srv").unwrap_or(rest).strip_prefix('-').unwrap_or_default();
    matches!(rest, "" | "-open" | "-current" | "-current-open" | "-srv")
        || ["-tesla", "-legacy"].iter().any(|flavour| {
            rest.strip_prefix(flavour).is_some_and(|end| end.is_empty() || end.starts_with('-'))
        })
        || branch.starts_with(|c: char| c.is_ascii_digit())
}

fn patterns() -> impl Iterator<Item = (Option<DriverPart>, &'static str)> {
    PACKAGES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (part, pattern) = line.split_once(' ')?;
        let part = match part {
            "libraries" => Some(DriverPart::Libraries),
            "kernel" => Some(DriverPart::Kernel),
            "support" => Some(DriverPart::Support),
            _ => None,
        };
        Some((part, pattern.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_every_source_are_known_by_their_part() {
        for (package, part) in [
            // Debian 13, Debian 12's branches beside the current one
            ("libcuda1", DriverPart::Libraries),
            ("libnvidia-ml1:amd64", DriverPart::Libraries),
            ("libnvidia-ptxjitcompiler1", DriverPart::Libraries),
            ("libnvidia-tesla-470-cuda1", DriverPart::Libraries),
            ("nvidia-smi", DriverPart::Libraries),
            ("nvidia-kernel-dkms", DriverPart::Kernel),
            ("firmware-nvidia-gsp", DriverPart::Kernel),
            ("nvidia-tesla-470-driver", DriverPart::Support),
            ("nvidia-legacy-check", DriverPart::Support),
            ("nvidia-driver", DriverPart::Support),
            // Ubuntu
            ("libnvidia-compute-550-server", DriverPart::Libraries),
            ("nvidia-utils-550", DriverPart::Libraries),
            ("nvidia-compute-utils-550", DriverPart::Libraries),
            ("linux-modules-nvidia-550-generic", DriverPart::Kernel),
            ("nvidia-dkms-550-open", DriverPart::Kernel),
            ("nvidia-headless-550", DriverPart::Support),
            // the CUDA repository
            ("cuda-drivers-570", DriverPart::Support),
            ("nvidia-driver-cuda", DriverPart::Libraries),
            ("nvidia-driver-cuda-libs", DriverPart::Libraries),
            ("nvidia-open", DriverPart::Kernel),
            ("kmod-nvidia-open-dkms", DriverPart::Kernel),
        ] {
            assert_eq!(driver_part(package), Some(part), "{package}");
        }
    }

    #[test]
    fn toolkits_are_not_the_driver() {
        for package in [
            "cuda-toolkit-12-8",
            "cuda-nvml-dev-12-8",
            "cuda-compat-12-8",
            "libnvjitlink-12-8",
            "libnvvm-13-0",
            "libnvidia-container1",
            "libnvidia-container-tools",
            "nvidia-container-toolkit",
            "nvidia-cuda-toolkit",
            "nvidia-detect",
            "libcuda1-something",
        ] {
            assert_eq!(driver_part(package), None, "{package}");
        }
    }

    #[test]
    fn a_dkms_module_with_nvidia_in_its_name_is_not_always_the_driver() {
        for name in [
            "nvidia",
            "nvidia-open",
            "nvidia-current",
            "nvidia-current-open",
            "nvidia-tesla",
            "nvidia-tesla-470",
            "nvidia-legacy-390xx",
            "nvidia-srv",
            "nvidia-srv-450",
            "nvidia-340",
            "nvidia-390xx",
        ] {
            assert!(is_driver_dkms_module(name), "{name}");
        }
        // GPUDirect Storage, peer memory (nv_peer_mem's fork), and what is not NVIDIA's
        for name in ["nvidia-fs", "nvidia-peermem", "nvidiafb", "nvidia-grace-pmu", "nv_peer_mem"] {
            assert!(!is_driver_dkms_module(name), "{name}");
        }
    }

    #[test]
    fn every_line_is_understood_and_no_exception_is_a_pattern() {
        for line in PACKAGES.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let known = ["none", "libraries", "kernel", "support"].contains(&words[0]);
            assert!(known && words.len() == 2, "{line}");
            let stem = words[1].strip_suffix('*').unwrap_or(words[1]);
            assert!(!stem.contains('*'), "{line}");
        }
        assert!(driver_package_patterns().any(|pattern| pattern == "libnvidia-*"));
        assert!(!driver_package_patterns().any(|pattern| pattern.contains("container")));
    }
}
