//! lxc-gpu-conf on a mounted cluster file system: what it does there, and what
//! it leaves behind when the file system refuses.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::time::Duration;

use common::{CONF, Host, LXC};
use pmxcfs::{Errors, Op};
use serde_json::json;
use testbed::{Bed, Ran};

/// A command line of the tool on the recorded host.
struct Case {
    args: &'static str,
    /// Command lines that make what it works on.
    before: &'static [&'static str],
    /// The one configuration that it changes.
    conf: Option<&'static str>,
}

/// Has a hand-made block, with a major of before.
const BY_HAND: &str = "nodes/pve1/lxc/902.conf";

/// A new verb is one line here.
const CASES: &[Case] = &[
    Case { args: "show 901", before: &[], conf: None },
    Case { args: "show 901", before: &["add 901 --gpu all"], conf: None },
    Case { args: "add 901 --gpu 0 --dry-run", before: &[], conf: None },
    Case { args: "add 901 --gpu 0", before: &[], conf: Some(CONF) },
    Case { args: "add 901 --gpu all", before: &[], conf: Some(CONF) },
    Case { args: "add 901 --gpu 1", before: &["add 901 --gpu 0"], conf: Some(CONF) },
    Case { args: "add 901 --gpu 0 --style mount", before: &[], conf: Some(CONF) },
    Case { args: "remove 901", before: &["add 901 --gpu all"], conf: Some(CONF) },
    Case { args: "remove 901 --gpu 1", before: &["add 901 --gpu all"], conf: Some(CONF) },
    Case { args: "remove 902", before: &[], conf: Some(BY_HAND) },
    Case { args: "add 902 --convert", before: &[], conf: Some(BY_HAND) },
    Case { args: "sync 902", before: &[], conf: Some(BY_HAND) },
    Case { args: "sync --all", before: &["add 901 --gpu all"], conf: Some(BY_HAND) },
    Case { args: "sync 901", before: &["add 901 --gpu all"], conf: None },
    Case { args: "nodes", before: &["add 901 --gpu all"], conf: None },
    Case { args: "hook 901 pre-start", before: &["add 901 --gpu all"], conf: None },
    Case { args: "check 901", before: &["add 901 --gpu all"], conf: None },
    Case { args: "show --all", before: &["add 901 --gpu all"], conf: None },
];

fn changing() -> impl Iterator<Item = &'static Case> {
    CASES.iter().filter(|case| case.conf.is_some())
}

impl Case {
    /// What it changes, or would if it did.
    fn conf(&self) -> &'static str {
        self.conf.unwrap_or(CONF)
    }

    fn host(&self) -> Host {
        self.host_with(|_| {})
    }

    fn host_with(&self, prepare: impl FnOnce(&Host)) -> Host {
        let host = Host::new();
        prepare(&host);
        for args in self.before {
            host.bed.tool("lxc-gpu-conf").args(args).run().expect(0);
        }
        host.pve.clear_log();
        host
    }

    fn run(&self, host: &Host) -> Ran {
        host.bed.tool("lxc-gpu-conf").args(self.args).run()
    }

    /// Fails, and the cluster's files are as they were.
    fn refused(&self, host: &Host, before: &[(String, Vec<u8>)], what: &str) -> Ran {
        let ran = self.run(host);
        let said = format!("{}, {what}: {}{}", self.args, ran.stdout, ran.stderr);
        assert_eq!(ran.code(), 3, "{said}");
        // one error; its hints and a note about a rule that was kept are other lines
        let is_error = |line: &&str| line.contains(": error: ") || line.contains(": refused: ");
        assert_eq!(ran.stderr.lines().filter(is_error).count(), 1, "{said}");
        assert!(host.all() == before, "something changed: {said}");
        ran
    }
}

trait ErrorSays {
    /// Its one error has this text; notes about other things are other lines.
    fn error_says(self, what: &str) -> Self;
}

impl ErrorSays for Ran {
    fn error_says(self, what: &str) -> Ran {
        let error = |line: &&str| line.contains(": error: ") || line.contains(": refused: ");
        let from = self.stderr.lines().skip_while(|line| !error(line)).collect::<Vec<_>>();
        assert!(from.join("\n").contains(what), "'{what}' is not in: {}", self.stderr);
        self
    }
}

/// Names beside the configurations that a writer left.
fn leftovers(host: &Host) -> Vec<String> {
    let mut names = host.pve.names(LXC);
    names.retain(|name| !name.ends_with(".conf") && !name.starts_with(".fuse_hidden"));
    names
}

