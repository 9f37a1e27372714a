//! The toolkit part of a CUDA installer, installed by the installer itself in the
//! container.

use std::time::Duration;

use ::cli::{Exit, Failure, Progress, Say, fail, interrupted};
use host::Machine;
use record::Verified;
use runfile::{Arch, Flavour, digest};

use crate::install::container::Container;
use crate::install::other_installation::run_installation;
use crate::install::verify::damaged;
use crate::installer::runfile_record::verdict;
use crate::installer::{Installer, NamedInstaller};
use crate::toolkit::packages::exec;
use crate::toolkit::release::CudaRelease;

const PUSH: Duration = Duration::from_secs(20 * 60);
const INSTALL: Duration = Duration::from_secs(2 * 3600);
const SHORT: Duration = Duration::from_secs(60);
/// Not in /tmp, which may be in memory.
const INSIDE: &str = "/var/tmp/nv-runfile-cuda.run";
/// Options of cuda-installer. Without --driver it does not install its driver.
const OPTIONS: [&str; 3] = ["--silent", "--toolkit", "--override"];

/// A verified CUDA installer.
pub struct CudaRun {
    installer: Installer,
    pub release: CudaRelease,
}

impl CudaRun {
    /// Opens and verifies one. `copy` as of [`Installer::for_other_program`]. Errors: it is
    /// not a CUDA installer, it is damaged, or for another architecture or release.
    pub fn open(
        named: &NamedInstaller,
        copy: Option<&Machine>,
        requested: Option<CudaRelease>,
        architecture: &str,
        say: &Say,
    ) -> Result<CudaRun, Failure> {
        let mut installer = Installer::for_other_program(named, copy, say)?;
        match CudaRun::verified(&mut installer, requested, architecture, say) {
            Ok(release) => Ok(CudaRun { installer, release }),
            Err(failure) => {
                installer.close(say);
                Err(failure)
            }
        }
    }

    /// Removes the copy of the installer, if there is one.
    pub fn close(self, say: &Say) {
        self.installer.close(say);
    }

    fn verified(
        installer: &mut Installer,
        requested: Option<CudaRelease>,
        architecture: &str,
        say: &Say,
    ) -> Result<CudaRelease, Failure> {
        let shown = installer.path.clone();
        let usage = |what: String| fail(Exit::Usage, format!("'{shown}' {what}"));
        if installer.header.flavour() != Flavour::Cuda {
            return Err(usage("is not a CUDA installer".into()));
        }
        let own = installer.header.version().and_then(CudaRelease::of);
        let release = match (own, requested) {
            (Some(own), Some(requested)) if own != requested => {
                let what = format!("is CUDA {}, not {}", own.dotted(), requested.dotted());
                return Err(usage(what));
            }
            (Some(release), _) | (None, Some(release)) => release,
            (None, None) => {
                return Err(
                    usage("does not state its release".into()).hint("name the release with --cuda")
                );
            }
        };
        let for_it = match installer.header.arch() {
            Some(Arch::X86_64) => architecture == "amd64",
            Some(Arch::Aarch64) => architecture == "arm64",
            Some(_) => false,
            None => true,
        };
        if !for_it {
            let message = format!("'{shown}' is not for a container of {architecture}");
            return Err(fail(Exit::Refused, message));
        }
        let stated = installer.stated_digests();
        let progress = Progress::new(say, "verifying", Some(installer.header.size));
        let at = |at| progress.at(at);
        let (source, _) = installer.source(&interrupted, &at)?;
        let digests = digest(source, &stated).map_err(|error| installer.pass_error(error))?;
        drop(progress);
        match verdict(&digests) {
            Verified::Mismatch => {
                return Err(damaged(&shown, &digests));
            }
            Verified::Undigested => {
                say.warn(&format!("'{shown}' carries no digest to compare"));
            }
            Verified::Intact | Verified::Pinned | Verified::Unchecked => {}
        }
        Ok(release)
    }

    /// The command, as records show it.
    pub fn command(&self) -> String {
        format!("sh {} {}", self.installer.path, OPTIONS.join(" "))
    }

    /// Runs it in the container.
    pub fn install(&self, machine: &Machine, container: &Container<'_>) -> Result<(), Failure> {
        let (name, ctid) = (container.guest.target(), container.guest.ctid.to_string());
        let path = self.installer.path_for_others();
        let driver = run_installation(&container.root)?;
        let push = ["/usr/sbin/pct", "push", &ctid, &path, INSIDE, "--perms", "0755"];
        let result = match machine.run(&push, PUSH)? {
            None => Err(fail(Exit::System, "no command is run with --root")),
            Some(ran) if !ran.success() => {
                Err(fail(Exit::System, format!("{name}: pct push: {}", ran.reason())))
            }
            Some(_) => self.execute(container),
        };
        // also after a failure: the file has some gigabytes
        let removed = container.exec(&["rm", "-f", INSIDE], SHORT)?;
        result?;
        if let Some(ran) = removed.filter(|ran| !ran.success()) {
            let message = format!("{name}: '{INSIDE}' could not be removed: {}", ran.reason());
            return Err(fail(Exit::System, message));
        }
        match run_installation(&container.root)? {
            now if now == driver => Ok(()),
            _ => Err(fail(Exit::System, format!("{name}: the installer also installed a driver"))
                .hint("run 'nvidia-uninstall' in the container")),
        }
    }

    fn execute(&self, container: &Container<'_>) -> Result<(), Failure> {
        // the installer unpacks itself to TMPDIR
        let words = [&["env", "TMPDIR=/var/tmp", "sh", INSIDE], OPTIONS.as_slice()].concat();
        let ran = exec(container, &words, INSTALL)?;
        if ran.success() {
            return Ok(());
        }
        let log = container.root.read_text("/var/log/cuda-installer.log", 16 << 20);
        let log = log.unwrap_or_default();
        let error = log.lines().rev().find(|line| line.contains("[ERROR]")).map(str::trim);
        let why = error.map_or_else(|| ran.reason(), |line| line.chars().take(400).collect());
        let name = container.guest.target();
        Err(fail(Exit::System, format!("{name}: the CUDA installer failed: {why}"))
            .hint("see /var/log/cuda-installer.log in the container"))
    }
}
