//! A line of `lxc.mount.entry`, as glibc's getmntent(3) and LXC read it.

/// Source, target, type and options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountLine {
    /// What is mounted.
    pub source: String,
    /// Where, as it is written.
    pub target: String,
    /// `none` for a bind mount.
    pub kind: String,
    /// Separated by commas.
    pub options: String,
}

impl MountLine {
    /// Parses it. `None`: an empty line or a comment, which LXC passes over.
    pub fn parse(value: &str) -> Option<MountLine> {
        let value = value.trim_start_matches([' ', '\t']);
        if value.is_empty() || value.starts_with('#') {
            return None;
        }
        let mut fields = value.split([' ', '\t']).filter(|field| !field.is_empty()).map(unescape);
        let mut next = || fields.next().unwrap_or_default();
        Some(MountLine { source: next(), target: next(), kind: next(), options: next() })
    }

    /// Whether an option is given. A value may follow it (hasmntopt(3)).
    pub fn has(&self, option: &str) -> bool {
        let is = |one: &str| one == option || one.split('=').next() == Some(option);
        self.options.split(',').any(is)
    }

    /// Whether it is a bind mount.
    pub fn is_bind(&self) -> bool {
        self.options.split(',').any(|one| one == "bind" || one == "rbind")
    }

    /// The absolute path in the container; `None` where LXC ignores the line, because
    /// its target is absolute and not in the container's directory (conf.c,
    /// mount_entry_on_absolute_rootfs).
    pub fn path(&self, ctid: u32) -> Option<String> {
        let Some(absolute) = self.target.strip_prefix('/') else {
            return Some(normal(&self.target));
        };
        let root = format!("var/lib/lxc/{ctid}/rootfs");
        let at = absolute.find(&root)?;
        Some(normal(&absolute[at + root.len()..]))
    }
}

/// A path without empty and single-dot parts.
pub fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let parts: Vec<&str> = parts.collect();
    format!("/{}", parts.join("/"))
}

/// glibc's decode_name: `\040`, `\011`, `\012`, `\134` and `\\`.
fn unescape(field: &str) -> String {
    let mut out = String::new();
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let known =
            [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"), ("\\\\", "\\")];
        let found = known.iter().find(|(code, _)| rest[at..].starts_with(code));
        let (code, text) = found.copied().unwrap_or(("\\", "\\"));
        out.push_str(text);
        rest = &rest[at + code.len()..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_getmntent_reads_them() {
        let line = MountLine::parse("/a\\040b dev//./x  none\tbind,create=file 0 0").unwrap();
        assert_eq!((line.source.as_str(), line.path(101).unwrap().as_str()), ("/a b", "/dev/x"));
        assert!(line.is_bind() && line.has("create") && !line.has("file") && !line.has("optional"));
        let spaced = MountLine::parse("/dev/a dev/a none bind, optional, create=file").unwrap();
        assert!(spaced.is_bind() && !spaced.has("optional"));
        let short = MountLine::parse("/dev/a dev/a bind,optional").unwrap();
        assert_eq!((short.kind.as_str(), short.options.as_str()), ("bind,optional", ""));
        assert_eq!(MountLine::parse("# /dev/a"), None);
        let of =
            |target: &str| MountLine { target: target.into(), ..MountLine::default() }.path(101);
        assert_eq!(of("/dev/nvidia0"), None);
        assert_eq!(of("/var/lib/lxc/101/rootfs/dev/nvidia0").as_deref(), Some("/dev/nvidia0"));
        assert_eq!(of("/var/lib/lxc/102/rootfs/dev/nvidia0"), None);
    }
}
