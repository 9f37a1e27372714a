//! ProfilePlan and apply on the model kernel: no accepted plan is refused by it, a
//! second run changes nothing, and a fault at any write leaves all as it was.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::apply::{ApplyStop, StepOutcome};
use modelkernel::{Fault, ModelKernel, VgpuCard};
use proptest::prelude::*;
use record::Address;
use testbed::machine;
use testbed::tree::{Entry, Tree};
use vgpu_profile_set::apply::ProfileApplier;
use vgpu_profile_set::input::{Assignment, InputChoice, RequestedVgpus, parse};
use vgpu_profile_set::observe::model::{Gpu, ReadDepth};
use vgpu_profile_set::observe::observe;
use vgpu_profile_set::plan::model::{PlanRules, ProfilePlan, ProfileStep};
use vgpu_profile_set::plan::{plan, plan_each};

const PF: &str = "0000:41:00.0";
const Q_SIZES: [(u32, &str, u64); 10] = [
    (1147, "1Q", 32),
    (1148, "2Q", 24),
    (1149, "3Q", 16),
    (1150, "4Q", 12),
    (1151, "6Q", 8),
    (1152, "8Q", 6),
    (1153, "12Q", 4),
    (1154, "16Q", 3),
    (1155, "24Q", 2),
    (1156, "48Q", 1),
];

/// The recorded L40S without what is not read here, nothing set.
fn tree() -> &'static Tree {
    static TREE: std::sync::OnceLock<Tree> = std::sync::OnceLock::new();
    TREE.get_or_init(|| {
        let mut tree = machine::tree("pve9-l40s-vgpu").unwrap();
        let vf0 = |path: &str| path.ends_with("/0000:41:00.4/nvidia/current_vgpu_type");
        tree.entries.retain(|path, entry| {
            (path.starts_with("/sys/") || path.starts_with("/proc/"))
                && !matches!(entry, Entry::File(bytes) if bytes.len() > 4096)
        });
        for (path, entry) in &mut tree.entries {
            if vf0(path) {
                *entry = Entry::File(b"0\n".to_vec());
            }
        }
        tree
    })
}

fn l40s() -> ModelKernel {
    ModelKernel::from_tree(tree())
}

fn vf(index: usize) -> String {
    format!("0000:41:{:02x}.{}", (index + 4) / 8, (index + 4) % 8)
}

fn assignments(text: &str) -> Vec<Assignment> {
    match parse(text.as_bytes(), "test", InputChoice::default()).unwrap().vgpus {
        RequestedVgpus::Assignments(assignments) => assignments,
        RequestedVgpus::Config(_) => panic!("a configuration"),
    }
}

fn look(model: &ModelKernel, known: &BTreeMap<u32, String>) -> Vec<Gpu> {
    let mut gpus = observe(model, ReadDepth::Plan).unwrap();
    for gpu in &mut gpus {
        // what the tool keeps in /run
        if !gpu.complete && !known.is_empty() {
            gpu.types.extend(known.clone());
            gpu.complete = true;
        }
    }
    gpus
}

fn types(model: &ModelKernel) -> BTreeMap<u32, String> {
    observe(model, ReadDepth::Plan).unwrap().remove(0).types
}

fn apply(
    model: &ModelKernel,
    steps: &[ProfileStep],
) -> (Vec<StepOutcome<String>>, Option<ApplyStop>) {
    let deadline = Duration::from_secs(1);
    let applier = ProfileApplier { files: model, deadline, interrupted: &|| false };
    applier.apply(steps, &mut |gpu, on| {
        let _ = (gpu, on);
        Ok(())
    })
}

fn set(model: &ModelKernel) -> Vec<u32> {
    (0..32).map(|index| model.vgpu_of(&vf(index))).collect()
}

fn planned(gpus: &[Gpu], text: &str) -> ProfilePlan {
    plan(gpus, &assignments(text), PlanRules::default()).unwrap()
}

