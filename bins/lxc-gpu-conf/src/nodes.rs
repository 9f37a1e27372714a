//! `nodes`: sees to it that this host's device nodes exist with the numbers that
//! the driver has now. The driver makes none itself, and dev[n] for a missing one
//! keeps a container from starting.

use std::collections::BTreeMap;
use std::time::Duration;

use ::cli::{ChangeOptions, Exit, Failure, Say, catch_signals, fail};
use host::{Machine, NodeKind};
use nvidia::{Capability, NodeClass, NodeParams, UVM_DRIVER, classify};
use pve::{Conf, Guest};
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};

use crate::access::Access;
use crate::cli::{Nodes, Options};
use crate::facts::Facts;

const MODPROBE: Duration = Duration::from_secs(60);

/// The verb.
pub fn run(
    options: &Options,
    nodes: &Nodes,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let machine = options.common.machine()?;
    if !nodes.change.only_look() {
        catch_signals();
    }
    let guests = local_guests(&machine, say);
    Ok(ensure(&machine, &guests, &nodes.change, say, writer)?.exit)
}

/// Containers of this node, where this is a node of Proxmox VE at all.
/// What cannot be found out of them does not keep the GPUs' nodes from being made.
fn local_guests(machine: &Machine, say: &Say) -> Vec<Guest> {
    let mut guests = pve::all_guests(machine).unwrap_or_else(|failure| {
        say.warn(&format!("{}: what containers are given besides is not seen to", failure.message));
        Vec::new()
    });
    guests.retain(|guest| guest.local);
    guests
}

/// One node that should be there.
struct Needed {
    path: String,
    class: NodeClass,
    /// Nothing works without it.
    required: bool,
}

/// What came of it.
pub struct Ensured {
    /// Exit 3 where a node cannot be made.
    pub exit: Exit,
    /// Nodes that would be made, where one only looks, with their numbers.
    pub planned: Vec<(String, (u32, u32))>,
}

/// Brings the nodes that the GPUs and these containers need. Errors: nothing of
/// the host can be read.
pub fn ensure(
    machine: &Machine,
    guests: &[Guest],
    change: &ChangeOptions,
    say: &Say,
    writer: &mut RecordWriter,
) -> Result<Ensured, anyhow::Error> {
    let mut facts = Facts::read(machine, say)?;
    let done = Ensured { exit: Exit::Done, planned: Vec::new() };
    let mut reporter = Reporter { say, change, writer, done };
    if facts.gpus.is_empty() {
        if !waiting_for_driver(&facts)? {
            say.note("no GPU on this host is for NVIDIA's driver");
            return Ok(reporter.done);
        }
        let loaded = reporter.module(machine, "nvidia")?;
        if !loaded {
            return Ok(reporter.done);
        }
        facts = Facts::read(machine, say)?;
    }
    let uvm = |facts: &Facts<'_>| facts.majors.major(UVM_DRIVER).is_some();
    let mut needed = needed(&facts, guests);
    if !change.only_look() && wrong(&facts, &needed).next().is_some() {
        nvidia_modprobe(&facts, &needed, say);
        facts = Facts::read(machine, say)?;
    }
    if !uvm(&facts) && reporter.module(machine, UVM_DRIVER)? {
        facts = Facts::read(machine, say)?;
    }
    if !uvm(&facts) {
        needed.retain(|node| node.class.driver() != Some(UVM_DRIVER));
    }
    for node in &needed {
        reporter.node(&facts, node)?;
    }
    Ok(reporter.done)
}

/// Whether a GPU of NVIDIA's has no driver yet.
fn waiting_for_driver(facts: &Facts<'_>) -> Result<bool, Failure> {
    let system = facts.system()?;
    Ok(system.functions.values().any(|f| {
        f.is_gpu() && f.vendor == Some(pci::NVIDIA) && f.driver.is_none() && f.pf.is_none()
    }))
}

