//! What pmxcfs does as part of a cluster: quorum, ids that exist once, the
//! files that it makes up, errors of its database, injected faults.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{CONF, Host, LXC};
use pmxcfs::{Errors, Logged, Op};
use serde_json::{Value, json};

fn errno<T>(result: io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

/// Every way to change something, by name.
fn changes(host: &Host) -> Vec<(&'static str, i32)> {
    let conf = host.at(CONF);
    let other = host.at(&format!("{LXC}/other"));
    let options = |truncate| File::options().write(true).truncate(truncate).open(&conf);
    // libfuse 2 passes on both times or none
    let epoch = std::time::UNIX_EPOCH;
    let times = fs::FileTimes::new().set_accessed(epoch).set_modified(epoch);
    vec![
        ("create", errno(File::create_new(&other))),
        ("write", errno(options(false).and_then(|mut file| file.write_all(b"x")))),
        ("open that truncates", errno(options(true))),
        ("ftruncate", errno(options(false).and_then(|file| file.set_len(1)))),
        ("mkdir", errno(fs::create_dir(host.at("nodes/pve1/d")))),
        ("utimes", errno(File::open(&conf).and_then(|file| file.set_times(times)))),
        ("rename", errno(fs::rename(&conf, &other))),
        ("unlink", errno(fs::remove_file(host.at(&format!("{LXC}/902.conf"))))),
        ("rmdir", errno(fs::remove_dir(host.at("priv/lock")))),
    ]
}

#[test]
fn without_quorum_every_change_is_eacces_and_reading_goes_on() {
    let host = Host::new();
    let before = host.all();
    assert_eq!(fs::symlink_metadata(host.at("local")).unwrap().mode(), 0o120755);
    host.pve.quorum(false);
    assert_eq!(fs::symlink_metadata(host.at("local")).unwrap().mode(), 0o120555);
    assert_eq!(fs::metadata(host.at(CONF)).unwrap().mode(), 0o100440);
    assert_eq!(fs::metadata(host.at(LXC)).unwrap().mode(), 0o040555);
    for (what, errno) in changes(&host) {
        assert_eq!(errno, libc::EACCES, "{what}");
    }
    assert_eq!(host.all(), before);
    assert_eq!(fs::read(host.at(CONF)).unwrap(), host.pve.get(CONF).unwrap());
    assert!(fs::read_dir(host.at(LXC)).unwrap().count() >= 4);
    // root may open for writing all the same, and access(2) says that it may write
    assert!(File::options().write(true).open(host.at(CONF)).is_ok());
    let writable = nix::unistd::AccessFlags::W_OK;
    assert_eq!(nix::unistd::access(&host.at(CONF), writable), Ok(()));
    host.pve.quorum(true);
    for (what, errno) in changes(&host) {
        assert_eq!(errno, 0, "{what}");
    }
}

#[test]
fn a_loss_of_quorum_may_be_told_late() {
    let host = Host::new();
    host.pve.cache(Duration::from_secs(60));
    assert_eq!(fs::symlink_metadata(host.at("local")).unwrap().mode(), 0o120755);
    host.pve.quorum(false);
    assert_eq!(fs::symlink_metadata(host.at("local")).unwrap().mode(), 0o120755);
    assert_eq!(errno(File::create_new(host.at("new"))), libc::EACCES);
}

#[test]
fn after_a_database_error_changes_fail_and_at_worst_everything_does() {
    let host = Host::new();
    let before = host.all();
    host.pve.errors(Errors::Changes);
    for (what, errno) in changes(&host) {
        assert_eq!(errno, libc::EIO, "{what}");
    }
    assert!(fs::read(host.at(CONF)).is_ok());
    host.pve.errors(Errors::All);
    assert_eq!(errno(fs::read(host.at(CONF))), libc::EIO);
    assert_eq!(errno(fs::symlink_metadata(host.at("local"))), libc::EIO);
    assert_eq!(errno(fs::read_dir(host.at(LXC)).and_then(|mut d| d.next().unwrap())), libc::EIO);
    host.pve.errors(Errors::None);
    assert_eq!(host.all(), before);
}

#[test]
fn a_guests_id_exists_once_in_the_cluster() {
    let host = Host::new();
    host.pve.put("nodes/pve2/lxc/950.conf", "arch: amd64\n");
    host.pve.put("nodes/pve2/qemu-server/100.conf.bak", "");
    let at = |path: &str| host.at(path);
    for path in [
        "nodes/pve2/lxc/901.conf",
        "nodes/pve1/lxc/950.conf",
        "nodes/pve1/qemu-server/901.conf",
        "nodes/pve1/lxc/100.conf",
    ] {
        assert_eq!(errno(File::create_new(at(path))), libc::EEXIST, "{path}");
        host.pve.put(&format!("{LXC}/temporary"), "x");
        let renamed = fs::rename(at(&format!("{LXC}/temporary")), at(path));
        assert_eq!(errno(renamed), libc::EEXIST, "{path}");
    }
    // these are nobody's
    for path in ["nodes/pve2/lxc/0901.conf", "nodes/pve2/lxc/901.conf.tmp.1", "901.conf"] {
        assert_eq!(errno(File::create_new(at(path))), 0, "{path}");
    }
    // migration, and then the old name is taken
    fs::rename(at(CONF), at("nodes/pve2/lxc/901.conf")).unwrap();
    assert_eq!(errno(File::create_new(at(CONF))), libc::EEXIST);
    fs::remove_file(at("nodes/pve2/lxc/901.conf")).unwrap();
    assert_eq!(errno(File::create_new(at(CONF))), 0);
}

#[test]
fn reports_are_made_up_and_cannot_be_written() {
    let host = Host::new();
    let report = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(host.at(name)).unwrap()).expect(name)
    };
    let version = |list: &Value| list["version"].as_u64().unwrap();
    let list = report(".vmlist");
    assert_eq!(list["ids"]["901"], json!({"node": "pve1", "type": "lxc", "version": 3}));
    assert_eq!(list["ids"]["100"]["type"], "qemu");
    host.pve.put("nodes/pve2/lxc/950.conf", "arch: amd64\n");
    let later = report(".vmlist");
    assert_eq!(later["ids"]["950"]["node"], "pve2");
    assert!(version(&later) > version(&list));
    fs::remove_file(host.at(CONF)).unwrap();
    assert_eq!(report(".vmlist")["ids"]["901"], Value::Null);
    assert!(report(".version")["vmlist"].as_u64().unwrap() > version(&later));
    assert_eq!(report(".members")["cluster"]["quorate"], 1);
    host.pve.quorum(false);
    assert_eq!(report(".members")["cluster"]["quorate"], 0);
    host.pve.quorum(true);
    for name in [".vmlist", ".version", ".members"] {
        assert_eq!(fs::metadata(host.at(name)).unwrap().mode(), 0o100440, "{name}");
        let file = File::options().write(true).open(host.at(name));
        assert_eq!(errno(file.and_then(|mut file| file.write_all(b"x"))), libc::EIO, "{name}");
        assert_eq!(errno(fs::remove_file(host.at(name))), libc::EACCES, "{name}");
        assert_eq!(errno(fs::rename(host.at(CONF), host.at(name))), libc::ENOENT, "{name}");
        let over = fs::rename(host.at(&format!("{LXC}/902.conf")), host.at(name));
        assert_eq!(errno(over), libc::EACCES, "{name}");
    }
}

