//! What an installer holds: its manifest, its list of GPUs and the installers in
//! it, which only decompressing it tells.

use ::cli::{Exit, Failure, Progress, Say, fail};
use runfile::{
    ArchiveLimits, Decompressed, Manifest, Member, MemberKind, SupportedGpus, TarError, TarReader,
    unpack,
};

use crate::installer::Installer;

/// Larger manifests and lists are not read; real ones have 60 and 400 KB.
const MOST_BYTES: usize = 16 << 20;

#[derive(Default)]
pub struct Content {
    /// The driver's manifest.
    pub manifest: Option<Manifest>,
    /// The driver's list of GPUs, or why it cannot be read.
    pub gpus: Option<Result<SupportedGpus, String>>,
    /// Installers in it, with their sizes.
    pub nested: Vec<(String, u64)>,
}

/// How far an archive is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ContentDepth {
    All,
    /// Until the manifest and the list of GPUs are found.
    ManifestAndGpus,
}

/// Reads an installer's archive; calls `each` for every member.
pub fn read_content(
    installer: &mut Installer,
    depth: ContentDepth,
    limits: ArchiveLimits,
    say: &Say,
    each: &mut dyn FnMut(&Member),
) -> Result<Content, Failure> {
    let progress = Progress::new(say, "reading", Some(installer.header.size));
    let at = |at| progress.at(at);
    let (source, header) = installer.source(&|| false, &at)?;
    let consume = |plain: &mut Decompressed| read(plain, depth, limits, each);
    let passed = unpack(source, header, &[], consume, |_| true);
    let passed = passed.map_err(|error| installer.pass_error(error))?;
    drop(progress);
    passed.outcome.map_err(|error| archive_error(&installer.path, &error))
}

/// Why an archive cannot be read.
pub fn archive_error(path: &str, error: &TarError) -> Failure {
    match error {
        TarError::Io(error) => {
            fail(Exit::Usage, format!("'{path}' cannot be decompressed: {error}"))
        }
        TarError::Malformed(_) => fail(Exit::Usage, format!("'{path}': {error}")),
        TarError::Limit(_) => fail(Exit::Refused, format!("'{path}': {error}"))
            .hint("use --max-size or --max-entries to allow more"),
    }
}

/// Reads the parts of an unpacked archive.
pub fn read(
    plain: &mut Decompressed,
    depth: ContentDepth,
    limits: ArchiveLimits,
    each: &mut dyn FnMut(&Member),
) -> Result<Content, TarError> {
    let mut content = Content::default();
    let mut left = limits;
    while plain.next_part()? {
        let mut tar = TarReader::new(plain, left);
        while let Some(member) = tar.next_member()? {
            each(&member);
            keep(&mut content, &mut tar, &member)?;
            let found = content.manifest.is_some() && content.gpus.is_some();
            if depth == ContentDepth::ManifestAndGpus && found {
                return Ok(content);
            }
        }
        left = tar.left();
    }
    Ok(content)
}

fn keep(content: &mut Content, tar: &mut TarReader<'_>, member: &Member) -> Result<(), TarError> {
    if member.kind != MemberKind::File {
        return Ok(());
    }
    let Ok(place) = member.relative_path() else { return Ok(()) };
    match place.as_slice() {
        b".manifest" if content.manifest.is_none() => {
            content.manifest = tar.bytes(MOST_BYTES)?.as_deref().and_then(Manifest::parse);
        }
        b"supported-gpus/supported-gpus.json" if content.gpus.is_none() => {
            content.gpus = Some(match tar.bytes(MOST_BYTES)? {
                Some(bytes) => SupportedGpus::parse(&bytes),
                None => Err("too large".into()),
            });
        }
        place if place.ends_with(b".run") && content.nested.len() < 100 => {
            content.nested.push((String::from_utf8_lossy(place).into_owned(), member.size));
        }
        _ => {}
    }
    Ok(())
}
