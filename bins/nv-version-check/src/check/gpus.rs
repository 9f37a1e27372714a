//! The host's GPUs against the installed driver: its branch, the type of its
//! modules, and who has each GPU.

use advice::external;
use nvidia::{Generation, InstallationKind, branch};
use record::Hint;

use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::check::hints::{apt_installation, install_newest_of, install_on_host};
use crate::collect::driver_messages::RefusedGpu;
use crate::collect::gpus::HostGpu;
use crate::collect::host_facts::HostFacts;

/// The kernel's own drivers of NVIDIA's GPUs, by the names that their bus shows.
const OTHER_DRIVERS: [&str; 2] = ["nouveau", "NovaCore"];

/// Findings about GPUs that the installed driver cannot drive.
pub fn findings(host: &HostFacts) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        host.gpus.iter().filter_map(|gpu| finding(host, gpu)).collect();
    let said: Vec<Finding> =
        host.refused_gpus.iter().filter_map(|refused| said(host, refused, &findings)).collect();
    findings.extend(said);
    findings
}

fn subject(gpu: &str) -> String {
    format!("gpu {gpu}")
}

fn finding(host: &HostFacts, gpu: &HostGpu) -> Option<Finding> {
    if let Some(driver) = gpu.driver.as_deref().filter(|d| OTHER_DRIVERS.contains(d)) {
        // the module's own finding asks for the reboot
        let nouveau = driver == "nouveau";
        return (!nouveau).then(|| held(&gpu.address, driver));
    }
    let generation = gpu.generation?;
    let version = host.installed()?;
    let number: u32 = branch(version).parse().ok()?;
    if let Some(last) = generation.last_branch().filter(|last| number > *last) {
        return Some(dropped(host, &gpu.address, generation.as_str(), last, version));
    }
    match host.is_open()? {
        true if !generation.works_with_open() => {
            Some(wrong_type(host, &gpu.address, generation, "proprietary", "open"))
        }
        false if !generation.works_with_proprietary() => {
            Some(wrong_type(host, &gpu.address, generation, "open", "proprietary"))
        }
        _ => None,
    }
}

/// What the module itself said, where no table says so already.
fn said(host: &HostFacts, refused: &RefusedGpu, known: &[Finding]) -> Option<Finding> {
    let is_known = |cause: Cause| {
        known.iter().any(|finding| finding.check().cause.as_deref() == Some(cause.name()))
    };
    match refused {
        RefusedGpu::NeedsOpen(gpu)
            if !is_known(Cause::ModuleType) && host.is_open() == Some(false) =>
        {
            let finding = Finding::error(Cause::ModuleType)
                .on(&subject(gpu), "module type")
                .found(Some("open"), Some("proprietary"))
                .because("the driver says: it requires use of the NVIDIA open kernel modules");
            Some(finding.hint(other_type(host, "open")))
        }
        RefusedGpu::Legacy { gpu, branch: last } if !is_known(Cause::GpuUnsupported) => {
            let version = host.installed()?;
            let newer = branch(version).parse::<u32>().ok()? > last.parse().ok()?;
            newer.then(|| {
                dropped(host, gpu, "the driver says: it", last.parse().unwrap_or(0), version)
            })
        }
        RefusedGpu::Bound { gpu, driver } if driver != "nouveau" && !is_known(Cause::GpuHeld) => {
            let still = host.gpus.iter().any(|g| &g.address == gpu && g.driver.is_some());
            still.then(|| held(gpu, driver))
        }
        _ => None,
    }
}

/// Another driver of the kernel has the GPU.
fn held(gpu: &str, driver: &str) -> Finding {
    let module = if driver == "NovaCore" { "nova_core" } else { driver };
    Finding::error(Cause::GpuHeld)
        .on(&subject(gpu), "driver")
        .found(Some("nvidia"), Some(driver))
        .because(format!("{module} has the GPU, so NVIDIA's module cannot take it"))
        .hint(
            Hint::commands([external::blacklist(module), external::update_initramfs()])
                .because(format!("keep {module} from being loaded, then reboot the host")),
        )
}

/// The installed branch no longer drives the GPU.
fn dropped(host: &HostFacts, gpu: &str, what: &str, last: u32, version: &str) -> Finding {
    let needs_newer = |gpu: &HostGpu| gpu.generation.is_some_and(|g| !g.works_with_proprietary());
    let hint = match host.gpus.iter().any(needs_newer) {
        true => Hint::words(
            "no driver drives all GPUs of this host: pass some of them to VMs, or remove them",
        ),
        false => install_newest_of(host, last),
    };
    Finding::error(Cause::GpuUnsupported)
        .on(&subject(gpu), "driver branch")
        .found(Some(&format!("{last} or older")), Some(version))
        .because(format!("{what}: {last} is the last branch that drives it"))
        .hint(hint)
}

/// The installed modules are of the type that does not drive the GPU.
fn wrong_type(host: &HostFacts, gpu: &str, of: Generation, needs: &str, has: &str) -> Finding {
    let works = |gpu: &HostGpu| {
        gpu.generation.is_none_or(|generation| match needs {
            "open" => generation.works_with_open(),
            _ => generation.works_with_proprietary(),
        })
    };
    let hint = match host.gpus.iter().all(works) {
        true => other_type(host, needs),
        false => Hint::words(
            "no type of kernel modules drives all GPUs of this host: pass some of them to VMs",
        ),
    };
    Finding::error(Cause::ModuleType)
        .on(&subject(gpu), "module type")
        .found(Some(needs), Some(has))
        .because(format!("{} GPUs need the {needs} kernel modules", of.as_str()))
        .hint(hint)
}

/// Installs modules of the other type.
fn other_type(host: &HostFacts, needs: &str) -> Hint {
    let Some(version) = host.installed() else { return Hint::default() };
    match apt_installation(host).map(|one| one.kind) {
        Some(InstallationKind::Debian) => Hint::command(external::apt_install(match needs {
            "open" => "nvidia-open-kernel-dkms",
            _ => "nvidia-kernel-dkms",
        })),
        Some(_) => Hint::words(format!("install the driver's packages with the {needs} modules")),
        None => install_on_host(host, version),
    }
}
