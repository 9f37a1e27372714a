//! Writes that do not come back, faults and counters.

mod common;

use std::time::Duration;

use common::*;
use host::{KernelFiles, Written};
use modelkernel::{Effect, Fault, NodeView, WriteOutcome};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_unbind_of_a_used_gpu_blocks_until_its_users_leave() {
    let k = two_gpus();
    k.0.hold(GPU, 2);
    let Ok(WriteOutcome::Blocked(ticket)) = k.unbind("nvidia", GPU) else { panic!() };
    assert_eq!(k.0.outcome(ticket), None);
    k.0.release_holders(GPU);
    assert_eq!(k.0.outcome(ticket), Some(Ok(())));
    assert_eq!(k.driver_of(GPU), "");
}

#[test]
fn while_an_unbind_blocks_the_link_is_gone_and_the_driver_is_not() {
    let k = two_gpus();
    k.0.hold(GPU, 1);
    assert!(is_blocked(k.unbind("nvidia", GPU)));
    assert!(!k.has(&device(GPU, "driver")) && !k.has(&driver("nvidia", GPU)));
    assert!(k.has(&format!("/proc/driver/nvidia/gpus/{GPU}")));
    assert_eq!(k.driver_of(GPU), "nvidia");
    assert!(!k.0.group_viable(GROUP));
}

#[test]
fn an_unbind_from_vfio_blocks_while_a_vm_has_the_group() {
    let k = two_gpus();
    for address in [GPU, AUDIO, USB, UCSI] {
        k.to_vfio(address);
    }
    k.0.vm_take(GROUP).unwrap();
    assert!(is_blocked(k.unbind("vfio-pci", AUDIO)));
    assert_eq!(k.driver_of(AUDIO), "vfio-pci");
    k.0.vm_drop(GROUP);
    assert_eq!(k.driver_of(AUDIO), "");
}

#[test]
fn while_an_unbind_blocks_others_wait_for_the_device_lock() {
    let k = two_gpus();
    k.0.hold(GPU, 1);
    assert_eq!(k.set(GPU, "driver_override", "vfio-pci"), DONE);
    assert!(is_blocked(k.unbind("nvidia", GPU)));
    assert!(is_blocked(k.unbind("nvidia", GPU)));
    assert!(is_blocked(k.set(GPU, "reset", "1")));
    assert!(is_blocked(k.bind("vfio-pci", GPU)));
    // its driver is still set: nothing to probe
    assert_eq!(k.write(PROBE, GPU), DONE);
    assert_eq!(k.unbind("nvidia", OTHER), DONE);
    assert_eq!(k.0.snapshot().blocked, 4);
    k.0.release_holders(GPU);
    assert_eq!(k.0.snapshot().blocked, 0);
    assert_eq!(k.driver_of(GPU), "vfio-pci", "each got its turn");
    assert_eq!((1..=4).map(|t| k.0.outcome(t).unwrap()).filter(Result::is_ok).count(), 4);
}

#[test]
fn with_old_locking_override_and_vf_count_wait_for_the_lock_too() {
    let k = of("a100-mig");
    let pf = "0000:01:00.0";
    k.0.hold(pf, 1);
    assert!(is_blocked(k.unbind("nvidia", pf)));
    assert_eq!(k.set(pf, "driver_override", "y"), DONE, "newer kernels take no lock");
    assert_eq!(k.read(pf, "driver_override"), "y\n");
    k.0.old_locking(true);
    for name in ["driver_override", "sriov_numvfs"] {
        assert_eq!(k.0.read(&device(pf, name)), Err(libc::ETIMEDOUT));
    }
    assert!(is_blocked(k.set(pf, "driver_override", "x")));
    assert_eq!(k.0.counters().blocked_reads, 2);
    assert_eq!(k.read(pf, "vendor"), "0x10de\n");
    k.0.release_holders(pf);
    assert_eq!(k.read(pf, "driver_override"), "x\n");
}

#[test]
fn a_blocked_write_times_out_with_a_deadline_and_hangs_without() {
    let k = two_gpus();
    k.0.hold(GPU, 1);
    k.0.hold(OTHER, 1);
    let path = driver("nvidia", "unbind");
    assert!(matches!(k.0.write_attr_within(&path, GPU, SECOND), Ok(Written::TimedOut { .. })));
    assert_eq!(k.0.counters().hung, 0);
    assert_eq!(k.0.write_attr(&path, OTHER).unwrap_err().errno(), libc::EINTR);
    assert_eq!(k.0.counters().hung, 1);
    // it cannot be taken back
    k.0.release_holders(GPU);
    assert_eq!(k.driver_of(GPU), "");
}

