//! `persist` and `unpersist`: what happens at the next boot.

use std::collections::BTreeSet;
use std::time::Duration;

use ::cli::{Exit, Failure, catch_signals, fail, interrupted};
use host::{Journal, Machine};
use pci::{Function, ModuleAliases, System, is_vfio_driver as is_vfio};
use record::{Change, ChangeStatus, Check, CheckStatus, Record, Severity};

use crate::boot_files::{BootFile, By, Entry, Initramfs, LIST, MODPROBE, files, parse_list};
use crate::choose::{Reach, functions};
use crate::cli::{Persist, Recognise, Unpersist};
use crate::cmdline::Loader;
use crate::observe::{Observer, Use};
use crate::preflight;
use crate::run::Run;

/// Building images for all kernels of a slow machine takes minutes.
const IMAGES: Duration = Duration::from_secs(1800);

/// Displays that have nothing to do on a card of somebody else's.
const DISPLAY_MODULES: [&str; 2] = ["nouveau", "nvidiafb"];

struct Planned {
    file: BootFile,
    before: Option<String>,
}

impl Run<'_> {
    /// `persist`.
    pub fn persist(mut self, options: &Persist) -> anyhow::Result<Exit> {
        let (system, addresses) = self.chosen(&options.named, Reach::Machine)?;
        let chosen = functions(&system, &addresses);
        let by = match options.by {
            Recognise::Address => By::Address,
            Recognise::Id => By::Id,
        };
        self.may_persist(&system, &chosen, options.force)?;
        let mut entries = list(self.machine)?;
        for function in &chosen {
            let driver = self.vfio_driver(&system, function, &options.driver)?;
            let entry = Entry::of(function, &driver, by).ok_or_else(|| {
                fail(Exit::System, format!("the ids of {} cannot be read", function.address))
            })?;
            entries.retain(|old| old.address != entry.address);
            entries.push(entry);
        }
        entries.sort();
        self.no_twins(&system, &entries)?;
        self.other_ids(&entries)?;
        if !system.iommu.is_on() {
            self.say.warn(&format!("the IOMMU is off: {}", system.iommu.advice()));
        }
        let blacklist = self.blacklist(&system, &entries, options.blacklist)?;
        let change = (options.change.dry_run, options.change.check);
        let line = if options.cmdline { self.command_line(&system, change)? } else { Exit::Done };
        Ok(self.write_boot(&system, &entries, &blacklist, change)?.max(line))
    }

    /// `--cmdline`.
    fn command_line(
        &mut self,
        system: &System,
        (dry_run, check): (bool, bool),
    ) -> anyhow::Result<Exit> {
        let Some(option) = system.iommu.needed_option() else {
            self.say.note("the kernel command line needs nothing");
            return Ok(Exit::Done);
        };
        let loader = Loader::find(self.machine).ok_or_else(|| {
            fail(Exit::System, "neither /etc/default/grub nor /etc/kernel/cmdline is there")
                .hint(format!("add '{option}' to the kernel command line by hand"))
        })?;
        let before = self.machine.read_text(loader.path(), 1 << 20).map_err(Failure::from)?;
        let after = loader.add(&before, option).ok_or_else(|| {
            let message = format!("'{}' is not of a form that can be edited", loader.path());
            fail(Exit::System, message).hint(format!("add '{option}' by hand"))
        })?;
        let mut change = self.change_of(loader.path(), "option");
        change.to = Some(option.to_string());
        change.status = if after == before {
            ChangeStatus::Unchanged
        } else if dry_run || check {
            ChangeStatus::Planned
        } else {
            self.replace_line(loader, &before, &after)?;
            ChangeStatus::Changed
        };
        let lacking = check && change.status == ChangeStatus::Planned;
        let exit = if lacking { Exit::Difference } else { Exit::Done };
        self.writer.put(Record::Change(change))?;
        Ok(exit)
    }

    /// Writes the file and has the loader take it up; back again if it does not.
    fn replace_line(&self, loader: Loader, before: &str, after: &str) -> Result<(), Failure> {
        let system = |why: String| fail(Exit::System, why);
        let replace = |old: &str, new: &str| {
            let ready = || true;
            self.machine.replace(loader.path(), old.as_bytes(), new.as_bytes(), &ready)
        };
        replace(before, after).map_err(|error| system(error.to_string()))?;
        let why = match self.machine.run(loader.command(), IMAGES) {
            Ok(Some(ran)) if !ran.success() => ran.reason(),
            Err(error) => error.to_string(),
            Ok(_) => return Ok(()),
        };
        let failure = system(format!("{} failed: {why}", loader.command().join(" ")));
        Err(match replace(after, before) {
            Ok(()) => failure.hint(format!("'{}' is as it was", loader.path())),
            Err(error) => failure.hint(format!("it could not be undone: {error}")),
        })
    }

    /// `unpersist`.
    pub fn unpersist(mut self, options: &Unpersist) -> anyhow::Result<Exit> {
        let mut entries = list(self.machine)?;
        let system = if options.all {
            entries.clear();
            crate::choose::scan(self.machine, self.say)?
        } else {
            let (system, addresses) = self.chosen(&options.named, Reach::Machine)?;
            entries.retain(|entry| !addresses.contains(&entry.address));
            system
        };
        let blacklist = self.blacklist(&system, &entries, false)?;
        let change = (options.change.dry_run, options.change.check);
        self.write_boot(&system, &entries, &blacklist, change)
    }

    /// Who uses the functions today does not matter at boot; what they are does.
    fn may_persist(
        &mut self,
        system: &System,
        chosen: &[&Function],
        force: bool,
    ) -> anyhow::Result<()> {
        let observer = Observer::new(self.machine);
        let uses: Vec<Use> = chosen
            .iter()
            .map(|function| {
                let mut guests = observer.guests(function);
                guests.retain(|guest| !guest.vm);
                guests.iter_mut().for_each(|guest| guest.running = false);
                Use { guests, ..Use::default() }
            })
            .collect();
        let mut objections = preflight::bind(system, chosen, &uses);
        // it may be switched on together with the reboot
        objections.retain(|o| system.iommu.is_on() || !o.why.contains("IOMMU"));
        self.judge(objections, force)
    }

    /// By id every identical card goes: refused where one is not meant to.
    fn no_twins(&mut self, system: &System, entries: &[Entry]) -> anyhow::Result<()> {
        let by_id = || entries.iter().filter(|entry| entry.by == By::Id);
        for function in system.functions.values() {
            let meant = entries.iter().any(|entry| entry.address == function.address);
            if let Some(entry) = by_id().find(|entry| entry.is(function)).filter(|_| !meant) {
                let message = format!(
                    "{} has the same ids as {}: by id both would be bound",
                    function.address, entry.address
                );
                let hint = "name both, or leave out '--by id'";
                return Err(fail(Exit::Refused, message).hint(hint).into());
            }
        }
        Ok(())
    }

    /// Other files with `ids=`: modprobe strings all options together and the
    /// last one wins.
    fn other_ids(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        let by_id = entries.iter().any(|entry| entry.by == By::Id);
        for name in self.machine.list("/etc/modprobe.d")? {
            let path = format!("/etc/modprobe.d/{name}");
            if path == MODPROBE || !name.ends_with(".conf") {
                continue;
            }
            let text = self.machine.read_text(&path, 1 << 20).unwrap_or_default();
            if !text.lines().any(sets_ids) {
                continue;
            }
            let what = format!("'{path}' sets ids= for vfio-pci");
            if by_id {
                let message = format!("{what} too: the last file would win");
                return Err(fail(Exit::Refused, message).hint("take that line out first").into());
            }
            self.say.warn(&format!("{what}: every GPU with these ids goes to VFIO"));
        }
        let cmdline = self.machine.attr("/proc/cmdline").unwrap_or_default();
        let ids =
            |word: &str| word.starts_with("vfio-pci.ids=") || word.starts_with("vfio_pci.ids=");
        if let Some(word) = cmdline.split_ascii_whitespace().find(|word| ids(word)) {
            self.say.warn(&format!("the kernel command line has '{word}' as well"));
        }
        Ok(())
    }

    /// Modules that are not to be loaded at all: what is so already, and on
    /// request those that no other card needs.
    fn blacklist(
        &mut self,
        system: &System,
        entries: &[Entry],
        asked: bool,
    ) -> anyhow::Result<BTreeSet<String>> {
        let text = read_or_empty(self.machine, MODPROBE)?;
        let mut blacklist: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("blacklist "))
            .map(|name| name.trim().to_string())
            .collect();
        if asked {
            blacklist.extend(DISPLAY_MODULES.map(str::to_string));
        }
        let others = system.functions.values().filter(|f| !entries.iter().any(|e| e.is(f)));
        let needed: BTreeSet<String> = others.filter_map(|f| f.driver.clone()).collect();
        for module in blacklist.intersection(&needed) {
            self.say.warn(&format!("{module} is not blacklisted: another GPU is bound to it"));
        }
        Ok(blacklist.difference(&needed).cloned().collect())
    }

    fn write_boot(
        &mut self,
        system: &System,
        entries: &[Entry],
        blacklist: &BTreeSet<String>,
        (dry_run, check): (bool, bool),
    ) -> anyhow::Result<Exit> {
        let initramfs = initramfs(self.machine)?;
        let modules = self.modules(system, entries);
        let mut planned = Vec::new();
        for file in files(entries, &modules, blacklist, initramfs) {
            let before = match self.machine.read_text(file.path, 1 << 20) {
                Ok(text) => Some(text),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(Failure::from(error).into()),
            };
            planned.push(Planned { file, before });
        }
        let any = planned.iter().any(|p| p.before != p.file.text);
        if check {
            for p in &planned {
                self.writer.put(Record::Check(check_of(p)))?;
            }
            return Ok(if any { Exit::Difference } else { Exit::Done });
        }
        if dry_run || !any {
            let status = if any { ChangeStatus::Planned } else { ChangeStatus::Unchanged };
            self.report_files(&planned, status, None)?;
            self.report_reboot(system, entries, status)?;
            return Ok(Exit::Done);
        }
        catch_signals();
        let _lock = self.lock()?;
        let machine = self.machine;
        let mut journal = Journal::new();
        let mut failure = None;
        for p in planned.iter().filter(|p| p.before != p.file.text) {
            if interrupted() {
                failure = Some("interrupted".to_string());
                break;
            }
            let (path, before, mode) = (p.file.path, p.before.clone(), p.file.mode);
            journal.record(path, move |machine: &Machine| {
                put(machine, path, before.as_deref(), mode).map_err(|error| error.to_string())
            });
            if let Err(error) = put(machine, path, p.file.text.as_deref(), mode) {
                failure = Some(error.to_string());
                break;
            }
        }
        let failure = failure.or_else(|| self.images(initramfs, !entries.is_empty()).err());
        let Some(why) = failure else {
            journal.keep();
            self.report_files(&planned, ChangeStatus::Changed, None)?;
            self.report_images(initramfs)?;
            self.report_reboot(system, entries, ChangeStatus::Changed)?;
            return Ok(Exit::Done);
        };
        let left: Vec<String> =
            journal.roll_back(machine).into_iter().filter_map(|undone| undone.error).collect();
        self.report_files(&planned, ChangeStatus::RolledBack, Some(&why))?;
        let failure = fail(Exit::System, why);
        Err(match left.first() {
            Some(error) => failure.hint(format!("not everything could be undone: {error}")),
            None => failure.hint("the files are as they were; the images may need a rebuild"),
        }
        .into())
    }

    /// Modules that would take the functions: a softdep makes modprobe load
    /// vfio-pci before them.
    fn modules(&self, system: &System, entries: &[Entry]) -> BTreeSet<String> {
        let release = system.iommu.release.as_deref().unwrap_or_default();
        let path = format!("/lib/modules/{release}/modules.alias");
        let text = self.machine.read(&path, 64 << 20).unwrap_or_default();
        let meant: Vec<&Function> =
            system.functions.values().filter(|f| entries.iter().any(|e| e.is(f))).collect();
        let vendors: Vec<u16> = meant.iter().filter_map(|f| f.vendor).collect();
        let aliases = ModuleAliases::parse(&text, &vendors);
        let claims = meant.iter().filter_map(|f| f.modalias()).flat_map(|of| aliases.modules(&of));
        claims.filter(|module| !is_vfio(module)).collect()
    }

    /// Rebuilds the images and looks into them. Nothing is run below --root.
    fn images(&self, initramfs: Initramfs, wanted: bool) -> Result<(), String> {
        let run = |argv: &[&str]| match self.machine.run(argv, IMAGES) {
            Ok(None) => Ok(None),
            Ok(Some(ran)) if ran.success() => Ok(Some(ran.stdout)),
            Ok(Some(ran)) => Err(format!("{} failed: {}", argv.join(" "), ran.reason())),
            Err(error) => Err(error.to_string()),
        };
        if run(rebuild(initramfs))?.is_none() {
            return Ok(());
        }
        if self.machine.exists("/etc/kernel/proxmox-boot-uuids") {
            run(&["proxmox-boot-tool", "refresh"])?;
        }
        if !wanted {
            return Ok(());
        }
        let (prefix, lister) = match initramfs {
            Initramfs::InitramfsTools => ("initrd.img-", "lsinitramfs"),
            Initramfs::Dracut => ("initramfs-", "lsinitrd"),
        };
        let names = self.machine.list("/boot").map_err(|error| error.to_string())?;
        for name in names.iter().filter(|name| name.starts_with(prefix)) {
            let image = format!("/boot/{name}");
            let listing = run(&[lister, &image])?.unwrap_or_default();
            let listing = String::from_utf8_lossy(&listing);
            for part in ["gpu-vfio-bind.list", "vfio-pci.ko"] {
                if !listing.contains(part) {
                    return Err(format!("'{image}' holds no {part}"));
                }
            }
        }
        Ok(())
    }

    fn report_images(&mut self, initramfs: Initramfs) -> anyhow::Result<()> {
        let mut change = self.change_of("initramfs", "images");
        change.to = Some(rebuild(initramfs).join(" "));
        if self.machine.is_host() {
            change.status = ChangeStatus::Changed;
        } else {
            change.status = ChangeStatus::Skipped;
            change.reason = Some("no command is run below --root".into());
        }
        self.writer.put(Record::Change(change))?;
        Ok(())
    }

    fn report_files(
        &mut self,
        planned: &[Planned],
        status: ChangeStatus,
        why: Option<&str>,
    ) -> anyhow::Result<()> {
        for p in planned {
            let mut change: Change = self.change_of(p.file.path, "file");
            change.from = p.before.as_deref().map(size);
            change.to = p.file.text.as_deref().map(size);
            change.status = if p.before == p.file.text { ChangeStatus::Unchanged } else { status };
            change.reason = why.map(str::to_string);
            self.writer.put(Record::Change(change))?;
        }
        Ok(())
    }

    /// Whether what the files say differs from what is.
    fn report_reboot(
        &mut self,
        system: &System,
        entries: &[Entry],
        status: ChangeStatus,
    ) -> anyhow::Result<()> {
        let differs = system.functions.values().any(|function| {
            next_boot(entries, function).is_some_and(|driver| function.driver != Some(driver))
        });
        let mut change = self.change_of("host", "reboot_required");
        change.to = Some(if differs { "yes" } else { "no" }.into());
        change.status = status;
        self.writer.put(Record::Change(change))?;
        Ok(())
    }
}

