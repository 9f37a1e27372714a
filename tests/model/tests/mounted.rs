//! The model as a file system: raw reads and writes, and a real program.

#![allow(clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use host::{KernelFiles, Written};
use modelkernel::mount::{Mounted, possible};
use modelkernel::{Effect, Fault, ModelKernel, WriteOutcome};
use testbed::Bed;

const GPU: &str = "0000:2b:00.0";
const AUDIO: &str = "0000:2b:00.1";

fn model() -> Arc<ModelKernel> {
    Arc::new(ModelKernel::from_tree(&testbed::machine::tree("pve9-two-gpus").unwrap()))
}

/// A mounted machine; `None` where nothing can be mounted.
fn mounted() -> Option<Mounted> {
    assert!(possible(), "these tests need root and /dev/fuse");
    Some(Mounted::new(model()).unwrap())
}

/// open(2) without create or truncate, one write(2). Gives the error number.
fn write(path: &Path, value: &[u8]) -> Result<usize, i32> {
    let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(0);
    let mut file = File::options().write(true).open(path).map_err(errno)?;
    file.write(value).map_err(errno)
}

fn read(path: &Path) -> Result<Vec<u8>, i32> {
    fs::read(path).map_err(|error| error.raw_os_error().unwrap_or(0))
}

fn device(name: &str) -> String {
    format!("/sys/bus/pci/devices/{GPU}/{name}")
}

fn driver(name: &str) -> String {
    format!("/sys/bus/pci/drivers/{name}")
}

#[test]
fn a_mount_answers_every_access_as_the_model_does_in_process() {
    let Some(mount) = mounted() else { return };
    let inside = model();
    let long = "x".repeat(4095);
    let cases: Vec<(String, &str)> = vec![
        (device("driver_override"), "vfio-pci"),
        (device("driver_override"), &long),
        (device("driver_override"), "\n"),
        (device("driver_override"), "\0\0"),
        (device("driver_override"), "vfio-pci\nnvidia"),
        (device("vendor"), "0x10de"),
        (device("nothing"), "1"),
        (device("reset"), "1"),
        (device("reset"), "2"),
        (driver("nvidia/unbind"), "2b:00.0"),
        (driver("nvidia/unbind"), AUDIO),
        (driver("nvidia/bind"), GPU),
        (driver("vfio-pci/bind"), GPU),
        (driver("vfio-pci/bind"), AUDIO),
        (driver("nvidia/unbind"), GPU),
        (driver("nvidia/unbind"), GPU),
        (driver("nvidia/bind"), GPU),
        (driver("vfio-pci/bind"), "0000:2b:00.0\n"),
        ("/sys/bus/pci/drivers_probe".into(), "0000:ff:00.0"),
        ("/sys/bus/pci/drivers_probe".into(), GPU),
        (driver("vfio-pci/new_id"), "10de"),
        (driver("vfio-pci/new_id"), "10de 1e07"),
        (driver("vfio-pci/new_id"), "10de 1e07"),
        (driver("vfio-pci/remove_id"), "10de 1e07"),
        (driver("vfio-pci/remove_id"), "10de 1e07"),
        (driver("none/bind"), GPU),
        ("/sys/bus/pci/drivers_autoprobe".into(), "0"),
        ("/sys/bus/pci/devices".into(), "0"),
        ("/etc/hostname".into(), "x"),
    ];
    for (path, value) in &cases {
        let outside = write(&mount.at(path), value.as_bytes()).map(|_| ());
        let expected = inside.write(path, value.as_bytes()).map(|outcome| {
            assert_eq!(outcome, WriteOutcome::Done, "{path} {value}");
        });
        assert_eq!(outside, expected, "{path} {value}");
        assert_eq!(mount.model().snapshot(), inside.snapshot(), "{path} {value}");
    }
    for path in ["driver_override", "vendor", "nothing", "reset", "vfio-dev", "config"] {
        let path = device(path);
        assert_eq!(read(&mount.at(&path)), inside.read(&path), "{path}");
    }
    for path in ["/dev.list", "/proc/cmdline", "/sys/bus/pci/drivers/nvidia/bind"] {
        assert_eq!(read(&mount.at(path)), inside.read(path), "{path}");
    }
}

