//! The pre-flight check, what must be removed first, and the options of the
//! installer: decided from the facts, without any I/O.

use std::fmt;

use record::{Check, CheckStatus, CommandLine, Severity};
use runfile::{Flavour, Manifest, Stub, SupportedGpus};

use crate::host::facts::{DriverPackage, HostFacts, HostKernel};
use crate::installer::options::has_option;

record::causes! {
    NoHeaders "no-headers" "A kernel's headers are not installed, so its module cannot be built.",
    KernelTooNew "kernel-too-new" "The driver's kernel module does not build for a kernel.",
    NoCompiler "no-compiler" "The compiler or make is missing.",
    NoDkms "no-dkms" "DKMS is requested but not installed.",
    Nouveau "nouveau" "nouveau is loaded, or is not blacklisted and may be loaded at the next boot.",
    Packages "packages" "A driver is already installed by other means.",
    Loaded "loaded" "A kernel module of the driver is loaded, and this installer needs it to be unloaded.",
    SecureBoot "secure-boot" "Secure Boot is on, and the modules are not signed with a key that the firmware knows.",
    NoLibcHeaders "no-libc-headers" "The headers of the C library are missing, which the installer compiles with.",
    XServer "x-server" "An X server is running, at which the installer ends.",
    NoSpace "no-space" "There is not enough free space for the driver.",
    TmpNoexec "tmp-noexec" "Programs cannot be executed in /tmp, where the installer unpacks itself.",
    VgpuHost "vgpu-host" "The host gives vGPUs to VMs, which needs NVIDIA's vGPU host driver, or the installer is a driver for VMs.",
    OfDkms "of-dkms" "DKMS builds the module for each kernel, so the installer does not.",
    NoType "no-type" "No type of kernel modules in this installer supports all GPUs of the host.",
    NotPlaced "not-placed" "The installer ended without an error, and the driver's libraries are not what programs load.",
    NoModuleAtNextBoot "no-module-next-boot" "The driver is installed, and the kernel that boots next has no module of it.",
    RebootRequired "reboot-required" "The new kernel module is installed but not loaded.",
}

/// Options of `install --host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostOptions {
    /// Remove drivers that are installed by other means first.
    pub purge: bool,
    /// `--dkms` or `--no-dkms`; `None`: use DKMS if it is installed.
    pub dkms: Option<bool>,
    /// Whether the firmware knows the certificate of `--signing-cert`; `None`: the option
    /// is not given.
    pub signed: Option<bool>,
}

/// Why no type of kernel modules fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoModuleType {
    /// A GPU needs an older branch of the driver.
    OldGpu { address: String, branch: String },
    /// No type supports all of the host's GPUs.
    DifferentGpus,
    /// The installer does not have the type that they need.
    NotIncluded,
}

impl fmt::Display for NoModuleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoModuleType::OldGpu { address, branch } => {
                write!(f, "{branch} is the last branch that supports {address}")
            }
            NoModuleType::DifferentGpus => {
                f.write_str("no type of kernel modules supports all GPUs")
            }
            NoModuleType::NotIncluded => {
                f.write_str("this installer does not include kernel modules for these GPUs")
            }
        }
    }
}

/// The type of kernel modules that supports all GPUs of the host's driver.
/// `None` if both types do.
pub fn module_type(
    facts: &HostFacts,
    list: Option<&SupportedGpus>,
    manifest: &Manifest,
) -> Result<Option<&'static str>, NoModuleType> {
    let mut types = vec!["proprietary", "open"];
    // a GPU on vfio-pci is for VMs, not for the host's driver
    for gpu in facts.gpus.iter().filter(|gpu| !gpu.on_vfio()) {
        let board = gpu.subsystem_vendor.zip(gpu.subsystem_device);
        let chip = list.zip(gpu.device).and_then(|(list, device)| list.find(device, board));
        let Some(chip) = chip else { continue };
        if let Some(branch) = &chip.legacybranch {
            let address = gpu.address.to_string();
            return Err(NoModuleType::OldGpu { address, branch: branch.clone() });
        }
        let names = chip.modules().names();
        types.retain(|name| names.contains(name));
        if types.is_empty() {
            return Err(NoModuleType::DifferentGpus);
        }
    }
    let packed = manifest.module_types();
    types.retain(|name| packed.contains(name));
    match types[..] {
        [] => Err(NoModuleType::NotIncluded),
        [one] => Ok(Some(one)),
        _ => Ok(None),
    }
}

