//! `nv-runfile toolkit`: a signed apt repository on the container's loopback, a
//! real apt that installs from it, and a CUDA .run.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use lxcbed::repository::{Signer, nvcc, package, run, sign};
use lxcbed::snapshot::{difference, tree};
use lxcbed::{Container, Host};
use testbed::{Bed, Ran};

const HOST: &str = "pve9-two-gpus";
/// Inside the container, served at [`URL`].
const SERVED: &str = "/srv/cuda";
const URL: &str = "http://127.0.0.1:8080";
const KEY: &str = "/etc/apt/keyrings/pve-gpu-tools-cuda.gpg";
const SOURCES: &str = "/etc/apt/sources.list.d/pve-gpu-tools-cuda.sources";
const PIN: &str = "/etc/apt/preferences.d/pve-gpu-tools-cuda.pref";
const PROFILE: &str = "/etc/profile.d/cuda.sh";
const RECORD: &str = "/var/lib/pve-gpu-tools/nv-runfile-toolkit.json";
const FILES: [&str; 5] = [KEY, SOURCES, PIN, PROFILE, RECORD];

/// A container with a repository that a web server in it serves.
struct Lab<'a> {
    host: &'a Host,
    container: Container<'a>,
    repository: PathBuf,
    signer: Signer,
}

impl<'a> Lab<'a> {
    /// Makes files the container's own: its root wrote them.
    fn own(&self, paths: &[&std::path::PathBuf]) {
        for path in paths {
            std::os::unix::fs::lchown(path, Some(100_000), Some(100_000)).unwrap();
        }
    }

