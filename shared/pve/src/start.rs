//! What a container will have at its next start, and what keeps it from starting:
//! the rules of Proxmox VE and LXC, each with its source, as one function of its
//! configuration and the host. `docs/container-starts.md` has what real LXC does with
//! well over a hundred configurations, and tests hold this model to it.

mod dev_value;
mod lines;
mod model;
mod mount_line;
mod rules;
mod tree;

use std::collections::BTreeMap;

use host::{Node, NodeKind};

use crate::conf::Conf;
use crate::guest::is_unprivileged;
use crate::ids::{IdMap, id_maps};
pub use dev_value::{DevValue, dev_number};
pub use lines::{LxcLine, LxcLines};
pub use model::{
    FaultKind, GivenDevice, GivenPath, Giver, GiverKind, Opening, OtherHost, Outcome, StartFault,
    StartHost,
};
pub use mount_line::{MountLine, normal};
pub use rules::{DeviceList, InvalidRule, is_valid_rule};
use tree::{Place, Tree, outcome_of};

/// A container's next start.
#[derive(Clone, Debug)]
pub struct ContainerStart {
    /// The users of the container are others on the host.
    pub unprivileged: bool,
    /// Every path that a line is to give, in the order in which LXC comes to it. A
    /// mounted directory is followed by the nodes in it.
    pub paths: Vec<GivenPath>,
    /// Why the container does not start; empty where it does, as far as is known.
    pub faults: Vec<StartFault>,
    /// What was not looked at: files that cannot be read, programs that LXC runs.
    pub not_looked_at: Vec<String>,
    /// The device rules.
    pub rules: DeviceList,
}

impl ContainerStart {
    /// The next start of a container.
    pub fn of(ctid: u32, conf: &Conf, host: &dyn StartHost) -> ContainerStart {
        Starter::new(ctid, conf, host).run()
    }

    /// The device at a path of the container, given last.
    pub fn device(&self, path: &str) -> Option<&GivenDevice> {
        let given = self.paths.iter().rev().find(|given| given.target == path)?;
        given.device()
    }

    /// Whether LXC comes to the end of its set-up.
    pub fn starts(&self) -> bool {
        self.faults.is_empty()
    }
}

struct Starter<'a> {
    ctid: u32,
    conf: &'a Conf,
    host: &'a dyn StartHost,
    lxc: LxcLines,
    maps: Vec<IdMap>,
    tree: Tree<'a>,
    devs: Vec<(String, DevValue)>,
    start: ContainerStart,
}

