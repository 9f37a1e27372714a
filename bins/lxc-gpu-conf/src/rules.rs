//! What is wrong with a container's device rules and other lxc lines.

use nvidia::NodeClass;
use record::LxcStyle;

use crate::access::{Access, Devices, Opening, Rule};
use crate::facts::Facts;
use crate::finding::{Cause, Finding};
use crate::plan::rule_major;
use crate::view::Granted;

/// What they are judged by.
pub struct Rules<'a> {
    /// The container.
    pub ctid: u32,
    /// Its configuration.
    pub access: &'a Access,
    /// Rules do nothing in it.
    pub unprivileged: bool,
    /// The nodes it is given.
    pub granted: &'a [Granted],
    /// This host's, where the container is this host's.
    pub facts: Option<&'a Facts<'a>>,
    /// Rules with numbers of before.
    pub stale: Vec<Rule>,
}

/// All findings.
pub fn judge(rules: &Rules<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    rules.v1(&mut found);
    rules.invalid(&mut found);
    rules.wiped(&mut found);
    if rules.unprivileged {
        rules.idle(&mut found);
    } else {
        rules.stale(&mut found);
        rules.uncovered(&mut found);
    }
    found
}

impl Rules<'_> {
    fn convert(&self) -> Option<String> {
        Some(format!("lxc-gpu-conf add {} --convert", self.ctid))
    }

    fn v1(&self, found: &mut Vec<Finding>) {
        for rule in &self.access.v1 {
            let key = rule.key().replace("cgroup2", "cgroup");
            found.push(Finding {
                property: key.clone(),
                expected: None,
                actual: Some(rule.text.clone()),
                reason: format!("'{key}: {}' does nothing: Proxmox VE uses cgroup v2", rule.text),
                hint: self.convert(),
                ..Finding::warning(Cause::CgroupV1)
            });
        }
    }

    fn invalid(&self, found: &mut Vec<Finding>) {
        for rule in self.access.rules.iter().filter(|rule| rule.what == Devices::Invalid) {
            found.push(Finding {
                property: rule.key().into(),
                expected: Some("c MAJOR:MINOR rwm".into()),
                actual: Some(rule.text.clone()),
                reason: format!(
                    "device rule '{}' is invalid: LXC says so in its log and goes on without it",
                    rule.text
                ),
                hint: Some("one space between type, numbers and access, and no comment".into()),
                ..Finding::error(Cause::InvalidRule)
            });
        }
    }

    fn wiped(&self, found: &mut Vec<Finding>) {
        if !self.access.wipes_dev_rules() {
            return;
        }
        let reason = match self.access.open_to_all() {
            true => {
                "'lxc.cgroup2.devices.deny: a' empties the list of rules, and with an empty list \
                 LXC lets the container open every device of the host"
            }
            false => {
                "'lxc.cgroup2.devices.deny: a' wipes out Proxmox VE's own rules, those for dev[n] \
                 too"
            }
        };
        found.push(Finding {
            property: "lxc.cgroup2.devices.deny".into(),
            expected: None,
            actual: Some("a".into()),
            reason: reason.into(),
            hint: Some("take that line out of the configuration".into()),
            ..Finding::error(Cause::WipedRules)
        });
    }

    /// In an unprivileged container each rule about our nodes is idle.
    fn idle(&self, found: &mut Vec<Finding>) {
        // behind a line of the user's that begins a list anew, rules count
        if self.access.wipes_dev_rules() {
            return;
        }
        for rule in self.access.rules.iter().filter(|rule| rule.allow) {
            let about = match &rule.what {
                Devices::Numbers { char: true, major: Some(major), .. } => {
                    *major == nvidia::GPU_MAJOR
                        || self.stale.contains(rule)
                        || self.facts.is_some_and(|facts| {
                            let drivers = nvidia::DYNAMIC_DRIVERS.iter();
                            drivers.filter_map(|name| facts.majors.major(name)).any(|m| m == *major)
                        })
                }
                Devices::Path { path, .. } => nvidia::classify(path).is_some(),
                _ => false,
            };
            if about {
                found.push(Finding {
                    property: rule.key().into(),
                    expected: None,
                    actual: Some(rule.text.clone()),
                    reason: format!(
                        "'{}' does nothing: an unprivileged container may open every device that \
                         is given to it and that its mode lets it open",
                        rule.text
                    ),
                    hint: self.convert(),
                    ..Finding::warning(Cause::IdleRule)
                });
            }
        }
    }

    fn stale(&self, found: &mut Vec<Finding>) {
        for rule in &self.stale {
            let majors = self.missing_majors();
            let now: Vec<String> =
                majors.iter().map(|(driver, major)| format!("{driver} {major}")).collect();
            let expected = match majors.as_slice() {
                [(_, major)] => rule_major(rule)
                    .map(|old| rule.text.replacen(&old.to_string(), &major.to_string(), 1)),
                _ => None,
            };
            found.push(Finding {
                property: rule.key().into(),
                expected,
                actual: Some(rule.text.clone()),
                reason: format!(
                    "'{}' is for a major that the driver had before (now: {})",
                    rule.text,
                    now.join(", ")
                ),
                hint: Some(format!("lxc-gpu-conf sync {}", self.ctid)),
                ..Finding::error(Cause::StaleRule)
            });
        }
    }

    /// Drivers whose mounted nodes no rule lets the container open.
    fn missing_majors(&self) -> Vec<(&'static str, u32)> {
        let mut majors: Vec<(&'static str, u32)> = self
            .granted
            .iter()
            .filter(|granted| granted.style != LxcStyle::Dev)
            .filter_map(|granted| {
                let class = granted.class?;
                let (driver, facts) = (class.driver()?, self.facts?);
                let numbers = facts.numbers(class)?;
                let opening = opening(granted, class, numbers);
                (!self.access.allows(&opening, false)).then_some((driver, numbers.0))
            })
            .collect();
        majors.sort_unstable();
        majors.dedup();
        majors
    }

    fn uncovered(&self, found: &mut Vec<Finding>) {
        for granted in self.granted {
            let Some(facts) = self.facts else { continue };
            let made_by_pve = granted.style == LxcStyle::Dev && !self.access.wipes_dev_rules();
            let node = facts.node(&granted.node.path).filter(host::Node::is_char);
            let class = granted.class.unwrap_or(NodeClass::Other);
            // nobody misses the right to reconfigure MIG
            if matches!(class, NodeClass::Cap(0 | 1)) {
                continue;
            }
            let numbers = facts.numbers(class).or(node.map(|node| (node.major, node.minor)));
            let Some(numbers) = numbers.filter(|_| !made_by_pve && node.is_some()) else {
                continue;
            };
            if self.access.allows(&opening(granted, class, numbers), false) {
                continue;
            }
            let (major, minor) = numbers;
            found.push(Finding {
                property: granted.target.clone(),
                expected: Some(format!("c {major}:{minor} {}", class.access())),
                actual: None,
                reason: format!(
                    "no device rule lets the container open {} ({major}:{minor})",
                    granted.target
                ),
                hint: Some(format!("lxc-gpu-conf sync {}", self.ctid)),
                ..Finding::error(Cause::NoRule)
            });
        }
    }
}

fn opening(granted: &Granted, class: NodeClass, numbers: (u32, u32)) -> Opening<'_> {
    Opening { path: &granted.node.path, major: numbers.0, minor: numbers.1, access: class.access() }
}
