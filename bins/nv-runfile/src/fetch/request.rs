//! What `fetch` is asked for: a version, a branch, the latest, or a URL.

use runfile::{Flavour, InstallerName, is_version};
use ureq::http::Uri;

use ::cli::{Exit, Failure, fail};

/// The operand of `fetch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchOperand {
    /// `550.163.01`.
    Version(String),
    /// `550`.
    Branch(String),
    /// The version that NVIDIA recommends.
    Latest,
    /// The URL of one installer.
    Url(String),
}

impl FetchOperand {
    /// Reads the operand. Errors: usage.
    pub fn of(what: &str) -> Result<FetchOperand, Failure> {
        if what == "latest" {
            return Ok(FetchOperand::Latest);
        }
        if what.contains("://") || what.starts_with("file:") {
            return Ok(FetchOperand::Url(checked_url(what)?));
        }
        let digits = !what.is_empty() && what.bytes().all(|b| b.is_ascii_digit());
        if digits && matches!(what.len(), 2 | 3) {
            return Ok(FetchOperand::Branch(what.into()));
        }
        if is_version(what) {
            return Ok(FetchOperand::Version(what.into()));
        }
        let message = format!("'{what}' is not a version, a branch or the URL of an installer");
        let bare = what.trim_start_matches(['v', 'V']);
        let branch = matches!(bare.len(), 2 | 3) && bare.bytes().all(|b| b.is_ascii_digit());
        let hint = if bare != what && (branch || is_version(bare)) {
            format!("did you mean {bare}?")
        } else if what.contains('/') && what.contains('.') {
            format!("did you mean https://{}?", what.trim_start_matches('/'))
        } else {
            "examples: 550.163.01, 550, latest".into()
        };
        Err(fail(Exit::Usage, message).hint(hint))
    }
}

/// Checks a URL: https, http or file, without a password, which would end up in
/// records. Errors: usage.
pub fn checked_url(url: &str) -> Result<String, Failure> {
    let bad = |why: &str| Err(fail(Exit::Usage, format!("'{url}' cannot be downloaded: {why}")));
    if url.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return bad("it has blanks or control characters");
    }
    if let Some(path) = file_path(url) {
        return match path.starts_with('/') {
            true => Ok(url.into()),
            false => bad("file: needs an absolute path"),
        };
    }
    let Ok(uri) = url.parse::<Uri>() else { return bad("not a URL") };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return bad("a user name or password in it would end up in records");
    }
    match (uri.scheme_str(), uri.host()) {
        (Some("https" | "http"), Some(host)) if !host.is_empty() => Ok(url.into()),
        _ => bad("only https, http and file are supported"),
    }
}

/// The path of a file: URL.
pub fn file_path(url: &str) -> Option<&str> {
    let path = url.strip_prefix("file:")?;
    Some(path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//")).unwrap_or(path))
}

/// The file name in a URL. Errors: it cannot be the name of an installer.
pub fn name_in(url: &str) -> Result<String, Failure> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let name = path.rsplit('/').next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    let fits = name.ends_with(".run")
        && name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(plain);
    match fits {
        true => Ok(name.into()),
        false => Err(fail(Exit::Usage, format!("'{url}' does not end in the name of a .run file"))),
    }
}

/// One installer, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedInstaller {
    /// The file's name, in the cache and on servers.
    pub name: String,
    /// Version as NVIDIA writes it, if the name has it.
    pub version: Option<String>,
    pub arch: String,
    /// It is the usual driver, not a variant of it: the table of known installers
    /// has only those.
    pub common: bool,
}

impl RequestedInstaller {
    /// The driver of a version.
    pub fn driver(version: &str, arch: &str, no_compat32: bool) -> RequestedInstaller {
        let variant = if no_compat32 { "-no-compat32" } else { "" };
        RequestedInstaller {
            name: format!("NVIDIA-Linux-{arch}-{version}{variant}.run"),
            version: Some(version.into()),
            arch: arch.into(),
            common: !no_compat32,
        }
    }

    /// What a file name tells. Errors: as [`name_in`].
    pub fn named(url: &str, arch: &str) -> Result<RequestedInstaller, Failure> {
        let name = name_in(url)?;
        let said = InstallerName::of(&name, None, None, None, None, &mut Vec::new());
        let common = said.flavour == Flavour::Driver && said.variants.is_empty();
        let arch = said.arch.map_or(arch, |arch| arch.as_str()).to_string();
        Ok(RequestedInstaller { name, version: said.version, arch, common })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_mean_what_they_look_like() {
        assert_eq!(FetchOperand::of("latest").unwrap(), FetchOperand::Latest);
        assert_eq!(FetchOperand::of("570").unwrap(), FetchOperand::Branch("570".into()));
        assert_eq!(FetchOperand::of("575.64").unwrap(), FetchOperand::Version("575.64".into()));
        assert!(matches!(FetchOperand::of("https://x/a.run").unwrap(), FetchOperand::Url(_)));
        assert!(matches!(FetchOperand::of("file:/a/b.run").unwrap(), FetchOperand::Url(_)));
        for bad in [
            "",
            "5",
            "5700",
            "550.163.01.2",
            "../550.1",
            "550.1/..",
            "550.x",
            "Latest",
            "-1",
            "550.",
            "ftp://x/a.run",
            "https://",
            "https:///a.run",
            "https://u:p@x/a.run",
            "file:a.run",
            "https://x/a b.run",
            "https://x/\u{7f}.run",
        ] {
            assert!(FetchOperand::of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_plain_names_become_file_names() {
        assert_eq!(name_in("https://x/y/a-1.run?t=/../z").unwrap(), "a-1.run");
        for bad in [
            "https://x/..",
            "https://x/.run",
            "https://x/.a.run",
            "https://x/a%2f.run",
            "https://x/a.txt",
            "https://x/",
        ] {
            assert!(name_in(bad).is_err(), "{bad}");
        }
        assert!(name_in(&format!("https://x/{}.run", "a".repeat(200))).is_err());
    }

    #[test]
    fn names_tell_whether_the_table_is_about_them() {
        let of =
            |name: &str| RequestedInstaller::named(&format!("https://x/{name}"), "x86_64").unwrap();
        let common = of("NVIDIA-Linux-aarch64-550.163.01.run");
        assert_eq!(common, RequestedInstaller::driver("550.163.01", "aarch64", false));
        assert!(!of("NVIDIA-Linux-x86_64-550.90.07-grid.run").common);
        assert!(!of("NVIDIA-Linux-x86_64-390.157-no-compat32.run").common);
        let cuda = of("cuda_12.8.0_570.86.10_linux.run");
        assert_eq!((cuda.version.as_deref(), cuda.common), (Some("12.8.0"), false));
    }
}
