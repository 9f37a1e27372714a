//! Creates and fixes the host's device nodes. The driver creates none itself, and
//! a dev[n] for a missing one keeps a container from starting.

use std::collections::BTreeMap;
use std::time::Duration;

use ::cli::{ChangeOptions, Exit, Say, fail};
use advice::external::modprobe;
use advice::lxc_gpu_conf;
use host::{Machine, NodeKind};
use nvidia::{GPU_MAJOR, NodeClass, NodeParams, UVM_DRIVER, classify};
use pve::Guest;
use record::{
    Change, ChangeStatus, Check, CheckStatus, CommandLine, Record, RecordWriter, Severity,
};

use crate::config::device_rules::is_dynamic_major;
use crate::config::given_nodes::can_create;
use crate::host_facts::HostFacts;
use crate::host_facts::required_nodes::{
    RequiredNode, has_modeset, has_unbound_gpu, required_nodes,
};

const MODPROBE: Duration = Duration::from_secs(60);

/// The outcome for all nodes.
pub struct NodesOutcome {
    /// Exit 3 where a node cannot be created.
    pub exit: Exit,
    /// Nodes that a dry run would create, with their numbers.
    pub planned: Vec<(String, (u32, u32))>,
}

/// Creates the nodes that the GPUs and these containers need. Errors: the host
/// cannot be read.
pub fn ensure(
    machine: &Machine,
    guests: &[Guest],
    change: &ChangeOptions,
    say: &Say,
    writer: &mut RecordWriter,
) -> Result<NodesOutcome, anyhow::Error> {
    let mut facts = HostFacts::read(machine, say)?;
    let outcome = NodesOutcome { exit: Exit::Done, planned: Vec::new() };
    let before = NodesBefore::default();
    let mut reporter = NodeReporter { say, change, writer, outcome, before };
    if facts.gpus.is_empty() {
        if !has_unbound_gpu(&facts)? {
            say.note("this host has no GPU for NVIDIA's driver");
            return Ok(reporter.outcome);
        }
        if is_loaded(machine, "nvidia") {
            say.note("NVIDIA's driver is loaded and has no GPU");
            return Ok(reporter.outcome);
        }
        if !reporter.load_module(machine, "nvidia")? {
            return Ok(reporter.outcome);
        }
        facts = HostFacts::read(machine, say)?;
    }
    let has_uvm = |facts: &HostFacts<'_>| facts.majors.major(UVM_DRIVER).is_some();
    let mut nodes = required_nodes(&facts, guests);
    reporter.before = NodesBefore::read(&facts, &nodes);
    if !change.only_look() && nodes.iter().any(|node| is_wrong(&facts, node)) {
        nvidia_modprobe(&facts, &nodes, say);
        facts = HostFacts::read(machine, say)?;
        reporter.put_modules(machine)?;
    }
    if !has_uvm(&facts) && reporter.load_module(machine, UVM_DRIVER)? {
        facts = HostFacts::read(machine, say)?;
    }
    if !has_uvm(&facts) {
        nodes.retain(|node| node.class.driver() != Some(UVM_DRIVER));
    }
    for node in &nodes {
        reporter.ensure_node(&facts, node)?;
    }
    Ok(reporter.outcome)
}

fn is_wrong(facts: &HostFacts<'_>, node: &RequiredNode) -> bool {
    let now = facts.node(&node.path).filter(host::Node::is_char);
    facts.numbers(node.class) != now.map(|now| (now.major, now.minor))
}

/// NVIDIA's own way: two calls, because `-u` loads nvidia-uvm instead of creating
/// the other nodes, and one file for each capability. What it leaves out is
/// created afterwards.
fn nvidia_modprobe(facts: &HostFacts<'_>, nodes: &[RequiredNode], say: &Say) {
    let mut first: Vec<String> = ["nvidia-modprobe", "-c", "255"].map(String::from).to_vec();
    for minor in facts.gpus.values().filter_map(|gpu| gpu.minor) {
        first.extend(["-c".into(), minor.to_string()]);
    }
    if has_modeset(facts) {
        first.push("-m".into());
    }
    for node in nodes {
        if let NodeClass::Cap(cap) = node.class {
            first.extend(facts.mig().file(cap).into_iter().flat_map(|file| ["-f".into(), file]));
        }
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
                say.detail("nvidia-modprobe is not installed: using /proc/devices");
                return;
            }
            Err(error) => say.detail(&error.to_string()),
        }
    }
}

