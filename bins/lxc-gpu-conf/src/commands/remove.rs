//! `remove`: takes GPUs away from a container.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Failure, Say, catch_signals, fail, records_from_stdin};
use advice::lxc_gpu_conf::{AddOptions, RemoveOptions, add};
use nvidia::{Capability, NodeClass, classify};
use pve::{Conf, Guest};
use record::{Hint, PciDevice, Record, RecordWriter, Role};

use crate::apply::edit::{ConfigEditor, ConfigPlanner, EditStop};
use crate::apply::restart::RestartRequest;
use crate::cli::{Options, Remove};
use crate::config::access::Access;
use crate::config::device_numbers::DeviceNumbers;
use crate::host_facts::HostFacts;
use crate::plan::model::{ConfigPlan, ContainerFacts, Refusal};
use crate::plan::remove_nodes::{Removal, remove_nodes};
use crate::store;

/// Runs `remove`.
pub fn run(
    options: &Options,
    remove: &Remove,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let records = piped_records(remove, say)?;
    let machine = options.common.machine()?;
    let guest = Guest::find(&machine, remove.ctid)?;
    let facts = HostFacts::read(&machine, say)?;
    let names = gpu_names(&facts, remove, records)?;
    let selection = RemovalSelection::of(&facts, remove, &names)?;
    if !remove.change.only_look() {
        catch_signals();
    }
    let planner = RemovePlanner { facts: &facts, guest: &guest, selection, say };
    let asked = RemoveOptions {
        gpus: names,
        mig: remove.mig.clone(),
        nodes: remove.node.clone(),
        libs: remove.libs,
        restart: remove.restart,
        wait: remove.wait,
    };
    let editor = ConfigEditor {
        machine: &machine,
        guest: &guest,
        say,
        change: &remove.change,
        output: options.output.choice,
        command: advice::lxc_gpu_conf::remove(remove.ctid, &asked),
        hotplug: false,
    };
    let edited = match editor.run(&planner, writer) {
        Ok(edited) => edited,
        Err(stop) => return Err(editor.stopped(stop, writer)),
    };
    if !edited.changed {
        say.note(&format!("{} has nothing to remove", guest.target()));
        if !remove.restart || remove.change.only_look() {
            return Ok(edited.exit);
        }
    }
    let request = RestartRequest {
        machine: &machine,
        guest: &guest,
        say,
        restart: remove.restart,
        start: false,
        wait: remove.wait,
    };
    if !remove.change.only_look() {
        return request.finish(&edited, writer);
    }
    if !remove.change.check {
        request.preview(&edited, writer)?;
    }
    Ok(edited.exit)
}

/// The records on standard input, where `--gpu -` asks for them.
fn piped_records(remove: &Remove, say: &Say) -> Result<Option<Vec<PciDevice>>, Failure> {
    if !remove.gpu.iter().any(|name| name == "-") {
        return Ok(None);
    }
    let records = records_from_stdin(say, &["pci-device"], "pci-device records")?;
    let devices = records.into_iter().filter_map(|record| match record {
        Record::PciDevice(device) => Some(*device),
        _ => None,
    });
    Ok(Some(devices.collect()))
}

/// The names of `--gpu`, with `-` replaced by the NVIDIA GPUs among the records.
/// Other functions of a slot and GPUs of other vendors are passed over, as by
/// `add`. Errors: no record is an NVIDIA GPU; an empty list would mean all.
fn gpu_names(
    facts: &HostFacts<'_>,
    remove: &Remove,
    records: Option<Vec<PciDevice>>,
) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = remove.gpu.iter().filter(|name| *name != "-").cloned().collect();
    let Some(records) = records else { return Ok(names) };
    let functions = &facts.system()?.functions;
    let is_ours = |device: &PciDevice| {
        let function = functions.get(&device.address);
        device.role.is_none_or(|role| role == Role::Gpu)
            && function
                .is_none_or(|f| f.is_gpu() && f.vendor == Some(pci::NVIDIA) && f.pf.is_none())
    };
    let before = names.len();
    names.extend(records.iter().filter(|d| is_ours(d)).map(|d| d.address.to_string()));
    match names.len() > before {
        true => Ok(names),
        false => Err(fail(Exit::Usage, "no record on standard input is an NVIDIA GPU")
            .run(advice::lxc_gpu_conf::show(remove.ctid))),
    }
}

