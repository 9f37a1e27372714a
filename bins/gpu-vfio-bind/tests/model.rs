//! The apply on the model kernel, with a fault at any write: afterwards every
//! function is as it was, or what came back names exactly what is not.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use apply::StepOutcome;
use gpu_vfio_bind::apply::DriverWriter;
use gpu_vfio_bind::plan::{DriverGoal, DriverState, FunctionStep, plan};
use modelkernel::{Effect, Fault, FunctionState, ModelKernel};
use proptest::prelude::*;
use record::Address;
use testbed::tree::{Entry, Tree};
use testbed::{Bed, machine};

/// A machine in the form that ten thousand cases can afford: without what the
/// apply does not read.
struct Host {
    name: String,
    tree: Tree,
    /// Functions that go together, by slot: no bridges, no VFs.
    slots: Vec<Vec<Address>>,
}

fn hosts() -> &'static [Host] {
    static HOSTS: std::sync::OnceLock<Vec<Host>> = std::sync::OnceLock::new();
    HOSTS.get_or_init(|| {
        let with_iommu = |name: &String| *name != "iommu-off";
        machine::names().into_iter().filter(with_iommu).map(|name| host(&name)).collect()
    })
}

fn host(name: &str) -> Host {
    let mut tree = machine::tree(name).unwrap();
    let bed = Bed::of(&tree);
    let machine = host::Machine::new(Some(bed.path())).unwrap();
    let system = pci::scan(&machine, pci::Depth::Verdict).unwrap();
    let mut slots: BTreeMap<_, Vec<Address>> = BTreeMap::new();
    for f in system.functions.values().filter(|f| !f.is_bridge() && f.pf.is_none()) {
        if f.group.is_some() && f.vfs.is_empty() {
            slots.entry(f.address.slot()).or_default().push(f.address);
        }
    }
    let read = |path: &str| {
        ["/sys/", "/proc/driver", "/proc/devices", "/dev/"].iter().any(|p| path.starts_with(p))
    };
    tree.entries.retain(|path, entry| {
        read(path) && !matches!(entry, Entry::File(bytes) if bytes.len() > 4096)
    });
    Host { name: name.to_string(), tree, slots: slots.into_values().collect() }
}

