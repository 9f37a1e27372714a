//! gpu-vfio-bind: a slot of four functions to vfio-pci and back, on the mounted
//! model kernel, against driverctl and against the shell recipe that is in every
//! guide.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use modelkernel::ModelKernel;
use modelkernel::mount::{Mounted, possible};

use crate::measure::{Timed, Took, clock, interleave};
use crate::packages;
use crate::report::{Goal, Report, Row};

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

/// What people use instead.
struct Rival<'a> {
    name: &'static str,
    packages: &'static [&'static str],
    run: &'a dyn Fn() -> Result<Took>,
}

/// The part.
pub fn run(tools: &Path, report: &mut Report) -> Result<()> {
    if !possible() {
        report.note("bind: not measured, the model is mounted as root with /dev/fuse only".into());
        return Ok(());
    }
    let tree = testbed::machine::tree("pve9-two-gpus")?;
    let model = Arc::new(ModelKernel::from_tree(&tree));
    model.load_module("vfio-pci");
    // a shell's > truncates, which sysfs takes for nothing
    model.allow_truncate(true);
    let mut mounted = Mounted::new(Arc::clone(&model))?;
    mounted.scratch("/run")?;
    let root = mounted.path().display().to_string();
    let sys = format!("{root}/sys");
    let verb = |verb: &str| {
        let mut command = Command::new(tools.join("gpu-vfio-bind"));
        command.args(["--root", &root, verb, "2c:00"]);
        command
    };
    let both = || {
        clock(|| {
            for mut command in [verb("bind"), verb("release")] {
                let status = command.stdout(Stdio::null()).status()?;
                ensure!(status.success(), "{command:?} failed");
            }
            Ok(())
        })
    };
    let recipe = || {
        clock(|| {
            let status = Command::new("sh").args(["-ec", RECIPE]).env("SYS", &sys).status()?;
            ensure!(status.success(), "the recipe failed");
            Ok(())
        })
    };
    let driverctl = || {
        let mut nanos = 0.0;
        let took = clock(|| {
            let mut command = Command::new("unshare");
            command.args(["-m", "bash", "-c", DRIVERCTL]).env("SYS", &sys);
            let output = command.output().context("unshare (util-linux)")?;
            let said = || format!("driverctl: {}", String::from_utf8_lossy(&output.stderr));
            nanos = String::from_utf8_lossy(&output.stdout).trim().parse().with_context(said)?;
            Ok(())
        })?;
        Ok(Took { wall: nanos / 1e6, ..took })
    };
    let mut rivals =
        vec![Rival { name: "sh: override, unbind, probe", packages: &["dash"], run: &recipe }];
    if packages::have("driverctl") {
        let packages = &["driverctl"];
        rivals.push(Rival { name: "driverctl --nosave", packages, run: &driverctl });
    } else {
        report.note("bind: not measured against driverctl, which is not installed".into());
    }
    let what = "gpu-vfio-bind bind and release, 4 functions (FUSE)";
    let counted = |what: &str, run: &dyn Fn() -> Result<Took>| -> Result<String> {
        model.reset_counters();
        let before = model.snapshot();
        run()?;
        ensure!(model.snapshot().functions == before.functions, "{what} left something behind");
        let counters = model.counters();
        Ok(format!("{what}: {} reads, {} writes of attributes", counters.reads, counters.writes))
    };
    report.note(counted(what, &both)?);
    for rival in &rivals {
        report.note(counted(rival.name, rival.run)?);
    }
    let mut all: Vec<Box<dyn FnMut() -> Result<Took> + '_>> = vec![Box::new(both)];
    for rival in &rivals {
        all.push(Box::new(rival.run));
    }
    let mut each: Vec<Timed<'_>> = all.iter_mut().map(|one| one.as_mut() as Timed<'_>).collect();
    let times = interleave(15, &mut each)?;
    for (rival, theirs) in rivals.iter().zip(&times[1..]) {
        report.row(Row {
            what: what.into(),
            ours: times[0].clone(),
            rival: packages::named(rival.name, rival.packages),
            theirs: Some(theirs.clone()),
            goal: Goal::Shown,
            why: "",
        });
    }
    let mut bind = verb("bind");
    bind.arg("--dry-run");
    report.peak("gpu-vfio-bind", "bind --dry-run of 4 functions", crate::peak::of(&bind)?, None);
    Ok(())
}
