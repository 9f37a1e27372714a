//! Settings of whole GPUs that a boot loses, with nvidia-smi played by a program that
//! answers as reports show it (NVIDIA/mig-parted#139 and NVIDIA/DCGM#138 for its lists).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::cell::RefCell;
use std::time::Duration;

use ::apply::StepOutcome;
use host::FileError;
use host::command::{Ending, Ran};
use modelkernel::ModelKernel;
use modelkernel::machines::l40s;
use vgpu_profile_set::apply::settings::apply;
use vgpu_profile_set::input::{InputChoice, parse};
use vgpu_profile_set::nvidia_programs::{NvidiaPrograms, RunProgram};
use vgpu_profile_set::observe::gpu_state::read_state;
use vgpu_profile_set::observe::model::{Gpu, ReadDepth};
use vgpu_profile_set::observe::observe;
use vgpu_profile_set::plan::settings::{SettingsPlan, gpus_of, plan};

/// Profiles of an A100 with 40 GB: id, name, slices, how many, GiB.
const PROFILES: [(u32, &str, u32, u32, f64); 5] = [
    (19, "1g.5gb", 1, 7, 4.75),
    (14, "2g.10gb", 2, 3, 9.75),
    (9, "3g.20gb", 3, 2, 19.62),
    (5, "4g.20gb", 4, 1, 19.62),
    (0, "7g.40gb", 7, 1, 39.50),
];

#[derive(Default)]
struct State {
    mig: bool,
    pending: bool,
    /// Changing MIG mode waits for a reset, as on an A100 that is in use.
    in_use: bool,
    persistence: bool,
    power: u32,
    instances: Vec<(u32, &'static str)>,
    /// The driver has no place for instances of this profile.
    no_place: Option<&'static str>,
    power_refused: bool,
    calls: Vec<String>,
}

struct Smi(RefCell<State>);

fn ran(code: i32, stdout: &str) -> Result<Option<Ran>, FileError> {
    let stdout = stdout.as_bytes().to_vec();
    Ok(Some(Ran { ending: Ending::Exited(code), stdout, stderr: Vec::new() }))
}

impl RunProgram for Smi {
    fn run(&self, argv: &[&str], _: Duration) -> Result<Option<Ran>, FileError> {
        let mut state = self.0.borrow_mut();
        let mode = |on: bool| if on { "Enabled" } else { "Disabled" };
        let words = &argv[1..];
        if !words.iter().any(|word| word.starts_with("--query") || ["-lgip", "-lgi"].contains(word))
        {
            state.calls.push(words.join(" "));
        }
        match words {
            ["-i", _, query, _]
                if query.starts_with("--query-gpu=persistence_mode,power.limit") =>
            {
                let (mig, pending) = (mode(state.mig), mode(state.pending));
                let (persistence, power) = (mode(state.persistence), state.power);
                ran(0, &format!("{persistence}, {power}.00, 100.00, 250.00, {mig}, {pending}\n"))
            }
            ["-i", _, "-pm", value] => {
                state.persistence = *value == "1";
                ran(0, "All done.\n")
            }
            ["-i", _, "-pl", watts] if !state.power_refused => {
                state.power = watts.parse().unwrap();
                ran(0, "All done.\n")
            }
            ["-i", _, "-pl", _] => ran(4, "Insufficient Permissions\n"),
            ["-i", gpu, "-mig", value] => {
                state.pending = *value == "1";
                if state.in_use {
                    return ran(
                        0,
                        &format!(
                            "Warning: MIG mode is in pending enable state for GPU {gpu}:In use by another client\n"
                        ),
                    );
                }
                state.mig = state.pending;
                ran(0, "All done.\n")
            }
            ["mig", "-i", _, "-lgip"] => ran(0, &state.profiles()),
            ["mig", "-i", _, "-lgi"] if state.instances.is_empty() => {
                ran(6, "No GPU instances found: Not Found\n")
            }
            ["mig", "-i", _, "-lgi"] => {
                let row = |(id, name): &(u32, &str)| {
                    format!("|   0  MIG {name}       9        {id}          4:4     |\n")
                };
                ran(0, &state.instances.iter().map(row).collect::<String>())
            }
            ["mig", "-i", _, "-cgi", ids, "-C"] => {
                for id in ids.split(',') {
                    let (_, name, ..) = PROFILES.iter().find(|p| p.0.to_string() == id).unwrap();
                    if state.no_place == Some(name) {
                        return ran(
                            19,
                            "Unable to create a GPU instance on GPU  0 using profile 9: Insufficient Resources\n",
                        );
                    }
                    let next = state.instances.len() as u32 + 1;
                    state.instances.push((next, name));
                }
                ran(0, "Successfully created GPU instance\n")
            }
            ["mig", "-i", _, "-dci", "-gi", _] => ran(0, ""),
            ["mig", "-i", _, "-dgi", "-gi", id] => {
                state.instances.retain(|(at, _)| at.to_string() != *id);
                ran(0, "")
            }
            _ => ran(127, "unknown"),
        }
    }
}

impl State {
    fn profiles(&self) -> String {
        let used: u32 = self
            .instances
            .iter()
            .map(|(_, name)| PROFILES.iter().find(|p| p.1 == *name).unwrap().2)
            .sum();
        let row = |(id, name, slices, total, gib): &(u32, &str, u32, u32, f64)| {
            let free = (*total).min((7 - used) / slices);
            format!(
                "|   0  MIG {name}       {id}     {free}/{total}        {gib:.2}       No     14     0     0   |\n\
                 |                                                             1     0     0   |\n"
            )
        };
        PROFILES.iter().map(row).collect()
    }
}

/// After a boot: nothing is set.
fn booted() -> Smi {
    Smi(RefCell::new(State { power: 250, ..State::default() }))
}

fn gpu() -> (ModelKernel, Gpu) {
    let mut tree = l40s();
    tree.file("/usr/bin/nvidia-smi", "");
    let model = ModelKernel::from_tree(&tree);
    let gpu = observe(&model, ReadDepth::Plan).unwrap().remove(0);
    (model, gpu)
}

fn planned(smi: &Smi, line: &str) -> (SettingsPlan, ModelKernel) {
    let (model, gpu) = gpu();
    let input = parse(line.as_bytes(), "f", InputChoice::default()).unwrap();
    let programs = NvidiaPrograms { files: &model, runner: smi, interrupted: &|| false };
    let instances = smi.0.borrow().instances.len() as u32;
    let state = read_state(&programs, gpu.address, instances);
    let mut all = SettingsPlan::default();
    for settings in &input.settings {
        for gpu in gpus_of(std::slice::from_ref(&gpu), settings).unwrap() {
            plan(gpu, settings, &state, &mut all);
        }
    }
    (all, model)
}

/// Plans and applies; gives why it stopped.
fn run(smi: &Smi, line: &str) -> (Vec<StepOutcome<String>>, Option<String>) {
    let (plan, model) = planned(smi, line);
    assert_eq!(plan.objections, []);
    let programs = NvidiaPrograms { files: &model, runner: smi, interrupted: &|| false };
    let (outcomes, stop) = apply(&programs, &plan.steps);
    (outcomes, stop.map(|stop| stop.error.to_string()))
}

fn names(smi: &Smi) -> Vec<&'static str> {
    smi.0.borrow().instances.iter().map(|(_, name)| *name).collect()
}

