//! `toolkit`: CUDA's toolkit in a container, from NVIDIA's repository or from a
//! CUDA .run, and never a driver with it.

mod cuda_run;
mod files;
mod key;
pub(crate) mod openpgp;
mod packages;
mod repository;
mod served;

use std::time::Duration;

use ::cli::{Exit, Failure, Say, catch_signals, fail};
use host::Machine;
use pve::{Guest, Section};
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};

use crate::ahead::out_of_sight;
use crate::cli::{Options, Release, Toolkit};
use crate::container::Container;
use crate::install::{check_of, failed};
use crate::toolkit::cuda_run::CudaRun;
use crate::toolkit::files::{Files, Step, Wanted, key_path, of_repository, profile};
use crate::toolkit::repository::{Repository, repository};

const PROPERTY: &str = "toolkit";
const SHORT: Duration = Duration::from_secs(60);

/// The verb.
pub fn run(
    options: &Options,
    toolkit: &Toolkit,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let machine = options.common.machine()?;
    let guest = Guest::find(&machine, toolkit.ct)?;
    if !toolkit.change.only_look() {
        catch_signals();
    }
    let job = Job { machine: &machine, guest: &guest, toolkit, say };
    match job.run() {
        Ok(done) => job.report(done, writer),
        Err(failure) => {
            let change = failed(say.tool(), &guest.target(), ChangeStatus::RolledBack, &failure);
            let change = Change { property: PROPERTY.into(), ..change };
            writer.put(Record::Change(change))?;
            Err(failure.into())
        }
    }
}

struct Job<'a> {
    machine: &'a Machine,
    guest: &'a Guest,
    toolkit: &'a Toolkit,
    say: &'a Say,
}

/// Where the toolkit comes from.
enum Source {
    Repository(Repository),
    File(CudaRun),
}

/// What was done, or would be.
struct Done {
    steps: Vec<Step>,
    from: Option<String>,
    to: Option<String>,
    /// The toolkit itself is or was to be installed.
    install: bool,
    how: Option<String>,
    hint: Option<String>,
    nvcc: Option<Check>,
}

impl Done {
    fn changes(&self) -> bool {
        self.install || self.steps.iter().any(|step| !step.same)
    }
}

