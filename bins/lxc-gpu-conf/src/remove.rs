//! `remove`: takes GPUs away from a container.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Failure, Say, catch_signals, fail, records_from_stdin};
use nvidia::{Capability, NodeClass, classify};
use pve::{Conf, Guest};
use record::{Record, RecordWriter};

use crate::access::Access;
use crate::cli::{Options, Remove};
use crate::edit::{Editor, Planner, Stopped};
use crate::facts::Facts;
use crate::mend::{Taking, take};
use crate::plan::{Container, Plan, Refusal};
use crate::restart::{self, Restart};
use crate::state;
use crate::view::numbers;

/// The verb.
pub fn run(
    options: &Options,
    remove: &Remove,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let mut names: Vec<String> = remove.gpu.iter().filter(|name| *name != "-").cloned().collect();
    if remove.gpu.iter().any(|name| name == "-") {
        let records = records_from_stdin(say, &["pci-device"], "pci-device records")?;
        names.extend(records.iter().filter_map(|record| match record {
            Record::PciDevice(device) => Some(device.address.to_string()),
            _ => None,
        }));
    }
    let machine = options.common.machine()?;
    let guest = Guest::find(&machine, remove.ctid)?;
    let facts = Facts::read(&machine, say)?;
    let which = which(&facts, remove, &names)?;
    if !remove.change.only_look() {
        catch_signals();
    }
    let removing = Removing { facts: &facts, guest: &guest, which, say };
    let editor = Editor {
        machine: &machine,
        guest: &guest,
        say,
        change: &remove.change,
        output: options.output.choice,
        command: format!("lxc-gpu-conf remove {}", remove.ctid),
        hotplug: false,
    };
    let edited = match editor.run(&removing, writer) {
        Ok(edited) => edited,
        Err(stopped) => return Err(editor.stopped(stopped, writer)),
    };
    if !edited.changed {
        say.note(&format!("{} has none of it", guest.target()));
        if !remove.restart || remove.change.only_look() {
            return Ok(edited.exit);
        }
    }
    let restart = Restart {
        machine: &machine,
        guest: &guest,
        say,
        restart: remove.restart,
        start: false,
        wait: remove.wait,
    };
    if remove.change.only_look() {
        if !remove.change.check {
            restart::foretell(&restart, &edited, writer)?;
        }
        return Ok(edited.exit);
    }
    restart::finish(&restart, &edited, writer)
}

/// What is to go.
struct Which {
    /// Everything.
    all: bool,
    /// Minors of cards; also of cards that are no longer here.
    minors: BTreeSet<u32>,
    /// MIG instances: GPU instance, compute instance.
    mig: Vec<(u32, u32)>,
    /// Single nodes.
    nodes: Vec<String>,
    /// Mounted userspace.
    libs: bool,
}

fn which(facts: &Facts<'_>, remove: &Remove, names: &[String]) -> Result<Which, Failure> {
    let mut which = Which {
        all: names.is_empty() && remove.mig.is_empty() && remove.node.is_empty() && !remove.libs,
        minors: BTreeSet::new(),
        mig: Vec::new(),
        nodes: remove.node.clone(),
        libs: remove.libs,
    };
    for name in names {
        // a minor may be that of a card that is gone
        let minor = match name.parse::<u32>() {
            Ok(minor) => Some(minor),
            Err(_) if name == "all" => {
                which.all = true;
                continue;
            }
            Err(_) => {
                let address = name.parse::<record::Address>().ok();
                let gpu = facts.gpus.values().find(|gpu| {
                    Some(gpu.address) == address
                        || gpu.uuid.as_deref().is_some_and(|u| u.eq_ignore_ascii_case(name))
                });
                gpu.and_then(|gpu| gpu.minor)
            }
        };
        let Some(minor) = minor else {
            let message = format!("no GPU {name} of the nvidia driver on this host");
            return Err(fail(Exit::Usage, message)
                .hint("name it by its minor, as 'lxc-gpu-conf show' has it"));
        };
        which.minors.insert(minor);
    }
    for name in &remove.mig {
        match name.split_once('/').map(|(gi, ci)| (gi.parse(), ci.parse())) {
            Some((Ok(gi), Ok(ci))) => which.mig.push((gi, ci)),
            _ => return Err(fail(Exit::Usage, format!("--mig '{name}' is not GI/CI"))),
        }
    }
    for path in &remove.node {
        if classify(path).is_none() && !path.starts_with("/dev/dri/") {
            return Err(fail(Exit::Usage, format!("--node '{path}' is no node of a GPU")));
        }
    }
    Ok(which)
}

struct Removing<'a> {
    facts: &'a Facts<'a>,
    guest: &'a Guest,
    which: Which,
    say: &'a Say,
}