fn kernels(facts: &HostFacts, version: &str) -> Option<Check> {
    let build = nvidia::DriverBuild::of_nvidia(version);
    let series = nvidia::kernel_limits(build).find(|limit| !limit.from.ends_with('+'));
    let kernels = [&facts.running, &facts.next].into_iter().flatten();
    let mut new = kernels.filter_map(|kernel| {
        Some((&kernel.release, nvidia::kernel_limit(build, &kernel.release)?))
    });
    let first = new.next();
    let limit = first.map(|(_, limit)| limit).or(series)?;
    let actual = first.map_or_else(|| "older".to_string(), |(release, _)| release.clone());
    let running = facts.running.as_ref().is_some_and(|k| limit.reaches(&k.release));
    let mut one = check("kernel", first.is_none(), "", actual, Cause::KernelTooNew);
    one.expected = Some(format!("older than {}", limit.from.trim_end_matches('+')));
    if first.is_some() {
        one.severity = if running { Severity::Error } else { Severity::Warning };
        one.reason = Some(format!(
            "the modules of {version} do not build for {}: {}, {}",
            limit.kernels(),
            limit.report(),
            limit.date
        ));
        one.hint = Some("use a newer driver, or pin an older kernel with proxmox-boot-tool".into());
    }
    Some(one)
}

fn check(property: &str, good: bool, expected: &str, actual: String, cause: Cause) -> Check {
    let mut check = Check::ok("host", property, None);
    check.expected = Some(expected.into());
    check.actual = Some(actual);
    if !good {
        (check.status, check.severity) = (CheckStatus::Drift, Severity::Error);
        check.cause = Some(cause.name().into());
    }
    check
}

/// The pre-flight check. A finding of severity error is an obstacle.
pub fn preflight(
    facts: &HostFacts,
    version: &str,
    asked: HostOptions,
    types: &Result<Option<&'static str>, NoModuleType>,
    flavour: Flavour,
    stub: &Stub,
) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.push(variant(facts, flavour));
    checks.extend(of_dkms(facts, version));
    checks.extend(headers("headers", &facts.running, Severity::Error));
    if facts.next != facts.running {
        checks.extend(headers("headers_next_boot", &facts.next, Severity::Warning));
    }
    checks.extend(kernels(facts, version));
    let tools = facts.compiler && facts.make;
    let mut compiler = check("compiler", tools, "installed", installed(tools), Cause::NoCompiler);
    if !tools {
        compiler.hint = Some("install the compiler and make".into());
        compiler.commands = vec![advice::external::apt_install("build-essential")];
    }
    checks.push(compiler);
    checks.push(libc_headers(facts));
    checks.extend(x_server(facts, version, stub));
    checks.extend(room(facts));
    if asked.dkms == Some(true) {
        let mut dkms = check("dkms", facts.dkms, "installed", installed(facts.dkms), Cause::NoDkms);
        if !facts.dkms {
            dkms.hint = Some("install DKMS, or use --no-dkms".into());
            dkms.commands = vec![advice::external::apt_install("dkms")];
        }
        checks.push(dkms);
    } else if !uses_dkms(facts, asked) {
        let mut dkms = Check::ok("host", "dkms", "not used".to_string());
        dkms.reason = Some("a kernel that is installed later has no module of this driver".into());
        checks.push(dkms);
    }
    checks.push(nouveau(facts));
    checks.push(others(facts, asked));
    checks.push(loaded(facts, version, stub));
    checks.push(secure_boot(facts, asked));
    let words = match types {
        Ok(Some(one)) => (*one).to_string(),
        Ok(None) => "proprietary or open".into(),
        Err(why) => why.to_string(),
    };
    checks.push(check("kernel_module", types.is_ok(), "supports all GPUs", words, Cause::NoType));
    checks.extend(vms(facts));
    checks
}

fn installed(is: bool) -> String {
    if is { "installed" } else { "missing" }.to_string()
}

