//! `supported-gpus/supported-gpus.json`: which GPUs a driver drives, and with
//! which type of kernel module.

use serde::Deserialize;

/// Bytes at most; real ones have 400 KB.
pub(crate) const MOST_BYTES: usize = 16 << 20;

/// The list of one driver.
#[derive(Debug, Deserialize)]
pub struct SupportedGpus {
    chips: Vec<Chip>,
}

/// One row of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Chip {
    devid: String,
    /// Product name.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    subvendorid: Option<String>,
    #[serde(default)]
    subdevid: Option<String>,
    /// The driver branch that drives it: this one does not.
    #[serde(default)]
    pub legacybranch: Option<String>,
    #[serde(default)]
    features: Vec<String>,
}

/// Which kernel modules drive a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleTypes {
    /// Before Turing.
    Proprietary,
    /// Since Blackwell.
    Open,
    /// Turing to Hopper.
    Either,
}

impl ModuleTypes {
    /// The words of the installer's `--kernel-module-type`.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            ModuleTypes::Proprietary => &["proprietary"],
            ModuleTypes::Open => &["open"],
            ModuleTypes::Either => &["proprietary", "open"],
        }
    }
}

impl SupportedGpus {
    /// Reads the list. Errors: it is no such JSON, in words.
    pub fn parse(bytes: &[u8]) -> Result<SupportedGpus, String> {
        if bytes.len() > MOST_BYTES {
            return Err(format!("larger than {MOST_BYTES} bytes"));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// Rows that this driver drives, and rows that it leaves to a legacy branch.
    pub fn counts(&self) -> (usize, usize) {
        let legacy = self.chips.iter().filter(|chip| chip.legacybranch.is_some()).count();
        (self.chips.len() - legacy, legacy)
    }

    /// The row of a GPU. One device id may have several, for boards of different
    /// makers; the one of this board wins over the one of no board.
    pub fn find(&self, device: u16, board: Option<(u16, u16)>) -> Option<&Chip> {
        let rows = || self.chips.iter().filter(|chip| hex(&chip.devid) == Some(device));
        let of = |chip: &&Chip| {
            let id = |text: &Option<String>| text.as_deref().and_then(hex);
            Some((id(&chip.subvendorid)?, id(&chip.subdevid)?))
        };
        rows()
            .find(|chip| board.is_some() && of(chip) == board)
            .or_else(|| rows().find(|chip| chip.subvendorid.is_none()))
            .or_else(|| rows().next())
    }
}

impl Chip {
    /// Which kernel modules drive it.
    pub fn modules(&self) -> ModuleTypes {
        let has = |word: &str| self.features.iter().any(|feature| feature == word);
        match (has("kernelopen"), has("gsp_proprietary_supported")) {
            (true, false) => ModuleTypes::Open,
            (true, true) => ModuleTypes::Either,
            (false, _) => ModuleTypes::Proprietary,
        }
    }
}

/// `0x13C2`; sysfs has it in lower case.
fn hex(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    (digits.len() <= 4).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"chips":[
        {"devid":"0x13C2","name":"NVIDIA GeForce GTX 970","legacybranch":"580.xx","features":[]},
        {"devid":"0x2684","name":"NVIDIA GeForce RTX 4090","features":["kernelopen","gsp_proprietary_supported"]},
        {"devid":"0x2B85","name":"NVIDIA GeForce RTX 5090","features":["dpycbcr420","kernelopen"]},
        {"devid":"0x1DB6","subvendorid":"0x10DE","subdevid":"0x124A","name":"board","features":[]},
        {"devid":"0x1DB6","name":"Tesla V100-PCIE-32GB","features":[],"more":1},
        {"devid":"*","name":"any"}]}"#;

    #[test]
    fn a_gpu_is_found_by_its_ids_whatever_their_case() {
        let list = SupportedGpus::parse(LIST.as_bytes()).unwrap();
        assert_eq!(list.counts(), (5, 1));
        let name = |device, board| list.find(device, board).and_then(|chip| chip.name.clone());
        assert_eq!(name(0x1db6, Some((0x10de, 0x124a))).unwrap(), "board");
        assert_eq!(name(0x1db6, Some((0x10de, 0x1))).unwrap(), "Tesla V100-PCIE-32GB");
        assert_eq!(name(0x1db6, None).unwrap(), "Tesla V100-PCIE-32GB");
        assert_eq!(name(0xffff, None), None);
    }

    #[test]
    fn features_tell_the_kernel_modules() {
        let list = SupportedGpus::parse(LIST.as_bytes()).unwrap();
        let modules = |device| list.find(device, None).unwrap().modules();
        assert_eq!(modules(0x2684), ModuleTypes::Either);
        assert_eq!(modules(0x2b85), ModuleTypes::Open);
        assert_eq!(modules(0x1db6), ModuleTypes::Proprietary);
        assert_eq!(list.find(0x13c2, None).unwrap().legacybranch.as_deref(), Some("580.xx"));
    }

    #[test]
    fn other_json_is_refused() {
        for text in ["", "[]", "{}", "{\"chips\":[{}]}", "{\"chips\":{}}"] {
            assert!(SupportedGpus::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
