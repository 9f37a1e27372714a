//! The types of a plan: what a container is to be given, the lines that change,
//! and why nothing can be planned.

use std::collections::BTreeMap;

use advice::lxc_gpu_conf::{AddOptions, add};
use nvidia::NodeSpec;
use pve::{Conf, Fate};
use record::{CommandLine, Hint};

use crate::config::device_rules::NodeOpening;

/// How nodes are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStyle {
    /// `dev[n]`.
    Dev,
    /// `lxc.mount.entry` and, in a privileged container, device rules.
    Mount,
}

impl NodeStyle {
    /// The value of `--style`.
    pub fn name(self) -> &'static str {
        match self {
            NodeStyle::Dev => "dev",
            NodeStyle::Mount => "mount",
        }
    }
}

/// Owner and mode of a node inside the container, for `dev[n]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// Owner, an id of the container's.
    pub uid: Option<u32>,
    /// Group, an id of the container's.
    pub gid: Option<u32>,
    /// `0666`.
    pub mode: String,
    /// Given by the user: an existing entry with other values is changed.
    pub asked: bool,
}

impl NodeOptions {
    /// The options of a `dev[n]`, sorted as Proxmox VE prints them.
    pub fn pairs(&self) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::from([("mode".to_string(), self.mode.clone())]);
        pairs.extend(self.uid.map(|uid| ("uid".into(), uid.to_string())));
        pairs.extend(self.gid.map(|gid| ("gid".into(), gid.to_string())));
        pairs
    }
}

/// A node that the container is to have, with its numbers on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNode {
    /// Path and purpose.
    pub spec: NodeSpec,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Owner and mode inside.
    pub options: NodeOptions,
}

impl HostNode {
    /// How the container is to open it.
    pub fn opening(&self) -> NodeOpening<'_> {
        let access = self.spec.class.access();
        NodeOpening { path: &self.spec.path, major: self.major, minor: self.minor, access }
    }
}

/// A driver file that is mounted read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMount {
    /// Path on the host.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
}

/// The nodes and files that a container is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredAccess {
    /// Device nodes.
    pub nodes: Vec<HostNode>,
    /// Driver libraries; `None` leaves the mounted ones as they are.
    pub files: Option<Vec<FileMount>>,
    /// Mount entries and rules of these nodes are replaced by `dev[n]`.
    pub convert: bool,
}

/// One step: a line of the main section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigStep {
    /// `dev1`, `lxc.mount.entry`, `lxc.cgroup2.devices.allow`.
    pub key: String,
    /// Its value before; `None` for a new line.
    pub from: Option<String>,
    /// Its value after; `None` for a removed line.
    pub to: Option<String>,
    /// Why, where key and values do not show it.
    pub reason: Option<String>,
}

impl ConfigStep {
    /// The line stays as it is.
    pub fn is_unchanged(&self) -> bool {
        self.from == self.to
    }
}

/// Why nothing can be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The key or path that it concerns.
    pub property: String,
    /// One sentence without a full stop.
    pub reason: String,
    /// What to do next.
    pub hint: Hint,
}

/// The steps, and the configuration that they lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigPlan {
    /// In the order in which they are reported.
    pub steps: Vec<ConfigStep>,
    /// The configuration after all steps.
    pub conf: Conf,
}

/// The container that a plan is for.
#[derive(Clone, Debug, Default)]
pub struct ContainerFacts {
    /// Its id, for hints.
    pub ctid: u32,
    /// Its root is an unprivileged user of the host.
    pub unprivileged: bool,
    /// What was asked for, so that a hint can ask for the same.
    pub asked: AddOptions,
}

impl ContainerFacts {
    /// The command that asks for the same with other options.
    pub fn add_with(&self, change: impl FnOnce(&mut AddOptions)) -> CommandLine {
        let mut options = self.asked.clone();
        change(&mut options);
        add(self.ctid, &options)
    }
}

impl ConfigPlan {
    /// An empty plan.
    pub fn of(conf: &Conf) -> ConfigPlan {
        ConfigPlan { steps: Vec::new(), conf: conf.clone() }
    }

    /// Whether a line changes.
    pub fn changes(&self) -> bool {
        self.steps.iter().any(|step| !step.is_unchanged())
    }

    /// Whether the only changes are new `dev[n]`.
    pub fn only_adds_dev(&self) -> bool {
        let mut steps = self.steps.iter().filter(|step| !step.is_unchanged());
        self.changes() && steps.all(|step| step.from.is_none() && step.key.starts_with("dev"))
    }

    /// Adds a line.
    pub fn add(&mut self, key: &str, value: String) {
        if key.starts_with("lxc.") {
            self.conf.append_lxc(key, &value);
        } else {
            self.conf.insert_key(key, &value);
        }
        self.step(key, None, Some(value), None);
    }

    /// Notes a line that stays. It is reported once, also where it serves several
    /// nodes.
    pub fn unchanged(&mut self, key: &str, value: &str) {
        if !self.steps.iter().any(|step| step.key == key && step.to.as_deref() == Some(value)) {
            self.step(key, Some(value.into()), Some(value.into()), None);
        }
    }

    /// Notes a step that the configuration has already.
    pub fn step(&mut self, key: &str, from: Option<String>, to: Option<String>, why: Option<&str>) {
        self.steps.push(ConfigStep { key: key.into(), from, to, reason: why.map(str::to_string) });
    }

    /// Removes the `lxc.*` entries for which `which` returns a reason.
    pub fn remove_lxc(&mut self, which: impl Fn(&str, &str) -> Option<&'static str>) {
        let mut taken = Vec::new();
        self.conf.change_lxc(|key, value| match which(key, value) {
            Some(why) => {
                taken.push((key.to_string(), value.to_string(), why));
                Fate::Remove
            }
            None => Fate::Keep,
        });
        for (key, value, why) in taken {
            let why = Some(why).filter(|why| !why.is_empty());
            self.step(&key, Some(value), None, why);
        }
    }

    /// Changes the value of a key.
    pub fn set(&mut self, key: &str, from: &str, to: String, why: &str) {
        self.conf.set_key(key, &to);
        self.step(key, Some(from.into()), Some(to), Some(why));
    }
}