/// The GPUs' nodes, and what containers are given beyond them.
fn needed(facts: &Facts<'_>, guests: &[Guest]) -> Vec<Needed> {
    let mut nodes: BTreeMap<String, Needed> = BTreeMap::new();
    let mut add = |path: String, class, required| {
        nodes.entry(path.clone()).or_insert(Needed { path, class, required });
    };
    for minor in facts.gpus.values().filter_map(|gpu| gpu.minor) {
        for spec in nvidia::gpu_nodes(minor) {
            let modeset = spec.class != NodeClass::Modeset || has_modeset(facts);
            if modeset {
                add(spec.path, spec.class, spec.required);
            }
        }
    }
    // of the MIG instances that exist, so that add --mig finds them
    let instances = &facts.mig().instances;
    let mut caps: Vec<u32> = instances.iter().flat_map(|i| [i.gi_cap, i.ci_cap]).collect();
    caps.extend(facts.mig().minor(Capability::Monitor).filter(|_| !instances.is_empty()));
    for cap in caps.into_iter().filter(|cap| capability_exists(facts, *cap)) {
        add(nvidia::cap_path(cap), NodeClass::Cap(cap), false);
    }
    for guest in guests {
        let Ok(bytes) = guest.read(facts.machine) else { continue };
        if !crate::view::concerns_gpu(&bytes) {
            continue;
        }
        let access = Access::of(&Conf::parse(&bytes));
        let devs = access.devs.values().map(|dev| dev.path.clone());
        for path in devs.chain(access.mounts.iter().map(|mount| mount.source.clone())) {
            match classify(&path) {
                // the right to reconfigure MIG is not ours to hand out
                None | Some(NodeClass::Other | NodeClass::Cap(0 | 1)) => {}
                // a card that is gone has no node to be made
                Some(NodeClass::Gpu(minor)) if facts.by_minor(minor).is_none() => {}
                Some(NodeClass::Cap(cap)) if !capability_exists(facts, cap) => {}
                Some(class) => add(path, class, false),
            }
        }
    }
    nodes.into_values().collect()
}

fn has_modeset(facts: &Facts<'_>) -> bool {
    facts.machine.exists("/sys/module/nvidia_modeset")
        || facts.majors.names(nvidia::GPU_MAJOR).any(|name| name == "nvidia-modeset")
}

fn capability_exists(facts: &Facts<'_>, cap: u32) -> bool {
    facts.mig().file(cap).is_some_and(|file| facts.machine.exists(&file))
}

fn wrong<'n>(facts: &'n Facts<'_>, needed: &'n [Needed]) -> impl Iterator<Item = &'n Needed> {
    needed.iter().filter(|node| {
        let now = facts.node(&node.path).filter(host::Node::is_char);
        facts.numbers(node.class) != now.map(|now| (now.major, now.minor))
    })
}

/// NVIDIA's own way: two calls, because `-u` loads nvidia-uvm instead of making
/// the others' nodes, and one file a capability. What it leaves undone is made
/// by us afterwards.
fn nvidia_modprobe(facts: &Facts<'_>, needed: &[Needed], say: &Say) {
    let mut first: Vec<String> = ["nvidia-modprobe", "-c", "255"].map(String::from).to_vec();
    for minor in facts.gpus.values().filter_map(|gpu| gpu.minor) {
        first.extend(["-c".into(), minor.to_string()]);
    }
    if has_modeset(facts) {
        first.push("-m".into());
    }
    for cap in needed.iter().filter_map(|node| match node.class {
        NodeClass::Cap(cap) => Some(cap),
        _ => None,
    }) {
        first.extend(facts.mig().file(cap).into_iter().flat_map(|file| ["-f".into(), file]));
    }
    let second: Vec<String> = ["nvidia-modprobe", "-u", "-c", "0"].map(String::from).to_vec();
    for argv in [first, second] {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        match facts.machine.run(&argv, MODPROBE) {
            Ok(Some(ran)) if !ran.success() => {
                say.detail(&format!("{}: {}", argv.join(" "), ran.reason()));
            }
            Ok(_) => {}
            Err(error) if error.is_not_found() => {
                say.detail("no nvidia-modprobe here: nodes are made from /proc/devices");
                return;
            }
            Err(error) => say.detail(&error.to_string()),
        }
    }
}

struct Reporter<'a> {
    say: &'a Say,
    change: &'a ChangeOptions,
    writer: &'a mut RecordWriter,
    done: Ensured,
}

