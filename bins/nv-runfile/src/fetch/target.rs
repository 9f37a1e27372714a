//! What is to be fetched: a version, a branch, the latest, or a URL.

use runfile::{Flavour, InstallerName, is_version};
use ureq::http::Uri;

use ::cli::{Exit, Failure, fail};

/// What the operand means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `550.163.01`.
    Version(String),
    /// `550`.
    Branch(String),
    /// What NVIDIA calls the latest.
    Latest,
    /// One installer's own place.
    Url(String),
}

impl Target {
    /// Reads the operand. Errors: usage.
    pub fn of(what: &str) -> Result<Target, Failure> {
        if what == "latest" {
            return Ok(Target::Latest);
        }
        if what.contains("://") || what.starts_with("file:") {
            return Ok(Target::Url(checked_url(what)?));
        }
        let digits = !what.is_empty() && what.bytes().all(|b| b.is_ascii_digit());
        if digits && matches!(what.len(), 2 | 3) {
            return Ok(Target::Branch(what.into()));
        }
        if is_version(what) {
            return Ok(Target::Version(what.into()));
        }
        let message = format!("'{what}' is no version, branch or URL of an installer");
        let bare = what.trim_start_matches(['v', 'V']);
        let branch = matches!(bare.len(), 2 | 3) && bare.bytes().all(|b| b.is_ascii_digit());
        let hint = if bare != what && (branch || is_version(bare)) {
            format!("did you mean {bare}?")
        } else if what.contains('/') && what.contains('.') {
            format!("did you mean https://{}?", what.trim_start_matches('/'))
        } else {
            "such as 550.163.01, 550, latest".into()
        };
        Err(fail(Exit::Usage, message).hint(hint))
    }
}

/// A URL that can be asked: https, http or file, and without a password, which
/// would end up in records. Errors: usage.
pub fn checked_url(url: &str) -> Result<String, Failure> {
    let bad = |why: &str| Err(fail(Exit::Usage, format!("'{url}' cannot be fetched: {why}")));
    if url.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return bad("it holds blanks or control characters");
    }
    if let Some(path) = file_path(url) {
        return match path.starts_with('/') {
            true => Ok(url.into()),
            false => bad("file: wants an absolute path"),
        };
    }
    let Ok(uri) = url.parse::<Uri>() else { return bad("no URL") };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return bad("user names and passwords in it would end up in records");
    }
    match (uri.scheme_str(), uri.host()) {
        (Some("https" | "http"), Some(host)) if !host.is_empty() => Ok(url.into()),
        _ => bad("only https, http and file are understood"),
    }
}

/// The path of a file: URL.
pub fn file_path(url: &str) -> Option<&str> {
    let path = url.strip_prefix("file:")?;
    Some(path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//")).unwrap_or(path))
}

/// The name of the file that a URL leads to. Errors: it has none that could be
/// an installer's.
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
pub struct Wanted {
    /// The file's name, in the cache and on servers.
    pub name: String,
    /// Version as NVIDIA writes it, where the name says it.
    pub version: Option<String>,
    /// Architecture.
    pub arch: String,
    /// It is the driver that everybody downloads, without a variant: the table
    /// of known files is about those.
    pub common: bool,
}

impl Wanted {
    /// The driver of a version.
    pub fn driver(version: &str, arch: &str, no_compat32: bool) -> Wanted {
        let variant = if no_compat32 { "-no-compat32" } else { "" };
        Wanted {
            name: format!("NVIDIA-Linux-{arch}-{version}{variant}.run"),
            version: Some(version.into()),
            arch: arch.into(),
            common: !no_compat32,
        }
    }

    /// What a name says. Errors: as [`name_in`].
    pub fn named(url: &str, arch: &str) -> Result<Wanted, Failure> {
        let name = name_in(url)?;
        let said = InstallerName::of(&name, None, None, None, None, &mut Vec::new());
        let common = said.flavour == Flavour::Driver && said.variants.is_empty();
        let arch = said.arch.map_or(arch, |arch| arch.as_str()).to_string();
        Ok(Wanted { name, version: said.version, arch, common })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_mean_what_they_look_like() {
        assert_eq!(Target::of("latest").unwrap(), Target::Latest);
        assert_eq!(Target::of("570").unwrap(), Target::Branch("570".into()));
        assert_eq!(Target::of("575.64").unwrap(), Target::Version("575.64".into()));
        assert!(matches!(Target::of("https://x/a.run").unwrap(), Target::Url(_)));
        assert!(matches!(Target::of("file:/a/b.run").unwrap(), Target::Url(_)));
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
            assert!(Target::of(bad).is_err(), "{bad}");
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
        let of = |name: &str| Wanted::named(&format!("https://x/{name}"), "x86_64").unwrap();
        let common = of("NVIDIA-Linux-aarch64-550.163.01.run");
        assert_eq!(common, Wanted::driver("550.163.01", "aarch64", false));
        assert!(!of("NVIDIA-Linux-x86_64-550.90.07-grid.run").common);
        assert!(!of("NVIDIA-Linux-x86_64-390.157-no-compat32.run").common);
        let cuda = of("cuda_12.8.0_570.86.10_linux.run");
        assert_eq!((cuda.version.as_deref(), cuda.common), (Some("12.8.0"), false));
    }
}
