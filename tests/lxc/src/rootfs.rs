//! A root file system that is one busybox.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use testbed::bed::scratch;

/// Where the static program is in the container that looks at nodes.
pub const PROBE: &str = "/sbin/probe";

/// Ends on the signals that LXC asks a container to end with.
pub(crate) const INIT: &str = "#!/bin/sh\n\
    trap 'exit 0' PWR TERM INT USR1 USR2\n\
    while :; do sleep 3600 & wait $!; done\n";

/// Makes it at `dir`, owned by what the container's root is on the host.
pub fn make(dir: &Path, owner: u32) {
    for sub in ["bin", "sbin", "dev", "etc", "proc", "sys", "tmp", "root", "run", "usr/bin"] {
        fs::create_dir_all(dir.join(sub)).expect(sub);
    }
    let busybox = Path::new("/bin/busybox");
    let program = fs::read(busybox).expect("/bin/busybox (package busybox-static)");
    let dynamic = program.windows(9).any(|bytes| bytes == b"/ld-linux");
    assert!(!dynamic, "/bin/busybox needs a C library: install busybox-static instead of busybox");
    let list = Command::new(busybox).arg("--list").output().expect("busybox --list");
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|a| *a != "busybox") {
        symlink("busybox", dir.join("bin").join(applet)).expect(applet);
    }
    let put = |path: &str, bytes: &[u8], mode: u32| {
        let path = dir.join(path.trim_start_matches('/'));
        fs::write(&path, bytes).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    put("/bin/busybox", &program, 0o755);
    put("/sbin/init", INIT.as_bytes(), 0o755);
    put(PROBE, probe(), 0o755);
    put("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644);
    put("/etc/group", b"root:x:0:\ntty:x:5:\nvideo:x:44:\n", 0o644);
    for entry in walkdir::WalkDir::new(dir) {
        lchown(entry.expect("walk").path(), Some(owner), Some(owner)).expect("chown");
    }
}

/// The program, compiled once.
pub(crate) fn probe() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| compiled("probe", include_str!("probe.c"), &["-static"]))
}

/// See [`crate::Host::let_nodes_answer`].
pub(crate) fn answer() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| compiled("answer", include_str!("answer.c"), &["-shared", "-fPIC"]))
}

fn compiled(name: &str, text: &str, how: &[&str]) -> Vec<u8> {
    let dir: PathBuf = scratch().join(format!("lxcbed-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("temporary directory");
    let (source, program) = (dir.join("source.c"), dir.join(name));
    fs::write(&source, text).expect("source");
    let status = Command::new("cc")
        .args(["-D_GNU_SOURCE", "-Wall", "-Werror", "-O1", "-o"])
        .args([&program, &source])
        .args(how)
        .status();
    assert!(status.expect("cc (package gcc)").success(), "cc {name}");
    let bytes = fs::read(&program).expect(name);
    let _ = fs::remove_dir_all(&dir);
    bytes
}
