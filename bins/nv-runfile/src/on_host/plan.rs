//! What the pre-flight finds, what has to go first, and how the installer is
//! called: decided without touching anything.

use record::{Check, CheckStatus, Severity};
use runfile::{Manifest, Stub, SupportedGpus};

use crate::on_host::cause::Cause;
use crate::on_host::facts::{HostFacts, Kernel};
use crate::spelling::has;

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Remove other packagings first.
    pub purge: bool,
    /// `--dkms`, `--no-dkms`; `None`: where dkms is there.
    pub dkms: Option<bool>,
}

/// The type of kernel modules that drives all GPUs which the driver is to have.
/// `None` where either does. Errors: no type drives them all, in words.
pub fn module_type(
    facts: &HostFacts,
    list: Option<&SupportedGpus>,
    manifest: &Manifest,
) -> Result<Option<&'static str>, String> {
    let mut types = vec!["proprietary", "open"];
    // a GPU that VMs use is none of this driver's business
    for gpu in facts.gpus.iter().filter(|gpu| !gpu.on_vfio()) {
        let board = gpu.subsystem_vendor.zip(gpu.subsystem_device);
        let chip = list.zip(gpu.device).and_then(|(list, device)| list.find(device, board));
        let Some(chip) = chip else { continue };
        if let Some(branch) = &chip.legacybranch {
            return Err(format!("{} is driven by branch {branch} at most", gpu.address));
        }
        let names = chip.modules().names();
        types.retain(|name| names.contains(name));
        if types.is_empty() {
            return Err("no type of kernel modules drives all of its GPUs".into());
        }
    }
    let packed = manifest.module_types();
    types.retain(|name| packed.contains(name));
    match types[..] {
        [] => Err("this installer has no kernel modules for its GPUs".into()),
        [one] => Ok(Some(one)),
        _ => Ok(None),
    }
}

