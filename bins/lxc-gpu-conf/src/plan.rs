//! From what the host and the configuration show, and what is asked, to a list
//! of steps. Pure: reads and writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use nvidia::{GPU_MAJOR, NodeClass, NodeSpec, classify};
use pve::{Conf, Fate};

use crate::access::{Access, DevEntry, Devices, MountEntry, Opening, Rule, is_userspace};

/// How nodes are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `dev[n]`.
    Dev,
    /// `lxc.mount.entry` and, in a privileged container, device rules.
    Mount,
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
    /// Asked for: an entry that has other values gets these.
    pub asked: bool,
}

impl NodeOptions {
    /// The options of a `dev[n]`, sorted as Proxmox VE prints them.
    fn pairs(&self) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::from([("mode".to_string(), self.mode.clone())]);
        pairs.extend(self.uid.map(|uid| ("uid".into(), uid.to_string())));
        pairs.extend(self.gid.map(|gid| ("gid".into(), gid.to_string())));
        pairs
    }
}

/// A node that the container should have, as the host has it now.
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
    fn opening(&self) -> Opening<'_> {
        let access = self.spec.class.access();
        Opening { path: &self.spec.path, major: self.major, minor: self.minor, access }
    }
}

/// A file of the driver's userspace that is mounted read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMount {
    /// Path on the host.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
}

/// What a container is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Device nodes.
    pub nodes: Vec<HostNode>,
    /// Userspace; `None` leaves alone what there is.
    pub files: Option<Vec<FileMount>>,
    /// Hand-made mount entries and rules make room for dev[n].
    pub convert: bool,
}

/// One step: a line of the main section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// `dev1`, `lxc.mount.entry`, `lxc.cgroup2.devices.allow`.
    pub key: String,
    /// Its value before; `None` where there is no such line.
    pub from: Option<String>,
    /// Its value after; `None` where the line goes.
    pub to: Option<String>,
    /// Why, where that is not plain.
    pub reason: Option<String>,
}

impl Step {
    /// Nothing to do.
    pub fn there(&self) -> bool {
        self.from == self.to
    }
}

/// Why nothing can be planned: reason and way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is about: a key or path.
    pub property: String,
    /// In words.
    pub reason: String,
    /// What to do next.
    pub hint: String,
}

/// All steps, and the configuration as it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// The file with the steps done.
    pub conf: Conf,
}

/// Facts about the container.
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// Its id, for hints.
    pub ctid: u32,
    /// Its root is an unprivileged user of the host.
    pub unprivileged: bool,
}

/// What the host says of numbers, for rules that stand in configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Majors of NVIDIA's drivers that are their own now, by driver.
    pub drivers: BTreeMap<&'static str, u32>,
    /// Majors of nodes that the configuration gives and that are not NVIDIA's.
    pub others: BTreeSet<u32>,
    /// GPUs' nodes that mount entries give, as the host has them.
    pub mounted: Vec<Mounted>,
}

/// A node that a mount entry gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Path on the host.
    pub path: String,
    /// Its numbers, those that its driver has now.
    pub numbers: (u32, u32),
    /// `r` or `rw`.
    pub access: &'static str,
}

const MOUNT_OPTIONS: &str = "none bind,optional,create=file";
const FILE_OPTIONS: &str = "none bind,ro,optional,create=file";

impl Plan {
    /// Nothing planned yet.
    pub fn of(conf: &Conf) -> Plan {
        Plan { steps: Vec::new(), conf: conf.clone() }
    }

    /// Whether there is anything to do.
    pub fn changes(&self) -> bool {
        self.steps.iter().any(|step| !step.there())
    }

    /// Whether all there is to do is adding dev[n].
    pub fn only_adds_dev(&self) -> bool {
        let mut steps = self.steps.iter().filter(|step| !step.there());
        self.changes() && steps.all(|step| step.from.is_none() && step.key.starts_with("dev"))
    }