fn headers(property: &str, kernel: &Option<HostKernel>, severity: Severity) -> Option<Check> {
    let kernel = kernel.as_ref()?;
    let actual = installed(kernel.headers);
    let mut one = check(property, kernel.headers, "installed", actual, Cause::NoHeaders);
    if !kernel.headers {
        one.severity = severity;
        one.reason = Some(format!("kernel {} has no headers", kernel.release));
        let package = advice::external::headers_package(&kernel.release);
        one.hint = Some("install the headers of this kernel".into());
        one.commands = vec![advice::external::apt_install(&package)];
    }
    Some(one)
}

fn uses_dkms(facts: &HostFacts, asked: HostOptions) -> bool {
    asked.dkms.unwrap_or(facts.dkms && facts.only_kernel.is_none())
}

/// DKMS signs with its own key. Without it the installer signs only with a key that is
/// given to it.
fn secure_boot(facts: &HostFacts, asked: HostOptions) -> Check {
    let Some(on) = facts.signing.secure_boot else {
        let mut one = check("secure_boot", false, "off", "unknown".into(), Cause::SecureBoot);
        one.status = CheckStatus::Unknown;
        one.reason = Some("the firmware's variable SecureBoot cannot be read".into());
        one.hint = Some("see 'mokutil --sb-state'; --force continues without it".into());
        return one;
    };
    let of_dkms = facts.signing.of_dkms.as_ref().filter(|_| uses_dkms(facts, asked));
    let enrolled = match asked.signed {
        Some(enrolled) => enrolled,
        None => of_dkms.is_some_and(|key| key.enrolled == Some(true)),
    };
    let actual = match (on, enrolled) {
        (false, _) => "off",
        (true, true) => "on, signed with an enrolled key",
        (true, false) => "on",
    };
    let good = !on || enrolled;
    let mut one = check("secure_boot", good, "off", actual.into(), Cause::SecureBoot);
    if good {
        one.expected = one.actual.clone();
        return one;
    }
    one.reason = Some("the kernel refuses modules without a valid signature".into());
    match of_dkms.filter(|_| asked.signed.is_none()) {
        Some(key) => {
            let words = "enroll DKMS's key; the firmware asks for the password at the next boot";
            one.hint = Some(words.into());
            one.commands = vec![advice::external::mokutil_import(&key.path)];
        }
        None => {
            one.hint = Some(
                "turn Secure Boot off in the firmware setup, or sign the modules with a machine \
                 owner key that is enrolled (--signing-key, --signing-cert)"
                    .into(),
            );
        }
    }
    one
}

/// A vGPU host needs the vGPU host driver, and a driver for VMs serves no host.
fn variant(facts: &HostFacts, flavour: Flavour) -> Check {
    let good = match flavour {
        Flavour::VgpuKvm => true,
        Flavour::Grid => false,
        _ => !facts.vgpu_host,
    };
    let expected = if facts.vgpu_host { "vgpu-kvm" } else { "driver" };
    let mut one = check("flavour", good, expected, flavour.as_str().into(), Cause::VgpuHost);
    if good {
        one.expected = one.actual.clone();
        return one;
    }
    one.reason = Some(match facts.vgpu_host {
        true => "this host runs NVIDIA's vGPU host driver: with another one its VMs lose their \
                 vGPUs"
            .into(),
        false => "this installer is the driver for VMs with a vGPU".into(),
    });
    one.hint = Some(match facts.vgpu_host {
        true => "use the installer of the vGPU host package (NVIDIA-Linux-...-vgpu-kvm.run)".into(),
        false => "use the common driver of the same branch".into(),
    });
    one
}

/// Where DKMS has the driver it builds the module for each kernel.
fn of_dkms(facts: &HostFacts, version: &str) -> Option<Check> {
    let kernel = facts.only_kernel.as_ref()?;
    let own = |(name, of): &&(String, String)| name == "nvidia" && of == version;
    facts.dkms_modules.iter().find(own)?;
    let mut one = check("dkms_module", false, "none", format!("nvidia/{version}"), Cause::OfDkms);
    one.reason = Some("DKMS has this driver and builds it for each kernel".into());
    one.hint = Some("have DKMS build it for this kernel".into());
    one.commands = vec![advice::external::dkms_install(&format!("nvidia/{version}"), kernel)];
    Some(one)
}

