//! What repairs a finding: the commands, planned with what each would do in the
//! state that was read. A command that would be refused, or would change
//! nothing, is not named.

use advice::{external, lxc_gpu_conf, nv_runfile};
use nvidia::{Installation, InstallationKind, branch, compare_versions, unpublished};
use record::{CommandLine, Hint};

use crate::collect::checked_root::CheckedRoot;
use crate::collect::dkms::{DkmsModule, DkmsState};
use crate::collect::host_facts::HostFacts;
use crate::collect::root_facts::RootFacts;

/// The first installer that can replace a driver whose module is loaded
/// (`--allow-installation-with-running-driver`).
const WITH_LOADED_MODULE: &str = "545.23.06";

/// Puts a version of the driver on the host by NVIDIA's installer.
pub fn install_on_host(host: &HostFacts, version: &str) -> Hint {
    if let Some(why) = not_to_be_had(host, version) {
        return Hint::words(format!("{why}; install {version} on the host from there"));
    }
    if host.nouveau.loaded && host.loaded.is_none() {
        let words = format!("keep nouveau from being loaded, reboot, then install {version}");
        return host.nouveau.hint().because(words);
    }
    if host.secure_boot.enforced {
        return Hint::words(format!(
            "the kernel takes signed modules only: turn Secure Boot off in the firmware setup, or \
             have the modules of {version} signed with a key that the firmware knows"
        ));
    }
    let mut commands = build_requirements(host);
    // 'install --host' changes nothing where it says that this version is installed
    let version_of_run = host.root.run_install() == Some(version);
    if version_of_run && host.loaded.as_deref() == Some(version) {
        commands.push(external::nvidia_uninstall());
    }
    let old = compare_versions(version, WITH_LOADED_MODULE).is_lt();
    if old && host.loaded.is_some() {
        commands.push(external::unload_nvidia());
    }
    commands.push(nv_runfile::fetch(version));
    commands.push(match needs_purge(host) {
        true => nv_runfile::install_on_host_purging(version),
        false => nv_runfile::install_on_host(version),
    });
    let hint = Hint::commands(commands);
    match host.root.is_packaged() {
        true => hint.because(format!(
            "upgrade the driver's packages to {version} if their repository has it, or replace \
             them with NVIDIA's installer"
        )),
        false => hint,
    }
}

/// Puts the newest version of a branch on the host that can be downloaded with a
/// known SHA-256.
pub fn install_newest_of(host: &HostFacts, wanted: u32) -> Hint {
    let known = runfile::known_files(runfile::KNOWN).unwrap_or_default();
    let of_branch = known.iter().filter(|file| {
        file.arch == std::env::consts::ARCH && branch(&file.version).parse() == Ok(wanted)
    });
    match of_branch.max_by(|a, b| compare_versions(&a.version, &b.version)) {
        Some(newest) => install_on_host(host, &newest.version),
        None => Hint::words(format!("install a driver of branch {wanted} on the host")),
    }
}

/// Builds the host's driver for a kernel that has no module of it. NVIDIA's
/// installer builds for the running kernel, so another one has to run first;
/// `install --host` then finds that its module is not loaded.
pub fn build_for_kernel(host: &HostFacts, version: &str, release: &str) -> Hint {
    if host.running.as_deref() == Some(release) {
        return install_on_host(host, version);
    }
    if let Some(why) = not_to_be_had(host, version) {
        return Hint::words(format!("{why}; build {version} for {release} from there"));
    }
    Hint::command(nv_runfile::fetch(version)).because(format!(
        "NVIDIA's installer builds for the running kernel only: boot {release}, then run \
         'nv-runfile install' with this installer and --host; with --dkms later kernels get their \
         module when they are installed"
    ))
}

/// The host's driver, where apt-get manages it and no installer ran over it.
pub fn apt_installation(host: &HostFacts) -> Option<&Installation> {
    let installations = &host.root.installations;
    let apt = installations.packaged().find(|one| one.kind.is_apt());
    apt.filter(|_| installations.get(InstallationKind::Run).is_none())
}

/// Has the package manager install the driver's kernel packages again, which
/// registers the source with DKMS and builds the module.
pub fn reinstall_packages(host: &HostFacts) -> Option<CommandLine> {
    let apt = apt_installation(host)?;
    let kernel: Vec<String> =
        apt.packages.iter().filter(|p| p.kernel).map(|p| p.name.clone()).collect();
    (!kernel.is_empty()).then(|| external::apt_reinstall(&kernel))
}

/// Removes a module whose source is missing from DKMS, with the links and the
/// modules that DKMS made of it.
pub fn forget(host: &HostFacts, module: &DkmsModule) -> CommandLine {
    let mut made: Vec<String> =
        module.links.iter().map(|link| format!("/var/lib/dkms/{}/{link}", module.module)).collect();
    let kernels = host.kernels.iter().filter(|kernel| {
        module.state(&kernel.release) == DkmsState::Installed
            && kernel.version() == Some(&module.version)
    });
    made.extend(kernels.filter_map(|kernel| Some(kernel.module()?.path.clone())));
    external::dkms_forget(&module.name(), &made)
}