impl Job<'_> {
    fn run(&self) -> Result<Done, Failure> {
        let (name, ctid) = (self.guest.target(), self.guest.ctid);
        let remove = self.toolkit.remove;
        if self.toolkit.change.dry_run {
            let unseen = out_of_sight(self.machine, self.guest)?;
            let stopped = !remove && !pve::is_running(self.machine, ctid);
            let why = unseen.or_else(|| stopped.then(|| "it is stopped".to_string()));
            if let Some(why) = why {
                return self.foretell(&why);
            }
        }
        // what was written is taken away from a stopped one, too
        if !remove && self.machine.is_host() && !pve::is_running(self.machine, ctid) {
            let message = format!("{name} does not run: nothing can be installed inside");
            return Err(fail(Exit::Refused, message).hint(format!("'pct start {ctid}'")));
        }
        let only_look = self.toolkit.change.only_look();
        let container = Container::open(self.machine, self.guest, only_look, self.say)?;
        let files = Files { root: &container.root, owner: container.owner, name: &name };
        let done = match remove {
            true => self.remove(&files),
            false => self.install(&container, &files),
        };
        let closed = container.close();
        let done = done?;
        closed?;
        Ok(done)
    }

    /// A dry run of a container that cannot be looked into, or in which nothing
    /// can be installed as long as it is stopped.
    fn foretell(&self, why: &str) -> Result<Done, Failure> {
        let release = self.toolkit.cuda.map(Release::dotted);
        if let (Some(release), false) = (self.toolkit.cuda, self.toolkit.remove) {
            served::require(self.machine, release, self.toolkit.force, self.say)?;
        }
        let how = match (self.toolkit.remove, self.toolkit.cuda) {
            (true, _) => "what is written down in it is taken away".to_string(),
            (false, Some(release)) => {
                format!("{} by its own package manager, once it runs", release.package())
            }
            (false, None) => "the toolkit part of the file, once it runs".to_string(),
        };
        Ok(Done {
            steps: Vec::new(),
            from: None,
            to: release,
            install: true,
            how: Some(format!("{how}; now it cannot be looked at: {why}")),
            hint: None,
            nvcc: None,
        })
    }

    fn remove(&self, files: &Files<'_>) -> Result<Done, Failure> {
        let written = files.written()?;
        let steps = files.plan(Vec::new(), written.as_ref())?;
        self.refuse_changed(files.name, &steps)?;
        if !self.toolkit.change.only_look() && written.is_some() {
            files.take(&steps, "")?;
        }
        let release = written.map(|written| written.release);
        // the container wrote that down
        let release = release.and_then(|release| Release::of(&release));
        Ok(Done {
            steps,
            install: release.is_some(),
            hint: release.map(|release| {
                format!(
                    "installed packages stay: remove {} and what it needed inside, or {}",
                    release.package(),
                    release.dir()
                )
            }),
            from: release.map(Release::dotted),
            to: None,
            how: None,
            nvcc: None,
        })
    }

    fn install(&self, container: &Container<'_>, files: &Files<'_>) -> Result<Done, Failure> {
        let toolkit = self.toolkit;
        let only_look = toolkit.change.only_look();
        let keys = container.conf.keys(&Section::Main);
        let architecture = keys.get("arch").copied().unwrap_or("amd64");
        let (source, release) = self.source(container, architecture)?;
        served::require(self.machine, release, toolkit.force, self.say)?;
        let written = files.written()?;
        let mut wanted = Vec::new();
        if let Source::Repository(repository) = &source {
            refuse_other(container, files.name)?;
            let path = key_path(repository.manager);
            let key = key::key(toolkit, repository, &container.root, path, only_look)?;
            let words = format!("key {}", key.fingerprint);
            wanted.push(Wanted { path, bytes: key.bytes, words });
            wanted.extend(of_repository(repository));
        }
        wanted.push(profile(&release.dir()));
        let steps = files.plan(wanted, written.as_ref())?;
        self.refuse_changed(files.name, &steps)?;
        let there = match &source {
            Source::Repository(from) => {
                packages::is_installed(container, from.manager, &release.package())?
            }
            Source::File(_) => container.root.exists(&format!("{}/bin/nvcc", release.dir())),
        };
        let how = match &source {
            Source::Repository(from) => format!("{} from {}", release.package(), from.url),
            Source::File(file) => file.command(),
        };
        let mut done = Done {
            steps,
            from: there.then(|| release.dotted()),
            to: Some(release.dotted()),
            install: !there,
            how: Some(how),
            hint: None,
            nvcc: None,
        };
        if only_look {
            return Ok(done);
        }
        if done.changes() {
            let before = files.take(&done.steps, &release.dotted())?;
            let installed = match &source {
                _ if there => Ok(()),
                Source::Repository(from) => packages::install(container, from.manager, release),
                Source::File(file) => file.install(self.machine, container),
            };
            installed.map_err(|failure| files.undo(before, failure))?;
        }
        done.nvcc = Some(self.nvcc(container, release)?);
        Ok(done)
    }

    fn source(
        &self,
        container: &Container<'_>,
        architecture: &str,
    ) -> Result<(Source, Release), Failure> {
        let toolkit = self.toolkit;
        if let Some(path) = &toolkit.runfile {
            let sha256 = toolkit.sha256.as_deref();
            let file = CudaRun::open(path, toolkit.cuda, sha256, architecture, self.say)?;
            let release = file.release;
            return Ok((Source::File(file), release));
        }
        // clap has seen to it that one of them is given
        let release = toolkit.cuda.ok_or_else(|| fail(Exit::Usage, "--cuda is missing"))?;
        let name = self.guest.target();
        let url = toolkit.repo_url.as_deref();
        let found = repository(&container.root, &name, architecture, url)?;
        Ok((Source::Repository(found), release))
    }

    /// Files in our places that are not as we wrote them.
    fn refuse_changed(&self, name: &str, steps: &[Step]) -> Result<(), Failure> {
        let strange: Vec<String> = steps
            .iter()
            .filter_map(|step| Some(format!("'{}' is {}", step.path, step.changed.as_ref()?)))
            .collect();
        if strange.is_empty() {
            return Ok(());
        }
        let what = format!("{name}: {}", strange.join(", "));
        if self.toolkit.force {
            self.say.warn(&what);
            return Ok(());
        }
        Err(fail(Exit::Refused, what).hint("--force replaces or removes it all the same"))
    }

    /// Whether the compiler is there and of the release.
    fn nvcc(&self, container: &Container<'_>, release: Release) -> Result<Check, Failure> {
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

    fn report(&self, done: Done, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
        let change = &self.toolkit.change;
        let status = |same: bool| match (same, change.only_look()) {
            (true, _) => ChangeStatus::Unchanged,
            (false, true) => ChangeStatus::Planned,
            (false, false) => ChangeStatus::Changed,
        };
        let changes = done.changes();
        let mut records = Vec::new();
        for step in &done.steps {
            let mut one = Change::planned(self.say.tool(), &self.guest.target(), step.path);
            one.from = step.from.clone();
            one.to = step.to.as_ref().map(|file| file.words.clone());
            one.status = status(step.same);
            records.push(one);
        }
        let mut whole = Change::planned(self.say.tool(), &self.guest.target(), PROPERTY);
        (whole.from, whole.to, whole.status) = (done.from, done.to, status(!changes));
        whole.reason = done.how.filter(|_| changes);
        whole.hint = done.hint;
        records.push(whole);
        for record in records {
            writer.put(match change.check {
                true => Record::Check(check_of(record)),
                false => Record::Change(record),
            })?;
        }
        let mut exit = if change.check && changes { Exit::Difference } else { Exit::Done };
        if let Some(check) = done.nvcc {
            if check.status != CheckStatus::Ok {
                exit = Exit::System;
            }
            writer.put(Record::Check(check))?;
        }
        Ok(exit)
    }
}

/// Another file that names a CUDA repository: apt refuses two with different
/// keys, and its priorities are not ours.
fn refuse_other(container: &Container<'_>, name: &str) -> Result<(), Failure> {
    for dir in ["/etc/apt/sources.list.d", "/etc/yum.repos.d"] {
        for file in container.root.list(dir).unwrap_or_default() {
            let path = format!("{dir}/{file}");
            let text = container.root.read_text(&path, 1 << 20).unwrap_or_default();
            let names = text.lines().any(|line| {
                !line.trim_start().starts_with('#') && line.contains("/compute/cuda/repos/")
            });
            if names && !file.starts_with("pve-gpu-tools-cuda.") {
                let message = format!("{name}: '{path}' names a CUDA repository already");
                return Err(fail(Exit::Refused, message)
                    .hint("remove it inside (the package cuda-keyring brings it), or use it"));
            }
        }
    }
    Ok(())
}
