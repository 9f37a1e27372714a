//! `sync`: repairs the GPU configuration of containers after a major, a minor or
//! the driver version has changed.

use std::collections::BTreeMap;

use ::cli::{Exit, Failure, Say, catch_signals};
use advice::external::pct_reboot;
use host::Machine;
use nvidia::{NodeClass, classify};
use pve::{Conf, Guest};
use record::{RecordWriter, shell_words};

use crate::apply::device_nodes;
use crate::apply::edit::{ConfigEditor, ConfigPlanner, EditStop};
use crate::cli::{Options, Sync};
use crate::commands::selection::{require_some, selected};
use crate::config::access::{Access, mentions_gpu};
use crate::config::device_numbers::DeviceNumbers;
use crate::config::device_rules::DeviceRule;
use crate::config::resolve::{present_names, resolve};
use crate::config::stale_rules::is_dynamic_rule;
use crate::host_facts::HostFacts;
use crate::plan::add_nodes::auto_style;
use crate::plan::model::{ConfigPlan, ContainerFacts};
use crate::plan::mount_libraries::mount_libraries;
use crate::plan::repair::{keep_nodes, renumber, repair_rules};
use crate::store::{self, StoredAssignment};

/// Runs `sync`.
pub fn run(
    options: &Options,
    sync: &Sync,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    require_some(&sync.selection)?;
    let machine = options.common.machine()?;
    let guests = local_guests(&machine, sync)?;
    if !sync.change.only_look() {
        catch_signals();
        if sync.selection.all {
            let local: Vec<u32> = guests.iter().map(|guest| guest.ctid).collect();
            store::remove_others(&machine, &local);
        }
    }
    // the lines of a container depend on the nodes of the host
    let nodes = device_nodes::ensure(&machine, &guests, &sync.change, say, writer)?;
    let mut exit = nodes.exit;
    let facts = HostFacts::read(&machine, say)?;
    for (path, numbers) in nodes.planned {
        facts.assume_node(path, numbers);
    }
    let mut with_gpu = 0;
    for guest in &guests {
        let bytes = match guest.read(&machine) {
            Ok(bytes) => bytes,
            Err(_) if sync.selection.all && guest.is_gone(&machine) => continue,
            Err(failure) => {
                say.failure(&failure);
                exit = exit.max(Exit::System);
                continue;
            }
        };
        if !mentions_gpu(&bytes) || !Access::of(&Conf::parse(&bytes)).has_nvidia() {
            if !sync.selection.all {
                say.note(&format!("{} has no GPU", guest.target()));
            }
            continue;
        }
        with_gpu += 1;
        exit = exit.max(sync_one(options, sync, &facts, guest, say, writer)?);
    }
    if with_gpu == 0 && sync.selection.all {
        say.note("no container has a GPU");
    }
    Ok(exit)
}

/// The selected containers of this host: only those can be changed here.
fn local_guests(machine: &Machine, sync: &Sync) -> Result<Vec<Guest>, Failure> {
    if !sync.selection.all {
        return sync.selection.ctid.iter().map(|ctid| Guest::find(machine, *ctid)).collect();
    }
    let mut guests = selected(machine, &sync.selection)?;
    guests.retain(|guest| guest.local);
    Ok(guests)
}

/// Repairs one container. Its failure is printed and does not stop the others.
fn sync_one(
    options: &Options,
    sync: &Sync,
    facts: &HostFacts<'_>,
    guest: &Guest,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let editor = ConfigEditor {
        machine: facts.machine,
        guest,
        say,
        change: &sync.change,
        output: options.output.choice,
        command: advice::lxc_gpu_conf::sync(guest.ctid),
        hotplug: false,
    };
    let planner = SyncPlanner { facts, guest, say };
    match editor.run(&planner, writer) {
        Ok(edited) => {
            let changed = edited.changed && !sync.change.only_look();
            if changed && pve::is_running(facts.machine, guest.ctid) {
                say.note(&format!(
                    "{}: the container is running; restart it for the change to take effect ({})",
                    guest.target(),
                    shell_words(&pct_reboot(guest.ctid))
                ));
            }
            Ok(edited.exit)
        }
        Err(stop) => match editor.stopped(stop, writer).downcast::<Failure>() {
            // an interruption ends the whole run
            Ok(failure) if ::cli::interrupted() => Err(failure.into()),
            Ok(failure) => {
                say.failure(&failure);
                Ok(failure.exit)
            }
            Err(other) => Err(other),
        },
    }
}

