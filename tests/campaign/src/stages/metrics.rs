//! `nv-version-check`: the one file that it writes.

use testbed::driver::RootFs;
use testbed::machine;

use super::bed::{OnBed, Place};
use crate::saved::Look;

const TOOL: &str = "nv-version-check";
const VERSION: &str = "550.163.01";
const KERNEL: &str = "6.14.11-4-pve";

/// A recorded host that has the driver, all in order.
pub fn host(place: Place) -> Place {
    let place = place.with(&machine::tree("pve9-two-gpus").unwrap());
    let root = RootFs::new(place.bed.path());
    root.debian(VERSION).kernel(KERNEL, Some(("updates/dkms/nvidia-current.ko", VERSION)));
    root.dkms("nvidia-current", VERSION, &[KERNEL]);
    root.file("/lib/firmware/nvidia/550.163.01/gsp_ga10x.bin", "x");
    root.ldconfig();
    place
}

/// Without seconds and times.
fn tidy(look: Look) -> Look {
    let tidied = |text: String| -> String {
        let lines = text.lines().filter(|line| {
            !["seconds", "timestamp"].iter().any(|word| line.contains(word))
                || line.starts_with('#')
        });
        lines.map(|line| format!("{line}\n")).collect()
    };
    look.into_iter().map(|(item, text)| (item, tidied(text))).collect()
}

pub fn stage(place: Place) -> OnBed {
    let place = host(place);
    place.bed.write("/metrics/gpu.prom", "nvidia_version_drifts 7\n");
    let file = place.bed.at("/metrics/gpu.prom");
    let mut stage = OnBed::rooted(place, TOOL, "--prometheus-file", &["metrics"]);
    stage.command.push(file.into());
    stage.name = format!("{TOOL} --prometheus-file");
    stage.tidy = tidy;
    // what could not be looked at is reported as unknown, in the file too
    stage.may_lag = |item| item.ends_with(".prom");
    stage.is_named = |_, said| said.contains("\"unknown\"");
    stage
}