#[test]
fn the_profile_table_of_an_l40s_holds_against_framebuffer_and_functions() {
    for (id, name, most) in Q_SIZES {
        for (count, fits) in [(most, true), (most + 1, false)] {
            let model = l40s();
            let gpus = look(&model, &BTreeMap::new());
            let text = format!(
                "{{\"type\":\"vgpu-assignment\",\"address\":\"{PF}\",\"profile\":\"L40S-{name}\",\"count\":{count}}}"
            );
            let plan = planned(&gpus, &text);
            assert_eq!(plan.objections.is_empty(), fits, "{count} x {name}: {:?}", plan.objections);
            if !fits {
                let said = format!("{:?}", plan.objections);
                // 48 of the smallest would have room, but there are 32 functions
                let vfs = said.contains("virtual functions: 32 of 32");
                assert!(said.contains(&format!("{most} x L40S-{name} would fit")) || vfs, "{said}");
                continue;
            }
            let (_, stop) = apply(&model, &plan.steps);
            assert_eq!(stop, None, "{count} x {name}");
            assert_eq!(set(&model).iter().filter(|now| **now == id).count() as u64, count);
        }
    }
}

#[test]
fn sizes_do_not_mix_but_series_do() {
    let model = l40s();
    let gpus = look(&model, &BTreeMap::new());
    let plan = planned(&gpus, "41:00.4=L40S-24Q\n41:00.5=L40S-12Q\n");
    assert_eq!(plan.objections.len(), 1);
    let objection = &plan.objections[0];
    assert!(objection.why.contains("different framebuffer sizes"), "{objection:?}");
    let hint = objection.hint.words.as_deref().unwrap_or_default();
    assert!(hint.contains("4 x L40S-12Q, or 2 x L40S-24Q would fit"), "{objection:?}");
    let plan = planned(&gpus, "41:00.4=L40S-24Q\n41:00.5=L40S-24A\n");
    assert_eq!(apply(&model, &plan.steps).1, None);
    assert_eq!(set(&model)[..2], [1155, 1165]);
}

#[test]
fn mixed_sizes_go_onto_a_card_in_heterogeneous_mode_largest_first() {
    let model = l40s();
    let text = "41:00.4=L40S-4Q\n41:00.5=L40S-24Q\n41:00.6=L40S-12Q\n41:00.7=L40S-8Q\n";
    let mut gpus = look(&model, &BTreeMap::new());
    gpus[0].heterogeneous = Some(false);
    let rules = PlanRules { heterogeneous: true, skip_in_use: false };
    let on = plan(&gpus, &assignments(text), rules).unwrap();
    assert_eq!(on.objections, []);
    assert_eq!(on.heterogeneous, [PF.parse::<Address>().unwrap()]);
    let deadline = Duration::from_secs(1);
    let applier = ProfileApplier { files: &model, deadline, interrupted: &|| false };
    let mut switch = |gpu: Address, on: bool| {
        model.set_heterogeneous(&gpu.to_string(), on).map_err(|errno| errno.to_string())
    };
    assert_eq!(applier.apply(&on.steps, &mut switch).1, None);
    assert_eq!(set(&model)[..4], [1150, 1155, 1153, 1152]);
    let log = model.counters().log;
    let order: Vec<&str> = log.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(order, ["1155", "1153", "1152", "1150"]);
    // one that is set already goes and comes back, since the mode takes an empty gpu
    let model = l40s();
    let known = types(&model);
    model
        .write(&format!("/sys/bus/pci/devices/{}/nvidia/current_vgpu_type", vf(9)), b"1153")
        .unwrap();
    gpus = look(&model, &known);
    gpus[0].heterogeneous = Some(false);
    let again = plan(&gpus, &assignments("41:00.4=L40S-24Q\n"), rules).unwrap();
    assert_eq!(again.objections, []);
    let mut switch = |gpu: Address, on: bool| {
        model.set_heterogeneous(&gpu.to_string(), on).map_err(|errno| errno.to_string())
    };
    let applier = ProfileApplier { files: &model, deadline, interrupted: &|| false };
    assert_eq!(applier.apply(&again.steps, &mut switch).1, None);
    assert_eq!((set(&model)[0], set(&model)[9]), (1155, 1153));
    // beyond the framebuffer no mode helps
    let over = plan(&gpus, &assignments("41:00.4=L40S-24Q\n41:00.5=L40S-16Q\n"), rules).unwrap();
    assert!(over.objections[0].why.contains("need 52 GiB of framebuffer, the GPU has 48"));
}