const LINE: &str = "41:00.0 mig=2g.10gb,3g.20gb,2g.10gb power=200W persistence=on\n";

#[test]
fn geometry_power_limit_and_persistence_are_back_after_a_boot() {
    let smi = booted();
    let (outcomes, stop) = run(&smi, LINE);
    assert_eq!((outcomes, stop), (vec![StepOutcome::Changed; 4], None));
    // the largest first, in one call
    let calls = smi.0.borrow().calls.clone();
    assert_eq!(
        calls,
        [
            "-i 0000:41:00.0 -pm 1",
            "-i 0000:41:00.0 -pl 200",
            "-i 0000:41:00.0 -mig 1",
            "mig -i 0000:41:00.0 -cgi 9,14,14 -C"
        ]
    );
    assert_eq!(names(&smi), ["3g.20gb", "2g.10gb", "2g.10gb"]);
    // a second run changes nothing
    let (outcomes, _) = run(&smi, LINE);
    assert_eq!(outcomes, vec![StepOutcome::Unchanged; 4]);
    assert_eq!(smi.0.borrow().calls.len(), 4);
    // one instance has gone: only that one is made
    smi.0.borrow_mut().instances.remove(1);
    run(&smi, LINE);
    assert_eq!(smi.0.borrow().calls[4], "mig -i 0000:41:00.0 -cgi 14 -C");
}

