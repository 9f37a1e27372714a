//! gpu-iommu-groups against lspci, and against the loop in every guide.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use testbed::Bed;
use testbed::tree::Tree;

use crate::measure::{interleave, system_calls, time};
use crate::packages;
use crate::report::{Goal, Report, Row};

const WHY: &str = "three quarters of our processor time is the kernel's, in open, read and close: a \
     record has what lspci does not print without -vv (parent, NUMA node, reset methods, link, \
     override, the group's other members and reserved regions), each an attribute of its own. Taken \
     so far: a link is read once a slot, a directory is opened where the link in the list leads \
     instead of from the root, a group costs seven calls, bridges are not asked for what they cannot \
     have; a fifth of the calls went. Not taken: lspci's way, ids and revision from `config`, since \
     that wakes a GPU that sleeps. The reads run in as many children as there are processors, up to \
     eight: where two processors have other work too, that gains little";

/// The part.
pub fn run(tools: &Path, report: &mut Report) -> Result<()> {
    if !packages::have("pciutils") {
        report.note("lister: not measured, there is no lspci (package pciutils)".into());
        return Ok(());
    }
    let large = large()?;
    let ours = |root: Option<&Path>| {
        let mut command = Command::new(tools.join("gpu-iommu-groups"));
        command.args(["--all", "-q"]);
        if let Some(root) = root {
            command.arg("--root").arg(root);
        }
        command
    };
    let rival = |what: &str| packages::named(what, &["pciutils"]);
    for (name, root, sysfs) in [
        ("this machine", None, "/sys".to_string()),
        ("generated", Some(large.path()), large.at("/sys").display().to_string()),
    ] {
        let functions = std::fs::read_dir(format!("{sysfs}/bus/pci/devices"))?.count();
        let what = format!("gpu-iommu-groups --all, {functions} functions ({name})");
        let bus = format!("sysfs.path={sysfs}/bus/pci");
        let lspci = || {
            let mut command = Command::new("lspci");
            command.args(["-A", "linux-sysfs", "-O", &bus, "-Dnnk"]);
            command
        };
        let groups = std::fs::read_dir(format!("{sysfs}/kernel/iommu_groups"));
        let grouped = groups.is_ok_and(|mut dir| dir.next().is_some());
        let pattern = if grouped { "kernel/iommu_groups/*/devices/*" } else { "bus/pci/devices/*" };
        let script = format!(
            "for g in {sysfs}/{pattern}; do echo \"IOMMU Group $(basename $(dirname $(dirname $g))): \
             $(lspci -A linux-sysfs -O {bus} -nns ${{g##*/}})\"; done"
        );
        let shell = || {
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            command
        };
        // the goal is one for a large machine
        let goal = |least: f64, said: &'static str| match root {
            Some(_) => Goal::Ratio(least, said),
            None => Goal::Shown,
        };
        let times =
            interleave(21, &mut [&mut || time(ours(root), true), &mut || time(lspci(), true)])?;
        report.row(Row {
            what: what.clone(),
            ours: times[0].clone(),
            rival: rival("lspci -Dnnk"),
            theirs: Some(times[1].clone()),
            goal: goal(3.0, "3x faster"),
            why: WHY,
        });
        let times =
            interleave(5, &mut [&mut || time(ours(root), true), &mut || time(shell(), true)])?;
        report.row(Row {
            what: what.clone(),
            ours: times[0].clone(),
            rival: rival("sh: lspci -nns for each"),
            theirs: Some(times[1].clone()),
            goal: goal(50.0, "50x faster"),
            why: "",
        });
        if root.is_some() {
            report.calls(&what, system_calls(&ours(root)));
            report.calls("lspci -Dnnk, the same", system_calls(&lspci()));
            report.peak("gpu-iommu-groups", &what, crate::peak::of(&ours(root))?, None);
        }
    }
    Ok(())
}

/// A machine with 500 functions, and what a real host has beside them.
fn large() -> Result<Bed> {
    let mut tree = Tree::default();
    testbed::generate::large(500).build(&mut tree);
    for name in ["pci.ids", "modules.alias"] {
        let real = Path::new("/usr/share/misc").join(name);
        let common = testbed::machine::machines_dir().join("common").join(name);
        let from = if real.exists() { real } else { common };
        let to = match name {
            "pci.ids" => "/usr/share/misc/pci.ids",
            _ => "/lib/modules/6.14.11-4-pve/modules.alias",
        };
        tree.file(to, std::fs::read(from)?);
    }
    Ok(Bed::of(&tree))
}