/// Without nvidia-smi (always so in the container image) the mode is unknown.
#[test]
fn nothing_is_cleared_for_a_mode_of_which_nothing_is_known() {
    let model = l40s();
    let known = types(&model);
    let path = format!("/sys/bus/pci/devices/{}/nvidia/current_vgpu_type", vf(0));
    model.write(&path, b"1155").unwrap();
    let gpus = look(&model, &known);
    let rules = PlanRules { heterogeneous: true, skip_in_use: true };
    let text = "41:00.4=L40S-24Q\n41:00.5=L40S-12Q\n";
    let unknown = plan(&gpus, &assignments(text), rules).unwrap();
    assert!(unknown.objections[0].why.contains("nvidia-smi does not show"), "{unknown:?}");
    assert!(unknown.heterogeneous.is_empty());
    // two sizes that are set show that the mode is on
    let model = l40s();
    model.set_heterogeneous(PF, true).unwrap();
    for (at, id) in [(0, "1155"), (1, "1153")] {
        let path = format!("/sys/bus/pci/devices/{}/nvidia/current_vgpu_type", vf(at));
        model.write(&path, id.as_bytes()).unwrap();
    }
    let gpus = look(&model, &known);
    let on = planned(&gpus, &format!("{text}41:00.6=L40S-4Q\n"));
    assert_eq!((on.objections.len(), on.steps.iter().filter(|s| s.is_change()).count()), (0, 1));
}

/// One of two GPUs has lost its MIG mode or names another card's profile, and a
/// third belongs to another node (NVIDIA/gpu-operator issue 2600; one ConfigMap for
/// all nodes).
#[test]
fn what_does_not_fit_one_gpu_leaves_the_plans_of_the_others() {
    let model = l40s();
    let mut gpus = look(&model, &BTreeMap::new());
    let mut other = gpus[0].clone();
    other.address = "0000:81:00.0".parse().unwrap();
    for function in &mut other.functions {
        function.address.bus = 0x81;
    }
    gpus.push(other);
    let text = "41:00.4=L40S-24Q\n81:00.4=A40-24Q\n81:00.5=L40S-24Q\nc1:00.4=L40S-24Q\n";
    let each = plan_each(&gpus, &assignments(text), PlanRules::default());
    let steps: Vec<String> = each.steps.iter().map(|step| step.address.to_string()).collect();
    assert_eq!(steps, ["0000:41:00.4"]);
    let absent: Vec<bool> = each.invalid.iter().map(|invalid| invalid.absent.is_some()).collect();
    assert_eq!(absent, [false, true], "{:?}", each.invalid);
}

/// A virtual function answers EIO: the driver's answer for one that a killed VM has
/// left behind.
#[test]
fn a_function_that_is_refused_gets_back_what_it_had_and_the_others_keep_theirs() {
    let model = l40s();
    let known = types(&model);
    let before = planned(&look(&model, &known), "41:00.4=L40S-12Q\n41:00.5=L40S-12Q\n");
    assert_eq!(apply(&model, &before.steps).1, None);
    let text = "41:00.4=L40S-12A\n41:00.5=L40S-12A\n41:00.6=L40S-12A\n";
    let plan = planned(&look(&model, &known), text);
    model.reset_counters();
    // two clears, then .4 is set and .5 is refused
    model.inject(Fault::Errno(4, libc::EIO));
    let deadline = Duration::from_secs(1);
    let applier = ProfileApplier { files: &model, deadline, interrupted: &|| false };
    let results = applier.apply_each(&plan.steps);
    assert_eq!(set(&model)[..3], [1163, 1153, 1163]);
    assert_eq!(results[0].outcome, StepOutcome::Changed);
    assert!(matches!(&results[1].outcome, StepOutcome::Failed { left: None, .. }), "{results:?}");
    assert!(results[1].cleared && results[2].outcome == StepOutcome::Changed);
}

