//! The view for people: aligned columns, one table for each run of records of
//! one type.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use unicode_width::UnicodeWidthStr;

use crate::{
    Change, Check, CheckStatus, ErrorRecord, IommuGroup, LxcGpu, Passthrough, PciDevice, Record,
    Role, Severity,
};

/// One cell. Control characters are shown escaped: names come from devices,
/// files and pipes, and must not steer a terminal.
pub type Cell = String;

/// Rows below headings, padded to the widest cell of each column. The last
/// column is cut at the terminal's edge; where output is no terminal, nothing
/// is.
pub struct Table {
    headings: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(headings: &'static [&'static str]) -> Table {
        Table { headings, rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells.into_iter().map(|c| escape_controls(&c).into_owned()).collect());
    }

    /// The finished text, each line ended by a newline. `width` in columns, or
    /// `None` for no limit.
    pub fn render(&self, width: Option<usize>) -> String {
        let columns = self.headings.len();
        let mut widths: Vec<usize> = self.headings.iter().map(|h| h.width()).collect();
        for row in &self.rows {
            for (at, cell) in row.iter().enumerate().take(columns) {
                widths[at] = widths[at].max(cell.width());
            }
        }
        let mut text = String::new();
        let headings: Vec<Cell> = self.headings.iter().map(|h| (*h).to_string()).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (at, wide) in widths.iter().enumerate() {
                let cell = row.get(at).map_or("", String::as_str);
                line.push_str(cell);
                if at + 1 < columns {
                    line.extend(std::iter::repeat_n(' ', wide + 2 - cell.width().min(*wide)));
                }
            }
            text.push_str(cut(line.trim_end(), width).as_ref());
            text.push('\n');
        }
        text
    }
}

/// `line`, no wider than `width` columns, an ellipsis where something is cut.
fn cut(line: &str, width: Option<usize>) -> Cow<'_, str> {
    let Some(width) = width.filter(|w| *w > 1 && line.width() > *w) else {
        return Cow::Borrowed(line);
    };
    let mut kept = String::new();
    let mut used = 0;
    for c in line.chars() {
        let wide = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if used + wide > width - 1 {
            break;
        }
        used += wide;
        kept.push(c);
    }
    kept.push('…');
    Cow::Owned(kept)
}

/// Text with every control character shown as `\xNN` or `\u{N}`.
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if c.is_control() && (c as u32) < 0x100 => {
                shown.push_str(&format!("\\x{:02x}", c as u32));
            }
            c if c.is_control() => shown.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Columns of the terminal on standard output, `None` where it is none.
fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// All records as tables, in their order.
pub(crate) fn render(records: &[Record]) -> String {
    let width = terminal_width();
    let mut parts = Vec::new();
    for run in records.chunk_by(|a, b| a.type_name() == b.type_name()) {
        let mut table = Table::new(headings(&run[0]));
        for record in run {
            table.row(cells(record));
        }
        parts.push(table.render(width));
    }
    parts.join("\n")
}

fn headings(record: &Record) -> &'static [&'static str] {
    match record {
        Record::PciDevice(_) => &["ADDRESS", "GROUP", "ROLE", "ID", "DRIVER", "VERDICT", "NAME"],
        Record::IommuGroup(_) => &["GROUP", "TYPE", "VIABLE", "ISOLATED", "MEMBERS", "BLOCKERS"],
        Record::Change(_) => &["STATUS", "TARGET", "PROPERTY", "FROM", "TO", "REASON"],
        Record::Check(_) => &["STATUS", "SUBJECT", "PROPERTY", "EXPECTED", "ACTUAL", "HINT"],
        Record::LxcGpu(_) => &["CT", "GPU", "MINOR", "STYLE", "NODES", "PROBLEMS", "MODEL"],
        Record::Error(_) => &["ERROR", "TOOL", "MESSAGE"],
    }
}

