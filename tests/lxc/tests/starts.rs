//! `docs/container-starts.md`, row by row: what real LXC makes of a configuration is
//! what the table says, and what the model of a start says.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fmt::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use lxcbed::Host;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pve::{Conf, ContainerStart, GiverKind, Opening, Outcome};

const PARTS: usize = 4;

fn table() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/container-starts.md")
}

struct Row {
    /// Its line in the document.
    line: usize,
    unprivileged: bool,
    lines: String,
}

fn rows(text: &str) -> Vec<Row> {
    let row = |(line, text): (usize, &str)| {
        let mut cells = text.strip_prefix("| ")?.split(" | ");
        let kind = cells.next().filter(|kind| matches!(*kind, "P" | "U"))?;
        let unticked = cells.next()?.split("<br>").map(|one| one.trim_matches('`'));
        let lines: String = unticked.map(|one| one.replace("\\t", "\t") + "\n").collect();
        Some(Row { line, unprivileged: kind == "U", lines })
    };
    text.lines().enumerate().filter_map(row).collect()
}

/// What the document says that the host has besides.
fn host() -> Host {
    let host = Host::new("pve9-two-gpus");
    let node = |path: &str, major, minor, mode| {
        let path = host.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(major, minor)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, mode).unwrap();
    };
    node("/run/gpu/nvidia0", 195, 0, 0o666);
    node("/dev/odd name", 195, 0, 0o666);
    node("/dev/a..b", 195, 0, 0o666);
    host.write("/dev/stub", "");
    std::fs::create_dir(host.at("/dev/link")).unwrap();
    symlink("/dev/nvidia0", host.at("/dev/link/nvidia0")).unwrap();
    let entry = "/dev/nvidia0 dev/nvidia0 none bind,optional,create=file";
    host.write("/run/opt/fake", "mine");
    host.write("/run/opt/fstab", format!("# a comment\n{entry} 0 0\n"));
    host.write("/run/opt/include.conf", format!("lxc.mount.entry = {entry}\n"));
    host.write("/run/opt/include.d/gpu.conf", format!("lxc.mount.entry = {entry}\n"));
    host.write("/run/opt/include.d/other", "lxc.unknown = 1\n");
    let made = "mknod \"$LXC_ROOTFS_MOUNT/dev/nvidia0\" c 195 0";
    host.script("/run/opt/hooks/mknod", &format!("{made} || exit 1\n"));
    host.script(
        "/run/opt/hooks/before",
        ": > \"$LXC_ROOTFS_MOUNT/dev/nvidia0\" # cp /dev/nvidia0 x\n",
    );
    host
}

fn text_of(row: &Row, ctid: u32) -> String {
    let head = format!(
        "arch: amd64\nhostname: ct\nostype: debian\nrootfs: local-lvm:vm-{ctid}-disk-0,size=8G\n{}",
        if row.unprivileged { "unprivileged: 1\n" } else { "" }
    );
    let lines = row.lines.replace("CTID", &ctid.to_string());
    head + &lines.replace("/opt/", "/run/opt/").replace("/srv/", "/run/")
}

/// Whether it starts, and each path with what opening it answers.
type Start = (Result<(), String>, Vec<(String, String)>);

fn said_by_model(start: &ContainerStart) -> Start {
    let mut paths: Vec<(String, String)> = Vec::new();
    for given in start.paths.iter().filter(|given| given.giver.kind != GiverKind::Hook) {
        let word = match &given.outcome {
            Outcome::Device(device) => match &device.write {
                Opening::Opens => "opens",
                Opening::DeniedByRule(_) => "EPERM",
                Opening::DeniedByMode => "EACCES",
            },
            Outcome::EmptyFile => "empty file",
            Outcome::EmptyDir | Outcome::Other => "not a device",
            Outcome::Nothing(_) => "nothing",
            Outcome::Unknown(_) => continue,
        };
        // of several lines for one path the last decides, but for one that does nothing
        let last = paths.iter_mut().find(|(path, _)| *path == given.target);
        match last {
            Some((_, old)) if word != "nothing" => *old = word.into(),
            Some(_) => {}
            None => paths.push((given.target.clone(), word.into())),
        }
    }
    (if start.starts() { Ok(()) } else { Err(String::new()) }, paths)
}