/// Without the right to look at VMs of other users nobody is found; a profile is not
/// cleared on that ground.
#[test]
fn a_failed_look_at_users_is_unknown_and_refuses_to_clear() {
    let model = l40s();
    let known = types(&model);
    assert_eq!(apply(&model, &planned(&look(&model, &known), "41:00.4=L40S-24Q\n").steps).1, None);
    let mut gpus = look(&model, &known);
    for function in &mut gpus[0].functions {
        assert_eq!((&function.users_unknown, &function.vms_unknown), (&None, &None));
        function.users_unknown = Some("cannot list '/proc/4242/fd'".into());
    }
    let text = "41:00.4=none\n41:00.5=L40S-24Q\n";
    let plan_of = |gpus: &[Gpu], rules| plan(gpus, &assignments(text), rules).unwrap();
    let refused = plan_of(&gpus, PlanRules::default());
    assert_eq!(refused.objections.len(), 1, "{refused:?}");
    assert!(refused.objections[0].why.contains("whether a VM uses it is unknown: cannot list"));
    let rules = PlanRules { skip_in_use: true, ..PlanRules::default() };
    let changes: Vec<bool> = plan_of(&gpus, rules).steps.iter().map(|s| s.is_change()).collect();
    assert_eq!(changes, [false, true], "what is empty needs no look");
    gpus[0].functions[1].vms_unknown = Some("cannot read '/etc/pve/qemu-server/100.conf'".into());
    let refused = plan_of(&gpus, rules);
    assert!(refused.steps.iter().all(|step| !step.is_change()), "{refused:?}");
}

/// hypeman issue 327: a full GPU lists its heading only.
#[test]
fn a_profile_without_a_name_is_neither_right_nor_wrong() {
    let model = l40s();
    for at in 0..2 {
        let path = format!("/sys/bus/pci/devices/{}/nvidia/current_vgpu_type", vf(at));
        model.write(&path, b"1155").unwrap();
    }
    let mut gpus = look(&model, &BTreeMap::new());
    gpus[0].types.clear();
    let count = format!(
        "{{\"type\":\"vgpu-assignment\",\"address\":\"{PF}\",\"profile\":\"L40S-24Q\",\"count\":1}}"
    );
    for text in ["41:00.4=L40S-24Q\n", &count] {
        let plan = planned(&gpus, text);
        assert!(plan.steps.iter().all(|step| !step.is_change()), "{text}: {plan:?}");
        assert!(plan.objections[0].why.contains("id 1155, whose name is unknown"), "{plan:?}");
    }
    let by_id = planned(&gpus, "41:00.4=1155\n41:00.5=none\n");
    assert_eq!(by_id.objections, []);
    let changes: Vec<bool> = by_id.steps.iter().map(ProfileStep::is_change).collect();
    assert_eq!(changes, [false, true]);
}

/// NVIDIA/gpu-operator issue 2600: MIG mode is lost at a reboot, and the list holds
/// nothing for MIG then.
#[test]
fn a_profile_that_mig_hides_is_no_error_in_the_input() {
    let with = |instances: u32| {
        let model = l40s();
        let mut gpus = look(&model, &BTreeMap::new());
        let list = [(1603, "NVIDIA DC-24Q"), (1604, "NVIDIA DC-96Q"), (1600, "NVIDIA DC-1-12Q")];
        gpus[0].types = list.iter().map(|(id, name)| (*id, (*name).to_string())).collect();
        gpus[0].mig_instances = instances;
        gpus
    };
    let mut lost = with(0);
    lost[0].types.remove(&1600);
    let plan = planned(&lost, "41:00.4=DC-1-12Q\n");
    assert!(plan.objections[0].why.contains("needs a MIG instance, and the GPU has none"));
    let plan = planned(&with(4), "41:00.4=DC-4-96Q\n41:00.5=DC-4-96Q\n41:00.6=DC-4-96Q\n");
    let why = &plan.objections[0].why;
    assert_eq!(why, "3 x DC-4-96Q need 12 MIG slices, the GPU has 4");
}

/// A T4 has sriov_totalvfs and never a virtual function.
#[test]
fn virtual_functions_are_not_planned_for_a_gpu_that_never_has_any() {
    let mut gpus = look(&l40s(), &BTreeMap::new());
    (gpus[0].device, gpus[0].total_vfs, gpus[0].vf_offset) = (Some(0x1eb8), 16, Some((4, 1)));
    gpus[0].functions.clear();
    let text = format!(
        "{{\"type\":\"vgpu-assignment\",\"address\":\"{PF}\",\"profile\":\"T4-4Q\",\"count\":1}}"
    );
    gpus[0].types.clear();
    gpus[0].complete = false;
    let plan = planned(&gpus, &text);
    assert!(plan.enable.is_empty() && !plan.objections.is_empty(), "{plan:?}");
}

