//! The container phase as an operator runs it: `make ct-gpu`, `make drift`,
//! `make ct-remove`, on real containers with the real libraries of a driver.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;

use lxcbed::debian::{VERSION, installer, installer_that_finds_a_gpu};
use lxcbed::repository::{Signer, nvcc, package, run, sign};
use lxcbed::snapshot::{difference, tree};
use lxcbed::{Container, Host, OpenOutcome};
use testbed::pipelines::{Made, makefile};

const HOST: &str = "pve9-two-gpus";
const GPU: &str = "0000:2b:00.0";
const LIB: &str = "/usr/lib/x86_64-linux-gnu";
/// Not in the table of known installers: the site's own table vouches for it.
const NEXT: &str = "550.163.77";
/// The operator's Makefile on a host.
fn make(host: &Host, words: &str) -> Made {
    Made::of(host.run(&format!("cd / && make -f {} {words}", makefile().display())))
}

fn made(host: &Host, words: &str) -> Made {
    make(host, words).done()
}

fn ready() -> Host {
    let host = Host::new(HOST);
    host.let_nodes_answer();
    host
}

/// ldconfig of this Debian, before anything is compared with its cache.
fn settled<'a>(host: &'a Host, ctid: u32) -> Container<'a> {
    let container = host.create_debian(ctid, true);
    container.start();
    container.exec(&["/sbin/ldconfig", "-X"]).expect(0);
    container
}

/// Another driver is loaded.
fn load(host: &Host, version: &str) {
    let line = format!("NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Apr  8\n");
    fs::write(host.bed().at("/proc/driver/nvidia/version"), line).unwrap();
    for name in ["nvidia", "nvidia_uvm", "nvidia_modeset", "nvidia_drm"] {
        fs::write(host.bed().at(&format!("/sys/module/{name}/version")), format!("{version}\n"))
            .unwrap();
    }
}

/// The installer of another version, on a site's mirror and in its table.
fn publish(host: &Host, version: &str) {
    let file = installer_that_finds_a_gpu(version);
    let name = file.file_name().unwrap().to_str().unwrap();
    fs::create_dir_all(host.at("/srv/mirror")).unwrap();
    fs::copy(&file, host.at("/srv/mirror").join(name)).unwrap();
    let sum = String::from_utf8(run(std::process::Command::new("sha256sum").arg(&file))).unwrap();
    let size = fs::metadata(&file).unwrap().len();
    let row = format!("{version} x86_64 {size} {} -\n", &sum[..64]);
    host.write("/etc/pve-gpu-tools/runfiles", row);
}

/// Everything but what apt and dpkg keep for themselves.
fn files(container: &Container<'_>) -> BTreeMap<String, String> {
    let mut files = tree(&container.at("/"));
    let theirs = ["var/lib/apt", "var/cache/apt", "var/lib/dpkg", "var/log"];
    files.retain(|path, _| !theirs.iter().any(|dir| path.starts_with(dir)));
    files
}

/// CUDA's repository on the container's own loopback, and its key on the host.
fn serve_cuda(host: &Host, container: &Container<'_>) {
    let repository = container.at("/srv/cuda");
    fs::create_dir_all(&repository).unwrap();
    fs::copy("/bin/busybox", container.at("/usr/bin/busybox")).unwrap();
    let signer = Signer::new();
    signer.export(host, "/run/cuda.asc");
    let nvcc = [("usr/local/cuda-12.8/bin/nvcc", nvcc("12.8"))];
    package(&repository, "cuda-toolkit-12-8", "", &nvcc);
    sign(&repository, &signer);
    for words in [
        vec!["ip", "link", "set", "lo", "up"],
        vec!["httpd", "-p", "127.0.0.1:8080", "-h", "/srv/cuda"],
    ] {
        container.exec(&[&["/usr/bin/busybox"], &words[..]].concat()).expect(0);
    }
}