#[test]
fn geometry_that_does_not_fit_is_refused_before_anything_is_written() {
    let smi = booted();
    smi.0.borrow_mut().mig = true;
    for (mig, why) in [
        ("3g.20gb,3g.20gb,1g.5gb", "need 44.0 GiB, the GPU has 39.5 GiB"),
        ("4g.20gb,2g.10gb,2g.10gb", "need 8 slices, the GPU has 7"),
        ("3g.20gb,3g.20gb,3g.20gb", "3 more MIG instances 3g.20gb are requested, 2 of 2"),
        ("3g.40gb", "has no MIG profile 3g.40gb"),
    ] {
        let (plan, _) = planned(&smi, &format!("41:00.0 mig={mig}\n"));
        assert!(plan.objections[0].why.contains(why), "{mig}: {:?}", plan.objections);
        assert!(plan.steps.is_empty());
    }
    let (plan, _) = planned(&smi, "41:00.0 power=900W\n");
    assert!(plan.objections[0].why.contains("900 W is outside 100 to 250 W"), "{plan:?}");
    assert!(smi.0.borrow().calls.is_empty());
}

/// What is not requested may be a container's: it is named and never destroyed.
#[test]
fn an_instance_that_is_not_requested_is_not_destroyed() {
    let smi = booted();
    (smi.0.borrow_mut().mig, smi.0.borrow_mut().instances) = (true, vec![(7, "4g.20gb")]);
    for line in [LINE, "41:00.0 mig=off\n"] {
        let (plan, _) = planned(&smi, line);
        let objection = &plan.objections[0];
        assert!(
            objection.why.contains("has the MIG instance 4g.20gb (GPU instance 7)"),
            "{plan:?}"
        );
        let last = objection.hint.commands[1].join(" ");
        assert_eq!(last, "nvidia-smi mig -i 0000:41:00.0 -dgi -gi 7");
    }
    // after the commands the finding is gone
    smi.0.borrow_mut().instances.clear();
    assert_eq!(planned(&smi, LINE).0.objections, []);
}

#[test]
fn a_failure_part_way_leaves_all_as_it_was() {
    let smi = booted();
    smi.0.borrow_mut().no_place = Some("2g.10gb");
    let (outcomes, stop) = run(&smi, LINE);
    assert!(stop.unwrap().contains("Insufficient Resources"));
    assert_eq!(
        outcomes[..3],
        [StepOutcome::RolledBack, StepOutcome::RolledBack, StepOutcome::RolledBack]
    );
    let state = smi.0.borrow();
    assert_eq!((state.mig, state.persistence, state.power), (false, false, 250));
    assert!(state.instances.is_empty(), "{:?}", state.instances);
}

#[test]
fn mig_mode_that_waits_for_a_reset_is_said() {
    let smi = booted();
    smi.0.borrow_mut().in_use = true;
    let (_, stop) = run(&smi, "41:00.0 mig=3g.20gb\n");
    let stop = stop.unwrap();
    assert!(stop.contains("when the GPU is reset or the host reboots"), "{stop}");
    assert!(stop.contains("In use by another client"), "{stop}");
    let smi = booted();
    smi.0.borrow_mut().power_refused = true;
    let (_, stop) = run(&smi, "41:00.0 power=200\n");
    assert!(stop.unwrap().contains("-pl 200: exit status 4 (Insufficient Permissions)"));
}

/// The example of mig-parted (examples/config.yaml) for one kind of GPU.
#[test]
fn a_file_of_mig_parted_is_applied() {
    let file = "version: v1\nmig-configs:\n  all-balanced:\n    - device-filter: \"0x26B910DE\"\n      devices: all\n      \
        mig-enabled: true\n      mig-devices:\n        \"1g.5gb\": 2\n        \"2g.10gb\": 1\n        \"3g.20gb\": 1\n";
    let smi = booted();
    let (model, gpu) = gpu();
    let choice = InputChoice { config: Some("all-balanced"), node: "" };
    let input = parse(file.as_bytes(), "f", choice).unwrap();
    let programs = NvidiaPrograms { files: &model, runner: &smi, interrupted: &|| false };
    let mut all = SettingsPlan::default();
    let state = read_state(&programs, gpu.address, 0);
    for gpu in gpus_of(std::slice::from_ref(&gpu), &input.settings[0]).unwrap() {
        plan(gpu, &input.settings[0], &state, &mut all);
    }
    assert_eq!(apply(&programs, &all.steps).1, None);
    assert_eq!(names(&smi), ["3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb"]);
}