impl<'a> Starter<'a> {
    fn new(ctid: u32, conf: &'a Conf, host: &'a dyn StartHost) -> Starter<'a> {
        let unprivileged = is_unprivileged(conf);
        let lxc = LxcLines::of(conf, host);
        let own_dev = lxc.last("lxc.autodev") == Some("0");
        let mut faults = lxc.faults.clone();
        let maps = id_maps(conf).unwrap_or_else(|reason| {
            let (key, value) = ("lxc.idmap".to_string(), String::new());
            faults.push(StartFault { kind: FaultKind::IdMap, key, value, target: None, reason });
            Vec::new()
        });
        let devs = conf.effective().into_iter();
        let mut devs: Vec<(String, DevValue)> = devs
            .filter(|(key, _)| dev_number(key).is_some())
            .map(|(key, value)| (key.to_string(), DevValue::parse(value)))
            .collect();
        devs.sort_by_key(|(key, _)| dev_number(key));
        let not_looked_at = lxc.unread.clone();
        let rules = DeviceList::of(&[], &|_| None);
        let start =
            ContainerStart { unprivileged, paths: Vec::new(), faults, not_looked_at, rules };
        let tree = Tree::new(host, unprivileged, own_dev);
        Starter { ctid, conf, host, lxc, maps, tree, devs, start }
    }

    fn run(mut self) -> ContainerStart {
        self.check_id_maps();
        self.read_devs();
        self.read_rules();
        self.mount_lines();
        self.hooks();
        self.place_devs();
        self.start
    }

    fn fault(&mut self, kind: FaultKind, line: (&str, &str), target: Option<&str>, reason: String) {
        let (key, value) = (line.0.to_string(), line.1.to_string());
        let target = target.map(str::to_string);
        self.start.faults.push(StartFault { kind, key, value, target, reason });
    }

    /// Maps of the container's own must be allowed to root: LXC calls newuidmap and
    /// newgidmap, which look into /etc/subuid and /etc/subgid.
    fn check_id_maps(&mut self) {
        if self.lxc.last("lxc.idmap").is_none() {
            return;
        }
        for (kind, file) in [('u', "/etc/subuid"), ('g', "/etc/subgid")] {
            let text = match self.host.text(file) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(why) => {
                    self.start.not_looked_at.push(why);
                    continue;
                }
            };
            let allowed: Vec<(u64, u64)> = text.lines().filter_map(root_range).collect();
            let maps = self.maps.iter().filter(|map| map.kind == kind);
            let refused = maps.copied().find(|map| {
                let (first, end) =
                    (u64::from(map.host), u64::from(map.host) + u64::from(map.count));
                !allowed.iter().any(|(from, count)| *from <= first && end <= from + count)
            });
            let Some(map) = refused else { continue };
            let value = format!("{} {} {} {}", map.kind, map.inside, map.host, map.count);
            let reason = format!(
                "{file} does not allow root the ids of 'lxc.idmap: {value}': the container cannot start"
            );
            self.fault(FaultKind::IdMap, ("lxc.idmap", &value), None, reason);
        }
    }

    fn value_of(&self, key: &str) -> String {
        self.conf.effective().get(key).map(|value| (*value).to_string()).unwrap_or_default()
    }

    /// PVE::LXC::update_lxc_config: every dev[n] is parsed and looked at, and the start
    /// dies at the first that is wrong.
    fn read_devs(&mut self) {
        let devs = self.devs.clone();
        for (key, dev) in &devs {
            let value = self.value_of(key);
            let line = (key.as_str(), value.as_str());
            let path = Some(dev.path.as_str()).filter(|path| !path.is_empty());
            if let Some(why) = &dev.fault {
                let reason = format!(
                    "Proxmox VE cannot parse '{key}: {value}' ({why}): the container cannot start"
                );
                self.fault(FaultKind::DevValue, line, path, reason);
                continue;
            }
            let (kind, reason) = match self.host.node(&dev.path) {
                Ok(Some(node)) if matches!(node.kind, NodeKind::Char | NodeKind::Block) => continue,
                Ok(Some(_)) => (FaultKind::DevNotDevice, "is not a device"),
                Ok(None) => (FaultKind::DevMissing, "does not exist on the host"),
                Err(why) => {
                    self.start.not_looked_at.push(why);
                    continue;
                }
            };
            self.fault(
                kind,
                line,
                path,
                format!("{} {reason}: the container cannot start", dev.path),
            );
        }
        // PVE::LXC::Setup, protected calls without a set-up of the ostype
        let ostype = self.value_of("ostype");
        if let (Some((key, _)), "unmanaged" | "nixos", false) =
            (devs.first(), ostype.as_str(), self.start.unprivileged)
        {
            let reason = format!(
                "a privileged container of ostype '{ostype}' does not start with dev[n] (pve-container 6.1.10)"
            );
            let value = self.value_of(key);
            self.fault(FaultKind::DevOfOstype, (key, &value), None, reason);
        }
    }

    /// The rules of LXC's own files, of dev[n], and of the container's lines.
    fn read_rules(&mut self) {
        let host = self.host;
        let number = |path: &str| match host.node(path) {
            Ok(Some(node)) if node.kind == NodeKind::Char => Some(('c', node.major, node.minor)),
            Ok(Some(node)) if node.kind == NodeKind::Block => Some(('b', node.major, node.minor)),
            _ => None,
        };
        let mut lines = DeviceList::common(self.start.unprivileged);
        for (_, dev) in &self.devs {
            let Some((kind, major, minor)) = number(&dev.path) else { continue };
            match dev.denies_write() {
                false => lines.push((true, format!("{kind} {major}:{minor} rw"))),
                true => {
                    lines.push((true, format!("{kind} {major}:{minor} r")));
                    lines.push((false, format!("{kind} {major}:{minor} w")));
                }
            }
        }
        for line in &self.lxc.lines {
            match line.key.as_str() {
                "lxc.cgroup2.devices.allow" => lines.push((true, line.value.clone())),
                "lxc.cgroup2.devices.deny" => lines.push((false, line.value.clone())),
                "lxc.cgroup2" if line.value.is_empty() => lines.clear(),
                _ => {}
            }
        }
        self.start.rules = DeviceList::of(&lines, &number);
        if let Some(rule) = self.start.rules.unloadable().map(str::to_string) {
            let key = match self.start.rules.denies_by_default() {
                true => "lxc.cgroup2.devices.allow",
                false => "lxc.cgroup2.devices.deny",
            };
            let reason = format!(
                "the kernel does not load the device rules behind '{rule}': the container cannot start"
            );
            self.fault(FaultKind::Rules, (key, &rule), None, reason);
        }
    }

    /// The lines of an fstab, then the mount entries.
    fn mount_lines(&mut self) {
        let mut lines = Vec::new();
        if let Some(fstab) = self.lxc.last("lxc.mount.fstab").map(str::to_string) {
            match self.host.text(&fstab) {
                Ok(None) => {
                    let reason = format!("'{fstab}' does not exist: the container cannot start");
                    self.fault(FaultKind::File, ("lxc.mount.fstab", &fstab), None, reason);
                }
                Ok(Some(text)) => lines.extend(text.lines().map(|line| LxcLine {
                    key: "lxc.mount.fstab".into(),
                    value: line.to_string(),
                    file: Some(fstab.clone()),
                })),
                Err(why) => self.start.not_looked_at.push(why),
            }
        }
        lines.extend(self.lxc.list("lxc.mount.entry").into_iter().cloned());
        for line in lines {
            if let Some(mount) = MountLine::parse(&line.value) {
                self.mount(&line, &mount);
            }
        }
    }

    fn mount(&mut self, line: &LxcLine, mount: &MountLine) {
        let giver = Giver {
            kind: GiverKind::Mount,
            key: line.key.clone(),
            value: line.value.clone(),
            file: line.file.clone(),
        };
        let source = normal(&mount.source);
        let Some(target) = mount.path(self.ctid) else {
            let why = "LXC ignores a mount entry whose target is an absolute path".to_string();
            let (target, outcome) = (normal(&mount.target), Outcome::Nothing(why));
            self.start.paths.push(GivenPath { target, source, giver, outcome, stub_on_host: None });
            return;
        };
        let mounted = self.tree.mount(mount, &target);
        let optional = mount.has("optional");
        if let Some(why) = mounted.failed.as_ref().filter(|_| !optional) {
            let reason =
                format!("'{}' cannot be mounted ({why}): the container cannot start", line.value);
            self.fault(FaultKind::Mount, (&line.key, &line.value), Some(&target), reason);
        }
        let outcome = match (&mounted.failed, &mounted.place) {
            (None, Place::Host(_, Some(node))) => self.of_node(node, mount),
            // what an earlier line gave stays
            (Some(why), Place::Nothing | Place::Host(..)) => Outcome::Nothing(why.clone()),
            (_, place) => outcome_of(place),
        };
        let dir = match &mounted.place {
            Place::Host(path, Some(node)) if node.kind == NodeKind::Dir => Some(path.clone()),
            _ => None,
        };
        let stub_on_host = mounted.stub_on_host;
        self.start.paths.push(GivenPath {
            target: target.clone(),
            source,
            giver: giver.clone(),
            outcome,
            stub_on_host,
        });
        if let Some(dir) = dir.filter(|dir| mounted.failed.is_none() && dir.starts_with("/dev/")) {
            self.mounted_directory(&dir, &target, &giver, mount);
        }
    }

    /// The devices in a mounted directory.
    fn mounted_directory(&mut self, dir: &str, target: &str, giver: &Giver, mount: &MountLine) {
        let names = self.host.names(dir).unwrap_or_else(|why| {
            self.start.not_looked_at.push(why);
            Vec::new()
        });
        for name in names {
            let source = format!("{dir}/{name}");
            let Ok(Some(node)) = self.host.node(&source) else { continue };
            let outcome = self.of_node(&node, mount);
            let target = format!("{target}/{name}");
            let giver = giver.clone();
            self.start.paths.push(GivenPath { target, source, giver, outcome, stub_on_host: None });
        }
    }

    /// A mounted node keeps owner and mode of the host.
    fn of_node(&self, node: &Node, mount: &MountLine) -> Outcome {
        if !matches!(node.kind, NodeKind::Char | NodeKind::Block) {
            return Outcome::Other;
        }
        // LXC skips the remount that would set it, but for a read-only mount (conf.c,
        // mount_entry)
        let has = |option: &str| mount.options.split(',').any(|one| one == option);
        Outcome::Device(self.device(*node, has("nodev") && (has("ro") || has("remount"))))
    }

    /// How the container's root opens a device.
    fn device(&self, node: Node, nodev: bool) -> GivenDevice {
        let kind = if node.kind == NodeKind::Block { 'b' } else { 'c' };
        let opening = |access: &str, bits: u32| {
            if nodev || self.root_bits(&node) & bits != bits {
                return Opening::DeniedByMode;
            }
            match self.start.rules.opening(kind, node.major, node.minor, access) {
                Ok(()) => Opening::Opens,
                Err(rule) => Opening::DeniedByRule(rule.map(str::to_string)),
            }
        };
        GivenDevice {
            node,
            read: opening("r", 4),
            write: opening("rw", 6),
            everybody: node.mode & 6 == 6,
        }
    }

    /// What root of the container may do with a node, as one digit of a mode. Root
    /// overrides a mode where its user namespace knows owner and group
    /// (capable_wrt_inode_uidgid); else it is owner, member of the group, or another.
    fn root_bits(&self, node: &Node) -> u32 {
        if self.maps.is_empty() {
            return 6;
        }
        let inside = |kind: char, id: u32| {
            let map = self
                .maps
                .iter()
                .find(|m| m.kind == kind && id >= m.host && id - m.host < m.count)?;
            Some(id - map.host + map.inside)
        };
        let (uid, gid) = (inside('u', node.uid), inside('g', node.gid));
        match (uid, gid) {
            (Some(_), Some(_)) => 6,
            (Some(0), None) => node.mode >> 6 & 7,
            (None, Some(0)) => node.mode >> 3 & 7,
            _ => node.mode & 7,
        }
    }

    /// Programs that LXC runs: those that are known by name or by their text, and the
    /// names of the others.
    fn hooks(&mut self) {
        const KEYS: [&str; 4] =
            ["lxc.hook.pre-start", "lxc.hook.pre-mount", "lxc.hook.mount", "lxc.hook.autodev"];
        let lines: Vec<LxcLine> =
            self.lxc.lines.iter().filter(|l| KEYS.contains(&l.key.as_str())).cloned().collect();
        for line in lines.iter().filter(|line| !line.value.is_empty()) {
            let program = line.value.split_ascii_whitespace().next().unwrap_or_default();
            let giver = Giver {
                kind: GiverKind::Hook,
                key: line.key.clone(),
                value: line.value.clone(),
                file: line.file.clone(),
            };
            let nvidia = program.rsplit('/').next().is_some_and(|name| name == "nvidia");
            let text = match nvidia {
                true => String::new(),
                false => format!(
                    "{}\n{}",
                    line.value,
                    self.host.text(program).ok().flatten().unwrap_or_default()
                ),
            };
            let named = match nvidia {
                true => self.nvidia_hook(line),
                false => named_nodes(&text),
            };
            if nvidia && named.is_empty() {
                continue;
            }
            if named.is_empty() {
                self.start.not_looked_at.push(format!("{}: {}", line.key, line.value));
            }
            for target in named {
                let why = match nvidia {
                    true => "NVIDIA's hook gives what nvidia-container-cli finds",
                    false => "a program that LXC runs names it",
                };
                let (giver, outcome) = (giver.clone(), Outcome::Unknown(why.into()));
                let source = String::new();
                self.start.paths.push(GivenPath {
                    target,
                    source,
                    giver,
                    outcome,
                    stub_on_host: None,
                });
            }
        }
    }

    /// What LXC's hook `nvidia` gives: nothing where the environment does not ask for it;
    /// in a privileged container, and without nvidia-container-cli, it fails.
    fn nvidia_hook(&mut self, line: &LxcLine) -> Vec<String> {
        let of = |name: &str| {
            let lines = self.lxc.list("lxc.environment").into_iter().rev();
            let mut values = lines.filter_map(|line| line.value.split_once('='));
            values.find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
        };
        let legacy = of("CUDA_VERSION").is_some() && of("NVIDIA_REQUIRE_CUDA").is_none();
        let devices = of("NVIDIA_VISIBLE_DEVICES").or_else(|| legacy.then(|| "all".into()));
        let Some(devices) = devices.filter(|one| !one.is_empty() && one != "void") else {
            return Vec::new();
        };
        let dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let has_cli = dirs
            .iter()
            .any(|dir| !matches!(self.host.node(&format!("{dir}/nvidia-container-cli")), Ok(None)));
        let why = match () {
            () if !has_cli => Some("nvidia-container-cli is not installed on the host"),
            () if !self.start.unprivileged => Some("it works in unprivileged containers only"),
            () => None,
        };
        if let Some(why) = why {
            let reason = format!("NVIDIA's hook fails ({why}): the container cannot start");
            self.fault(FaultKind::Hook, (&line.key, &line.value), None, reason);
        }
        let names = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"];
        let shared = names.iter().map(|name| format!("/dev/{name}"));
        // which of the host's GPUs only nvidia-container-cli knows
        let minors = if devices == "none" { 0..0 } else { 0..8 };
        let gpus = minors.map(|minor| format!("/dev/nvidia{minor}"));
        shared.chain(gpus).filter(|path| !matches!(self.host.node(path), Ok(None))).collect()
    }

    /// lxc-pve-prestart-hook makes the nodes, lxc-pve-autodev-hook mounts them.
    fn place_devs(&mut self) {
        let own_dev = self.lxc.last("lxc.autodev") == Some("0");
        let mut made: BTreeMap<String, String> = BTreeMap::new();
        for (key, dev) in self.devs.clone() {
            let value = self.value_of(&key);
            let target = normal(&dev.path);
            let giver =
                Giver { kind: GiverKind::Dev, key: key.clone(), value: value.clone(), file: None };
            let outcome = match self.host.node(&dev.path) {
                _ if dev.fault.is_some() => Outcome::Nothing("the container does not start".into()),
                Ok(Some(node)) if matches!(node.kind, NodeKind::Char | NodeKind::Block) => {
                    self.dev_outcome(&dev, &node, own_dev)
                }
                Ok(_) => Outcome::Nothing("the container does not start".into()),
                Err(why) => Outcome::Unknown(why),
            };
            if let Some(first) = made.insert(target.clone(), key.clone()) {
                let reason = format!(
                    "{first} and {key} both give {target}: the container cannot start (mknod: File exists)"
                );
                self.fault(FaultKind::GivenTwice, (&key, &value), Some(&target), reason);
            } else if matches!(outcome, Outcome::Device(_) | Outcome::Unknown(_)) {
                self.place_dev(&key, &value, &target);
            }
            let source = dev.path.clone();
            self.start.paths.push(GivenPath { target, source, giver, outcome, stub_on_host: None });
        }
    }

    fn place_dev(&mut self, key: &str, value: &str, target: &str) {
        // a hook at 'mount' comes before dev[n]; one at 'autodev' behind it, whose mknod
        // then fails
        let hook = self.start.paths.iter().find(|path| {
            path.giver.kind == GiverKind::Hook
                && path.target == target
                && matches!(path.giver.key.as_str(), "lxc.hook.mount" | "lxc.hook.autodev")
        });
        let hook = hook.map(|path| path.giver.key.clone());
        let other = match hook {
            Some(hook) => hook,
            _ if self.tree.place_dev(target) => return,
            _ => "a mount entry".into(),
        };
        let reason = format!(
            "{target} is given by {key} and by {other}: the container cannot start (mknod: File exists)"
        );
        self.fault(FaultKind::GivenTwice, (key, value), Some(target), reason);
    }

    /// A new node with owner and mode of the line. Names with white space or `..` and
    /// the loop control device are passed over (PVE::LXC::Tools, for_devices).
    fn dev_outcome(&self, dev: &DevValue, node: &Node, own_dev: bool) -> Outcome {
        let name = &dev.path["/dev/".len()..];
        if own_dev {
            return Outcome::Nothing("lxc.autodev is 0, and dev[n] needs it".into());
        }
        if name.contains("..")
            || name.contains(char::is_whitespace)
            || (node.major, node.minor) == (10, 237)
        {
            return Outcome::Nothing("Proxmox VE passes over this name".into());
        }
        let host = |kind: char, id: u32| {
            let map = self
                .maps
                .iter()
                .find(|m| m.kind == kind && id >= m.inside && id - m.inside < m.count);
            map.map_or(id, |m| id - m.inside + m.host)
        };
        let (uid, gid) = (host('u', dev.id("uid")), host('g', dev.id("gid")));
        let node = Node { mode: dev.mode(), uid, gid, ..*node };
        Outcome::Device(self.device(node, false))
    }
}

/// `root:100000:65536`: first id and number of ids of root.
fn root_range(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.trim().split(':');
    let user = fields.next().filter(|user| matches!(*user, "root" | "0"));
    user?;
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Paths in /dev that a program's text names in a line with mknod, mount or ln.
fn named_nodes(text: &str) -> Vec<String> {
    let makes =
        |line: &&str| ["mknod", "mount", "ln ", "cp "].iter().any(|word| line.contains(word));
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).filter(makes);
    let end = |c: char| c.is_whitespace() || "\"';)&|>".contains(c);
    let mut found: Vec<String> = Vec::new();
    for line in lines {
        for word in line.split(end) {
            if let Some((_, name)) = word.split_once("/dev/") {
                let path = normal(&format!("/dev/{name}"));
                if !name.is_empty() && !name.contains('$') && !found.contains(&path) {
                    found.push(path);
                }
            }
        }
    }
    found
}
