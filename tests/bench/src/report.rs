//! The table.

use std::fmt::Write;

use crate::machine::{self, Watch};
use crate::measure::Times;

/// What is promised of a comparison.
pub enum Goal {
    /// Nothing: the ratio is shown, whatever it is.
    Shown,
    /// The rival takes at least so many times as long; and how that is said.
    Ratio(f64, &'static str),
    /// Ours takes at most so many milliseconds; and how that is said.
    Within(f64, &'static str),
}

/// One comparison.
pub struct Row {
    /// What is done, on what.
    pub what: String,
    /// Our times.
    pub ours: Times,
    /// What else a user would run, with versions.
    pub rival: String,
    /// Its times; `None` where there is no rival.
    pub theirs: Option<Times>,
    /// What is promised.
    pub goal: Goal,
    /// Told where the goal is missed: what the profile says.
    pub why: &'static str,
}

impl Row {
    fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::Shown => None,
            Goal::Ratio(least, _) => {
                self.theirs.as_ref().map(|theirs| self.ours.ratio(theirs).0 >= least)
            }
            Goal::Within(most, _) => Some(self.ours.median() <= most),
        }
    }
}

/// What starting a tool costs.
pub struct Start {
    /// The program.
    pub name: String,
    /// Size of the binary in bytes; `None` for a rival's.
    pub size: Option<u64>,
    /// Of `--version`.
    pub version: Times,
    /// Of `--help`.
    pub help: Option<Times>,
}

