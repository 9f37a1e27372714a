//! The part of `make bench` that sets vGPU profiles: 1,000 virtual functions on
//! the mounted model kernel, against the shell loop of the usual loader. Ratios
//! and time a function; never a test.

#![allow(clippy::disallowed_methods)]

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use modelkernel::mount::Mounted;
use modelkernel::{ModelKernel, VgpuCard};
use testbed::tree::Entry;

const RUNS: usize = 5;
const COUNT: usize = 1000;
const PF: &str = "0000:41:00.0";

/// One round of what people run as a loader: no check before, no read back.
const LOADER: &str = r#"
while IFS= read -r line; do
	line=$(printf '%s' "$line" | sed 's/[[:space:]]*#.*$//')
	[ -n "$line" ] || continue
	function=${line%%=*} profile=${line#*=}
	path=$SYS/bus/pci/devices/$function/nvidia/current_vgpu_type
	[ -w "$path" ] || continue
	[ "$(cat "$path")" = "$profile" ] || printf '%s' "$profile" >"$path"
done <"$FILE""#;

/// The recorded L40S as a card with a thousand virtual functions.
fn model() -> ModelKernel {
    let mut tree = testbed::machine::tree("pve9-l40s-vgpu").expect("the recorded machine");
    let vf =
        |path: &str| (4..36).any(|n| path.contains(&format!("/0000:41:{:02x}.{}", n / 8, n % 8)));
    tree.entries.retain(|path, entry| {
        let small = !matches!(entry, Entry::File(bytes) if bytes.len() > 4096);
        let wanted = path.starts_with("/sys/") || path.starts_with("/proc/");
        small && wanted && !vf(path) && !path.contains("/virtfn")
    });
    for (path, entry) in &mut tree.entries {
        let text = match path.rsplit('/').next() {
            Some("sriov_numvfs") => "0\n",
            Some("sriov_totalvfs") => "1000\n",
            _ => continue,
        };
        *entry = Entry::File(text.as_bytes().to_vec());
    }
    let model = ModelKernel::from_tree(&tree);
    let types = [(1147, "NVIDIA L40S-1Q"), (1156, "NVIDIA L40S-1000Q")];
    let types = types.map(|(id, name)| (id, name.to_string())).to_vec();
    model.vgpu_card(PF, VgpuCard { types, mib: 1000 << 10, ..VgpuCard::default() });
    model.load_module("pci-pf-stub");
    for (path, value) in [
        ("drivers/nvidia/unbind", PF),
        ("drivers/pci-pf-stub/new_id", "10de 26b9"),
        (&format!("devices/{PF}/sriov_numvfs"), "1000"),
        ("drivers/pci-pf-stub/unbind", PF),
        ("drivers/pci-pf-stub/remove_id", "10de 26b9"),
        ("drivers/nvidia/bind", PF),
    ] {
        let written = model.write(&format!("/sys/bus/pci/{path}"), value.as_bytes());
        written.unwrap_or_else(|errno| panic!("{path}: error {errno}"));
    }
    // a shell's > truncates, which sysfs takes for nothing
    model.allow_truncate(true);
    model
}

fn main() {
    let tools = std::env::args().nth(1).expect("usage: bench-vgpu DIR-OF-RELEASE-BINARIES");
    let model = Arc::new(model());
    let vfs = model.snapshot().functions[&PF.parse().expect("an address")].vfs.clone();
    assert_eq!(vfs.len(), COUNT);
    let mut mounted = Mounted::new(Arc::clone(&model)).expect("root and /dev/fuse");
    mounted.scratch("/run").expect("tmpfs");
    let root = mounted.path().display().to_string();
    let dir = testbed::Bed::empty();
    let lines =
        |profile: &str| vfs.iter().map(|vf| format!("{vf}={profile}\n")).collect::<String>();
    let (named, ids) = (dir.at("/named"), dir.at("/ids"));
    fs::write(&named, lines("L40S-1Q")).expect("a file");
    fs::write(&ids, lines("1147")).expect("a file");
    let tool = |verb: &str| {
        let mut command = Command::new(format!("{tools}/vgpu-profile-set"));
        command.args(["--root", &root, verb]).arg(&named);
        command
    };
    let loader = || {
        let mut command = Command::new("sh");
        command.args(["-c", LOADER]).env("SYS", format!("{root}/sys")).env("FILE", &ids);
        command
    };
    let empty = || {
        model.vgpu_reboot();
        model.reset_counters();
    };
    let all = || vfs.iter().all(|vf| model.vgpu_of(&vf.to_string()) == 1147);
    let (mut plan, mut ours, mut again, mut theirs) = (vec![], vec![], vec![], vec![]);
    let mut counts = [(0, 0); 2];
    for _ in 0..RUNS {
        empty();
        plan.push(time(tool("plan")));
        model.reset_counters();
        ours.push(time(tool("apply")));
        assert!(all(), "vgpu-profile-set did not set all");
        counts[0] = (model.counters().reads, model.counters().writes);
        again.push(time(tool("apply")));
        empty();
        theirs.push(time(loader()));
        assert!(all(), "the loop did not set all");
        counts[1] = (model.counters().reads, model.counters().writes);
    }
    println!("vgpu-profile-set, {COUNT} virtual functions on the mounted model, median of {RUNS}");
    let [plan, ours, again, theirs] = [plan, ours, again, theirs].map(median);
    for (what, took) in
        [("plan", plan), ("apply", ours), ("apply again", again), ("shell loop", theirs)]
    {
        let ms = took.as_secs_f64() * 1000.0;
        println!("  {what:<12} {ms:>8.1} ms, {:.3} ms a function", ms / COUNT as f64);
    }
    println!("  ratio of the loop to apply: {:.1}x", theirs.as_secs_f64() / ours.as_secs_f64());
    for (who, (reads, writes)) in [("apply", counts[0]), ("shell loop", counts[1])] {
        println!("  {who}: {reads} reads, {writes} writes");
    }
}

fn time(mut command: Command) -> Duration {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().expect("a program");
    assert!(status.success(), "{command:?}");
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
