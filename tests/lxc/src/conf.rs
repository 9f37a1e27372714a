//! `/etc/pve/lxc/<CTID>.conf` as Proxmox VE reads and rewrites it.
//!
//! Written for this crate alone: what a tool under test makes of the file is
//! judged by another reader than the tool's own.

use std::collections::BTreeMap;
use std::fmt::Write;

/// One section. Keys are unique, the last wins; `lxc.*` lines keep their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    pub description: Vec<String>,
    pub keys: BTreeMap<String, String>,
    pub lxc: Vec<(String, String)>,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    pub main: Section,
    pub pending: Section,
    pub snapshots: BTreeMap<String, Section>,
}

enum Place {
    Main,
    Pending,
    Snapshot(String),
}

impl Conf {
    /// The file's meaning, and a line for each thing that Proxmox VE warns of.
    pub fn parse(ctid: &str, text: &str) -> (Conf, Vec<String>) {
        let (mut conf, mut warnings, mut place) = (Conf::default(), Vec::new(), Place::Main);
        for line in text.split('\n').filter(|line| !line.trim().is_empty()) {
            if let Some(name) = section_name(line) {
                // a second header of the same name begins with nothing
                place = match name {
                    name if name.eq_ignore_ascii_case("pve:pending") => {
                        conf.pending = Section::default();
                        Place::Pending
                    }
                    name => {
                        conf.snapshots.insert(name.to_string(), Section::default());
                        Place::Snapshot(name.to_string())
                    }
                };
                continue;
            }
            let section = match &place {
                Place::Main => &mut conf.main,
                Place::Pending => &mut conf.pending,
                Place::Snapshot(name) => conf.snapshots.entry(name.clone()).or_default(),
            };
            if let Some(text) = line.strip_prefix('#') {
                section.description.push(decode(text));
            } else if let Some((key, value)) = lxc_line(line) {
                if allowed(key) {
                    section.lxc.push((key.to_string(), value.to_string()));
                } else {
                    warnings.push(format!("vm {ctid} - invalid lxc key '{key}'"));
                }
            } else if let Some((key, value)) = key_line(line) {
                section.keys.insert(key.to_string(), value.to_string());
            } else {
                warnings.push(format!("vm {ctid} - unable to parse config: {line}"));
            }
        }
        (conf, warnings)
    }

    /// The file as Proxmox VE writes it after any change.
    pub fn write(&self) -> String {
        let mut text = self.main.write();
        if self.pending != Section::default() {
            text += &format!("\n[pve:pending]\n{}", self.pending.write());
        }
        for (name, section) in &self.snapshots {
            text += &format!("\n[{name}]\n{}", section.write());
        }
        text
    }

    /// What a start does first: changes that waited for a stop take effect.
    /// Whether there were any.
    pub fn apply_pending(&mut self) -> bool {
        let mut pending = std::mem::take(&mut self.pending);
        let any = pending != Section::default();
        let delete = pending.keys.remove("delete").unwrap_or_default();
        for key in delete.split([',', ';', ' ']).map(|key| key.strip_prefix('!').unwrap_or(key)) {
            self.main.keys.remove(key);
        }
        self.main.keys.append(&mut pending.keys);
        if !pending.lxc.is_empty() {
            self.main.lxc = pending.lxc;
        }
        any
    }

    /// Adds `key` to the keys that the next stop removes.
    pub fn delete_later(&mut self, key: &str) {
        self.pending.keys.remove(key);
        let list = self.pending.keys.entry("delete".into()).or_default();
        if !list.split(',').any(|other| other == key) {
            *list = if list.is_empty() { key.into() } else { format!("{list},{key}") };
        }
    }
}

impl Section {
    fn write(&self) -> String {
        let mut text = String::new();
        for line in &self.description {
            let _ = writeln!(text, "#{}", encode(line));
        }
        for (key, value) in &self.keys {
            let _ = writeln!(text, "{key}: {value}");
        }
        for (key, value) in &self.lxc {
            let _ = writeln!(text, "{key}: {value}");
        }
        text
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// What makes Proxmox VE treat a container as unprivileged: a boolean, or any other
    /// text, which is kept and true for Perl.
    pub fn unprivileged(&self) -> bool {
        let no = |value: &str| {
            ["0", "no", "off", "false"].iter().any(|word| value.eq_ignore_ascii_case(word))
        };
        self.get("unprivileged").is_some_and(|value| !no(value)) || self.custom_idmap()
    }

    pub fn custom_idmap(&self) -> bool {
        self.lxc.iter().any(|(key, _)| key == "lxc.idmap")
    }

    /// `dev[n]` in the order of their numbers: every key that is `dev` and digits.
    pub fn devices(&self) -> Result<Vec<(String, Device)>, String> {
        let mut found: Vec<(u64, &String, &String)> = Vec::new();
        for (key, value) in &self.keys {
            let digits = key.strip_prefix("dev").filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            let index = digits.and_then(|digits| digits.parse().ok());
            found.extend(index.map(|index| (index, key, value)));
        }
        found.sort();
        let parsed = found
            .into_iter()
            .map(|(_, key, value)| Device::parse(key, value).map(|device| (key.clone(), device)));
        parsed.collect()
    }
}

/// The value of a `dev[n]` key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub path: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub deny_write: bool,
}

