//! The files that `toolkit` writes into a container, and their receipt.

use ::cli::{Exit, Failure, fail};
use host::{FileError, FileKind, Machine, Owner};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::install::receipt::{DIR, PathState, PlacedKind, ReceiptEntry, bytes, compare};
use crate::toolkit::repository::{CudaRepository, PackageManager};

/// The key that apt verifies the repository with.
pub const APT_KEY: &str = "/etc/apt/keyrings/pve-gpu-tools-cuda.gpg";
/// The key that rpm verifies packages with.
pub const RPM_KEY: &str = "/etc/pki/rpm-gpg/RPM-GPG-KEY-pve-gpu-tools-cuda";
/// apt's description of the repository.
pub const SOURCES: &str = "/etc/apt/sources.list.d/pve-gpu-tools-cuda.sources";
const PREFERENCES: &str = "/etc/apt/preferences.d/pve-gpu-tools-cuda.pref";
const REPO: &str = "/etc/yum.repos.d/pve-gpu-tools-cuda.repo";
const PROFILE: &str = "/etc/profile.d/cuda.sh";
/// Only these paths: a container can write anything into the receipt.
const OURS: [&str; 6] = [APT_KEY, RPM_KEY, SOURCES, PREFERENCES, REPO, PROFILE];

const RECORD: &str = "/var/lib/pve-gpu-tools/nv-runfile-toolkit.json";
const FORMAT: u32 = 1;
const MODE: u32 = 0o644;

/// A file to be written.
pub struct ToolkitFile {
    pub path: &'static str,
    /// `None` if the content is not known in a dry run.
    pub bytes: Option<Vec<u8>>,
    /// What records say about it.
    pub words: String,
}

/// The path of the repository's key.
pub fn key_path(manager: PackageManager) -> &'static str {
    match manager {
        PackageManager::Apt => APT_KEY,
        PackageManager::Dnf => RPM_KEY,
    }
}

/// The files that add the repository, without its packages of the driver.
pub fn of_repository(repository: &CudaRepository) -> Vec<ToolkitFile> {
    let url = &repository.url;
    let driver_packages: Vec<&str> = nvidia::driver_package_patterns().collect();
    let driver_packages = driver_packages.join(" ");
    let text = |path, text: String| ToolkitFile {
        path,
        words: format!("file of {} bytes", text.len()),
        bytes: Some(text.into_bytes()),
    };
    match repository.manager {
        PackageManager::Apt => vec![
            text(
                PREFERENCES,
                format!(
                    "# a container has the driver of its host: none is installed from here\n\
                     Package: {}\nPin: release l=NVIDIA CUDA\nPin-Priority: -1\n",
                    driver_packages
                ),
            ),
            text(SOURCES, format!("Types: deb\nURIs: {url}\nSuites: /\nSigned-By: {APT_KEY}\n")),
        ],
        PackageManager::Dnf => vec![text(
            REPO,
            format!(
                "[pve-gpu-tools-cuda]\nname=CUDA for {}\nbaseurl={url}\nenabled=1\ngpgcheck=1\n\
                 gpgkey=file://{RPM_KEY}\n\
                 # a container has the driver of its host: none is installed from here\n\
                 excludepkgs={}\n",
                repository.distribution, driver_packages
            ),
        )],
    }
}

/// The file that puts the compiler into the PATH of login shells.
pub fn profile(dir: &str) -> ToolkitFile {
    let text = format!(
        "case \":$PATH:\" in\n    *:{dir}/bin:*) ;;\n    *) PATH={dir}/bin:$PATH ;;\nesac\n\
         export PATH\nexport CUDA_HOME={dir}\n"
    );
    let words = format!("{dir}/bin in PATH");
    ToolkitFile { path: PROFILE, words, bytes: Some(text.into_bytes()) }
}

/// The receipt in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolkitReceipt {
    format: u32,
    /// The release that was installed, such as 12.8.
    pub release: String,
    pub entries: Vec<ReceiptEntry>,
}

/// The files of one container.
pub struct ToolkitFiles<'a> {
    /// The container's root file system.
    pub root: &'a Machine,
    pub owner: Owner,
    /// How records name the container.
    pub name: &'a str,
}

