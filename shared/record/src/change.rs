//! Records about what was changed and what was compared.

use serde::{Deserialize, Serialize};

use crate::hint::CommandLine;

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeStatus {
    /// Nothing had to change.
    Unchanged,
    /// Dry run or check: would be done.
    Planned,
    /// Done and read back.
    Changed,
    /// Not ours to do here.
    Skipped,
    /// Refused for safety.
    Refused,
    /// Tried and failed.
    Failed,
    /// Done and rolled back.
    RolledBack,
}

impl ChangeStatus {
    /// The word used in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeStatus::Unchanged => "unchanged",
            ChangeStatus::Planned => "planned",
            ChangeStatus::Changed => "changed",
            ChangeStatus::Skipped => "skipped",
            ChangeStatus::Refused => "refused",
            ChangeStatus::Failed => "failed",
            ChangeStatus::RolledBack => "rolled-back",
        }
    }
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The tool that prints it.
    pub tool: String,
    /// What is changed: `ct 901`, an address, a path.
    pub target: String,
    /// Which property of it: a configuration key, an attribute.
    pub property: String,
    /// Value before, `None` where there was none.
    pub from: Option<String>,
    /// Value after, `None` where there is none.
    pub to: Option<String>,
    /// How far it has come.
    pub status: ChangeStatus,
    /// Why, where the status asks for it.
    pub reason: Option<String>,
    /// What to do next, in words, where that is known.
    pub hint: Option<String>,
    /// The commands to run, in order, each as its argument vector; empty where
    /// no command repairs it.
    #[serde(default)]
    pub commands: Vec<CommandLine>,
}

/// Outcome of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As expected.
    Ok,
    /// Not as expected.
    Drift,
    /// Could not be found out.
    Unknown,
}

/// How much a difference matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing to do.
    Info,
    /// Works now, may stop working.
    Warning,
    /// Does not work.
    Error,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at: an address, `ct 901`, `host`.
    pub subject: String,
    /// Which property of it.
    pub property: String,
    /// What it should be.
    pub expected: Option<String>,
    /// What it is.
    pub actual: Option<String>,
    /// Outcome.
    pub status: CheckStatus,
    /// How much it matters.
    pub severity: Severity,
    /// Name of what is wrong, for scripts: `stale-rule`. `None` where all is well
    /// and where the property says it all.
    pub cause: Option<String>,
    /// The same in words.
    pub reason: Option<String>,
    /// What to do next, in words, where that is known.
    pub hint: Option<String>,
    /// The commands to run, in order, each as its argument vector; empty where
    /// no command repairs it.
    #[serde(default)]
    pub commands: Vec<CommandLine>,
}

impl Check {
    /// A comparison that found what it should.
    pub fn ok(subject: &str, property: &str, value: impl Into<Option<String>>) -> Check {
        let value = value.into();
        Check {
            commands: Vec::new(),
            subject: subject.into(),
            property: property.into(),
            expected: value.clone(),
            actual: value,
            status: CheckStatus::Ok,
            severity: Severity::Info,
            cause: None,
            reason: None,
            hint: None,
        }
    }
}

/// Makes `Cause`, the causes that a tool's `check` records name, and `CAUSES`,
/// their names and meanings, from one list: variant, name, meaning.
#[macro_export]
macro_rules! causes {
    ($($variant:ident $name:literal $what:literal,)*) => {
        /// What is wrong, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Cause { $(#[doc = $what] $variant,)* }

        /// Names and meanings of all causes that this tool's `check` records give.
        pub const CAUSES: &[(&str, &str)] = &[$(($name, $what),)*];

        impl Cause {
            /// Its name in records.
            pub fn name(self) -> &'static str {
                match self { $(Cause::$variant => $name,)* }
            }
        }
    };
}