/// The packages without which no module is built for the running kernel.
fn build_requirements(host: &HostFacts) -> Vec<CommandLine> {
    let mut packages: Vec<String> = Vec::new();
    if let Some(kernel) = host.running_kernel().filter(|kernel| !kernel.headers) {
        packages.push(external::headers_package(&kernel.release));
    }
    if !host.compiler {
        packages.push("build-essential".into());
    }
    match packages.is_empty() {
        true => Vec::new(),
        false => vec![external::apt_install_all(&packages)],
    }
}

/// Whether `install --host` refuses without `--purge`: packages, or modules in
/// DKMS that NVIDIA's installer did not register.
fn needs_purge(host: &HostFacts) -> bool {
    let run = host.root.run_install();
    let own = |name: &str, version: &str| name == "nvidia" && run == Some(version);
    let foreign = host.dkms.iter().any(|module| !own(&module.module, &module.version));
    foreign || host.root.installations.packages().iter().any(|_| true)
}

/// Gives a root file system the libraries of a version.
pub fn install_in(root: &CheckedRoot, facts: &RootFacts, host: &HostFacts, version: &str) -> Hint {
    let Some(ctid) = root.ctid else { return replace_in_directory(host, version) };
    // its configuration mounts the host's libraries
    if !root.mounted.is_empty() {
        return Hint::command(lxc_gpu_conf::sync(ctid));
    }
    if let Some(unfit) = &facts.unfit {
        return Hint::words(format!(
            "{unfit}: use a container of a distribution with glibc, such as Debian"
        ));
    }
    if let Some(why) = not_to_be_had(host, version) {
        return Hint::words(format!(
            "{why}; then 'nv-runfile install FILE --ct {ctid}' places its libraries"
        ));
    }
    let loaded = host.loaded.as_deref();
    let mut commands = Vec::new();
    // a version that is not loaded is refused without --force
    let early = loaded.is_some() && loaded != Some(version);
    if early && host.next_version() != Some(version) {
        return Hint::words(format!("install {version} on the host first, then in the container"));
    }
    if loaded.is_none() {
        if host.on_disk() != Some(version) || host.nouveau.loaded {
            return Hint::words(format!("load the module of {version} on the host first"));
        }
        commands.push(external::modprobe("nvidia"));
    }
    let others: Vec<&Installation> = facts.installations.by_other_means().collect();
    if let Some(unowned) = others.iter().find(|one| one.removal().is_none()) {
        let file = unowned.library.as_deref().unwrap_or("its driver libraries");
        return Hint::words(format!(
            "no package and no installer owns {file}: remove the driver libraries beside it, \
             then run 'nv-runfile install' for this container"
        ));
    }
    // 'install' refuses beside a driver that was installed by other means
    if !others.is_empty() && !root.running {
        commands.push(external::pct_start(ctid));
    }
    let removals = others.iter().filter_map(|one| one.removal());
    commands.extend(removals.map(|removal| external::pct_exec(ctid, removal)));
    commands.push(nv_runfile::fetch(version));
    commands.push(match early {
        true => nv_runfile::install_in_container_forced(version, ctid),
        false => nv_runfile::install_in_container(version, ctid),
    });
    let hint = Hint::commands(commands);
    match early {
        true => hint.because(format!(
            "the host loads {version} after a reboot; until then programs in the container do not \
             work with it"
        )),
        false => hint,
    }
}

fn replace_in_directory(host: &HostFacts, version: &str) -> Hint {
    let words = format!(
        "replace its driver libraries with those of {version}, extracted from the installer"
    );
    match not_to_be_had(host, version) {
        Some(why) => Hint::words(format!("{words}; {why}")),
        None => Hint::command(nv_runfile::fetch(version)).because(words),
    }
}

/// Why no installer of a version can be downloaded, and where it is.
pub fn not_to_be_had(host: &HostFacts, version: &str) -> Option<String> {
    if host.vgpu {
        return Some(
            "vGPU host packages are in NVIDIA's licensing portal only, not on its public servers"
                .into(),
        );
    }
    unpublished(version)
        .map(|row| format!("NVIDIA's servers have no installer of {version}: {row}"))
}

/// Removes an installation of a container or of another root file system, and
/// rebuilds the dynamic linker's cache.
pub fn remove_from(root: Option<&CheckedRoot>, removal: CommandLine) -> Option<Hint> {
    let commands = [removal, external::ldconfig()];
    let Some(root) = root else { return Some(Hint::commands(commands)) };
    let ctid = root.ctid?;
    let start = (!root.running).then(|| external::pct_start(ctid));
    let inside = commands.into_iter().map(|command| external::pct_exec(ctid, command));
    Some(Hint::commands(start.into_iter().chain(inside)))
}

/// Rebuilds the dynamic linker's cache and links of a root file system.
pub fn ldconfig_in(root: &CheckedRoot) -> Hint {
    match (root.ctid, &root.dir) {
        (Some(ctid), _) => {
            let start = (!root.running).then(|| external::pct_start(ctid));
            let run = external::pct_exec(ctid, external::ldconfig());
            Hint::commands(start.into_iter().chain([run]))
        }
        (None, Some(dir)) => Hint::command(external::ldconfig_in(dir)),
        (None, None) => Hint::command(external::ldconfig()),
    }
}
