//! `watch` on the mounted model kernel: a file that changes, hardware that does,
//! signals.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Host, vf};
use modelkernel::Fault;
use testbed::Bed;
use testbed::bed::program;

/// Generous: these machines are shared.
const SOON: Duration = Duration::from_secs(20);

struct Watching {
    child: Child,
    log: PathBuf,
    bed: Bed,
}

impl Watching {
    fn start(host: &Host, text: &str, args: &[&str]) -> Watching {
        let bed = Bed::empty();
        bed.write("/profiles/profiles", text);
        let log = bed.at("/log");
        let child = Command::new(program("vgpu-profile-set"))
            .arg("--root")
            .arg(host.mounted.path())
            .arg("watch")
            .arg(bed.at("/profiles/profiles"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(fs::File::create(bed.at("/out")).unwrap())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Watching { child, log, bed }
    }

    fn file(&self) -> PathBuf {
        self.bed.at("/profiles/profiles")
    }

    /// As editors and configuration management do it.
    fn replace(&self, text: &str) {
        let new = self.bed.at("/profiles/.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn until(&self, what: &str, test: impl Fn() -> bool) {
        let start = Instant::now();
        while !test() {
            assert!(start.elapsed() < SOON, "not soon: {what}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM; gives how long it took to end.
    fn end(&mut self) -> Duration {
        let start = Instant::now();
        // SAFETY: kill(2) with integers; the child has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said());
        start.elapsed()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_reboot_is_repaired_and_a_new_file_is_heard_at_once() {
    let host = Host::new();
    let health = Bed::empty();
    let path = health.at("/health").display().to_string();
    let first = "41:00.4=L40S-24Q\n41:00.5=L40S-24Q\n";
    let watching = Watching::start(&host, first, &["--interval", "2", "--health-file", &path]);
    watching.until("the first apply", || host.set()[..3] == [1155, 1155, 0]);
    host.model.vgpu_reboot();
    watching.until("the repair", || host.set()[..3] == [1155, 1155, 0]);
    let healthy = || host.tool(&format!("check --health-file {path}")).run().code() == 0;
    watching.until("healthy", healthy);

    // a long interval, so that only the file can have been heard
    drop(watching);
    let mut watching = Watching::start(&host, first, &["--interval", "3600"]);
    watching.until("a look", || watching.said().contains("all profiles are set as requested"));
    watching.replace("41:00.4=L40S-12Q\n41:00.5=none\n");
    watching.until("the new file", || host.set()[..3] == [1153, 0, 0]);
    fs::write(watching.file(), "41:00.4=L40S-8Q\n").unwrap();
    watching.until("the file written in place", || host.set()[..3] == [1152, 0, 0]);
    // an invalid file is reported, and the content before it stays in force
    watching.replace("41:00.4\n");
    watching.until("the complaint", || watching.said().contains("is not ADDRESS=PROFILE"));
    assert_eq!(host.set()[..3], [1152, 0, 0]);
    watching.replace("41:00.4=L40S-8Q\n");
    watching.until("the end of it", || watching.said().contains("solved: "));
    let took = watching.end();
    assert!(took < Duration::from_secs(1), "{took:?} after SIGTERM");
    let out = fs::read_to_string(watching.bed.at("/out")).unwrap();
    assert!(
        out.lines().map(testbed::schema::check_line).all(|change| change["status"] == "changed")
    );
}

#[test]
fn kubernetes_swap_of_a_link_is_heard() {
    let host = Host::new();
    let bed = Bed::empty();
    let version = |n: u32, text: &str| {
        bed.write(&format!("/volume/..{n}/profiles"), text);
        let new = bed.at("/volume/..data_tmp");
        std::os::unix::fs::symlink(format!("..{n}"), &new).unwrap();
        fs::rename(new, bed.at("/volume/..data")).unwrap();
    };
    version(1, "41:00.4=L40S-24Q\n");
    bed.link("/volume/profiles", "..data/profiles");
    let mut child = Command::new(program("vgpu-profile-set"))
        .arg("--root")
        .arg(host.mounted.path())
        .args(["-q", "watch", "--interval", "3600"])
        .arg(bed.at("/volume/profiles"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let wait = |id: u32| {
        let start = Instant::now();
        while host.model.vgpu_of(&vf(0)) != id && start.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(10));
        }
        host.model.vgpu_of(&vf(0))
    };
    let first = wait(1155);
    version(2, "41:00.4=L40S-12Q\n");
    let second = wait(1153);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((first, second), (1155, 1153));
}

#[test]
fn a_vm_keeps_what_it_holds_and_is_mentioned_once() {
    let host = Host::new();
    host.run("apply -q", "41:00.4=L40S-12Q\n", 0);
    host.model.hold(&vf(0), 1);
    host.model.add_process(4242, "kvm", &["/dev/vfio/devices/vfio0"]);
    let text = "41:00.4=L40S-12A\n41:00.5=L40S-12A\n";
    let mut watching = Watching::start(&host, text, &["--interval", "1"]);
    watching.until("the other one", || host.set()[..2] == [1153, 1163]);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(host.set()[..2], [1153, 1163]);
    let said = watching.said();
    assert_eq!(said.matches("in use by process 4242 (kvm): skipped").count(), 1, "{said}");
    // the VM ends
    host.model.release_holders(&vf(0));
    host.model.remove_process(4242);
    watching.until("its turn", || host.set()[..2] == [1163, 1163]);
    watching.until("the end of it", || watching.said().contains("solved: 0000:41:00.4 is in use"));
    watching.end();
}

#[test]
fn a_driver_that_refuses_is_told_once_and_asked_again() {
    let host = Host::new();
    host.model.reset_counters();
    for nth in 1..=3 {
        host.model.inject(Fault::Errno(nth, libc::EIO));
    }
    let mut watching = Watching::start(&host, "41:00.4=L40S-24Q\n", &["--interval", "1"]);
    watching.until("the fourth attempt", || host.set()[0] == 1155);
    watching.until("the end of it", || watching.said().contains("solved: "));
    let said = watching.said();
    assert_eq!(said.matches("warning: 0000:41:00.4: ").count(), 1, "{said}");
    assert_eq!(said.matches("0x38").count(), 2, "once as it began, once as it ended: {said}");
    watching.end();
}

/// As the loader's users report it: one virtual function answers EIO from now on.
#[test]
fn a_function_that_is_always_refused_takes_nothing_from_another_and_pauses_grow() {
    let host = Host::new();
    host.model.reset_counters();
    for nth in 2..=60 {
        host.model.inject(Fault::Errno(nth, libc::EIO));
    }
    let text = "41:00.4=L40S-24Q\n41:00.5=L40S-24Q\n";
    let mut watching = Watching::start(&host, text, &["--interval", "1"]);
    watching.until("the good one", || host.set()[0] == 1155);
    std::thread::sleep(Duration::from_millis(6500));
    assert_eq!(host.set()[..2], [1155, 0]);
    let log = host.model.counters().log;
    assert!(log[1..].iter().all(|(path, _)| path.contains(&vf(1))), "{log:?}");
    assert!((3..=5).contains(&log.len()), "the good one, then three attempts: {log:?}");
    let said = watching.said();
    assert_eq!(said.matches("warning: 0000:41:00.5: ").count(), 1, "{said}");
    host.model.clear_faults();
    watching.until("its turn", || host.set()[..2] == [1155, 1155]);
    watching.until("the end of it", || watching.said().contains("solved: 0000:41:00.5"));
    watching.end();
}

/// `--heterogeneous` in the container image, where there is no nvidia-smi.
#[test]
fn a_right_profile_is_not_cleared_for_a_mode_that_cannot_be_turned_on() {
    let host = Host::new();
    host.run("apply -q", "41:00.4=L40S-24Q\n", 0);
    host.model.reset_counters();
    let text = "41:00.4=L40S-24Q\n41:00.5=L40S-12Q\n";
    let mut watching = Watching::start(&host, text, &["--interval", "1", "--heterogeneous"]);
    watching.until("the reason", || watching.said().contains("nvidia-smi does not show"));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((host.model.counters().writes, host.set()[0]), (0, 1155));
    watching.end();
}

/// One ConfigMap for two nodes.
#[test]
fn lines_of_another_node_are_skipped() {
    let host = Host::new();
    let health = Bed::empty();
    let path = health.at("/health").display().to_string();
    let text = "c1:00.4=A40-24Q\n41:00.4=L40S-24Q\n";
    let args = ["--interval", "3600", "--health-file", &path];
    let mut watching = Watching::start(&host, text, &args);
    watching.until("its own line", || host.set()[0] == 1155);
    let healthy = || host.tool(&format!("check --health-file {path}")).run().code() == 0;
    watching.until("healthy", healthy);
    let said = watching.said();
    assert!(said.contains("virtual function at 0000:c1:00.4: skipped"), "{said}");
    watching.end();
    // a file that is meant for this host has no other node's lines
    host.tool("plan").input(text).run().expect(2);
}

#[test]
fn two_hundred_edits_and_two_hundred_resets_end_in_what_is_asked() {
    let host = Host::new();
    let mut watching = Watching::start(&host, "41:00.4=L40S-24Q\n", &["--interval", "1"]);
    watching.until("the first apply", || host.set()[0] == 1155);
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let (mut edits, mut resets) = (0, 0);
    while edits < 200 || resets < 200 {
        if resets == 200 || edits < 200 && random(2) == 0 {
            edits += 1;
            let size = ["4Q", "6A", "12Q", "24Q", "nonsense"][random(5) as usize];
            let text: String = (0..1 + random(2))
                .map(|at| {
                    format!("{}=L40S-{size}\n", vf((at + random(4)) as usize + 2 * at as usize))
                })
                .collect();
            watching.replace(&text);
        } else {
            resets += 1;
            let path =
                format!("/sys/bus/pci/devices/{}/nvidia/current_vgpu_type", vf(random(8) as usize));
            let _ = host.model.write(&path, b"0");
        }
        std::thread::sleep(Duration::from_millis(random(12)));
    }
    let all: String = (0..32)
        .map(|at| format!("{}={}\n", vf(at), if at < 3 { "L40S-16Q" } else { "none" }))
        .collect();
    watching.replace(&all);
    let mut wanted = vec![1154, 1154, 1154];
    wanted.resize(32, 0);
    watching.until("the last file", || host.set() == wanted);
    // a problem of the last reset or edit may be reported a round later
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(host.set(), wanted);
    let said = watching.said();
    // the same trouble twice without its end between would be a line too many
    let mut open = std::collections::BTreeSet::new();
    for line in said.lines() {
        if let Some(text) = line.split_once(": warning: ").map(|(_, text)| text) {
            assert!(open.insert(text.to_string()), "said twice: {text}");
        } else if let Some(text) = line.split_once(": solved: ").map(|(_, text)| text) {
            assert!(open.remove(text), "solved, and never printed before: {text}");
        }
    }
    let took = watching.end();
    assert!(took < Duration::from_secs(1), "{took:?} after SIGTERM");
}

#[test]
fn sigterm_at_any_time_leaves_no_half_state() {
    let text: String = (0..12).map(|at| format!("{}=L40S-4Q\n", vf(at))).collect();
    for round in 0..30u64 {
        let host = Host::new();
        let mut watching = Watching::start(&host, &text, &["--interval", "3600"]);
        std::thread::sleep(Duration::from_millis(5 + round * 7));
        // SAFETY: kill(2) with integers; the child has not been waited for.
        unsafe { libc::kill(watching.child.id() as i32, libc::SIGTERM) };
        watching.child.wait().unwrap();
        let set = host.set().iter().filter(|id| **id != 0).count();
        assert!(
            set == 0 || set == 12,
            "{set} of 12 after {} ms\n{}",
            5 + round * 7,
            watching.said()
        );
    }
}

#[test]
fn a_service_manager_is_told() {
    let host = Host::new();
    let bed = Bed::empty();
    let socket = bed.at("/notify");
    let heard = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    heard.set_read_timeout(Some(SOON)).unwrap();
    bed.write("/profiles", "41:00.4=L40S-24Q\n41:00.5=L40S-12Q\n");
    let mut child = Command::new(program("vgpu-profile-set"))
        .arg("--root")
        .arg(host.mounted.path())
        .args(["-q", "watch"])
        .arg(bed.at("/profiles"))
        .env("NOTIFY_SOCKET", &socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut message = [0u8; 4096];
    let mut hear = || {
        let n = heard.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..n]).into_owned()
    };
    let first = hear();
    assert!(
        first.starts_with("READY=1\nSTATUS=0000:41:00.0: ")
            && first.contains("one framebuffer size"),
        "{first}"
    );
    bed.write("/profiles", "41:00.4=L40S-24Q\n");
    while hear() != "STATUS=all profiles are set as requested" {}
    // SAFETY: kill(2) with integers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    while hear() != "STOPPING=1" {}
    assert!(child.wait().unwrap().success());
    assert!(Path::new(&socket).exists());
}

/// The loop that is usually copied: one line after the other, by ids, and on with the next
/// where one is refused.
const LOADER: &str = "while IFS== read -r function id; do \
     file=\"$1/sys/bus/pci/devices/$function/nvidia/current_vgpu_type\"; \
     [ -w \"$file\" ] || continue; \
     [ \"$(cat \"$file\")\" = \"$id\" ] || { printf %s \"$id\" >\"$file\"; } 2>/dev/null || :; \
     done <\"$2\"";

/// The same host twice, on which one virtual function answers EIO: at no time does the
/// loader have more profiles set.
#[test]
fn the_usual_loader_sets_no_more_than_watch_on_a_failing_host() {
    let failing = || {
        let host = Host::new();
        host.model.vgpu_refuse(&vf(1), Some(libc::EIO));
        host
    };
    let (ours, theirs) = (failing(), failing());
    let bed = Bed::empty();
    let profiles = "0000:41:00.4=1153\n0000:41:00.5=1153\n0000:41:00.6=1153\n0000:ff:00.4=1153\n";
    bed.write("/profiles", profiles);
    let mut watching = Watching::start(&ours, profiles, &["--interval", "1"]);
    let all_but_one = [1153, 0, 1153, 0];
    watching.until("the first round", || ours.set()[..4] == all_but_one);
    for round in 0..6 {
        let ran = Command::new("sh")
            .args(["-c", LOADER, "loader"])
            .arg(theirs.mounted.path())
            .arg(bed.at("/profiles"))
            .status()
            .unwrap();
        assert!(ran.success());
        let right = |host: &Host| host.set()[..3].iter().filter(|id| **id == 1153).count();
        assert!(right(&ours) >= right(&theirs), "round {round}: {}", watching.said());
        assert_eq!(ours.set()[..4], all_but_one, "round {round}");
        if round == 2 {
            // a reboot
            ours.model.vgpu_reboot();
            theirs.model.vgpu_reboot();
            watching.until("the repair", || ours.set()[..4] == all_but_one);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    watching.end();
}

/// 120 rounds, which are two hours with the usual interval: a function that always answers
/// EIO, one that goes and comes, and a file that is edited wrongly and back.
#[test]
fn in_two_hours_no_right_profile_is_taken_and_each_failure_is_said_once() {
    let host = Host::new();
    host.model.vgpu_refuse(&vf(1), Some(libc::EIO));
    host.model.reset_counters();
    let text = "41:00.4=L40S-12Q\n41:00.5=L40S-12Q\n41:00.6=L40S-12Q\n";
    let mut watching = Watching::start(&host, text, &["--interval", "1"]);
    watching.until("the first round", || host.set()[..3] == [1153, 0, 1153]);
    let start = Instant::now();
    let (mut wrong, mut gone) = (false, false);
    while start.elapsed() < Duration::from_secs(120) {
        let second = start.elapsed().as_secs();
        if second == 20 && !wrong {
            wrong = true;
            watching.replace("41:00.4=L40S-12Q\n41:00.5\n");
            watching.until("the complaint", || watching.said().contains("is not ADDRESS=PROFILE"));
            watching.replace(text);
        }
        if second == 40 && !gone {
            gone = true;
            let driver = "/sys/bus/pci/drivers/nvidia";
            host.model.write(&format!("{driver}/unbind"), vf(2).as_bytes()).unwrap();
            watching.until("its end", || watching.said().contains("is not bound to a driver"));
            std::thread::sleep(Duration::from_secs(5));
            host.model.write(&format!("{driver}/bind"), vf(2).as_bytes()).unwrap();
            watching.until("its return", || host.set()[2] == 1153);
        }
        assert_eq!(host.set()[0], 1153, "after {second} s: {}", watching.said());
        std::thread::sleep(Duration::from_millis(250));
    }
    let log = host.model.counters().log;
    let to = |n: usize| log.iter().filter(|(path, _)| path.contains(&vf(n))).count();
    // attempts after 0, 1, 3, 7, 15, 31 and 63 rounds; the function that came back, twice
    let counts = (to(0), to(1), to(2));
    assert!(counts.0 == 1 && (6..=9).contains(&counts.1) && counts.2 <= 4, "{counts:?}: {log:?}");
    let said = watching.said();
    for once in ["warning: 0000:41:00.5: ", "is not ADDRESS=PROFILE", "is not bound to a driver"] {
        let times = said.lines().filter(|line| line.contains(once) && !line.contains("solved: "));
        assert_eq!(times.count(), 1, "{once}: {said}");
    }
    assert_eq!(said.matches("solved: ").count(), 2, "{said}");
    watching.end();
}