fn cells(record: &Record) -> Vec<Cell> {
    match record {
        Record::PciDevice(device) => pci_device(device),
        Record::IommuGroup(group) => iommu_group(group),
        Record::Change(change) => change_cells(change),
        Record::Check(check) => check_cells(check),
        Record::LxcGpu(gpu) => lxc_gpu(gpu),
        Record::Error(ErrorRecord { tool, message, exit }) => {
            vec![exit.to_string(), tool.clone(), message.clone()]
        }
    }
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
    let name = match (&d.device_name, &d.vendor_name) {
        (Some(device), Some(vendor)) => format!("{vendor} {device}"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => "-".into(),
    };
    vec![
        d.address.to_string(),
        or_dash(&d.group),
        d.role.map_or("-", Role::as_str).into(),
        ids(&d.vendor, &d.device),
        or_dash(&d.driver),
        verdict(d.passthrough.as_ref(), d.role).into(),
        name,
    ]
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
        match (self.isolated, self.viable, self.viable_once_bound) {
            (Some(true), Some(true), _) => "ready",
            (Some(true), _, Some(true)) => "bindable",
            (Some(false), _, _) => "shared group",
            (_, _, Some(false)) if self.blockers.iter().any(|b| b.function.is_some()) => "blocked",
            (_, _, Some(false)) => "no IOMMU",
            _ => "unproven",
        }
    }
}

fn iommu_group(g: &IommuGroup) -> Vec<Cell> {
    let members = g
        .members
        .iter()
        .map(|m| match &m.driver {
            Some(driver) => format!("{}({driver})", m.address),
            None => m.address.to_string(),
        })
        .chain(g.other_members.iter().cloned())
        .collect::<Vec<_>>()
        .join(" ");
    vec![
        g.group.to_string(),
        or_dash(&g.domain_type),
        yes_no(g.viable),
        yes_no(g.isolated),
        members,
        g.blockers
            .iter()
            .map(|b| b.function.as_deref().unwrap_or(&b.why))
            .collect::<Vec<_>>()
            .join(" "),
    ]
}

fn change_cells(c: &Change) -> Vec<Cell> {
    let reason = match (&c.reason, &c.hint) {
        (Some(reason), Some(hint)) => format!("{reason}; {hint}"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => String::new(),
    };
    vec![
        c.status.as_str().into(),
        c.target.clone(),
        c.property.clone(),
        if c.from == c.to { "(same)".into() } else { or_dash(&c.from) },
        or_dash(&c.to),
        reason,
    ]
}

fn check_cells(c: &Check) -> Vec<Cell> {
    let status = match (c.status, c.severity) {
        (CheckStatus::Ok, _) => "ok",
        (CheckStatus::Unknown, _) => "unknown",
        (CheckStatus::Drift, Severity::Error) => "DRIFT",
        (CheckStatus::Drift, _) => "drift",
    };
    vec![
        status.into(),
        c.subject.clone(),
        c.property.clone(),
        or_dash(&c.expected),
        or_dash(&c.actual),
        c.hint.clone().unwrap_or_default(),
    ]
}

fn lxc_gpu(g: &LxcGpu) -> Vec<Cell> {
    let problems = match g.problems.len() {
        0 => "-".to_string(),
        1 => g.problems[0].clone(),
        n => format!("{} (+{} more)", g.problems[0], n - 1),
    };
    vec![
        g.ctid.to_string(),
        or_dash(&g.gpu),
        or_dash(&g.minor),
        g.style.as_str().into(),
        g.nodes.len().to_string(),
        problems,
        or_dash(&g.model),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["A", "LONG", "C"]);
        table.row(vec!["größe".into(), "x".into(), "end".into()]);
        table.row(vec!["日本".into(), "yy".into(), String::new()]);
        table
    }

    #[test]
    fn columns_align_by_width_on_screen() {
        assert_eq!(table().render(None), "A      LONG  C\ngröße  x     end\n日本   yy\n");
    }

    #[test]
    fn lines_are_cut_at_the_edge_of_the_terminal() {
        assert_eq!(table().render(Some(9)), "A      L…\ngröße  x…\n日本   yy\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(escape_controls("a\x1b[31mb\u{85}\n"), "a\\x1b[31mb\\x85\\x0a");
        let mut table = Table::new(&["A"]);
        table.row(vec!["\x1b]0;owned\x07".into()]);
        assert!(!table.render(None).contains('\x1b'));
    }
}
