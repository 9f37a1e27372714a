//! Driver versions: two or three numbers with points between. Zeros count, so a
//! version is never rewritten.

use std::cmp::Ordering;

/// Whether a text is a driver version: `550.163.01`, `580.142`.
pub fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    matches!(parts.len(), 2 | 3)
        && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Compares two versions number by number: 580.142 is newer than 580.126.20,
/// 575.64 older than 575.64.03. Two different texts
/// of the same numbers (`1.04`, `1.4`) are not equal: the driver compares strings.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    numbers(a).cmp(&numbers(b)).then_with(|| a.cmp(b))
}

/// The first component: `550` of `550.163.01`.
pub fn branch(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

/// The numbers of a text in their order, up to the first part that is not one: `6.17.13-2-pve`
/// is 6, 17, 13, 2.
pub fn numbers(text: &str) -> Vec<u64> {
    let mut found = Vec::new();
    for part in text.split(['.', '-', '+', '~']) {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match part[..digits].parse() {
            Ok(number) => found.push(number),
            Err(_) => break,
        }
        if digits < part.len() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number_and_never_rounded() {
        for (older, newer) in [
            ("580.126.20", "580.142"),
            ("575.64", "575.64.03"),
            ("550.54.14", "550.163.01"),
            ("470.256.02", "550.40.07"),
            ("570.124.04", "570.124.06"),
            ("450.80.02", "525"),
        ] {
            assert_eq!(compare_versions(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare_versions(newer, older), Ordering::Greater, "{older} {newer}");
        }
        assert_eq!(compare_versions("550.1", "550.01"), Ordering::Greater);
        assert_eq!(branch("550.163.01"), "550");
    }

    #[test]
    fn kernel_releases_are_numbers_up_to_their_flavour() {
        assert_eq!(numbers("6.17.13-2-pve"), [6, 17, 13, 2]);
        assert_eq!(numbers("6.1.0-35-amd64"), [6, 1, 0, 35]);
        assert_eq!(numbers("6.9-rc1"), [6, 9]);
        assert_eq!(numbers("6.12.48+deb13-amd64"), [6, 12, 48]);
    }
}
