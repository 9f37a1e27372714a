//! `/etc/pve/lxc/<CTID>.conf`, read as Proxmox VE reads it and written without
//! touching what is not ours.
//!
//! The grammar is that of pve-container's `parse_pct_config` (6.1.10): each line
//! is tried against its patterns in its order. Lines are bytes; what cannot be
//! understood is kept.

use std::collections::BTreeMap;

/// Which part of the file a line belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// The configuration that is in force.
    Main,
    /// Changes for the next start.
    Pending,
    /// A snapshot's copy.
    Snapshot(String),
}

/// What a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// White space.
    Blank,
    /// `[pve:pending]` or `[name]`.
    Header,
    /// `#` in column 0: the section's description, not a comment.
    Note,
    /// `lxc.x: y` or `lxc.x = y`.
    Lxc(String, String),
    /// `key: value`.
    Key(String, String),
    /// Something that Proxmox VE warns of and drops at its next write.
    Invalid,
}

/// What becomes of an `lxc.*` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// It goes.
    Remove,
    /// It becomes this key and value.
    Become(String, String),
}

/// A parsed file that remembers every byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    lines: Vec<Parsed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parsed {
    /// With its newline, where it has one.
    bytes: Vec<u8>,
    section: Section,
    /// How many headers are above it.
    block: usize,
    line: Line,
}

