//! The pre-flight check, what must be removed first, and the options of the
//! installer: decided from the facts, without any I/O.

use std::fmt;

use record::{Check, CheckStatus, CommandLine, Severity};
use runfile::{Manifest, Stub, SupportedGpus};

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
    SecureBoot "secure-boot" "Secure Boot is on, so the kernel refuses modules without a valid signature.",
    NoType "no-type" "No type of kernel modules in this installer supports all GPUs of the host.",
    RebootRequired "reboot-required" "The new kernel module is installed but not loaded.",
}

/// Options of `install --host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostOptions {
    /// Remove drivers that are installed by other means first.
    pub purge: bool,
    /// `--dkms` or `--no-dkms`; `None`: use DKMS if it is installed.
    pub dkms: Option<bool>,
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
            limit.source,
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
    stub: &Stub,
) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(headers("headers", &facts.running, Severity::Error));
    if facts.next != facts.running {
        checks.extend(headers("headers_next_boot", &facts.next, Severity::Warning));
    }
    checks.extend(kernels(facts, version));
    let tools = facts.compiler && facts.make;
    let mut compiler = check("compiler", tools, "installed", installed(tools), Cause::NoCompiler);
    compiler.hint = (!tools).then(|| "install the packages gcc and make".into());
    checks.push(compiler);
    if asked.dkms == Some(true) {
        let mut dkms = check("dkms", facts.dkms, "installed", installed(facts.dkms), Cause::NoDkms);
        dkms.hint = (!facts.dkms).then(|| "install the package dkms, or use --no-dkms".into());
        checks.push(dkms);
    }
    checks.push(nouveau(facts));
    checks.push(others(facts, asked));
    checks.push(loaded(facts, version, stub));
    checks.push(secure_boot(facts));
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
        let package = match kernel.release.ends_with("-pve") {
            true => "proxmox-headers",
            false => "linux-headers",
        };
        one.hint = Some(format!("install the package {package}-{}", kernel.release));
    }
    Some(one)
}

fn secure_boot(facts: &HostFacts) -> Check {
    let on = if facts.secure_boot { "on" } else { "off" };
    let mut one = check("secure_boot", !facts.secure_boot, "off", on.into(), Cause::SecureBoot);
    if facts.secure_boot {
        one.reason = Some("the kernel refuses modules without a valid signature".into());
        one.hint = Some(
            "turn Secure Boot off in the firmware setup, or sign the modules with a machine \
             owner key"
                .into(),
        );
    }
    one
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
    match asked.dkms.unwrap_or(facts.dkms) {
        true => add("--dkms"),
        false => add("--no-dkms"),
    }
    // the administrator decides about blacklists: GPUs may be on vfio-pci
    add("--no-disable-nouveau");
    if facts.loaded.is_some() {
        add("--allow-installation-with-running-driver");
        add("--skip-module-load");
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
    use nvidia::Nouveau;
    use pci::Function;

    const DEFAULTS: HostOptions = HostOptions { purge: false, dkms: None };

    fn host() -> HostFacts {
        let kernel = |release: &str| Some(HostKernel { release: release.into(), headers: true });
        HostFacts {
            running: kernel("6.14.11-4-pve"),
            next: kernel("6.14.11-4-pve"),
            compiler: true,
            make: true,
            dkms: true,
            nouveau: Nouveau { loaded: false, blacklisted: true },
            ..HostFacts::default()
        }
    }

    fn package(name: &str, complete: bool) -> DriverPackage {
        DriverPackage { name: name.into(), complete }
    }

    fn causes(facts: &HostFacts, asked: HostOptions) -> Vec<String> {
        let checks = preflight(facts, "550.163.01", asked, &Ok(None), &Stub::default());
        let bad = checks.into_iter().filter(|check| check.severity == Severity::Error);
        bad.filter_map(|check| check.cause).collect()
    }

    #[test]
    fn each_obstacle_is_named() {
        assert_eq!(causes(&host(), DEFAULTS), Vec::<String>::new());
        type Spoil = fn(&mut HostFacts);
        let cases: [(&str, Spoil); 8] = [
            ("no-headers", |f| f.running.as_mut().unwrap().headers = false),
            ("no-compiler", |f| f.make = false),
            ("nouveau", |f| f.nouveau.loaded = true),
            ("packages", |f| f.packages = vec![package("nvidia-driver", true)]),
            ("packages", |f| f.packages = vec![package("nvidia-kernel-dkms", false)]),
            ("packages", |f| f.unread = Some("'/var/lib/dpkg/status': denied".into())),
            ("packages", |f| f.dkms_modules = vec![("nvidia-current".into(), "550.1".into())]),
            ("secure-boot", |f| f.secure_boot = true),
        ];
        for (cause, spoil) in cases {
            let mut facts = host();
            spoil(&mut facts);
            assert_eq!(causes(&facts, DEFAULTS), [cause]);
        }
        let mut facts = host();
        facts.packages = vec![package("nvidia-driver", true)];
        facts.dkms_modules = vec![("nvidia-current".into(), "550.1".into())];
        assert!(causes(&facts, HostOptions { purge: true, dkms: None }).is_empty());
        let commands: Vec<String> = purge(&facts).iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            commands,
            [
                "/usr/bin/apt-get purge -y nvidia-driver",
                "/usr/sbin/dkms remove nvidia-current/550.1 --all"
            ]
        );
    }

    #[test]
    fn a_loaded_module_stops_old_installers_only() {
        let mut facts = host();
        facts.loaded = Some("535.216.01".into());
        let of = |version: &str| {
            let checks = preflight(&facts, version, DEFAULTS, &Ok(None), &Stub::default());
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
            let asked = HostOptions { purge: false, dkms };
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
