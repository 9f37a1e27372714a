//! What is wrong with what a configuration gives: its lines, its nodes, and what
//! a running container has of them.

use std::collections::{BTreeMap, BTreeSet};

use nvidia::NodeClass;
use pve::Section;
use record::{LxcStyle, Severity};

use crate::facts::Facts;
use crate::finding::{Cause, Finding};
use crate::mend::stale_rules;
use crate::rules;
use crate::view::{Granted, NO_START, View, makeable, no_access, numbers, shuts_out};

impl View<'_> {
    pub(crate) fn judge(&mut self) {
        self.judge_sections();
        if !self.has_gpu() {
            return;
        }
        for granted in self.granted.clone() {
            self.judge_node(&granted);
        }
        self.judge_twice();
        rules::judge(&self.rules_of()).into_iter().for_each(|finding| self.found(finding));
        self.judge_mig();
        self.judge_cards();
        self.judge_userspace();
        self.judge_version();
        self.judge_running();
    }

    /// dev[n] that this Proxmox VE takes for a key it does not know.
    pub(crate) fn judge_version(&mut self) {
        let Some(facts) = self.facts else { return };
        let Some(dev) = self.granted.iter().find(|g| g.style == LxcStyle::Dev) else { return };
        let key = dev.node.key.clone();
        let Ok(Some(version)) = facts.pve_container() else { return };
        if !pve::has_dev(version) {
            let version: Vec<String> = version.iter().map(u32::to_string).collect();
            self.found(Finding {
                property: key,
                expected: Some("pve-container 5.0.7".into()),
                actual: Some(version.join(".")),
                reason: "this Proxmox VE does not know dev[n]: the container gets nothing".into(),
                hint: Some(format!(
                    "upgrade pve-container, or 'lxc-gpu-conf remove {0}' and 'lxc-gpu-conf add {0} \
                     --gpu ... --style mount'",
                    self.guest.ctid
                )),
                ..Finding::error(Cause::OldProxmox)
            });
        }
    }

    /// A running container has what its configuration gave when it started.
    pub(crate) fn judge_running(&mut self) {
        let Some(facts) = self.facts else { return };
        let Some(pid) = facts.init_pid(self.guest.ctid) else { return };
        let Ok(root) = facts.machine.container_root(&format!("/proc/{pid}/root")) else { return };
        let ctid = self.guest.ctid;
        for granted in self.granted.clone() {
            let host = facts.node(&granted.node.path).filter(host::Node::is_char);
            let Some(host) = host else { continue };
            let Ok(inside) = root.node(&granted.target) else { continue };
            let actual = match inside {
                Some(node) if (node.major, node.minor) == (host.major, host.minor) => continue,
                Some(node) if node.is_char() => Some(format!("{}:{}", node.major, node.minor)),
                Some(_) => Some("no device".into()),
                None => None,
            };
            let what = match &actual {
                None => "does not have it".into(),
                Some(actual) => format!("has {actual} there"),
            };
            self.found(Finding {
                property: granted.target.clone(),
                expected: Some(format!("{}:{}", host.major, host.minor)),
                actual,
                reason: format!("{}: the running container {what}", granted.target),
                hint: Some(format!("pct reboot {ctid}")),
                ..Finding::error(Cause::NotRestarted)
            });
        }
    }

    /// Entries of sections that are not in force, which is what `echo >>` leaves
    /// behind in a container that has snapshots; and lines that Proxmox VE drops.
    pub(crate) fn judge_sections(&mut self) {
        let mut found = Vec::new();
        for name in self.conf.snapshots() {
            let section = Section::Snapshot(name.to_string());
            let keys = self.conf.keys(&section);
            let devs = keys.iter().map(|(key, value)| format!("{key}: {value}"));
            let lxc = self.conf.lxc_in(&section).map(|(key, value)| format!("{key}: {value}"));
            let lines: Vec<String> =
                devs.chain(lxc).filter(|line| line.contains("/dev/nvidia")).collect();
            // a snapshot taken with the GPU has a copy of what is in force
            if lines.is_empty() || self.has_gpu() {
                continue;
            }
            found.push(Finding {
                property: format!("[{name}]"),
                expected: None,
                actual: Some(lines[0].clone()),
                reason: format!(
                    "{} lines for a GPU stand in snapshot '{name}' only and have no effect: lines \
                     at the end of the file belong to its last section",
                    lines.len()
                ),
                hint: Some(format!("lxc-gpu-conf add {} --gpu all", self.guest.ctid)),
                ..Finding::warning(Cause::SnapshotOnly)
            });
        }
        if self.has_gpu() {
            for line in self.conf.invalid().iter().filter(|line| line.contains("lxc.")) {
                found.push(Finding {
                    property: "lxc".into(),
                    expected: None,
                    actual: Some(line.clone()),
                    reason: format!(
                        "'{line}' is no line for Proxmox VE: it has no effect, and goes away when \
                         the file is next written"
                    ),
                    hint: Some("take it out, or write it as 'lxc.key: value'".into()),
                    ..Finding::warning(Cause::DroppedLine)
                });
            }
        }
        let keys: BTreeSet<String> = self.conf.lxc().map(|(key, _)| key.to_string()).collect();
        for key in keys.iter().filter(|key| !pve::is_permitted_lxc_key(key) && self.has_gpu()) {
            found.push(Finding {
                property: key.clone(),
                expected: None,
                actual: Some(key.clone()),
                reason: format!(
                    "Proxmox VE does not permit '{key}': it has no effect, and goes away when the \
                     file is next written"
                ),
                hint: Some("see 'lxc' in pct.conf(5) for what is permitted".into()),
                ..Finding::warning(Cause::ForbiddenKey)
            });
        }
        found.into_iter().for_each(|finding| self.found(finding));
    }

    /// The node on the host, and what becomes of it in the container.
    pub(crate) fn judge_node(&mut self, granted: &Granted) {
        let path = granted.node.path.clone();
        let dev = granted.style == LxcStyle::Dev;
        if granted.class == Some(NodeClass::Cap(1)) {
            self.found(Finding {
                property: granted.target.clone(),
                expected: None,
                actual: Some(granted.node.key.clone()),
                reason: format!(
                    "{} lets the container reconfigure MIG: make and destroy instances of every GPU",
                    granted.target
                ),
                // a single node cannot be taken out of a mounted directory
                hint: Some(match dev || self.access.mount(&granted.target).is_some() {
                    true => format!("lxc-gpu-conf remove {} --node {path}", self.guest.ctid),
                    false => format!(
                        "'lxc-gpu-conf add {} --convert' with --mig GI/CI for each instance that \
                         it uses",
                        self.guest.ctid
                    ),
                }),
                ..Finding::error(Cause::MigAdmin)
            });
        }
        let Some(facts) = self.facts else { return };
        if dev && facts.is_link(&path) {
            self.found(Finding {
                property: granted.node.key.clone(),
                expected: facts.drm_path(&path),
                actual: Some(path.clone()),
                reason: format!(
                    "{path} is a link: the container gets the node under this name and no other"
                ),
                hint: Some("name the node itself".into()),
                ..Finding::warning(Cause::LinkPath)
            });
        }
        match facts.node(&path) {
            None => {
                let what =
                    if dev { NO_START } else { "the container finds an empty file in its place" };
                self.found(Finding {
                    property: path.clone(),
                    expected: Some("a character device".into()),
                    actual: None,
                    reason: format!("{path} does not exist on the host: {what}"),
                    hint: self.node_hint(facts, granted),
                    ..Finding::error(Cause::MissingNode)
                });
            }
            Some(node) if !node.is_char() => self.found(Finding {
                property: path.clone(),
                expected: Some("a character device".into()),
                actual: Some("no device".into()),
                reason: format!(
                    "{path} is no character device on the host: an empty file that a failed mount \
                     left there"
                ),
                hint: self.node_hint(facts, granted),
                ..Finding::error(Cause::Stub)
            }),
            Some(node) => {
                if !dev && self.unprivileged && shuts_out(&self.conf, &node, granted.class) {
                    let severity = match granted.class {
                        Some(_) => Severity::Error,
                        // CUDA works without
                        None => Severity::Warning,
                    };
                    self.found(Finding {
                        property: granted.target.clone(),
                        expected: Some("0666".into()),
                        actual: Some(format!("{:04o}", node.mode)),
                        severity,
                        reason: no_access(&path, node.mode),
                        hint: Some(format!("lxc-gpu-conf add {} --convert", self.guest.ctid)),
                        ..Finding::error(Cause::NoAccess)
                    });
                }
                let Some(class) = granted.class else { return };
                let major = facts.major(class);
                let wrong = crate::plan::check_numbers(class, node.major, node.minor, major);
                if let Err(why) = wrong {
                    let numbers = facts.numbers(class);
                    self.found(Finding {
                        property: path.clone(),
                        expected: numbers.map(|(major, minor)| format!("{major}:{minor}")),
                        actual: Some(format!("{}:{}", node.major, node.minor)),
                        reason: format!("{path} on the host {why}"),
                        hint: self.node_hint(facts, granted),
                        ..Finding::error(Cause::StaleNode)
                    });
                }
            }
        }
    }

    /// What mends a node that is wrong, where anything does.
    pub(crate) fn node_hint(&self, facts: &Facts<'_>, granted: &Granted) -> Option<String> {
        let (ctid, path) = (self.guest.ctid, &granted.node.path);
        let mends = makeable(facts, granted.class) || self.moved(facts).contains_key(path);
        Some(match mends {
            true => format!("lxc-gpu-conf sync {ctid}"),
            false => format!("lxc-gpu-conf remove {ctid} --node {path}"),
        })
    }

    pub(crate) fn judge_twice(&mut self) {
        let mut seen: BTreeMap<String, LxcStyle> = BTreeMap::new();
        for granted in self.granted.clone() {
            let Some(first) = seen.insert(granted.target.clone(), granted.style) else { continue };
            let fatal = first != granted.style || granted.style == LxcStyle::Dev;
            self.found(Finding {
                property: granted.target.clone(),
                expected: None,
                actual: Some(granted.node.key.clone()),
                reason: match fatal {
                    true => format!(
                        "{} is given twice: the container cannot start (mknod: file exists)",
                        granted.target
                    ),
                    false => format!("{} is mounted twice", granted.target),
                },
                hint: Some(format!("lxc-gpu-conf add {} --convert", self.guest.ctid)),
                ..Finding::error(Cause::GivenTwice)
            });
        }
    }

    pub(crate) fn rules_of(&self) -> rules::Rules<'_> {
        let stale = match self.facts {
            Some(facts) => stale_rules(&self.access, &numbers(&self.access, facts)),
            None => Vec::new(),
        };
        rules::Rules {
            ctid: self.guest.ctid,
            access: &self.access,
            unprivileged: self.unprivileged,
            granted: &self.granted,
            facts: self.facts,
            stale,
        }
    }
}
