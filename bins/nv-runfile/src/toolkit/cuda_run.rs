//! The toolkit part of a CUDA .run, installed by its own installer inside.

use std::path::Path;
use std::time::Duration;

use ::cli::{Exit, Failure, Progress, Say, fail, interrupted};
use host::Machine;
use record::Verified;
use runfile::{Arch, DigestSpec, Flavour, digest};

use crate::cli::Release;
use crate::container::Container;
use crate::describe::{mismatches, verdict};
use crate::distribution::run_install;
use crate::installer::Installer;
use crate::toolkit::packages::exec;

const PUSH: Duration = Duration::from_secs(20 * 60);
const INSTALL: Duration = Duration::from_secs(2 * 3600);
const SHORT: Duration = Duration::from_secs(60);
/// Not /tmp, which may be memory.
const INSIDE: &str = "/var/tmp/nv-runfile-cuda.run";
/// All of cuda-installer's: without --driver it leaves the nested driver alone.
const OPTIONS: [&str; 3] = ["--silent", "--toolkit", "--override"];

/// A CUDA installer whose digests are right.
pub struct CudaRun {
    path: String,
    /// Which CUDA it is.
    pub release: Release,
}

impl CudaRun {
    /// Opens it. Errors: it is not CUDA's, damaged, for another architecture or
    /// another release than is wanted.
    pub fn open(
        path: &Path,
        wanted: Option<Release>,
        sha256: Option<&str>,
        architecture: &str,
        say: &Say,
    ) -> Result<CudaRun, Failure> {
        let mut installer = Installer::open(path)?;
        let shown = installer.path.clone();
        let usage = |what: String| fail(Exit::Usage, format!("'{shown}' {what}"));
        if installer.header.flavour() != Flavour::Cuda {
            return Err(usage("is no installer of CUDA".into()));
        }
        let own = installer.header.version().and_then(Release::of);
        let release = match (own, wanted) {
            (Some(own), Some(wanted)) if own != wanted => {
                let what = format!("is CUDA {}, not {}", own.dotted(), wanted.dotted());
                return Err(usage(what));
            }
            (Some(release), _) | (None, Some(release)) => release,
            (None, None) => {
                return Err(usage("does not say which release it is".into()).hint("use --cuda"));
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
        let mut stated = installer.header.digests.clone();
        stated.push(DigestSpec::whole_file(installer.header.size, sha256));
        let progress = Progress::new(say, "verifying", Some(installer.header.size));
        let at = |at| progress.at(at);
        let (source, _) = installer.source(&interrupted, &at)?;
        let digests = digest(source, &stated).map_err(|error| installer.pass_error(error))?;
        drop(progress);
        match verdict(&digests) {
            Verified::Mismatch => {
                let what = mismatches(&digests).join(", ");
                let message = format!("'{shown}' is damaged: {what}");
                return Err(fail(Exit::Refused, message).hint("get it again"));
            }
            Verified::Undigested => {
                say.warn(&format!("'{shown}' carries no digest that could be checked"));
            }
            Verified::Intact | Verified::Pinned | Verified::Unchecked => {}
        }
        Ok(CudaRun { path: shown, release })
    }

    /// The command, for words.
    pub fn command(&self) -> String {
        format!("sh {} {}", self.path, OPTIONS.join(" "))
    }

    /// Runs it inside.
    pub fn install(&self, machine: &Machine, container: &Container<'_>) -> Result<(), Failure> {
        let (name, ctid) = (container.guest.target(), container.guest.ctid.to_string());
        let path = std::path::absolute(&self.path);
        let path = path.map_or_else(|_| self.path.clone(), |path| path.display().to_string());
        let driver = run_install(&container.root);
        let push = ["/usr/sbin/pct", "push", &ctid, &path, INSIDE, "--perms", "0755"];
        let result = match machine.run(&push, PUSH)? {
            None => Err(fail(Exit::System, "no command is run below --root")),
            Some(ran) if !ran.success() => {
                Err(fail(Exit::System, format!("{name}: pct push: {}", ran.reason())))
            }
            Some(_) => self.execute(container),
        };
        // whatever came of it, some gigabytes do not stay
        let removed = container.exec(&["rm", "-f", INSIDE], SHORT)?;
        result?;
        if let Some(ran) = removed.filter(|ran| !ran.success()) {
            let message = format!("{name}: '{INSIDE}' is left over: {}", ran.reason());
            return Err(fail(Exit::System, message));
        }
        match run_install(&container.root) {
            now if now == driver => Ok(()),
            _ => {
                Err(fail(Exit::System, format!("{name}: the installer installed a driver as well"))
                    .hint("run 'nvidia-uninstall' inside"))
            }
        }
    }

    fn execute(&self, container: &Container<'_>) -> Result<(), Failure> {
        // the stub unpacks to TMPDIR
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
        Err(fail(Exit::System, format!("{name}: CUDA's installer failed: {why}"))
            .hint("see /var/log/cuda-installer.log inside"))
    }
}
