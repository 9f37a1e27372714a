//! /proc/devices: which driver owns which character major.

use host::{FileError, Machine};

/// The character section of /proc/devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CharDevices {
    entries: Vec<(u32, String)>,
}

impl CharDevices {
    /// Reads it. Errors: /proc/devices cannot be read.
    pub fn read(machine: &Machine) -> Result<CharDevices, FileError> {
        Ok(CharDevices::parse(&machine.read_text("/proc/devices", 1 << 20)?))
    }

    /// Parses it. Only lines after `Character devices:` count: block devices have
    /// majors of their own.
    pub fn parse(text: &str) -> CharDevices {
        let mut inside = false;
        let mut entries = Vec::new();
        for line in text.lines() {
            match line.trim() {
                "Character devices:" => inside = true,
                "Block devices:" => inside = false,
                entry if inside => {
                    let (major, name) = entry.split_once(' ').unwrap_or_default();
                    if let Ok(major) = major.parse() {
                        entries.push((major, name.trim().to_string()));
                    }
                }
                _ => {}
            }
        }
        CharDevices { entries }
    }

    /// The major of a driver, by its exact name: `nvidia-uvm` is neither
    /// `nvidia` nor `my-nvidia-uvm`.
    pub fn major(&self, name: &str) -> Option<u32> {
        self.entries.iter().find(|(_, n)| n == name).map(|(major, _)| *major)
    }

    /// Names of the drivers of a major; since 550.40 several share 195.
    pub fn names(&self, major: u32) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(move |(m, _)| *m == major).map(|(_, name)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole_and_only_in_the_character_section() {
        let devices = CharDevices::parse(
            "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n234 nvidia-caps-imex-channels\n\
             509 vfio\n511 nvidia-uvm\n\nBlock devices:\n  8 sd\n259 nvidia-nvlink\n",
        );
        assert_eq!(devices.major("nvidia-uvm"), Some(511));
        assert_eq!(devices.major("nvidia-caps"), None);
        assert_eq!(devices.major("nvidia-nvlink"), None);
        assert_eq!(devices.names(195).collect::<Vec<_>>(), ["nvidia", "nvidiactl"]);
    }
}