    fn new(host: &'a Host, unprivileged: bool) -> Lab<'a> {
        let container = host.create_debian(950, unprivileged);
        let repository = container.at(SERVED);
        fs::create_dir_all(&repository).unwrap();
        fs::copy("/bin/busybox", container.at("/usr/bin/busybox")).unwrap();
        let lab = Lab { host, container, repository, signer: Signer::new() };
        lab.signer.export(host, "/run/cuda.asc");
        package(
            &lab.repository,
            "cuda-toolkit-12-8",
            "cuda-nvcc-12-8",
            &[("usr/share/cuda-12-8", String::new())],
        );
        package(
            &lab.repository,
            "cuda-nvcc-12-8",
            "",
            &[("usr/local/cuda-12.8/bin/nvcc", nvcc("12.8"))],
        );
        package(&lab.repository, "libcuda1", "", &[("usr/lib/evil", String::new())]);
        package(&lab.repository, "cuda-toolkit-12-6", "libcuda1", &[]);
        package(
            &lab.repository,
            "cuda-toolkit-12-5",
            "",
            &[("DEBIAN/preinst", "#!/bin/sh\necho no >&2\nexit 1\n".into())],
        );
        package(
            &lab.repository,
            "cuda-toolkit-12-3",
            "",
            &[("DEBIAN/preinst", "#!/bin/sh\ntouch /root/begun\nsleep 4\nexit 1\n".into())],
        );
        package(
            &lab.repository,
            "cuda-toolkit-12-4",
            "",
            &[("usr/local/cuda-12.4/bin/nvcc", nvcc("12.3"))],
        );
        sign(&lab.repository, &lab.signer);
        lab.start();
        lab
    }

    fn start(&self) {
        self.container.start();
        let busybox = |words: &[&str]| {
            self.container.exec(&[&["/usr/bin/busybox"], words].concat()).expect(0);
        };
        busybox(&["ip", "link", "set", "lo", "up"]);
        busybox(&["httpd", "-p", "127.0.0.1:8080", "-h", SERVED]);
    }

    fn toolkit(&self, words: &str) -> Ran {
        self.host.tool("nv-runfile").args("toolkit --ct 950").args(words).run()
    }

    fn served(&self, words: &str) -> Ran {
        self.toolkit(&format!("--repo-url {URL} --key /run/cuda.asc {words}"))
    }

    fn has_no_file(&self) {
        for path in FILES {
            assert!(!self.container.at(path).exists(), "{path}");
        }
    }

    /// Everything but what apt and dpkg keep for themselves.
    fn files(&self) -> BTreeMap<String, String> {
        let mut files = tree(&self.container.at("/"));
        files.retain(|path, _| {
            !["var/lib/apt", "var/cache/apt", "var/lib/dpkg", "var/log"]
                .iter()
                .any(|theirs| path.starts_with(theirs))
        });
        files
    }
}

fn statuses(ran: &Ran) -> Vec<&str> {
    let changes = ran.records.iter().filter(|record| record["type"] == "change");
    let mut all: Vec<&str> = changes.map(|record| record["status"].as_str().unwrap()).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn a_real_apt_installs_it_from_a_signed_repository() {
    for unprivileged in [true, false] {
        let host = Host::new(HOST);
        let lab = Lab::new(&host, unprivileged);
        let before = lab.files();
        let ran = lab.served("--cuda 12-8 --dry-run").expect(0);
        assert_eq!(statuses(&ran), ["planned"], "{ran:?}");
        lab.served("--cuda 12-8 --check").expect(1);
        assert_eq!(difference(&before, &lab.files()), Vec::<String>::new());

        let ran = lab.served("--cuda 12-8").expect(0);
        assert_eq!(statuses(&ran), ["changed"], "{ran:?}");
        let nvcc = ran.one("check", "property", "nvcc");
        assert_eq!((&nvcc["status"], &nvcc["actual"]), (&"ok".into(), &"12.8".into()));
        // the driver of this host is older than the toolkit's
        assert!(ran.stderr.contains("550.163.01 is older than 570.26"), "{}", ran.stderr);
        let login = lab.container.exec(&["sh", "-lc", "nvcc --version; echo $CUDA_HOME"]).expect(0);
        assert!(login.stdout.contains("release 12.8"), "{login:?}");
        assert!(login.stdout.ends_with("/usr/local/cuda-12.8\n"), "{login:?}");
        for path in FILES {
            let stat = lab.container.stat(path).unwrap();
            assert_eq!((stat.kind, stat.mode & 0o7777, stat.uid), ('-', 0o644, 0), "{path}");
        }
        let policy = lab.container.exec(&["apt-cache", "policy", "libcuda1"]).expect(0).stdout;
        assert!(policy.contains("Candidate: (none)"), "the driver must not come: {policy}");

        let ran = lab.served("--cuda 12.8").expect(0);
        assert_eq!(statuses(&ran), ["unchanged"], "{ran:?}");
        lab.served("--cuda 12.8 --check").expect(0);

        lab.toolkit("--remove --check").expect(1);
        assert_eq!(statuses(&lab.toolkit("--remove").expect(0)), ["changed"]);
        lab.has_no_file();
        assert!(lab.container.at("/usr/local/cuda-12.8/bin/nvcc").exists(), "packages stay");
        assert_eq!(statuses(&lab.toolkit("--remove").expect(0)), ["unchanged"]);
        lab.toolkit("--remove --check").expect(0);
    }
}

#[test]
fn what_fails_is_undone() {
    let host = Host::new(HOST);
    let lab = Lab::new(&host, true);
    let before = lab.files();
    let unchanged = |what: &str| {
        assert_eq!(difference(&before, &lab.files()), Vec::<String>::new(), "{what}");
        lab.has_no_file();
    };

    let other = Signer::new();
    other.export(&host, "/run/other.asc");
    let ran = lab.toolkit(&format!("--cuda 12-8 --repo-url {URL} --key /run/other.asc")).expect(3);
    assert!(ran.stderr.contains("is not signed"), "{}", ran.stderr);
    assert_eq!(statuses(&ran), ["rolled-back"]);
    unchanged("another key");

    let ran = lab.served("--cuda 12-1").expect(3);
    assert!(ran.stderr.contains("Unable to locate package cuda-toolkit-12-1"), "{}", ran.stderr);
    unchanged("no such package");

    // its package wants the driver, which the pin keeps away
    let ran = lab.served("--cuda 12-6").expect(3);
    assert!(ran.stderr.contains("apt-get install cuda-toolkit-12-6"), "{}", ran.stderr);
    unchanged("a driver as a dependency");

    let ran = lab.served("--cuda 12-5").expect(3);
    assert!(ran.stderr.contains("apt-get install cuda-toolkit-12-5"), "{}", ran.stderr);
    unchanged("a package that does not install");

    let deb = lab.repository.join("cuda-nvcc-12-8.deb");
    let bytes = fs::read(&deb).unwrap();
    let mut other = bytes.clone();
    other[100] ^= 1;
    fs::write(&deb, other).unwrap();
    let ran = lab.served("--cuda 12-8").expect(3);
    assert!(ran.stderr.contains("Hash Sum mismatch") || ran.stderr.contains("Failed to fetch"));
    fs::write(&deb, bytes).unwrap();
    unchanged("a package that is not the signed one");

    let url = "http://127.0.0.1:1";
    lab.toolkit(&format!("--cuda 12-8 --repo-url {url} --key /run/cuda.asc")).expect(3);
    unchanged("no server");

    // an nvcc of another release is told, with what was installed in place
    let ran = lab.served("--cuda 12-4").expect(3);
    assert_eq!(ran.one("check", "property", "nvcc")["status"], "drift");
    lab.toolkit("--remove").expect(0);
    lab.has_no_file();
}

#[test]
fn the_drivers_packages_do_not_come_even_where_the_pin_does_not_hold() {
    let host = Host::new(HOST);
    let lab = Lab::new(&host, true);
    // a mirror that signs with a key of its own may have another label
    let release = fs::read_to_string(lab.repository.join("Release")).unwrap();
    fs::write(lab.repository.join("Release"), release.replace("NVIDIA CUDA", "Mirror")).unwrap();
    let path = |name: &str| lab.repository.join(name).display().to_string();
    lab.signer.gpg(&["--clearsign", "--output", &path("InRelease"), &path("Release")]);
    let before = lab.files();
    let ran = lab.served("--cuda 12-6").expect(4);
    assert!(ran.stderr.contains("would install libcuda1"), "{}", ran.stderr);
    assert_eq!(difference(&before, &lab.files()), Vec::<String>::new());
}

#[test]
fn a_key_from_the_repository_is_held_against_its_fingerprint() {
    let host = Host::new(HOST);
    let lab = Lab::new(&host, true);
    let before = lab.files();
    host.write("/run/repo/3bf863cc.pub", lab.signer.gpg(&["--armor", "--export"]));
    let ran = lab.toolkit("--cuda 12-8 --repo-url file:/run/repo").expect(4);
    assert!(ran.stderr.contains("not EB693B3035CD5710E231E123A4B469963BF863CC"), "{}", ran.stderr);
    host.write("/run/repo/3bf863cc.pub", "<html>sign in first</html>");
    lab.toolkit("--cuda 12-8 --repo-url file:/run/repo").expect(3);
    lab.toolkit("--cuda 12-8 --repo-url file:/run/none").expect(3);
    host.write("/run/no.asc", "no key");
    lab.toolkit(&format!("--cuda 12-8 --repo-url {URL} --key /run/no.asc")).expect(2);
    lab.toolkit(&format!("--cuda 12-8 --repo-url {URL} --key /run/none.asc")).expect(2);
    lab.toolkit("--cuda 12-8 --repo-url ftp://x/ --key /run/cuda.asc").expect(2);
    assert_eq!(difference(&before, &lab.files()), Vec::<String>::new());
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_touched() {
    let host = Host::new(HOST);
    let lab = Lab::new(&host, true);
    let before = lab.files();
    let ran = lab.served("--cuda 13-0").expect(4);
    assert!(ran.stderr.contains("programs of CUDA 13.0 need 580 or newer"), "{}", ran.stderr);
    assert_eq!(statuses(&ran), ["refused"]);

    let release = lab.container.at("/usr/lib/os-release");
    let text = fs::read_to_string(&release).unwrap();
    fs::write(&release, "ID=alpine\nVERSION_ID=3.20\n").unwrap();
    let ran = lab.served("--cuda 12-8").expect(4);
    assert!(ran.stderr.contains("(alpine 3.20)"), "{}", ran.stderr);
    fs::write(&release, text).unwrap();

    let other = lab.container.at("/etc/apt/sources.list.d/cuda-debian12-x86_64.list");
    let line = "deb https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/ /\n";
    fs::write(&other, line).unwrap();
    let ran = lab.served("--cuda 12-8").expect(4);
    assert!(ran.stderr.contains("cuda-debian12-x86_64.list"), "{}", ran.stderr);
    fs::remove_file(&other).unwrap();

    let profile = lab.container.at(PROFILE);
    fs::write(&profile, "mine\n").unwrap();
    let ran = lab.served("--cuda 12-8").expect(4);
    assert!(
        ran.stderr.contains("'/etc/profile.d/cuda.sh' is not written by this tool"),
        "{}",
        ran.stderr
    );
    fs::remove_file(&profile).unwrap();
    assert_eq!(difference(&before, &lab.files()), Vec::<String>::new());

    lab.container.stop();
    let ran = lab.served("--cuda 12-8").expect(4);
    assert!(ran.stderr.contains("pct start 950"), "{}", ran.stderr);
    for bad in ["", "--cuda 12", "--cuda 12-8 --remove", "--runfile /x --key /y", "--cuda 12.8.1"] {
        lab.toolkit(bad).expect(2);
    }
}

#[test]
fn a_hostile_container_leads_nowhere() {
    let host = Host::new(HOST);
    let lab = Lab::new(&host, true);
    host.write("/run/outside", "precious\n");
    let profile = lab.container.at(PROFILE);
    symlink("/run/outside", &profile).unwrap();
    lab.served("--cuda 12-8").expect(4);
    lab.served("--cuda 12-8 --force").expect(0);
    assert!(!fs::symlink_metadata(&profile).unwrap().is_symlink(), "the link was replaced");
    lab.toolkit("--remove").expect(0);

    let dir = lab.container.at("/var/lib/pve-gpu-tools");
    symlink("/run", &dir).unwrap();
    // its links are the container's matter, within the container
    lab.served("--cuda 12-8").expect(0);
    assert!(!host.at("/run/nv-runfile-toolkit.json").exists());
    assert!(lab.container.at("/run/nv-runfile-toolkit.json").exists());
    lab.toolkit("--remove").expect(0);
    fs::remove_file(&dir).unwrap();

    fs::create_dir(&dir).unwrap();
    let record = lab.container.at(RECORD);
    for path in ["/etc/hostname", "/../../run/outside"] {
        let entry = format!(r#"{{"path":"{path}","kind":"link","target":"x"}}"#);
        let text = format!(r#"{{"format":1,"release":"; rm -rf /","entries":[{entry}]}}"#);
        fs::write(&record, text).unwrap();
        lab.own(&[&dir, &record]);
        let hostname = fs::read(lab.container.at("/etc/hostname")).unwrap();
        lab.toolkit("--remove --force").expect(0);
        assert_eq!(fs::read(lab.container.at("/etc/hostname")).unwrap(), hostname);
        fs::create_dir_all(&dir).unwrap();
    }
    fs::write(&record, "{").unwrap();
    lab.own(&[&dir, &record]);
    lab.toolkit("--remove").expect(4);
    fs::remove_file(&record).unwrap();
    run(Command::new("mkfifo").arg(&record));
    lab.toolkit("--remove").expect(3);
    assert_eq!(host.read("/run/outside"), "precious\n");
}

/// Sends a signal to a run whose apt is in the middle of an installation.
fn interrupt(lab: &Lab<'_>, signal: &str) -> Ran {
    lab.host.run(&format!(
        "nv-runfile toolkit --ct 950 --cuda 12-3 --repo-url {URL} --key /run/cuda.asc & run=$!
         tries=0
         while ! pct exec 950 -- test -e /root/begun; do
             tries=$((tries + 1)); [ $tries -lt 200 ] || exit 99; sleep 0.1
         done
         kill -{signal} $run; wait $run; code=$?
         while pct exec 950 -- /usr/bin/busybox pidof apt-get >/dev/null; do sleep 0.1; done
         pct exec 950 -- rm /root/begun
         exit $code"
    ))
}

#[test]
fn a_run_that_is_ended_leaves_nothing_that_the_next_does_not_know() {
    let host = Host::new(HOST);
    let lab = Lab::new(&host, true);
    let before = lab.files();
    let ran = interrupt(&lab, "TERM");
    assert_eq!(ran.code(), 3, "{ran:?}");
    assert!(ran.stderr.contains("interrupted"), "{ran:?}");
    assert_eq!(difference(&before, &lab.files()), Vec::<String>::new());

    let ran = interrupt(&lab, "KILL");
    assert_eq!(ran.code(), 137, "{ran:?}");
    assert!(lab.container.at(SOURCES).exists(), "it was in the middle");
    lab.toolkit("--remove").expect(0);
    assert_eq!(difference(&before, &lab.files()), Vec::<String>::new());
    interrupt(&lab, "KILL");
    lab.served("--cuda 12-8").expect(0);
    lab.toolkit("--remove").expect(0);
    lab.has_no_file();
}

/// A stand-in for NVIDIA's installer in a makeself archive of its name. It
/// records how it was called.
fn cuda_run(host: &Host, body: &str) -> String {
    let bed = Bed::empty();
    bed.write("tree/cuda-installer", format!("#!/bin/sh\necho \"$@\" >/root/arguments\n{body}"));
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bed.at("tree/cuda-installer"), mode).unwrap();
    let file = bed.at("cuda.run");
    run(Command::new("makeself")
        .args(["--gzip", "--quiet"])
        .arg(bed.at("tree"))
        .arg(&file)
        .args(["CUDA Toolkit", "./cuda-installer"]));
    let path = "/run/cuda_12.8.0_570.86.10_linux.run";
    // NVIDIA's stub hands on what it does not know itself
    let mut bytes = fs::read(file).unwrap();
    let refusal = b"\techo Unrecognized flag : \"$1\" >&2\n\tMS_Help\n\texit 1\n";
    let at = bytes.windows(refusal.len()).position(|window| window == refusal).unwrap();
    bytes.splice(at..at + refusal.len(), *b"\tbreak\n\t:\n\t:\n");
    host.write(path, bytes);
    path.into()
}

#[test]
fn a_runfile_installs_its_toolkit_and_no_driver() {
    let host = Host::new(HOST);
    let lab = Lab::new(&host, true);
    let install = format!(
        "mkdir -p /usr/local/cuda-12.8/bin\ncat >/usr/local/cuda-12.8/bin/nvcc <<'X'\n{}X\n\
         chmod 755 /usr/local/cuda-12.8/bin/nvcc\n",
        nvcc("12.8")
    );
    let file = cuda_run(&host, "echo '[ERROR]: no room' >/var/log/cuda-installer.log\nexit 1\n");
    let before = lab.files();
    let ran = lab.toolkit(&format!("--runfile {file}")).expect(3);
    assert!(ran.stderr.contains("[ERROR]: no room"), "{}", ran.stderr);
    let arguments = lab.container.at("/root/arguments");
    assert_eq!(fs::read_to_string(&arguments).unwrap(), "--silent --toolkit --override\n");
    fs::remove_file(&arguments).unwrap();
    assert_eq!(difference(&before, &lab.files()), Vec::<String>::new());

    let file = cuda_run(&host, &install);
    lab.toolkit(&format!("--runfile {file} --cuda 12-6")).expect(2);
    lab.toolkit(&format!("--runfile {file} --sha256 {}", "0".repeat(64))).expect(4);
    assert!(!arguments.exists());
    let ran = lab.toolkit(&format!("--runfile {file}")).expect(0);
    assert_eq!(ran.one("check", "property", "nvcc")["status"], "ok");
    assert_eq!(fs::read_to_string(&arguments).unwrap(), "--silent --toolkit --override\n");
    assert!(!lab.container.at("/var/tmp/nv-runfile-cuda.run").exists());
    let ran = lab.toolkit(&format!("--runfile {file}")).expect(0);
    assert_eq!(statuses(&ran), ["unchanged"]);
    lab.toolkit("--remove").expect(0);
    lab.has_no_file();
}

#[test]
fn a_real_dnf_installs_it_from_signed_packages() {
    let host = Host::new(HOST);
    let container = host.create_dnf(950);
    container.start();
    host.write("/run/cuda.asc", fs::read(container.at("/srv/cuda/key.asc")).unwrap());
    Signer::new().export(&host, "/run/other.asc");
    let toolkit = |words: &str| {
        let repository = "toolkit --ct 950 --repo-url file:/srv/cuda";
        host.tool("nv-runfile").args(repository).args(words).run()
    };
    let files = [
        "/etc/yum.repos.d/pve-gpu-tools-cuda.repo",
        "/etc/pki/rpm-gpg/RPM-GPG-KEY-pve-gpu-tools-cuda",
        PROFILE,
        RECORD,
    ];
    let there = |wanted: bool| {
        files.iter().for_each(|path| assert_eq!(container.at(path).exists(), wanted, "{path}"));
    };
    let nvcc = container.at("/usr/local/cuda-12.8/bin/nvcc");
    // rpm keeps a key that it has taken: the right one comes last
    let ran = toolkit("--key /run/other.asc --cuda 12-8").expect(3);
    assert!(ran.stderr.contains("dnf install cuda-toolkit-12-8"), "{}", ran.stderr);
    there(false);
    assert!(!nvcc.exists());
    let ran = toolkit("--key /run/cuda.asc --cuda 12-6").expect(3);
    assert!(ran.stderr.contains("dnf install cuda-toolkit-12-6"), "{}", ran.stderr);
    assert!(!container.exec(&["rpm", "-q", "libcuda1"]).stdout.contains("noarch"));
    there(false);
    let ran = toolkit("--key /run/cuda.asc --cuda 12-8").expect(0);
    assert_eq!(ran.one("check", "property", "nvcc")["status"], "ok");
    there(true);
    assert_eq!(statuses(&toolkit("--key /run/cuda.asc --cuda 12-8").expect(0)), ["unchanged"]);
    host.tool("nv-runfile").args("toolkit --ct 950 --remove").run().expect(0);
    there(false);
    assert!(nvcc.exists(), "packages stay");
}