#[test]
fn injected_faults_hit_the_request_that_was_meant_and_are_logged() {
    let host = Host::new();
    let path = host.at(&format!("{LXC}/new"));
    host.pve.fail(Op::Write, libc::ENOSPC, 2);
    host.pve.fail(Op::Rename, libc::EIO, 1);
    host.pve.clear_log();
    let mut file = File::create_new(&path).unwrap();
    assert_eq!(errno(file.write_all(b"one")), 0);
    assert_eq!(errno(file.write_all(b"two")), libc::ENOSPC);
    assert_eq!(errno(file.write_all(b"three")), 0);
    assert_eq!(errno(fs::rename(&path, host.at(CONF))), libc::EIO);
    assert_eq!(errno(fs::rename(&path, host.at(CONF))), 0);
    assert_eq!(host.pve.get(CONF).unwrap(), b"onethree");
    assert_eq!(host.pve.clear_faults(), 0);
    let mut log = host.pve.log();
    log.retain(|l| l.op.changes());
    let logged = |op, errno| Logged {
        op,
        path: format!("{LXC}/new"),
        to: (op == Op::Rename).then(|| CONF.to_string()),
        errno,
        pid: log[0].pid,
    };
    let expected = [
        logged(Op::Create, 0),
        logged(Op::Write, 0),
        logged(Op::Write, libc::ENOSPC),
        logged(Op::Write, 0),
        logged(Op::Rename, libc::EIO),
        logged(Op::Rename, 0),
    ];
    assert_eq!(log, expected);
    // quorum that is lost in the middle does not come back
    host.pve.lose_quorum_at(Op::Write, 1);
    assert_eq!(errno(file.write_all(b"four")), libc::EACCES);
    assert_eq!(errno(fs::remove_file(host.at(CONF))), libc::EACCES);
}

#[test]
fn a_mount_ends_with_its_owner_even_while_it_is_in_use() {
    let mounted = |host: &Host| {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.contains(&format!(" {} ", host.pve.path().display()))
    };
    let host = Host::new();
    assert!(mounted(&host));
    let file = File::open(host.at(CONF)).unwrap();
    let Host { pve, bed } = host;
    drop(pve);
    // what was below is there again
    assert!(fs::symlink_metadata(bed.at("/etc/pve/local")).unwrap().is_symlink());
    assert!(
        !fs::read_to_string("/proc/self/mounts").unwrap().contains(bed.path().to_str().unwrap())
    );
    drop(file);
}

#[test]
fn the_program_serves_until_it_is_told_to_end() {
    assert!(pmxcfs::possible(), "these tests need root and /dev/fuse");
    let bed = testbed::Bed::new("pve9-two-gpus");
    let at = bed.at("/mnt");
    fs::create_dir(&at).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pmxcfs"))
        .args([at.as_os_str(), "pve1".as_ref(), bed.at("/etc/pve").as_os_str()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 8];
    io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
    assert_eq!(&word, b"mounted\n");
    let tell = |signal| {
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    };
    let until = |what: &dyn Fn() -> bool| {
        let there = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            what()
        });
        assert!(there);
    };
    let conf = at.join("lxc/901.conf");
    let bits = || fs::symlink_metadata(at.join("local")).map(|m| m.mode() & 0o777);
    assert_eq!(fs::read(&conf).unwrap(), fs::read(bed.at("/etc/pve/lxc/901.conf")).unwrap());
    use nix::sys::signal::Signal;
    tell(Signal::SIGUSR1);
    until(&|| bits().is_ok_and(|bits| bits == 0o555));
    tell(Signal::SIGHUP);
    until(&|| errno(fs::read(&conf)) == libc::EIO);
    tell(Signal::SIGUSR2);
    until(&|| bits().is_ok_and(|bits| bits == 0o755));
    tell(Signal::SIGTERM);
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
}
