//! After a change: says when it takes effect, and restarts or starts the container
//! where that was requested.

use std::time::Duration;

use ::cli::{Exit, Say, fail};
use advice::external::{pct_reboot, pct_start};
use host::Machine;
use pve::Guest;
use record::{Change, ChangeStatus, CommandLine, Record, RecordWriter, shell_words};

use crate::apply::edit::EditOutcome;
use crate::apply::hotplug;
use crate::apply::open_nodes::{all_open, given_nodes, open_once, open_until, report};

const DEFAULT_WAIT: u64 = 60;
/// pct itself waits 60 s for the shutdown.
const PCT: Duration = Duration::from_secs(180);

/// What was requested for after the change.
pub struct RestartRequest<'a> {
    /// The host.
    pub machine: &'a Machine,
    /// The container.
    pub guest: &'a Guest,
    /// For messages.
    pub say: &'a Say,
    /// `--restart`.
    pub restart: bool,
    /// `--start`.
    pub start: bool,
    /// `--wait`, seconds.
    pub wait: Option<u64>,
}

/// How a container gets its new configuration.
#[derive(Clone, Copy)]
enum RestartMethod {
    Reboot,
    Start,
}

impl RestartMethod {
    /// The value of the change record.
    fn done(self) -> &'static str {
        match self {
            RestartMethod::Reboot => "restarted",
            RestartMethod::Start => "started",
        }
    }

    fn command(self, ctid: u32) -> CommandLine {
        match self {
            RestartMethod::Reboot => pct_reboot(ctid),
            RestartMethod::Start => pct_start(ctid),
        }
    }
}

impl RestartRequest<'_> {
    fn wait(&self) -> Duration {
        Duration::from_secs(self.wait.unwrap_or(DEFAULT_WAIT))
    }

    fn change(&self) -> Change {
        Change::planned(self.say.tool(), &self.guest.target(), "running")
    }

    /// Says when the change takes effect, restarts or starts the container, and
    /// opens its nodes. Exit 3 where it cannot be restarted or a node does not open
    /// in time.
    pub fn finish(&self, edited: &EditOutcome, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
        let ctid = self.guest.ctid;
        let running = pve::is_running(self.machine, ctid);
        if !self.restart && !self.start && self.wait.is_none() {
            self.say_when(edited, running);
            return Ok(edited.exit);
        }
        let startable = self.start && self.machine.is_host();
        if !running && !startable {
            self.skip(writer)?;
            return Ok(edited.exit);
        }
        let paths = given_nodes(self.machine, self.guest);
        let wait = self.wait();
        if !running {
            self.pct(RestartMethod::Start, writer)?;
        } else if self.restart
            && (edited.changed && !edited.hot_plugged
                || !all_open(self.machine, &open_once(self.machine, ctid, &paths, wait)))
        {
            self.pct(RestartMethod::Reboot, writer)?;
        }
        let answers = open_until(self.machine, ctid, &paths, wait);
        report(self.machine, self.guest, &answers, wait, writer)
    }

    /// The record of a dry run.
    pub fn preview(&self, edited: &EditOutcome, writer: &mut RecordWriter) -> anyhow::Result<()> {
        let running = pve::is_running(self.machine, self.guest.ctid);
        let method = match running {
            true if self.restart && edited.changed && !edited.hot_plugged => RestartMethod::Reboot,
            false if self.start => RestartMethod::Start,
            _ => return Ok(()),
        };
        let mut change = self.change();
        change.to = Some(method.done().into());
        let command = method.command(self.guest.ctid).join(" ");
        change.reason = Some(match self.machine.is_host() {
            true => format!(
                "{command}, then waits up to {} s for the nodes to open inside",
                self.wait().as_secs()
            ),
            false => format!("{command}: commands are not run with --root"),
        });
        Ok(writer.put(Record::Change(change))?)
    }

    fn say_when(&self, edited: &EditOutcome, running: bool) {
        let target = self.guest.target();
        if edited.hot_plugged {
            self.say
                .note(&format!("{target}: device nodes were hot-plugged; no restart is needed"));
        } else if edited.changed && running {
            self.say.note(&format!(
                "{target}: the container is running; restart it for the change to take effect ({}, \
                 or --restart)",
                shell_words(&pct_reboot(self.guest.ctid))
            ));
        } else if edited.changed {
            self.say.note(&format!(
                "{target}: the change takes effect the next time the container starts"
            ));
        }
    }

    fn skip(&self, writer: &mut RecordWriter) -> anyhow::Result<()> {
        let mut change = self.change();
        change.status = ChangeStatus::Skipped;
        if self.machine.is_host() {
            change.reason =
                Some("the container is not running: the change takes effect when it starts".into());
            change.commands.push(pct_start(self.guest.ctid));
        } else {
            change.reason = Some("commands are not run with --root".into());
        }
        Ok(writer.put(Record::Change(change))?)
    }

    fn pct(&self, method: RestartMethod, writer: &mut RecordWriter) -> anyhow::Result<()> {
        let mut change = self.change();
        change.to = Some(method.done().into());
        if !hotplug::has_pct(self.machine) {
            change.status = ChangeStatus::Skipped;
            change.reason = Some("pct is not installed".into());
            return Ok(writer.put(Record::Change(change))?);
        }
        let command = method.command(self.guest.ctid);
        let argv: Vec<&str> = command.iter().map(String::as_str).collect();
        let ran = self.machine.run(&argv, PCT)?;
        let why = ran.filter(|ran| !ran.success()).map(|ran| ran.reason());
        change.status = if why.is_none() { ChangeStatus::Changed } else { ChangeStatus::Failed };
        change.reason = why.clone();
        writer.put(Record::Change(change))?;
        let Some(why) = why else { return Ok(()) };
        let (verb, noun) = match method {
            RestartMethod::Reboot => ("reboot", "restart"),
            RestartMethod::Start => ("start", "start"),
        };
        let message = format!(
            "{}: the configuration is up to date, but the {noun} failed: pct {verb}: {why}",
            self.guest.target()
        );
        Err(fail(Exit::System, message).run(command).into())
    }
}
