//! `add`: gives a container GPUs.

use std::cell::RefCell;

use ::cli::{Exit, Failure, Say, catch_signals, fail, records_from_stdin};
use advice::lxc_gpu_conf::{AddOptions, RemoveOptions};
use host::Machine;
use pve::{Conf, ContainerStart, Guest, Opening};
use record::{Change, ChangeStatus, CommandLine, Hint, PciDevice, Record, RecordWriter};

use crate::apply::edit::{ConfigEditor, ConfigPlanner, EditOutcome, EditStop};
use crate::apply::restart::RestartRequest;
use crate::cli::{Add, Options, StyleChoice};
use crate::config::access::Access;
use crate::config::assignment::{GpuAssignment, LibrarySelection};
use crate::config::configured::{configured_assignment, misnamed_mount};
use crate::config::device_numbers::DeviceNumbers;
use crate::config::given_nodes::no_access;
use crate::config::node_requests::ResolveError;
use crate::config::resolve::{ResolvedAssignment, resolve};
use crate::host_facts::gpu_selection::{SkippedGpu, UsableGpu, named, of_records};
use crate::host_facts::{HostFacts, mig};
use crate::plan::add_nodes::{auto_style, give};
use crate::plan::model::{ConfigPlan, ContainerFacts, NodeStyle, Refusal};
use crate::store;

/// Runs `add`.
pub fn run(
    options: &Options,
    add: &Add,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    if add.convert && add.style == StyleChoice::Mount {
        let message = "--convert creates dev[n] and cannot be used with --style mount";
        return Err(fail(Exit::Usage, message)
            .hint("without --convert existing mount entries are completed")
            .into());
    }
    // all input is read and checked before any change
    let piped = add.reads_stdin();
    let records = if piped { from_stdin(say)? } else { Vec::new() };
    let machine = options.common.machine()?;
    let guest = Guest::find(&machine, add.ctid)?;
    let facts = HostFacts::read(&machine, say)?;
    let (gpus, skipped) = match piped {
        true => of_records(&facts, &records)?,
        false => (named(&facts, &add.gpu)?, Vec::new()),
    };
    let assignment = requested(add, &facts, &gpus)?;
    let asked = asked_options(add, &gpus);
    if !add.change.only_look() {
        catch_signals();
    }
    let editor = ConfigEditor {
        machine: &machine,
        guest: &guest,
        say,
        change: &add.change,
        output: options.output.choice,
        command: advice::lxc_gpu_conf::add(add.ctid, &asked),
        hotplug: !add.no_hotplug,
    };
    let planner = AddPlanner {
        facts: &facts,
        guest: &guest,
        add,
        asked,
        assignment,
        say,
        printed: RefCell::default(),
    };
    for gpu in skipped.iter().filter(|_| !add.change.check) {
        writer.put(Record::Change(skipped_record(&editor, gpu)))?;
    }
    let edited = match editor.run(&planner, writer) {
        Ok(edited) => edited,
        Err(stop) => return Err(editor.stopped(stop, writer)),
    };
    finish(&machine, &guest, add, say, &edited, writer)
}

fn from_stdin(say: &Say) -> Result<Vec<PciDevice>, Failure> {
    let what = "pci-device records (gpu-iommu-groups --vendor 10de | ...) or use --gpu";
    let records = records_from_stdin(say, &["pci-device"], what)?;
    Ok(records
        .into_iter()
        .filter_map(|record| match record {
            Record::PciDevice(device) => Some(*device),
            _ => None,
        })
        .collect())
}