    fn add(&mut self, key: &str, value: String) {
        if key.starts_with("lxc.") {
            self.conf.append_lxc(key, &value);
        } else {
            self.conf.insert_key(key, &value);
        }
        self.step(key, None, Some(value), None);
    }

    /// What is there already is told once, also where it serves several nodes.
    fn there(&mut self, key: &str, value: &str) {
        if !self.steps.iter().any(|step| step.key == key && step.to.as_deref() == Some(value)) {
            self.step(key, Some(value.into()), Some(value.into()), None);
        }
    }

    fn step(&mut self, key: &str, from: Option<String>, to: Option<String>, why: Option<&str>) {
        self.steps.push(Step { key: key.into(), from, to, reason: why.map(str::to_string) });
    }

    /// Takes away the `lxc.*` entries that `which` gives a reason for.
    fn take_lxc(&mut self, which: impl Fn(&str, &str) -> Option<&'static str>) {
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

    fn set(&mut self, key: &str, from: &str, to: String, why: &str) {
        self.conf.set_key(key, &to);
        self.step(key, Some(from.into()), Some(to), Some(why));
    }
}

/// Adds to a plan what gives a container what it is to have.
pub fn give(
    plan: &mut Plan,
    container: Container,
    target: &Target,
    style: Style,
    numbers: &Numbers,
) -> Result<(), Refusal> {
    if target.convert {
        convert(plan, target, numbers);
    }
    match style {
        Style::Dev => dev(plan, container, &target.nodes)?,
        Style::Mount => mount(plan, container, &target.nodes)?,
    }
    if let Some(files) = &target.files {
        userspace(plan, files);
    }
    Ok(())
}

fn dev(plan: &mut Plan, container: Container, nodes: &[HostNode]) -> Result<(), Refusal> {
    let access = Access::of(&plan.conf);
    let mut taken = access.taken.clone();
    for node in nodes {
        let path = &node.spec.path;
        if let Some(mount) = access.mounted(path) {
            return Err(Refusal {
                property: "lxc.mount.entry".into(),
                reason: format!(
                    "{} is mounted to {path} already: a dev[n] for it would keep the container \
                     from starting (mknod: file exists)",
                    mount.source
                ),
                hint: format!(
                    "'lxc-gpu-conf add {0} --convert' makes dev[n] of these lines, 'lxc-gpu-conf \
                     add {0} --style mount' completes them",
                    container.ctid
                ),
            });
        }
        wiped(&access, node)?;
        if let Some((key, entry)) = access.dev(path) {
            dev_there(plan, key, entry, &node.options);
            continue;
        }
        let Some(index) = (0..256).find(|index| !taken.contains(index)) else {
            return Err(Refusal {
                property: "dev255".into(),
                reason: "dev0 to dev255 are all taken".into(),
                hint: "remove entries that are no longer used".into(),
            });
        };
        taken.push(index);
        plan.add(&format!("dev{index}"), dev_text(path, &node.options.pairs()));
    }
    Ok(())
}

/// Refuses a list of rules that a user's `deny: a` has emptied.
fn wiped(access: &Access, node: &HostNode) -> Result<(), Refusal> {
    let decides = access
        .deciding_rule(&node.opening())
        .is_some_and(|rule| rule.allow && rule.what != Devices::All);
    if !access.wipes_dev_rules() || decides {
        return Ok(());
    }
    let what = match access.open_to_all() {
        true => "and LXC lets the container open every device of the host",
        false => "the container could not open its nodes",
    };
    Err(Refusal {
        property: "lxc.cgroup2.devices.deny".into(),
        reason: format!(
            "'lxc.cgroup2.devices.deny: a' wipes out the rules that Proxmox VE makes: {what}"
        ),
        hint: "take that line out of the configuration".into(),
    })
}

fn dev_text(path: &str, options: &BTreeMap<String, String>) -> String {
    let options: String = options.iter().map(|(k, v)| format!(",{k}={v}")).collect();
    format!("{path}{options}")
}

/// An entry that gives the node already: its options count unless others are
/// asked for.
fn dev_there(plan: &mut Plan, key: &str, entry: &DevEntry, options: &NodeOptions) {
    let now = dev_text(&entry.path, &entry.options);
    let mut wanted = entry.options.clone();
    if options.asked {
        wanted.extend(options.pairs());
    }
    let text = dev_text(&entry.path, &wanted);
    // a pending change is not ours to overwrite
    if text == now || !plan.conf.keys(&pve::Section::Main).contains_key(key) {
        plan.there(key, &now);
    } else {
        plan.set(key, &now, text, "owner or mode as asked");
    }
}

fn mount(plan: &mut Plan, container: Container, nodes: &[HostNode]) -> Result<(), Refusal> {
    for node in nodes {
        let access = Access::of(&plan.conf);
        let path = &node.spec.path;
        if let Some((key, _)) = access.dev(path) {
            return Err(Refusal {
                property: key.to_string(),
                reason: format!(
                    "{key} gives {path} already: a mount entry beside it would keep the container \
                     from starting (mknod: file exists)"
                ),
                hint: format!(
                    "'lxc-gpu-conf add {} --style dev' completes what is there",
                    container.ctid
                ),
            });
        }
        match access.mounted(path) {
            Some(mount) => plan.there("lxc.mount.entry", &mount.text),
            None => {
                let entry = format!("{path} {} {MOUNT_OPTIONS}", path.trim_start_matches('/'));
                plan.add("lxc.mount.entry", entry);
            }
        }
        wiped(&access, node)?;
        // Proxmox VE starts an unprivileged container with 'allow = a': rules
        // would do nothing there
        if !container.unprivileged {
            let opening = node.opening();
            match access.deciding_rule(&opening) {
                Some(rule) if rule.allow => plan.there(rule.key(), &rule.text),
                _ => {
                    let rule = format!("c {}:{} {}", node.major, node.minor, opening.access);
                    plan.add("lxc.cgroup2.devices.allow", rule);
                }
            }
        }
    }
    Ok(())
}

/// Mounts the files of the driver's userspace, and no others of it.
fn userspace(plan: &mut Plan, files: &[FileMount]) {
    let wanted: BTreeMap<&str, String> = files
        .iter()
        .map(|file| {
            let (source, target) = (escape(&file.source), escape(&file.target));
            (file.target.as_str(), format!("{source} {} {FILE_OPTIONS}", &target[1..]))
        })
        .collect();
    let mut seen = BTreeSet::new();
    let mut steps = Vec::new();
    plan.conf.change_lxc(|key, value| {
        let Some(mount) = MountEntry::parse(value).filter(|_| key == "lxc.mount.entry") else {
            return Fate::Keep;
        };
        if !is_userspace(&mount.target) {
            return Fate::Keep;
        }
        let text = wanted.get(mount.target.as_str()).filter(|_| seen.insert(mount.target.clone()));
        steps.push((value.to_string(), text.cloned()));
        match text {
            Some(text) if text == value => Fate::Keep,
            Some(text) => Fate::Become(key.into(), text.clone()),
            None => Fate::Remove,
        }
    });
    for (from, to) in steps {
        let why = match &to {
            None => Some("of another version, or not asked for"),
            Some(to) if *to != from => Some("from another file"),
            Some(_) => None,
        };
        plan.step("lxc.mount.entry", Some(from), to, why);
    }
    for (target, text) in &wanted {
        if !seen.contains(*target) {
            plan.add("lxc.mount.entry", text.clone());
        }
    }
}

/// White space in fstab(5) fields.
fn escape(path: &str) -> String {
    let path = path.replace('\\', "\\134").replace(' ', "\\040");
    path.replace('\t', "\\011").replace('\n', "\\012")
}

/// Mount entries of the nodes that dev[n] will give, and rules for them, go.
fn convert(plan: &mut Plan, target: &Target, numbers: &Numbers) {
    let access = Access::of(&plan.conf);
    let mut seen = BTreeSet::new();
    let main: BTreeSet<String> =
        plan.conf.keys(&pve::Section::Main).keys().map(|key| (*key).to_string()).collect();
    for (key, dev) in access.devs.iter().filter(|(key, _)| main.contains(*key)) {
        if !seen.insert(&dev.path) && classify(&dev.path).is_some() {
            plan.conf.remove_key(key);
            let from = dev_text(&dev.path, &dev.options);
            plan.step(key, Some(from), None, Some("given by another dev[n] already"));
        }
    }
    let stale = stale_rules(&access, numbers);
    let given = |path: &str| target.nodes.iter().any(|node| node.spec.path == path);
    plan.take_lxc(|key, value| {
        if key == "lxc.mount.entry" {
            let mount = MountEntry::parse(value)?;
            return if given(&mount.target) {
                Some("becomes dev[n]")
            } else if classify(&mount.target).is_some() || mount.target == "/dev/nvidia-caps" {
                Some("not wanted, or not on the host")
            } else {
                None
            };
        }
        let v1 = key.starts_with("lxc.cgroup.devices.");
        let rule = Rule::parse(&key.replace("lxc.cgroup.", "lxc.cgroup2."), value)?;
        let ours = concerns(&rule, numbers) || stale.contains(&rule);
        // a number in a rule for cgroup v1 may be of any boot
        let old = v1 && is_dynamic_rule(&rule, numbers);
        (ours || old).then_some("dev[n] needs no rule")
    });
}

/// Whether a rule is about NVIDIA's nodes and nothing else.
fn concerns(rule: &Rule, numbers: &Numbers) -> bool {
    match &rule.what {
        Devices::Numbers { char, major: Some(major), .. } => {
            *char && (*major == GPU_MAJOR || numbers.drivers.values().any(|m| m == major))
        }
        Devices::Path { path, .. } => classify(path).is_some(),
        _ => false,
    }
}

/// Whether a rule allows a major that the kernel gives to whoever asks next
/// (include/linux/fs.h: 234 to 254 and 384 to 511), that no node of the
/// container has.
fn is_dynamic_rule(rule: &Rule, numbers: &Numbers) -> bool {
    match &rule.what {
        Devices::Numbers { char: true, major: Some(major), .. } => {
            rule.allow
                && (matches!(major, 234..=254 | 384..=511))
                && !numbers.others.contains(major)
                && !numbers.drivers.values().any(|m| m == major)
        }
        _ => false,
    }
}

/// Rules that let the container open NVIDIA's nodes before their majors moved.
///
/// A number alone does not say whose it was. So they are named only where a
/// mounted node has no rule with its number now, and the rules for dynamic
/// majors that serve none of the container's nodes are not more than such
/// drivers.
pub fn stale_rules(access: &Access, numbers: &Numbers) -> Vec<Rule> {
    let uncovered: BTreeSet<&str> = access
        .mounts
        .iter()
        .filter_map(|mount| classify(&mount.target)?.driver())
        .filter(|driver| {
            let major = numbers.drivers.get(driver);
            let named = |rule: &&Rule| match &rule.what {
                Devices::Numbers { major: m, .. } => m.is_some() && m.as_ref() == major,
                Devices::Path { path, .. } => {
                    classify(path).and_then(NodeClass::driver) == Some(*driver)
                }
                _ => false,
            };
            !access.rules.iter().any(|rule| named(&rule))
        })
        .collect();
    let orphans: Vec<&Rule> =
        access.rules.iter().filter(|rule| is_dynamic_rule(rule, numbers)).collect();
    let majors: BTreeSet<u32> = orphans.iter().filter_map(|rule| rule_major(rule)).collect();
    if majors.len() > uncovered.len() {
        return Vec::new();
    }
    orphans.into_iter().cloned().collect()
}

/// The major that a rule names.
pub fn rule_major(rule: &Rule) -> Option<u32> {
    match rule.what {
        Devices::Numbers { major, .. } => major,
        _ => None,
    }
}

/// Takes stale rules away, and in a privileged container allows what is mounted
/// and no rule allows, as numbers are now.
pub fn repair(plan: &mut Plan, container: Container, numbers: &Numbers) {
    let access = Access::of(&plan.conf);
    let stale = stale_rules(&access, numbers);
    plan.take_lxc(|key, value| {
        let rule = Rule::parse(key, value)?;
        stale.contains(&rule).then_some("the driver has another major now")
    });
    if container.unprivileged {
        return;
    }
    for mounted in &numbers.mounted {
        let (major, minor) = mounted.numbers;
        let opening = Opening { path: &mounted.path, major, minor, access: mounted.access };
        if !Access::of(&plan.conf).allows(&opening, false) {
            let rule = format!("c {major}:{minor} {}", mounted.access);
            plan.add("lxc.cgroup2.devices.allow", rule);
        }
    }
}

/// Which lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taking {
    /// Everything of NVIDIA's; otherwise only `paths`.
    pub all: bool,
    /// Nodes to take away, with their numbers, where they are known.
    pub paths: BTreeMap<String, Option<(u32, u32)>>,
    /// Userspace too.
    pub userspace: bool,
}