/// What the command line selects for removal.
struct RemovalSelection {
    /// Everything.
    all: bool,
    /// Minors of GPUs, also of GPUs that the host no longer has.
    minors: BTreeSet<u32>,
    /// MIG instances: GPU instance, compute instance.
    mig: Vec<(u32, u32)>,
    /// Paths of single nodes.
    nodes: Vec<String>,
    /// Mounted driver libraries.
    libs: bool,
}

impl RemovalSelection {
    fn of(
        facts: &HostFacts<'_>,
        remove: &Remove,
        names: &[String],
    ) -> Result<RemovalSelection, Failure> {
        let single = !remove.mig.is_empty() || !remove.node.is_empty() || remove.libs;
        let mut selection = RemovalSelection {
            all: (names.is_empty() && !single) || names.iter().any(|name| name == "all"),
            minors: BTreeSet::new(),
            mig: Vec::new(),
            nodes: remove.node.clone(),
            libs: remove.libs,
        };
        for name in names.iter().filter(|name| *name != "all") {
            let Some(minor) = minor_of(facts, name) else {
                let message = format!("no GPU {name} is bound to the nvidia driver of this host");
                return Err(fail(Exit::Usage, message)
                    .hint("name it by its minor, which 'show' prints")
                    .run(advice::lxc_gpu_conf::show(remove.ctid)));
            };
            selection.minors.insert(minor);
        }
        for name in &remove.mig {
            match name.split_once('/').map(|(gi, ci)| (gi.parse(), ci.parse())) {
                Some((Ok(gi), Ok(ci))) => selection.mig.push((gi, ci)),
                _ => return Err(fail(Exit::Usage, format!("--mig '{name}' is not GI/CI"))),
            }
        }
        for path in &remove.node {
            if classify(path).is_none() && !path.starts_with("/dev/dri/") {
                let message = format!("--node '{path}' is not a device node of a GPU");
                return Err(fail(Exit::Usage, message));
            }
        }
        Ok(selection)
    }
}

/// The minor of a name. A minor may be that of a GPU that was removed.
fn minor_of(facts: &HostFacts<'_>, name: &str) -> Option<u32> {
    if let Ok(minor) = name.parse::<u32>() {
        return Some(minor);
    }
    let address = name.parse::<record::Address>().ok();
    let same = |uuid: &str| uuid.eq_ignore_ascii_case(name);
    let mut gpus = facts.gpus.values();
    gpus.find(|gpu| Some(gpu.address) == address || gpu.uuid.as_deref().is_some_and(same))?.minor
}

struct RemovePlanner<'a> {
    facts: &'a HostFacts<'a>,
    guest: &'a Guest,
    selection: RemovalSelection,
    say: &'a Say,
}

