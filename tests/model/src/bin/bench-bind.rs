//! The part of `make bench` that binds: a slot of four functions to vfio-pci
//! and back, on the mounted model kernel, against driverctl and against the
//! shell recipe that is in every guide. Ratios, and how often each reads and
//! writes; never a test.

#![allow(clippy::disallowed_methods)]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use modelkernel::ModelKernel;
use modelkernel::mount::Mounted;

const RUNS: usize = 11;

/// What everybody writes by hand: no check, no read back, no way back.
const RECIPE: &str = "
for f in 0 1 2 3; do
	d=$SYS/bus/pci/devices/0000:2c:00.$f
	echo vfio-pci >$d/driver_override
	echo 0000:2c:00.$f >$d/driver/unbind
	echo 0000:2c:00.$f >$SYS/bus/pci/drivers_probe
done
for f in 0 1 2 3; do
	d=$SYS/bus/pci/devices/0000:2c:00.$f
	echo >$d/driver_override
	echo 0000:2c:00.$f >$d/driver/unbind
	echo 0000:2c:00.$f >$SYS/bus/pci/drivers_probe
done";

/// driverctl knows no other /sys than /sys, and runs modprobe.
const DRIVERCTL: &str = "
mount --bind $SYS /sys && mount --bind /bin/true /sbin/modprobe || exit 1
start=$(date +%s%N)
for f in 0 1 2 3; do driverctl --nosave set-override 0000:2c:00.$f vfio-pci || exit 1; done
for f in 0 1 2 3; do driverctl --nosave unset-override 0000:2c:00.$f || exit 1; done
echo $(($(date +%s%N) - start))";

fn main() {
    let tools = std::env::args().nth(1).expect("usage: bench-bind DIR-OF-RELEASE-BINARIES");
    let tree = testbed::machine::tree("pve9-two-gpus").expect("the recorded machine");
    let model = Arc::new(ModelKernel::from_tree(&tree));
    model.load_module("vfio-pci");
    // a shell's > truncates, which sysfs takes for nothing
    model.allow_truncate(true);
    let mut mounted = Mounted::new(Arc::clone(&model)).expect("root and /dev/fuse");
    mounted.scratch("/run").expect("tmpfs");
    let root = mounted.path().display().to_string();
    let sys = format!("{root}/sys");
    let ours = || {
        let start = Instant::now();
        for verb in ["bind", "release"] {
            let status = Command::new(format!("{tools}/gpu-vfio-bind"))
                .args(["--root", &root, verb, "2c:00"])
                .stdout(Stdio::null())
                .status()
                .expect("gpu-vfio-bind");
            assert!(status.success(), "gpu-vfio-bind {verb} failed");
        }
        start.elapsed()
    };
    let recipe = || {
        let start = Instant::now();
        let status =
            Command::new("sh").args(["-ec", RECIPE]).env("SYS", &sys).status().expect("sh");
        assert!(status.success(), "the recipe failed");
        start.elapsed()
    };
    let driverctl = || {
        let output = Command::new("unshare")
            .args(["-m", "bash", "-c", DRIVERCTL])
            .env("SYS", &sys)
            .output()
            .expect("unshare (util-linux)");
        let text = String::from_utf8_lossy(&output.stdout);
        let nanos = text.trim().parse().unwrap_or_else(|_| {
            panic!("driverctl failed: {}", String::from_utf8_lossy(&output.stderr))
        });
        Duration::from_nanos(nanos)
    };
    let counted = |what: &str, run: &dyn Fn() -> Duration| {
        model.reset_counters();
        let before = model.snapshot();
        run();
        assert_eq!(model.snapshot().functions, before.functions, "{what} left something behind");
        let counters = model.counters();
        println!("{what:<16} {:>5} reads {:>5} writes", counters.reads, counters.writes);
    };
    println!("bind and release of four functions, mounted model kernel");
    counted("gpu-vfio-bind", &ours);
    counted("shell recipe", &recipe);
    counted("driverctl", &driverctl);
    for (name, theirs) in
        [("shell recipe", &recipe as &dyn Fn() -> Duration), ("driverctl", &driverctl)]
    {
        let mut pairs: Vec<(Duration, Duration)> = (0..RUNS).map(|_| (ours(), theirs())).collect();
        pairs.remove(0);
        let mut ratios: Vec<f64> =
            pairs.iter().map(|(a, b)| b.as_secs_f64() / a.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        let median = |mut times: Vec<Duration>| {
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1000.0
        };
        println!(
            "against {name:<16} {:>7.1} ms ours {:>7.1} ms theirs {:>6.2}x  {:.2}x to {:.2}x",
            median(pairs.iter().map(|p| p.0).collect()),
            median(pairs.iter().map(|p| p.1).collect()),
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1],
        );
    }
}