#[test]
fn an_empty_write_never_arrives_and_nothing_is_created_or_truncated() {
    let Some(mount) = mounted() else { return };
    let path = mount.at(&device("driver_override"));
    assert_eq!(write(&path, b"x"), Ok(1));
    assert_eq!(write(&path, b""), Ok(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), "x\n");
    assert_eq!(mount.model().counters().writes, 1);
    let refused = |error: std::io::Error| error.raw_os_error() == Some(libc::EPERM);
    assert!(refused(fs::write(&path, "y").unwrap_err()));
    assert!(refused(File::create(mount.at("/sys/new")).unwrap_err()));
    assert!(refused(fs::create_dir(mount.at("/run2")).unwrap_err()));
    assert_eq!(mount.model().counters().refused, 3);
    assert_eq!(fs::read_to_string(&path).unwrap(), "x\n");
}

#[test]
fn a_program_sees_the_same_machine_in_a_mount_and_in_a_directory() {
    let Some(mount) = mounted() else { return };
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debug/gpu-iommu-groups");
    let tool: PathBuf =
        if tool.exists() { tool } else { testbed::bed::program("gpu-iommu-groups") };
    let run = |root: &Path| {
        let run = Command::new(&tool).arg("--root").arg(root).arg("--all").output().unwrap();
        let show = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap().replace(&root.display().to_string(), "ROOT")
        };
        (run.status.code(), show(run.stdout), show(run.stderr))
    };
    let same = |tree: &testbed::tree::Tree| {
        let bed = Bed::of(tree);
        // openat2(2) with RESOLVE_IN_ROOT answers EAGAIN where a path has a ".."
        // and anybody on the system renames or mounts meanwhile, as other tests do
        let mut tries = 0;
        let (inside, outside) = loop {
            tries += 1;
            let (inside, outside) = (run(mount.path()), run(bed.path()));
            if inside == outside || tries == 20 {
                break (inside, outside);
            }
        };
        assert!(inside.1.contains(GPU), "{inside:?}");
        for (inside, outside) in inside.1.lines().zip(outside.1.lines()) {
            assert_eq!(inside, outside);
        }
        assert_eq!(inside, outside);
    };
    same(&testbed::machine::tree("pve9-two-gpus").unwrap());
    // and after a change, as the model writes itself down
    mount.model().write(&device("driver_override"), b"vfio-pci").unwrap();
    mount.model().write(&driver("nvidia/unbind"), GPU.as_bytes()).unwrap();
    mount.model().write(&driver("vfio-pci/bind"), GPU.as_bytes()).unwrap();
    same(&mount.model().to_tree());
}