#[derive(Clone, Debug)]
enum Op {
    Bind(usize),
    Release(usize),
    /// Release to another driver than the remembered one.
    To(usize, &'static str),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => any::<usize>().prop_map(Op::Bind),
        4 => any::<usize>().prop_map(Op::Release),
        1 => (any::<usize>(), prop::sample::select(vec!["nvidia", "nouveau", "no-such"]))
            .prop_map(|(slot, driver)| Op::To(slot, driver)),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let errno = prop::sample::select(vec![
        libc::ENODEV,
        libc::EBUSY,
        libc::EINVAL,
        libc::EIO,
        libc::ENOMEM,
        libc::EAGAIN,
        libc::EACCES,
    ]);
    prop_oneof![
        4 => (1u64..40, errno).prop_map(|(nth, errno)| Fault::Errno(nth, errno)),
        1 => (1u64..40).prop_map(Fault::Block),
        1 => (1u64..40, any::<bool>())
            .prop_map(|(nth, done)| Fault::Die(nth, if done { Effect::Happened } else { Effect::None })),
    ]
}

type Outcome = StepOutcome<DriverState>;
type Functions = BTreeMap<Address, FunctionState>;

fn states(model: &ModelKernel) -> Functions {
    model.snapshot().functions
}

fn state(of: &FunctionState) -> DriverState {
    DriverState { driver: of.driver.clone(), driver_override: of.driver_override.clone() }
}

fn moves(
    host: &Host,
    now: &Functions,
    memory: &BTreeMap<Address, Option<String>>,
    op: &Op,
) -> Vec<FunctionStep> {
    let slot = match op {
        Op::Bind(slot) | Op::Release(slot) | Op::To(slot, _) => {
            &host.slots[slot % host.slots.len()]
        }
    };
    let goal = |address: &Address| match op {
        Op::Bind(_) => DriverGoal::Vfio { driver: "vfio-pci".into() },
        Op::To(_, driver) => DriverGoal::Host { driver: Some((*driver).to_string()) },
        Op::Release(_) => match memory.get(address) {
            Some(driver) => DriverGoal::Host { driver: driver.clone() },
            None => DriverGoal::Host { driver: None },
        },
    };
    slot.iter().map(|address| plan(*address, state(&now[address]), &goal(address))).collect()
}

/// What must be true after a run that failed: nothing differs from before but
/// what the outcomes name, and that in the way that they say.
fn faithful(
    before: &Functions,
    after: &Functions,
    moves: &[FunctionStep],
    outcomes: &[Outcome],
) -> Result<(), String> {
    let mut named: BTreeMap<Address, &DriverState> = BTreeMap::new();
    for (step, outcome) in moves.iter().zip(outcomes) {
        if let Some(left) = outcome.left() {
            named.insert(step.address, left);
        }
    }
    for (address, was) in before {
        let is = &after[address];
        match named.get(address) {
            None if was != is => {
                return Err(format!("{address} was {was:?} and is {is:?}, and nothing says so"));
            }
            Some(left) if **left != state(is) => {
                return Err(format!("{address} is said to be {left:?} and is {is:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What must be true after a run that succeeded: every function of it is where
/// it should be, all others are as they were.
fn done(
    before: &Functions,
    after: &Functions,
    moves: &[FunctionStep],
    outcomes: &[Outcome],
) -> Result<(), String> {
    let touched: BTreeSet<Address> = moves.iter().map(|step| step.address).collect();
    for (step, outcome) in moves.iter().zip(outcomes) {
        let is = state(&after[&step.address]);
        let probed = step.after.driver.is_none() && is.driver_override.is_none();
        let right = is == step.after || (probed && !step.actions.is_empty());
        let expected =
            if step.actions.is_empty() { StepOutcome::Unchanged } else { StepOutcome::Changed };
        if !right || *outcome != expected {
            return Err(format!("{}: {is:?}, {outcome:?}, planned {step:?}", step.address));
        }
    }
    match before.iter().find(|(address, was)| !touched.contains(address) && after[address] != **was)
    {
        Some((address, _)) => Err(format!("{address} was not asked for and changed")),
        None => Ok(()),
    }
}

fn kernel(model: &ModelKernel) -> DriverWriter<'_> {
    DriverWriter {
        files: model,
        deadline: Duration::from_secs(15),
        interrupted: &|| false,
        load: &|_| Err("no module".into()),
    }
}

/// One case: gives how often a run failed.
fn case(host: &Host, ops: &[Op], fault: Fault) -> Result<usize, String> {
    let model = ModelKernel::from_tree(&host.tree);
    model.load_module("vfio-pci");
    model.reset_counters();
    model.inject(fault);
    let mut memory: BTreeMap<Address, Option<String>> = BTreeMap::new();
    let mut failures = 0;
    for op in ops {
        let before = states(&model);
        let steps = moves(host, &before, &memory, op);
        let (outcomes, stop) = kernel(&model).apply(&steps);
        if model.dead() {
            // nobody is left to undo; the next run finds what there is and gets there
            model.revive();
            model.clear_faults();
            let steps = moves(host, &states(&model), &memory, &Op::Bind(0));
            let (_, stop) = kernel(&model).apply(&steps);
            return if stop.is_none() {
                Ok(failures)
            } else {
                Err(format!("after death: {stop:?}"))
            };
        }
        let after = states(&model);
        match stop {
            None => done(&before, &after, &steps, &outcomes)?,
            Some(stop) => {
                failures += 1;
                // One fault was spent on getting here, so nothing stands in the
                // way of the undo: only a driver that does not exist fails by
                // itself and may meet the fault on its way back.
                let spent = matches!(fault, Fault::Errno(..)) && !matches!(op, Op::To(..));
                if spent && before != after {
                    return Err(format!("not undone after {stop:?}: {outcomes:?}"));
                }
                faithful(&before, &after, &steps, &outcomes)
                    .map_err(|why| format!("{why} ({stop:?})"))?;
            }
        }
        if matches!(op, Op::Bind(_)) {
            for (step, outcome) in steps.iter().zip(&outcomes) {
                if *outcome == StepOutcome::Changed {
                    memory.insert(step.address, step.before.driver.clone());
                }
            }
        }
        if model.snapshot().blocked > 0 {
            // a write of ours is still with the kernel: it ends here
            return Ok(failures);
        }
    }
    Ok(failures)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn after_any_fault_all_is_as_it_was_or_named(
        at in any::<usize>(), ops in prop::collection::vec(op(), 1..5), fault in fault(),
    ) {
        let host = &hosts()[at % hosts().len()];
        if let Err(why) = case(host, &ops, fault) {
            prop_assert!(false, "{}: {why}", host.name);
        }
    }
}

#[test]
fn an_undo_that_skips_one_step_is_noticed() {
    let host = hosts().iter().find(|h| h.name == "pve9-two-gpus").unwrap();
    let at = host.slots.iter().position(|s| s.len() == 4 && s[0].bus == 0x2c).unwrap();
    let model = ModelKernel::from_tree(&host.tree);
    model.load_module("vfio-pci");
    model.reset_counters();
    // the last function's bind fails: three are undone
    model.inject(Fault::Errno(12, libc::EINVAL));
    let before = states(&model);
    let steps = moves(host, &before, &BTreeMap::new(), &Op::Bind(at));
    let (outcomes, stop) = kernel(&model).apply(&steps);
    assert!(stop.is_some());
    assert_eq!(
        outcomes.iter().filter(|o| **o == StepOutcome::RolledBack).count(),
        3,
        "{outcomes:?}"
    );
    let after = states(&model);
    faithful(&before, &after, &steps, &outcomes).unwrap();
    for step in &steps[..3] {
        // as if its driver had not been given back
        let mut skipped = after.clone();
        skipped.get_mut(&step.address).unwrap().driver = None;
        assert!(faithful(&before, &skipped, &steps, &outcomes).is_err());
        // as if its override had been left
        let mut skipped = after.clone();
        skipped.get_mut(&step.address).unwrap().driver_override = Some("vfio-pci".into());
        assert!(faithful(&before, &skipped, &steps, &outcomes).is_err());
    }
}

#[test]
fn a_bind_that_succeeds_makes_this_many_writes() {
    let host = hosts().iter().find(|h| h.name == "pve9-two-gpus").unwrap();
    let at = host.slots.iter().position(|s| s.len() == 4 && s[0].bus == 0x2c).unwrap();
    let model = ModelKernel::from_tree(&host.tree);
    model.load_module("vfio-pci");
    model.reset_counters();
    let steps = moves(host, &states(&model), &BTreeMap::new(), &Op::Bind(at));
    let (_, stop) = kernel(&model).apply(&steps);
    assert_eq!(stop, None);
    let counters = model.counters();
    println!("bind of four functions: {} writes, {} reads", counters.writes, counters.reads);
    assert_eq!(counters.writes, 12, "override, unbind, bind for each");
    assert!(Path::new("/").exists() && counters.reads <= 8, "{}", counters.reads);
}