#[test]
fn it_changes_the_file_by_renaming_a_new_one_over_it_and_only_once() {
    for case in changing() {
        let host = case.host();
        let before = host.conf(case.conf());
        let ran = case.run(&host).expect(0);
        assert!(ran.values("change", "status").contains(&json!("changed")), "{}", case.args);
        let after = host.conf(case.conf());
        assert_ne!(before, after, "{}", case.args);
        let mut log = host.pve.log();
        // nothing was tried that pmxcfs refuses, such as chmod
        let set = |op| op == Op::Chmod || op == Op::Chown || op == Op::OpenWrite;
        log.retain(|l| l.op.changes() || set(l.op));
        let [created, written, renamed] = &log[..] else { panic!("{}: {log:#?}", case.args) };
        assert_eq!((created.op, written.op, renamed.op), (Op::Create, Op::Write, Op::Rename));
        assert!(created.path.starts_with(&format!("{}.tmp.", case.conf())), "{}", created.path);
        assert_eq!((&written.path, &renamed.path), (&created.path, &created.path));
        assert_eq!(renamed.to.as_deref(), Some(case.conf()));
        assert!(log.iter().all(|l| l.errno == 0), "{log:#?}");
        assert_eq!(leftovers(&host), [""; 0]);

        host.pve.clear_log();
        let again = case.run(&host).expect(0);
        assert!(again.values("change", "status").iter().all(|s| s == "unchanged"), "{}", case.args);
        assert_eq!(host.conf(case.conf()), after);
        assert_eq!(host.changes_of(case.conf()), []);

        // nor did anything go to the directory that the mount hides
        let Host { pve, bed } = host;
        drop(pve);
        let untouched = Bed::new("pve9-two-gpus");
        assert_eq!(bed.read("/etc/pve/lxc/901.conf"), untouched.read("/etc/pve/lxc/901.conf"));
    }
}

#[test]
fn who_only_looks_sends_no_change_and_needs_no_quorum() {
    for case in CASES.iter().filter(|case| case.conf.is_none()) {
        let host = case.host();
        let said = case.run(&host).expect(0).stdout;
        host.pve.quorum(false);
        assert_eq!(case.run(&host).expect(0).stdout, said, "{}", case.args);
        host.pve.errors(Errors::Changes);
        assert_eq!(case.run(&host).expect(0).stdout, said, "{}", case.args);
        let log = host.pve.log();
        assert!(!log.iter().any(|l| l.op.changes() || l.op == Op::OpenWrite), "{}", case.args);
    }
}

#[test]
fn without_quorum_nothing_is_tried() {
    for case in changing() {
        let host = case.host();
        let before = host.all();
        host.pve.quorum(false);
        case.refused(&host, &before, "no quorum").error_says("the cluster has no quorum");
        assert!(!host.pve.log().iter().any(|l| l.op.changes()), "{}", case.args);
    }
}

#[test]
fn a_loss_of_quorum_that_stat_does_not_show_yet_is_told_all_the_same() {
    for case in changing() {
        let host = case.host();
        let before = host.all();
        host.pve.cache(Duration::from_secs(60));
        std::fs::symlink_metadata(host.at("local")).unwrap();
        host.pve.quorum(false);
        case.refused(&host, &before, "stale mode").error_says("no quorum");
    }
}

#[test]
fn a_file_system_that_answers_with_errors_only_is_told() {
    // the GPUs' own nodes are made all the same
    for case in CASES.iter().filter(|case| case.args != "nodes") {
        let host = case.host();
        let before = host.all();
        host.pve.errors(Errors::All);
        case.refused(&host, &before, "EIO");
        host.pve.errors(Errors::Changes);
        if case.conf.is_some() {
            case.refused(&host, &before, "EIO").error_says("input/output error");
        }
    }
}

#[test]
fn nodes_are_made_without_the_cluster_and_what_is_remembered_stays() {
    let host = Host::new();
    host.bed.tool("lxc-gpu-conf").args("add 901 --gpu all").run().expect(0);
    host.bed.drop_node("/dev/nvidia1");
    host.pve.errors(Errors::All);
    let tool = || host.bed.tool("lxc-gpu-conf");
    tool()
        .args("nodes")
        .run()
        .expect(0)
        .one_line("nodes that only containers need are not checked");
    assert!(host.bed.at("/dev/nvidia1").exists());
    tool().args("sync --all").run().expect(3);
    assert!(host.bed.at("/var/lib/pve-gpu-tools/lxc/901.json").exists());
}

#[test]
fn a_change_that_is_refused_once_leaves_the_old_file_and_no_other() {
    for case in changing() {
        for (errno, what) in [
            (libc::EACCES, "quorum"),
            (libc::EIO, "input/output error"),
            (libc::ENOSPC, "no space left"),
            (libc::EBUSY, "busy"),
            (libc::EFBIG, "too large"),
        ] {
            for op in [Op::Create, Op::Write, Op::Rename] {
                let host = case.host();
                let before = host.all();
                host.pve.fail(op, errno, 1);
                case.refused(&host, &before, &format!("{op:?} {errno}")).error_says(what);
                assert_eq!(host.pve.clear_faults(), 0, "the fault was not met");
            }
        }
    }
}

