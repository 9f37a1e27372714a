//! `make support-bundle`: nothing that is somebody's own is in it, it says what
//! is in it, and whoever gets it sees with the tools what they saw on the host.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;
use std::process::Command;

use testbed::bed::program;
use testbed::tree::Tree;
use testbed::{Bed, Ran, Tool};

/// The recorded host with things that nobody wants to send.
const SECRETS: &[&str] = &[
    "acmehost",
    "bank-of-acme",
    "9f8e7d6c-1234-4abc-8def-0123456789ab",
    "SN0042ACME",
    "de:ad:be:ef:00:01",
    "203.0.113.77",
    "2001:db8:dead::77",
    "carol@acme.example",
    "hunter2",
    "ssh-ed25519",
    "/tank/acme-customers",
    "acme-nas",
    "before-acme-upgrade",
    "acmetag",
    "acme-note",
];

fn planted() -> Bed {
    let bed = Bed::new("pve9-two-gpus");
    // another name of the node, as it is in pmxcfs
    let nodes = bed.at("/etc/pve/nodes");
    fs::rename(nodes.join("pve1"), nodes.join("acmehost")).unwrap();
    for link in ["local", "lxc", "qemu-server"] {
        let path = bed.at(&format!("/etc/pve/{link}"));
        let Ok(target) = fs::read_link(&path) else { continue };
        fs::remove_file(&path).unwrap();
        let target = target.to_str().unwrap().replace("pve1", "acmehost");
        std::os::unix::fs::symlink(target, path).unwrap();
    }
    let list = bed.read("/etc/pve/.vmlist").replace("pve1", "acmehost");
    bed.write("/etc/pve/.vmlist", list);
    bed.write("/etc/hostname", "acmehost\n");
    let conf = "/etc/pve/lxc/901.conf";
    let text = bed.read(conf);
    let own = "\
        #acme-note: ask carol@acme.example\n\
        hostname: bank-of-acme\n\
        description: acme-note\n\
        tags: acmetag\n\
        mp0: acme-nas:subvol-901-disk-1,mp=/tank/acme-customers\n\
        mp1: /tank/acme-customers/two,mp=/tank/acme-customers/three\n\
        rootfs: acme-nas:subvol-901-disk-0,size=32G\n\
        dev1: /dev/nvidia0,mode=0666\n\
        lxc.mount.entry: /tank/acme-customers tank/acme-customers none bind\n\
        lxc.environment: PASSWORD=hunter2\n\
        lxc.hook.pre-start: /tank/acme-customers/hook\n\
        nameserver: 203.0.113.77\n\
        net0: name=eth0,bridge=acmetag,hwaddr=de:ad:be:ef:00:01,ip=203.0.113.77/24,ip6=2001:db8:dead::77/64\n\
        sshkeys: ssh-ed25519 AAAA carol@acme.example\n\
        cipassword: hunter2\n\
        unprivileged: 1\n\
        \n\
        [before-acme-upgrade]\n\
        #acme-note\n\
        hostname: bank-of-acme\n\
        parent: before-acme-upgrade\n";
    assert!(!text.is_empty());
    bed.write(conf, own);
    let info = bed.read("/proc/driver/nvidia/gpus/0000:2b:00.0/information");
    bed.write(
        "/proc/driver/nvidia/gpus/0000:2b:00.0/information",
        format!("{info}Serial Number: \t SN0042ACME\n"),
    );
    let cmdline = bed.read("/proc/cmdline");
    bed.write(
        "/proc/cmdline",
        format!(
            "{} root=UUID=9f8e7d6c-1234-4abc-8def-0123456789ab ip=203.0.113.77::acmehost \
             fetch.token=hunter2 bootif=de:ad:be:ef:00:01\n",
            cmdline.trim()
        ),
    );
    bed.write(
        "/etc/modprobe.d/acme.conf",
        "# acme-note of carol@acme.example, 203.0.113.77\noptions foo password=hunter2\n",
    );
    bed.write(
        "/var/log/kern.log",
        "Linux version 6.14.11-4-pve (build@proxmox)\n\
         Nov  1 acmehost kernel: NVRM: GPU at PCI:0000:2b:00: \
         GPU-9f8e7d6c-1234-4abc-8def-0123456789ab\n\
         Nov  1 acmehost kernel: NVRM: GPU Board Serial Number: SN0042ACME\n\
         Nov  1 acmehost kernel: NVRM: Xid (PCI:0000:2b:00): 79, pid=4242, name=bank-of-acme, \
         GPU has fallen off the bus.\n\
         Nov  1 acmehost kernel: vfio-pci: login of carol@acme.example from 203.0.113.77\n\
         Nov  1 acmehost kernel: nvidia: a line with fe80::1 and 2001:db8:dead::77 and \
         /tank/acme-customers\n\
         Nov  1 acmehost sshd: acme-note, which is no line of the kernel's\n",
    );
    let ids = "/usr/share/misc/pci.ids";
    if !bed.at(ids).exists() {
        let common = testbed::machine::machines_dir().join("common/pci.ids");
        bed.write(ids, fs::read(common).unwrap());
    }
    bed
}

