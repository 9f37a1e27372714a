//! Drivers in the middle of their removal from a function.

use host::{Machine, PendingWriter};
use pci::Function;

use crate::{Usage, User, UserKind};

/// Adds the writers that wait in the kernel for a function. The kernel removes
/// the link `driver` first and NVIDIA's own directory of the GPU last, so a GPU
/// with the second only is being removed, whoever started that.
pub(crate) fn of(
    machine: &Machine,
    writers: &Result<Vec<PendingWriter>, String>,
    function: &Function,
    usage: &mut Usage,
) {
    let before = usage.users.len();
    let address = function.address.to_string();
    match writers {
        Err(why) => usage.unknown.push(why.clone()),
        Ok(writers) => {
            let own = writers.iter().filter(|writer| {
                writer.value == address || writer.path.contains(&format!("/{address}/"))
            });
            usage.users.extend(own.map(|writer| User {
                kind: UserKind::Removal { pid: Some(writer.pid) },
                name: format!("process {}", writer.pid),
                what: format!("still waits in the kernel to write {}", writer.path),
            }));
        }
    }
    let in_driver = format!("/proc/driver/nvidia/gpus/{address}");
    if usage.users.len() == before && function.driver.is_none() && machine.exists(&in_driver) {
        usage.users.push(User {
            kind: UserKind::Removal { pid: None },
            name: "NVIDIA's driver".into(),
            what: "is being removed from it".into(),
        });
    }
}
