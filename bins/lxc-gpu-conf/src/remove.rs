//! `remove`: takes GPUs away from a container.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Failure, Say, catch_signals, fail, records_from_stdin};
use nvidia::{Capability, NodeClass, classify};
use pve::{Conf, Guest};
use record::{Record, Sink};

use crate::access::Access;
use crate::cli::{Options, Remove};
use crate::edit::{Editor, Planner, Stopped};
use crate::facts::Facts;
use crate::plan::{Container, Plan, Taking, take};
use crate::restart::{self, Restart};
use crate::state;
use crate::view::numbers;
use crate::wish::Wish;

/// The verb.
pub fn run(options: &Options, remove: &Remove, say: &Say, sink: &mut Sink) -> anyhow::Result<Exit> {
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
        output: options.output,
        command: format!("lxc-gpu-conf remove {}", remove.ctid),
        hotplug: false,
    };
    let edited = match editor.run(&removing, sink) {
        Ok(edited) => edited,
        Err(stopped) => return Err(editor.stopped(stopped, sink)),
    };
    if remove.change.only_look() {
        return Ok(edited.exit);
    }
    if !edited.changed && !remove.restart {
        say.note(&format!("{} has none of it", guest.target()));
        return Ok(edited.exit);
    }
    let restart = Restart {
        machine: &machine,
        guest: &guest,
        say,
        restart: remove.restart,
        wait: remove.wait,
    };
    restart::finish(&restart, &edited, sink)
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
    fn taking(&self, access: &Access) -> Taking {
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
        let last = !self.which.minors.is_empty() && minors.is_subset(&self.which.minors);
        let all = self.which.all || last;
        let number = |path: &str| {
            self.facts.node(path).filter(host::Node::is_char).map(|node| (node.major, node.minor))
        };
        let paths: BTreeMap<String, Option<(u32, u32)>> = given
            .into_iter()
            .filter(|path| self.goes(path, all))
            .map(|path| (path.clone(), number(&path)))
            .collect();
        Taking { all, paths, userspace: all || self.which.libs }
    }

    fn goes(&self, path: &str, all: bool) -> bool {
        if self.which.nodes.iter().any(|node| node == path) {
            return true;
        }
        let of = |minor: u32| all || self.which.minors.contains(&minor);
        match classify(path) {
            Some(NodeClass::Gpu(minor)) => of(minor),
            Some(NodeClass::Cap(cap)) => match self.facts.mig().capabilities.get(&cap) {
                Some(Capability::Gi(gpu, gi)) => {
                    of(*gpu) || self.which.mig.iter().any(|mig| mig.0 == *gi)
                }
                Some(Capability::Ci(gpu, gi, ci)) => {
                    of(*gpu) || self.which.mig.contains(&(*gi, *ci))
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
        take(&mut plan, container, &self.taking(&access), &numbers(&access, self.facts))?;
        Ok(plan)
    }

    /// Forgets what is no longer given.
    fn done(&self, plan: &Plan) {
        let machine = self.facts.machine;
        let Some(mut old) = state::load(machine, self.guest.ctid) else { return };
        let access = Access::of(&plan.conf);
        if !access.has_nvidia() {
            old.wish = Wish::default();
        }
        let given = |path: &str| access.dev(path).is_some() || access.mounted(path).is_some();
        let gone: Vec<String> = old
            .names
            .iter()
            .filter(|(name, path)| name.ends_with("/gpu") && !given(path))
            .filter_map(|(name, _)| name.strip_suffix("/gpu").map(str::to_string))
            .collect();
        old.wish.gpus.retain(|gpu| {
            !gone
                .iter()
                .any(|key| gpu.uuid.as_ref() == Some(key) || gpu.address.to_string() == *key)
        });
        old.wish.mig.retain(|mig| {
            let id = format!("gi{}-ci{}", mig.gi, mig.ci);
            old.names.iter().any(|(name, path)| name.ends_with(&id) && given(path))
        });
        if !access.mounts.iter().any(|mount| crate::access::is_userspace(&mount.target)) {
            old.wish.userspace = None;
        }
        let drm = |(name, path): (&String, &String)| name.contains("/drm-") && given(path);
        old.wish.graphics &= old.names.iter().any(drm);
        old.names.retain(|_, path| given(path));
        if let Err(error) = state::save(machine, self.guest.ctid, &old.wish, old.names) {
            self.say.warn(&error.to_string());
        }
    }
}