/// The change of one file.
pub struct FileStep {
    pub path: &'static str,
    /// `None`: the file is removed.
    pub to: Option<ToolkitFile>,
    /// Nothing is to be changed.
    pub same: bool,
    /// The file that an earlier run wrote, in words.
    pub from: Option<String>,
    /// How the file differs from what was written.
    pub changed: Option<String>,
}

/// What was at the paths before, for a roll-back.
pub struct SavedFiles {
    files: Vec<(&'static str, SavedFile)>,
    made: Vec<String>,
}

/// What a path was: content, permissions and owner, or where a link leads.
enum SavedFile {
    Absent,
    File { bytes: Vec<u8>, mode: u32, owner: Owner },
    Link { target: String, owner: Owner },
}

/// What is below a mount point of a container.
const ELSEWHERE: &str = "on another file system, which is mounted there";

impl ToolkitFiles<'_> {
    /// The receipt of an earlier run.
    pub fn written(&self) -> Result<Option<ToolkitReceipt>, Failure> {
        let bytes = match self.root.read(RECORD, 1 << 20) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let read =
            serde_json::from_slice::<ToolkitReceipt>(&bytes).map_err(|error| error.to_string());
        let read = read.and_then(|written| match written.format {
            FORMAT => Ok(written),
            other => Err(format!("format {other} is not known to this version")),
        });
        read.map(Some).map_err(|why| {
            fail(Exit::Refused, format!("{}: '{RECORD}': {why}", self.name))
                .hint("remove this file and the files of the CUDA repository in the container")
        })
    }

    /// The steps that lead to exactly these files.
    pub fn plan(
        &self,
        files: Vec<ToolkitFile>,
        written: Option<&ToolkitReceipt>,
    ) -> Result<Vec<FileStep>, Failure> {
        let entries = written.map(|written| written.entries.as_slice()).unwrap_or_default();
        let ours = |path: &str| entries.iter().find(|entry| entry.path == path);
        let mut steps = Vec::new();
        for file in files {
            let now = match &file.bytes {
                Some(bytes) => compare(self.root, &self.entry(file.path, bytes), self.owner)?,
                None => self.now(file.path, ours(file.path))?,
            };
            let same = now == PathState::Same && file.bytes.is_some();
            let was = match ours(file.path) {
                Some(entry) => compare(self.root, entry, self.owner)?,
                None => self.now(file.path, None)?,
            };
            let from =
                ours(file.path).filter(|_| was != PathState::Absent).map(ReceiptEntry::words);
            let from = if same { Some(file.words.clone()) } else { from };
            let changed = match was {
                PathState::Other(what) if !same => Some(what),
                PathState::OtherFileSystem => Some(ELSEWHERE.to_string()),
                _ => None,
            };
            steps.push(FileStep { path: file.path, to: Some(file), same, from, changed });
        }
        for path in OURS {
            let Some(entry) = ours(path) else { continue };
            if steps.iter().any(|step| step.path == path) {
                continue;
            }
            let now = compare(self.root, entry, self.owner)?;
            let changed = match &now {
                PathState::Other(what) => Some(what.clone()),
                PathState::OtherFileSystem => Some(ELSEWHERE.to_string()),
                _ => None,
            };
            let (same, from) = (now == PathState::Absent, Some(entry.words()));
            steps.push(FileStep { path, to: None, same, from, changed });
        }
        Ok(steps)
    }

    fn now(&self, path: &str, entry: Option<&ReceiptEntry>) -> Result<PathState, Failure> {
        match (self.root.lstat(path), entry) {
            (Err(error), _) if error.is_not_found() => Ok(PathState::Absent),
            (Err(error), _) => Err(error.into()),
            (Ok(_), Some(entry)) => Ok(compare(self.root, entry, self.owner)?),
            (Ok(_), None) => Ok(PathState::Other("not written by this tool".into())),
        }
    }

    fn entry(&self, path: &str, bytes: &[u8]) -> ReceiptEntry {
        let sha256 = hex::encode(Sha256::digest(bytes));
        let what = PlacedKind::File { size: bytes.len() as u64, sha256, mode: MODE };
        ReceiptEntry { path: path.into(), what }
    }

    /// Carries out the steps. The receipt is written first, so that the next run knows
    /// every file of a run that was killed.
    pub fn apply(&self, steps: &[FileStep], release: &str) -> Result<SavedFiles, Failure> {
        let mut before = SavedFiles { files: Vec::new(), made: Vec::new() };
        match self.try_apply(steps, release, &mut before) {
            Ok(()) => Ok(before),
            Err(error) => Err(self.roll_back(before, error.into())),
        }
    }

