//! All campaigns by name.

use std::path::Path;
use std::sync::OnceLock;

use crate::stage::Stage;
use crate::stages::bed::{OnBed, Place};
use crate::stages::{
    bind, cluster::OnCluster, container, installer, lxc, metrics, model::OnModel, vgpu,
};
use crate::{
    Effort, Tally, attacks, crowd, faults, fed, full, fuzz, hostile, power, refusing, rootfs,
};

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
    let mut rows = one_fault(stage, effort);
    rows.push(faults::gone(stage, effort));
    rows
}

fn one_fault(stage: &mut dyn Stage, effort: Effort) -> Vec<Tally> {
    vec![
        faults::killed(stage, effort),
        faults::interrupted(stage, effort),
        faults::refused(stage, effort),
    ]
}

/// The report of `nv-version-check` says what could be read, so that it is
/// another one on a disk that has gone.
fn metrics_file(effort: Effort) -> Vec<Tally> {
    let mut stage = metrics::stage(Place::empty());
    let mut rows = one_fault(&mut stage, effort);
    rows.push(power::cut(&mut stage, effort));
    rows.push(crowd::at_once(&mut stage, effort));
    rows
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
    // a deadline of half a minute each is for the long form
    let waits = stage.name().starts_with("vgpu-profile-set");
    let blocks = !waits || effort.most > Effort::SHORT.most;
    // each trial is a kernel of its own, mounted and left
    let effort = Effort { most: effort.most.div_ceil(4), ..effort };
    let mut rows = injected(&mut stage, effort);
    rows.push(refusing::failing_writes(&mut stage, effort));
    // each waits for a deadline
    let few = Effort { most: effort.most.div_ceil(5), ..effort };
    if blocks {
        rows.push(refusing::blocking_writes(&mut stage, few));
    }
    rows.push(refusing::dying_writers(&mut stage, effort));
    rows.push(crowd::at_once(&mut stage, Effort { most: effort.most.min(10), ..effort }));
    rows
}

/// Every command line on files, and the same on a disk that fills up. The names
/// are those of the stages, in their order.
fn on_files(tool: &str, names: &[&str], stages: fn(fn() -> Place) -> Vec<OnBed>) -> Vec<Campaign> {
    let each = names.iter().enumerate().flat_map(|(n, name)| {
        let pick = move |place: fn() -> Place| stages(place).swap_remove(n);
        [
            campaign(&format!("{tool}-{name}"), move |effort| files(pick(Place::empty), effort)),
            campaign(&format!("{tool}-{name}-full"), move |effort| {
                vec![on_full_disk(pick(Place::small), effort)]
            }),
        ]
    });
    each.collect()
}

/// A real container, running or not, both verbs.
fn in_container(effort: Effort, running: bool) -> Vec<Tally> {
    // a trial is four runs that write libraries and have ldconfig run
    let effort = Effort { most: effort.most.div_ceil(5), ..effort };
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
    let mut all = on_files("lxc-gpu-conf", &["add", "remove", "sync"], lxc::all);
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
    for (n, name) in ["bind", "release"].into_iter().enumerate() {
        all.push(campaign(&format!("gpu-vfio-bind-{name}"), move |effort| {
            kernel(bind::now().swap_remove(n), effort)
        }));
    }
    all.extend(on_files("gpu-vfio-bind", &["persist", "unpersist"], bind::boot));
    for (n, name) in ["apply", "change", "clear"].into_iter().enumerate() {
        all.push(campaign(&format!("vgpu-profile-set-{name}"), move |effort| {
            kernel(vgpu::all().swap_remove(n), effort)
        }));
    }
    all.extend(on_files(
        "nv-runfile",
        &["extract", "fetch", "prune", "install", "uninstall"],
        installer::all,
    ));
    for (name, running) in [("running", true), ("stopped", false)] {
        let run = move |effort| in_container(effort, running);
        all.push(campaign(&format!("nv-runfile-container-{name}"), run));
    }
    all.push(campaign("nv-version-check-metrics", metrics_file));
    all.push(campaign("nv-version-check-metrics-full", |effort| {
        vec![on_full_disk(metrics::stage(Place::small()), effort)]
    }));
    all.push(campaign("input-installers", |effort| vec![hostile::installers(effort)]));
    all.push(campaign("input-guests", |effort| vec![hostile::guests(effort)]));
    all.push(campaign("input-wishes", |effort| vec![hostile::wishes(effort)]));
    all.push(campaign("input-pipes", |effort| vec![hostile::pipes(effort)]));
    all.push(campaign("input-kernels", |effort| vec![hostile::kernels(effort)]));
    all.push(campaign("input-rootfs", |effort| vec![rootfs::looked_at(effort)]));
    all.push(campaign("input-containers", |effort| vec![rootfs::installed_into(effort)]));
    all.push(campaign("attacks", attacks::all));
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