/// The VFIO driver that a function will have after the next boot, `None` where
/// the list says nothing of it.
pub fn next_boot(entries: &[Entry], function: &Function) -> Option<String> {
    entries.iter().find(|entry| entry.is(function)).map(|entry| entry.driver.clone())
}

/// The list as it is. Errors: it is there and cannot be read, which is not the
/// same as an empty one.
pub fn list(machine: &Machine) -> Result<Vec<Entry>, Failure> {
    Ok(parse_list(&read_or_empty(machine, LIST)?))
}

/// A file's text, nothing where there is no such file.
fn read_or_empty(machine: &Machine, path: &str) -> Result<String, Failure> {
    match machine.read_text(path, 1 << 20) {
        Ok(text) => Ok(text),
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

/// An entry of the list whose function is another one by now.
pub fn moved_away(entries: &[Entry], function: &Function) -> bool {
    let at = |entry: &&Entry| entry.by == By::Address && entry.address == function.address;
    entries.iter().find(at).is_some_and(|entry| !entry.is(function))
}

fn rebuild(initramfs: Initramfs) -> &'static [&'static str] {
    match initramfs {
        Initramfs::InitramfsTools => &["update-initramfs", "-u", "-k", "all"],
        Initramfs::Dracut => &["dracut", "--force", "--regenerate-all"],
    }
}

/// Which generator this host has.
fn initramfs(machine: &Machine) -> Result<Initramfs, Failure> {
    if machine.exists("/usr/sbin/update-initramfs") {
        return Ok(Initramfs::InitramfsTools);
    }
    if machine.exists("/usr/bin/dracut") || machine.exists("/usr/sbin/dracut") {
        return Ok(Initramfs::Dracut);
    }
    Err(fail(Exit::System, "neither update-initramfs nor dracut is installed")
        .hint("without an initramfs native drivers come first"))
}

fn put(
    machine: &Machine,
    path: &str,
    text: Option<&str>,
    mode: u32,
) -> Result<(), host::FileError> {
    match text {
        Some(text) => machine.put_mode(path, text.as_bytes(), mode),
        None => machine.remove(path),
    }
}

/// `options vfio-pci ids=...`, in either spelling of the module.
fn sets_ids(line: &str) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    matches!(words[..], ["options", "vfio-pci" | "vfio_pci", ..])
        && words[2..].iter().any(|word| word.starts_with("ids="))
}

fn size(text: &str) -> String {
    format!("{} bytes", text.len())
}

fn check_of(p: &Planned) -> Check {
    let same = p.before == p.file.text;
    Check {
        commands: Vec::new(),
        subject: p.file.path.to_string(),
        property: "file".into(),
        expected: p.file.text.as_deref().map(size),
        actual: p.before.as_deref().map(size),
        status: if same { CheckStatus::Ok } else { CheckStatus::Drift },
        severity: if same { Severity::Info } else { Severity::Warning },
        cause: None,
        reason: None,
        hint: (!same).then(|| "gpu-vfio-bind persist".into()),
    }
}