#[test]
fn a_container_gets_gpu_driver_and_cuda_and_is_as_before_after_ct_remove() {
    let host = ready();
    let container = settled(&host, 950);
    serve_cuda(&host, &container);
    let (conf, before) = (container.conf(), files(&container));
    let file = installer_that_finds_a_gpu(VERSION);
    let phase = format!(
        "ct-gpu CTID=950 GPU={GPU} RUNFILE={} CUDA=12-8 \
         CUDA_EXTRA='--repo-url http://127.0.0.1:8080 --key /run/cuda.asc'",
        file.display()
    );
    // first what it would do: everything is explained and nothing is done
    let dry = made(&host, &format!("{phase} DRY=1"));
    assert_eq!(dry.statuses(), ["planned"]);
    for property in ["dev0", "userspace", "toolkit"] {
        assert_eq!(dry.about(property)["status"], "planned");
    }
    assert_eq!((container.conf(), files(&container)), (conf.clone(), before.clone()));

    let first = made(&host, &phase);
    assert_eq!(first.statuses(), ["changed"]);
    for (property, actual) in [("libraries", VERSION), ("nvidia-smi", "runs"), ("nvcc", "12.8")] {
        let check = first.about(property);
        assert_eq!((&check["status"], &check["actual"]), (&"ok".into(), &actual.into()), "{check}");
    }
    // the kernel lets it: there is really no driver here
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
    let cache = container.exec(&["/sbin/ldconfig", "-p"]).expect(0).stdout;
    assert!(cache.contains("libcuda.so.1 (libc6,x86-64)"), "{cache}");
    let login = container.exec(&["sh", "-lc", "nvidia-smi -L && nvcc --version"]).expect(0);
    assert!(login.stdout.contains("release 12.8"), "{login:?}");

    let second = made(&host, &phase);
    assert_eq!(second.statuses(), ["unchanged"], "{:?}", second.ran);

    let gone = made(&host, "ct-remove CTID=950");
    assert_eq!(gone.statuses(), ["changed"], "{:?}", gone.ran);
    assert_eq!(container.conf(), conf);
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Missing);
    // packages are the container's own
    let mut after = files(&container);
    after.retain(|path, _| !path.starts_with("usr/local/cuda-12.8"));
    assert_eq!(difference(&before, &after), Vec::<String>::new());
    assert_eq!(made(&host, "ct-remove CTID=950").statuses(), ["unchanged"]);
}

#[test]
fn a_stopped_one_is_started_and_a_failing_step_stops_it_until_the_cause_is_gone() {
    let host = ready();
    let container = settled(&host, 950);
    container.stop();
    let phase = format!("ct-gpu CTID=950 GPU={GPU} VERSION={NEXT} MIRROR=file:///srv/mirror");
    load(&host, NEXT);
    // nothing is fetched yet: a dry run says so and goes on
    publish(&host, NEXT);
    let dry = made(&host, &format!("{phase} DRY=1"));
    assert_eq!(dry.about("running")["to"], "started");
    let reason = dry.about("userspace")["reason"].as_str().unwrap().to_string();
    assert!(reason.contains("must be fetched first"), "{reason}");
    assert!(!container.running());

    // a file of somebody else's is in the way
    fs::write(container.at("/usr/bin/nvidia-smi"), "theirs\n").unwrap();
    let stopped = make(&host, &phase);
    stopped.stopped_at("nv-runfile install --ct 950", "refused for safety");
    assert!(stopped.ran.stderr.contains("Then repeat the command"), "{:?}", stopped.ran);
    assert!(container.running(), "the steps before it are done");
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
    assert!(!stopped.ran.stdout.contains("nv-version-check --ct 950"), "none after it");
    fs::remove_file(container.at("/usr/bin/nvidia-smi")).unwrap();
    let again = made(&host, &phase);
    assert!(!again.records.iter().any(|r| r["property"] == "running"), "{:?}", again.ran);
    assert_eq!(again.about("userspace")["status"], "changed");
    assert_eq!(made(&host, &phase).statuses(), ["unchanged"]);
    // an nvidia-smi that finds no driver is no success
    let real = installer();
    load(&host, VERSION);
    let phase = format!("ct-gpu CTID=950 GPU={GPU} RUNFILE={}", real.display());
    make(&host, &phase).stopped_at("nv-runfile install --ct 950", "what was rolled back");
}

#[test]
fn drift_finds_a_driver_update_and_the_same_phase_follows_it() {
    let host = ready();
    let container = settled(&host, 950);
    let phase = |words: &str| format!("ct-gpu CTID=950 GPU={GPU} {words}");
    let file = installer_that_finds_a_gpu(VERSION);
    made(&host, &phase(&format!("RUNFILE={}", file.display())));
    let about = |made: &Made| {
        let of = made.records.iter().filter(|r| r["subject"] == "ct 950" && r["status"] != "ok");
        of.map(|r| r["cause"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(about(&make(&host, "drift")), Vec::<String>::new());
    // the host has another driver since last night
    load(&host, NEXT);
    publish(&host, NEXT);
    let drift = make(&host, "drift");
    drift.stopped_at("nv-version-check --all-cts", "run the commands in the hints above");
    assert_eq!(about(&drift), ["container-behind"], "{:?}", drift.ran);
    assert!(drift.ran.stdout.contains("lxc-gpu-conf check --all"), "the rest is looked at too");
    let update = made(&host, &phase(&format!("VERSION={NEXT} MIRROR=file:///srv/mirror")));
    let userspace = update.about("userspace");
    assert_eq!((&userspace["from"], &userspace["to"]), (&VERSION.into(), &NEXT.into()));
    assert_eq!(about(&make(&host, "drift")), Vec::<String>::new());
    let old = tree(&container.at(LIB));
    assert!(!old.keys().any(|path| path.contains(VERSION)), "of the old version");
}