/// nvidia-smi as a program, with its state in files; its answers are those of [`Smi`].
const PROGRAM: &str = r#"#!/bin/sh
s=STATE
case "$*" in
*--query-gpu=persistence_mode,*) echo "$(cat $s/pm), $(cat $s/pl).00, 100.00, 350.00, $(cat $s/mig), $(cat $s/mig)" ;;
*"-pm 1") echo Enabled >$s/pm ;;
*"-pl "*) echo "${4}" >$s/pl ;;
*"-mig 1") echo Enabled >$s/mig ;;
*-lgip) echo "|   0  MIG 3g.20gb        9     2/2        19.62      No     42     2     0   |" ;;
*-lgi) [ -s $s/gi ] || { echo "No GPU instances found: Not Found"; exit 6; }; cat $s/gi ;;
*"-cgi 9 -C") echo "|   0  MIG 3g.20gb        9        2          4:4     |" >>$s/gi ;;
*) exit 127 ;;
esac
"#;

/// Runs the tool itself, where /sys is the model's and nvidia-smi is the program above.
fn tool(mounted: &std::path::Path, bed: &testbed::Bed, args: &str, code: i32) -> String {
    let script = "mount --bind \"$1/sys\" /sys && mount -t proc proc /proc && \
                  mount -t tmpfs t /run && mount -t tmpfs t /usr/local/bin && \
                  cp \"$2\" /usr/local/bin/nvidia-smi && exec \"$3\" $4";
    let ran = std::process::Command::new("unshare")
        .args(["-m", "-p", "-f", "sh", "-c", script, "sh"])
        .arg(mounted)
        .arg(bed.at("/nvidia-smi"))
        .arg(testbed::bed::program("vgpu-profile-set"))
        .arg(args)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(code), "{args}: {text}");
    text.into_owned()
}

#[test]
fn the_program_sets_settings_and_profiles_and_finds_them_lost_after_a_boot() {
    use std::os::unix::fs::PermissionsExt;
    let model = std::sync::Arc::new(ModelKernel::from_tree(&l40s()));
    let mounted = modelkernel::mount::Mounted::new(std::sync::Arc::clone(&model)).unwrap();
    let bed = testbed::Bed::empty();
    let state = bed.at("/state").display().to_string();
    bed.write("/nvidia-smi", PROGRAM.replace("STATE", &state));
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bed.at("/nvidia-smi"), mode).unwrap();
    let boot = || {
        for (name, value) in
            [("pm", "Disabled\n"), ("pl", "350\n"), ("mig", "Disabled\n"), ("gi", "")]
        {
            bed.write(&format!("/state/{name}"), value);
        }
        model.vgpu_reboot();
    };
    bed.write("/profiles", "41:00.0 persistence=on power=200W\n41:00.4=L40S-12Q\n");
    boot();
    let file = bed.at("/profiles").display().to_string();
    let run = |verb: &str, code: i32| {
        tool(mounted.path(), &bed, &format!("{verb} {file} -o jsonl"), code)
    };
    let planned = run("plan", 0);
    assert_eq!(planned.matches("\"status\":\"planned\"").count(), 3, "{planned}");
    run("check", 1);
    let applied = run("apply", 0);
    let order =
        ["persistence_mode", "power_limit", "vgpu_type"].map(|name| applied.find(name).unwrap());
    assert!(order.is_sorted(), "{applied}");
    assert_eq!(applied.matches("\"status\":\"changed\"").count(), 3, "{applied}");
    assert_eq!(model.vgpu_of("0000:41:00.4"), 1153);
    let again = run("apply", 0);
    assert_eq!(again.matches("\"status\":\"unchanged\"").count(), 3, "{again}");
    run("check", 0);
    boot();
    let lost = run("check", 1);
    assert_eq!(lost.matches("\"status\":\"drift\"").count(), 3, "{lost}");
    // MIG instances, and a value that this GPU does not take
    bed.write("/profiles", "41:00.0 mig=3g.20gb\n");
    let made = run("apply", 0);
    assert!(
        made.contains("\"property\":\"mig_instances\",\"from\":\"none\",\"to\":\"3g.20gb\""),
        "{made}"
    );
    run("check", 0);
    bed.write("/profiles", "41:00.0 power=900W\n");
    let refused = run("apply", 4);
    assert!(refused.contains("900 W is outside 100 to 350 W"), "{refused}");
}
