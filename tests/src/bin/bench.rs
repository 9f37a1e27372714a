//! `make bench`: ratios against what a user would run instead, both timed in
//! the same run, interleaved. Times mean little on a shared machine; ratios of
//! medians mean more. Never a test.

#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "bench/runfile.rs"]
mod runfile;

use anyhow::{Context, Result, ensure};
use testbed::Bed;
use testbed::tree::Tree;

/// Runs of each command; the first of each is not counted.
const RUNS: usize = 11;

fn main() -> Result<()> {
    let usage = "usage: bench DIR-OF-RELEASE-BINARIES [lister|containers|roots|runfile]";
    let tools = std::env::args().nth(1).context(usage)?;
    let tools = PathBuf::from(tools);
    let part = std::env::args().nth(2);
    ensure!(
        matches!(part.as_deref(), None | Some("lister" | "containers" | "roots" | "runfile")),
        usage
    );
    println!("machine: {}", machine());
    println!("median of all runs but the first, interleaved; ratio = theirs / ours");
    println!(
        "{:<34} {:<38} {:>10} {:>10} {:>8}  spread",
        "where", "against", "ours", "theirs", "ratio"
    );
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wanted("lister") {
        lister(&tools)?;
    }
    if wanted("containers") {
        containers(&tools)?;
    }
    if wanted("roots") {
        root_file_systems(&tools)?;
    }
    if wanted("runfile") {
        runfile::run(&tools)?;
    }
    Ok(())
}

/// gpu-iommu-groups against lspci, and what starting a tool costs.
fn lister(tools: &Path) -> Result<()> {
    let mut large = Tree::default();
    testbed::generate::large(500).build(&mut large);
    // what a real host has beside its functions
    for name in ["pci.ids", "modules.alias"] {
        let real = Path::new("/usr/share/misc").join(name);
        let common = testbed::machine::machines_dir().join("common").join(name);
        let from = if real.exists() { real } else { common };
        let to = match name {
            "pci.ids" => "/usr/share/misc/pci.ids",
            _ => "/lib/modules/6.14.11-4-pve/modules.alias",
        };
        large.file(to, std::fs::read(from)?);
    }
    let large = Bed::of(&large);
    for (name, root, sysfs) in [
        ("this machine", None, "/sys".to_string()),
        ("500 functions, generated", Some(large.path()), large.at("/sys").display().to_string()),
    ] {
        let functions = std::fs::read_dir(format!("{sysfs}/bus/pci/devices"))?.count();
        let name = format!("{name} ({functions})");
        let ours = || {
            let mut command = Command::new(tools.join("gpu-iommu-groups"));
            command.args(["--all", "-q"]);
            if let Some(root) = root {
                command.arg("--root").arg(root);
            }
            command
        };
        let lspci = || {
            let mut command = Command::new("lspci");
            command.args([
                "-A",
                "linux-sysfs",
                "-O",
                &format!("sysfs.path={sysfs}/bus/pci"),
                "-Dnnk",
            ]);
            command
        };
        report(&name, "lspci -Dnnk", RUNS, &ours, &lspci)?;
        let groups = std::fs::read_dir(format!("{sysfs}/kernel/iommu_groups"))
            .map(|dir| dir.count())
            .unwrap_or(0);
        let (pattern, what) = if groups > 0 {
            ("kernel/iommu_groups/*/devices/*", "loop: lspci -nns per group member")
        } else {
            ("bus/pci/devices/*", "loop: lspci -nns per function")
        };
        let script = format!(
            "for g in {sysfs}/{pattern}; do echo \"IOMMU Group $(basename $(dirname $(dirname $g))): \
             $(lspci -A linux-sysfs -O sysfs.path={sysfs}/bus/pci -nns ${{g##*/}})\"; done"
        );
        let shell = || {
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            command
        };
        report(&name, what, if functions > 100 { 4 } else { RUNS }, &ours, &shell)?;
    }
    for tool in [
        "gpu-iommu-groups",
        "gpu-vfio-bind",
        "lxc-gpu-conf",
        "nv-runfile",
        "nv-version-check",
        "vgpu-profile-set",
    ] {
        let size = std::fs::metadata(tools.join(tool))?.len();
        let start = times(RUNS, &|| {
            let mut command = Command::new(tools.join(tool));
            command.arg("--version");
            command
        })?;
        println!("{tool}: {} KiB, --version in {:.2} ms", size / 1024, ms(median(start)));
    }
    Ok(())
}