struct SyncPlanner<'a> {
    facts: &'a HostFacts<'a>,
    guest: &'a Guest,
    say: &'a Say,
}

impl ConfigPlanner for SyncPlanner<'_> {
    /// The configuration decides what the container has: a node whose line was
    /// removed is not added again, and owner and mode stay as they are.
    fn plan(&self, conf: &Conf) -> Result<ConfigPlan, EditStop> {
        let access = Access::of(conf);
        let container = ContainerFacts {
            ctid: self.guest.ctid,
            unprivileged: pve::is_unprivileged(conf),
            ..ContainerFacts::default()
        };
        let mut plan = ConfigPlan::of(conf);
        let Some(mut stored) = self.stored(conf)? else {
            self.repair_rules(&mut plan, &container, None);
            return Ok(plan);
        };
        stored.forget(&access, self.facts);
        let style = auto_style(&access, self.facts.pve_container()?.is_none_or(pve::has_dev));
        let mut resolved = resolve(&stored.assignment, self.facts, self.guest, conf, style)?;
        let renamed: BTreeMap<String, String> = stored
            .names
            .iter()
            .filter_map(|(name, old)| {
                let new = resolved.names.get(name).filter(|new| *new != old)?;
                Some((old.clone(), new.clone()))
            })
            .collect();
        if !renamed.is_empty() {
            let rules = renamed
                .iter()
                .filter_map(|(old, new)| Some((self.numbers_of(old)?, self.numbers_of(new)?)));
            renumber(&mut plan, &renamed, &rules.collect());
        }
        self.repair_rules(&mut plan, &container, Some(&stored));
        keep_nodes(&mut plan, &resolved.desired.nodes);
        if let Some(files) = resolved.desired.files.take() {
            mount_libraries(&mut plan, &files);
        }
        Ok(plan)
    }

    fn done(&self, plan: &ConfigPlan) {
        let mut stored = match store::load(self.facts.machine, self.guest.ctid, &plan.conf) {
            Ok(Some(stored)) => stored,
            Ok(None) => return,
            Err(error) => return self.say.warn(&error.to_string()),
        };
        let access = Access::of(&plan.conf);
        let present = present_names(&stored.assignment, self.facts);
        for (name, path) in &mut stored.names {
            if let Some(now) = present.get(name) {
                path.clone_from(now);
            }
        }
        stored.forget(&access, self.facts);
        if let Err(error) = store::save(self.facts, self.guest.ctid, &plan.conf, stored) {
            self.say.warn(&error.to_string());
        }
    }
}

impl SyncPlanner<'_> {
    fn stored(&self, conf: &Conf) -> Result<Option<StoredAssignment>, Failure> {
        Ok(store::load(self.facts.machine, self.guest.ctid, conf)?)
    }

    /// Repairs the rules. Where the present major of a driver had none, names the
    /// rules that stay and that may be for its earlier major.
    fn repair_rules(
        &self,
        plan: &mut ConfigPlan,
        container: &ContainerFacts,
        stored: Option<&StoredAssignment>,
    ) {
        let access = Access::of(&plan.conf);
        let numbers =
            DeviceNumbers::of(&access, self.facts).remembering(stored.map(|stored| &stored.rules));
        repair_rules(plan, container, &numbers);
        let rules = Access::of(&plan.conf).rules;
        let added = numbers.dynamic_rules().any(|text| {
            let has = |rules: &[DeviceRule]| rules.iter().any(|rule| rule.text == text);
            has(&rules) && !has(&access.rules)
        });
        let unknown = rules.iter().filter(|rule| is_dynamic_rule(rule, &numbers));
        for rule in unknown.filter(|_| added) {
            self.say.note(&format!(
                "{}: the device rule '{}' is for no NVIDIA driver; it was kept, because it may be \
                 for another device",
                self.guest.target(),
                rule.text
            ));
        }
    }

    /// The numbers that belong to a node's name, whichever GPU has the name now.
    fn numbers_of(&self, path: &str) -> Option<(u32, u32)> {
        if let Some(name) = path.strip_prefix("/dev/dri/") {
            let digits = name.strip_prefix("card").or(name.strip_prefix("renderD"))?;
            return Some((226, digits.parse().ok()?));
        }
        match classify(path)? {
            class @ (NodeClass::Gpu(_) | NodeClass::Cap(_)) => self.facts.numbers(class),
            _ => None,
        }
    }
}
