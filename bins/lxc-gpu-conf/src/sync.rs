//! `sync`: brings containers back to what they are to have, after numbers have
//! moved: another major, another minor, another version of the driver.

use std::collections::BTreeMap;

use ::cli::{Exit, Failure, Say, catch_signals};
use nvidia::{NodeClass, classify};
use pve::{Conf, Guest};
use record::RecordWriter;

use crate::access::Access;
use crate::cli::{Options, Sync};
use crate::edit::{Editor, Planner, Stopped};
use crate::facts::Facts;
use crate::mend::{renumber, repair};
use crate::nodes;
use crate::plan::{Container, Plan, auto_style, give};
use crate::show::{require_some, selected};
use crate::state;
use crate::view::{concerns_gpu, numbers};

/// The verb.
pub fn run(
    options: &Options,
    sync: &Sync,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    require_some(&sync.which)?;
    let machine = options.common.machine()?;
    let mut guests = match sync.which.all {
        true => selected(&machine, &sync.which)?,
        // only this node's can be changed here
        false => {
            let found: Result<Vec<Guest>, Failure> =
                sync.which.ctid.iter().map(|ctid| Guest::find(&machine, *ctid)).collect();
            found?
        }
    };
    if !sync.change.only_look() {
        catch_signals();
    }
    if sync.which.all {
        guests.retain(|guest| guest.local);
        let here: Vec<u32> = guests.iter().map(|guest| guest.ctid).collect();
        if !sync.change.only_look() {
            state::forget_others(&machine, &here);
        }
    }
    // the nodes first: a container's lines cannot be right without them
    let nodes = nodes::ensure(&machine, &guests, &sync.change, say, writer)?;
    let mut exit = nodes.exit;
    let facts = Facts::read(&machine, say)?;
    // who only looks is told what would be planned with the nodes there
    for (path, numbers) in nodes.planned {
        facts.assume_node(path, numbers);
    }
    let mut seen = 0;
    for guest in &guests {
        let bytes = match guest.read(&machine) {
            Ok(bytes) => bytes,
            Err(_) if sync.which.all && guest.is_gone(&machine) => continue,
            Err(failure) => {
                say.error(&failure.message);
                exit = exit.max(Exit::System);
                continue;
            }
        };
        if !concerns_gpu(&bytes) || !Access::of(&Conf::parse(&bytes)).has_nvidia() {
            if !sync.which.all {
                say.note(&format!("{} has no GPU", guest.target()));
            }
            continue;
        }
        seen += 1;
        exit = exit.max(one(options, sync, &facts, guest, say, writer)?);
    }
    if seen == 0 && sync.which.all {
        say.note("no container has a GPU");
    }
    Ok(exit)
}

/// One container. What goes wrong with it is said, and the others come next.
fn one(
    options: &Options,
    sync: &Sync,
    facts: &Facts<'_>,
    guest: &Guest,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let editor = Editor {
        machine: facts.machine,
        guest,
        say,
        change: &sync.change,
        output: options.output.choice,
        command: format!("lxc-gpu-conf sync {}", guest.ctid),
        hotplug: false,
    };
    let syncing = Syncing { facts, guest, say };
    match editor.run(&syncing, writer) {
        Ok(edited) => {
            let changed = edited.changed && !sync.change.only_look();
            if changed && pve::is_running(facts.machine, guest.ctid) {
                say.note(&format!(
                    "{} runs: 'pct reboot {}' for the change to take effect",
                    guest.target(),
                    guest.ctid
                ));
            }
            Ok(edited.exit)
        }
        Err(stopped) => {
            let error = editor.stopped(stopped, writer);
            match error.downcast::<Failure>() {
                // an interruption ends it all
                Ok(failure) if ::cli::interrupted() => Err(failure.into()),
                Ok(failure) => {
                    say.failure(&failure);
                    Ok(failure.exit)
                }
                Err(other) => Err(other),
            }
        }
    }
}

struct Syncing<'a> {
    facts: &'a Facts<'a>,
    guest: &'a Guest,
    say: &'a Say,
}

impl Planner for Syncing<'_> {
    fn plan(&self, conf: &Conf) -> Result<Plan, Stopped> {
        let access = Access::of(conf);
        let container =
            Container { ctid: self.guest.ctid, unprivileged: pve::is_unprivileged(conf) };
        let now = |plan: &Plan| numbers(&Access::of(&plan.conf), self.facts);
        let mut plan = Plan::of(conf);
        let state = state::load(self.facts.machine, self.guest.ctid).map_err(Failure::from)?;
        let style = auto_style(&access, self.facts.pve_container()?.is_none_or(pve::has_dev));
        if let Some(state) = state {
            let resolved = state.wish.resolve(self.facts, self.guest, conf, style)?;
            let mut names = BTreeMap::new();
            for (name, old) in &state.names {
                if let Some(new) = resolved.names.get(name).filter(|new| *new != old) {
                    names.insert(old.clone(), new.clone());
                }
            }
            if !names.is_empty() {
                let rules = names
                    .iter()
                    .filter_map(|(old, new)| Some((self.device(old)?, self.device(new)?)));
                renumber(&mut plan, &names, &rules.collect());
            }
            let numbers = now(&plan);
            repair(&mut plan, container, &numbers);
            give(&mut plan, container, &resolved.target, style, &numbers)?;
        } else {
            let numbers = now(&plan);
            repair(&mut plan, container, &numbers);
        }
        Ok(plan)
    }

    fn done(&self, plan: &Plan) {
        let machine = self.facts.machine;
        let state = match state::load(machine, self.guest.ctid) {
            Ok(Some(state)) => state,
            Ok(None) => return,
            Err(error) => return self.say.warn(&error.to_string()),
        };
        let style = auto_style(&Access::of(&plan.conf), true);
        let Ok(resolved) = state.wish.resolve(self.facts, self.guest, &plan.conf, style) else {
            return;
        };
        if let Err(error) = state::save(machine, self.guest.ctid, &state.wish, resolved.names) {
            self.say.warn(&error.to_string());
        }
    }
}

impl Syncing<'_> {
    /// Numbers of a node by its name: the old one's are those that its name says,
    /// whoever has the name now.
    fn device(&self, path: &str) -> Option<(u32, u32)> {
        let drm = path.strip_prefix("/dev/dri/");
        if let Some(name) = drm {
            let digits = name.strip_prefix("card").or(name.strip_prefix("renderD"))?;
            return Some((226, digits.parse().ok()?));
        }
        match classify(path)? {
            class @ (NodeClass::Gpu(_) | NodeClass::Cap(_)) => self.facts.numbers(class),
            _ => None,
        }
    }
}