/// A shell that writes a value and says how it went.
fn shell(path: &Path, value: &str) -> std::process::Child {
    // >> opens without O_TRUNC
    let script = format!("printf %s '{value}' >>'{}'", path.display());
    Command::new("sh").arg("-c").arg(script).stderr(Stdio::null()).spawn().unwrap()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_blocked_unbind_holds_its_caller_and_no_other_until_the_users_leave() {
    let Some(mount) = mounted() else { return };
    mount.model().hold(GPU, 1);
    let unbind = mount.at(&driver("nvidia/unbind"));
    let caller = {
        let unbind = unbind.clone();
        thread::spawn(move || write(&unbind, GPU.as_bytes()))
    };
    until("blocked", || mount.model().counters().blocked == 1);
    // the other GPU goes meanwhile, through the same file
    assert_eq!(write(&unbind, b"0000:2c:00.0"), Ok(12));
    assert_eq!(mount.model().driver_of("0000:2c:00.0"), None);
    // the link is gone, the driver is not
    assert!(fs::read_link(mount.at(&device("driver"))).is_err());
    assert_eq!(mount.model().driver_of(GPU).as_deref(), Some("nvidia"));
    assert!(!caller.is_finished());
    mount.model().release_holders(GPU);
    assert_eq!(caller.join().unwrap(), Ok(GPU.len()));
    assert_eq!(mount.model().driver_of(GPU), None);
}

#[test]
fn a_killed_caller_ends_and_its_write_happens_all_the_same() {
    let Some(mount) = mounted() else { return };
    mount.model().hold(GPU, 1);
    let mut child = shell(&mount.at(&driver("nvidia/unbind")), GPU);
    until("blocked", || mount.model().counters().blocked == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(mount.model().driver_of(GPU).as_deref(), Some("nvidia"));
    mount.model().release_holders(GPU);
    assert_eq!(mount.model().driver_of(GPU), None);
}

#[test]
fn a_machine_gives_up_a_write_that_blocks_after_its_deadline() {
    let Some(mount) = mounted() else { return };
    mount.model().hold(GPU, 1);
    let machine = host::Machine::new(Some(mount.path())).unwrap();
    let start = Instant::now();
    let limit = Duration::from_millis(200);
    let written = machine.write_attr_within(&driver("nvidia/unbind"), GPU, limit);
    assert!(matches!(written, Ok(Written::TimedOut { .. })));
    assert!(start.elapsed() < Duration::from_secs(5));
    let written = machine.write_attr_within(&driver("nvidia/unbind"), AUDIO, limit);
    assert_eq!(written.unwrap_err().errno(), libc::ENODEV);
    mount.model().release_holders(GPU);
    assert_eq!(mount.model().driver_of(GPU), None);
}

#[test]
fn with_old_locking_a_read_waits_for_the_lock_too() {
    let Some(mount) = mounted() else { return };
    mount.model().old_locking(true);
    mount.model().hold(GPU, 1);
    let outcome = mount.model().write(&driver("nvidia/unbind"), GPU.as_bytes());
    assert!(matches!(outcome, Ok(WriteOutcome::Blocked(_))));
    let path = mount.at(&device("driver_override"));
    let reader = thread::spawn(move || fs::read_to_string(path).unwrap());
    until("blocked", || mount.model().counters().blocked_reads == 1);
    assert_eq!(fs::read_to_string(mount.at(&device("vendor"))).unwrap(), "0x10de\n");
    assert!(!reader.is_finished());
    mount.model().release_holders(GPU);
    assert_eq!(reader.join().unwrap(), "(null)\n");
}

#[test]
fn the_unbind_lock_acts_on_close() {
    let Some(mount) = mounted() else { return };
    let path = mount.at(&format!("/proc/driver/nvidia/gpus/{GPU}/unbindLock"));
    let mut file = File::options().write(true).open(&path).unwrap();
    file.write_all(b"1").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "0\n");
    drop(file);
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    write(&path, b"0").unwrap();
    mount.model().hold(GPU, 1);
    write(&path, b"1").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "0\n");
}

#[test]
fn a_write_can_be_the_death_of_its_process() {
    let Some(mount) = mounted() else { return };
    for (nth, effect) in [(1, Effect::None), (2, Effect::Happened)] {
        mount.model().inject(Fault::Die(nth, effect));
        let status = shell(&mount.at(&device("driver_override")), "vfio-pci").wait().unwrap();
        assert_eq!(status.code(), None, "killed");
        let shown = fs::read_to_string(mount.at(&device("driver_override"))).unwrap();
        let expected = if effect == Effect::None { "(null)\n" } else { "vfio-pci\n" };
        assert_eq!(shown, expected);
    }
    assert!(!mount.model().dead(), "another process goes on");
}

#[test]
fn a_mount_goes_away_with_a_panic_and_while_a_write_blocks() {
    let Some(mount) = mounted() else { return };
    mount.model().hold(GPU, 1);
    let path = mount.path().to_path_buf();
    let unbind = mount.at(&driver("nvidia/unbind"));
    let caller = thread::spawn(move || write(&unbind, GPU.as_bytes()));
    until("blocked", || mount.model().counters().blocked == 1);
    let panicked = thread::spawn(move || {
        let _mount = mount;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(caller.join().unwrap(), Err(libc::EINTR));
    assert!(!path.exists());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&path.display().to_string()));
}

#[test]
fn a_scratch_directory_can_be_written() {
    let Some(mut mount) = mounted() else { return };
    mount.scratch("/run").unwrap();
    fs::write(mount.at("/run/journal"), "x").unwrap();
    let mut text = String::new();
    File::open(mount.at("/run/journal")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
}