/// The options that ask for the same again. GPUs from standard input are named.
fn asked_options(add: &Add, gpus: &[UsableGpu]) -> AddOptions {
    AddOptions {
        gpus: match add.reads_stdin() {
            true => gpus.iter().map(|gpu| gpu.address.to_string()).collect(),
            false => add.gpu.clone(),
        },
        mig: add.mig.clone(),
        mig_monitor: add.mig_monitor,
        graphics: add.graphics,
        imex: add.imex.clone(),
        fabric: add.fabric,
        style: match add.style {
            StyleChoice::Auto => None,
            StyleChoice::Dev => Some(NodeStyle::Dev.name()),
            StyleChoice::Mount => Some(NodeStyle::Mount.name()),
        },
        convert: add.convert,
        uid: add.uid,
        gid: add.gid,
        mode: add.mode.clone(),
        libs: add.libs.iter().map(|set| set.as_str().to_string()).collect(),
        share_driver: add.share_driver.clone(),
        no_hotplug: add.no_hotplug,
        restart: add.restart,
        start: add.start,
        wait: add.wait,
    }
}

fn skipped_record(editor: &ConfigEditor<'_>, gpu: &SkippedGpu) -> Change {
    let mut change = editor.change_of("gpu");
    change.to = Some(gpu.address.to_string());
    change.status = ChangeStatus::Skipped;
    change.reason = Some(gpu.reason.into());
    change
}

/// What the command line asks for, in terms that do not change with a reboot.
fn requested(
    add: &Add,
    facts: &HostFacts<'_>,
    gpus: &[UsableGpu],
) -> Result<GpuAssignment, Failure> {
    let mut assignment = GpuAssignment {
        gpus: gpus.iter().map(|gpu| gpu.identity(facts)).collect(),
        mig_monitor: add.mig_monitor,
        graphics: add.graphics,
        imex: imex_channels(add, facts.machine)?,
        fabric: add.fabric,
        uid: add.uid,
        gid: add.gid,
        mode: add.mode.clone(),
        userspace: library_selection(add)?,
        ..GpuAssignment::default()
    };
    for name in &add.mig {
        let mig = mig::named(facts, name, gpus)?;
        if !assignment.gpus.contains(&mig.gpu) {
            assignment.gpus.push(mig.gpu.clone());
        }
        assignment.mig.push(mig);
    }
    Ok(assignment)
}

/// `--libs` and `--share-driver`.
fn library_selection(add: &Add) -> Result<Option<LibrarySelection>, Failure> {
    if add.libs.is_empty() && add.share_driver.is_none() {
        return Ok(None);
    }
    let sets = match add.libs.is_empty() {
        true => ["utility", "compute", "video"].map(String::from).to_vec(),
        false => add.libs.iter().map(|set| set.as_str().to_string()).collect(),
    };
    let dir = add.share_driver.clone();
    if let Some(dir) = dir.as_deref().filter(|dir| !dir.starts_with('/')) {
        let message = format!("--share-driver '{dir}' is not an absolute path");
        return Err(fail(Exit::Usage, message));
    }
    Ok(Some(LibrarySelection { sets, dir }))
}

/// `--imex 0,3`, or `all` channels that exist.
fn imex_channels(add: &Add, machine: &Machine) -> Result<Vec<u32>, Failure> {
    let mut channels = Vec::new();
    for name in &add.imex {
        if name == "all" {
            let names = machine.nodes_in("/dev/nvidia-caps-imex-channels")?;
            let ids = names.iter().filter_map(|name| name.strip_prefix("channel")?.parse().ok());
            channels.extend(ids.collect::<Vec<u32>>());
            if channels.is_empty() {
                return Err(fail(Exit::Usage, "this host has no IMEX channels")
                    .hint("create one with nvidia-modprobe, or omit --imex"));
            }
            continue;
        }
        // ids go up to 2^20 - 1 (container toolkit, lib-imex.go)
        match name.parse::<u32>() {
            Ok(id) if id < 1 << 20 => channels.push(id),
            _ => {
                let message = format!("--imex '{name}' is not a channel number or 'all'");
                return Err(fail(Exit::Usage, message));
            }
        }
    }
    Ok(channels)
}