/// What the real container answers at the same paths.
fn said_by_lxc(container: &lxcbed::Container<'_>, host: &Host, paths: &[&str]) -> Start {
    // a start that fails leaves its control groups for a moment
    let groups =
        ["lxc.monitor", "lxc"].map(|dir| format!("/sys/fs/cgroup/{dir}/{}", container.ctid));
    for _ in 0..200 {
        if groups.iter().all(|dir| !host.at(dir).exists()) {
            break;
        }
        host.run(&format!("find {} -depth -type d -exec rmdir {{}} + 2>&-", groups.join(" ")));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let ran = host.pct(&format!("start {}", container.ctid));
    if ran.code() != 0 {
        let log = host.at(&format!("/var/log/lxc/{}.log", container.ctid));
        let log = std::fs::read_to_string(log).unwrap_or_default();
        return (Err(ran.stderr + &log), Vec::new());
    }
    let list: Vec<String> = paths.iter().map(|path| format!("'{path}'")).collect();
    let script = format!("for p in {}; do /sbin/probe open \"$p\"; done", list.join(" "));
    let said = container.exec(&["/bin/sh", "-c", &script]).expect(0).stdout;
    container.stop();
    let words = said.lines().map(|line| match line {
        "OK" | "ENXIO" | "ENODEV" => "opens",
        "EPERM" | "EACCES" => line,
        "ENOENT" => "nothing",
        "regular 0000" => "empty file",
        "EISDIR" => "not a device",
        line if line.starts_with("regular") => "not a device",
        other => panic!("{other}"),
    });
    (Ok(()), paths.iter().map(|path| path.to_string()).zip(words.map(str::to_string)).collect())
}

fn cells((starts, paths): &Start) -> String {
    if starts.is_err() {
        return "no | nothing".into();
    }
    let mut has = String::new();
    for (path, word) in paths {
        let separator = if has.is_empty() { "" } else { ", " };
        let _ = write!(has, "{separator}{} {word}", path.trim_start_matches("/dev/"));
    }
    let has = if has.is_empty() { "nothing" } else { &has };
    format!("yes | {has}")
}

fn part(part: usize) {
    let document = std::fs::read_to_string(table()).unwrap();
    let lines: Vec<&str> = document.lines().collect();
    let host = host();
    let mut wrong = String::new();
    let mut new = Vec::new();
    let containers = [host.create(990, false), host.create(991, true)];
    for row in rows(&document).iter().skip(part).step_by(PARTS) {
        let container = &containers[usize::from(row.unprivileged)];
        let text = text_of(row, container.ctid);
        host.write(&container.conf_path(), &text);
        let machine = host::Machine::new(Some(&host.at("/"))).unwrap();
        let model = ContainerStart::of(container.ctid, &Conf::parse(text.as_bytes()), &machine);
        let model = said_by_model(&model);
        let paths: Vec<&str> = model.1.iter().map(|(path, _)| path.as_str()).collect();
        let lxc = said_by_lxc(container, &host, &paths);
        let line = lines[row.line];
        let before = line.splitn(4, " | ").take(2).collect::<Vec<_>>().join(" | ");
        let as_it_is = format!("{before} | {} |", cells(&lxc));
        if cells(&model) != cells(&lxc) {
            let why = lxc.0.as_ref().err().map(String::as_str).unwrap_or_default();
            let _ = writeln!(wrong, "{line}\n  model: {}\n  LXC:   {}", cells(&model), cells(&lxc));
            let _ = writeln!(wrong, "  {why}");
        } else if as_it_is != line && std::env::var_os("BLESS").is_none() {
            let _ = writeln!(wrong, "{line}\n  is now {as_it_is}");
        }
        new.push((row.line, as_it_is));
    }
    if std::env::var_os("BLESS").is_some() {
        bless(new);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Parts run side by side: each writes its own rows.
fn bless(rows: Vec<(usize, String)>) {
    let lock = std::fs::File::open(table()).unwrap();
    let _lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let document = std::fs::read_to_string(table()).unwrap();
    let mut lines: Vec<String> = document.lines().map(str::to_string).collect();
    for (at, row) in rows {
        lines[at] = row;
    }
    std::fs::write(table(), lines.join("\n") + "\n").unwrap();
}

#[test]
fn the_first_part_of_the_table_is_what_lxc_does() {
    part(0);
}

#[test]
fn the_second_part_of_the_table_is_what_lxc_does() {
    part(1);
}

#[test]
fn the_third_part_of_the_table_is_what_lxc_does() {
    part(2);
}

#[test]
fn the_fourth_part_of_the_table_is_what_lxc_does() {
    part(3);
}

#[test]
fn the_table_has_more_than_a_hundred_and_twenty_rows() {
    assert!(rows(&std::fs::read_to_string(table()).unwrap()).len() > 120);
}
