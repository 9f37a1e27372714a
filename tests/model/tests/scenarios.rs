//! The kernel lab's scenarios on the model, mounted: what they expect holds, and
//! the model answers as the real kernel that wrote tests/lab/contract.

#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::sync::Mutex;

use modelkernel::{ModelKernel, WriteOutcome, mount, scenario};
use testbed::tree::Tree;

#[test]
fn the_labs_scenarios_hold_and_the_model_answers_as_the_real_kernel_did() {
    assert!(mount::possible(), "these tests need root and /dev/fuse");
    let tool = testbed::bed::program("gpu-vfio-bind");
    let tools = tool.parent().unwrap();
    let helper = Path::new(env!("CARGO_BIN_EXE_scenarios"));
    let scenarios = scenario::all();
    // they sleep most of the time: two at once, the one with the longest sleeps first
    let mut order: Vec<_> = scenarios.iter().collect();
    order.sort_by_key(|one| one.title().contains("stuck"));
    let queue = Mutex::new(order);
    let results = Mutex::new((Vec::new(), Vec::new()));
    let work = || {
        let next = || queue.lock().unwrap().pop();
        while let Some(one) = next() {
            let report = one.run(tools, helper).unwrap();
            let mut results = results.lock().unwrap();
            if let Some(problem) = report.problem {
                results.0.push(format!("{}: {problem}", one.title()));
            }
            if report.compared {
                results.1.push(one.title());
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let (problems, compared) = results.into_inner().unwrap();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    // a header that is misread must not pass for a comparison
    for name in ["driver-core", "new-id", "sriov", "vgpu", "stuck-unbind", "stuck-unbind.6.1"] {
        assert!(compared.iter().any(|known| known == name), "{name} was not compared");
    }
    assert!(scenarios.len() >= 13, "{} scenarios", scenarios.len());
}

#[test]
fn uevent_names_the_driver_until_its_remove_is_through() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/machines/two-gpus.tree");
    let tree = Tree::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let model = ModelKernel::from_tree(&tree);
    let uevent = || {
        let bytes = model.read("/sys/bus/pci/devices/0000:01:00.0/uevent").unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let recorded = uevent();
    assert!(recorded.starts_with("DRIVER=nvidia\nPCI_CLASS=30200\n"), "{recorded}");
    model.hold_late("0000:01:00.0");
    let unbind = model.write("/sys/bus/pci/drivers/nvidia/unbind", b"0000:01:00.0");
    assert!(matches!(unbind, Ok(WriteOutcome::Blocked(_))), "{unbind:?}");
    assert_eq!(uevent(), recorded);
    model.release_holders("0000:01:00.0");
    assert_eq!(uevent(), recorded.replace("DRIVER=nvidia\n", ""));
    model.write("/sys/bus/pci/drivers_probe", b"0000:01:00.0").unwrap();
    assert_eq!(uevent(), recorded);
}