/// Says when the change takes effect; restarts or starts where requested.
fn finish(
    machine: &Machine,
    guest: &Guest,
    add: &Add,
    say: &Say,
    edited: &EditOutcome,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let request = RestartRequest {
        machine,
        guest,
        say,
        restart: add.restart,
        start: add.start,
        wait: add.wait,
    };
    if !add.change.only_look() {
        return request.finish(edited, writer);
    }
    if !add.change.check {
        request.preview(edited, writer)?;
    }
    Ok(edited.exit)
}

struct AddPlanner<'a> {
    facts: &'a HostFacts<'a>,
    guest: &'a Guest,
    add: &'a Add,
    asked: AddOptions,
    assignment: GpuAssignment,
    say: &'a Say,
    /// Notes that were printed already: a plan may be made twice.
    printed: RefCell<Vec<String>>,
}

impl AddPlanner<'_> {
    /// The style to use. Refuses dev[n] where this Proxmox VE does not support it.
    fn style(&self, conf: &Conf) -> Result<NodeStyle, ResolveError> {
        let version = self.facts.pve_container()?;
        let style = match self.add.style {
            StyleChoice::Dev => NodeStyle::Dev,
            StyleChoice::Mount => return Ok(NodeStyle::Mount),
            StyleChoice::Auto if self.add.convert => NodeStyle::Dev,
            StyleChoice::Auto => {
                let has_dev = version.is_some_and(pve::has_dev);
                let style = auto_style(&Access::of(conf), has_dev);
                let version = version.unwrap_or_default().iter().map(u32::to_string);
                let version: Vec<String> = version.collect();
                let version = if version.is_empty() { "unknown".into() } else { version.join(".") };
                self.say.detail(&format!("style {}, pve-container {version}", style.name()));
                return Ok(style);
            }
        };
        let Some(version) = version.filter(|version| !pve::has_dev(version)) else {
            return Ok(style);
        };
        let version: Vec<String> = version.iter().map(u32::to_string).collect();
        let reason = format!(
            "pve-container {} does not support dev[n] (since 5.0.7): the container would get no \
             device nodes",
            version.join(".")
        );
        let hint = Hint::command(self.with_mount_style())
            .because("upgrade pve-container, or use --style mount");
        Err(Refusal { property: "dev".into(), reason, hint }.into())
    }

    fn with_mount_style(&self) -> CommandLine {
        let style = Some(NodeStyle::Mount.name());
        let options = AddOptions { style, convert: false, ..self.asked.clone() };
        advice::lxc_gpu_conf::add(self.guest.ctid, &options)
    }

    /// What is requested; with --convert also what the container has already.
    fn assignment(&self, conf: &Conf) -> Result<GpuAssignment, Failure> {
        if !self.add.convert {
            return Ok(self.assignment.clone());
        }
        let mut found = configured_assignment(&Access::of(conf), self.facts);
        if found.gpus.is_empty() && self.assignment.gpus.is_empty() {
            let message = format!("{} has no GPU to convert", self.guest.target());
            return Err(fail(Exit::Usage, message).hint("select one with --gpu"));
        }
        found.join(&self.assignment);
        Ok(found)
    }

    fn resolve(
        &self,
        conf: &Conf,
    ) -> Result<(GpuAssignment, ResolvedAssignment, NodeStyle), EditStop> {
        let style = self.style(conf)?;
        if self.add.convert {
            self.refuse_misnamed(&Access::of(conf))?;
        }
        let assignment = self.assignment(conf)?;
        let mut resolved = resolve(&assignment, self.facts, self.guest, conf, style)?;
        resolved.desired.convert = self.add.convert;
        Ok((assignment, resolved, style))
    }

    /// Refuses to convert an entry that dev[n] cannot replace: the container would
    /// get another device.
    fn refuse_misnamed(&self, access: &Access) -> Result<(), Refusal> {
        let Some(mount) = misnamed_mount(access, self.facts) else { return Ok(()) };
        let nodes = vec![mount.target.clone()];
        let removal = RemoveOptions { nodes, ..RemoveOptions::default() };
        Err(Refusal {
            property: "lxc.mount.entry".into(),
            reason: format!(
                "{} is mounted to {}, and dev[n] cannot give a device under another name",
                mount.source, mount.target
            ),
            hint: Hint::command(advice::lxc_gpu_conf::remove(self.guest.ctid, &removal))
                .because("remove the mount entry if the container does not need it"),
        })
    }

    /// Refuses a plan with which the container would not start, or could not open what
    /// it is given. The model of a start judges it, so that also other lines count: hooks,
    /// included files, rules. Returns notes about mounted nodes that their mode closes.
    fn guard(
        &self,
        conf: &Conf,
        plan: &ConfigPlan,
        resolved: &ResolvedAssignment,
    ) -> Result<Vec<String>, Refusal> {
        let ctid = self.guest.ctid;
        let before = ContainerStart::of(ctid, conf, self.facts);
        let after = ContainerStart::of(ctid, &plan.conf, self.facts);
        let desired = |path: &str| resolved.desired.nodes.iter().any(|node| node.spec.path == path);
        let mut notes = Vec::new();
        for fault in &after.faults {
            let ours = fault.target.as_deref().is_some_and(desired);
            if ours
                || !before
                    .faults
                    .iter()
                    .any(|old| old.kind == fault.kind && old.target == fault.target)
            {
                return Err(Refusal {
                    property: fault.key.clone(),
                    reason: fault.reason.clone(),
                    hint: Hint::words(
                        "the node has another giver: remove that line first, or leave the container as it is",
                    ),
                });
            }
        }
        for node in &resolved.desired.nodes {
            let path = &node.spec.path;
            let Some(device) = after.device(path) else { continue };
            let opening = match node.spec.class.access() {
                "r" => &device.read,
                _ => &device.write,
            };
            if *opening == Opening::DeniedByMode {
                let mode = no_access(path, device.node.mode);
                notes.push(format!("{mode}; --style dev avoids this"));
            }
        }
        Ok(notes)
    }

    fn print_once(&self, note: String) {
        let mut printed = self.printed.borrow_mut();
        if !printed.contains(&note) {
            self.say.note(&format!("{}: {note}", self.guest.target()));
            printed.push(note);
        }
    }
}