fn mig_card(instances: Vec<u32>) -> VgpuCard {
    let types = [
        (1600, "NVIDIA DC-1-12Q"),
        (1601, "NVIDIA DC-1-24Q"),
        (1602, "NVIDIA DC-2-48QGFX"),
        (1603, "NVIDIA DC-24Q"),
        (1604, "NVIDIA DC-96Q"),
    ];
    let types = types.iter().map(|(id, name)| (*id, (*name).to_string())).collect();
    VgpuCard { types, mib: 96 << 10, heterogeneous: false, instances }
}

#[test]
fn mig_profiles_take_instances_and_time_sliced_ones_take_none() {
    let with = |instances: &[u32]| {
        let model = l40s();
        model.vgpu_card(PF, mig_card(instances.to_vec()));
        let mut gpus = look(&model, &BTreeMap::new());
        // /proc/driver/nvidia/capabilities, which the model has no way to show
        gpus[0].mig_instances = instances.len() as u32;
        (model, gpus)
    };
    let (model, gpus) = with(&[1, 1, 2]);
    let plan = planned(
        &gpus,
        "41:00.4=DC-1-12Q\n41:00.5=DC-1-12Q\n41:00.6=DC-1-24Q\n41:00.7=DC-2-48QGFX\n",
    );
    assert_eq!(plan.objections, []);
    assert_eq!(apply(&model, &plan.steps).1, None);
    assert_eq!(set(&model)[..4], [1600, 1600, 1601, 1602]);
    let (_, gpus) = with(&[1]);
    let plan = planned(&gpus, "41:00.4=DC-1-24Q\n41:00.5=DC-1-24Q\n");
    assert!(plan.objections[0].why.contains("need 2 MIG instances, the GPU has 1"), "{plan:?}");
    let (_, gpus) = with(&[1]);
    let mut gpus = gpus;
    gpus[0].complete = false;
    let plan = planned(&gpus, "41:00.4=DC-24Q\n");
    assert!(plan.objections[0].why.contains("in MIG mode"), "{plan:?}");
    let (_, mut gpus) = with(&[]);
    gpus[0].complete = false;
    let plan = planned(&gpus, "41:00.4=DC-1-24Q\n");
    assert!(plan.objections[0].why.contains("the GPU has none"), "{plan:?}");
    let enable = &plan.objections[0].hint.commands[1];
    assert_eq!(enable[..], ["/usr/lib/nvidia/sriov-manage", "-e", PF]);
}

#[test]
fn an_id_that_means_another_profile_on_another_card_is_caught() {
    let model = l40s();
    let mut gpus = look(&model, &BTreeMap::new());
    let mut other = gpus[0].clone();
    other.address = "0000:81:00.0".parse().unwrap();
    for function in &mut other.functions {
        function.address.bus = 0x81;
    }
    other.types.insert(1155, "NVIDIA RTX6000-Ada-6Q".into());
    gpus.push(other);
    let both = plan(&gpus, &assignments("41:00.4=1155\n81:00.4=1155\n"), PlanRules::default());
    let error = both.unwrap_err();
    assert!(
        error.why.contains("L40S-24Q on 0000:41:00.0 and RTX6000-Ada-6Q on 0000:81:00.0"),
        "{error:?}"
    );
    let one = planned(&gpus, "41:00.4=1155\n");
    assert!(one.warnings[0].contains("id 1155 is L40S-24Q here"), "{:?}", one.warnings);
    let none = plan(&gpus, &assignments("41:00.4=941\n"), PlanRules::default()).unwrap_err();
    assert!(none.why.contains("no profile with id 941"), "{none:?}");
}

#[derive(Clone, Debug)]
struct Case {
    before: Vec<(usize, u32)>,
    held: Vec<usize>,
    wanted: Vec<(usize, usize)>,
    counted: Option<(usize, u32)>,
}

fn case() -> impl Strategy<Value = Case> {
    let ids = prop::sample::select(vec![1147u32, 1150, 1153, 1163, 1155, 1165]);
    (
        prop::collection::vec((0usize..32, ids), 0..5),
        prop::collection::vec(0usize..32, 0..2),
        prop::collection::vec((0usize..32, 0usize..Q_SIZES.len() + 1), 1..6),
        prop::option::weighted(0.3, (0usize..Q_SIZES.len(), 0u32..40)),
    )
        .prop_map(|(before, held, wanted, counted)| Case { before, held, wanted, counted })
}