fn libc_headers(facts: &HostFacts) -> Check {
    let has = facts.libc_headers;
    let mut one = check("libc_headers", has, "installed", installed(has), Cause::NoLibcHeaders);
    if !has {
        one.hint = Some("install the headers of the C library".into());
        one.commands = vec![advice::external::apt_install("libc6-dev")];
    }
    one
}

/// An installer that accepts a running driver still ends at a running X server.
fn x_server(facts: &HostFacts, version: &str, stub: &Stub) -> Option<Check> {
    let pid = facts.x_server.filter(|_| has_option("--no-x-check", version, stub))?;
    let mut one = check("x_server", false, "none", format!("process {pid}"), Cause::XServer);
    one.reason = Some("the installer ends where an X server is running".into());
    one.hint = Some("stop the display manager first".into());
    one.commands = vec![advice::external::stop_display_manager()];
    Some(one)
}

/// What an unpacked driver and its installed files take, each.
const ROOM: u64 = 2 << 30;

fn room(facts: &HostFacts) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(free) = facts.free.filter(|free| *free < ROOM) {
        let actual = format!("{} MB", free / 1_000_000);
        let mut one = check("free_space", false, "2147 MB", actual, Cause::NoSpace);
        one.reason = Some("a full disk ends the installer half-way (SIGBUS)".into());
        one.hint = Some("free space on the file system of /usr".into());
        checks.push(one);
    }
    if facts.tmp_noexec {
        let mut one = check("tmp", false, "executable", "noexec".into(), Cause::TmpNoexec);
        one.reason = Some("the installer unpacks itself to /tmp and runs from there".into());
        one.hint = Some("allow it until the installer has ended".into());
        one.commands = vec![advice::external::remount_exec("/tmp")];
        checks.push(one);
    }
    checks
}

fn vms(facts: &HostFacts) -> Option<Check> {
    if facts.vms.is_empty() {
        return None;
    }
    let ids: Vec<String> = facts.vms.iter().map(u32::to_string).collect();
    let mut one = Check::ok("host", "vms", ids.join(" "));
    (one.status, one.severity) = (CheckStatus::Unknown, Severity::Info);
    one.reason = Some("they are running with PCI functions that the driver does not use".into());
    Some(one)
}

fn nouveau(facts: &HostFacts) -> Check {
    let (good, actual) = match (facts.nouveau.loaded, facts.nouveau.blacklisted) {
        (true, _) => (false, "loaded"),
        (false, true) => (true, "blacklisted"),
        (false, false) => (false, "not blacklisted"),
    };
    let mut one = check("nouveau", good, "blacklisted", actual.into(), Cause::Nouveau);
    if !good {
        let hint = facts.nouveau.hint();
        (one.hint, one.commands) = (hint.words, hint.commands);
        if !facts.nouveau.loaded {
            one.severity = Severity::Warning;
        }
    }
    one
}

fn others(facts: &HostFacts, asked: HostOptions) -> Check {
    let words = |package: &DriverPackage| match package.complete {
        true => package.name.clone(),
        false => format!("{} (not completely installed)", package.name),
    };
    let mut found: Vec<String> = facts.packages.iter().map(words).collect();
    found.extend(facts.foreign_dkms_modules().map(|(name, version)| format!("{name}/{version}")));
    if let Some(why) = &facts.unread {
        let actual = "unknown".to_string();
        let mut one = check("other_packaging", false, "none", actual, Cause::Packages);
        one.status = CheckStatus::Unknown;
        one.reason = Some(format!("cannot determine which drivers are installed: {why}"));
        return one;
    }
    let none = found.is_empty();
    let actual = if none { "none".into() } else { found.join(" ") };
    let mut one = check("other_packaging", none || asked.purge, "none", actual, Cause::Packages);
    if !none {
        match asked.purge {
            true => one.reason = Some("--purge removes them first".into()),
            false => {
                one.hint = Some("use --purge to remove them; --dry-run --purge shows how".into());
            }
        }
    }
    one
}