/// What there was before nvidia-modprobe ran: it creates nodes and loads modules,
/// and both are changes of this run.
#[derive(Default)]
struct NodesBefore {
    nodes: BTreeMap<String, Option<String>>,
    modules_absent: Vec<&'static str>,
}

impl NodesBefore {
    fn read(facts: &HostFacts<'_>, nodes: &[RequiredNode]) -> NodesBefore {
        let mut absent = vec!["nvidia-uvm", "nvidia-modeset"];
        absent.retain(|module| !is_loaded(facts.machine, module));
        let nodes = nodes.iter().map(|node| (node.path.clone(), shown(facts, &node.path)));
        NodesBefore { nodes: nodes.collect(), modules_absent: absent }
    }
}

fn is_loaded(machine: &Machine, module: &str) -> bool {
    machine.exists(&format!("/sys/module/{}", module.replace('-', "_")))
}

/// The numbers of a node, as records show them.
fn shown(facts: &HostFacts<'_>, path: &str) -> Option<String> {
    facts.node(path).map(|now| match now.is_char() {
        true => format!("{}:{}", now.major, now.minor),
        false => "no device".into(),
    })
}

struct NodeReporter<'a> {
    before: NodesBefore,
    say: &'a Say,
    change: &'a ChangeOptions,
    writer: &'a mut RecordWriter,
    outcome: NodesOutcome,
}

/// What became of one node or module.
struct NodeChange<'a> {
    property: &'a str,
    from: Option<String>,
    to: Option<String>,
    status: ChangeStatus,
    reason: Option<String>,
    command: Option<CommandLine>,
}

impl NodeReporter<'_> {
    /// Says which modules nvidia-modprobe has loaded.
    fn put_modules(&mut self, machine: &Machine) -> Result<(), anyhow::Error> {
        for module in std::mem::take(&mut self.before.modules_absent) {
            if is_loaded(machine, module) {
                self.put(NodeChange {
                    property: &format!("module {module}"),
                    from: None,
                    to: Some("loaded".into()),
                    status: ChangeStatus::Changed,
                    reason: None,
                    command: None,
                })?;
            }
        }
        Ok(())
    }

    /// Loads a module, and returns whether it was loaded.
    fn load_module(&mut self, machine: &Machine, name: &str) -> Result<bool, anyhow::Error> {
        let (status, reason) = match self.change.only_look() {
            true => (ChangeStatus::Planned, None),
            false => match machine.run(&["modprobe", name], MODPROBE) {
                Ok(Some(ran)) if ran.success() => (ChangeStatus::Changed, None),
                Ok(Some(ran)) => (ChangeStatus::Failed, Some(ran.reason())),
                Ok(None) => {
                    (ChangeStatus::Skipped, Some("commands are not run with --root".into()))
                }
                Err(error) => (ChangeStatus::Failed, Some(error.to_string())),
            },
        };
        let undone = matches!(status, ChangeStatus::Failed | ChangeStatus::Skipped);
        self.put(NodeChange {
            property: &format!("module {name}"),
            from: None,
            to: Some("loaded".into()),
            status,
            reason,
            command: undone.then(|| modprobe(name)),
        })?;
        Ok(status == ChangeStatus::Changed)
    }

    fn ensure_node(
        &mut self,
        facts: &HostFacts<'_>,
        node: &RequiredNode,
    ) -> Result<(), anyhow::Error> {
        let now = shown(facts, &node.path);
        let from = self.before.nodes.get(&node.path).cloned().unwrap_or_else(|| now.clone());
        let mut report = NodeChange {
            property: &node.path,
            from,
            to: None,
            status: ChangeStatus::Unchanged,
            reason: None,
            command: None,
        };
        let Some(numbers) = facts.numbers(node.class) else {
            let driver = node.class.driver().unwrap_or("nvidia");
            report.status =
                if node.essential { ChangeStatus::Failed } else { ChangeStatus::Skipped };
            report.reason = Some(format!("the driver '{driver}' is not loaded"));
            report.command = Some(modprobe(driver));
            return self.put(report);
        };
        report.to = Some(format!("{}:{}", numbers.0, numbers.1));
        if now == report.to {
            if report.from != report.to {
                report.status = ChangeStatus::Changed;
            }
            return self.put(report);
        }
        if self.change.only_look() {
            self.outcome.planned.push((node.path.clone(), numbers));
            report.status = ChangeStatus::Planned;
            return self.put(report);
        }
        report.status = ChangeStatus::Changed;
        if let Err(why) = create(facts, &node.path) {
            self.say.error(&fail(Exit::System, format!("{}: {why}", node.path)).message);
            (report.status, report.reason) = (ChangeStatus::Failed, Some(why));
        }
        self.put(report)
    }

    /// Writes a record, and raises the exit code for a failure and for a change
    /// that `--check` finds.
    fn put(&mut self, report: NodeChange<'_>) -> Result<(), anyhow::Error> {
        let exit = match report.status {
            ChangeStatus::Failed => Exit::System,
            ChangeStatus::Planned if self.change.check => Exit::Difference,
            _ => Exit::Done,
        };
        self.outcome.exit = self.outcome.exit.max(exit);
        if self.change.check {
            let mut check = Check::ok("host", report.property, report.to);
            if report.status != ChangeStatus::Unchanged {
                check.actual = report.from;
                check.status = CheckStatus::Drift;
                check.severity = Severity::Error;
                check.reason = report.reason;
                check.commands = vec![lxc_gpu_conf::nodes()];
            }
            return Ok(self.writer.put(Record::Check(check))?);
        }
        let mut change = Change::planned(self.say.tool(), "host", report.property);
        (change.from, change.to, change.status) = (report.from, report.to, report.status);
        change.reason = report.reason;
        change.commands.extend(report.command);
        Ok(self.writer.put(Record::Change(change))?)
    }
}

