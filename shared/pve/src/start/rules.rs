//! The device rules of a container as LXC makes a program of them for the kernel
//! (cgroup2_devices.c and cgfsng.c of 5.0.2; 6.0.4 does the same).

/// One `lxc.cgroup2.devices.allow` or `.deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    allow: bool,
    kind: char,
    major: Option<u32>,
    minor: Option<u32>,
    access: String,
    /// The value of the line.
    text: String,
}

/// The list of rules, with what is done where none matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceList {
    /// Everything is denied that no rule allows; else everything is allowed that no
    /// rule denies.
    denies: bool,
    items: Vec<Item>,
}

/// Type and numbers of the device at a path of the host.
pub type NumberOf<'a> = &'a dyn Fn(&str) -> Option<(char, u32, u32)>;

/// A rule that LXC cannot parse: it logs an error and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRule;

/// What every container has from LXC's common.conf, privileged or not.
const COMMON: [&str; 12] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
    "c 10:229 rwm",
];

impl DeviceList {
    /// The lines of a privileged container before those of its own configuration.
    pub fn common(unprivileged: bool) -> Vec<(bool, String)> {
        if unprivileged {
            // lxc-pve-userns.conf: an empty list, then everything is allowed
            return vec![(true, "a".into())];
        }
        let allowed = COMMON.iter().map(|rule| (true, (*rule).to_string()));
        std::iter::once((false, "a".to_string())).chain(allowed).collect()
    }

    /// The list after all lines, each with whether it allows. `number` gives type and
    /// numbers of a path. An empty value takes back all lines of its key before it.
    pub fn of(lines: &[(bool, String)], number: NumberOf<'_>) -> DeviceList {
        let mut kept: Vec<&(bool, String)> = Vec::new();
        for line in lines {
            match line.1.is_empty() {
                true => kept.retain(|other| other.0 != line.0),
                false => kept.push(line),
            }
        }
        let mut list = DeviceList { denies: true, items: Vec::new() };
        for (allow, text) in kept {
            // LXC logs what it cannot parse and goes on
            let _ = list.add(*allow, text, number);
        }
        list
    }

    fn add(&mut self, allow: bool, text: &str, number: NumberOf<'_>) -> Result<(), InvalidRule> {
        if text == "a" {
            self.denies = !allow;
            self.items.clear();
            return Ok(());
        }
        let item = match allow && text.starts_with('/') {
            true => path_rule(text, number)?,
            false => number_rule(allow, text)?,
        };
        let denies = self.denies;
        let same = |other: &&mut Item| {
            (other.kind, other.major, other.minor, &other.access)
                == (item.kind, item.major, item.minor, &item.access)
                && other.allow == denies
        };
        match self.items.iter_mut().find(same) {
            Some(other) => {
                if other.allow != item.allow {
                    other.text.clone_from(&item.text);
                }
                other.allow = item.allow;
            }
            // the newest rule is the first in the program
            None => self.items.insert(0, item),
        }
        Ok(())
    }

    /// The rules that count: an allow list has only rules that allow, and the reverse.
    fn effective(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.allow == self.denies)
    }

    /// Whether opening a device is allowed; where not, the rule that denies it, if it
    /// is one. `access` has `r` and `w`.
    pub fn opening(
        &self,
        kind: char,
        major: u32,
        minor: u32,
        access: &str,
    ) -> Result<(), Option<&str>> {
        // without rules LXC attaches no program, and everything opens
        if self.items.is_empty() {
            return Ok(());
        }
        let covers = |item: &&Item| {
            matches!(item.kind, k if k == 'a' || k == kind)
                && item.major.is_none_or(|m| m == major)
                && item.minor.is_none_or(|m| m == minor)
                && access.chars().all(|one| item.access.contains(one))
        };
        let rule = self.effective().find(covers);
        match (rule, self.denies) {
            (Some(_), true) | (None, false) => Ok(()),
            (Some(rule), false) => Err(Some(&rule.text)),
            (None, true) => {
                let flipped = self.items.iter().find(covers).filter(|item| !item.allow);
                Err(flipped.map(|item| item.text.as_str()))
            }
        }
    }

    /// Whether LXC has no rule at all, so that every device opens.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether everything is denied that no rule allows.
    pub fn denies_by_default(&self) -> bool {
        self.denies
    }

    /// The value of a rule behind which no instruction can be reached: the kernel does
    /// not load such a program, and the container does not start.
    pub fn unloadable(&self) -> Option<&str> {
        let all = |item: &&Item| {
            item.kind == 'a'
                && item.major.is_none()
                && item.minor.is_none()
                && "rwm".chars().all(|one| item.access.contains(one))
        };
        self.effective().find(all).map(|item| item.text.as_str())
    }
}

/// Whether LXC can parse the value of a rule.
pub fn is_valid_rule(allow: bool, text: &str) -> bool {
    text.is_empty()
        || text == "a"
        || match allow && text.starts_with('/') {
            true => path_parts(text).is_ok(),
            false => number_rule(allow, text).is_ok(),
        }
}

/// `device_cgroup_parse_access`: it stops after three letters, so that `rwm # x` is
/// valid and `rw # x` is not.
fn access_of(text: &str) -> Result<String, InvalidRule> {
    let letters: String = text.chars().take(3).collect();
    let valid = letters.bytes().all(|b| b"rwm".contains(&b));
    if valid { Ok(letters) } else { Err(InvalidRule) }
}

/// `c 195:0 rwm`: one character of white space between the parts.
fn number_rule(allow: bool, text: &str) -> Result<Item, InvalidRule> {
    let space = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
    let mut words = text.splitn(3, space);
    let mut next = || words.next().ok_or(InvalidRule);
    let (kind, numbers, access) = (next()?, next()?, next()?);
    let (major, minor) = numbers.split_once(':').ok_or(InvalidRule)?;
    if !matches!(kind, "a" | "b" | "c") {
        return Err(InvalidRule);
    }
    let number = |text: &str| match text {
        "*" => Ok(None),
        text if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().map(Some).map_err(|_| InvalidRule)
        }
        _ => Err(InvalidRule),
    };
    Ok(Item {
        allow,
        kind: kind.chars().next().ok_or(InvalidRule)?,
        major: number(major)?,
        minor: number(minor)?,
        access: access_of(access)?,
        text: text.to_string(),
    })
}

/// `/dev/nvidia-uvm rwm`.
fn path_parts(text: &str) -> Result<(&str, String), InvalidRule> {
    let (path, rest) = text.split_once(' ').ok_or(InvalidRule)?;
    let mode = rest.trim_start_matches(' ').split(' ').next().unwrap_or_default();
    if mode.is_empty() {
        return Err(InvalidRule);
    }
    Ok((path, access_of(mode)?))
}

fn path_rule(text: &str, number: NumberOf<'_>) -> Result<Item, InvalidRule> {
    let (path, access) = path_parts(text)?;
    let (kind, major, minor) = number(path).ok_or(InvalidRule)?;
    let (major, minor) = (Some(major), Some(minor));
    Ok(Item { allow: true, kind, major, minor, access, text: text.to_string() })
}
