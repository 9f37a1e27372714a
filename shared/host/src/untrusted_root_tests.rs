use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::Attributes;

fn tree(name: &str) -> (PathBuf, Machine) {
    let dir = std::env::temp_dir().join(format!("host-placing-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(dir.join("root/usr/lib")).unwrap();
    std::fs::create_dir_all(dir.join("outside")).unwrap();
    std::fs::write(dir.join("outside/file"), "untouched\n").unwrap();
    let host = Machine::new(None).unwrap();
    let machine = host.container_root(dir.join("root").to_str().unwrap()).unwrap();
    (dir, machine)
}

fn own() -> Owner {
    (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
}

#[test]
fn files_links_and_directories_have_the_owner_and_mode_asked_for() {
    let (dir, machine) = tree("owner");
    let owner = if nix::unistd::geteuid().is_root() { (100_000, 100_001) } else { own() };
    assert!(machine.make_dir_as("/usr/lib/new", 0o750, owner).unwrap());
    assert!(!machine.make_dir_as("/usr/lib/new", 0o755, owner).unwrap());
    let mut file = machine.new_file("/usr/lib/new/file").unwrap();
    file.write(b"text").unwrap();
    file.finish(Attributes { owner: Some(owner), mode: 0o755, mtime: Some(7) }).unwrap();
    machine.new_link("/usr/lib/new/link", "file", owner).unwrap();
    machine.put_as("/usr/lib/new/json", b"{}", 0o644, owner).unwrap();
    machine.put_as("/usr/lib/new/json", b"[]", 0o644, owner).unwrap();
    for (name, mode) in [("", 0o750), ("file", 0o755), ("json", 0o644)] {
        let meta = std::fs::symlink_metadata(dir.join("root/usr/lib/new").join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (owner.0, owner.1, mode));
    }
    let link = std::fs::symlink_metadata(dir.join("root/usr/lib/new/link")).unwrap();
    assert_eq!((link.uid(), link.gid()), owner);
    assert_eq!(std::fs::read(dir.join("root/usr/lib/new/json")).unwrap(), b"[]");
    let mut text = String::new();
    machine.open_file("/usr/lib/new/file").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "text");
    machine.rename_beside("/usr/lib/new/file", "other").unwrap();
    assert!(!machine.remove_empty_dir("/usr/lib/new").unwrap());
    for name in ["other", "link", "json"] {
        machine.remove(&format!("/usr/lib/new/{name}")).unwrap();
    }
    assert!(machine.remove_empty_dir("/usr/lib/new").unwrap());
    assert!(machine.remove_empty_dir("/usr/lib/new").unwrap());
    machine.sync_file_system("/").unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn nothing_is_written_behind_a_link_or_over_what_is_there() {
    let (dir, machine) = tree("hostile");
    let root = dir.join("root");
    symlink(dir.join("outside"), root.join("usr/out")).unwrap();
    symlink("/proc/self/root", root.join("usr/magic")).unwrap();
    symlink(dir.join("outside/file"), root.join("usr/lib/file")).unwrap();
    nix::unistd::mkfifo(&root.join("usr/lib/fifo"), Mode::from_bits_truncate(0o644)).unwrap();
    for path in ["/usr/out/x", "/usr/magic/tmp/x", "/usr/lib/file", "/usr/lib/fifo"] {
        assert!(machine.new_file(path).is_err(), "{path}");
        assert!(machine.new_link(path, "x", own()).is_err(), "{path}");
        assert!(machine.make_dir_as(path, 0o755, own()).is_err(), "{path}");
        assert!(machine.open_file(path).is_err(), "{path}");
    }
    // an absolute link is one within the root
    symlink("/usr/lib", root.join("usr/lib64")).unwrap();
    machine.new_file("/usr/lib64/made").unwrap();
    assert!(root.join("usr/lib/made").exists());
    machine.put_as("/usr/lib/file", b"ours", 0o644, own()).unwrap();
    assert!(!std::fs::symlink_metadata(root.join("usr/lib/file")).unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(dir.join("outside/file")).unwrap(), "untouched\n");
    assert_eq!(std::fs::read_dir(dir.join("outside")).unwrap().count(), 1);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_mount_point_is_not_crossed_where_that_is_asked_for() {
    let host = Machine::new(None).unwrap();
    let root = host.container_root("/").unwrap();
    assert!(root.exists("/proc/self/status") || root.exists("/proc/version"));
    let root = root.on_one_mount();
    assert!(root.exists("/etc"));
    let error = root.stat("/proc/version").unwrap_err();
    assert_eq!(error.errno(), libc::EXDEV);
}