impl Reporter<'_> {
    /// Loads a module. Says whether it is loaded now.
    fn module(&mut self, machine: &Machine, name: &str) -> Result<bool, anyhow::Error> {
        let property = format!("module {name}");
        let hint = format!("modprobe {name}");
        if self.change.only_look() {
            self.tell(&property, None, Some("loaded".into()), ChangeStatus::Planned, None, None)?;
            return Ok(false);
        }
        let (status, why) = match machine.run(&["modprobe", name], MODPROBE) {
            Ok(Some(ran)) if ran.success() => (ChangeStatus::Changed, None),
            Ok(Some(ran)) => (ChangeStatus::Failed, Some(ran.reason())),
            Ok(None) => (ChangeStatus::Skipped, Some("no command is run below --root".into())),
            Err(error) => (ChangeStatus::Failed, Some(error.to_string())),
        };
        if status == ChangeStatus::Failed {
            self.done.exit = self.done.exit.max(Exit::System);
        }
        let hint = (status != ChangeStatus::Changed).then_some(hint);
        self.tell(&property, None, Some("loaded".into()), status, why, hint)?;
        Ok(status == ChangeStatus::Changed)
    }

    fn node(&mut self, facts: &Facts<'_>, node: &Needed) -> Result<(), anyhow::Error> {
        let now = facts.node(&node.path);
        let from = now.map(|now| match now.is_char() {
            true => format!("{}:{}", now.major, now.minor),
            false => "no device".into(),
        });
        let Some((major, minor)) = facts.numbers(node.class) else {
            let driver = node.class.driver().unwrap_or("nvidia");
            let why = format!("no driver '{driver}' is loaded behind it");
            let status = if node.required { ChangeStatus::Failed } else { ChangeStatus::Skipped };
            if node.required {
                self.done.exit = self.done.exit.max(Exit::System);
            }
            let hint = Some(format!("modprobe {driver}"));
            return self.tell(&node.path, from, None, status, Some(why), hint);
        };
        let to = Some(format!("{major}:{minor}"));
        if from == to {
            return self.tell(&node.path, from, to, ChangeStatus::Unchanged, None, None);
        }
        if self.change.only_look() {
            self.done.planned.push((node.path.clone(), (major, minor)));
            return self.tell(&node.path, from, to, ChangeStatus::Planned, None, None);
        }
        let made = match now.map(|now| now.kind) {
            Some(NodeKind::Dir) => Err("a directory stands in its place".to_string()),
            _ => make(facts, node.class, &node.path, (major, minor)),
        };
        match made {
            Ok(()) => self.tell(&node.path, from, to, ChangeStatus::Changed, None, None),
            Err(why) => {
                self.done.exit = self.done.exit.max(Exit::System);
                self.say.error(&fail(Exit::System, format!("{}: {why}", node.path)).message);
                self.tell(&node.path, from, to, ChangeStatus::Failed, Some(why), None)
            }
        }
    }

    fn tell(
        &mut self,
        property: &str,
        from: Option<String>,
        to: Option<String>,
        status: ChangeStatus,
        reason: Option<String>,
        hint: Option<String>,
    ) -> Result<(), anyhow::Error> {
        if status == ChangeStatus::Planned && self.change.check {
            self.done.exit = self.done.exit.max(Exit::Difference);
        }
        if self.change.check {
            let ok = status == ChangeStatus::Unchanged;
            let mut check = Check::ok("host", property, to);
            if !ok {
                check.actual = from;
                check.status = CheckStatus::Drift;
                check.severity = Severity::Error;
                check.reason = reason;
                check.hint = Some("lxc-gpu-conf nodes".into());
            }
            return Ok(self.writer.put(Record::Check(check))?);
        }
        let mut change = Change::planned(self.say.tool(), "host", property);
        (change.from, change.to, change.status) = (from, to, status);
        (change.reason, change.hint) = (reason, hint);
        Ok(self.writer.put(Record::Change(change))?)
    }
}

/// Makes one node, with owner and mode as the driver wants them, and looks at it
/// again. Errors: in words.
pub fn make(
    facts: &Facts<'_>,
    class: NodeClass,
    path: &str,
    numbers: (u32, u32),
) -> Result<(), String> {
    let params = NodeParams::read(facts.machine);
    let (mode, owner) = match class {
        // these do not follow the driver's parameters (nvidia-modprobe-utils.c)
        NodeClass::Uvm | NodeClass::UvmTools => (0o666, (0, 0)),
        NodeClass::Cap(cap) => (capability_mode(facts, cap), (params.uid, params.gid)),
        _ => (params.mode, (params.uid, params.gid)),
    };
    facts.machine.make_char(path, numbers, mode, owner).map_err(|error| error.to_string())?;
    facts.forget_nodes();
    match facts.node(path) {
        Some(node) if (node.major, node.minor) == numbers && node.is_char() => Ok(()),
        _ => Err("it is not there after it was made".into()),
    }
}

/// `DeviceFileMode: 292` of the capability's own file, decimal: 0444.
fn capability_mode(facts: &Facts<'_>, cap: u32) -> u32 {
    let file = facts.mig().file(cap).unwrap_or_default();
    let text = facts.machine.attr(&file).unwrap_or_default();
    let mode = text.lines().find_map(|line| line.strip_prefix("DeviceFileMode:"));
    mode.and_then(|mode| mode.trim().parse::<u32>().ok()).map_or(0o444, |mode| mode & 0o777)
}