impl ConfigPlanner for AddPlanner<'_> {
    fn plan(&self, conf: &Conf) -> Result<ConfigPlan, EditStop> {
        let (_, mut resolved, style) = self.resolve(conf)?;
        let container = ContainerFacts {
            ctid: self.guest.ctid,
            unprivileged: pve::is_unprivileged(conf),
            asked: self.asked.clone(),
        };
        std::mem::take(&mut resolved.notes).into_iter().for_each(|note| self.print_once(note));
        // what cannot be read now cannot be updated after the change
        let stored =
            store::load(self.facts.machine, self.guest.ctid, conf).map_err(Failure::from)?;
        let mut plan = ConfigPlan::of(conf);
        let numbers = DeviceNumbers::of(&Access::of(conf), self.facts)
            .remembering(stored.as_ref().map(|stored| &stored.rules));
        give(&mut plan, &container, &resolved.desired, style, &numbers)?;
        self.guard(conf, &plan, &resolved)?.into_iter().for_each(|note| self.print_once(note));
        Ok(plan)
    }

    /// Stores the assignment, joined with what was stored before and is still
    /// given.
    fn done(&self, plan: &ConfigPlan) {
        let Ok((assignment, resolved, _)) = self.resolve(&plan.conf) else { return };
        let remember = || {
            let stored = store::load(self.facts.machine, self.guest.ctid, &plan.conf)?;
            let mut stored = stored.unwrap_or_default();
            stored.forget(&Access::of(&plan.conf), self.facts);
            stored.assignment.join(&assignment);
            stored.names.extend(resolved.names);
            store::save(self.facts, self.guest.ctid, &plan.conf, stored)
        };
        if let Err(error) = remember() {
            self.say.warn(&format!(
                "the assignment of {} cannot be stored, so 'sync' will rely on device numbers: {error}",
                self.guest.target()
            ));
        }
    }
}