/// Creates the node of NVIDIA's driver that has this path, with owner and mode as
/// the driver has them, and reads it back. What is created is judged by its own
/// path, not by a container's name for it: only NVIDIA's own nodes in /dev are
/// created, and only over nothing, an older node of the driver, or the empty file
/// that a failed mount leaves. The error is a reason for the user.
pub fn create(facts: &HostFacts<'_>, path: &str) -> Result<(), String> {
    let class = classify(path).filter(|class| can_create(facts, Some(*class)));
    let class = class.ok_or("it is not a node that the driver creates")?;
    let driver = class.driver().unwrap_or("nvidia");
    let numbers = facts.numbers(class);
    let numbers = numbers.ok_or_else(|| format!("the driver '{driver}' is not loaded"))?;
    require_replaceable(facts, path)?;
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
        _ => Err("the node was created but does not exist".into()),
    }
}

/// Refuses what is not the driver's: a link, a directory, a file with content, a
/// block device, or a character device whose major no NVIDIA driver can have had.
/// The directory of the node must not lead elsewhere.
fn require_replaceable(facts: &HostFacts<'_>, path: &str) -> Result<(), String> {
    let machine = facts.machine;
    let parent = path.rsplit_once('/').map_or("/dev", |(parent, _)| parent);
    if machine.is_link(parent) {
        return Err(format!("{parent} is a symbolic link"));
    }
    if machine.is_link(path) {
        return Err("a symbolic link has this name".into());
    }
    let Some(node) = facts.node(path) else { return Ok(()) };
    match node.kind {
        NodeKind::Char if node.major == GPU_MAJOR || is_dynamic_major(node.major) => Ok(()),
        NodeKind::Char | NodeKind::Block => {
            Err(format!("another device ({}:{}) has this name", node.major, node.minor))
        }
        NodeKind::Dir => Err("a directory has this name".into()),
        NodeKind::NoDevice => match machine.read(path, 1) {
            Ok(content) if content.is_empty() => Ok(()),
            _ => Err("a file that is not empty has this name".into()),
        },
    }
}

/// `DeviceFileMode: 292` in the file of a capability is decimal: 0444.
fn capability_mode(facts: &HostFacts<'_>, cap: u32) -> u32 {
    let file = facts.mig().file(cap).unwrap_or_default();
    let text = facts.machine.attr(&file).unwrap_or_default();
    let mode = text.lines().find_map(|line| line.strip_prefix("DeviceFileMode:"));
    mode.and_then(|mode| mode.trim().parse::<u32>().ok()).map_or(0o444, |mode| mode & 0o777)
}
