//! lxc-gpu-conf on a host with 1,000 containers: one in ten with a GPU, as on a
//! large host, and all of them with one. The floor is grep over the same files.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use testbed::Bed;

use crate::measure::{interleave, system_calls, time};
use crate::packages;
use crate::report::{Goal, Report, Row};

const COUNT: u32 = 1000;

/// The part.
pub fn run(tools: &Path, report: &mut Report) -> Result<()> {
    for (which, every) in [("one in ten with a GPU", 10), ("each with a GPU", 1)] {
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
        let times = interleave(21, &mut [&mut || time(ours(), true), &mut || time(grep(), true)])?;
        let what = format!("lxc-gpu-conf check --all, {COUNT} containers, {which}");
        let each = times[0].median() / f64::from(COUNT);
        report.note(format!("{what}: {each:.4} ms a container"));
        report.calls(&what, system_calls(&ours()));
        report.peak("lxc-gpu-conf", &what, crate::peak::of(&ours())?, None);
        report.row(Row {
            what,
            ours: times[0].clone(),
            rival: packages::named("grep -rl nvidia", &["grep"]),
            theirs: Some(times[1].clone()),
            goal: Goal::Ratio(0.2, "at most 5x grep's time"),
            why: "each configuration is parsed, and its devices are looked at; grep only searches",
        });
    }
    hook(tools, report)
}

/// What a container's start waits for.
fn hook(tools: &Path, report: &mut Report) -> Result<()> {
    let bed = Bed::new("pve9-two-gpus");
    bed.tool("lxc-gpu-conf").args("add 901 --gpu all").run().expect(0);
    let hook = || {
        let mut command = Command::new(tools.join("lxc-gpu-conf"));
        command.arg("--root").arg(bed.path()).args(["hook", "901", "pre-start"]);
        command
    };
    // one that finds all well says nothing
    let times = interleave(21, &mut [&mut || time(hook(), false)])?;
    report.row(Row {
        what: "lxc-gpu-conf hook 901 pre-start".into(),
        ours: times[0].clone(),
        rival: "nothing".into(),
        theirs: None,
        goal: Goal::Within(10.0, "under 10 ms"),
        why: "starting children and processes takes longer on a machine that is busy",
    });
    Ok(())
}
