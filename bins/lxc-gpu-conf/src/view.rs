//! What a container has of this host's GPUs, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::Failure;
use host::{Machine, NodeKind};
use nvidia::{Capability, NodeClass, classify};
use pve::{Conf, Guest, Section};
use record::{LxcGpu, LxcNode, LxcStyle};

use crate::access::{Access, is_userspace};
use crate::facts::Facts;
use crate::finding::{Cause, Finding};
use crate::plan::{Numbers, stale_rules};
use crate::rules;
use crate::state::{self, State};

/// One node as the configuration gives it.
#[derive(Clone, Debug)]
pub struct Granted {
    /// For the record.
    pub node: LxcNode,
    /// Path in the container.
    pub target: String,
    /// What it is, where it is NVIDIA's.
    pub class: Option<NodeClass>,
    /// How it is given.
    pub style: LxcStyle,
}

/// One container.
pub struct View<'a> {
    /// The container.
    pub guest: &'a Guest,
    facts: Option<&'a Facts<'a>>,
    /// Its configuration.
    pub conf: Conf,
    /// What that gives.
    pub access: Access,
    /// Its root is an unprivileged user of the host.
    pub unprivileged: bool,
    /// The nodes.
    pub granted: Vec<Granted>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    state: Option<State>,
}

/// Whether a configuration can say anything of NVIDIA's GPUs at all: nine of
/// ten containers need not be looked at further.
pub fn concerns_gpu(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"nvidia").is_some()
}

/// The numbers that rules are held against.
pub fn numbers(access: &Access, facts: &Facts<'_>) -> Numbers {
    let mut numbers = Numbers::default();
    for driver in nvidia::DYNAMIC_DRIVERS {
        numbers.drivers.extend(facts.majors.major(driver).map(|major| (driver, major)));
    }
    let paths = access.devs.values().map(|dev| &dev.path);
    let sources = access.mounts.iter().map(|mount| &mount.source);
    for path in paths.chain(sources).filter(|path| path.starts_with("/dev/")) {
        if classify(path).is_none() {
            let node = facts.node(path).filter(host::Node::is_char);
            numbers.others.extend(node.map(|node| node.major));
        }
    }
    numbers
}