fn text(case: &Case) -> String {
    if let Some((at, count)) = case.counted {
        let name = Q_SIZES[at].1;
        return format!(
            "{{\"type\":\"vgpu-assignment\",\"address\":\"{PF}\",\"profile\":\"L40S-{name}\",\"count\":{count}}}\n"
        );
    }
    let mut seen = BTreeSet::new();
    let lines = case.wanted.iter().filter(|(at, _)| seen.insert(*at)).map(|(at, size)| {
        let name =
            Q_SIZES.get(*size).map_or("none".to_string(), |(_, name, _)| format!("L40S-{name}"));
        format!("{}={name}\n", vf(*at))
    });
    lines.collect()
}

/// A model in the state of a case, and all names of profiles.
fn prepare(case: &Case) -> (ModelKernel, BTreeMap<u32, String>) {
    let model = l40s();
    let known = types(&model);
    for (at, id) in &case.before {
        // what does not fit stays away
        let path = format!("/sys/bus/pci/devices/{}/nvidia/current_vgpu_type", vf(*at));
        let _ = model.write(&path, id.to_string().as_bytes());
    }
    for (n, at) in case.held.iter().enumerate().filter(|(_, at)| model.vgpu_of(&vf(**at)) != 0) {
        model.hold(&vf(*at), 1);
        let node = format!("/dev/vfio/devices/vfio{at}");
        model.add_process(4000 + n as u32, "kvm", &[&node]);
    }
    model.reset_counters();
    (model, known)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_that_is_accepted_applies_and_the_second_run_changes_nothing(case in case()) {
        let (model, known) = prepare(&case);
        let text = text(&case);
        let assignments = assignments(&text);
        let planned = plan(&look(&model, &known), &assignments, PlanRules::default()).unwrap();
        prop_assert_eq!(model.counters().writes, 0);
        if !planned.objections.is_empty() {
            return Ok(());
        }
        let held: Vec<(usize, u32)> = case.held.iter().map(|at| (*at, model.vgpu_of(&vf(*at)))).collect();
        let (outcomes, stop) = apply(&model, &planned.steps);
        prop_assert_eq!(&stop, &None, "{}: {:?}", text, outcomes);
        for (at, id) in held.iter().filter(|(_, id)| *id != 0) {
            prop_assert_eq!(model.vgpu_of(&vf(*at)), *id, "a VM holds it");
        }
        let writes = model.counters().writes;
        let again = plan(&look(&model, &known), &assignments, PlanRules::default()).unwrap();
        prop_assert!(again.objections.is_empty() && again.steps.iter().all(ProfileStep::is_unchanged), "{}: {:?}", text, again);
        apply(&model, &again.steps);
        prop_assert_eq!(model.counters().writes, writes);
    }

    #[test]
    fn a_write_that_fails_leaves_all_as_it_was_or_named(
        case in case(), nth in 1u64..12, block in prop::bool::weighted(0.1),
        errno in prop::sample::select(vec![libc::EIO, libc::EPERM, libc::EINVAL, libc::EBUSY, libc::ENOSPC, libc::EACCES])
    ) {
        let (model, known) = prepare(&case);
        let assignments = assignments(&text(&case));
        let planned = plan(&look(&model, &known), &assignments, PlanRules::default()).unwrap();
        if !planned.objections.is_empty() {
            return Ok(());
        }
        let before = set(&model);
        model.inject(if block { Fault::Block(nth) } else { Fault::Errno(nth, errno) });
        let (outcomes, stop) = apply(&model, &planned.steps);
        let after = set(&model);
        prop_assert_eq!(stop.is_some(), model.counters().writes >= nth);
        if stop.is_none() {
            return Ok(());
        }
        for (step, outcome) in planned.steps.iter().zip(&outcomes) {
            let at = (0..32).find(|at| vf(*at) == step.address.to_string()).unwrap();
            let named = matches!(outcome, StepOutcome::Failed { left: Some(_), .. } | StepOutcome::Pending { left: Some(_), .. } | StepOutcome::NotRestored { .. });
            prop_assert_eq!(named, before[at] != after[at], "{}: {:?}", step.address, outcome);
        }
        prop_assert_eq!(&before, &after, "one fault is always put back: {:?}", outcomes);
    }
}
