//! vgpu-profile-set: 1,000 virtual functions on the mounted model kernel,
//! against the shell loop of the usual loader.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Result, ensure};
use modelkernel::mount::{Mounted, possible};
use modelkernel::{ModelKernel, VgpuCard};
use testbed::tree::Entry;

use crate::measure::{Took, interleave, time};
use crate::packages;
use crate::report::{Goal, Report, Row};

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
fn model() -> Result<ModelKernel> {
    let mut tree = testbed::machine::tree("pve9-l40s-vgpu")?;
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
        ensure!(written.is_ok(), "{path}: {written:?}");
    }
    // a shell's > truncates, which sysfs takes for nothing
    model.allow_truncate(true);
    Ok(model)
}

/// The part.
pub fn run(tools: &Path, report: &mut Report) -> Result<()> {
    if !possible() {
        report.note("vgpu: not measured, the model is mounted as root with /dev/fuse only".into());
        return Ok(());
    }
    let model = Arc::new(model()?);
    let vfs = model.snapshot().functions[&PF.parse()?].vfs.clone();
    ensure!(vfs.len() == COUNT, "the model has {} virtual functions", vfs.len());
    let mut mounted = Mounted::new(Arc::clone(&model))?;
    mounted.scratch("/run")?;
    let root = mounted.path().display().to_string();
    let dir = testbed::Bed::empty();
    let lines =
        |profile: &str| vfs.iter().map(|vf| format!("{vf}={profile}\n")).collect::<String>();
    let (named, ids) = (dir.at("/named"), dir.at("/ids"));
    fs::write(&named, lines("L40S-1Q"))?;
    fs::write(&ids, lines("1147"))?;
    let tool = |verb: &str| {
        let mut command = Command::new(tools.join("vgpu-profile-set"));
        command.args(["--root", &root, verb]).arg(&named);
        command
    };
    let loader = || {
        let mut command = Command::new("sh");
        command.args(["-c", LOADER]).env("SYS", format!("{root}/sys")).env("FILE", &ids);
        command
    };
    let all_set = || vfs.iter().all(|vf| model.vgpu_of(&vf.to_string()) == 1147);
    let on_empty = |command: Command, sets: bool, output: bool| -> Result<Took> {
        model.vgpu_reboot();
        model.reset_counters();
        let took = time(command, output)?;
        ensure!(!sets || all_set(), "not all was set");
        Ok(took)
    };
    let again = |command: Command, output: bool| -> Result<Took> {
        if !all_set() {
            time(tool("apply"), true)?;
        }
        time(command, output)
    };
    let times = interleave(
        5,
        &mut [
            &mut || on_empty(tool("plan"), false, true),
            &mut || on_empty(tool("apply"), true, true),
            &mut || again(tool("apply"), true),
            &mut || on_empty(loader(), true, false),
            &mut || again(loader(), false),
        ],
    )?;
    let counted = |command: Command, output: bool| -> Result<String> {
        on_empty(command, true, output)?;
        let counters = model.counters();
        Ok(format!("{} reads, {} writes of attributes", counters.reads, counters.writes))
    };
    report.note(format!("vgpu-profile-set apply, {COUNT} VFs: {}", counted(tool("apply"), true)?));
    report.note(format!("the shell loop, the same: {}", counted(loader(), false)?));
    for (at, what, rival) in [(0, "plan", None), (1, "apply", Some(3)), (2, "apply again", Some(4))]
    {
        let ms = times[at].median() / COUNT as f64;
        report.note(format!("vgpu-profile-set {what}: {ms:.3} ms a virtual function"));
        report.row(Row {
            what: format!("vgpu-profile-set {what}, {COUNT} VFs (FUSE)"),
            ours: times[at].clone(),
            rival: match rival {
                None => "nothing".into(),
                Some(_) => packages::named("sh: the loader's loop", &["dash", "sed"]),
            },
            theirs: rival.map(|at| times[at].clone()),
            goal: Goal::Shown,
            why: "",
        });
    }
    report.peak("vgpu-profile-set", "plan, 1000 VFs", crate::peak::of(&tool("plan"))?, None);
    Ok(())
}