fn kernels(facts: &HostFacts, version: &str) -> Option<Check> {
    let limit = nvidia::kernel_limits(version).next()?;
    let kernels = [&facts.running, &facts.next].into_iter().flatten();
    let new: Vec<&str> = kernels
        .map(|kernel| kernel.release.as_str())
        .filter(|release| limit.reaches(release))
        .collect();
    let running = facts.running.as_ref().is_some_and(|k| limit.reaches(&k.release));
    let actual = new.first().map_or_else(|| "older".to_string(), |release| release.to_string());
    let mut one = check("kernel", new.is_empty(), "", actual, Cause::KernelTooNew);
    one.expected = Some(format!("older than {}", limit.first_kernel));
    if !new.is_empty() {
        one.severity = if running { Severity::Error } else { Severity::Warning };
        one.reason = Some(format!("the modules of {version} are known to fail on it"));
        one.hint = Some(
            "take a newer driver, or pin an older kernel: proxmox-boot-tool kernel pin".into(),
        );
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

/// The pre-flight. What is of severity error stands in the way.
pub fn preflight(
    facts: &HostFacts,
    version: &str,
    wish: Wish,
    types: &Result<Option<&'static str>, String>,
    stub: &Stub,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let there = |there: bool| if there { "there" } else { "missing" }.to_string();
    let mut headers = |property: &str, kernel: &Option<Kernel>, severity| {
        let Some(kernel) = kernel else { return };
        let mut one =
            check(property, kernel.headers, "there", there(kernel.headers), Cause::NoHeaders);
        if !kernel.headers {
            one.severity = severity;
            one.reason = Some(format!("for kernel {}", kernel.release));
            let package = match kernel.release.ends_with("-pve") {
                true => "proxmox-headers",
                false => "linux-headers",
            };
            one.hint = Some(format!("apt-get install {package}-{}", kernel.release));
        }
        checks.push(one);
    };
    headers("headers", &facts.running, Severity::Error);
    if facts.next != facts.running {
        headers("headers_next_boot", &facts.next, Severity::Warning);
    }
    checks.extend(kernels(facts, version));
    let tools = facts.compiler && facts.make;
    let mut one = check("compiler", tools, "there", there(tools), Cause::NoCompiler);
    one.hint = (!tools).then(|| "apt-get install gcc make".into());
    checks.push(one);
    if wish.dkms == Some(true) {
        let mut one = check("dkms", facts.dkms, "there", there(facts.dkms), Cause::NoDkms);
        one.hint = (!facts.dkms).then(|| "apt-get install dkms, or --no-dkms".into());
        checks.push(one);
    }
    checks.push(nouveau(facts));
    checks.push(others(facts, wish));
    checks.push(loaded(facts, version, stub));
    let on = if facts.secure_boot { "on" } else { "off" };
    let mut one = check("secure_boot", !facts.secure_boot, "off", on.into(), Cause::SecureBoot);
    if facts.secure_boot {
        one.reason = Some("the kernel would refuse modules that nobody signed".into());
        one.hint =
            Some("turn it off, or sign the modules with a key of the machine's owner".into());
    }
    checks.push(one);
    let words = match types {
        Ok(Some(one)) => (*one).to_string(),
        Ok(None) => "proprietary or open".into(),
        Err(why) => why.clone(),
    };
    checks.push(check(
        "kernel_module",
        types.is_ok(),
        "one that drives all GPUs",
        words,
        Cause::NoType,
    ));
    if !facts.vms.is_empty() {
        let ids: Vec<String> = facts.vms.iter().map(u32::to_string).collect();
        let mut one = Check::ok("host", "vms", ids.join(" "));
        (one.status, one.severity) = (CheckStatus::Unknown, Severity::Info);
        one.reason = Some("they run with PCI functions, which the driver leaves to them".into());
        checks.push(one);
    }
    checks
}

fn nouveau(facts: &HostFacts) -> Check {
    let (good, actual) = match (facts.nouveau_loaded, facts.nouveau_blacklisted) {
        (true, _) => (false, "loaded"),
        (false, true) => (true, "blacklisted"),
        (false, false) => (false, "not blacklisted"),
    };
    let mut one = check("nouveau", good, "blacklisted", actual.into(), Cause::Nouveau);
    if !good {
        let file = "/etc/modprobe.d/blacklist-nouveau.conf";
        one.hint = Some(match facts.nouveau_loaded {
            true => format!("echo 'blacklist nouveau' >{file}; update-initramfs -u; reboot"),
            false => format!("echo 'blacklist nouveau' >{file}; update-initramfs -u"),
        });
        if !facts.nouveau_loaded {
            one.severity = Severity::Warning;
        }
    }
    one
}

fn others(facts: &HostFacts, wish: Wish) -> Check {
    let mut found = facts.packages.clone();
    let dkms = facts.dkms_modules.iter();
    // what the installer itself put there it removes itself
    let foreign = dkms.filter(|(_, version)| facts.installed.as_ref() != Some(version));
    found.extend(foreign.map(|(name, version)| format!("{name}/{version}")));
    let none = found.is_empty();
    let actual = if none { "none".into() } else { found.join(" ") };
    let mut one = check("other_packaging", none || wish.purge, "none", actual, Cause::Packages);
    if !none {
        match wish.purge {
            true => one.reason = Some("--purge removes it".into()),
            false => one.hint = Some("--purge removes it first; see --dry-run --purge".into()),
        }
    }
    one
}

fn loaded(facts: &HostFacts, version: &str, stub: &Stub) -> Check {
    let actual = facts.loaded.clone().unwrap_or_else(|| "none".into());
    let free = facts.loaded.is_none();
    let goes_on = has("--allow-installation-with-running-driver", version, stub);
    let mut one = check("loaded_module", free || goes_on, "none", actual, Cause::Loaded);
    if free {
        return one;
    }
    let held = match facts.holders.is_empty() {
        true => String::new(),
        false => format!("; in use by {}", facts.holders.join(", ")),
    };
    if goes_on {
        one.status = CheckStatus::Unknown;
        one.severity = Severity::Warning;
        one.reason = Some(format!("it stays loaded until the next boot{held}"));
    } else {
        one.reason = Some(format!("this installer does not install beside a loaded module{held}"));
        one.hint = Some(
            "stop what uses the GPU, then modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia"
                .into(),
        );
    }
    one
}

/// Commands that remove other packagings.
pub fn purge(facts: &HostFacts) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    let mut commands = Vec::new();
    if !facts.packages.is_empty() {
        let mut command = words(&["/usr/bin/apt-get", "purge", "-y"]);
        command.extend(facts.packages.iter().cloned());
        commands.push(command);
    }
    // a package takes its own module along: what is gone by then is no failure
    for (name, version) in &facts.dkms_modules {
        if facts.installed.as_ref() != Some(version) {
            let module = format!("{name}/{version}");
            commands.push(words(&["/usr/sbin/dkms", "remove", &module, "--all"]));
        }
    }
    commands
}

/// How the installer is called on a host.
pub fn options(
    facts: &HostFacts,
    version: &str,
    wish: Wish,
    kind: Option<&str>,
    stub: &Stub,
) -> Vec<String> {
    let mut options: Vec<String> = vec!["--silent".into()];
    let mut add = |option: &str| {
        if has(option, version, stub) {
            options.push(option.into());
        }
    };
    // silent means no before 520 and yes since: said in words where it can be
    match wish.dkms.unwrap_or(facts.dkms) {
        true => add("--dkms"),
        false => add("--no-dkms"),
    }
    // blacklists are the host's own business: its GPUs may be on vfio-pci
    add("--no-disable-nouveau");
    if facts.loaded.is_some() {
        add("--allow-installation-with-running-driver");
        add("--skip-module-load");
    }
    match kind {
        Some(kind) if has("--kernel-module-type", version, stub) => {
            options.push(format!("--kernel-module-type={kind}"));
        }
        Some("open") if has("--kernel-module-build-directory", version, stub) => {
            options.push("--kernel-module-build-directory=kernel-open".into());
        }
        _ => {}
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use pci::Function;

    const WISH: Wish = Wish { purge: false, dkms: None };

    fn host() -> HostFacts {
        let kernel = |release: &str| Some(Kernel { release: release.into(), headers: true });
        HostFacts {
            running: kernel("6.14.11-4-pve"),
            next: kernel("6.14.11-4-pve"),
            compiler: true,
            make: true,
            dkms: true,
            nouveau_blacklisted: true,
            ..HostFacts::default()
        }
    }

    fn causes(facts: &HostFacts, wish: Wish) -> Vec<String> {
        let checks = preflight(facts, "550.163.01", wish, &Ok(None), &Stub::default());
        let bad = checks.into_iter().filter(|check| check.severity == Severity::Error);
        bad.filter_map(|check| check.cause).collect()
    }

    #[test]
    fn each_obstacle_is_named() {
        assert_eq!(causes(&host(), WISH), Vec::<String>::new());
        type Spoil = fn(&mut HostFacts);
        let cases: [(&str, Spoil); 6] = [
            ("no-headers", |f| f.running.as_mut().unwrap().headers = false),
            ("no-compiler", |f| f.make = false),
            ("nouveau", |f| f.nouveau_loaded = true),
            ("packages", |f| f.packages = vec!["nvidia-driver".into()]),
            ("packages", |f| f.dkms_modules = vec![("nvidia-current".into(), "550.1".into())]),
            ("secure-boot", |f| f.secure_boot = true),
        ];
        for (cause, spoil) in cases {
            let mut facts = host();
            spoil(&mut facts);
            assert_eq!(causes(&facts, WISH), [cause]);
        }
        let mut facts = host();
        facts.packages = vec!["nvidia-driver".into()];
        facts.dkms_modules = vec![("nvidia-current".into(), "550.1".into())];
        assert!(causes(&facts, Wish { purge: true, dkms: None }).is_empty());
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
            let checks = preflight(&facts, version, WISH, &Ok(None), &Stub::default());
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
            assert_eq!(nvidia::kernel_limit(version, release).is_some(), fails, "{version}");
        }
        let mut facts = host();
        let new = Some(Kernel { release: "6.17.13-2-pve".into(), headers: true });
        facts.next = new.clone();
        assert!(causes(&facts, WISH).is_empty(), "a warning: it is the next boot's");
        facts.running = new;
        assert_eq!(causes(&facts, WISH), ["kernel-too-new"]);
    }

    #[test]
    fn options_are_spelled_as_the_version_does() {
        let mut facts = host();
        let of = |facts: &HostFacts, version, dkms, kind| {
            let wish = Wish { purge: false, dkms };
            options(facts, version, wish, kind, &Stub::default()).join(" ")
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
    fn the_cards_choose_the_type() {
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
        assert!(of(&[0x13c2]).unwrap_err().contains("580.xx"));
    }
}