/// 1,000 containers on a tmpfs root: one in ten with a GPU, as on a large host,
/// and all of them with one. The floor is grep over the same files.
fn containers(tools: &Path) -> Result<()> {
    const COUNT: u32 = 1000;
    for (what, every) in [("one in ten with a GPU", 10), ("each with a GPU", 1)] {
        let bed = Bed::new("pve9-two-gpus");
        let plain = bed.read("/etc/pve/lxc/904.conf");
        // 902 would be drift: what is timed exits with 0
        bed.remove("/etc/pve/lxc/902.conf");
        let given = "dev0: /dev/nvidia0,mode=0666\ndev1: /dev/nvidiactl,mode=0666\n\
                     dev2: /dev/nvidia-uvm,mode=0666\ndev3: /dev/nvidia-uvm-tools,mode=0666\n";
        for n in 0..COUNT {
            let with = if n % every == 0 { given } else { "" };
            bed.write(&format!("/etc/pve/lxc/{}.conf", 10_000 + n), format!("{plain}{with}"));
        }
        let ours = || {
            let mut command = Command::new(tools.join("lxc-gpu-conf"));
            command.arg("--root").arg(bed.path()).args(["check", "--all"]);
            command
        };
        let dir = bed.at("/etc/pve/lxc").display().to_string();
        let grep = || {
            let mut command = Command::new("grep");
            command.args(["-rl", "nvidia", &format!("{dir}/")]);
            command
        };
        report(&format!("{COUNT} containers, {what}"), "check --all: grep -rl", 21, &ours, &grep)?;
        let took = median(times(21, &ours)?);
        println!("    {:.4} ms a container", ms(took) / f64::from(COUNT));
    }
    let bed = Bed::new("pve9-two-gpus");
    bed.tool("lxc-gpu-conf").args("add 901 --gpu all").run().expect(0);
    let hook = || {
        let mut command = Command::new(tools.join("lxc-gpu-conf"));
        // what has no output has a table of nothing
        command.arg("--root").arg(bed.path()).args(["hook", "901", "pre-start"]);
        command
    };
    let mut runs = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        let status = hook().stdin(Stdio::null()).status()?;
        runs.push(start.elapsed());
        ensure!(status.success(), "hook failed");
    }
    println!("lxc-gpu-conf hook 901 pre-start: {:.2} ms", ms(median(runs)));
    Ok(())
}

/// 300 root file systems with Debian's own libraries of the driver among a
/// thousand others, against what a person would run in each of them.
fn root_file_systems(tools: &Path) -> Result<()> {
    const COUNT: usize = 300;
    let bed = Bed::empty();
    let roots = testbed::driver::many(bed.path(), COUNT);
    let ours = || {
        let mut command = Command::new(tools.join("nv-version-check"));
        for root in &roots {
            command.arg("--rootfs").arg(root);
        }
        command
    };
    let all = format!("for r in {}/*/", bed.path().display());
    let script = |each: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{all}; do {each}; done")]);
        command
    };
    let name = format!("{COUNT} root file systems");
    let find = || {
        script(
            "find $r/usr/lib $r/usr/lib64 -name 'libcuda.so.*' -o -name 'libnvidia-ml.so.*' \
             2>/dev/null | grep -oE '[0-9]+\\.[0-9.]+$' | sort -u",
        )
    };
    report(&name, "loop: find | grep", 6, &ours, &find)?;
    let run = || script("chroot $r /bin/which-nvml");
    report(&name, "loop: chroot, load NVML, ask", 6, &ours, &run)?;
    let took = median(times(6, &ours)?);
    println!("    {:.2} ms a root file system", ms(took) / COUNT as f64);
    ensure!(took < Duration::from_secs(3), "the goal is 3 s for {COUNT}");
    Ok(())
}

fn report(
    place: &str,
    against: &str,
    runs: usize,
    ours: &dyn Fn() -> Command,
    theirs: &dyn Fn() -> Command,
) -> Result<()> {
    report_each(place, against, runs, &mut || time(ours()), &mut || time(theirs()))
}

/// The same for what is more than one command.
fn report_each(
    place: &str,
    against: &str,
    runs: usize,
    ours: &mut dyn FnMut() -> Result<Duration>,
    theirs: &mut dyn FnMut() -> Result<Duration>,
) -> Result<()> {
    let mut a = Vec::new();
    let mut b = Vec::new();
    for run in 0..runs {
        let (x, y) = (ours()?, theirs()?);
        if run > 0 {
            a.push(x);
            b.push(y);
        }
    }
    let mut ratios: Vec<f64> =
        a.iter().zip(&b).map(|(x, y)| y.as_secs_f64() / x.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let (x, y) = (median(a), median(b));
    println!(
        "{place:<34} {against:<38} {:>7.2} ms {:>7.2} ms {:>7.1}x  {:.1}x to {:.1}x",
        ms(x),
        ms(y),
        y.as_secs_f64() / x.as_secs_f64(),
        ratios[0],
        ratios[ratios.len() - 1],
    );
    Ok(())
}

fn times(runs: usize, command: &dyn Fn() -> Command) -> Result<Vec<Duration>> {
    (0..runs).map(|_| time(command())).collect()
}

fn time(mut command: Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let start = Instant::now();
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let took = start.elapsed();
    ensure!(output.status.success() && !output.stdout.is_empty(), "{command:?} failed");
    Ok(took)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{processors} x {}", model.map_or("unknown processor", |(_, model)| model))
}
