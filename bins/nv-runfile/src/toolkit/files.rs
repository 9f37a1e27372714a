//! What the verb writes into a container: a few small files, each of them at a
//! place of its own, and a record of them.

use ::cli::{Exit, Failure, fail};
use host::{FileError, FileKind, Machine, Owner};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ledger::{DIR, Entry, Now, Placed, bytes, compare};
use crate::toolkit::repository::{Manager, Repository};

/// The key that apt holds the repository to.
pub const APT_KEY: &str = "/etc/apt/keyrings/pve-gpu-tools-cuda.gpg";
/// The key that rpm holds packages to.
pub const RPM_KEY: &str = "/etc/pki/rpm-gpg/RPM-GPG-KEY-pve-gpu-tools-cuda";
/// apt's repository.
pub const SOURCES: &str = "/etc/apt/sources.list.d/pve-gpu-tools-cuda.sources";
const PREFERENCES: &str = "/etc/apt/preferences.d/pve-gpu-tools-cuda.pref";
const REPO: &str = "/etc/yum.repos.d/pve-gpu-tools-cuda.repo";
const PROFILE: &str = "/etc/profile.d/cuda.sh";
/// All of them: a container can write what it likes into the record, and no
/// other path of it counts.
const OURS: [&str; 6] = [APT_KEY, RPM_KEY, SOURCES, PREFERENCES, REPO, PROFILE];

const RECORD: &str = "/var/lib/pve-gpu-tools/nv-runfile-toolkit.json";
const FORMAT: u32 = 1;
const MODE: u32 = 0o644;

const DRIVER_PACKAGES: &str = include_str!("../../data/driver-packages.txt");

/// Patterns of the packages that must not come from the repository.
pub fn driver_packages() -> Vec<&'static str> {
    DRIVER_PACKAGES.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

/// A file that is to be there.
pub struct Wanted {
    /// Where.
    pub path: &'static str,
    /// With what in it; `None` where that is not known, only looking.
    pub bytes: Option<Vec<u8>>,
    /// In words, for records.
    pub words: String,
}

/// Where the key belongs.
pub fn key_path(manager: Manager) -> &'static str {
    match manager {
        Manager::Apt => APT_KEY,
        Manager::Dnf => RPM_KEY,
    }
}

/// What makes the package manager know the repository, and take no driver from it.
pub fn of_repository(repository: &Repository) -> Vec<Wanted> {
    let url = &repository.url;
    let text = |path, text: String| Wanted {
        path,
        words: format!("file of {} bytes", text.len()),
        bytes: Some(text.into_bytes()),
    };
    match repository.manager {
        Manager::Apt => vec![
            text(
                PREFERENCES,
                format!(
                    "# the driver in a container is the host's: none comes from here\n\
                     Package: {}\nPin: release l=NVIDIA CUDA\nPin-Priority: -1\n",
                    driver_packages().join(" ")
                ),
            ),
            text(SOURCES, format!("Types: deb\nURIs: {url}\nSuites: /\nSigned-By: {APT_KEY}\n")),
        ],
        Manager::Dnf => vec![text(
            REPO,
            format!(
                "[pve-gpu-tools-cuda]\nname=CUDA for {}\nbaseurl={url}\nenabled=1\ngpgcheck=1\n\
                 gpgkey=file://{RPM_KEY}\n\
                 # the driver in a container is the host's: none comes from here\n\
                 excludepkgs={}\n",
                repository.distribution,
                driver_packages().join(" ")
            ),
        )],
    }
}

/// What puts the compiler into the search path of login shells.
pub fn profile(dir: &str) -> Wanted {
    let text = format!(
        "case \":$PATH:\" in\n    *:{dir}/bin:*) ;;\n    *) PATH={dir}/bin:$PATH ;;\nesac\n\
         export PATH\nexport CUDA_HOME={dir}\n"
    );
    let words = format!("{dir}/bin in PATH");
    Wanted { path: PROFILE, words, bytes: Some(text.into_bytes()) }
}

/// What is written down in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    format: u32,
    /// Which release was installed, such as 12.8.
    pub release: String,
    /// Files.
    pub entries: Vec<Entry>,
}

/// The files of one container.
pub struct Files<'a> {
    /// Its root file system.
    pub root: &'a Machine,
    /// Who its root is.
    pub owner: Owner,
    /// As records name it.
    pub name: &'a str,
}

/// What is to happen to a path.
pub struct Step {
    /// Where.
    pub path: &'static str,
    /// What is to be there: `None` nothing.
    pub to: Option<Wanted>,
    /// It is so already.
    pub same: bool,
    /// What is there is ours, in words.
    pub from: Option<String>,
    /// What is there is not as it was written.
    pub changed: Option<String>,
}

/// What was there before, for undoing.
pub struct Before {
    files: Vec<(&'static str, Option<Vec<u8>>)>,
    made: Vec<String>,
}

impl Files<'_> {
    /// What an earlier run wrote down. Errors: it cannot be read.
    pub fn written(&self) -> Result<Option<Written>, Failure> {
        let bytes = match self.root.read(RECORD, 1 << 20) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let read = serde_json::from_slice::<Written>(&bytes).map_err(|error| error.to_string());
        let read = read.and_then(|written| match written.format {
            FORMAT => Ok(written),
            other => Err(format!("format {other} is not known to this version")),
        });
        read.map(Some).map_err(|why| {
            fail(Exit::Refused, format!("{}: '{RECORD}': {why}", self.name))
                .hint("remove it inside, and then what is left of the repository's files")
        })
    }

