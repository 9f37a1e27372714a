//! The table view: aligned columns, one table for each run of records of
//! one type.

use crate::columns::{Cell, Overflow, Table, has_colour, terminal_width};
use crate::hint::shell_words;
use crate::{
    BlockerKind, Change, Check, CheckStatus, ErrorRecord, FunctionUsage, IommuGroup, LxcGpu,
    Passthrough, PciDevice, Record, Role, Runfile, RunfileEntry, Severity, Vgpu, VgpuAssignment,
    VgpuKind, VgpuType,
};

/// All records as tables, in their order.
pub(crate) fn render(records: &[Record]) -> String {
    let width = terminal_width();
    let colour = has_colour();
    let mut parts = Vec::new();
    for run in records.chunk_by(|a, b| a.type_name() == b.type_name()) {
        let (headings, overflow) = shape(&run[0]);
        let mut table = Table::new(headings, overflow);
        for record in run {
            let commands = commands(record);
            let mut rows = rows(record);
            let last = rows.pop();
            rows.into_iter().for_each(|row| table.row(row));
            if let Some(row) = last {
                table.row_with_commands(row, commands);
            }
        }
        parts.push(table.painted(width, colour));
    }
    parts.join("\n")
}

fn shape(record: &Record) -> (&'static [&'static str], Overflow) {
    match record {
        Record::PciDevice(_) => (
            &["ADDRESS", "GROUP", "ROLE", "ID", "DRIVER", "VERDICT", "USED BY", "NAME"],
            Overflow::Cut,
        ),
        Record::IommuGroup(_) => (
            &["GROUP", "VIABLE", "ISOLATED", "MEMBER", "ROLE", "DRIVER", "BLOCKED BY"],
            Overflow::Cut,
        ),
        Record::Change(_) => {
            (&["STATUS", "TARGET", "PROPERTY", "FROM", "TO", "REASON"], Overflow::Wrap)
        }
        Record::Check(_) => {
            (&["STATUS", "SUBJECT", "PROPERTY", "EXPECTED", "ACTUAL"], Overflow::Wrap)
        }
        Record::LxcGpu(_) => (&["CT", "GPU", "MINOR", "STYLE", "PROBLEMS"], Overflow::Wrap),
        Record::Runfile(_) => {
            (&["VERSION", "ARCH", "FLAVOUR", "PACKED", "SIZE", "VERIFIED", "PATH"], Overflow::Wrap)
        }
        Record::RunfileEntry(_) => (&["KIND", "MODE", "SIZE", "TYPE", "PATH"], Overflow::Cut),
        Record::Vgpu(_) => (
            &["ADDRESS", "KIND", "DRIVER", "INTERFACE", "PROFILE", "ID", "HOLDER", "OFFERS"],
            Overflow::Cut,
        ),
        Record::VgpuType(_) => {
            (&["GPU", "ID", "PROFILE", "FRAMEBUFFER", "AVAILABLE", "NAME"], Overflow::Cut)
        }
        Record::VgpuAssignment(_) => (&["ADDRESS", "PROFILE", "COUNT"], Overflow::Cut),
        Record::Stream(_) => (&["TOOL", "STREAM"], Overflow::Cut),
        Record::Error(_) => (&["ERROR", "TOOL", "MESSAGE"], Overflow::Wrap),
    }
}

fn rows(record: &Record) -> Vec<Vec<Cell>> {
    match record {
        Record::PciDevice(device) => vec![pci_device(device)],
        Record::IommuGroup(group) => iommu_group(group),
        Record::Change(change) => vec![change_cells(change)],
        Record::Check(check) => vec![check_cells(check)],
        Record::LxcGpu(gpu) => vec![lxc_gpu(gpu)],
        Record::Runfile(runfile) => vec![runfile_cells(runfile)],
        Record::RunfileEntry(entry) => vec![runfile_entry(entry)],
        Record::Vgpu(vgpu) => vec![vgpu_cells(vgpu)],
        Record::VgpuType(of) => vec![vgpu_type(of)],
        Record::VgpuAssignment(VgpuAssignment { address, profile, count }) => {
            vec![vec![address.to_string(), profile.clone(), or_dash(count)]]
        }
        Record::Stream(stream) => vec![vec![stream.tool.clone(), or_dash(&stream.records)]],
        Record::Error(ErrorRecord { tool, message, exit, .. }) => {
            vec![vec![exit.to_string(), tool.clone(), message.clone()]]
        }
    }
}

/// The commands of a record's hint, as they are typed.
fn commands(record: &Record) -> Vec<String> {
    let commands = match record {
        Record::Change(change) => &change.commands,
        Record::Check(check) => &check.commands,
        Record::Error(error) => &error.commands,
        _ => return Vec::new(),
    };
    commands.iter().map(|command| shell_words(command)).collect()
}

