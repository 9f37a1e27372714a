//! Settings of a whole GPU as nvidia-smi shows them.

use nvidia::{GpuInstance, GpuInstanceProfile, parse_gpu_instance_profiles, parse_gpu_instances};
use record::Address;

use crate::nvidia_programs::{NvidiaPrograms, last_words};

/// The settings that a GPU has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuState {
    pub persistence: Option<bool>,
    /// Power limit in watts.
    pub power: Option<u32>,
    /// The lowest and the highest power limit in watts.
    pub power_range: Option<(u32, u32)>,
    /// MIG mode; `None`: the GPU has none.
    pub mig: Option<bool>,
    /// MIG mode as it will be after a reset of the GPU.
    pub mig_pending: Option<bool>,
    pub instances: Vec<GpuInstance>,
    /// What the driver offers; empty while MIG mode is off.
    pub profiles: Vec<GpuInstanceProfile>,
}

/// What is known of the settings of a GPU.
#[derive(Clone, Debug, PartialEq)]
pub enum StateRead {
    Known(GpuState),
    /// No program is run with `--root`.
    NoPrograms,
    /// Why it is unknown.
    Unknown(String),
}

const FIELDS: &str = "persistence_mode,power.limit,power.min_limit,power.max_limit,\
                      mig.mode.current,mig.mode.pending";

/// Reads the settings of a GPU. `instances`: how many GPU instances it has by the
/// driver's capability files.
pub fn read_state(programs: &NvidiaPrograms<'_>, gpu: Address, instances: u32) -> StateRead {
    if !programs.may_run() {
        return StateRead::NoPrograms;
    }
    match read(programs, gpu, instances) {
        Ok(state) => StateRead::Known(state),
        Err(why) => StateRead::Unknown(why),
    }
}

fn read(programs: &NvidiaPrograms<'_>, gpu: Address, instances: u32) -> Result<GpuState, String> {
    let address = gpu.to_string();
    let query = format!("--query-gpu={FIELDS}");
    let text = stdout(programs, &["-i", &address, &query, "--format=csv,noheader,nounits"])?;
    let mut state = state_of(&text).ok_or_else(|| {
        let shown: String = text.trim().chars().take(80).collect();
        format!("nvidia-smi printed '{shown}'")
    })?;
    if state.mig == Some(true) {
        state.profiles =
            parse_gpu_instance_profiles(&stdout(programs, &["mig", "-i", &address, "-lgip"])?);
        // nvidia-smi fails where none is listed
        let listed = stdout(programs, &["mig", "-i", &address, "-lgi"]);
        state.instances = match (listed, instances) {
            (Ok(text), _) => parse_gpu_instances(&text),
            (Err(_), 0) => Vec::new(),
            (Err(why), _) => return Err(why),
        };
    }
    Ok(state)
}

fn stdout(programs: &NvidiaPrograms<'_>, arguments: &[&str]) -> Result<String, String> {
    let ran = programs.nvidia_smi(arguments)?;
    match ran.success() {
        true => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
        false => {
            let words = last_words(&ran).unwrap_or_default();
            Err(format!("nvidia-smi: {}: {words}", ran.reason()))
        }
    }
}

/// One line of comma-separated values in the order of [`FIELDS`]; what a GPU does not
/// have is `[N/A]` or `[Not Supported]`.
fn state_of(text: &str) -> Option<GpuState> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let values: Vec<&str> = line.split(',').map(str::trim).collect();
    let [persistence, power, low, high, mig, pending] = values[..] else { return None };
    let on = |value: &str| match value {
        "Enabled" => Some(true),
        "Disabled" => Some(false),
        _ => None,
    };
    let watts = |value: &str| value.parse::<f64>().ok().map(|watts| watts.round() as u32);
    Some(GpuState {
        persistence: on(persistence),
        power: watts(power),
        power_range: watts(low).zip(watts(high)),
        mig: on(mig),
        mig_pending: on(pending),
        instances: Vec::new(),
        profiles: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_values_is_read_and_what_a_gpu_lacks_is_unknown() {
        let state = state_of("Enabled, 250.00, 100.00, 300.00, Disabled, Enabled\n").unwrap();
        assert_eq!((state.persistence, state.power), (Some(true), Some(250)));
        assert_eq!((state.power_range, state.mig), (Some((100, 300)), Some(false)));
        assert_eq!(state.mig_pending, Some(true));
        let state = state_of("Disabled, [N/A], [N/A], [N/A], [N/A], [N/A]\n").unwrap();
        assert_eq!((state.power, state.mig), (None, None));
        assert_eq!(state_of("No devices were found\n"), None);
    }
}
