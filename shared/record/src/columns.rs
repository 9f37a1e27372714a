//! Aligned columns for a terminal, whatever is in them and however narrow it is.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use unicode_width::UnicodeWidthStr;

/// Columns that a last cell which is cut keeps beside the others.
const ROOM: usize = 20;
/// Where lines begin that have no room beside the other columns.
const BELOW: usize = 4;
/// A column of so much is not made narrower.
const WHOLE: usize = 14;

/// One cell. Control characters are shown escaped: names come from devices,
/// files and pipes, and must not steer a terminal. In the last column a newline
/// begins another line of the same cell.
pub type Cell = String;

/// What happens to a last column that is wider than the terminal. Where output
/// is not a terminal, nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It is cut: the rest of a long name is of little use.
    Cut,
    /// It continues below itself: every word of a reason counts.
    Wrap,
}

/// Rows below headings, padded to the widest cell of each column.
pub struct Table {
    headings: &'static [&'static str],
    overflow: Overflow,
    rows: Vec<Vec<Cell>>,
    /// By row: commands below it.
    commands: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(headings: &'static [&'static str], overflow: Overflow) -> Table {
        Table { headings, overflow, rows: Vec::new(), commands: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.row_with_commands(cells, Vec::new());
    }

    /// Adds a row with commands below it, each whole on a line of its own: a
    /// command that is cut or wrapped cannot be copied.
    pub fn row_with_commands(&mut self, cells: Vec<Cell>, commands: Vec<String>) {
        self.rows.push(cells);
        self.commands.push(commands);
    }

    /// The finished text, each line ended by a newline. `width` in columns, or
    /// `None` for no limit.
    pub fn render(&self, width: Option<usize>) -> String {
        self.painted(width, false)
    }

    /// [`Table::render`], the words of a column STATUS in colour where `colour`
    /// is set.
    pub fn painted(&self, width: Option<usize>, colour: bool) -> String {
        let last = self.headings.len().saturating_sub(1);
        let headings = self.headings.iter().map(|h| (*h).to_string()).collect();
        let rows: Vec<Vec<Cow<'_, str>>> = std::iter::once(&headings)
            .chain(&self.rows)
            .map(|row: &Vec<Cell>| {
                row.iter().take(last).map(|cell| escape_controls(cell)).collect()
            })
            .collect();
        let mut widths: Vec<usize> = (0..last)
            .map(|at| rows.iter().filter_map(|r| r.get(at)).map(|c| c.width()).max().unwrap_or(0))
            .collect();
        if let Some(width) = width.filter(|width| *width > 0) {
            // what is wrapped can go below its row, what is cut needs its place
            let room = match self.overflow {
                Overflow::Cut => self.widest(last).min(ROOM),
                Overflow::Wrap => 0,
            };
            narrow(&mut widths, width.saturating_sub(room));
        }
        let indent = widths.iter().map(|wide| wide + 2).sum();
        let mut text = String::new();
        let commands = std::iter::once(&[][..]).chain(self.commands.iter().map(Vec::as_slice));
        let all = std::iter::once(&headings).chain(&self.rows);
        for ((cells, row), commands) in rows.iter().zip(all).zip(commands) {
            let mut line = String::new();
            for (at, wide) in widths.iter().enumerate() {
                let cell = cut(cells.get(at).map_or("", AsRef::as_ref), Some(*wide));
                line.push_str(&cell);
                line.extend(std::iter::repeat_n(' ', wide + 2 - cell.width()));
            }
            let status = cells.first().filter(|_| colour && self.headings[0] == "STATUS");
            let status = status.map_or("", AsRef::as_ref);
            let mut put = |line: &str| {
                let line = cut(line.trim_end(), width);
                let (word, rest) =
                    line.split_at(if line.starts_with(status) { status.len() } else { 0 });
                text.push_str(&painted_word(word));
                text.push_str(rest);
                text.push('\n');
            };
            let (first, others) =
                self.tail(row.get(last).map_or("", String::as_str), width, indent);
            put(&(line + &first));
            others.iter().for_each(|line| put(line));
            for command in commands {
                text.push_str(&" ".repeat(BELOW));
                text.push_str(&escape_controls(command));
                text.push('\n');
            }
        }
        text
    }

    /// Columns of the widest line of a column's cells, heading included.
    fn widest(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        let widths = cells.flat_map(|cell| cell.split('\n')).map(UnicodeWidthStr::width);
        widths.max().unwrap_or(0).max(self.headings[column].width())
    }

    /// The end of a row that a last cell is, and the lines below it. Where a line
    /// of the cell has no room beside the other columns, all but the first go
    /// below them with nearly the whole terminal: a command should be seen as one.
    fn tail(&self, cell: &str, width: Option<usize>, indent: usize) -> (String, Vec<String>) {
        let lines: Vec<Cow<'_, str>> = cell.split('\n').map(escape_controls).collect();
        let fits = |line: &str| width.is_none_or(|width| indent + line.width() <= width);
        let width = match (self.overflow, width) {
            (Overflow::Wrap, Some(width)) if !lines.iter().all(|line| fits(line)) => width,
            _ => {
                let beside = |line: &Cow<'_, str>| format!("{}{line}", " ".repeat(indent));
                return (lines[0].to_string(), lines[1..].iter().map(beside).collect());
            }
        };
        let first = if fits(&lines[0]) { lines[0].to_string() } else { String::new() };
        let below = if first.is_empty() { &lines[..] } else { &lines[1..] };
        let room = width.saturating_sub(BELOW).max(1);
        let below = below.iter().flat_map(|line| wrapped(line, room));
        (first, below.map(|line| format!("{}{line}", " ".repeat(BELOW))).collect())
    }
}

