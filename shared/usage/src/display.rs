//! Displays: what the text console and the firmware's frame buffer are on.

use host::Machine;
use record::Address;

use crate::sysfs::{ClassDevice, Subtree, class_devices};
use crate::{Usage, User, UserKind};

const MOST: usize = 16 << 20;

/// What the host draws, and on what.
pub(crate) struct Displays {
    /// Frame buffers on which the text console is drawn.
    consoles: Vec<ClassDevice>,
    /// /proc/iomem; empty where it cannot be read.
    memory: String,
}

impl Displays {
    /// Reads it.
    pub fn read(machine: &Machine) -> Displays {
        let frame_buffers = class_devices(machine, "graphics").unwrap_or_default();
        let is_drawn = !frame_buffers.is_empty() && console_is_drawn(machine);
        Displays {
            consoles: if is_drawn { frame_buffers } else { Vec::new() },
            memory: machine.read_text("/proc/iomem", MOST).unwrap_or_default(),
        }
    }

    /// Adds what is displayed by a function.
    pub fn below(
        &self,
        address: Address,
        is_boot_display: bool,
        below: &Subtree,
        usage: &mut Usage,
    ) {
        let mut add = |name: &str, what: &str| {
            let user = User { kind: UserKind::Display, name: name.into(), what: what.into() };
            usage.users.push(user);
        };
        if is_boot_display {
            add("boot display", "is on it");
        }
        if self.consoles.iter().any(|device| below.holds(&device.path)) {
            add("text console", "is drawn by it");
        }
        if boot_frame_buffer(&self.memory, address) {
            add("firmware frame buffer", "lies in its memory");
        }
    }
}

/// Whether a virtual console is bound to the frame buffer console.
fn console_is_drawn(machine: &Machine) -> bool {
    let consoles = machine.list("/sys/class/vtconsole").unwrap_or_default();
    consoles.iter().any(|console| {
        let attr = |name: &str| machine.attr(&format!("/sys/class/vtconsole/{console}/{name}"));
        attr("name").is_ok_and(|name| name.contains("frame buffer"))
            && attr("bind").is_ok_and(|bind| bind == "1")
    })
}

/// Whether /proc/iomem has the firmware's frame buffer inside one of the
/// function's ranges: `BOOTFB` is what the kernel calls it until a driver takes
/// it (drivers/firmware/sysfb.c, arch/x86/kernel/sysfb_simplefb.c), the others
/// are the drivers that do.
fn boot_frame_buffer(iomem: &str, address: Address) -> bool {
    const NAMES: [&str; 5] = ["BOOTFB", "simplefb", "simpledrm", "efifb", "vesafb"];
    let own = address.to_string();
    let mut inside: Option<usize> = None;
    for line in iomem.lines() {
        let depth = line.len() - line.trim_start().len();
        let name = line.split_once(" : ").map_or("", |(_, name)| name.trim());
        if inside.is_some_and(|above| depth <= above) {
            inside = None;
        }
        if inside.is_some() && NAMES.contains(&name) {
            return true;
        }
        if name == own {
            inside = inside.or(Some(depth));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_buffer_is_found_in_the_bar_that_holds_it() {
        let iomem = "00001000-0009ffff : System RAM\n\
                     2800000000-2fffffffff : PCI Bus 0000:c3\n  \
                     2800000000-2fffffffff : 0000:c3:00.0\n    \
                     2800000000-2801fa3fff : BOOTFB\n  \
                     3000000000-3000ffffff : 0000:c3:00.1\n";
        assert!(boot_frame_buffer(iomem, "c3:00.0".parse().unwrap()));
        assert!(!boot_frame_buffer(iomem, "c3:00.1".parse().unwrap()));
    }
}