/// All that was measured.
pub struct Report {
    watch: Watch,
    rows: Vec<Row>,
    starts: Vec<Start>,
    peaks: Vec<(&'static str, String, u64, Option<u64>)>,
    calls: Vec<(String, u64)>,
    notes: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Report {
        Report {
            watch: Watch::new(),
            rows: Vec::new(),
            starts: Vec::new(),
            peaks: Vec::new(),
            calls: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a comparison.
    pub fn row(&mut self, row: Row) {
        eprintln!("bench:   {}; {}: {}", row.what, row.rival, ratio(&row));
        self.rows.push(row);
    }

    /// Adds what starting a tool costs.
    pub fn start(&mut self, start: Start) {
        self.starts.push(start);
    }

    /// Adds a peak of memory in KiB, with the most that is promised.
    pub fn peak(&mut self, tool: &'static str, doing: &str, kib: u64, most: Option<u64>) {
        self.peaks.push((tool, doing.into(), kib, most));
    }

    /// Adds a count of system calls.
    pub fn calls(&mut self, what: &str, count: Option<u64>) {
        self.calls.extend(count.map(|count| (what.to_string(), count)));
    }

    /// Adds a line below the tables.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The whole, as Markdown.
    pub fn text(&self) -> String {
        let mut text = String::from(HEAD);
        for line in machine::described() {
            let _ = writeln!(text, "- {line}");
        }
        let _ = writeln!(text, "- {}\n", self.watch.told());
        if !self.rows.is_empty() {
            let rows = self.rows.iter().map(cells).collect();
            text += &table(&HEADINGS, rows);
        }
        self.missed(&mut text);
        if !self.starts.is_empty() {
            text += "\n## Starting, and size\n\n";
            text += &table(&["program", "size", "--version", "--help"], self.start_cells());
        }
        if !self.peaks.is_empty() {
            text += "\n## Peak memory\n\n";
            text += &table(&["tool", "doing", "peak", "goal", ""], self.peak_cells());
        }
        if !self.calls.is_empty() {
            text += "\n## System calls\n\n";
            let cells = self.calls.iter().map(|(what, n)| vec![what.clone(), n.to_string()]);
            text += &table(&["of", "calls"], cells.collect());
        }
        if !self.notes.is_empty() {
            text += "\n## Also counted\n\n";
            self.notes.iter().for_each(|note| {
                let _ = writeln!(text, "- {note}");
            });
        }
        text
    }

    fn missed(&self, text: &mut String) {
        let missed: Vec<&Row> = self.rows.iter().filter(|row| row.met() == Some(false)).collect();
        if missed.is_empty() {
            return;
        }
        *text += "\n## Missed goals, and why\n\n";
        for row in missed {
            let _ = writeln!(text, "- {}, against {}: {}", row.what, row.rival, row.why);
        }
    }

    fn start_cells(&self) -> Vec<Vec<String>> {
        let each = self.starts.iter().map(|start| {
            vec![
                start.name.clone(),
                start.size.map_or("".into(), |size| format!("{} KiB", size >> 10)),
                spread(&start.version),
                start.help.as_ref().map_or("".into(), spread),
            ]
        });
        each.collect()
    }

    fn peak_cells(&self) -> Vec<Vec<String>> {
        let each = self.peaks.iter().map(|(tool, doing, kib, most)| {
            let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
            let goal = most.map_or("".into(), |most| format!("under {}", mib(most)));
            let met = most.map_or("", |most| if *kib < most { "met" } else { "missed" });
            vec![tool.to_string(), doing.clone(), mib(*kib), goal, met.into()]
        });
        each.collect()
    }
}

const HEADINGS: [&str; 9] =
    ["what", "ours", "instead of", "theirs", "ratio", "in one round", "processor time", "goal", ""];

const HEAD: &str = "\
# make bench

Written by `make bench`, which runs all of it; `make bench PARTS=lister` prints one part.

How to read it: a time is the median of at least five runs, with the fastest and the slowest in
brackets. What is compared ran in turns, in both orders, after one round that is not counted. The
ratio is the other command's median divided by the tool's: above 1 the tool is faster. \"In one
round\" is the lowest and the highest ratio of a single round. Processor time is that of all processors
together: other work on the computer changes it least. Ratios are more comparable than times.

The trees are on tmpfs, and both sides read the same files. FUSE is the mounted model of the kernel:
each read, and each step of a path, is a message between two processes, so a program that reads
before it writes pays most.

";

fn cells(row: &Row) -> Vec<String> {
    let goal = match row.goal {
        Goal::Shown => "",
        Goal::Ratio(_, said) | Goal::Within(_, said) => said,
    };
    let met = row.met().map_or("", |met| if met { "met" } else { "**missed**" });
    let rounds = row.theirs.as_ref().map_or("".into(), |theirs| {
        let (least, most) = row.ours.ratio(theirs).1;
        format!("{} to {}", times(least), times(most))
    });
    let processor = row.theirs.as_ref().map_or("".into(), |theirs| {
        let (ours, theirs) = (row.ours.processor(), theirs.processor());
        format!("{ours:.0} of {theirs:.0} ms, {}", times(theirs / ours))
    });
    vec![
        row.what.clone(),
        spread(&row.ours),
        row.rival.clone(),
        row.theirs.as_ref().map_or("".into(), spread),
        ratio(row),
        rounds,
        processor,
        goal.into(),
        met.into(),
    ]
}

fn ratio(row: &Row) -> String {
    row.theirs.as_ref().map_or("".into(), |theirs| times(row.ours.ratio(theirs).0))
}

fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}x") } else { format!("{ratio:.0}x") }
}

/// Median and ends, with as many digits as make sense.
fn spread(times: &Times) -> String {
    let digits = match times.median() {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let (least, most) = times.ends();
    let median = times.median();
    format!("{median:.digits$} ms ({least:.digits$} to {most:.digits$})")
}

/// A Markdown table that can be read as it is.
fn table(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let widths: Vec<usize> = (0..headings.len())
        .map(|at| {
            let cells = rows.iter().map(|row| row[at].len());
            cells.chain([headings[at].len(), 3]).max().unwrap_or(3)
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(&mut headings.iter().copied());
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    text += &line(&mut rule.iter().map(String::as_str));
    for row in &rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}
