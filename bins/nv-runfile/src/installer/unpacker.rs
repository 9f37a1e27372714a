//! Makes the tree of an archive, member by member, and refuses members that no
//! installer has.

use std::collections::BTreeMap;

use ::cli::interrupted;
use host::{AtomicDir, Attributes, FileError};
use runfile::{ArchiveLimits, Decompressed, Member, MemberKind, TarError, TarReader};

use crate::cli::Owner;

/// Why unpacking stops.
#[derive(Debug)]
pub enum UnpackError {
    Archive(TarError),
    /// A member that is not unpacked, in words.
    Hostile(String),
    File(FileError),
    Interrupted,
}

impl From<TarError> for UnpackError {
    fn from(error: TarError) -> UnpackError {
        UnpackError::Archive(error)
    }
}

impl From<FileError> for UnpackError {
    fn from(error: FileError) -> UnpackError {
        UnpackError::File(error)
    }
}

/// How a tree is made.
#[derive(Clone, Copy, Debug)]
pub struct TreeOptions {
    /// `None` leaves the caller's.
    pub owner: Option<Owner>,
    /// Permissions that are removed.
    pub umask: u32,
    pub limits: ArchiveLimits,
}

/// How much was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeCounts {
    pub entries: u64,
    pub bytes: u64,
}

/// Makes a tree; without `staging` it only checks whether the tree could be made.
pub struct Unpacker<'a> {
    staging: Option<&'a AtomicDir>,
    options: TreeOptions,
    /// Directories get their attributes after all members are in them.
    dirs: BTreeMap<Vec<u8>, Attributes>,
    counts: TreeCounts,
    /// Directories that are made although the archive does not name them.
    made: u64,
}

/// The attributes of a directory that the archive does not name.
const IMPLIED: Attributes = Attributes { owner: None, mode: 0o755, mtime: None };

/// The kernel's errors if another member has the same path.
const IN_THE_WAY: [i32; 5] = [libc::EEXIST, libc::EXDEV, libc::ENOTDIR, libc::EISDIR, libc::ELOOP];

impl<'a> Unpacker<'a> {
    pub fn new(staging: Option<&'a AtomicDir>, options: TreeOptions) -> Unpacker<'a> {
        let (dirs, counts) = (BTreeMap::new(), TreeCounts::default());
        Unpacker { staging, options, dirs, counts, made: 0 }
    }

    /// Unpacks all parts of an archive.
    pub fn unpack(&mut self, plain: &mut Decompressed) -> Result<TreeCounts, UnpackError> {
        self.dirs.insert(Vec::new(), self.implied());
        let mut limits = self.options.limits;
        while plain.next_part().map_err(TarError::Io)? {
            let mut tar = TarReader::new(plain, limits);
            while let Some(member) = tar.next_member()? {
                self.member(&member, &mut tar)?;
                self.counts.entries += 1;
                self.counts.bytes += member.size;
            }
            limits = tar.left();
        }
        Ok(self.counts)
    }

    /// Gives the directories their attributes, the deepest first.
    pub fn finish(&self) -> Result<(), FileError> {
        let Some(staging) = self.staging else { return Ok(()) };
        self.dirs.iter().rev().try_for_each(|(path, dir)| staging.finish_dir(path, *dir))
    }

    fn implied(&self) -> Attributes {
        let owner = match self.options.owner {
            Some(Owner::Ids(uid, gid)) => Some((uid, gid)),
            _ => None,
        };
        Attributes { owner, mode: IMPLIED.mode & !self.options.umask, ..IMPLIED }
    }

    fn attributes(&self, member: &Member) -> Result<Attributes, UnpackError> {
        let owner = match self.options.owner {
            None => None,
            Some(Owner::Ids(uid, gid)) => Some((uid, gid)),
            Some(Owner::Archive) => {
                let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
                let ids = id(member.uid).zip(id(member.gid));
                Some(ids.ok_or_else(|| hostile(member, "an owner that no system has"))?)
            }
        };
        let mode = member.mode & !self.options.umask;
        Ok(Attributes { owner, mode, mtime: Some(member.mtime) })
    }

    fn member(&mut self, member: &Member, tar: &mut TarReader<'_>) -> Result<(), UnpackError> {
        if interrupted() {
            return Err(UnpackError::Interrupted);
        }
        let place = member.relative_path().map_err(|why| hostile(member, why))?;
        let attributes = self.attributes(member)?;
        if place.is_empty() && member.kind != MemberKind::Dir {
            return Err(hostile(member, "not a directory, but has the path of the top directory"));
        }
        self.imply_above(&place)?;
        match self.make(member, &place, attributes, tar) {
            Err(UnpackError::File(error)) if IN_THE_WAY.contains(&error.errno()) => {
                Err(hostile(member, "a second member with this path"))
            }
            other => other,
        }
    }

    fn make(
        &mut self,
        member: &Member,
        place: &[u8],
        attributes: Attributes,
        tar: &mut TarReader<'_>,
    ) -> Result<(), UnpackError> {
        let staging = self.staging;
        match &member.kind {
            MemberKind::Dir => {
                if let Some(staging) = staging {
                    staging.dir(place)?;
                }
                self.dirs.insert(place.to_vec(), attributes);
            }
            MemberKind::File => {
                let mut file = staging.map(|staging| staging.file(place)).transpose()?;
                tar.content::<UnpackError>(&mut |bytes| {
                    if interrupted() {
                        return Err(UnpackError::Interrupted);
                    }
                    file.as_mut()
                        .map_or(Ok(()), |file| file.write(bytes))
                        .map_err(UnpackError::File)
                })?;
                if let Some(file) = file {
                    file.finish(attributes)?;
                }
            }
            MemberKind::Symlink(_) => {
                let target = member.link_target().map_err(|why| hostile(member, why))?;
                if let Some(staging) = staging {
                    staging.symlink(place, &target, attributes.owner)?;
                }
            }
            MemberKind::Hardlink(_) => {
                let target = member.link_target().map_err(|why| hostile(member, why))?;
                if let Some(staging) = staging {
                    staging.hardlink(place, &target).map_err(|error| {
                        match error.is_not_found() {
                            true => hostile(member, "a link to a member that does not exist"),
                            // a directory, a symbolic link
                            false if [libc::EPERM, libc::ELOOP].contains(&error.errno()) => {
                                hostile(member, "a link to a member that is not a file")
                            }
                            false => UnpackError::File(error),
                        }
                    })?;
                }
            }
            MemberKind::Other(what) => return Err(hostile(member, what)),
        }
        Ok(())
    }

    /// Directories above a member; the archive need not name them.
    /// Each is made, so each counts as an entry.
    fn imply_above(&mut self, place: &[u8]) -> Result<(), UnpackError> {
        let implied = self.implied();
        let ends = place.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends {
            let above = &place[..end];
            if !self.dirs.contains_key(above) {
                self.dirs.insert(above.to_vec(), implied);
                self.made += 1;
                if self.made + self.counts.entries > self.options.limits.entries {
                    let most = self.options.limits.entries;
                    return Err(TarError::Limit(format!("more than {most} entries")).into());
                }
            }
        }
        Ok(())
    }
}

fn hostile(member: &Member, why: &str) -> UnpackError {
    UnpackError::Hostile(format!("member '{}' is {why}", String::from_utf8_lossy(&member.path)))
}