fn bundle(root: &Path, to: &Path) -> Ran {
    let made = testbed::pipelines::make(root, &format!("support-bundle OUT={}", to.display()));
    made.done().ran
}

/// Every file of the archive with its text.
fn unpacked(file: &Path) -> (Bed, Vec<(String, String)>) {
    let bed = Bed::empty();
    let mut tar = Command::new("tar");
    let status = tar.arg("-xzf").arg(file).arg("-C").arg(bed.path()).status();
    assert!(status.unwrap().success());
    let top = bed.at("/pve-gpu-support");
    let files = walkdir::WalkDir::new(&top).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file()).map(|entry| {
        let name = entry.path().strip_prefix(&top).unwrap().to_str().unwrap().to_string();
        (name, String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned())
    });
    let files = files.collect();
    (bed, files)
}

#[test]
fn nothing_planted_comes_out_and_the_tools_say_the_same_on_it() {
    let host = planted();
    let out = Bed::empty();
    let file = out.at("/bundle.tar.gz");
    let before = host.contents();
    let ran = bundle(host.path(), &file);
    assert_eq!(host.contents(), before, "it changes nothing");
    let (_bed, files) = unpacked(&file);
    let text = |name: &str| {
        let found = files.iter().find(|(file, _)| file == name);
        &found.unwrap_or_else(|| panic!("no {name}: {:?}", ran.stderr)).1
    };
    for (name, content) in &files {
        for secret in SECRETS {
            let at = content.find(secret).map(|at| {
                let start = content[..at].rfind('\n').map_or(0, |at| at + 1);
                content[start..].lines().next().unwrap_or_default().chars().take(400).collect()
            });
            assert_eq!(at, None::<String>, "{secret} in {name}");
        }
    }
    // it is not scrubbed of what it is for
    let log = text("kernel.log");
    assert!(log.contains("79, pid=4242") && log.contains("fallen off the bus"), "{log}");
    assert!(!log.contains("sshd"), "{log}");
    assert!(text("machine.tree").contains("dev1: /dev/nvidia0,mode=0666"));

    // the manifest names each file, what was replaced, and how each reader ended
    let manifest = text("MANIFEST");
    for (name, _) in &files {
        assert!(name == "MANIFEST" || manifest.contains(name.as_str()), "{name}: {manifest}");
    }
    for words in ["MAC addresses", "guest names and secrets", "functions: exit 0", "versions: exit"]
    {
        assert!(manifest.contains(words), "{words}: {manifest}");
    }

    // a maintainer
    let there = Bed::of(&Tree::parse(text("machine.tree")).unwrap());
    for (name, tool, args) in [
        ("functions", "gpu-iommu-groups", "--all"),
        ("groups", "gpu-iommu-groups", "--groups"),
        ("drivers", "gpu-vfio-bind", "status"),
        ("containers", "lxc-gpu-conf", "show --all"),
        ("profiles", "vgpu-profile-set", "list"),
    ] {
        let again = there.tool(tool).args(args).args("-o jsonl").run();
        let told = files.iter().find(|(file, _)| *file == format!("records/{name}.jsonl"));
        let told = told.map_or("", |(_, text)| text.as_str());
        // the lines that frame a list: a test's run does not keep all of them
        let framed = |line: &&str| !line.contains("\"type\":\"stream\"");
        let told: Vec<&str> = told.lines().filter(framed).collect();
        let again: Vec<&str> = again.stdout.lines().filter(framed).collect();
        assert_eq!(again, told, "{name}");
        if name != "profiles" {
            assert!(!told.is_empty(), "{name}");
        }
    }
}

#[test]
fn readers_that_fail_are_written_down_and_stop_nothing() {
    // no cluster file system, no GPU, no driver
    let bed = Bed::empty();
    bed.write("/proc/sys/kernel/osrelease", "6.1.0-35-amd64\n");
    let out = Bed::empty();
    let file = out.at("/bundle.tar.gz");
    bundle(bed.path(), &file);
    let (_bed, files) = unpacked(&file);
    let manifest = &files.iter().find(|(name, _)| name == "MANIFEST").unwrap().1;
    let failed = manifest.lines().filter(|line| {
        let code = line.split(": exit ").nth(1).and_then(|rest| rest.split(':').next());
        code.is_some_and(|code| !["0", "1"].contains(&code))
    });
    assert!(failed.count() > 0, "{manifest}");
    assert!(files.iter().any(|(name, _)| name.ends_with(".stderr")), "{files:?}");
}

#[test]
fn a_dry_run_writes_nothing_and_bad_words_are_refused() {
    let bed = Bed::empty();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/pipelines/support-bundle");
    let run = |args: &str| Tool::through(&["sh".as_ref()], &script).args(args).text().run();
    let root = bed.path().display();
    let file = bed.at("/x.tar.gz");
    let ran = run(&format!("--dry-run --root {root} --output {}", file.display())).expect(0);
    assert!(ran.stdout.contains("machine.tree") && !file.exists(), "{ran:?}");
    for args in ["--outptu x", "--root", &format!("--root {root}/not-there")] {
        run(args).expect(2);
    }
    // the tools of this build are what the others find
    assert!(program("gpu-iommu-groups").exists());
}