/// Adds to a plan what takes nodes away from a container. Refuses what only a
/// pending change gives: that section is Proxmox VE's.
pub fn take(
    plan: &mut Plan,
    container: Container,
    taking: &Taking,
    numbers: &Numbers,
) -> Result<(), Refusal> {
    let access = Access::of(&plan.conf);
    let main: BTreeSet<String> =
        plan.conf.keys(&pve::Section::Main).keys().map(|key| (*key).to_string()).collect();
    let pending = plan.conf.keys(&pve::Section::Pending);
    let gone = |path: &str| {
        taking.paths.contains_key(path)
            || (taking.all && (classify(path).is_some() || path == "/dev/nvidia-caps"))
    };
    for (key, dev) in access.devs.iter().filter(|(_, dev)| gone(&dev.path)) {
        if pending.contains_key(key.as_str()) {
            return Err(Refusal {
                property: key.clone(),
                reason: format!("a pending change gives {} with {key} at the next start", dev.path),
                hint: format!("'pct set {} --revert {key}', then run it again", container.ctid),
            });
        }
    }
    let devs: Vec<(String, DevEntry)> = access
        .devs
        .iter()
        .filter(|(key, dev)| gone(&dev.path) && main.contains(*key))
        .map(|(key, dev)| (key.clone(), dev.clone()))
        .collect();
    for (key, dev) in devs {
        plan.conf.remove_key(&key);
        plan.step(&key, Some(dev_text(&dev.path, &dev.options)), None, None);
    }
    let stale = if taking.all { stale_rules(&access, numbers) } else { Vec::new() };
    let drm = |path: &&String| path.starts_with("/dev/dri/");
    let exact: BTreeSet<(u32, u32)> = taking
        .paths
        .iter()
        .filter(|(path, _)| !taking.all || drm(path))
        .filter_map(|(_, numbers)| *numbers)
        .collect();
    plan.take_lxc(|key, value| {
        if key == "lxc.mount.entry" {
            let mount = MountEntry::parse(value)?;
            let userspace = taking.userspace && is_userspace(&mount.target);
            return (gone(&mount.target) || userspace).then_some("");
        }
        let v1 = key.starts_with("lxc.cgroup.devices.");
        let rule = Rule::parse(&key.replace("lxc.cgroup.", "lxc.cgroup2."), value)?;
        let of_node = match &rule.what {
            Devices::Numbers { char: true, major: Some(major), minor: Some(minor), .. } => {
                exact.contains(&(*major, *minor))
            }
            Devices::Path { path, .. } => gone(path),
            _ => false,
        };
        let all = taking.all
            && (concerns(&rule, numbers)
                || stale.contains(&rule)
                || (v1 && is_dynamic_rule(&rule, numbers)));
        (of_node || all).then_some("")
    });
    Ok(())
}

