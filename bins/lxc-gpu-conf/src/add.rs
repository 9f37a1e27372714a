//! `add`: parse, plan, apply.

use std::cell::RefCell;

use ::cli::{Exit, Failure, Say, catch_signals, fail, records_from_stdin};
use host::Machine;
use pve::{Conf, Guest};
use record::{Change, ChangeStatus, PciDevice, Record, RecordWriter};

use crate::access::Access;
use crate::cli::{Add, Options, StyleChoice};
use crate::edit::{Edited, Editor, Planner, Stopped};
use crate::facts::{Facts, PassedOver, Wanted};
use crate::mig;
use crate::plan::{Container, Plan, Refusal, Style, auto_style, give};
use crate::resolve::{Cannot, Resolved};
use crate::restart::{self, Restart};
use crate::state;
use crate::view::{no_access, numbers, shuts_out};
use crate::wish::{GpuWish, UserspaceWish, Wish};

/// The verb.
pub fn run(
    options: &Options,
    add: &Add,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    if add.convert && add.style == StyleChoice::Mount {
        return Err(fail(Exit::Usage, "--convert makes dev[n]: it does not go with --style mount")
            .hint("without --convert mount entries that are there are completed")
            .into());
    }
    // all input is read and checked before anything else
    let piped = add.reads_stdin();
    let records = if piped { from_stdin(say)? } else { Vec::new() };
    let machine = options.common.machine()?;
    let guest = Guest::find(&machine, add.ctid)?;
    let facts = Facts::read(&machine, say)?;
    let (wanted, over) =
        if piped { facts.of_records(&records)? } else { (facts.named(&add.gpu)?, Vec::new()) };
    let wish = wish(add, &facts, &wanted)?;
    if !add.change.only_look() {
        catch_signals();
    }
    let adding = Adding { facts: &facts, guest: &guest, add, wish, say, told: RefCell::default() };
    let editor = Editor {
        machine: &machine,
        guest: &guest,
        say,
        change: &add.change,
        output: options.output.choice,
        command: format!("lxc-gpu-conf add {}", add.ctid),
        hotplug: !add.no_hotplug,
    };
    for change in over.iter().map(|gpu| skipped(&editor, gpu)) {
        if !add.change.check {
            writer.put(Record::Change(change))?;
        }
    }
    let edited = match editor.run(&adding, writer) {
        Ok(edited) => edited,
        Err(stopped) => return Err(editor.stopped(stopped, writer)),
    };
    adding.after(&machine, &edited, writer)
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

fn skipped(editor: &Editor<'_>, gpu: &PassedOver) -> Change {
    let mut change = editor.change_of("gpu");
    change.to = Some(gpu.address.to_string());
    change.status = ChangeStatus::Skipped;
    change.reason = Some(gpu.why.clone());
    change
}

/// What the command line asks for, in terms that outlive a reboot.
fn wish(add: &Add, facts: &Facts<'_>, wanted: &[Wanted]) -> Result<Wish, Failure> {
    let mut wish = Wish {
        gpus: wanted.iter().map(|gpu| GpuWish::of(facts, gpu)).collect(),
        mig_monitor: add.mig_monitor,
        graphics: add.graphics,
        imex: imex(add, facts.machine)?,
        fabric: add.fabric,
        uid: add.uid,
        gid: add.gid,
        mode: add.mode.clone(),
        ..Wish::default()
    };
    for name in &add.mig {
        let mig = mig::named(facts, name, wanted)?;
        if !wish.gpus.contains(&mig.gpu) {
            wish.gpus.push(mig.gpu.clone());
        }
        wish.mig.push(mig);
    }
    if !add.libs.is_empty() || add.share_driver.is_some() {
        let sets = match add.libs.is_empty() {
            true => vec!["utility".into(), "compute".into(), "video".into()],
            false => add.libs.iter().map(|set| set.as_str().to_string()).collect(),
        };
        let dir = add.share_driver.clone();
        if let Some(dir) = dir.as_deref().filter(|dir| !dir.starts_with('/')) {
            return Err(fail(Exit::Usage, format!("--share-driver '{dir}' is no absolute path")));
        }
        wish.userspace = Some(UserspaceWish { sets, dir });
    }
    Ok(wish)
}

/// `--imex 0,3` or `all` that exist.
fn imex(add: &Add, machine: &Machine) -> Result<Vec<u32>, Failure> {
    let mut channels = Vec::new();
    for name in &add.imex {
        if name == "all" {
            let names = machine.nodes_in("/dev/nvidia-caps-imex-channels")?;
            let ids = names.iter().filter_map(|name| name.strip_prefix("channel")?.parse().ok());
            channels.extend(ids.collect::<Vec<u32>>());
            if channels.is_empty() {
                return Err(fail(Exit::Usage, "this host has no IMEX channel")
                    .hint("make one with 'nvidia-modprobe -i', or leave out --imex"));
            }
            continue;
        }
        // ids go up to 2^20 - 1 (container toolkit, lib-imex.go)
        match name.parse::<u32>() {
            Ok(id) if id < 1 << 20 => channels.push(id),
            _ => {
                let message = format!("--imex '{name}' is neither a channel's number nor 'all'");
                return Err(fail(Exit::Usage, message));
            }
        }
    }
    Ok(channels)
}

struct Adding<'a> {
    facts: &'a Facts<'a>,
    guest: &'a Guest,
    add: &'a Add,
    wish: Wish,
    say: &'a Say,
    /// Notes that were said already: a plan may be made twice.
    told: RefCell<Vec<String>>,
}

