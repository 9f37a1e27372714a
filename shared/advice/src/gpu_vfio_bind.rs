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
