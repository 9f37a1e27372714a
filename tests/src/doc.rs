//! Documents that show commands with what they print: a README's `console`
//! blocks and the examples of hand-written manual pages. A test runs them and
//! holds the document against what comes out; `BLESS=1` writes it anew.
//!
//! In Markdown a command begins with `$ ` in a block fenced as `console`, in a
//! manual page with `# ` between `.nf` and `.fi`. `...` stands for any number of
//! lines. A comment `machine: NAME` says where the commands after it run, on a
//! fresh copy.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Markup {
    Markdown,
    Man,
}

/// A document in the project.
pub struct Document {
    path: PathBuf,
    markup: Markup,
    lines: Vec<String>,
}

/// One command that it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Number of its line, from 1.
    pub line: usize,
    /// Which recorded machine it runs on, and which copy of it.
    pub machine: (usize, String),
    /// The command, continuation lines joined.
    pub command: String,
    /// What it is shown to print.
    pub output: Vec<String>,
    range: Range<usize>,
}

/// One item of a list in a manual page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Heading of the section that it is in.
    pub section: String,
    /// What it is about.
    pub tag: String,
    /// What it says.
    pub text: String,
}

impl Document {
    /// Reads one, by its path below the project.
    pub fn read(path: &str) -> Document {
        let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        let text = fs::read_to_string(&at).expect(path);
        let markup = if path.ends_with(".md") { Markup::Markdown } else { Markup::Man };
        Document { path: at, markup, lines: text.lines().map(str::to_string).collect() }
    }

    /// All commands in their order.
    pub fn commands(&self) -> Vec<Shown> {
        let mut found: Vec<Shown> = Vec::new();
        let mut machine = (0, String::new());
        let mut inside = false;
        let mut at = 0;
        while at < self.lines.len() {
            let line = &self.lines[at];
            at += 1;
            if let Some(name) = self.machine(line) {
                machine = (machine.0 + 1, name);
                continue;
            }
            let (begins, ends) = self.fence(line);
            if begins || ends {
                inside = begins && !(inside && ends);
                continue;
            }
            if !inside {
                continue;
            }
            let text = self.plain(line);
            let Some(command) = text.strip_prefix(self.prompt()) else {
                if let Some(last) = found.last_mut().filter(|last| last.range.end == at - 1) {
                    last.range.end = at;
                    last.output.push(text);
                }
                continue;
            };
            let (number, mut command) = (at, command.to_string());
            while command.ends_with('\\') {
                command.pop();
                command.push_str(self.plain(&self.lines[at]).trim_start());
                at += 1;
            }
            let machine = machine.clone();
            found.push(Shown { line: number, machine, command, output: vec![], range: at..at });
        }
        found
    }

    /// Whether what a command printed is what is shown; where it is not and
    /// `BLESS=1` is set, it is from now on. Gives what differs.
    pub fn hold(&mut self, printed: &[(Shown, Vec<String>)]) -> Vec<String> {
        let differs: Vec<&(Shown, Vec<String>)> =
            printed.iter().filter(|(shown, now)| !matches(&shown.output, now)).collect();
        if std::env::var_os("BLESS").is_some() {
            for (shown, now) in differs.iter().rev() {
                let lines = shorten(&shown.output, now);
                let lines: Vec<String> = lines.iter().map(|line| self.marked(line)).collect();
                self.lines.splice(shown.range.clone(), lines);
            }
            let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
            fs::write(&self.path, text).expect("the document");
            return Vec::new();
        }
        let say = |(shown, now): &&(Shown, Vec<String>)| {
            format!(
                "line {}: {}\n-- shown\n{}\n-- printed\n{}\n",
                shown.line,
                shown.command,
                shown.output.join("\n"),
                now.join("\n")
            )
        };
        differs.iter().map(say).collect()
    }

    /// All of it as a reader sees it, a line each: without markup.
    pub fn text(&self) -> String {
        let comment = |line: &&String| !line.starts_with(".\\\"");
        self.lines.iter().filter(comment).map(|line| self.said(line) + "\n").collect()
    }

