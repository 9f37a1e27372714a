//! One finding: a `check` record with what it means for the exit status.

use ::cli::Exit;
use record::{Check, CheckStatus, Hint, Severity};

use crate::cause::Cause;

/// A `check` record and the exit status that it asks for.
pub struct Finding {
    check: Check,
    exit: Exit,
}

impl Finding {
    /// All is well: a property has this value.
    pub fn ok(subject: &str, property: &str, value: Option<&str>) -> Finding {
        Finding { check: Check::ok(subject, property, value.map(str::to_string)), exit: Exit::Done }
    }

    fn of(cause: Cause, status: CheckStatus, severity: Severity, exit: Exit) -> Finding {
        let mut check = Check::ok("", "", None);
        check.cause = Some(cause.name().into());
        check.status = status;
        check.severity = severity;
        Finding { check, exit }
    }

    /// Something does not work.
    pub fn error(cause: Cause) -> Finding {
        Finding::of(cause, CheckStatus::Drift, Severity::Error, Exit::Difference)
    }

    /// Something differs and may stop working.
    pub fn warning(cause: Cause) -> Finding {
        Finding::of(cause, CheckStatus::Drift, Severity::Warning, Exit::Difference)
    }

    /// Worth knowing, but not a mismatch.
    pub fn note(cause: Cause, severity: Severity) -> Finding {
        Finding::of(cause, CheckStatus::Ok, severity, Exit::Done)
    }

    /// Something that was asked for could not be read.
    pub fn unknown(cause: Cause) -> Finding {
        Finding::of(cause, CheckStatus::Unknown, Severity::Warning, Exit::System)
    }

    /// Something beside what was asked for could not be read.
    pub fn unknown_aside(cause: Cause) -> Finding {
        Finding { exit: Exit::Done, ..Finding::unknown(cause) }
    }

    pub fn severity(mut self, severity: Severity) -> Finding {
        self.check.severity = severity;
        self
    }

    pub fn on(mut self, subject: &str, property: impl Into<String>) -> Finding {
        self.check.subject = subject.into();
        self.check.property = property.into();
        self
    }

    pub fn found(mut self, expected: Option<&str>, actual: Option<&str>) -> Finding {
        self.check.expected = expected.map(str::to_string);
        self.check.actual = actual.map(str::to_string);
        self
    }

    pub fn because(mut self, reason: impl Into<String>) -> Finding {
        self.check.reason = Some(reason.into());
        self
    }

    pub fn hint(mut self, hint: Hint) -> Finding {
        self.check.hint = hint.words;
        self.check.commands = hint.commands;
        self
    }

    pub fn check(&self) -> &Check {
        &self.check
    }

    /// The exit status if this were the only finding.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}
