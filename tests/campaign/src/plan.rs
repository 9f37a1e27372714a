//! All campaigns by name.

use std::path::Path;
use std::sync::OnceLock;

use crate::stage::Stage;
use crate::stages::bed::{OnBed, Place};
use crate::stages::{
    bind, cluster::OnCluster, container, installer, lxc, metrics, model::OnModel, vgpu,
};
use crate::{Effort, Tally, crowd, faults, fed, full, fuzz, hostile, power, refusing, rootfs};

type Run = Box<dyn Fn(Effort) -> Vec<Tally> + Send + Sync>;

/// Some rows of the table.
pub struct Campaign {
    pub name: String,
    pub run: Run,
}

fn campaign(name: &str, run: impl Fn(Effort) -> Vec<Tally> + Send + Sync + 'static) -> Campaign {
    Campaign { name: name.into(), run: Box::new(run) }
}

/// What strace does to a command line.
fn injected(stage: &mut dyn Stage, effort: Effort) -> Vec<Tally> {
    vec![
        faults::killed(stage, effort),
        faults::interrupted(stage, effort),
        faults::refused(stage, effort),
        faults::gone(stage, effort),
    ]
}

/// A command line that changes files.
fn files(mut stage: OnBed, effort: Effort) -> Vec<Tally> {
    let mut rows = injected(&mut stage, effort);
    rows.push(power::cut(&mut stage, effort));
    rows.push(crowd::at_once(&mut stage, effort));
    rows
}

fn on_full_disk(mut stage: OnBed, effort: Effort) -> Tally {
    let small = stage.place.small.take().expect("a disk of its own");
    full::full(&mut stage, &small, effort)
}

/// A command line that changes the kernel's mind.
fn kernel(mut stage: OnModel, effort: Effort) -> Vec<Tally> {
    let mut rows = injected(&mut stage, effort);
    rows.push(refusing::failing_writes(&mut stage, effort));
    // each waits for a deadline
    let few = Effort { most: effort.most.div_ceil(5), ..effort };
    rows.push(refusing::blocking_writes(&mut stage, few));
    rows.push(refusing::dying_writers(&mut stage, effort));
    rows.push(crowd::at_once(&mut stage, Effort { most: effort.most.min(10), ..effort }));
    rows
}

/// Every command line on files, and the same on a disk that fills up.
fn on_files(name: &str, stages: fn(fn() -> Place) -> Vec<OnBed>) -> Vec<Campaign> {
    let count = stages(Place::empty).len();
    let each = (0..count).flat_map(|n| {
        let pick = move |place: fn() -> Place| stages(place).swap_remove(n);
        [
            campaign(&format!("{name}-{n}"), move |effort| files(pick(Place::empty), effort)),
            campaign(&format!("{name}-{n}-full"), move |effort| {
                vec![on_full_disk(pick(Place::small), effort)]
            }),
        ]
    });
    each.collect()
}

/// A real container, running or not, both verbs.
fn in_container(effort: Effort, running: bool) -> Vec<Tally> {
    let host = container::host();
    let mut stands = container::container(&host, running);
    let mut rows = Vec::new();
    for installs in [true, false] {
        let mut stage = container::InContainer::new(&host, stands, installs);
        rows.extend(injected(&mut stage, effort));
        stands = stage.into_container();
    }
    rows
}

/// The program that coverage guides, built once.
fn fuzzer() -> Result<&'static Path, String> {
    static BUILT: OnceLock<Result<std::path::PathBuf, String>> = OnceLock::new();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = BUILT.get_or_init(|| fuzz::build(&workspace.canonicalize().unwrap()));
    built.as_deref().map_err(Clone::clone)
}

/// All of them.
pub fn all() -> Vec<Campaign> {
    let mut all = on_files("lxc-gpu-conf", lxc::all);
    for args in lxc::VERBS {
        let verb = args.split(' ').next().unwrap_or("");
        all.push(campaign(&format!("lxc-gpu-conf-cluster-{verb}"), move |effort| {
            let mut stage = OnCluster::new(args);
            let few = Effort { most: effort.most.div_ceil(2), ..effort };
            vec![
                refusing::cluster(&mut stage, effort),
                faults::killed(&mut stage, few),
                faults::refused(&mut stage, few),
                crowd::at_once(&mut stage, Effort { most: effort.most.min(10), ..effort }),
            ]
        }));
    }
    for n in 0..2 {
        all.push(campaign(&format!("gpu-vfio-bind-{n}"), move |effort| {
            kernel(bind::now().swap_remove(n), effort)
        }));
    }
    all.extend(on_files("gpu-vfio-bind-boot", bind::boot));
    for n in 0..3 {
        all.push(campaign(&format!("vgpu-profile-set-{n}"), move |effort| {
            kernel(vgpu::all().swap_remove(n), effort)
        }));
    }
    all.extend(on_files("nv-runfile", installer::all));
    for (name, running) in [("running", true), ("stopped", false)] {
        let run = move |effort| in_container(effort, running);
        all.push(campaign(&format!("nv-runfile-container-{name}"), run));
    }
    all.extend(on_files("nv-version-check", |place| vec![metrics::stage(place())]));
    all.push(campaign("input-installers", |effort| vec![hostile::installers(effort)]));
    all.push(campaign("input-guests", |effort| vec![hostile::guests(effort)]));
    all.push(campaign("input-wishes", |effort| vec![hostile::wishes(effort)]));
    all.push(campaign("input-pipes", |effort| vec![hostile::pipes(effort)]));
    all.push(campaign("input-kernels", |effort| vec![hostile::kernels(effort)]));
    all.push(campaign("input-rootfs", |effort| vec![rootfs::looked_at(effort)]));
    all.push(campaign("input-containers", |effort| vec![rootfs::installed_into(effort)]));
    all.push(campaign("parsers", |effort| {
        parsers::all().iter().map(|parser| fed::feed(parser, effort)).collect()
    }));
    for (n, parser) in parsers::all().iter().enumerate() {
        all.push(campaign(&format!("guided-{}", parser.name), move |effort| {
            if effort.fuzz == 0 {
                return Vec::new();
            }
            let program = fuzzer().expect("tests/fuzz builds");
            vec![fuzz::guided(program, &parsers::all()[n], effort)]
        }));
    }
    all
}