impl Adding<'_> {
    /// Errors: dev[n] is asked for, and this Proxmox VE does not know it; or what
    /// it knows cannot be found out.
    fn style(&self, conf: &Conf) -> Result<Style, Cannot> {
        let version = self.facts.pve_container()?;
        let style = match self.add.style {
            StyleChoice::Dev => Style::Dev,
            StyleChoice::Mount => return Ok(Style::Mount),
            StyleChoice::Auto if self.add.convert => Style::Dev,
            StyleChoice::Auto => {
                let has_dev = version.is_some_and(pve::has_dev);
                let style = auto_style(&Access::of(conf), has_dev);
                self.say.detail(&format!("style {style:?}, pve-container {version:?}"));
                return Ok(style);
            }
        };
        match version.filter(|version| !pve::has_dev(version)) {
            None => Ok(style),
            Some(version) => {
                let version: Vec<String> = version.iter().map(u32::to_string).collect();
                Err(Cannot::Refused(Refusal {
                    property: "dev".into(),
                    reason: format!(
                        "pve-container {} does not know dev[n] (since 5.0.7): the container would \
                         get nothing",
                        version.join(".")
                    ),
                    hint: "upgrade it, or use --style mount".into(),
                }))
            }
        }
    }

    /// With --convert also what the container has already.
    fn wish(&self, conf: &Conf) -> Result<Wish, Failure> {
        let mut wish = self.wish.clone();
        if !self.add.convert {
            return Ok(wish);
        }
        let access = Access::of(conf);
        let targets = access.mounts.iter().map(|mount| mount.target.as_str());
        let devs = access.devs.values().map(|dev| dev.path.as_str());
        let mut found = Wish::default();
        for path in targets.chain(devs) {
            match nvidia::classify(path) {
                Some(nvidia::NodeClass::Gpu(minor)) => {
                    // a card that is not here any more is not converted
                    if let Some(gpu) = self.facts.by_minor(minor) {
                        let wanted = self.facts.usable(gpu.address)?;
                        found.gpus.push(GpuWish::of(self.facts, &wanted));
                    }
                }
                Some(nvidia::NodeClass::Cap(2)) => found.mig_monitor = true,
                Some(nvidia::NodeClass::ImexChannel(id)) => found.imex.push(id),
                Some(nvidia::NodeClass::Cap(cap)) => {
                    found.mig.extend(mig::of_capability(self.facts, cap));
                }
                _ => {}
            }
            found.graphics |= self.facts.of_drm(path).is_some();
        }
        if found.gpus.is_empty() && wish.gpus.is_empty() {
            let message = format!("{} has no GPU to convert", self.guest.target());
            return Err(fail(Exit::Usage, message).hint("name one with --gpu"));
        }
        found.join(&wish);
        wish = found;
        Ok(wish)
    }

    fn resolve(&self, conf: &Conf) -> Result<(Wish, Resolved, Style), Stopped> {
        let style = self.style(conf)?;
        let wish = self.wish(conf)?;
        let mut resolved = wish.resolve(self.facts, self.guest, conf, style)?;
        resolved.target.convert = self.add.convert;
        Ok((wish, resolved, style))
    }

    fn after(
        &self,
        machine: &Machine,
        edited: &Edited,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<Exit> {
        let restart = Restart {
            machine,
            guest: self.guest,
            say: self.say,
            restart: self.add.restart,
            start: self.add.start,
            wait: self.add.wait,
        };
        if self.add.change.only_look() {
            if !self.add.change.check {
                restart::foretell(&restart, edited, writer)?;
            }
            return Ok(edited.exit);
        }
        restart::finish(&restart, edited, writer)
    }
}

impl Planner for Adding<'_> {
    fn plan(&self, conf: &Conf) -> Result<Plan, Stopped> {
        let (_, resolved, style) = self.resolve(conf)?;
        let mut notes = resolved.notes;
        if style == Style::Mount && pve::is_unprivileged(conf) {
            for node in &resolved.target.nodes {
                let path = &node.spec.path;
                let class = nvidia::classify(path);
                notes.extend(self.facts.node(path).filter(|n| shuts_out(conf, n, class)).map(
                    |n| {
                        format!(
                            "{}; --style dev gives it a node of its own",
                            no_access(path, n.mode)
                        )
                    },
                ));
            }
        }
        for note in notes {
            if !self.told.borrow().contains(&note) {
                self.say.note(&format!("{}: {note}", self.guest.target()));
                self.told.borrow_mut().push(note);
            }
        }
        let container =
            Container { ctid: self.guest.ctid, unprivileged: pve::is_unprivileged(conf) };
        let mut plan = Plan::of(conf);
        // what cannot be read cannot be added to afterwards
        state::load(self.facts.machine, self.guest.ctid).map_err(Failure::from)?;
        let numbers = numbers(&Access::of(conf), self.facts);
        give(&mut plan, container, &resolved.target, style, &numbers)?;
        Ok(plan)
    }

    /// Remembers what is wanted, together with what was wanted before and is
    /// still given.
    fn done(&self, plan: &Plan) {
        let Ok((wish, resolved, _)) = self.resolve(&plan.conf) else { return };
        let remember = || {
            let (machine, ctid) = (self.facts.machine, self.guest.ctid);
            let mut old = state::load(machine, ctid)?.unwrap_or_default();
            old.forget(&Access::of(&plan.conf), self.facts);
            let (mut all, mut names) = (old.wish, old.names);
            all.join(&wish);
            names.extend(resolved.names);
            state::save(machine, ctid, &all, names)
        };
        if let Err(error) = remember() {
            self.say.warn(&format!(
                "what {} is to have cannot be remembered ('sync' then goes by numbers): {error}",
                self.guest.target()
            ));
        }
    }
}