#[test]
fn the_trait_reads_as_a_machine_does() {
    let k = two_gpus();
    assert_eq!(k.0.read_attr(&device(GPU, "vendor")).unwrap(), "0x10de");
    assert!(k.0.read_link(&device(GPU, "driver")).unwrap().ends_with("/drivers/nvidia"));
    assert_eq!(k.0.read_link(&device(GPU, "vendor")).unwrap_err().errno(), libc::EINVAL);
    assert!(k.0.list("/nothing").unwrap().is_empty());
    assert_eq!(k.0.list("/dev/vfio").unwrap(), ["vfio"]);
    assert!(k.0.exists("/dev/nvidia0") && k.0.exists("/dev/vfio") && !k.0.exists("/dev/vfio/28"));
    assert_eq!(k.0.write_attr(&device(GPU, "reset"), "").unwrap_err().errno(), libc::EINVAL);
    let error = k.0.write_attr(&device(GPU, "none"), "1").unwrap_err();
    assert!(error.is_not_found() && error.path == device(GPU, "none"));
    assert!(matches!(k.0.lookup(&device(GPU, "driver"), false), Ok(NodeView::Link(_))));
    assert!(matches!(k.0.lookup(&device(GPU, "driver"), true), Ok(NodeView::Dir(_))));
    assert_eq!(k.0.lookup("/etc/../../proc/cmdline", true), Ok(NodeView::File));
}

#[test]
fn the_nth_write_fails_as_told_and_changes_nothing() {
    let k = two_gpus();
    let before = k.0.snapshot();
    k.0.inject(Fault::Errno(2, libc::EIO));
    assert_eq!(k.set(GPU, "driver_override", "a"), DONE);
    assert_eq!(k.set(GPU, "driver_override", "\n"), Err(libc::EIO));
    assert_ne!(k.0.snapshot(), before);
    assert_eq!(k.set(GPU, "driver_override", "\n"), DONE);
    assert_eq!(k.0.snapshot(), before);
}

#[test]
fn the_nth_write_blocks_until_the_test_lets_it_go() {
    let k = two_gpus();
    k.0.inject(Fault::Block(1));
    assert!(is_blocked(k.unbind("nvidia", GPU)));
    assert!(is_blocked(k.set(GPU, "reset", "1")), "it has the device lock");
    assert_eq!(k.driver_of(GPU), "nvidia");
    k.0.release_blocked();
    assert_eq!(k.driver_of(GPU), "");
    assert_eq!(k.0.snapshot().blocked, 0);
}

#[test]
fn a_dead_process_gets_nothing_more_and_the_next_finds_what_it_left() {
    for (effect, left) in [(Effect::None, "nvidia"), (Effect::Happened, "")] {
        let k = two_gpus();
        k.0.inject(Fault::Die(1, effect));
        let path = driver("nvidia", "unbind");
        assert_eq!(k.0.write_attr(&path, GPU).unwrap_err().errno(), libc::ESRCH);
        assert!(k.0.dead() && !k.0.exists("/sys"));
        assert_eq!(k.0.read_attr(&device(GPU, "vendor")).unwrap_err().errno(), libc::ESRCH);
        assert_eq!(k.0.list("/sys").unwrap_err().errno(), libc::ESRCH);
        assert_eq!(k.driver_of(GPU), left);
        k.0.revive();
        assert!(k.0.read_attr(&device(GPU, "vendor")).is_ok());
    }
}

#[test]
fn accesses_are_counted_by_path_and_in_order() {
    let k = two_gpus();
    k.read(GPU, "vendor");
    assert_eq!(k.set(GPU, "driver_override", "vfio-pci"), DONE);
    assert_eq!(k.set(GPU, "driver_override", "\n"), DONE);
    assert_eq!(k.set(GPU, "vendor", "1"), Err(libc::EACCES));
    let counters = k.0.counters();
    assert_eq!((counters.reads, counters.writes), (1, 2));
    assert_eq!(counters.writes_by_path[&device(GPU, "driver_override")], 2);
    assert_eq!(counters.log[1].1, "\n");
    k.0.reset_counters();
    assert_eq!(k.0.counters(), modelkernel::Counters::default());
}
