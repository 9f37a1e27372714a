//! What people ask for: lines, records, vgpu-device-manager's configuration.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vgpu_profile_set::input::parse;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse(bytes, "input", None);
    let _ = parse(bytes, "input", Some("default"));
});
