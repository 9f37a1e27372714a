//! Errors of GPUs (Xid) that the driver logged since the host booted.

use std::collections::BTreeMap;

use host::{FileError, Machine};

/// How often one code was logged for one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XidCount {
    /// PCI address of the GPU, as the driver logs it.
    pub gpu: String,
    /// NVIDIA's number of the error.
    pub code: u32,
    /// How many times it was logged.
    pub count: usize,
    /// The driver's text of the last one.
    pub last: String,
}

/// Reads this boot's kernel log. Errors: it cannot be read.
pub fn read(machine: &Machine) -> Result<Vec<XidCount>, FileError> {
    Ok(count(&machine.kernel_log()?))
}

/// Counts the errors of a log, by GPU and code.
pub fn count(log: &str) -> Vec<XidCount> {
    let mut found: BTreeMap<(String, u32), XidCount> = BTreeMap::new();
    for line in log.lines() {
        let Some((gpu, code, text)) = parse(line) else { continue };
        let entry = found.entry((gpu.to_string(), code)).or_insert_with(|| XidCount {
            gpu: gpu.to_string(),
            code,
            count: 0,
            last: String::new(),
        });
        entry.count += 1;
        entry.last = text.to_string();
    }
    found.into_values().collect()
}

/// `NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has
/// fallen off the bus.`
fn parse(line: &str) -> Option<(&str, u32, &str)> {
    let (_, rest) = line.split_once("NVRM: Xid (")?;
    let (gpu, rest) = rest.split_once("): ")?;
    let gpu = gpu.strip_prefix("PCI:").unwrap_or(gpu);
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let code = rest[..digits].parse().ok()?;
    Some((gpu, code, rest[digits..].trim_start_matches([',', ' '])))
}
