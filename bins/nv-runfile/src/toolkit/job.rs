//! One run of `toolkit`: the files of the repository, then the package manager
//! or CUDA's installer in the container.

use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use pve::{Guest, Section};
use record::{Check, CheckStatus, Severity};

use crate::cli::Toolkit;
use crate::install::container::{Container, unreachable_files};
use crate::installer::NamedInstaller;
use crate::toolkit::cuda_run::CudaRun;
use crate::toolkit::files::{
    FileStep, ToolkitFile, ToolkitFiles, key_path, of_repository, profile,
};
use crate::toolkit::key;
use crate::toolkit::packages;
use crate::toolkit::release::{CudaRelease, require_driver_for};
use crate::toolkit::repository::{CudaRepository, repository};

const SHORT: Duration = Duration::from_secs(60);

pub struct ToolkitJob<'a> {
    pub machine: &'a Machine,
    pub guest: &'a Guest,
    pub toolkit: &'a Toolkit,
    pub say: &'a Say,
}

/// Where the toolkit comes from.
enum ToolkitSource {
    Repository(CudaRepository),
    File(Box<CudaRun>),
}

impl ToolkitSource {
    fn words(&self, release: CudaRelease) -> String {
        match self {
            ToolkitSource::Repository(from) => format!("{} from {}", release.package(), from.url),
            ToolkitSource::File(file) => file.command(),
        }
    }

    fn has_installed(
        &self,
        container: &Container<'_>,
        release: CudaRelease,
    ) -> Result<bool, Failure> {
        match self {
            ToolkitSource::Repository(from) => {
                packages::is_installed(container, from.manager, &release.package())
            }
            ToolkitSource::File(_) => {
                Ok(container.root.exists(&format!("{}/bin/nvcc", release.dir())))
            }
        }
    }

    fn install(
        &self,
        machine: &Machine,
        container: &Container<'_>,
        release: CudaRelease,
    ) -> Result<(), Failure> {
        match self {
            ToolkitSource::Repository(from) => packages::install(container, from.manager, release),
            ToolkitSource::File(file) => file.install(machine, container),
        }
    }
}

/// What was done, or in a dry run would be.
#[derive(Default)]
pub struct ToolkitOutcome {
    pub steps: Vec<FileStep>,
    pub from: Option<String>,
    pub to: Option<String>,
    /// The toolkit itself was installed, not only the files.
    install: bool,
    pub how: Option<String>,
    pub hint: Option<String>,
    pub nvcc: Option<Check>,
}

impl ToolkitOutcome {
    pub fn changes(&self) -> bool {
        self.install || self.steps.iter().any(|step| !step.same)
    }
}