fn or_dash<T: ToString>(value: &Option<T>) -> Cell {
    value.as_ref().map_or_else(|| "-".into(), T::to_string)
}

fn yes_no(value: Option<bool>) -> Cell {
    match value {
        Some(true) => "yes".into(),
        Some(false) => "no".into(),
        None => "?".into(),
    }
}

/// `10de:2204`, question marks where an id is unknown.
fn ids(vendor: &Option<String>, device: &Option<String>) -> String {
    let short = |id: &Option<String>| {
        id.as_deref().map_or("????", |id| id.strip_prefix("0x").unwrap_or(id)).to_string()
    };
    format!("{}:{}", short(vendor), short(device))
}

fn pci_device(d: &PciDevice) -> Vec<Cell> {
    vec![
        d.address.to_string(),
        or_dash(&d.group),
        d.role.map_or("-", Role::as_str).into(),
        ids(&d.vendor, &d.device),
        or_dash(&d.driver),
        verdict(d.passthrough.as_ref(), d.role).into(),
        used_by(d.usage.as_ref()),
        or_dash(&d.name.as_ref().or(d.device_name.as_ref())),
    ]
}

/// The first users, and how many more there are.
fn used_by(usage: Option<&FunctionUsage>) -> Cell {
    const SHOWN: usize = 2;
    let Some(usage) = usage else { return "-".into() };
    let mut names: Vec<String> = Vec::new();
    for user in &usage.users {
        let name = match user.running {
            Some(false) => format!("{} (stopped)", user.name),
            _ => user.name.clone(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match (names.len(), usage.unknown.is_empty()) {
        (0, true) => "-".into(),
        (0, false) => "?".into(),
        (count, _) if count > SHOWN => {
            format!("{} (+{})", names[..SHOWN].join(", "), count - SHOWN)
        }
        _ => names.join(", "),
    }
}

/// One or two words for a verdict; bridges are not passed through and have none.
pub(crate) fn verdict(p: Option<&Passthrough>, role: Option<Role>) -> &'static str {
    match p {
        _ if role == Some(Role::Bridge) => "-",
        None => "-",
        Some(p) => p.verdict(),
    }
}

impl Passthrough {
    /// The verdict in one or two words, as tables and trees show it.
    pub fn verdict(&self) -> &'static str {
        let has = |kind| self.blockers.iter().any(|b| !b.own_slot && b.kind == Some(kind));
        match (self.possible, self.viable) {
            (Some(true), Some(true)) => "ready",
            (Some(true), _) => "bindable",
            _ if has(BlockerKind::IommuOff) => "no IOMMU",
            _ if has(BlockerKind::GroupMember) => "shared group",
            (Some(false), _) if has(BlockerKind::InUse) => "in use",
            (Some(false), _) => "blocked",
            (None, _) if has(BlockerKind::Unknown) => "unknown",
            (None, _) => "unproven",
        }
    }
}

/// A row for each member; the first also holds what concerns the whole group.
fn iommu_group(g: &IommuGroup) -> Vec<Vec<Cell>> {
    let why = |name: &str| {
        let blocker = g.blockers.iter().find(|b| b.function.as_deref() == Some(name));
        match blocker {
            None => String::new(),
            // the driver in the column beside it is the reason
            Some(b) if b.driver.is_some() => "yes".into(),
            Some(b) => b.why.clone(),
        }
    };
    let functions = g.members.iter().map(|m| {
        let name = m.address.to_string();
        let reason = why(&name);
        vec![name, m.role.as_str().into(), or_dash(&m.driver), reason]
    });
    let others =
        g.other_members.iter().map(|name| vec![name.clone(), "-".into(), "-".into(), why(name)]);
    let whole = g
        .blockers
        .iter()
        .filter(|b| b.function.is_none())
        .map(|b| vec!["-".into(), "-".into(), "-".into(), b.why.clone()]);
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for member in functions.chain(others).chain(whole) {
        let mut row = match rows.is_empty() {
            true => vec![g.group.to_string(), yes_no(g.viable), yes_no(g.isolated)],
            false => vec![String::new(); 3],
        };
        row.extend(member);
        rows.push(row);
    }
    rows
}

/// A reason with what to do about it on a line of its own.
fn with_hint(reason: &str, hint: &Option<String>) -> Cell {
    match hint {
        Some(hint) if reason.is_empty() => format!("-> {hint}"),
        Some(hint) => format!("{reason}\n-> {hint}"),
        None => reason.to_string(),
    }
}

fn change_cells(c: &Change) -> Vec<Cell> {
    vec![
        c.status.as_str().into(),
        c.target.clone(),
        c.property.clone(),
        if c.from == c.to { "(unchanged)".into() } else { or_dash(&c.from) },
        or_dash(&c.to),
        with_hint(c.reason.as_deref().unwrap_or(""), &c.hint),
    ]
}

fn check_cells(c: &Check) -> Vec<Cell> {
    let status = match (c.status, c.severity) {
        (CheckStatus::Ok, _) => "ok",
        (CheckStatus::Unknown, _) => "unknown",
        (CheckStatus::Drift, Severity::Error) => "DRIFT",
        (CheckStatus::Drift, _) => "drift",
    };
    let actual = match &c.reason {
        Some(reason) => format!("{}\n{reason}", or_dash(&c.actual)),
        None => or_dash(&c.actual),
    };
    vec![
        status.into(),
        c.subject.clone(),
        c.property.clone(),
        or_dash(&c.expected),
        with_hint(&actual, &c.hint),
    ]
}

fn lxc_gpu(g: &LxcGpu) -> Vec<Cell> {
    let problems = if g.problems.is_empty() { "-".into() } else { g.problems.join("\n") };
    vec![g.ctid.to_string(), or_dash(&g.gpu), or_dash(&g.minor), g.style.as_str().into(), problems]
}

fn runfile_cells(r: &Runfile) -> Vec<Cell> {
    let flavour = r.flavour.iter().chain(&r.variants).map(String::as_str);
    let mut last = vec![r.path.clone()];
    last.extend(r.content.as_ref().map(|content| {
        let types = content.kernel_module_types.as_deref().unwrap_or_default().join(" or ");
        let gpus = content.supported_gpus.map(|n| format!("{n} GPU ids"));
        let modules = (!types.is_empty()).then(|| format!("kernel modules {types}"));
        let nested = content.nested.iter().map(|n| format!("holds {}", n.path));
        modules.into_iter().chain(gpus).chain(nested).collect::<Vec<_>>().join(", ")
    }));
    last.retain(|line| !line.is_empty());
    last.extend(r.problems.iter().cloned());
    vec![
        or_dash(&r.version),
        or_dash(&r.arch),
        flavour.collect::<Vec<_>>().join(" "),
        or_dash(&r.compression),
        or_dash(&r.size),
        r.verified.as_str().into(),
        last.join("\n"),
    ]
}

fn runfile_entry(e: &RunfileEntry) -> Vec<Cell> {
    let arrow = e.target.as_ref().map(|target| format!(" -> {target}"));
    let problem = e.problem.as_ref().map(|problem| format!("  ({problem})"));
    vec![
        e.kind.as_str().into(),
        e.mode.clone(),
        e.size.to_string(),
        or_dash(&e.manifest.as_ref().map(|row| &row.kind)),
        [Some(e.path.clone()), arrow, problem].into_iter().flatten().collect(),
    ]
}

fn vgpu_cells(v: &Vgpu) -> Vec<Cell> {
    let holder = match &v.holder {
        None if !v.vms.is_empty() => {
            let of = |of: &crate::VgpuVm| format!("VM {} {}", of.vm, of.mode);
            format!("({})", v.vms.iter().map(of).collect::<Vec<_>>().join(", "))
        }
        None if v.managed_by.is_empty() => "-".into(),
        None => {
            let ids: Vec<String> = v.managed_by.iter().map(u32::to_string).collect();
            format!("(VM {})", ids.join(", "))
        }
        Some(holder) => match (holder.vm, &holder.command) {
            (Some(vm), _) => format!("VM {vm}"),
            (None, command) => format!("{} {}", or_dash(command), or_dash(&holder.pid)),
        },
    };
    let offers = match (v.kind, v.vfs_enabled, v.vfs_total) {
        (VgpuKind::Gpu, Some(enabled), Some(total)) => {
            let model = v.model.as_deref().unwrap_or("-");
            format!("{model}, {enabled} of {total} VFs")
        }
        (VgpuKind::Gpu, ..) => or_dash(&v.model),
        _ if v.creatable.is_empty() => "-".into(),
        _ => v.creatable.join(" "),
    };
    let interface = v.interface.map(|interface| match interface {
        crate::VgpuInterface::Vendor => "vendor",
        crate::VgpuInterface::Mdev => "mdev",
    });
    vec![
        v.address.to_string(),
        v.kind.as_str().into(),
        or_dash(&v.driver),
        or_dash(&interface),
        or_dash(&v.profile),
        or_dash(&v.profile_id),
        holder,
        offers,
    ]
}

fn vgpu_type(t: &VgpuType) -> Vec<Cell> {
    let size = t.framebuffer.map(|bytes| format!("{} MiB", bytes >> 20));
    vec![
        t.gpu.to_string(),
        t.id.to_string(),
        t.profile.clone(),
        or_dash(&size),
        t.available.map_or_else(|| "unknown".into(), |n| n.to_string()),
        t.name.clone(),
    ]
}