fn loaded(facts: &HostFacts, version: &str, stub: &Stub) -> Check {
    let actual = facts.loaded.clone().unwrap_or_else(|| "none".into());
    let free = facts.loaded.is_none();
    let stays_loaded = has_option("--allow-installation-with-running-driver", version, stub);
    let mut one = check("loaded_module", free || stays_loaded, "none", actual, Cause::Loaded);
    if free {
        return one;
    }
    let held = match facts.holders.is_empty() {
        true => String::new(),
        false => format!("; in use by {}", facts.holders.join(", ")),
    };
    if stays_loaded {
        one.status = CheckStatus::Unknown;
        one.severity = Severity::Warning;
        one.reason = Some(format!("the loaded module is in use until the next boot{held}"));
    } else {
        one.reason = Some(format!("this installer needs the kernel module to be unloaded{held}"));
        one.hint = Some("stop the programs that use the GPU first".into());
        one.commands = vec![advice::external::unload_nvidia()];
    }
    one
}

/// Commands that remove drivers that are installed by other means.
pub fn purge(facts: &HostFacts) -> Vec<CommandLine> {
    let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    let mut commands = Vec::new();
    if !facts.packages.is_empty() {
        let mut command = words(&["/usr/bin/apt-get", "purge", "-y"]);
        command.extend(facts.packages.iter().map(|package| package.name.clone()));
        commands.push(command);
    }
    // removing a package removes its module too: a missing module is not a failure
    for (name, version) in facts.foreign_dkms_modules() {
        let module = format!("{name}/{version}");
        commands.push(words(&["/usr/sbin/dkms", "remove", &module, "--all"]));
    }
    commands
}

