//! The options that the installer of a version has. It accepts no abbreviations
//! and ends with status 1 at an unknown option.

use runfile::{OptionSupport, Stub};

/// Options and the first version that has them (option_table.h of each).
const SINCE: &str = include_str!("../../data/installer-options.txt");

fn at_least(version: &str, other: &str) -> bool {
    nvidia::compare_versions(version, other).is_ge()
}

/// Whether the installer of a version has an option: by the list in its own
/// stub, or if there is none by the table.
pub fn has_option(option: &str, version: &str, stub: &Stub) -> bool {
    match stub.option_support(option) {
        OptionSupport::Listed => true,
        OptionSupport::NotListed => false,
        OptionSupport::Unknown => since(option).is_some_and(|since| at_least(version, since)),
    }
}

fn since(option: &str) -> Option<&'static str> {
    let lines = SINCE.lines().filter(|line| !line.starts_with('#'));
    let mut words = lines.map(|line| line.split_ascii_whitespace());
    words.find_map(|mut words| (words.next() == Some(option)).then(|| words.next())?)
}

/// The options to run an installer in a container, where it must build no kernel
/// module although it sees the host's. `None` if it cannot leave them out.
pub fn options_for_container(version: &str, stub: &Stub) -> Option<Vec<&'static str>> {
    const OPTIONS: [&str; 10] = [
        "--no-kernel-module-source",
        "--no-nouveau-check",
        "--no-x-check",
        "--no-systemd",
        "--no-nvidia-modprobe",
        "--no-backup",
        "--no-check-for-alternate-installs",
        "--no-rebuild-initramfs",
        "--no-install-compat32-libs",
        "--no-distro-scripts",
    ];
    let spellings = ["--no-kernel-modules", "--no-kernel-module"];
    let modules = spellings.into_iter().find(|option| has_option(option, version, stub))?;
    let mut options = vec!["--silent", modules];
    options.extend(OPTIONS.into_iter().filter(|option| has_option(option, version, stub)));
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(version: &str) -> Vec<&'static str> {
        options_for_container(version, &Stub::default()).unwrap()
    }

    #[test]
    fn every_version_gets_its_own_spelling() {
        let of = |version: &str, option: &str| options(version).contains(&option);
        for (version, modules) in [
            ("390.157", "--no-kernel-module"),
            ("470.256.02", "--no-kernel-module"),
            ("510.108.03", "--no-kernel-module"),
            ("515.43.04", "--no-kernel-modules"),
            ("550.163.01", "--no-kernel-modules"),
            ("610.43.02", "--no-kernel-modules"),
        ] {
            assert_eq!(options(version)[..2], ["--silent", modules], "{version}");
            assert!(of(version, "--no-nouveau-check"), "{version}");
        }
        assert!(!of("535.216.01", "--no-rebuild-initramfs"));
        assert!(of("545.23.06", "--no-rebuild-initramfs"));
        assert!(!of("460.91.03", "--no-systemd") && of("470.57.02", "--no-systemd"));
        // three components are newer than two of the same numbers
        assert!(at_least("575.64.03", "575.64") && !at_least("575.64", "575.64.03"));
        assert!(at_least("580.142", "580.126.20"));
    }

    #[test]
    fn the_installers_own_list_counts_more() {
        let listed = |options: &[&str]| Stub {
            options: Some(options.iter().map(|option| option.to_string()).collect()),
            ..Stub::default()
        };
        let stub = listed(&["--silent", "--no-kernel-module", "--no-backup"]);
        let options = options_for_container("550.163.01", &stub).unwrap();
        assert_eq!(options, ["--silent", "--no-kernel-module", "--no-backup"]);
        assert_eq!(options_for_container("550.163.01", &listed(&["--silent"])), None);
    }

    #[test]
    fn the_table_is_whole() {
        let mut count = 0;
        for line in SINCE.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            assert!(
                matches!(words[..], [option, version] if option.starts_with('-')
                && (version == "0" || runfile::is_version(version))),
                "{line}"
            );
            count += 1;
        }
        assert!(count > 15);
    }
}
