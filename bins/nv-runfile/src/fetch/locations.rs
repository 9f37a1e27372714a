//! Where an installer may be, in the order in which servers are asked.
//!
//! NVIDIA's hosts have almost the same tree: 64-bit ARM is in two directories,
//! data-centre versions are below `tesla/` on one host only, and 418.87.xx is
//! below a directory without its third number.

use crate::fetch::request::{RequestedInstaller, file_path};

/// NVIDIA's hosts.
pub const US: &str = "https://us.download.nvidia.com";
/// The other host, which has no `tesla/`.
pub const MAIN: &str = "https://download.nvidia.com";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadLocation {
    /// The file's URL.
    pub url: String,
    /// The host is NVIDIA's.
    pub vendor: bool,
}

impl DownloadLocation {
    /// The location of a URL.
    pub fn of(url: &str) -> DownloadLocation {
        let host = url.strip_prefix("https://").and_then(|rest| rest.split(['/', ':']).next());
        let vendor = host.is_some_and(|host| {
            ["download.nvidia.com", "us.download.nvidia.com", "international.download.nvidia.com"]
                .contains(&host)
        });
        DownloadLocation { url: url.into(), vendor }
    }

    /// Whether the file cannot be changed on the way from it.
    pub fn is_safe(&self) -> bool {
        self.url.starts_with("https://") || file_path(&self.url).is_some()
    }

    /// Scheme and host: if they fail for one file they fail for all.
    pub fn host(&self) -> &str {
        let from = self.url.find("://").map_or(0, |at| at + 3);
        let end = self.url[from..].find('/').map_or(self.url.len(), |at| from + at);
        &self.url[..end]
    }
}

/// Directories of the driver for all GPUs, below a host.
pub fn xfree86(arch: &str) -> &'static [&'static str] {
    match arch {
        // the first is used on us.download, the second on download
        "aarch64" => &["XFree86/aarch64", "XFree86/Linux-aarch64"],
        "ppc64le" => &["XFree86/Linux-ppc64le"],
        "x86" => &["XFree86/Linux-x86"],
        _ => &["XFree86/Linux-x86_64"],
    }
}

/// The locations of one installer: below `mirrors` if there are any, otherwise on
/// NVIDIA's hosts. `dir` is its directory in the table of known installers.
pub fn locations(
    requested: &RequestedInstaller,
    mirrors: &[String],
    dir: Option<&str>,
) -> Vec<DownloadLocation> {
    let name = &requested.name;
    let Some(version) = &requested.version else { return Vec::new() };
    let tree = |base: &str, tesla: bool| -> Vec<String> {
        let mut dirs: Vec<String> =
            xfree86(&requested.arch).iter().map(|dir| format!("{dir}/{version}")).collect();
        if tesla {
            dirs.push(format!("tesla/{version}"));
            if version.starts_with("418.87.") {
                dirs.push("tesla/418.87".into());
            }
        }
        // a stable sort: the known directory comes first
        dirs.sort_by_key(|one| Some(one.as_str()) != dir);
        dirs.into_iter().map(|dir| format!("{base}/{dir}/{name}")).collect()
    };
    let mut urls: Vec<String> = Vec::new();
    if mirrors.is_empty() {
        urls.extend(tree(US, true));
        urls.extend(tree(MAIN, false));
    }
    for mirror in mirrors {
        let base = mirror.trim_end_matches('/');
        urls.extend(tree(base, true));
        urls.push(format!("{base}/{version}/{name}"));
        urls.push(format!("{base}/{name}"));
    }
    urls.iter().map(|url| DownloadLocation::of(url)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(version: &str, arch: &str, mirrors: &[&str], dir: Option<&str>) -> Vec<String> {
        let mirrors: Vec<String> = mirrors.iter().map(|mirror| mirror.to_string()).collect();
        let requested = RequestedInstaller::driver(version, arch, false);
        locations(&requested, &mirrors, dir).into_iter().map(|location| location.url).collect()
    }

    #[test]
    fn the_consumer_directory_comes_before_tesla_and_both_arm_spellings_are_tried() {
        assert_eq!(
            urls("550.163.01", "x86_64", &[], None),
            [
                "https://us.download.nvidia.com/XFree86/Linux-x86_64/550.163.01/NVIDIA-Linux-x86_64-550.163.01.run",
                "https://us.download.nvidia.com/tesla/550.163.01/NVIDIA-Linux-x86_64-550.163.01.run",
                "https://download.nvidia.com/XFree86/Linux-x86_64/550.163.01/NVIDIA-Linux-x86_64-550.163.01.run",
            ]
        );
        let arm = urls("580.95.05", "aarch64", &[], None);
        assert!(arm[0].starts_with("https://us.download.nvidia.com/XFree86/aarch64/"), "{arm:?}");
        assert!(
            arm.iter()
                .any(|url| url.starts_with("https://download.nvidia.com/XFree86/Linux-aarch64/"))
        );
        let odd = urls("418.87.01", "x86_64", &[], None);
        assert!(
            odd.iter().any(|url| url.ends_with("/tesla/418.87/NVIDIA-Linux-x86_64-418.87.01.run"))
        );
    }

    #[test]
    fn where_the_table_knows_the_place_it_comes_first() {
        let known = urls("535.288.01", "x86_64", &[], Some("tesla/535.288.01"));
        assert!(known[0].contains("/tesla/535.288.01/"), "{known:?}");
        assert_eq!(known.len(), 3);
    }

    #[test]
    fn mirrors_stand_in_for_the_vendor_in_their_order() {
        let urls = urls("550.163.01", "x86_64", &["file:/a/", "http://b"], None);
        assert_eq!(urls.len(), 8);
        assert_eq!(urls[3], "file:/a/NVIDIA-Linux-x86_64-550.163.01.run");
        assert!(urls[4].starts_with("http://b/XFree86/"));
        assert!(!urls.iter().any(|url| url.contains("nvidia.com")));
    }

    #[test]
    fn places_know_whose_they_are_and_whether_they_can_be_tampered_with() {
        assert!(DownloadLocation::of("https://us.download.nvidia.com/x").vendor);
        for other in [
            "http://us.download.nvidia.com/x",
            "https://us.download.nvidia.com.evil.org/x",
            "https://evil.org/download.nvidia.com",
        ] {
            assert!(!DownloadLocation::of(other).vendor, "{other}");
        }
        assert!(
            DownloadLocation::of("file:/x").is_safe()
                && !DownloadLocation::of("http://x/y").is_safe()
        );
        assert_eq!(DownloadLocation::of("https://x:8/y/z").host(), "https://x:8");
    }
}