/// A line in pieces that are no wider than `room`, broken at spaces where there
/// are any.
fn wrapped(line: &str, room: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    for word in line.split(' ') {
        if !part.is_empty() && part.width() + 1 + word.width() > room {
            parts.push(std::mem::take(&mut part));
        } else if !part.is_empty() {
            part.push(' ');
        }
        part.push_str(word);
        // a path has no spaces to go on at
        while part.width() > room {
            let one = part.chars().next().map_or(0, char::len_utf8);
            let rest = part.split_off(fitting(&part, room).max(one));
            parts.push(std::mem::replace(&mut part, rest));
        }
    }
    parts.push(part);
    parts
}

/// Takes columns from the widest until all fit into `width`. What is no wider
/// than an address stays whole: half an address is none.
fn narrow(widths: &mut [usize], width: usize) {
    while widths.iter().map(|wide| wide + 2).sum::<usize>() > width {
        match widths.iter_mut().max() {
            Some(widest) if *widest > WHOLE => *widest -= 1,
            _ => return,
        }
    }
}

/// Bytes of the longest beginning of `text` that `columns` have room for.
fn fitting(text: &str, columns: usize) -> usize {
    let mut used = 0;
    let over = text.char_indices().find(|(_, c)| {
        used += unicode_width::UnicodeWidthChar::width(*c).unwrap_or(0);
        used > columns
    });
    over.map_or(text.len(), |(at, _)| at)
}

/// `line`, no wider than `width` columns, an ellipsis where something is cut.
fn cut(line: &str, width: Option<usize>) -> Cow<'_, str> {
    match width.filter(|w| *w > 1 && line.width() > *w) {
        Some(width) => Cow::Owned(format!("{}…", &line[..fitting(line, width - 1)])),
        None => Cow::Borrowed(line),
    }
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
pub(crate) fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    // a shell that knows better says so
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    columns
        .filter(|columns| *columns > 0)
        .or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
}

/// Whether standard output gets colour: it is a terminal that knows it, and
/// NO_COLOR (no-color.org) is not set.
pub(crate) fn has_colour() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdout().is_terminal() && !dumb && !is_set("NO_COLOR")
}

/// A word of the column STATUS: green where all is well, red where it is not,
/// yellow where the user should look.
fn painted_word(word: &str) -> Cow<'_, str> {
    let code = match word {
        "ok" | "unchanged" | "changed" => 32,
        "DRIFT" | "refused" | "failed" => 31,
        "drift" | "unknown" | "planned" | "skipped" | "rolled-back" => 33,
        _ => return Cow::Borrowed(word),
    };
    Cow::Owned(format!("\x1b[{code}m{word}\x1b[0m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(overflow: Overflow) -> Table {
        let mut table = Table::new(&["A", "LONG", "C"], overflow);
        table.row(vec!["größe".into(), "x".into(), "the end of all\n-> go on".into()]);
        table.row(vec!["日本".into(), "yy".into(), String::new()]);
        table
    }

    #[test]
    fn columns_align_by_width_on_screen() {
        assert_eq!(
            table(Overflow::Cut).render(None),
            "A      LONG  C\ngröße  x     the end of all\n             -> go on\n日本   yy\n"
        );
    }

    #[test]
    fn lines_are_cut_or_wrapped_at_the_edge_of_the_terminal() {
        assert_eq!(
            table(Overflow::Cut).render(Some(20)),
            "A      LONG  C\ngröße  x     the en…\n             -> go …\n日本   yy\n"
        );
        let mut wide = Table::new(&["A", "B"], Overflow::Wrap);
        wide.row(vec!["x".into(), "one two three four five six seven".into()]);
        assert_eq!(wide.render(Some(25)), "A  B\nx\n    one two three four\n    five six seven\n");
        let mut hint = Table::new(&["A", "B"], Overflow::Wrap);
        hint.row(vec!["x".into(), "why\n-> do this and that and more".into()]);
        assert_eq!(hint.render(Some(32)), "A  B\nx  why\n   -> do this and that and more\n");
        assert_eq!(hint.render(Some(22)), "A  B\nx  why\n    -> do this and\n    that and more\n");
        let mut path = Table::new(&["A", "B"], Overflow::Wrap);
        path.row(vec!["x".into(), format!("/{}", "long/".repeat(8))]);
        let text = path.render(Some(30));
        assert_eq!(text.replace(['\n', ' '], ""), format!("ABx/{}", "long/".repeat(8)));
        for width in 0..60 {
            for overflow in [Overflow::Cut, Overflow::Wrap] {
                let text = table(overflow).render(Some(width));
                assert!(width < 2 || text.lines().all(|l| l.width() <= width), "{width}\n{text}");
            }
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(escape_controls("a\x1b[31mb\u{85}\n"), "a\\x1b[31mb\\x85\\x0a");
        let mut table = Table::new(&["A"], Overflow::Cut);
        table.row(vec!["\x1b]0;owned\x07".into()]);
        assert!(!table.render(None).contains('\x1b'));
    }

    #[test]
    fn only_words_of_a_status_are_painted() {
        assert_eq!(painted_word("ok"), "\x1b[32mok\x1b[0m");
        assert_eq!(painted_word("DRIFT"), "\x1b[31mDRIFT\x1b[0m");
        assert_eq!(painted_word("STATUS"), "STATUS");
    }
}