impl Device {
    /// PVE::JSONSchema::parse_property_string, then the schema of dev[n].
    pub fn parse(key: &str, value: &str) -> Result<Device, String> {
        let wrong = |what: String| format!("{key}: {what}");
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        let mut default_used = false;
        for part in value.split(',').filter(|part| !part.trim().is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) if !name.is_empty() && !value.is_empty() => (name, value),
                Some(_) => {
                    return Err(wrong("missing key in comma-separated list property".into()));
                }
                None if default_used || seen.contains_key("path") => {
                    let what = "duplicate key in comma-separated list property: path";
                    return Err(wrong(what.into()));
                }
                None => {
                    default_used = true;
                    ("path", part)
                }
            };
            if !["path", "mode", "uid", "gid", "deny-write"].contains(&name) {
                let what = format!("invalid key in comma-separated list property: {name}");
                return Err(wrong(what));
            }
            if seen.insert(name, value).is_some() {
                let what = format!("duplicate key in comma-separated list property: {name}");
                return Err(wrong(what));
            }
        }
        let mut device =
            Device { path: String::new(), mode: 0o660, uid: 0, gid: 0, deny_write: false };
        for (name, value) in seen {
            let number = || -> Result<u32, String> {
                let digits = value.strip_prefix('+').unwrap_or(value);
                digits.parse().map_err(|_| wrong(format!("{name}: type check ('integer') failed")))
            };
            match name {
                "path" => device.path = value.to_string(),
                "mode" => {
                    let good = value.len() == 4
                        && value.starts_with('0')
                        && value.bytes().all(|b| (b'0'..=b'7').contains(&b));
                    let mode = u32::from_str_radix(value, 8).ok().filter(|_| good);
                    let what = "mode: value does not match the regex pattern";
                    device.mode = mode.ok_or_else(|| wrong(what.into()))?;
                }
                "uid" => device.uid = number()?,
                "gid" => device.gid = number()?,
                _ => match value.to_ascii_lowercase().as_str() {
                    "1" | "on" | "yes" | "true" => device.deny_write = true,
                    "0" | "off" | "no" | "false" => {}
                    _ => return Err(wrong("deny-write: type check ('boolean') failed".into())),
                },
            }
        }
        if device.path.is_empty() {
            return Err(format!("Path is not defined for passthrough device {key}"));
        }
        let mut parts = device.path.split('/');
        if !device.path.starts_with("/dev/") || parts.any(|part| part == "." || part == "..") {
            return Err(wrong(format!("{} is not a valid device path", device.path)));
        }
        Ok(device)
    }
}

fn section_name(line: &str) -> Option<&str> {
    let name = line.trim_end().strip_prefix('[')?.strip_suffix(']')?;
    let mut bytes = name.bytes();
    let snapshot = name.len() > 1
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    (snapshot || name.eq_ignore_ascii_case("pve:pending")).then_some(name)
}

fn lxc_line(line: &str) -> Option<(&str, &str)> {
    let end = line.find(|c: char| !matches!(c, 'a'..='z' | '0'..='9' | '_' | '-' | '.'))?;
    let (key, rest) = line.split_at(end);
    let value = rest.strip_prefix(':').or_else(|| rest.trim_start().strip_prefix('='))?;
    (key.starts_with("lxc.") && key.len() > 4).then_some((key, value.trim()))
}

fn key_line(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let word = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let good = word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    // white space alone is a value for `\s*(.+?)\s*$`
    let text = if value.trim().is_empty() {
        &value[value.len().saturating_sub(1)..]
    } else {
        value.trim()
    };
    (good && !text.is_empty()).then_some((key, text))
}

/// `lxc.*` keys that Proxmox VE takes; it drops all others.
fn allowed(key: &str) -> bool {
    const WHOLE: &str = "apparmor.profile apparmor.allow_incomplete apparmor.allow_nesting \
        apparmor.raw selinux.context include arch uts.name signal.halt signal.reboot signal.stop \
        init.cmd init.cwd init.uid init.gid init.groups pty.max console.logfile console.path \
        tty.max devtty.dir hook.autodev autodev kmsg mount.fstab mount.entry mount.auto \
        rootfs.mount cap.drop cap.keep seccomp.profile seccomp.notify.proxy \
        seccomp.notify.cookie idmap hook.pre-start hook.pre-mount hook.mount hook.start \
        hook.stop hook.post-stop hook.clone hook.destroy hook.version log.level log.file \
        start.auto start.delay start.order group environment sysctl.fs.mqueue";
    const PREFIXES: [&str; 6] =
        ["cgroup2.", "cgroup.", "prlimit.", "net.", "limit.", "sysctl.kernel."];
    // from before LXC 3: kept, and LXC refuses them
    const OLD: &str = "id_map aa_profile aa_allow_incomplete se_context haltsignal rebootsignal \
        stopsignal init_cmd console devttydir mount pts tty utsname seccomp logfile loglevel \
        network.type network.flags network.link network.mtu network.name network.hwaddr \
        network.ipv4 network.ipv4.gateway network.ipv6 network.ipv6.gateway network.script.up \
        network.script.down";
    let key = key.trim_start_matches("lxc.");
    OLD.split_whitespace().any(|one| one == key)
        || WHOLE.split_whitespace().any(|one| one == key)
        || PREFIXES.iter().any(|p| key.starts_with(p))
}

fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'%' | b':' => {}
            b' '..=b'~' => {
                out.push(char::from(byte));
                continue;
            }
            _ => {}
        }
        let _ = write!(out, "%{byte:02X}");
    }
    out
}

fn decode(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|h| u8::from_str_radix(h, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}