#[test]
fn quorum_that_is_lost_for_good_in_the_middle_leaves_what_the_next_run_removes() {
    for case in changing() {
        for op in [Op::Create, Op::Write, Op::Rename] {
            let host = case.host();
            let before = host.conf(case.conf());
            host.pve.lose_quorum_at(op, 1);
            let ran = case.run(&host).expect(3).error_says("quorum");
            assert!(ran.records.iter().all(|r| r["status"] != "changed"), "{op:?}");
            assert_eq!(host.conf(case.conf()), before, "{} {op:?}", case.args);
            // nobody can remove it now
            assert_eq!(leftovers(&host).len(), usize::from(op != Op::Create), "{op:?}");
            host.pve.quorum(true);
            case.run(&host).expect(0);
            assert_ne!(host.conf(case.conf()), before, "{} {op:?}", case.args);
            assert_eq!(leftovers(&host), [""; 0], "{op:?}");
        }
    }
}

#[test]
fn space_that_runs_out_at_any_write_leaves_the_old_file() {
    let note = format!("#{}\n", "note ".repeat(20));
    for case in changing() {
        let large = |host: &Host| {
            let text = note.repeat(3000) + &host.conf(case.conf());
            assert!(text.len() > 256 << 10);
            host.pve.put(case.conf(), text);
        };
        let host = case.host_with(large);
        case.run(&host).expect(0);
        let writes = host.pve.log().iter().filter(|l| l.op == Op::Write).count();
        assert!(writes >= 3, "{writes}");
        for errno in [libc::ENOSPC, libc::EACCES] {
            for nth in 1..=writes {
                let host = case.host_with(large);
                let before = host.all();
                host.pve.fail_from(Op::Write, errno, nth);
                case.refused(&host, &before, &format!("write {nth}"));
            }
        }
        // a write that comes back short is only gone on with
        let host = case.host_with(large);
        host.pve.fail(Op::Write, libc::ENOSPC, 2);
        case.run(&host).expect(0);
        assert_eq!(host.pve.clear_faults(), 0, "the fault was not met");
    }
}

#[test]
fn a_configuration_that_would_grow_beyond_what_pmxcfs_takes_is_not_written() {
    for case in
        changing().filter(|case| case.args.starts_with("add 901 ") && case.before.is_empty())
    {
        let host = case.host_with(|host| {
            let text = host.conf(case.conf());
            let fill = (1 << 20) - text.len() - 20;
            host.pve.put(case.conf(), format!("#{}\n{text}", "x".repeat(fill)));
        });
        let before = host.all();
        case.run(&host).expect(4).error_says("1 MiB");
        assert!(host.all() == before, "{}", case.args);
        assert!(!host.pve.log().iter().any(|l| l.op.changes()), "{}", case.args);
    }
}

/// pmxcfs answers so to whoever looked a file up before it was replaced; see the
/// contract's `a_file_that_is_replaced_between_lookup_and_open_is_not_found`.
#[test]
fn a_configuration_that_seems_gone_while_it_is_replaced_is_found_all_the_same() {
    for case in CASES {
        let host = case.host();
        case.run(&host).expect(0);
        let log = host.pve.log();
        let first = |op| {
            let mut all = log.iter().filter(|l| l.op == op);
            all.position(|l| l.path == case.conf()).expect("it is asked for") + 1
        };
        for op in [Op::Lookup, Op::OpenRead] {
            let host = case.host();
            host.pve.fail(op, libc::ENOENT, first(op));
            case.run(&host).expect(0);
            assert_eq!(host.pve.clear_faults(), 0, "the fault was not met");
        }
    }
}

/// Every single request of a run fails once: the file is the old one or the new
/// one, the exit says which, and the message why.
#[test]
fn any_request_that_fails_leaves_the_old_file_or_the_new_one() {
    for case in changing() {
        let host = case.host();
        let before = host.all();
        case.run(&host).expect(0);
        let after = host.conf(case.conf());
        let log = host.pve.log();
        let mut ops: Vec<Op> = log.iter().map(|l| l.op).filter(|op| *op != Op::Release).collect();
        ops.sort();
        ops.dedup();
        let (mut old, mut new) = (0, 0);
        for op in ops {
            for nth in 1..=log.iter().filter(|l| l.op == op).count() {
                for (path, bytes) in &before {
                    host.pve.put(path, bytes);
                }
                host.pve.fail(op, libc::EIO, nth);
                let ran = case.run(&host);
                host.pve.clear_faults();
                let said = format!("{} {op:?} {nth}: {}{}", case.args, ran.stdout, ran.stderr);
                match ran.code() {
                    // not everything that is asked for is needed
                    0 => {
                        assert_eq!(host.conf(case.conf()), after, "{said}");
                        new += 1;
                    }
                    // one that cannot be read does not keep the others from being changed
                    3 if case.args.contains("--all") && host.conf(case.conf()) == after => new += 1,
                    3 => {
                        assert!(host.all() == before, "{said}");
                        assert!(ran.stderr.contains("input/output error"), "{said}");
                        old += 1;
                    }
                    _ => panic!("{said}"),
                }
                assert_eq!(leftovers(&host), [""; 0], "{said}");
            }
        }
        assert!(old > 20 && new > 5, "{}: {old} old, {new} new", case.args);
    }
}
