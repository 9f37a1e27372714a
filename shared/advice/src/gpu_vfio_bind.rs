//! Command lines of `gpu-vfio-bind`.

use record::{CommandLine, Slot};

use crate::command;

/// Binds a slot to its VFIO driver.
pub fn bind(slot: Slot) -> CommandLine {
    command(&["gpu-vfio-bind", "bind", &slot.to_string()])
}

/// Gives a slot back to the host's drivers.
pub fn release(slot: Slot) -> CommandLine {
    command(&["gpu-vfio-bind", "release", &slot.to_string()])
}

/// Options of `bind`. What is `false` or `None` is not on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// `--group`.
    pub group: bool,
    /// `--driver`: a VFIO driver or `auto`.
    pub driver: Option<String>,
    /// `--stop-persistenced`.
    pub stop_persistenced: bool,
    /// `--timeout`, in seconds.
    pub timeout: Option<u64>,
    /// `--force`: kinds of objections, `display`.
    pub force: Vec<String>,
}

/// Binds slots and functions.
pub fn bind_with(operands: &[String], options: &BindOptions) -> CommandLine {
    let mut line = verb("bind", operands);
    flag(&mut line, "--group", options.group);
    value(&mut line, "--driver", options.driver.as_ref());
    flag(&mut line, "--stop-persistenced", options.stop_persistenced);
    value(&mut line, "--timeout", options.timeout.as_ref());
    force(&mut line, &options.force);
    line
}

/// Options of `release`. What is `None` is not on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseOptions {
    /// `--to`: a driver.
    pub to: Option<String>,
    /// `--timeout`, in seconds.
    pub timeout: Option<u64>,
    /// `--force`: kinds of objections, `display`.
    pub force: Vec<String>,
}

/// Releases slots and functions.
pub fn release_with(operands: &[String], options: &ReleaseOptions) -> CommandLine {
    let mut line = verb("release", operands);
    value(&mut line, "--to", options.to.as_ref());
    value(&mut line, "--timeout", options.timeout.as_ref());
    force(&mut line, &options.force);
    line
}

/// Options of `persist`. What is `false` or `None` is not on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersistOptions {
    /// `--by id`.
    pub by_id: bool,
    /// `--group`.
    pub group: bool,
    /// `--driver`: a VFIO driver or `auto`.
    pub driver: Option<String>,
    /// `--cmdline`.
    pub cmdline: bool,
    /// `--blacklist`.
    pub blacklist: bool,
    /// `--force`: kinds of objections, `display`.
    pub force: Vec<String>,
}

/// Binds slots and functions at every boot.
pub fn persist(operands: &[String], options: &PersistOptions) -> CommandLine {
    let mut line = verb("persist", operands);
    value(&mut line, "--by", options.by_id.then_some("id").as_ref());
    flag(&mut line, "--group", options.group);
    value(&mut line, "--driver", options.driver.as_ref());
    flag(&mut line, "--cmdline", options.cmdline);
    flag(&mut line, "--blacklist", options.blacklist);
    force(&mut line, &options.force);
    line
}

/// Resets slots.
pub fn reset(operands: &[String]) -> CommandLine {
    verb("reset", operands)
}

/// Stops binding slots and functions at boot.
pub fn unpersist(operands: &[String]) -> CommandLine {
    verb("unpersist", operands)
}

/// Stops binding anything at boot.
pub fn unpersist_all() -> CommandLine {
    command(&["gpu-vfio-bind", "unpersist", "--all"])
}

fn verb(verb: &str, operands: &[String]) -> CommandLine {
    let mut line = command(&["gpu-vfio-bind", verb]);
    line.extend_from_slice(operands);
    line
}

fn force(line: &mut CommandLine, kinds: &[String]) {
    value(line, "--force", (!kinds.is_empty()).then(|| kinds.join(",")).as_ref());
}

fn flag(line: &mut CommandLine, name: &str, is_set: bool) {
    line.extend(is_set.then(|| name.to_string()));
}

fn value(line: &mut CommandLine, name: &str, value: Option<&impl ToString>) {
    if let Some(value) = value {
        line.extend([name.to_string(), value.to_string()]);
    }
}
