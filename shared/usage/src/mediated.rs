//! Mediated devices (mdev) that were made on a function.

use host::Machine;

use crate::sysfs::{ClassDevice, Subtree, link_path};
use crate::{Usage, User, UserKind};

const DEVICES: &str = "/sys/bus/mdev/devices";

/// Lists the machine's mediated devices.
pub(crate) fn read(machine: &Machine) -> Result<Vec<ClassDevice>, String> {
    let names = machine.list(DEVICES).map_err(|error| error.to_string())?;
    let devices = names.into_iter().filter_map(|name| {
        let path = link_path(machine, DEVICES, &name)?;
        Some(ClassDevice { name, path })
    });
    Ok(devices.collect())
}

/// Adds those that were made on a function or one of its VFs.
pub(crate) fn of(devices: &Result<Vec<ClassDevice>, String>, below: &Subtree, usage: &mut Usage) {
    match devices {
        Err(why) => usage.unknown.push(why.clone()),
        Ok(devices) => {
            let own = devices.iter().filter(|device| below.holds(&device.path));
            usage.users.extend(own.map(|device| {
                User {
                    kind: UserKind::MediatedDevice { vmid: proxmox_vmid(&device.name) },
                    name: format!("mediated device {}", device.name),
                    what: proxmox_vmid(&device.name)
                        .map_or("is on it".into(), |vmid| format!("is on it, made for VM {vmid}")),
                }
            }));
        }
    }
}

/// Proxmox VE makes the UUID from the index of `hostpci[n]` and the VM's id:
/// `00000000-0000-0000-0000-000000000100` (PVE::QemuServer::PCI,
/// generate_mdev_uuid()).
fn proxmox_vmid(uuid: &str) -> Option<u32> {
    let (index, rest) = uuid.split_once('-')?;
    let digits = rest.strip_prefix("0000-0000-0000-")?;
    let own = index.len() == 8 && digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit());
    own.then(|| digits.trim_start_matches('0').parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxmox_s_own_uuids_name_their_vm() {
        assert_eq!(proxmox_vmid("00000001-0000-0000-0000-000000000123"), Some(123));
        assert_eq!(proxmox_vmid("b3b2f0a1-7c3e-4f3e-9d55-0e4f0a6f3a11"), None);
        assert_eq!(proxmox_vmid("00000000-0000-0000-0000-000000000000"), None);
    }
}
