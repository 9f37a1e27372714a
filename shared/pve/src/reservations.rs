//! PCI functions that Proxmox VE has reserved for VMs which it starts or runs.

use std::time::{SystemTime, UNIX_EPOCH};

use host::{FileError, KernelFiles};
use record::Address;

const RESERVATIONS: &str = "/run/qemu-server/pci-id-reservations";

/// How long a reservation counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedUntil {
    /// While the VM's process runs.
    ProcessEnds(u32),
    /// The VM is being started: until this time, in seconds since 1970.
    Time(u64),
}

/// One line of the file: `BDF VMID pid:PID` or `BDF VMID time:EPOCH`
/// (qemu-server, PVE/QemuServer/PCI.pm).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The function.
    pub address: Address,
    /// The VM.
    pub vm: u32,
    /// How long it counts.
    pub until: ReservedUntil,
    /// It counts now. Proxmox VE leaves the others in the file and takes them
    /// over.
    pub is_alive: bool,
}

/// All reservations, the alive and the stale.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    /// In the order of the file.
    pub all: Vec<Reservation>,
}

impl Reservations {
    /// Reads them; a host without the file has none. Errors: it exists and
    /// cannot be read.
    pub fn read(files: &dyn KernelFiles) -> Result<Reservations, FileError> {
        let text = match files.read_attr(RESERVATIONS) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Ok(Reservations::default()),
            Err(error) => return Err(error),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let runs = |pid: u32| files.exists(&format!("/proc/{pid}"));
        Ok(Reservations { all: text.lines().filter_map(|line| parse(line, now, &runs)).collect() })
    }

    /// The VM that has a function reserved now.
    pub fn vm_of(&self, address: Address) -> Option<u32> {
        // for an address with two lines the last line wins, as for Proxmox VE
        let last = self.all.iter().rfind(|reservation| reservation.address == address)?;
        last.is_alive.then_some(last.vm)
    }
}

fn parse(line: &str, now: u64, runs: &dyn Fn(u32) -> bool) -> Option<Reservation> {
    let mut words = line.split_ascii_whitespace();
    let (address, vm) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (until, is_alive) = match words.next()?.split_once(':')? {
        ("pid", pid) => {
            let pid = pid.parse().ok()?;
            (ReservedUntil::ProcessEnds(pid), runs(pid))
        }
        ("time", time) => {
            let time = time.parse().ok()?;
            (ReservedUntil::Time(time), time > now)
        }
        _ => return None,
    };
    Some(Reservation { address, vm, until, is_alive })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_counts_while_its_process_runs_or_its_time_lasts() {
        let all = "0000:41:00.0 100 pid:123\n0000:42:00.0 101 time:5\nx\n0000:43:00.0 102 time:50\n\
            0000:44:00.0 103 pid:9\n0000:44:00.0 104 pid:123\n0000:45:00.0 105 later:1\n";
        let all = all.lines().filter_map(|line| parse(line, 10, &|pid| pid == 123)).collect();
        let reservations = Reservations { all };
        assert_eq!(reservations.all.len(), 5);
        let of = |address: &str| reservations.vm_of(address.parse().unwrap());
        assert_eq!([of("41:00.0"), of("42:00.0"), of("43:00.0")], [Some(100), None, Some(102)]);
        assert_eq!([of("44:00.0"), of("45:00.0")], [Some(104), None]);
    }
}