    fn try_apply(
        &self,
        steps: &[FileStep],
        release: &str,
        before: &mut SavedFiles,
    ) -> Result<(), FileError> {
        let new = steps.iter().filter_map(|step| Some((step.path, step.to.as_ref()?)));
        let new: Vec<(&str, &Vec<u8>)> =
            new.filter_map(|(path, file)| Some((path, file.bytes.as_ref()?))).collect();
        let mut entries: Vec<ReceiptEntry> =
            new.iter().map(|(path, b)| self.entry(path, b)).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        if !new.is_empty() {
            let written = ToolkitReceipt { format: FORMAT, release: release.into(), entries };
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

    fn put(
        &self,
        path: &'static str,
        bytes: &[u8],
        before: &mut SavedFiles,
    ) -> Result<(), FileError> {
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

    fn note(&self, path: &'static str, before: &mut SavedFiles) -> Result<(), FileError> {
        let was = match self.root.lstat(path) {
            Err(error) if error.is_not_found() => SavedFile::Absent,
            Err(error) => return Err(error),
            Ok(stat) if stat.kind == FileKind::Link => {
                SavedFile::Link { target: self.root.read_link(path)?, owner: (stat.uid, stat.gid) }
            }
            // what cannot be read, such as a directory, cannot be replaced by a file either
            Ok(stat) => SavedFile::File {
                bytes: self.root.read(path, 1 << 20)?,
                mode: stat.mode,
                owner: (stat.uid, stat.gid),
            },
        };
        before.files.push((path, was));
        Ok(())
    }

    fn restore(&self, path: &str, was: SavedFile) -> Result<(), FileError> {
        match was {
            SavedFile::Absent => self.root.remove(path),
            SavedFile::File { bytes, mode, owner } => self.root.put_as(path, &bytes, mode, owner),
            SavedFile::Link { target, owner } => {
                self.root.remove(path)?;
                self.root.new_link(path, &target, owner)
            }
        }
    }

    /// Restores the previous contents. Returns the failure, with what could not be
    /// restored.
    pub fn roll_back(&self, before: SavedFiles, failure: Failure) -> Failure {
        let mut left = Vec::new();
        for (path, was) in before.files.into_iter().rev() {
            if let Err(error) = self.restore(path, was) {
                left.push(error.to_string());
            }
        }
        for dir in before.made.iter().rev() {
            // a directory that is not empty has files of other programs
            let _ = self.root.remove_empty_dir(dir);
        }
        if left.is_empty() {
            return failure;
        }
        let message = format!("{}; not rolled back: {}", failure.message, left.join(", "));
        fail(failure.exit.max(Exit::System), message)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    /// `toolkit --force` failed after it had replaced a file of 0600 and a link.
    #[test]
    fn rolled_back_means_as_it_was_with_mode_owner_and_kind() {
        let dir = std::env::temp_dir().join(format!("nv-runfile-saved-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let at = |path: &str| dir.join(path.trim_start_matches('/'));
        for path in [SOURCES, PROFILE] {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        }
        fs::write(at(SOURCES), "mine\n").unwrap();
        fs::set_permissions(at(SOURCES), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("../elsewhere.sh", at(PROFILE)).unwrap();
        let root = Machine::new(Some(&dir)).unwrap();
        let owner = fs::metadata(&dir).map(|meta| (meta.uid(), meta.gid())).unwrap();
        let files = ToolkitFiles { root: &root, owner, name: "ct 910" };
        let new = |path| ToolkitFile { path, words: String::new(), bytes: Some(b"new\n".to_vec()) };
        let steps = files.plan(vec![new(SOURCES), new(PROFILE)], None).unwrap();
        let before = files.apply(&steps, "12.8").unwrap();
        assert_eq!(fs::read_to_string(at(PROFILE)).unwrap(), "new\n");
        let failure = files.roll_back(before, fail(Exit::System, "no"));
        assert_eq!(failure.message, "no");
        let found = fs::metadata(at(SOURCES)).unwrap();
        assert_eq!(fs::read_to_string(at(SOURCES)).unwrap(), "mine\n");
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o600, owner.0));
        assert_eq!(fs::read_link(at(PROFILE)).unwrap().to_str(), Some("../elsewhere.sh"));
        assert!(!at(RECORD).exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