/// The installer's options on a host.
pub fn options(
    facts: &HostFacts,
    version: &str,
    asked: HostOptions,
    kind: Option<&str>,
    stub: &Stub,
) -> Vec<String> {
    let mut options: Vec<String> = vec!["--silent".into()];
    let mut add = |option: &str| {
        if has_option(option, version, stub) {
            options.push(option.into());
        }
    };
    // the default of --silent changed with 520, so the answer is always given
    match uses_dkms(facts, asked) {
        true => add("--dkms"),
        false => add("--no-dkms"),
    }
    // the administrator decides about blacklists: GPUs may be on vfio-pci
    add("--no-disable-nouveau");
    if facts.loaded.is_some() {
        add("--allow-installation-with-running-driver");
        add("--skip-module-load");
    }
    if let Some(kernel) = &facts.only_kernel {
        if facts.installed.as_deref() == Some(version) {
            // the module alone: what is installed stays
            options.push("-K".into());
        }
        options.push(format!("--kernel-name={kernel}"));
    }
    match kind {
        Some(kind) if has_option("--kernel-module-type", version, stub) => {
            options.push(format!("--kernel-module-type={kind}"));
        }
        Some("open") if has_option("--kernel-module-build-directory", version, stub) => {
            options.push("--kernel-module-build-directory=kernel-open".into());
        }
        _ => {}
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::signing::{Signing, SigningKey};
    use nvidia::Nouveau;
    use pci::Function;

    const DEFAULTS: HostOptions = HostOptions { purge: false, dkms: None, signed: None };

    fn host() -> HostFacts {
        let kernel = |release: &str| Some(HostKernel { release: release.into(), headers: true });
        HostFacts {
            running: kernel("6.14.11-4-pve"),
            next: kernel("6.14.11-4-pve"),
            compiler: true,
            make: true,
            dkms: true,
            nouveau: Nouveau { loaded: false, blacklisted: true },
            libc_headers: true,
            signing: Signing { secure_boot: Some(false), of_dkms: None },
            ..HostFacts::default()
        }
    }

    fn package(name: &str, complete: bool) -> DriverPackage {
        DriverPackage { name: name.into(), complete }
    }

    fn causes(facts: &HostFacts, asked: HostOptions) -> Vec<String> {
        let stub = Stub::default();
        let checks = preflight(facts, "550.163.01", asked, &Ok(None), Flavour::Driver, &stub);
        let bad = checks.into_iter().filter(|check| check.severity == Severity::Error);
        bad.filter_map(|check| check.cause).collect()
    }

    #[test]
    fn each_obstacle_is_named() {
        assert_eq!(causes(&host(), DEFAULTS), Vec::<String>::new());
        type Spoil = fn(&mut HostFacts);
        let cases: [(&str, Spoil); 13] = [
            ("no-headers", |f| f.running.as_mut().unwrap().headers = false),
            ("no-compiler", |f| f.make = false),
            ("nouveau", |f| f.nouveau.loaded = true),
            ("packages", |f| f.packages = vec![package("nvidia-driver", true)]),
            ("packages", |f| f.packages = vec![package("nvidia-kernel-dkms", false)]),
            ("packages", |f| f.unread = Some("'/var/lib/dpkg/status': denied".into())),
            ("packages", |f| f.dkms_modules = vec![("nvidia-current".into(), "550.1".into())]),
            ("secure-boot", |f| f.signing.secure_boot = Some(true)),
            ("secure-boot", |f| f.signing.secure_boot = None),
            ("no-libc-headers", |f| f.libc_headers = false),
            ("x-server", |f| f.x_server = Some(812)),
            ("vgpu-host", |f| f.vgpu_host = true),
            ("no-space", |f| f.free = Some(1 << 20)),
        ];
        for (cause, spoil) in cases {
            let mut facts = host();
            spoil(&mut facts);
            assert_eq!(causes(&facts, DEFAULTS), [cause]);
        }
        let mut facts = host();
        facts.packages = vec![package("nvidia-driver", true)];
        facts.dkms_modules = vec![("nvidia-current".into(), "550.1".into())];
        assert!(causes(&facts, HostOptions { purge: true, ..DEFAULTS }).is_empty());
        let commands: Vec<String> = purge(&facts).iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            commands,
            [
                "/usr/bin/apt-get purge -y nvidia-driver",
                "/usr/sbin/dkms remove nvidia-current/550.1 --all"
            ]
        );
    }

    /// With DKMS's enrolled key the install was refused, and only --force, which waives
    /// everything, passed.
    #[test]
    fn secure_boot_accepts_modules_that_an_enrolled_key_signs() {
        let mut facts = host();
        facts.signing.secure_boot = Some(true);
        let key = |enrolled| SigningKey { path: "/var/lib/dkms/mok.pub".into(), enrolled };
        for (enrolled, good) in [(Some(true), true), (Some(false), false), (None, false)] {
            facts.signing.of_dkms = Some(key(enrolled));
            assert_eq!(causes(&facts, DEFAULTS).is_empty(), good, "{enrolled:?}");
        }
        facts.signing.of_dkms = Some(key(Some(true)));
        let no_dkms = HostOptions { dkms: Some(false), ..DEFAULTS };
        assert_eq!(causes(&facts, no_dkms), ["secure-boot"], "DKMS would sign, not the installer");
        let given = |signed| causes(&facts, HostOptions { signed: Some(signed), ..no_dkms });
        assert!(given(true).is_empty());
        assert_eq!(given(false), ["secure-boot"]);
    }

    #[test]
    fn a_module_is_built_for_one_kernel_alone_where_the_driver_is_installed() {
        let mut facts = host();
        (facts.installed, facts.loaded) = (Some("550.163.01".into()), Some("550.163.01".into()));
        facts.only_kernel = Some("6.14.11-5-pve".into());
        let of = |facts: &HostFacts| {
            options(facts, "550.163.01", DEFAULTS, None, &Stub::default()).join(" ")
        };
        assert!(of(&facts).starts_with("--silent --no-dkms "), "{}", of(&facts));
        assert!(of(&facts).ends_with(" -K --kernel-name=6.14.11-5-pve"), "{}", of(&facts));
        facts.installed = None;
        assert!(!of(&facts).contains(" -K "));
        // where DKMS has it, DKMS builds it
        facts.dkms_modules = vec![("nvidia".into(), "550.163.01".into())];
        facts.installed = Some("550.163.01".into());
        assert_eq!(causes(&facts, DEFAULTS), ["of-dkms"]);
    }

    #[test]
    fn a_loaded_module_stops_old_installers_only() {
        let mut facts = host();
        facts.loaded = Some("535.216.01".into());
        let of = |version: &str| {
            let stub = Stub::default();
            let checks = preflight(&facts, version, DEFAULTS, &Ok(None), Flavour::Driver, &stub);
            checks.into_iter().find(|c| c.property == "loaded_module").unwrap().severity
        };
        assert_eq!(of("535.261.03"), Severity::Error);
        assert_eq!(of("550.163.01"), Severity::Warning);
    }

    #[test]
    fn kernels_that_are_known_to_fail_are_named() {
        for (version, release, fails) in [
            ("550.163.01", "6.17.13-2-pve", true),
            ("550.144.03", "6.17.0", true),
            ("550.163.01", "6.14.11-4-pve", false),
            ("555.58.02", "6.17.1-pve", true),
            ("580.142", "6.19.0", false),
            ("610.43.02", "7.0.0", false),
        ] {
            let build = nvidia::DriverBuild::of_nvidia(version);
            assert_eq!(nvidia::kernel_limit(build, release).is_some(), fails, "{version}");
        }
        let mut facts = host();
        let new = Some(HostKernel { release: "6.17.13-2-pve".into(), headers: true });
        facts.next = new.clone();
        assert!(causes(&facts, DEFAULTS).is_empty(), "a warning: it is the next boot's");
        facts.running = new;
        assert_eq!(causes(&facts, DEFAULTS), ["kernel-too-new"]);
    }

    #[test]
    fn options_are_spelled_as_the_version_does() {
        let mut facts = host();
        let of = |facts: &HostFacts, version, dkms, kind| {
            let asked = HostOptions { dkms, ..DEFAULTS };
            options(facts, version, asked, kind, &Stub::default()).join(" ")
        };
        assert_eq!(of(&facts, "470.256.02", None, None), "--silent --dkms");
        assert_eq!(of(&facts, "470.256.02", Some(false), None), "--silent");
        assert_eq!(of(&facts, "535.261.03", Some(false), None), "--silent --no-dkms");
        assert_eq!(
            of(&facts, "550.163.01", None, Some("open")),
            "--silent --dkms --no-disable-nouveau --kernel-module-build-directory=kernel-open"
        );
        assert_eq!(
            of(&facts, "570.211.01", None, Some("proprietary")),
            "--silent --dkms --no-disable-nouveau --kernel-module-type=proprietary"
        );
        facts.loaded = Some("550.144.03".into());
        assert_eq!(
            of(&facts, "550.163.01", None, None),
            "--silent --dkms --no-disable-nouveau --allow-installation-with-running-driver \
             --skip-module-load"
        );
    }

    #[test]
    fn the_gpus_decide_the_type_of_modules() {
        let list = SupportedGpus::parse(
            br#"{"chips":[
            {"devid":"0x1DB6","features":[]},
            {"devid":"0x13C2","legacybranch":"580.xx","features":[]},
            {"devid":"0x2684","features":["kernelopen","gsp_proprietary_supported"]},
            {"devid":"0x2B85","features":["kernelopen"]}]}"#,
        )
        .unwrap();
        let manifest = Manifest::parse(
            b"d\n550.163.01\n \nnvidia\n \n \n \n \n\
            kernel/Kbuild 0644 KERNEL_MODULE_SRC INHERIT_PATH_DEPTH:1\n\
            kernel-open/Kbuild 0644 KERNEL_MODULE_SRC INHERIT_PATH_DEPTH:1\n\n",
        )
        .unwrap();
        let of = |devices: &[u16]| {
            let mut facts = host();
            for (slot, device) in devices.iter().enumerate() {
                let mut gpu = Function::bare(format!("0{slot}:00.0").parse().unwrap());
                (gpu.device, gpu.class) = (Some(*device), Some(0x03_0000));
                facts.gpus.push(gpu);
            }
            module_type(&facts, Some(&list), &manifest)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[0x2684]), Ok(None));
        assert_eq!(of(&[0x2684, 0x1db6]), Ok(Some("proprietary")));
        assert_eq!(of(&[0x2b85, 0x2684]), Ok(Some("open")));
        assert!(of(&[0x2b85, 0x1db6]).is_err());
        assert!(of(&[0x13c2]).unwrap_err().to_string().contains("580.xx"));
    }
}