/// Gives nodes that have other names now their new ones: a card that was
/// /dev/nvidia0 is /dev/nvidia1 since another was put in. All at once, since
/// two may have changed places.
pub fn renumber(
    plan: &mut Plan,
    names: &BTreeMap<String, String>,
    rules: &BTreeMap<(u32, u32), (u32, u32)>,
) {
    let why = "the card has another number now";
    let access = Access::of(&plan.conf);
    let main: Vec<String> =
        plan.conf.keys(&pve::Section::Main).keys().map(|key| (*key).to_string()).collect();
    // a node that is given already is not given twice
    let taken = |new: &str| {
        let given = access.dev(new).is_some() || access.mount(new).is_some();
        given && !names.contains_key(new)
    };
    for (key, dev) in &access.devs {
        if let Some(new) = names.get(&dev.path).filter(|_| main.contains(key)) {
            if taken(new) {
                plan.conf.remove_key(key);
                plan.step(key, Some(dev_text(&dev.path, &dev.options)), None, Some(why));
                continue;
            }
            let text = dev_text(new, &dev.options);
            plan.set(key, &dev_text(&dev.path, &dev.options), text, why);
        }
    }
    let mut steps = Vec::new();
    plan.conf.change_lxc(|key, value| {
        let new = match MountEntry::parse(value).filter(|_| key == "lxc.mount.entry") {
            Some(mount) if names.get(&mount.target).is_some_and(|new| taken(new)) => {
                steps.push((key.to_string(), value.to_string(), None));
                return Fate::Remove;
            }
            Some(mount) => {
                names.get(&mount.target).filter(|_| mount.source == mount.target).map(|new| {
                    let options = mount.options.join(",");
                    format!("{new} {} none {options}", new.trim_start_matches('/'))
                })
            }
            None => Rule::parse(key, value).and_then(|rule| match rule.what {
                Devices::Numbers { char: true, major: Some(a), minor: Some(i), access } => {
                    let (major, minor) = rules.get(&(a, i))?;
                    Some(format!("c {major}:{minor} {access}"))
                }
                _ => None,
            }),
        };
        match new {
            Some(new) if new != value => {
                steps.push((key.to_string(), value.to_string(), Some(new.clone())));
                Fate::Become(key.into(), new)
            }
            _ => Fate::Keep,
        }
    });
    for (key, from, to) in steps {
        plan.step(&key, Some(from), to, Some(why));
    }
}

/// The style that `auto` stands for: what the container has already, else
/// dev[n] where this Proxmox VE knows it.
pub fn auto_style(access: &Access, has_dev: bool) -> Style {
    let nvidia = |path: &str| classify(path).is_some();
    let mounts = access.mounts.iter().any(|mount| nvidia(&mount.target));
    let devs = access.devs.values().any(|dev| nvidia(&dev.path));
    if has_dev && (devs || !mounts) { Style::Dev } else { Style::Mount }
}

/// Whether a node's numbers are those that the driver has now; `Err` says what
/// is wrong.
pub fn check_numbers(
    class: NodeClass,
    major: u32,
    minor: u32,
    driver_major: Option<u32>,
) -> Result<(), String> {
    let expected = match class {
        NodeClass::Other => return Ok(()),
        class => match class.driver() {
            None => GPU_MAJOR,
            Some(driver) => match driver_major {
                Some(major) => major,
                None => return Err(format!("no driver '{driver}' is loaded behind it")),
            },
        },
    };
    let expected_minor = class.minor().unwrap_or(minor);
    if (major, minor) == (expected, expected_minor) {
        return Ok(());
    }
    Err(format!("is {major}:{minor}, but the driver has {expected}:{expected_minor} now"))
}