impl ToolkitJob<'_> {
    pub fn run(&self) -> Result<ToolkitOutcome, Failure> {
        let (name, ctid) = (self.guest.target(), self.guest.ctid);
        let remove = self.toolkit.remove;
        if self.toolkit.change.dry_run {
            let unreachable = unreachable_files(self.machine, self.guest)?;
            let stopped = !remove && !pve::is_running(self.machine, ctid);
            let why = unreachable.or_else(|| stopped.then(|| "it is stopped".to_string()));
            if let Some(why) = why {
                return self.foretell(&why);
            }
        }
        // files can also be removed from a stopped container
        if !remove && self.machine.is_host() && !pve::is_running(self.machine, ctid) {
            return Err(fail(Exit::Refused, format!("{name} is not running"))
                .run(advice::external::pct_start(ctid)));
        }
        let only_look = self.toolkit.change.only_look();
        let container = Container::open(self.machine, self.guest, only_look, self.say)?;
        let files = ToolkitFiles { root: &container.root, owner: container.owner, name: &name };
        let outcome = match remove {
            true => self.remove(&files),
            false => self.install(&container, &files),
        };
        let closed = container.close();
        let outcome = outcome?;
        closed?;
        Ok(outcome)
    }

    /// The dry run of a container whose files cannot be read, or which is stopped
    /// so that nothing can be installed in it.
    fn foretell(&self, why: &str) -> Result<ToolkitOutcome, Failure> {
        let release = self.toolkit.cuda;
        if let (Some(release), false) = (release, self.toolkit.remove) {
            require_driver_for(self.machine, release, self.toolkit.force, self.say)?;
        }
        let how = match (self.toolkit.remove, release) {
            (true, _) => "removes the files that its receipt names".to_string(),
            (false, Some(release)) => {
                format!("installs {} when the container is running", release.package())
            }
            (false, None) => {
                "installs the toolkit of the file when the container is running".to_string()
            }
        };
        Ok(ToolkitOutcome {
            to: release.map(CudaRelease::dotted),
            install: true,
            how: Some(format!("{how}; it cannot be checked now: {why}")),
            ..ToolkitOutcome::default()
        })
    }

    fn remove(&self, files: &ToolkitFiles<'_>) -> Result<ToolkitOutcome, Failure> {
        let written = files.written()?;
        let steps = files.plan(Vec::new(), written.as_ref())?;
        self.refuse_modified(files.name, &steps)?;
        if !self.toolkit.change.only_look() && written.is_some() {
            files.apply(&steps, "")?;
        }
        let release = written.map(|written| written.release);
        // the receipt is in the container, which can write anything into it
        let release = release.and_then(|release| CudaRelease::of(&release));
        Ok(ToolkitOutcome {
            steps,
            install: release.is_some(),
            hint: release.map(|release| {
                format!(
                    "installed packages are kept: to remove them, purge {} and its dependencies \
                     in the container, or delete {}",
                    release.package(),
                    release.dir()
                )
            }),
            from: release.map(CudaRelease::dotted),
            ..ToolkitOutcome::default()
        })
    }

    fn install(
        &self,
        container: &Container<'_>,
        files: &ToolkitFiles<'_>,
    ) -> Result<ToolkitOutcome, Failure> {
        let keys = container.conf.keys(&Section::Main);
        let architecture = keys.get("arch").copied().unwrap_or("amd64");
        let (source, release) = self.source(container, architecture)?;
        let outcome = self.install_from(&source, release, container, files);
        if let ToolkitSource::File(file) = source {
            file.close(self.say);
        }
        outcome
    }

    fn install_from(
        &self,
        source: &ToolkitSource,
        release: CudaRelease,
        container: &Container<'_>,
        files: &ToolkitFiles<'_>,
    ) -> Result<ToolkitOutcome, Failure> {
        require_driver_for(self.machine, release, self.toolkit.force, self.say)?;
        let written = files.written()?;
        let needed = self.needed_files(source, release, container, files.name)?;
        let steps = files.plan(needed, written.as_ref())?;
        self.refuse_modified(files.name, &steps)?;
        let is_installed = source.has_installed(container, release)?;
        let mut outcome = ToolkitOutcome {
            steps,
            from: is_installed.then(|| release.dotted()),
            to: Some(release.dotted()),
            install: !is_installed,
            how: Some(source.words(release)),
            ..ToolkitOutcome::default()
        };
        if self.toolkit.change.only_look() {
            return Ok(outcome);
        }
        if outcome.changes() {
            let before = files.apply(&outcome.steps, &release.dotted())?;
            if !is_installed {
                source
                    .install(self.machine, container, release)
                    .map_err(|failure| files.roll_back(before, failure))?;
            }
        }
        outcome.nvcc = Some(self.nvcc(container, release)?);
        Ok(outcome)
    }

    fn needed_files(
        &self,
        source: &ToolkitSource,
        release: CudaRelease,
        container: &Container<'_>,
        name: &str,
    ) -> Result<Vec<ToolkitFile>, Failure> {
        let mut needed = Vec::new();
        if let ToolkitSource::Repository(repository) = source {
            refuse_other_repository(container, name)?;
            let path = key_path(repository.manager);
            let only_look = self.toolkit.change.only_look();
            let key = key::key(self.toolkit, repository, &container.root, path, only_look)?;
            let words = format!("key {}", key.fingerprint);
            needed.push(ToolkitFile { path, bytes: key.bytes, words });
            needed.extend(of_repository(repository));
        }
        needed.push(profile(&release.dir()));
        Ok(needed)
    }

    fn source(
        &self,
        container: &Container<'_>,
        architecture: &str,
    ) -> Result<(ToolkitSource, CudaRelease), Failure> {
        let toolkit = self.toolkit;
        if let Some(path) = &toolkit.runfile {
            let named = NamedInstaller::of_file(path.clone(), toolkit.sha256.as_deref());
            let copy = self.machine.is_host() && !toolkit.change.only_look();
            let copy = copy.then_some(self.machine);
            let file = CudaRun::open(&named, copy, toolkit.cuda, architecture, self.say)?;
            let release = file.release;
            return Ok((ToolkitSource::File(Box::new(file)), release));
        }
        // clap requires --cuda without --runfile and --remove
        let release = toolkit.cuda.ok_or_else(|| fail(Exit::Usage, "--cuda is missing"))?;
        let name = self.guest.target();
        let url = toolkit.repo_url.as_deref();
        let found = repository(&container.root, &name, architecture, url)?;
        Ok((ToolkitSource::Repository(found), release))
    }

    /// Refuses to change files that are not as this tool wrote them.
    fn refuse_modified(&self, name: &str, steps: &[FileStep]) -> Result<(), Failure> {
        let modified: Vec<String> = steps
            .iter()
            .filter_map(|step| Some(format!("'{}' is {}", step.path, step.changed.as_ref()?)))
            .collect();
        if modified.is_empty() {
            return Ok(());
        }
        let what = format!("{name}: {}", modified.join(", "));
        if self.toolkit.force {
            self.say.warn(&what);
            return Ok(());
        }
        Err(fail(Exit::Refused, what).hint("use --force to replace or remove these files"))
    }

    /// Whether the compiler is of the release.
    fn nvcc(&self, container: &Container<'_>, release: CudaRelease) -> Result<Check, Failure> {
        let mut check = Check::ok(&self.guest.target(), "nvcc", None);
        check.expected = Some(release.dotted());
        let program = format!("{}/bin/nvcc", release.dir());
        let ran = packages::exec(container, &[&program, "--version"], SHORT)?;
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let found = said.lines().find_map(|line| {
            let number = line.split_once("release ")?.1;
            Some(number.split([',', ' ']).next().unwrap_or_default().to_string())
        });
        if found == check.expected {
            check.actual = found;
            return Ok(check);
        }
        (check.status, check.severity) = (CheckStatus::Drift, Severity::Error);
        check.reason = match &found {
            Some(_) => Some(format!("'{program}' is of another release")),
            None => Some(format!("'{program} --version': {}", ran.reason())),
        };
        check.actual = found;
        Ok(check)
    }
}

/// Refuses a second file that names a CUDA repository: apt refuses two with
/// different keys, and the file has its own priorities.
fn refuse_other_repository(container: &Container<'_>, name: &str) -> Result<(), Failure> {
    for dir in ["/etc/apt/sources.list.d", "/etc/yum.repos.d"] {
        for file in container.root.list(dir).unwrap_or_default() {
            let path = format!("{dir}/{file}");
            let text = container.root.read_text(&path, 1 << 20).unwrap_or_default();
            let names = text.lines().any(|line| {
                !line.trim_start().starts_with('#') && line.contains("/compute/cuda/repos/")
            });
            if names && !file.starts_with("pve-gpu-tools-cuda.") {
                let message = format!("{name}: '{path}' already names a CUDA repository");
                return Err(fail(Exit::Refused, message).hint(
                    "remove it in the container (it belongs to the package cuda-keyring), or \
                     install the toolkit from it",
                ));
            }
        }
    }
    Ok(())
}