    /// What is set off from the text: in Markdown what stands between backticks,
    /// in a manual page what is bold, and the lines of examples.
    pub fn set_off(&self) -> Vec<String> {
        let mut found: Vec<String> = self.commands().into_iter().map(|c| c.command).collect();
        let (open, close) = match self.markup {
            Markup::Markdown => ("`", "`"),
            Markup::Man => ("\\fB", "\\f"),
        };
        for line in &self.lines {
            for request in [".B ", ".BR "] {
                if let Some(text) = line.strip_prefix(request) {
                    let quoted = text.strip_prefix('"').and_then(|text| text.split('"').next());
                    let first = || text.split(' ').next().unwrap_or_default();
                    let all = if request == ".B " { text } else { first() };
                    found.push(self.plain(quoted.unwrap_or(all)));
                }
            }
            let mut rest = line.as_str();
            while let Some((_, after)) = rest.split_once(open) {
                let (inside, after) = after.split_once(close).unwrap_or((after, ""));
                found.push(self.plain(inside));
                rest = after;
            }
        }
        found
    }

    /// The items of a manual page's lists, without markup.
    pub fn items(&self) -> Vec<Item> {
        let mut found: Vec<Item> = Vec::new();
        let mut section = String::new();
        let mut lines = self.lines.iter();
        let mut open = false;
        while let Some(line) = lines.next() {
            if line == ".TP" {
                let tag = lines.next().map(|line| self.said(line)).unwrap_or_default();
                found.push(Item { section: section.clone(), tag, text: String::new() });
                open = true;
            } else if line == ".TQ" {
                if let (Some(item), Some(tag)) = (found.last_mut(), lines.next()) {
                    item.tag.push(' ');
                    item.tag.push_str(&self.said(tag));
                }
            } else if line.starts_with(".SH") || line.starts_with(".SS") {
                (section, open) = (self.said(line), false);
            } else if let Some(item) = found.last_mut().filter(|_| open) {
                item.text.push_str(&self.said(line));
                item.text.push(' ');
            }
        }
        found
    }

    /// A line without requests, fonts and escapes.
    fn said(&self, line: &str) -> String {
        if self.markup == Markup::Markdown {
            return line.to_string();
        }
        let mut text = self.plain(line);
        for request in [".BR ", ".B ", ".IR ", ".I ", ".RB ", ".SS ", ".SH "] {
            if let Some(rest) = text.strip_prefix(request) {
                // alternating fonts are set without spaces between them
                let joined = request.len() == 4 && !request.starts_with(".S");
                text =
                    if joined { join(rest) } else { rest.trim_matches('"').replace("\"\"", "\"") };
                break;
            }
        }
        for font in ["\\fB", "\\fI", "\\fR"] {
            text = text.replace(font, "");
        }
        text
    }

    fn machine(&self, line: &str) -> Option<String> {
        let name = match self.markup {
            Markup::Markdown => line.strip_prefix("<!-- machine: ")?.strip_suffix(" -->")?,
            Markup::Man => line.strip_prefix(".\\\" machine: ")?,
        };
        Some(name.trim().to_string())
    }

    /// Whether a line begins, or ends, a block of commands.
    fn fence(&self, line: &str) -> (bool, bool) {
        match self.markup {
            Markup::Markdown => (line == "```console", line == "```"),
            Markup::Man => (line == ".nf", line == ".fi"),
        }
    }

    fn prompt(&self) -> &'static str {
        if self.markup == Markup::Markdown { "$ " } else { "# " }
    }

    /// A line without escapes.
    fn plain(&self, line: &str) -> String {
        if self.markup == Markup::Markdown {
            return line.to_string();
        }
        line.replace("\\-", "-")
            .replace("\\(aq", "'")
            .replace("\\(dq", "\"")
            .replace("\\&", "")
            .replace("\\e", "\\")
    }

    /// The reverse.
    fn marked(&self, line: &str) -> String {
        if self.markup == Markup::Markdown {
            return line.to_string();
        }
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        if line.starts_with('.') { format!("\\&{line}") } else { line }
    }
}

/// The arguments of a request that sets them side by side.
fn join(arguments: &str) -> String {
    let mut text = String::new();
    let mut quoted = false;
    for c in arguments.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => {}
            c => text.push(c),
        }
    }
    text
}

