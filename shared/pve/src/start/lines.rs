//! The lines that LXC reads at the next start: those that Proxmox VE keeps of the
//! container's own, with the files that they include.

use crate::conf::Conf;
use crate::keys::{is_known_to_lxc, is_permitted_lxc_key};
use crate::start::model::{FaultKind, StartFault, StartHost};

/// How deep includes are followed.
const DEPTH: u32 = 4;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LxcLine {
    /// `lxc.mount.entry`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The included file that has it.
    pub file: Option<String>,
}

/// All lines in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LxcLines {
    /// The lines.
    pub lines: Vec<LxcLine>,
    /// Lines with which LXC refuses the whole configuration.
    pub faults: Vec<StartFault>,
    /// Files that could not be read, and why.
    pub unread: Vec<String>,
}

impl LxcLines {
    /// The lines of a configuration. Keys that Proxmox VE does not permit are not
    /// among them: it does not pass them to LXC.
    pub fn of(conf: &Conf, host: &dyn StartHost) -> LxcLines {
        let mut all = LxcLines::default();
        for (key, value) in conf.effective_lxc().filter(|(key, _)| is_permitted_lxc_key(key)) {
            all.push(key, value, None, host, 0);
        }
        all
    }

    fn push(
        &mut self,
        key: &str,
        value: &str,
        file: Option<&str>,
        host: &dyn StartHost,
        depth: u32,
    ) {
        if !is_known_to_lxc(key) {
            self.faults.push(StartFault {
                kind: FaultKind::Key,
                key: key.into(),
                value: value.into(),
                target: None,
                reason: format!("LXC does not know '{key}' any more: the container cannot start"),
            });
        }
        if key == "lxc.include" && !value.is_empty() {
            match depth < DEPTH {
                true => self.include(value, host, depth),
                false => self.unread.push(format!("{value}: included too deep")),
            }
        }
        let file = file.map(str::to_string);
        self.lines.push(LxcLine { key: key.into(), value: value.into(), file });
    }

    /// A file, or all `*.conf` of a directory (confile.c, set_config_includefiles).
    fn include(&mut self, path: &str, host: &dyn StartHost, depth: u32) {
        let dir = path.ends_with('/')
            || matches!(host.node(path), Ok(Some(node)) if node.kind == host::NodeKind::Dir);
        let files: Vec<String> = match dir {
            false => vec![path.to_string()],
            true => {
                let names = host.names(path).unwrap_or_else(|why| {
                    self.unread.push(why);
                    Vec::new()
                });
                let names =
                    names.into_iter().filter(|name| name.len() > 5 && name.ends_with(".conf"));
                names.map(|name| format!("{}/{name}", path.trim_end_matches('/'))).collect()
            }
        };
        for file in files {
            match host.text(&file) {
                Err(why) => self.unread.push(why),
                Ok(None) => self.faults.push(StartFault {
                    kind: FaultKind::File,
                    key: "lxc.include".into(),
                    value: path.into(),
                    target: None,
                    reason: format!("'{file}' does not exist: the container cannot start"),
                }),
                Ok(Some(text)) => {
                    for (key, value) in included(&text) {
                        self.push(key, value, Some(&file), host, depth + 1);
                    }
                }
            }
        }
    }

    /// Values of a key, behind the last empty one, which takes back those before it.
    pub fn list(&self, key: &str) -> Vec<&LxcLine> {
        let mut found: Vec<&LxcLine> = Vec::new();
        for line in self.lines.iter().filter(|line| line.key == key) {
            match line.value.is_empty() {
                true => found.clear(),
                false => found.push(line),
            }
        }
        found
    }

    /// The value of a key that has one: the last.
    pub fn last(&self, key: &str) -> Option<&str> {
        self.list(key).last().map(|line| line.value.as_str())
    }
}

/// Lines `key = value` of LXC's own files (confile.c, parse_line).
fn included(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("lxc."));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| {
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
        (key.trim(), quoted.unwrap_or(value))
    })
}