impl Conf {
    /// Parses a file. Everything is a valid file; see [`Line::Invalid`].
    pub fn parse(bytes: &[u8]) -> Conf {
        let (mut section, mut block) = (Section::Main, 0);
        let lines = bytes
            .split_inclusive(|b| *b == b'\n')
            .map(|raw| {
                let text = raw.strip_suffix(b"\n").unwrap_or(raw);
                if let Some(header) = header(text) {
                    (section, block) = (header, block + 1);
                    let (bytes, section) = (raw.to_vec(), section.clone());
                    return Parsed { bytes, section, block, line: Line::Header };
                }
                Parsed { bytes: raw.to_vec(), section: section.clone(), block, line: line(text) }
            })
            .collect();
        Conf { lines }
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|line| line.bytes.iter().copied()).collect()
    }

    /// The lines of a section. Of one that stands twice the last counts, whole
    /// (parse_pct_config gives it a new, empty hash at each header).
    fn section(&self, section: &Section) -> impl Iterator<Item = &Line> + use<'_> {
        let last = self.lines.iter().rfind(|l| l.section == *section).map(|l| l.block);
        self.lines.iter().filter(move |l| Some(l.block) == last).map(|l| &l.line)
    }

    /// Plain keys of a section; for a key with two lines the last one wins,
    /// as for Proxmox VE.
    pub fn keys(&self, section: &Section) -> BTreeMap<&str, &str> {
        self.section(section)
            .filter_map(|line| match line {
                Line::Key(key, value) => Some((key.as_str(), value.as_str())),
                _ => None,
            })
            .collect()
    }

    /// `lxc.*` entries of the main section, in order.
    pub fn lxc(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lxc_in(&Section::Main)
    }

    /// `lxc.*` entries of a section, in order.
    pub fn lxc_in(&self, section: &Section) -> impl Iterator<Item = (&str, &str)> + use<'_> {
        self.section(section).filter_map(|line| match line {
            Line::Lxc(key, value) => Some((key.as_str(), value.as_str())),
            _ => None,
        })
    }

    /// Names of snapshots.
    pub fn snapshots(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .lines
            .iter()
            .filter(|l| l.line == Line::Header)
            .filter_map(|l| match &l.section {
                Section::Snapshot(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        names.dedup();
        names
    }

    /// Keys that go away at the next start: `delete: dev3,!dev4` in the pending
    /// section, where `!` means by force and the list splits at commas,
    /// semicolons and white space.
    pub fn pending_deletions(&self) -> Vec<&str> {
        let pending = self.keys(&Section::Pending);
        let list = pending.get("delete").copied().unwrap_or("");
        list.split(|c: char| c == ',' || c == ';' || c.is_ascii_whitespace())
            .map(|name| name.strip_prefix('!').unwrap_or(name))
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// The plain keys that will be in force after the next start: main section
    /// with the pending one applied.
    pub fn effective(&self) -> BTreeMap<&str, &str> {
        let mut keys = self.keys(&Section::Main);
        for name in self.pending_deletions() {
            keys.remove(name);
        }
        let pending = self.keys(&Section::Pending);
        keys.extend(pending.into_iter().filter(|(key, _)| *key != "delete"));
        keys
    }

    /// `lxc.*` entries that will be in force after the next start: those of the
    /// pending section replace all of the main section (vmconfig_apply_pending moves
    /// the whole list).
    pub fn effective_lxc(&self) -> impl Iterator<Item = (&str, &str)> {
        let pending = self.lxc_in(&Section::Pending).next().is_some();
        self.lxc_in(if pending { &Section::Pending } else { &Section::Main })
    }

    /// Adds `key: value` to the main section, where Proxmox VE's own writer
    /// would put it: among plain keys in bytewise order, before `lxc.*`.
    pub fn insert_key(&mut self, key: &str, value: &str) {
        let end = self.main_end();
        let mut at = None;
        let mut after = None;
        for (index, parsed) in self.lines[..end].iter().enumerate() {
            match &parsed.line {
                Line::Key(other, _) if other.as_str() > key => {
                    at = Some(index);
                    break;
                }
                Line::Key(..) => after = Some(index + 1),
                Line::Note => after = after.or(Some(index + 1)).map(|a| a.max(index + 1)),
                _ => {}
            }
        }
        let first_lxc = self.lines[..end].iter().position(|l| matches!(l.line, Line::Lxc(..)));
        let at = at.or(after).or(first_lxc).unwrap_or(end);
        self.insert(at, Line::Key(key.into(), value.into()), &format!("{key}: {value}"));
    }

    /// Adds `key: value` behind the last `lxc.*` entry of the main section:
    /// their order counts.
    pub fn append_lxc(&mut self, key: &str, value: &str) {
        let end = self.main_end();
        let last = |test: fn(&Line) -> bool| self.lines[..end].iter().rposition(|l| test(&l.line));
        let at = last(|l| matches!(l, Line::Lxc(..)))
            .or_else(|| last(|l| !matches!(l, Line::Blank)))
            .map_or(0, |at| at + 1);
        self.insert(at, Line::Lxc(key.into(), value.into()), &format!("{key}: {value}"));
    }

    /// Gives a plain key of the main section another value: the line that is in
    /// force, which is the last one. Says whether there is such a line.
    pub fn set_key(&mut self, key: &str, value: &str) -> bool {
        let end = self.main_end();
        let at = self.lines[..end]
            .iter()
            .rposition(|l| matches!(&l.line, Line::Key(other, _) if other == key));
        let Some(at) = at else { return false };
        self.rewrite(at, Line::Key(key.into(), value.into()), &format!("{key}: {value}"));
        true
    }

    /// Gives `lxc.*` entries of the main section other values, or takes them
    /// away: `change` says for each key and value what becomes of it.
    pub fn change_lxc(&mut self, change: impl FnMut(&str, &str) -> Fate) {
        let mut change = change;
        let mut at = 0;
        while at < self.main_end() {
            let fate = match &self.lines[at].line {
                Line::Lxc(key, value) => change(key, value),
                _ => Fate::Keep,
            };
            match fate {
                Fate::Keep => at += 1,
                Fate::Remove => self.remove_at(at),
                Fate::Become(key, value) => {
                    let text = format!("{key}: {value}");
                    self.rewrite(at, Line::Lxc(key, value), &text);
                    at += 1;
                }
            }
        }
    }

    /// Takes a plain key out of the main section. Where it has two lines, both
    /// go: the first, which the last one hid, would come into force.
    pub fn remove_key(&mut self, key: &str) {
        let mut at = 0;
        while at < self.main_end() {
            match &self.lines[at].line {
                Line::Key(other, _) if other == key => self.remove_at(at),
                _ => at += 1,
            }
        }
    }

    /// Lines of the main section that Proxmox VE warns of and drops.
    pub fn invalid(&self) -> Vec<String> {
        self.lines[..self.main_end()]
            .iter()
            .filter(|l| l.line == Line::Invalid)
            .map(|l| to_text(trim(&l.bytes)))
            .collect()
    }

    /// Where the last line of the file has no newline, its successor has none
    /// either, so that taking a line away again leaves the file as it was.
    fn remove_at(&mut self, at: usize) {
        let removed = self.lines.remove(at);
        let last = at == self.lines.len();
        if last && !removed.bytes.ends_with(b"\n") {
            if let Some(before) = self.lines.last_mut() {
                before.bytes.pop();
            }
        }
    }

    /// Replaces a line's text and keeps its line ending.
    fn rewrite(&mut self, at: usize, line: Line, text: &str) {
        let parsed = &mut self.lines[at];
        let ending: &[u8] = match () {
            () if parsed.bytes.ends_with(b"\r\n") => b"\r\n",
            () if parsed.bytes.ends_with(b"\n") => b"\n",
            () => b"",
        };
        let mut bytes = text.as_bytes().to_vec();
        bytes.extend_from_slice(ending);
        *parsed = Parsed { bytes, section: parsed.section.clone(), block: parsed.block, line };
    }

    /// Index of the first line behind the main section.
    fn main_end(&self) -> usize {
        self.lines.iter().position(|l| l.section != Section::Main).unwrap_or(self.lines.len())
    }

    fn insert(&mut self, at: usize, line: Line, text: &str) {
        // lines end as the neighbour's do: a file from elsewhere may have CR LF
        let crlf = self.lines.get(at.saturating_sub(1)).is_some_and(|l| l.bytes.ends_with(b"\r\n"));
        let newline: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let before = at.checked_sub(1).and_then(|i| self.lines.get_mut(i));
        let mut bytes = text.as_bytes().to_vec();
        match before.filter(|before| !before.bytes.ends_with(b"\n")) {
            // only the file's last line has none: now this one is the last
            Some(before) => before.bytes.push(b'\n'),
            None => bytes.extend_from_slice(newline),
        }
        self.lines.insert(at, Parsed { bytes, section: Section::Main, block: 0, line });
    }
}

/// What Proxmox VE takes for a boolean (PVE::JSONSchema, parse_boolean).
pub fn boolean(value: &str) -> Option<bool> {
    let is = |words: [&str; 4]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    match () {
        () if is(["1", "on", "yes", "true"]) => Some(true),
        () if is(["0", "off", "no", "false"]) => Some(false),
        () => None,
    }
}

/// Perl's `\s`.
fn space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| !space(*b)).map_or(0, |at| at + 1);
    &text[..end]
}

fn trim(text: &[u8]) -> &[u8] {
    let text = trim_end(text);
    let start = text.iter().position(|b| !space(*b)).unwrap_or(text.len());
    &text[start..]
}

fn to_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `[pve:pending]` and `[name]`, in any case; a name has two characters or
/// more. Any other line in brackets is not a header: what follows it still
/// belongs to the section before.
fn header(text: &[u8]) -> Option<Section> {
    let inner = trim_end(text).strip_prefix(b"[")?.strip_suffix(b"]")?;
    if inner.eq_ignore_ascii_case(b"pve:pending") {
        return Some(Section::Pending);
    }
    let name = inner.len() >= 2
        && inner[0].is_ascii_alphabetic()
        && inner[1..].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    name.then(|| Section::Snapshot(to_text(inner)))
}

fn line(text: &[u8]) -> Line {
    if text.iter().all(|b| space(*b)) {
        return Line::Blank;
    }
    if text[0] == b'#' {
        return Line::Note;
    }
    lxc(text).or_else(|| key(text)).unwrap_or(Line::Invalid)
}

/// `^(lxc\.[a-z0-9_\-\.]+)(:|\s*=)\s*(.*?)\s*$`; the value may be empty.
fn lxc(text: &[u8]) -> Option<Line> {
    let rest = text.strip_prefix(b"lxc.")?;
    let part = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(b);
    let length = rest.iter().position(|b| !part(b))?;
    if length == 0 {
        return None;
    }
    let (key, rest) = text.split_at(4 + length);
    let value = match rest.strip_prefix(b":") {
        Some(value) => value,
        None => {
            let equals = rest.iter().position(|b| !space(*b))?;
            rest[equals..].strip_prefix(b"=")?
        }
    };
    Some(Line::Lxc(to_text(key), to_text(trim(value))))
}

/// `^([a-z][a-z_]*\d*):\s*(.+?)\s*$`; the value may not be empty. White space alone is
/// a value: `\s*` gives back its last character for `.+?`.
fn key(text: &[u8]) -> Option<Line> {
    let colon = text.iter().position(|b| *b == b':')?;
    let (key, rest) = (&text[..colon], &text[colon + 1..]);
    let value = match trim(rest) {
        b"" => &rest[rest.len().saturating_sub(1)..],
        value => value,
    };
    let digits = key.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let word = &key[..key.len() - digits];
    let valid = word.first().is_some_and(u8::is_ascii_lowercase)
        && word.iter().all(|b| b.is_ascii_lowercase() || *b == b'_');
    (valid && !value.is_empty()).then(|| Line::Key(to_text(key), to_text(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "#note%3A one\narch: amd64\ndev0: /dev/a\ndev3: /dev/b,mode=0666\nhostname: x\n\
        unprivileged: 1\nlxc.cap.drop:\nlxc.x.y = z \n\n[pve:pending]\ndelete: dev3, !foo\ndev4: /dev/c\n\n\
        [Snap-1]\ndev7: /dev/d\nlxc.x.y: old\n";

    fn keys(text: &str) -> Vec<(String, String)> {
        let conf = Conf::parse(text.as_bytes());
        conf.keys(&Section::Main).iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn every_byte_is_kept() {
        for text in [FILE, "", "\n", "a", "a: b", "\r\n[x]\n\u{0}\n", "a: b\r\nc: d\r\n"] {
            assert_eq!(Conf::parse(text.as_bytes()).bytes(), text.as_bytes());
        }
    }

    #[test]
    fn sections_are_told_apart() {
        let conf = Conf::parse(FILE.as_bytes());
        assert_eq!(conf.keys(&Section::Main)["dev3"], "/dev/b,mode=0666");
        assert_eq!(conf.keys(&Section::Pending)["dev4"], "/dev/c");
        assert_eq!(conf.snapshots(), ["Snap-1"]);
        assert_eq!(conf.lxc().collect::<Vec<_>>(), [("lxc.cap.drop", ""), ("lxc.x.y", "z")]);
        let effective = conf.effective();
        assert!(!effective.contains_key("dev3") && effective.contains_key("dev4"));
        assert!(!effective.contains_key("delete"));
    }

    #[test]
    fn lines_are_what_proxmox_takes_them_for() {
        for (text, is) in [
            ("  \t", Line::Blank),
            ("#x", Line::Note),
            (" #x", Line::Invalid),
            ("lxc.x : y", Line::Invalid),
            ("lxc.x=", Line::Lxc("lxc.x".into(), "".into())),
            ("lxc.x   = a b ", Line::Lxc("lxc.x".into(), "a b".into())),
            ("lxc.X: y", Line::Invalid),
            ("lxc.: y", Line::Invalid),
            ("lxc.x", Line::Invalid),
            ("net0:  name=eth0 ", Line::Key("net0".into(), "name=eth0".into())),
            ("foo_bar: x", Line::Key("foo_bar".into(), "x".into())),
            ("foo:", Line::Invalid),
            ("foo : x", Line::Invalid),
            ("foo-bar: x", Line::Invalid),
            ("dev0a: x", Line::Invalid),
            ("Foo: x", Line::Invalid),
            ("[special:x]", Line::Invalid),
            ("[a]", Line::Invalid),
            ("[my snap]", Line::Invalid),
        ] {
            assert_eq!(line(text.as_bytes()), is, "{text}");
            assert_eq!(header(text.as_bytes()), None, "{text}");
        }
        assert_eq!(header(b"[PVE:Pending] \r"), Some(Section::Pending));
        assert_eq!(header(b"[ab]"), Some(Section::Snapshot("ab".into())));
    }

    #[test]
    fn a_section_that_stands_twice_is_the_last_whole() {
        let conf = Conf::parse(
            b"dev0: /dev/a\n[pve:pending]\ndev1: /dev/b\n[snap]\nx: y\n[pve:pending]\ndev2: /dev/c\n",
        );
        assert_eq!(conf.effective().into_keys().collect::<Vec<_>>(), ["dev0", "dev2"]);
        let conf =
            Conf::parse(b"dev9: \nlxc.a: b\n[pve:pending]\ndelete: !!dev9 !dev8\nlxc.c: d\n");
        assert_eq!(conf.keys(&Section::Main)["dev9"], " ", "white space alone is a value");
        assert_eq!(conf.pending_deletions(), ["!dev9", "dev8"], "one ! is taken off");
        assert_eq!(conf.effective_lxc().collect::<Vec<_>>(), [("lxc.c", "d")]);
    }

    #[test]
    fn the_last_of_two_equal_keys_wins() {
        assert_eq!(keys("dev1: /dev/a\ndev1: /dev/b\n"), [("dev1".into(), "/dev/b".into())]);
    }

    #[test]
    fn keys_go_where_proxmox_would_put_them() {
        let mut conf = Conf::parse(FILE.as_bytes());
        conf.insert_key("dev1", "/dev/nvidia0,mode=0666");
        conf.insert_key("dev10", "/dev/nvidiactl");
        conf.append_lxc("lxc.mount.entry", "a b");
        let text = String::from_utf8(conf.bytes()).unwrap();
        assert!(text.starts_with(
            "#note%3A one\narch: amd64\ndev0: /dev/a\ndev1: /dev/nvidia0,mode=0666\n\
             dev10: /dev/nvidiactl\ndev3: /dev/b,mode=0666\nhostname: x\nunprivileged: 1\n\
             lxc.cap.drop:\nlxc.x.y = z \nlxc.mount.entry: a b\n\n[pve:pending]\n"
        ));
        assert_eq!(Conf::parse(text.as_bytes()), conf);
    }

    #[test]
    fn what_was_put_in_can_be_taken_out_again() {
        for text in [FILE, "", "arch: a", "arch: a\r\nb: c", "#n", "a: b\r", "\n\n", "[snap]\nx: y"]
        {
            let mut conf = Conf::parse(text.as_bytes());
            for key in ["dev7", "dev8"] {
                conf.insert_key(key, "x");
            }
            conf.append_lxc("lxc.mount.entry", "ours");
            conf.append_lxc("lxc.mount.entry", "ours too");
            assert!(conf.set_key("dev8", "y") && !conf.set_key("dev9", "y"));
            assert_eq!(Conf::parse(&conf.bytes()), conf);
            conf.remove_key("dev8");
            conf.remove_key("dev7");
            conf.change_lxc(|_, value| match value.starts_with("ours") {
                true => Fate::Remove,
                false => Fate::Keep,
            });
            assert_eq!(String::from_utf8(conf.bytes()).unwrap(), text);
        }
    }

    #[test]
    fn entries_change_in_place_and_only_in_the_main_section() {
        let mut conf = Conf::parse(b"lxc.a = 1\r\nlxc.b: 2\n[snap]\nlxc.a: 1\n");
        conf.change_lxc(|key, value| match key {
            "lxc.a" => Fate::Become(key.into(), format!("{value}{value}")),
            _ => Fate::Keep,
        });
        assert_eq!(conf.bytes(), b"lxc.a: 11\r\nlxc.b: 2\n[snap]\nlxc.a: 1\n");
        let conf = Conf::parse(b"x\n lxc.a: b\nlxc.x : y\n[s1]\nbad\n");
        assert_eq!(conf.invalid(), ["x", "lxc.a: b", "lxc.x : y"]);
    }

    #[test]
    fn odd_files_get_their_line_all_the_same() {
        for (before, after) in [
            ("", "dev0: x\n"),
            ("#n\n", "#n\ndev0: x\n"),
            ("arch: a", "arch: a\ndev0: x"),
            ("arch: a\r\nhostname: b\r\n", "arch: a\r\ndev0: x\r\nhostname: b\r\n"),
            ("lxc.a: b\n", "dev0: x\nlxc.a: b\n"),
            ("[snap]\ndev0: y\n", "dev0: x\n[snap]\ndev0: y\n"),
            ("hostname: b\n[snap]\narch: a\n", "dev0: x\nhostname: b\n[snap]\narch: a\n"),
        ] {
            let mut conf = Conf::parse(before.as_bytes());
            conf.insert_key("dev0", "x");
            assert_eq!(String::from_utf8(conf.bytes()).unwrap(), after, "{before:?}");
        }
        let mut conf = Conf::parse(b"arch: a\n\n[snap]\nlxc.a: b\n");
        conf.append_lxc("lxc.x", "y");
        assert_eq!(conf.bytes(), b"arch: a\nlxc.x: y\n\n[snap]\nlxc.a: b\n");
    }
}
