//! The options that mean the same in every tool.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use host::Machine;
use record::{Exit, Failure, Output, fail};

/// How records are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputChoice {
    /// A table on a terminal, JSON lines in a pipe
    #[default]
    Auto,
    /// One JSON object a line
    Jsonl,
    /// Aligned columns
    Table,
}

impl From<OutputChoice> for Output {
    fn from(choice: OutputChoice) -> Output {
        match choice {
            OutputChoice::Auto => Output::Auto,
            OutputChoice::Jsonl => Output::Jsonl,
            OutputChoice::Table => Output::Table,
        }
    }
}

/// Options of every tool, apart from `--output`, whose choices differ.
#[derive(Args, Clone, Debug)]
pub struct CommonOptions {
    /// Operate on the system root DIR
    ///
    /// Reads and writes files in DIR instead of /. Symbolic links resolve inside
    /// DIR, and no command is run. Device nodes may be listed in DIR/dev.list
    /// instead of existing.
    #[arg(long, value_name = "DIR", global = true, help_heading = "Common options")]
    pub root: Option<PathBuf>,

    /// Print more messages
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = "Common options")]
    pub verbose: u8,

    /// Print only errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Common options")]
    pub quiet: bool,
}

impl CommonOptions {
    /// The values that every tool has.
    pub fn values(&self, output: OutputChoice) -> CommonValues {
        CommonValues { verbose: self.verbose, quiet: self.quiet, output }
    }

    /// The machine to work on. Errors: `--root` names no directory.
    pub fn machine(&self) -> Result<Machine, Failure> {
        Machine::new(self.root.as_deref().map(Path::new))
            .map_err(|error| fail(Exit::Usage, error.to_string()))
    }
}

/// `--output` of tools that print records, or tables of them.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputOption {
    /// Output format: auto (table on a terminal), table, jsonl
    #[arg(
        id = "output",
        short,
        long = "output",
        global = true,
        value_enum,
        hide_possible_values = true,
        value_name = "FORMAT",
        default_value_t,
        hide_default_value = true,
        help_heading = "Common options"
    )]
    pub choice: OutputChoice,
}

/// Options of every tool that changes something.
#[derive(Args, Clone, Debug)]
pub struct ChangeOptions {
    /// Show what would change, but change nothing
    #[arg(short = 'n', long, help_heading = "Common options")]
    pub dry_run: bool,

    /// Like --dry-run; exit 1 if something would change
    #[arg(long, help_heading = "Common options")]
    pub check: bool,
}

impl ChangeOptions {
    /// Whether nothing may be changed.
    pub fn only_look(&self) -> bool {
        self.dry_run || self.check
    }
}

/// What [`crate::run`] needs to know of a parsed command line.
pub struct CommonValues {
    /// Count of `-v`.
    pub verbose: u8,
    /// `-q`.
    pub quiet: bool,
    /// `-o`.
    pub output: OutputChoice,
}

/// What a user of another tool types by mistake, and what is right here. The first
/// is a word, or one of [`NUMBER`] and [`ADDRESS`]; `verb word` is only meant
/// behind that verb. `{}` in the second is what was typed.
pub type Correction = (&'static str, &'static str);

/// Stands for any number in [`Correction`].
pub const NUMBER: &str = "<number>";
/// Stands for any PCI address in [`Correction`].
pub const ADDRESS: &str = "<address>";

/// A command line that has the common options.
pub trait Common {
    /// What users of other tools type by mistake, and what is right here.
    const CORRECTIONS: &'static [Correction] = &[];

    /// Their values.
    fn common(&self) -> CommonValues;
}
