//! Carries out a plan: takes files out of the installer and places them.

use std::collections::{BTreeSet, HashMap};

use ::cli::{Exit, Failure, Progress, Say, fail, interrupted};
use host::{Attributes, FileError, NewFile, Owner};
use nvidia::userspace::soname;
use runfile::{ArchiveLimits, DigestSpec, Member, MemberKind, TarError, TarReader};
use sha2::{Digest, Sha256};

use crate::install::plan::InstallPlan;
use crate::install::receipt::{PlacedKind, Receipt, ReceiptEntry};
use crate::install::select_files::{SelectedFile, SelectedKind};
use crate::install::transaction::{RootTree, TransactionGoal, temporary};
use crate::installer::Installer;
use crate::installer::content::archive_error;

/// Carries out a plan and returns what was placed. `check` runs before the change
/// is committed. On failure the caller rolls the tree back.
pub fn apply(
    tree: &RootTree<'_>,
    plan: &InstallPlan,
    installer: &mut Installer,
    limits: ArchiveLimits,
    say: &Say,
    check: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<Vec<ReceiptEntry>, Failure> {
    let goal = TransactionGoal {
        from: plan.from.as_ref(),
        keep: plan.keep.iter().map(|entry| entry.path.clone()).collect(),
        paths: plan.make.iter().map(|file| file.path.clone()).collect(),
    };
    let intent = tree.begin(&goal)?;
    let mut start = |path: &str| tree.stage(path);
    let owner = Some(tree.owner);
    let sha256 = &plan.to.installer;
    let mut made = extract_files(&plan.make, installer, sha256, limits, say, &mut start, owner)?;
    let links = plan.make.iter().filter_map(|file| match &file.what {
        SelectedKind::Link { target } => {
            let what = PlacedKind::Link { target: target.clone() };
            Some(ReceiptEntry { path: file.path.clone(), what })
        }
        SelectedKind::File { .. } => None,
    });
    made.extend(links);
    sonames(tree, plan, &mut made)?;
    let entries = plan.keep.iter().chain(&made).cloned().collect();
    let to = Receipt { entries, ..plan.to.clone() };
    tree.place(intent, made.clone(), Some(to), plan.from.as_ref(), check)?;
    Ok(made)
}

/// Why files cannot be taken out of an archive.
enum ExtractError {
    Archive(TarError),
    File(FileError),
    Interrupted,
}

impl From<TarError> for ExtractError {
    fn from(error: TarError) -> ExtractError {
        ExtractError::Archive(error)
    }
}

/// How each new file is made.
pub type StartFile<'a> = dyn FnMut(&str) -> Result<NewFile, FileError> + 'a;

/// Takes files out of an installer; `start` makes each. Errors also if the file no longer
/// has the SHA-256 with which it was verified: its owner may write to it at any time, so
/// what is read now is digested again.
pub fn extract_files(
    selected: &[SelectedFile],
    installer: &mut Installer,
    sha256: &str,
    limits: ArchiveLimits,
    say: &Say,
    start: &mut StartFile<'_>,
    owner: Option<Owner>,
) -> Result<Vec<ReceiptEntry>, Failure> {
    let mut missing: HashMap<&str, (&str, u32)> = HashMap::new();
    for file in selected {
        if let SelectedKind::File { member, mode, .. } = &file.what {
            missing.insert(member, (&file.path, *mode));
        }
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let progress = Progress::new(say, "unpacking", Some(installer.header.size));
    let at = |at| progress.at(at);
    let shown = installer.path.clone();
    let (source, header) = installer.source(&interrupted, &at)?;
    let mut extraction = Extraction { missing, made: Vec::new(), start, owner };
    let consume = |plain: &mut runfile::Decompressed| extraction.read(plain, limits);
    let stated = [DigestSpec::whole_file(header.size, Some(sha256))];
    let passed = runfile::unpack(source, header, &stated, consume, |_| true);
    let passed = passed.map_err(|error| installer.pass_error(error))?;
    drop(progress);
    if passed.digests.iter().any(|digested| digested.matches() != Some(true)) {
        let message = format!("'{shown}' was modified after it was verified");
        return Err(fail(Exit::Refused, message)
            .hint("copy it to a directory that only you can write in, and install that copy"));
    }
    passed.outcome.map_err(|error| match error {
        ExtractError::Archive(error) => archive_error(&shown, &error),
        ExtractError::File(error) => no_space(error),
        ExtractError::Interrupted => fail(Exit::System, "interrupted"),
    })?;
    match extraction.missing.keys().next() {
        None => Ok(extraction.made),
        Some(member) => {
            let message = format!(
                "'{shown}': the manifest names '{member}', but the archive does not have it"
            );
            Err(fail(Exit::Usage, message))
        }
    }
}

struct Extraction<'a, 'b> {
    /// Members not yet seen: their path and permissions.
    missing: HashMap<&'a str, (&'a str, u32)>,
    made: Vec<ReceiptEntry>,
    start: &'a mut StartFile<'b>,
    owner: Option<Owner>,
}

impl Extraction<'_, '_> {
    fn read(
        &mut self,
        plain: &mut runfile::Decompressed,
        limits: ArchiveLimits,
    ) -> Result<(), ExtractError> {
        let mut left = limits;
        while plain.next_part().map_err(TarError::Io)? {
            let mut tar = TarReader::new(plain, left);
            while let Some(member) = tar.next_member()? {
                let Ok(place) = member.relative_path() else { continue };
                let Ok(name) = String::from_utf8(place) else { continue };
                let found = self.missing.remove(name.as_str());
                let Some((path, mode)) = found.filter(|_| member.kind == MemberKind::File) else {
                    continue;
                };
                self.write(path, mode, &member, &mut tar)?;
                if self.missing.is_empty() {
                    return Ok(());
                }
            }
            left = tar.left();
        }
        Ok(())
    }

    fn write(
        &mut self,
        path: &str,
        mode: u32,
        member: &Member,
        tar: &mut TarReader<'_>,
    ) -> Result<(), ExtractError> {
        let mut file = (self.start)(path).map_err(ExtractError::File)?;
        let (mut sha, mut size) = (Sha256::new(), 0u64);
        tar.content::<ExtractError>(&mut |bytes| {
            if interrupted() {
                return Err(ExtractError::Interrupted);
            }
            sha.update(bytes);
            size += bytes.len() as u64;
            file.write(bytes).map_err(ExtractError::File)
        })?;
        let attributes = Attributes { owner: self.owner, mode, mtime: Some(member.mtime) };
        file.finish(attributes).map_err(ExtractError::File)?;
        let what = PlacedKind::File { size, sha256: hex::encode(sha.finalize()), mode };
        self.made.push(ReceiptEntry { path: path.into(), what });
        Ok(())
    }
}

/// A file that could not be written.
pub fn no_space(error: FileError) -> Failure {
    let full = [libc::ENOSPC, libc::EDQUOT].contains(&error.errno());
    let failure = Failure::from(error);
    if full { failure.hint("free space on that file system") } else { failure }
}

/// The hint for files that another program placed.
pub const FIND_OWNER: &str =
    "find out which package owns the file in the container, and remove it first";

/// Links named by the sonames of libraries, where the manifest does not have them:
/// without them no program finds the libraries.
fn sonames(
    tree: &RootTree<'_>,
    plan: &InstallPlan,
    made: &mut Vec<ReceiptEntry>,
) -> Result<(), Failure> {
    let mut taken: BTreeSet<String> =
        plan.keep.iter().chain(made.iter()).map(|entry| entry.path.clone()).collect();
    let ours: BTreeSet<&str> = plan.gone.iter().map(|entry| entry.path.as_str()).collect();
    let mut links = Vec::new();
    for file in &plan.make {
        let SelectedKind::File { library: true, .. } = file.what else { continue };
        let (dir, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let Some(soname) = soname(tree.root, &temporary(&file.path)) else { continue };
        let path = format!("{dir}/{soname}");
        if soname == name || taken.contains(&path) {
            continue;
        }
        let free = ours.contains(path.as_str()) || tree.in_the_way(&path)?.is_none();
        if !free {
            let message = format!("{}: '{path}' already exists", tree.name);
            return Err(fail(Exit::Refused, message).hint(FIND_OWNER));
        }
        taken.insert(path.clone());
        links.push(ReceiptEntry { path, what: PlacedKind::Link { target: name.into() } });
    }
    made.extend(links);
    Ok(())
}