impl Removing<'_> {
    fn taking(&self, access: &Access) -> Result<Taking, Stopped> {
        let devs = access.devs.values().map(|dev| dev.path.clone());
        let given: BTreeSet<String> =
            devs.chain(access.mounts.iter().map(|mount| mount.target.clone())).collect();
        let minors: BTreeSet<u32> = given
            .iter()
            .filter_map(|path| match classify(path) {
                Some(NodeClass::Gpu(minor)) => Some(minor),
                _ => None,
            })
            .collect();
        // the last card takes with it what all share
        let cards = !self.which.minors.is_empty() && self.which.mig.is_empty();
        let all = self.which.all || (cards && minors.is_subset(&self.which.minors));
        for path in &self.which.nodes {
            if let Some(mount) = access.mounted(path).filter(|mount| mount.target != *path) {
                return Err(Refusal {
                    property: path.clone(),
                    reason: format!("comes with {}, which is mounted as a whole", mount.target),
                    hint: format!(
                        "'lxc-gpu-conf add {} --convert' gives single nodes instead",
                        self.guest.ctid
                    ),
                }
                .into());
            }
        }
        let instances = self.instances(&given)?;
        let number = |path: &str| {
            self.facts.node(path).filter(host::Node::is_char).map(|node| (node.major, node.minor))
        };
        let paths: BTreeMap<String, Option<(u32, u32)>> = given
            .into_iter()
            .filter(|path| self.goes(path, all, &instances))
            .map(|path| (path.clone(), number(&path)))
            .collect();
        Ok(Taking { all, paths, userspace: all || self.which.libs })
    }

    /// Capabilities of the instances that are to go: those of the compute
    /// instances, and of a GPU instance with its last one. Errors: an instance
    /// may be of several cards.
    fn instances(&self, given: &BTreeSet<String>) -> Result<BTreeSet<u32>, Failure> {
        let caps: BTreeMap<u32, Capability> = given
            .iter()
            .filter_map(|path| match classify(path) {
                Some(NodeClass::Cap(cap)) => Some((cap, *self.facts.mig().capabilities.get(&cap)?)),
                _ => None,
            })
            .collect();
        let mut gone = BTreeSet::new();
        for (gi, ci) in &self.which.mig {
            let of_card =
                |gpu: u32| self.which.minors.is_empty() || self.which.minors.contains(&gpu);
            let cards: BTreeSet<u32> = caps
                .values()
                .filter_map(|capability| match capability {
                    Capability::Ci(gpu, g, c) if (g, c) == (gi, ci) => Some(*gpu),
                    Capability::Gi(gpu, g) if g == gi => Some(*gpu),
                    _ => None,
                })
                .filter(|gpu| of_card(*gpu))
                .collect();
            if cards.len() > 1 {
                let message = format!("--mig {gi}/{ci} may be of any of several GPUs");
                return Err(fail(Exit::Usage, message).hint("say which with --gpu"));
            }
            gone.extend(caps.iter().filter_map(|(cap, capability)| match capability {
                Capability::Ci(gpu, g, c) if cards.contains(gpu) && (g, c) == (gi, ci) => {
                    Some(*cap)
                }
                _ => None,
            }));
            // without a compute instance the GPU instance's is of no use
            for gpu in cards {
                let left = caps.iter().any(|(cap, capability)| {
                    matches!(capability, Capability::Ci(p, g, _) if (*p, g) == (gpu, gi))
                        && !gone.contains(cap)
                });
                let of_gi = caps.iter().find(|(_, c)| **c == Capability::Gi(gpu, *gi));
                gone.extend(of_gi.map(|(cap, _)| *cap).filter(|_| !left));
            }
        }
        Ok(gone)
    }

    fn goes(&self, path: &str, all: bool, instances: &BTreeSet<u32>) -> bool {
        if self.which.nodes.iter().any(|node| node == path) {
            return true;
        }
        // with --mig a card is only where the instance is
        let cards = self.which.mig.is_empty();
        let of = |minor: u32| all || (cards && self.which.minors.contains(&minor));
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

impl Planner for Removing<'_> {
    fn plan(&self, conf: &Conf) -> Result<Plan, Stopped> {
        let access = Access::of(conf);
        let container =
            Container { ctid: self.guest.ctid, unprivileged: pve::is_unprivileged(conf) };
        let mut plan = Plan::of(conf);
        // what cannot be read cannot be brought up to date afterwards
        state::load(self.facts.machine, self.guest.ctid).map_err(Failure::from)?;
        take(&mut plan, container, &self.taking(&access)?, &numbers(&access, self.facts))?;
        Ok(plan)
    }

    /// Forgets what is no longer given.
    fn done(&self, plan: &Plan) {
        let machine = self.facts.machine;
        let mut old = match state::load(machine, self.guest.ctid) {
            Ok(Some(old)) => old,
            Ok(None) => return,
            Err(error) => return self.say.warn(&error.to_string()),
        };
        // what was taken by name stays away, under whatever number
        for path in &self.which.nodes {
            let name = old.names.iter().find(|(_, then)| *then == path);
            old.wish.without.insert(name.map_or(path, |(name, _)| name).clone());
        }
        old.forget(&Access::of(&plan.conf), self.facts);
        if let Err(error) = state::save(machine, self.guest.ctid, &old.wish, old.names) {
            self.say.warn(&error.to_string());
        }
    }
}
