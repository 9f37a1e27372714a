//! What a manual page says beyond the command line's own definition. The pages
//! are made from both by a test and committed.

/// A command that a manual page shows; the tests run each on a recorded machine.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// What it is for, one sentence.
    pub says: &'static str,
    /// The command line.
    pub command: &'static str,
}

/// The hand-written sections of a tool's page. Paragraphs are separated by
/// empty lines.
#[derive(Clone, Copy, Debug)]
pub struct ManText {
    /// What comes in on standard input.
    pub input: &'static str,
    /// What goes out on standard output.
    pub output: &'static str,
    /// What an exit code means for this tool, where there is more to say than
    /// for all: code and meaning.
    pub exit: &'static [(u8, &'static str)],
    /// Files read or written: path and what for.
    pub files: &'static [(&'static str, &'static str)],
    /// What a user should know beside that.
    pub notes: &'static str,
    /// Sections of named things: heading, then name and text of each.
    pub lists: &'static [(&'static str, &'static [(&'static str, &'static str)])],
    /// Examples.
    pub examples: &'static [Example],
    /// Other pages, `name(section)`.
    pub see_also: &'static [&'static str],
}

/// The exit codes, the same in every tool and every page.
pub const EXIT_STATUS: [(u8, &str); 5] = [
    (0, "Success (also when nothing had to change)."),
    (1, "A check found a difference or a problem."),
    (2, "Usage error or invalid input; nothing was changed."),
    (3, "A system operation failed; the records list failures and rollbacks."),
    (4, "Refused for safety; nothing was changed."),
];