/// The words of each command of a line of shell: quotes are taken off,
/// redirections end a command.
pub fn words(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let (mut word, mut some, mut quote) = (String::new(), false, None);
    for c in line.chars().chain([' ']) {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, some) = (Some(c), true),
            (None, ' ' | '|' | ';' | '&' | '>' | '(' | ')') => {
                if some || !word.is_empty() {
                    commands.last_mut().expect("one").push(std::mem::take(&mut word));
                    some = false;
                }
                if c != ' ' {
                    commands.push(Vec::new());
                }
            }
            (None, c) => word.push(c),
        }
    }
    commands.retain(|words| !words.is_empty());
    commands
}

/// Whether lines are as shown; `...` among those stands for any.
fn matches(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=printed.len()).any(|skip| matches(rest, &printed[skip..]))
        }
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(now, after)| now == first && matches(rest, after))
        }
    }
}

/// What to show of it now: as many lines as before where not all were shown.
fn shorten(before: &[String], now: &[String]) -> Vec<String> {
    let kept = before.iter().position(|line| line == "...").filter(|kept| *kept < now.len());
    let mut lines: Vec<String> = now.iter().take(kept.unwrap_or(now.len())).cloned().collect();
    if kept.is_some() {
        lines.push("...".into());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(markup: Markup, text: &str) -> Document {
        let lines = text.lines().map(str::to_string).collect();
        Document { path: PathBuf::new(), markup, lines }
    }

    #[test]
    fn commands_of_a_readme_are_found_with_their_output() {
        let doc = document(
            Markup::Markdown,
            "<!-- machine: one -->\n```console\n$ a \\\n    b\nx\ny\n$ c\n```\n```sh\n$ no\n```\n\
             <!-- machine: two -->\n```console\n$ d\n```\n",
        );
        let found = doc.commands();
        let short: Vec<_> =
            found.iter().map(|c| (c.line, c.machine.1.as_str(), c.command.as_str())).collect();
        assert_eq!(short, [(3, "one", "a b"), (7, "one", "c"), (14, "two", "d")]);
        assert_eq!(found[0].output, ["x", "y"]);
        assert!(found[1].output.is_empty());
    }

    #[test]
    fn commands_of_a_manual_page_are_found_with_their_output() {
        let doc =
            document(Markup::Man, ".\\\" machine: m\n.nf\n# a \\-x\n\\&.b\n.fi\n.nf\nquote\n.fi\n");
        let found = doc.commands();
        assert_eq!((found.len(), found[0].command.as_str()), (1, "a -x"));
        assert_eq!(found[0].output, [".b"]);
    }

    #[test]
    fn the_words_of_each_command_of_a_pipeline_are_found() {
        let found = words("a -x 'b c' | d && e \"\" >f; g 'h|i'");
        let found: Vec<String> = found.iter().map(|words| words.join("+")).collect();
        assert_eq!(found, ["a+-x+b c", "d", "e+", "f", "g+h|i"]);
    }

    #[test]
    fn the_items_of_a_manual_page_are_found_without_markup() {
        let doc = document(Markup::Man, ".TP\n.B \"a \\-b\"\nText\n.BR c (1).\n.SH X\nno\n");
        let items = doc.items();
        assert_eq!((items[0].tag.as_str(), items[0].text.as_str()), ("a -b", "Text c(1). "));
        assert_eq!(items.len(), 1);
        assert_eq!(doc.set_off(), ["a -b", "c"]);
    }

    #[test]
    fn an_ellipsis_stands_for_any_lines_and_nothing_else_does() {
        let lines = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        assert!(matches(&lines("a ... d"), &lines("a b c d")));
        assert!(matches(&lines("a ..."), &lines("a")));
        assert!(!matches(&lines("a ... d"), &lines("a b c")));
        assert!(!matches(&lines("a"), &lines("a b")));
        assert_eq!(shorten(&lines("a b ..."), &lines("x y z")), lines("x y ..."));
        assert_eq!(shorten(&lines("a"), &lines("x y z")), lines("x y z"));
    }
}