    /// What it takes to have exactly these files.
    pub fn plan(
        &self,
        wanted: Vec<Wanted>,
        written: Option<&Written>,
    ) -> Result<Vec<Step>, Failure> {
        let entries = written.map(|written| written.entries.as_slice()).unwrap_or_default();
        let ours = |path: &str| entries.iter().find(|entry| entry.path == path);
        let mut steps = Vec::new();
        for file in wanted {
            let now = match &file.bytes {
                Some(bytes) => compare(self.root, &self.entry(file.path, bytes), self.owner)?,
                None => self.now(file.path, ours(file.path))?,
            };
            let same = now == Now::Same && file.bytes.is_some();
            let was = match ours(file.path) {
                Some(entry) => compare(self.root, entry, self.owner)?,
                None => self.now(file.path, None)?,
            };
            let from = ours(file.path).filter(|_| was != Now::Absent).map(Entry::words);
            let from = if same { Some(file.words.clone()) } else { from };
            let changed = match was {
                Now::Other(what) if !same => Some(what),
                _ => None,
            };
            steps.push(Step { path: file.path, to: Some(file), same, from, changed });
        }
        for path in OURS {
            let Some(entry) = ours(path) else { continue };
            if steps.iter().any(|step| step.path == path) {
                continue;
            }
            let now = compare(self.root, entry, self.owner)?;
            let changed = match &now {
                Now::Other(what) => Some(what.clone()),
                _ => None,
            };
            let (same, from) = (now == Now::Absent, Some(entry.words()));
            steps.push(Step { path, to: None, same, from, changed });
        }
        Ok(steps)
    }

    fn now(&self, path: &str, entry: Option<&Entry>) -> Result<Now, Failure> {
        match (self.root.lstat(path), entry) {
            (Err(error), _) if error.is_not_found() => Ok(Now::Absent),
            (Err(error), _) => Err(error.into()),
            (Ok(_), Some(entry)) => Ok(compare(self.root, entry, self.owner)?),
            (Ok(_), None) => Ok(Now::Other("not of this tool".into())),
        }
    }

    fn entry(&self, path: &str, bytes: &[u8]) -> Entry {
        let sha256 = hex::encode(Sha256::digest(bytes));
        let what = Placed::File { size: bytes.len() as u64, sha256, mode: MODE };
        Entry { path: path.into(), what }
    }

    /// Takes the steps. The record comes first: a run that is killed leaves
    /// nothing that the next does not know.
    pub fn take(&self, steps: &[Step], release: &str) -> Result<Before, Failure> {
        let mut before = Before { files: Vec::new(), made: Vec::new() };
        match self.try_take(steps, release, &mut before) {
            Ok(()) => Ok(before),
            Err(error) => Err(self.undo(before, error.into())),
        }
    }

    fn try_take(
        &self,
        steps: &[Step],
        release: &str,
        before: &mut Before,
    ) -> Result<(), FileError> {
        let new = steps.iter().filter_map(|step| Some((step.path, step.to.as_ref()?)));
        let new: Vec<(&str, &Vec<u8>)> =
            new.filter_map(|(path, file)| Some((path, file.bytes.as_ref()?))).collect();
        let mut entries: Vec<Entry> = new.iter().map(|(path, b)| self.entry(path, b)).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        if !new.is_empty() {
            let written = Written { format: FORMAT, release: release.into(), entries };
            self.put(RECORD, &bytes(&written), before)?;
        }
        for step in steps.iter().filter(|step| !step.same) {
            match step.to.as_ref().and_then(|file| file.bytes.as_ref()) {
                Some(bytes) => self.put(step.path, bytes, before)?,
                None => {
                    self.note(step.path, before)?;
                    self.root.remove(step.path)?;
                }
            }
        }
        if new.is_empty() {
            self.note(RECORD, before)?;
            self.root.remove(RECORD)?;
            self.root.remove_empty_dir(DIR)?;
        }
        Ok(())
    }

    fn put(&self, path: &'static str, bytes: &[u8], before: &mut Before) -> Result<(), FileError> {
        let parents: Vec<&str> =
            path.match_indices('/').skip(1).map(|(at, _)| &path[..at]).collect();
        for parent in parents {
            if self.root.make_dir_as(parent, 0o755, self.owner)? {
                before.made.push(parent.into());
            }
        }
        self.note(path, before)?;
        self.root.put_as(path, bytes, MODE, self.owner)
    }

    fn note(&self, path: &'static str, before: &mut Before) -> Result<(), FileError> {
        let is_file = self.root.lstat(path).is_ok_and(|stat| stat.kind == FileKind::File);
        let was = if is_file { Some(self.root.read(path, 1 << 20)?) } else { None };
        before.files.push((path, was));
        Ok(())
    }

    /// Puts back what was there. The failure, with what could not be put back.
    pub fn undo(&self, before: Before, failure: Failure) -> Failure {
        let mut left = Vec::new();
        for (path, was) in before.files.into_iter().rev() {
            let undone = match was {
                Some(bytes) => self.root.put_as(path, &bytes, MODE, self.owner),
                None => self.root.remove(path),
            };
            if let Err(error) = undone {
                left.push(error.to_string());
            }
        }
        for dir in before.made.iter().rev() {
            // one that is not empty has become somebody else's
            let _ = self.root.remove_empty_dir(dir);
        }
        if left.is_empty() {
            return failure;
        }
        let message = format!("{}; and not undone: {}", failure.message, left.join(", "));
        fail(failure.exit.max(Exit::System), message)
    }
}