impl RemovePlanner<'_> {
    fn removal(&self, access: &Access) -> Result<Removal, EditStop> {
        self.refuse_part_of_directory(access)?;
        let given: BTreeSet<String> = access.targets().cloned().collect();
        let minors: BTreeSet<u32> = given
            .iter()
            .filter_map(|path| match classify(path) {
                Some(NodeClass::Gpu(minor)) => Some(minor),
                _ => None,
            })
            .collect();
        // shared nodes are removed with the last GPU
        let whole_gpus = !self.selection.minors.is_empty() && self.selection.mig.is_empty();
        let all = self.selection.all || (whole_gpus && minors.is_subset(&self.selection.minors));
        let instances = self.capabilities(&given)?;
        let numbers = |path: &str| {
            self.facts.node(path).filter(host::Node::is_char).map(|node| (node.major, node.minor))
        };
        let paths: BTreeMap<String, Option<(u32, u32)>> = given
            .into_iter()
            .filter(|path| self.is_removed(path, all, &instances))
            .map(|path| (path.clone(), numbers(&path)))
            .collect();
        Ok(Removal { all, paths, libraries: all || self.selection.libs })
    }

    fn refuse_part_of_directory(&self, access: &Access) -> Result<(), Refusal> {
        for path in &self.selection.nodes {
            let mounted = access.mounted(path).filter(|mount| mount.target != *path);
            // a dev[n] of its own is removed, and the directory stays
            let Some(mount) = mounted.filter(|_| access.dev(path).is_none()) else { continue };
            let convert = AddOptions { convert: true, ..AddOptions::default() };
            return Err(Refusal {
                property: path.clone(),
                reason: format!("is part of {}, which is mounted as a directory", mount.target),
                hint: Hint::command(add(self.guest.ctid, &convert))
                    .because("convert the mount entry to single dev[n] first"),
            });
        }
        Ok(())
    }

    /// Capabilities of the selected MIG instances: those of the compute instances,
    /// and that of a GPU instance with its last one. Errors: several GPUs have such
    /// an instance.
    fn capabilities(&self, given: &BTreeSet<String>) -> Result<BTreeSet<u32>, Failure> {
        let caps: BTreeMap<u32, Capability> = given
            .iter()
            .filter_map(|path| match classify(path) {
                Some(NodeClass::Cap(cap)) => Some((cap, *self.facts.mig().capabilities.get(&cap)?)),
                _ => None,
            })
            .collect();
        let mut removed = BTreeSet::new();
        for (gi, ci) in &self.selection.mig {
            let minors = &self.selection.minors;
            let gpus: BTreeSet<u32> = caps
                .values()
                .filter_map(|capability| match capability {
                    Capability::Ci(gpu, g, c) if (g, c) == (gi, ci) => Some(*gpu),
                    Capability::Gi(gpu, g) if g == gi => Some(*gpu),
                    _ => None,
                })
                .filter(|gpu| minors.is_empty() || minors.contains(gpu))
                .collect();
            if gpus.len() > 1 {
                let message = format!("--mig {gi}/{ci} is ambiguous: several GPUs have it");
                return Err(fail(Exit::Usage, message).hint("select the GPU with --gpu"));
            }
            for gpu in gpus {
                let of = |wanted: Capability| caps.iter().find(move |(_, c)| **c == wanted);
                removed.extend(of(Capability::Ci(gpu, *gi, *ci)).map(|(cap, _)| *cap));
                let in_use = caps.iter().any(|(cap, capability)| {
                    matches!(capability, Capability::Ci(g, i, _) if (*g, i) == (gpu, gi))
                        && !removed.contains(cap)
                });
                let of_gi = of(Capability::Gi(gpu, *gi)).map(|(cap, _)| *cap);
                removed.extend(of_gi.filter(|_| !in_use));
            }
        }
        Ok(removed)
    }

    fn is_removed(&self, path: &str, all: bool, instances: &BTreeSet<u32>) -> bool {
        if self.selection.nodes.iter().any(|node| node == path) {
            return true;
        }
        // with --mig a GPU only says where the instance is
        let whole_gpus = self.selection.mig.is_empty();
        let of = |minor: u32| all || (whole_gpus && self.selection.minors.contains(&minor));
        match classify(path) {
            Some(NodeClass::Gpu(minor)) => of(minor),
            Some(NodeClass::Cap(cap)) => match self.facts.mig().capabilities.get(&cap) {
                Some(Capability::Gi(gpu, _) | Capability::Ci(gpu, _, _)) => {
                    of(*gpu) || instances.contains(&cap)
                }
                _ => all,
            },
            Some(_) => all,
            None => self.facts.of_drm(path).and_then(|gpu| gpu.minor).is_some_and(of),
        }
    }
}

impl ConfigPlanner for RemovePlanner<'_> {
    fn plan(&self, conf: &Conf) -> Result<ConfigPlan, EditStop> {
        let access = Access::of(conf);
        let container = ContainerFacts {
            ctid: self.guest.ctid,
            unprivileged: pve::is_unprivileged(conf),
            ..ContainerFacts::default()
        };
        // what cannot be read now cannot be updated after the change
        let stored =
            store::load(self.facts.machine, self.guest.ctid, conf).map_err(Failure::from)?;
        let mut plan = ConfigPlan::of(conf);
        let numbers = DeviceNumbers::of(&access, self.facts)
            .remembering(stored.as_ref().map(|stored| &stored.rules));
        remove_nodes(&mut plan, &container, &self.removal(&access)?, &numbers)?;
        Ok(plan)
    }

    /// Drops from the store what is no longer given.
    fn done(&self, plan: &ConfigPlan) {
        let mut stored = match store::load(self.facts.machine, self.guest.ctid, &plan.conf) {
            Ok(Some(stored)) => stored,
            Ok(None) => return,
            Err(error) => return self.say.warn(&error.to_string()),
        };
        // a node that was removed by name stays removed, whatever its number becomes
        for path in &self.selection.nodes {
            let name = stored.names.iter().find(|(_, then)| *then == path);
            let name = name.map_or(path, |(name, _)| name).clone();
            stored.assignment.without.insert(name);
        }
        stored.forget(&Access::of(&plan.conf), self.facts);
        if let Err(error) = store::save(self.facts, self.guest.ctid, &plan.conf, stored) {
            self.say.warn(&error.to_string());
        }
    }
}
