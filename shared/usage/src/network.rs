//! Network interfaces: which of them hang below a function, and what uses them.

use std::collections::BTreeMap;

use host::Machine;

use crate::sysfs::{ClassDevice, Subtree, class_devices};
use crate::{Usage, User, UserKind};

/// No table of routes is larger.
const MOST: usize = 16 << 20;

/// The interfaces of the machine and the routes over them.
#[derive(Debug, Default)]
pub(crate) struct Interfaces {
    devices: Vec<ClassDevice>,
    /// What routes an interface carries, in words.
    routes: BTreeMap<String, &'static str>,
    unknown: Vec<String>,
}

const DEFAULT_ROUTE: &str = "carries the default route";
const ROUTE: &str = "has an address or a route";

impl Interfaces {
    /// Reads the machine's interfaces and routes.
    pub fn read(machine: &Machine) -> Interfaces {
        let mut interfaces = Interfaces::default();
        match class_devices(machine, "net") {
            Ok(devices) => interfaces.devices = devices,
            Err(why) => interfaces.unknown.push(why),
        }
        for (path, parse) in [
            ("/proc/net/route", ipv4_route as fn(&str) -> Option<(&str, bool)>),
            ("/proc/net/ipv6_route", ipv6_route),
        ] {
            match machine.read_text(path, MOST) {
                Ok(text) => text.lines().filter_map(parse).for_each(|(name, default)| {
                    let what = if default { DEFAULT_ROUTE } else { ROUTE };
                    let known = interfaces.routes.entry(name.to_string()).or_insert(what);
                    if default {
                        *known = DEFAULT_ROUTE;
                    }
                }),
                // a kernel without this protocol
                Err(error) if error.is_not_found() => {}
                Err(error) => interfaces.unknown.push(error.to_string()),
            }
        }
        interfaces
    }

    /// Adds what uses the interfaces below a function.
    pub fn below(&self, machine: &Machine, below: &Subtree, usage: &mut Usage) {
        let own: Vec<&ClassDevice> =
            self.devices.iter().filter(|device| below.holds(&device.path)).collect();
        if own.is_empty() {
            return;
        }
        usage.unknown.extend(self.unknown.iter().cloned());
        for device in own {
            for what in self.uses_of(machine, device) {
                usage.users.push(User { kind: UserKind::Network, name: device.name.clone(), what });
            }
        }
    }

    /// A port of a bridge, bond or team has a link `master`; whatever is built
    /// on an interface (VLAN, macvlan, bridge) has a link `upper_NAME` there
    /// (net/core/dev.c, netdev_adjacent_sysfs_add()).
    fn uses_of(&self, machine: &Machine, device: &ClassDevice) -> Vec<String> {
        let mut uses = Vec::new();
        uses.extend(self.routes.get(&device.name).map(|what| (*what).to_string()));
        let master = machine.read_link(&format!("{}/master", device.path)).ok();
        let master = master.as_deref().and_then(|path| path.rsplit('/').next());
        uses.extend(master.map(|name| format!("is a port of {name}")));
        let names = machine.list(&device.path).unwrap_or_default();
        let upper = names.iter().filter_map(|name| name.strip_prefix("upper_"));
        uses.extend(
            upper.filter(|name| Some(*name) != master).map(|name| format!("carries {name}")),
        );
        uses
    }
}

/// Interface of a line of /proc/net/route, and whether it is the default route:
/// destination and mask (columns 2 and 8) are zero.
fn ipv4_route(line: &str) -> Option<(&str, bool)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let name = words.first().filter(|name| **name != "Iface")?;
    let mask = words.get(7).is_none_or(|mask| *mask == "00000000");
    Some((name, words.get(1) == Some(&"00000000") && mask))
}

/// The same of /proc/net/ipv6_route: destination, prefix length, ..., flags,
/// interface. Link-local and multicast routes are there for every interface
/// that is up; routes to addresses of this machine go over `lo`.
fn ipv6_route(line: &str) -> Option<(&str, bool)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (destination, length, name) = (words.first()?, words.get(1)?, words.get(9)?);
    let automatic = destination.starts_with("fe80") || destination.starts_with("ff");
    if automatic || *name == "lo" {
        return None;
    }
    Some((name, *length == "00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_told_apart() {
        let line = "eno1\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        assert_eq!(ipv4_route(line), Some(("eno1", true)));
        let line = "eno1\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        assert_eq!(ipv4_route(line), Some(("eno1", false)));
        assert_eq!(ipv4_route("Iface\tDestination\tGateway"), None);
        let line = "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001 eno1";
        assert_eq!(ipv6_route(line), None);
        let line = "20010db8000000000000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001 eno1";
        assert_eq!(ipv6_route(line), Some(("eno1", false)));
    }
}
