//! `-o tree`: the PCI topology from root bus to function, as `lspci -tv` and
//! lstopo users expect it, with group, driver and verdict.

use std::collections::{BTreeMap, BTreeSet};

use pci::{Function, System};
use record::{Address, escape_controls};

use super::records::RecordMaker;
use crate::select::Selection;

/// Draws the selected functions and the bridges above them.
pub fn draw(system: &System, selection: &Selection, maker: &RecordMaker<'_>) -> String {
    let mut shown: BTreeSet<Address> = BTreeSet::new();
    for function in selection.functions(system) {
        let mut at = Some(function);
        while let Some(f) = at {
            if !shown.insert(f.address) {
                break;
            }
            at = f.parent.and_then(|parent| system.functions.get(&parent));
        }
    }
    let mut below: BTreeMap<Option<Address>, Vec<&Function>> = BTreeMap::new();
    for address in &shown {
        if let Some(function) = system.functions.get(address) {
            // a function is shown even where sysfs does not list its parent
            let parent = function.parent.filter(|parent| shown.contains(parent));
            below.entry(parent).or_default().push(function);
        }
    }
    let mut rows = Vec::new();
    let tops = below.get(&None).cloned().unwrap_or_default();
    let mut buses: BTreeMap<(u32, u8), Vec<&Function>> = BTreeMap::new();
    for function in tops {
        buses.entry((function.address.domain, function.address.bus)).or_default().push(function);
    }
    let painter = Painter { system, maker, below: &below, selection };
    for ((domain, bus), functions) in buses {
        rows.push(Row { line: format!("pci{domain:04x}:{bus:02x}"), cells: Vec::new() });
        painter.functions(&functions, "", &mut rows);
    }
    align(&rows)
}

struct Row {
    line: String,
    cells: Vec<String>,
}

struct Painter<'a> {
    system: &'a System,
    maker: &'a RecordMaker<'a>,
    below: &'a BTreeMap<Option<Address>, Vec<&'a Function>>,
    selection: &'a Selection,
}

impl Painter<'_> {
    fn functions(&self, functions: &[&Function], indent: &str, rows: &mut Vec<Row>) {
        for (at, function) in functions.iter().enumerate() {
            let last = at + 1 == functions.len();
            let branch = if last { "└─" } else { "├─" };
            rows.push(self.row(function, format!("{indent}{branch}{}", function.address)));
            if let Some(children) = self.below.get(&Some(function.address)) {
                let indent = format!("{indent}{}", if last { "  " } else { "│ " });
                self.functions(children, &indent, rows);
            }
        }
    }

    fn row(&self, f: &Function, line: String) -> Row {
        let role = f.role(self.system.gpu_in_slot(f));
        let id = |id: Option<u16>| id.map_or("????".to_string(), |id| format!("{id:04x}"));
        let name = self.maker.name(f).unwrap_or_default();
        let stays = self.system.stays_with_host(f);
        let verdict = if stays || !self.selection.holds(f.address) {
            "-".to_string()
        } else {
            self.maker.verdict(f).verdict().to_string()
        };
        Row {
            line,
            cells: vec![
                f.group.map_or("-".into(), |group| format!("group {group}")),
                role.as_str().into(),
                format!("{}:{}", id(f.vendor), id(f.device)),
                f.driver.clone().unwrap_or_else(|| "-".into()),
                verdict,
                escape_controls(&name).into_owned(),
            ],
        }
    }
}

/// Columns right of the tree.
fn align(rows: &[Row]) -> String {
    let width = |text: &str| text.chars().count();
    let stem = rows.iter().map(|row| width(&row.line)).max().unwrap_or(0);
    let columns = rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().filter_map(|r| r.cells.get(at)).map(|c| width(c)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = row.line.clone();
        if !row.cells.is_empty() {
            line.extend(std::iter::repeat_n(' ', stem - width(&row.line)));
        }
        for (at, cell) in row.cells.iter().enumerate() {
            line.push_str("  ");
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', widths[at] - width(cell)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
