//! Generations of NVIDIA's GPUs: which branches of the driver drive one, and with
//! which type of kernel module.

const GPUS: &str = include_str!("../data/gpus.txt");

/// A generation of GPUs, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// G80 to GT200.
    Tesla,
    /// GF100 to GF119.
    Fermi,
    /// GK104 to GK210.
    Kepler,
    /// GM107 to GM206.
    Maxwell,
    /// GP100 to GP108.
    Pascal,
    /// GV100.
    Volta,
    /// TU102 to TU117.
    Turing,
    /// GA100 to GA107.
    Ampere,
    /// GH100.
    Hopper,
    /// AD102 to AD107.
    Ada,
    /// GB100 to GB300.
    Blackwell,
}

impl Generation {
    const ALL: [(&'static str, Generation); 11] = [
        ("tesla", Generation::Tesla),
        ("fermi", Generation::Fermi),
        ("kepler", Generation::Kepler),
        ("maxwell", Generation::Maxwell),
        ("pascal", Generation::Pascal),
        ("volta", Generation::Volta),
        ("turing", Generation::Turing),
        ("ampere", Generation::Ampere),
        ("hopper", Generation::Hopper),
        ("ada", Generation::Ada),
        ("blackwell", Generation::Blackwell),
    ];

    /// The generation of a PCI device id of NVIDIA's. `None`: the table does not
    /// have it; it is newer than the table, or not a GPU.
    pub fn of_device(device: u16) -> Option<Generation> {
        rows().find(|(first, last, _)| (*first..=*last).contains(&device)).map(|(.., one)| one)
    }

    /// The last branch of the driver that drives it; `None`: the current ones do.
    /// Sources: NVIDIA's list of legacy GPUs, and the branches that its module
    /// names ("supported through the NVIDIA 580.xx Legacy drivers").
    pub fn last_branch(self) -> Option<u32> {
        match self {
            Generation::Tesla => Some(340),
            Generation::Fermi => Some(390),
            Generation::Kepler => Some(470),
            Generation::Maxwell | Generation::Pascal | Generation::Volta => Some(580),
            _ => None,
        }
    }

    /// Whether NVIDIA's open kernel modules drive it: since Turing, which has the
    /// system processor (GSP) that they need.
    pub fn works_with_open(self) -> bool {
        self >= Generation::Turing
    }

    /// Whether NVIDIA's proprietary kernel modules drive it: not since Blackwell.
    pub fn works_with_proprietary(self) -> bool {
        self < Generation::Blackwell
    }

    /// Its name: `Blackwell`.
    pub fn as_str(self) -> &'static str {
        match self {
            Generation::Tesla => "Tesla",
            Generation::Fermi => "Fermi",
            Generation::Kepler => "Kepler",
            Generation::Maxwell => "Maxwell",
            Generation::Pascal => "Pascal",
            Generation::Volta => "Volta",
            Generation::Turing => "Turing",
            Generation::Ampere => "Ampere",
            Generation::Hopper => "Hopper",
            Generation::Ada => "Ada",
            Generation::Blackwell => "Blackwell",
        }
    }
}

fn rows() -> impl Iterator<Item = (u16, u16, Generation)> {
    GPUS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let mut id = || u16::from_str_radix(words.next()?, 16).ok();
        let (first, last) = (id()?, id()?);
        let name = words.next()?;
        let known = Generation::ALL.iter().find(|(known, _)| *known == name)?;
        Some((first, last, known.1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_public_reports_have_their_generation() {
        for (device, generation) in [
            (0x06dd, Generation::Fermi),
            (0x102d, Generation::Kepler),
            (0x13c2, Generation::Maxwell),
            (0x1b80, Generation::Pascal),
            (0x1db6, Generation::Volta),
            (0x1e07, Generation::Turing),
            (0x2204, Generation::Ampere),
            (0x20f1, Generation::Ampere),
            (0x2331, Generation::Hopper),
            (0x26b9, Generation::Ada),
            (0x2b85, Generation::Blackwell),
            (0x2c58, Generation::Blackwell),
            (0x2c31, Generation::Blackwell),
        ] {
            assert_eq!(Generation::of_device(device), Some(generation), "{device:04x}");
        }
        assert_eq!(Generation::of_device(0x4000), None);
        assert!(!Generation::Pascal.works_with_open() && Generation::Turing.works_with_open());
        assert!(!Generation::Blackwell.works_with_proprietary());
        assert_eq!(Generation::Pascal.last_branch(), Some(580));
    }

    #[test]
    fn every_row_is_understood_and_rows_do_not_overlap() {
        let lines = GPUS.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(rows().count(), lines);
        let mut last = 0;
        for (first, end, _) in rows() {
            assert!(first > last && first <= end, "{first:04x}");
            last = end;
        }
    }
}