impl<'a> View<'a> {
    /// Looks at a container. `facts` are this host's; `None` for a container of
    /// another node, whose nodes and numbers cannot be known here.
    pub fn of(
        guest: &'a Guest,
        bytes: &[u8],
        facts: Option<&'a Facts<'a>>,
    ) -> Result<View<'a>, Failure> {
        let conf = Conf::parse(bytes);
        let access = Access::of(&conf);
        let mut view = View {
            guest,
            facts,
            unprivileged: pve::is_unprivileged(&conf),
            granted: Vec::new(),
            findings: Vec::new(),
            state: facts.and_then(|facts| state::load(facts.machine, guest.ctid)),
            access,
            conf,
        };
        let devs = view.access.devs.clone();
        for (key, dev) in &devs {
            let mode = dev.options.get("mode").cloned().unwrap_or_else(|| "0660".into());
            view.grant(key, &dev.path, &dev.path, Some(mode), LxcStyle::Dev);
        }
        for mount in view.access.mounts.clone() {
            view.grant_mount(&mount.source, &mount.target)?;
        }
        view.judge();
        Ok(view)
    }

    /// Whether there is anything of NVIDIA's.
    pub fn has_gpu(&self) -> bool {
        self.granted.iter().any(|g| g.class.is_some())
            || self.access.mounts.iter().any(|mount| is_userspace(&mount.target))
    }

    fn machine(&self) -> Option<&Machine> {
        self.facts.map(|facts| facts.machine)
    }

    /// One mount entry; a mounted directory gives every node in it.
    fn grant_mount(&mut self, source: &str, target: &str) -> Result<(), Failure> {
        let key = "lxc.mount.entry";
        let dir = self
            .facts
            .filter(|_| source.starts_with("/dev/"))
            .and_then(|facts| facts.node(source))
            .is_some_and(|node| node.kind == NodeKind::Dir);
        let (true, Some(machine)) = (dir, self.machine()) else {
            self.grant(key, source, target, None, LxcStyle::Mount);
            return Ok(());
        };
        for name in machine.nodes_in(source)? {
            let (source, target) = (format!("{source}/{name}"), format!("{target}/{name}"));
            self.grant(key, &source, &target, None, LxcStyle::Mount);
        }
        Ok(())
    }

    fn grant(
        &mut self,
        key: &str,
        path: &str,
        target: &str,
        mode: Option<String>,
        style: LxcStyle,
    ) {
        let class = classify(target);
        if class.is_none() && self.facts.and_then(|facts| facts.of_drm(path)).is_none() {
            return;
        }
        let node = self.facts.and_then(|facts| facts.node(path)).filter(host::Node::is_char);
        self.granted.push(Granted {
            node: LxcNode {
                path: path.into(),
                key: key.into(),
                major: node.map(|n| n.major),
                minor: node.map(|n| n.minor),
                mode,
                present: self.facts.map(|_| node.is_some()),
            },
            target: target.into(),
            class,
            style,
        });
    }

    /// Notes what is wrong.
    fn found(&mut self, finding: Finding) {
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn judge(&mut self) {
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
    fn judge_version(&mut self) {
        let Some(facts) = self.facts else { return };
        let Some(dev) = self.granted.iter().find(|g| g.style == LxcStyle::Dev) else { return };
        let key = dev.node.key.clone();
        let Some(version) = facts.pve_container() else { return };
        if !pve::has_dev(version) {
            let version: Vec<String> = version.iter().map(u32::to_string).collect();
            self.found(Finding {
                property: key,
                expected: Some("pve-container 5.0.7".into()),
                actual: Some(version.join(".")),
                reason: "this Proxmox VE does not know dev[n]: the container gets nothing".into(),
                hint: Some("upgrade, or use --style mount".into()),
                ..Finding::error(Cause::OldProxmox)
            });
        }
    }

    /// A running container has what its configuration gave when it started.
    fn judge_running(&mut self) {
        let Some(facts) = self.facts else { return };
        let Some(pid) = pve::init_pid(facts.machine, self.guest.ctid) else { return };
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
    fn judge_sections(&mut self) {
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
    fn judge_node(&mut self, granted: &Granted) {
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
                hint: Some(format!("lxc-gpu-conf remove {} --node {path}", self.guest.ctid)),
                ..Finding::error(Cause::MigAdmin)
            });
        }
        let Some(facts) = self.facts else { return };
        if dev && facts.machine.is_link(&path) {
            self.found(Finding {
                property: granted.node.key.clone(),
                expected: None,
                actual: Some(path.clone()),
                reason: format!(
                    "{path} is a link: the container gets the node under this name and no other"
                ),
                hint: Some("name the node itself".into()),
                ..Finding::warning(Cause::LinkPath)
            });
        }
        let hint = Some(format!("lxc-gpu-conf sync {}", self.guest.ctid));
        match facts.node(&path) {
            None => {
                let what = if dev {
                    "the container cannot start"
                } else {
                    "the container finds an empty file in its place"
                };
                self.found(Finding {
                    property: path.clone(),
                    expected: Some("a character device".into()),
                    actual: None,
                    reason: format!("{path} does not exist on the host: {what}"),
                    hint,
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
                hint,
                ..Finding::error(Cause::Stub)
            }),
            Some(node) => {
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
                        hint,
                        ..Finding::error(Cause::StaleNode)
                    });
                }
            }
        }
    }

    fn judge_twice(&mut self) {
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

    fn rules_of(&self) -> rules::Rules<'_> {
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

    /// Instances with both capabilities, existing, and with their GPU.
    fn judge_mig(&mut self) {
        let Some(facts) = self.facts else { return };
        let caps: BTreeSet<u32> = self
            .granted
            .iter()
            .filter_map(|g| match g.class {
                Some(NodeClass::Cap(minor)) if minor > 2 => Some(minor),
                _ => None,
            })
            .collect();
        let mig = facts.mig();
        let gpus = self.minors();
        let mut found = Vec::new();
        for cap in &caps {
            let (gpu, gi) = match mig.capabilities.get(cap) {
                Some(Capability::Gi(gpu, gi) | Capability::Ci(gpu, gi, _)) => (*gpu, *gi),
                _ => continue,
            };
            let finding = |cause, reason: String, hint: String| Finding {
                property: nvidia::cap_path(*cap),
                expected: None,
                actual: Some(format!("gpu{gpu}/gi{gi}")),
                reason,
                hint: Some(hint),
                ..Finding::error(cause)
            };
            let remove = format!("lxc-gpu-conf remove {}", self.guest.ctid);
            let exists = mig.instances.iter().any(|i| i.gi_cap == *cap || i.ci_cap == *cap);
            if !exists {
                let reason = format!("the MIG instance of nvidia-cap{cap} does not exist now");
                found.push(finding(
                    Cause::MigGone,
                    reason,
                    format!("make it again, or '{remove}'"),
                ));
                continue;
            }
            let paired = mig.instances.iter().any(|i| {
                (i.gi_cap == *cap || i.ci_cap == *cap)
                    && caps.contains(&i.gi_cap)
                    && caps.contains(&i.ci_cap)
            });
            if !paired {
                let reason = format!(
                    "nvidia-cap{cap} alone opens nothing: an instance needs the capabilities of \
                     its GPU instance and of its compute instance"
                );
                let ci = mig.instances.iter().find(|i| i.gi == gi && i.gpu == gpu);
                let ci = ci.map_or(0, |i| i.ci);
                let hint =
                    format!("lxc-gpu-conf add {} --gpu {gpu} --mig {gi}/{ci}", self.guest.ctid);
                found.push(finding(Cause::MigPair, reason, hint));
            }
            if !gpus.contains(&gpu) {
                let reason = format!("nvidia-cap{cap} needs /dev/nvidia{gpu} beside it");
                let hint = format!("lxc-gpu-conf add {} --gpu {gpu}", self.guest.ctid);
                found.push(finding(Cause::MigParent, reason, hint));
            }
        }
        found.into_iter().for_each(|finding| self.found(finding));
    }

    /// Minors of the GPUs that are given.
    pub fn minors(&self) -> BTreeSet<u32> {
        let minors = self.granted.iter().filter_map(|g| match g.class {
            Some(NodeClass::Gpu(minor)) => Some(minor),
            _ => None,
        });
        minors.collect()
    }

    /// Cards behind the minors, and what CUDA needs beside them.
    fn judge_cards(&mut self) {
        let minors = self.minors();
        let Some(facts) = self.facts else { return };
        let hint = Some(format!("lxc-gpu-conf sync {}", self.guest.ctid));
        for (name, then) in self.state.as_ref().map(|s| s.names.clone()).unwrap_or_default() {
            let given = self.granted.iter().any(|g| g.node.path == then);
            let Some(key) = name.strip_suffix("/gpu").filter(|_| given) else { continue };
            let wish = self
                .state
                .iter()
                .flat_map(|s| &s.wish.gpus)
                .find(|gpu| gpu.uuid.as_deref() == Some(key) || gpu.address.to_string() == key);
            let Some(wish) = wish else { continue };
            let now = facts.same_gpu(wish.uuid.as_deref(), wish.address).and_then(|gpu| gpu.minor);
            if let Some(now) = now.map(|minor| format!("/dev/nvidia{minor}")).filter(|n| *n != then)
            {
                let reason = format!("the card that was {then} ({key}) is {now} now");
                self.found(Finding {
                    property: then.clone(),
                    expected: Some(now),
                    actual: Some(then),
                    reason,
                    hint: hint.clone(),
                    ..Finding::error(Cause::OtherCard)
                });
            }
        }
        for minor in &minors {
            if facts.by_minor(*minor).is_none() {
                let finding = self.lost(facts, *minor);
                self.found(finding);
                continue;
            }
            for spec in nvidia::gpu_nodes(*minor).iter().filter(|spec| spec.required) {
                if !self.granted.iter().any(|g| g.target == spec.path) {
                    self.found(Finding {
                        property: spec.path.clone(),
                        expected: Some("given".into()),
                        actual: None,
                        reason: format!("{} is not given: CUDA needs it", spec.path),
                        hint: Some(format!("lxc-gpu-conf add {} --gpu {minor}", self.guest.ctid)),
                        ..Finding::error(Cause::Incomplete)
                    });
                }
            }
        }
        if minors.is_empty() && self.granted.iter().any(|g| g.class.is_some()) {
            self.found(Finding {
                property: "gpu".into(),
                expected: Some("/dev/nvidia<minor>".into()),
                actual: None,
                reason: "nodes that all GPUs share are given, but no GPU".into(),
                hint: Some(format!("lxc-gpu-conf add {} --gpu all", self.guest.ctid)),
                ..Finding::error(Cause::Incomplete)
            });
        }
    }

    /// Why a minor has no GPU of NVIDIA's driver behind it.
    fn lost(&self, facts: &Facts<'_>, minor: u32) -> Finding {
        let text = format!("/dev/nvidia{minor} belongs to no GPU of the host's nvidia driver");
        let away: Vec<String> = facts.system().map_or_else(
            |_| Vec::new(),
            |system| {
                let functions = system.functions.values().filter(|f| {
                    f.is_gpu() && f.vendor == Some(pci::NVIDIA) && f.on_vfio() && f.pf.is_none()
                });
                functions.map(|f| f.address.to_string()).collect()
            },
        );
        let remove = format!("lxc-gpu-conf remove {} --gpu {minor}", self.guest.ctid);
        let base = Finding {
            property: format!("/dev/nvidia{minor}"),
            expected: Some("a GPU of the nvidia driver".into()),
            ..Finding::error(Cause::NoGpu)
        };
        match away.first() {
            None => Finding { reason: text, hint: Some(remove), ..base },
            Some(first) => Finding {
                cause: Cause::OnVfio,
                actual: Some("bound to VFIO".into()),
                reason: format!("{text} (bound to VFIO: {})", away.join(", ")),
                hint: Some(format!("'gpu-vfio-bind release {first}', or '{remove}'")),
                ..base
            },
        }
    }

    /// Mounted libraries: of the loaded module's version, and there.
    fn judge_userspace(&mut self) {
        let Some(facts) = self.facts else { return };
        let hint = Some(format!("lxc-gpu-conf sync {}", self.guest.ctid));
        let mounts = self.access.mounts.clone();
        for mount in mounts.iter().filter(|mount| is_userspace(&mount.target)) {
            let version = nvidia::userspace::version_of(&mount.source);
            let module = facts.module_version();
            if !facts.machine.exists(&mount.source) {
                self.found(Finding {
                    property: mount.target.clone(),
                    expected: Some("a file of the host".into()),
                    actual: None,
                    reason: format!("{} is not there any more", mount.source),
                    hint: hint.clone(),
                    ..Finding::error(Cause::LibraryMissing)
                });
            } else if version.is_some() && module.is_some() && version.as_deref() != module {
                self.found(Finding {
                    property: mount.target.clone(),
                    expected: module.map(str::to_string),
                    actual: version,
                    reason: format!(
                        "{} is not of the loaded module's version: programs fail with \
                         'driver/library version mismatch'",
                        mount.source
                    ),
                    hint: hint.clone(),
                    ..Finding::error(Cause::LibraryVersion)
                });
            }
        }
    }

    /// One record a GPU; nodes that all GPUs share stand in each.
    pub fn records(&self) -> Vec<LxcGpu> {
        let minors = self.minors();
        if minors.is_empty() && self.has_gpu() {
            return vec![self.record(None)];
        }
        minors.iter().map(|minor| self.record(Some(*minor))).collect()
    }

    fn record(&self, minor: Option<u32>) -> LxcGpu {
        let gpu = self.facts.zip(minor).and_then(|(facts, minor)| facts.by_minor(minor));
        let own: Vec<&Granted> =
            self.granted.iter().filter(|granted| self.belongs(granted, minor)).collect();
        // what is about another card's node is told there
        let of_others: BTreeSet<&str> = self
            .granted
            .iter()
            .filter(|granted| !self.belongs(granted, minor))
            .flat_map(|granted| [granted.node.path.as_str(), granted.target.as_str()])
            .collect();
        let problems = self.findings.iter().filter(|f| !of_others.contains(f.property.as_str()));
        LxcGpu {
            ctid: self.guest.ctid,
            node: self.guest.node.clone(),
            unprivileged: self.unprivileged,
            gpu: gpu.map(|gpu| gpu.address),
            minor,
            uuid: gpu.and_then(|gpu| gpu.uuid.clone()),
            model: gpu.and_then(|gpu| gpu.model.clone()),
            style: self.style(&own),
            nodes: own.iter().map(|g| g.node.clone()).collect(),
            problems: problems.map(|finding| finding.reason.clone()).collect(),
        }
    }

    /// Whether a node is a card's own, or one that all share.
    fn belongs(&self, granted: &Granted, minor: Option<u32>) -> bool {
        match granted.class {
            Some(NodeClass::Gpu(m)) => Some(m) == minor,
            Some(NodeClass::Cap(cap)) if cap > 2 => {
                let capability = self.facts.and_then(|f| f.mig().capabilities.get(&cap));
                match capability {
                    Some(Capability::Gi(gpu, _) | Capability::Ci(gpu, _, _)) => {
                        minor.is_none() || Some(*gpu) == minor
                    }
                    _ => true,
                }
            }
            Some(_) => true,
            None => {
                let gpu = self.facts.and_then(|facts| facts.of_drm(&granted.node.path));
                gpu.and_then(|gpu| gpu.minor) == minor
            }
        }
    }

    fn style(&self, own: &[&Granted]) -> LxcStyle {
        let has = |style| own.iter().any(|g| g.style == style);
        match (has(LxcStyle::Dev), has(LxcStyle::Mount)) {
            (true, true) => LxcStyle::Mixed,
            (true, false) => LxcStyle::Dev,
            (false, true) if !self.access.v1.is_empty() && self.access.rules.is_empty() => {
                LxcStyle::CgroupV1
            }
            _ => LxcStyle::Mount,
        }
    }
}
