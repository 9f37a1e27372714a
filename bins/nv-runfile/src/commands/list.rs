//! `list`: lists the contents of an installer.

use std::collections::HashMap;

use ::cli::{Exit, Say};
use record::{EntryKind, ManifestRow, Record, RecordWriter, RunfileEntry};
use runfile::{ArchiveLimits, Manifest, ManifestEntry, Member, MemberKind};

use crate::cli::List;
use crate::installer::content::{ContentDepth, read_content};
use crate::installer::{Installer, named};

pub fn run(list: &List, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let limits = ArchiveLimits { entries: list.caps.max_entries, bytes: list.caps.max_size };
    for named in named(&list.named, None, say)? {
        let mut installer = Installer::of_named(&named)?;
        let shown = installer.path.clone();
        // the manifest may be anywhere in the archive
        let mut entries: Vec<RunfileEntry> = Vec::new();
        let content =
            read_content(&mut installer, ContentDepth::All, limits, say, &mut |member| {
                entries.push(entry(&shown, member));
            })?;
        if let Some(manifest) = &content.manifest {
            join(&shown, &mut entries, manifest);
        }
        for entry in entries {
            writer.put(Record::RunfileEntry(Box::new(entry)))?;
        }
    }
    Ok(Exit::Done)
}

fn entry(runfile: &str, member: &Member) -> RunfileEntry {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (kind, target) = match &member.kind {
        MemberKind::File => (EntryKind::File, None),
        MemberKind::Dir => (EntryKind::Dir, None),
        MemberKind::Symlink(target) => (EntryKind::Symlink, Some(text(target))),
        MemberKind::Hardlink(target) => (EntryKind::Hardlink, Some(text(target))),
        MemberKind::Other(_) => (EntryKind::Other, None),
    };
    let mut problem = match member.relative_path() {
        Ok(_) => None,
        Err(why) => Some(why.to_string()),
    };
    if problem.is_none() {
        problem = match &member.kind {
            MemberKind::Other(what) => Some((*what).to_string()),
            MemberKind::Symlink(_) | MemberKind::Hardlink(_) => {
                member.link_target().err().map(str::to_string)
            }
            _ => None,
        };
    }
    let path = match member.relative_path() {
        Ok(place) if place.is_empty() => ".".into(),
        Ok(place) => text(&place),
        Err(_) => text(&member.path),
    };
    RunfileEntry {
        runfile: runfile.into(),
        path,
        kind,
        size: member.size,
        mode: format!("{:04o}", member.mode),
        uid: Some(member.uid),
        gid: Some(member.gid),
        mtime: Some(member.mtime),
        target,
        packed: true,
        manifest: None,
        problem,
    }
}

/// Gives members their rows of the manifest, and adds the links that are only in
/// the manifest.
fn join(runfile: &str, entries: &mut Vec<RunfileEntry>, manifest: &Manifest) {
    let mut rows: HashMap<&str, &ManifestEntry> = HashMap::new();
    for row in &manifest.entries {
        // of two rows for one file the first is used
        rows.entry(&row.file).or_insert(row);
    }
    for entry in entries.iter_mut() {
        entry.manifest = rows.remove(entry.path.as_str()).map(manifest_row);
    }
    let left = manifest.entries.iter().filter(|row| {
        row.is_link() && rows.get(row.file.as_str()).is_some_and(|left| std::ptr::eq(*left, *row))
    });
    entries.extend(left.map(|row| RunfileEntry {
        runfile: runfile.into(),
        path: row.file.clone(),
        kind: EntryKind::Symlink,
        size: 0,
        mode: "0777".into(),
        uid: None,
        gid: None,
        mtime: None,
        target: row.target.clone(),
        packed: false,
        manifest: Some(manifest_row(row)),
        problem: None,
    }));
}

fn manifest_row(row: &ManifestEntry) -> ManifestRow {
    ManifestRow {
        kind: row.kind.clone(),
        mode: format!("{:04o}", row.mode),
        arch: row.arch.clone(),
        path: row.path.clone(),
        module: row.module.clone(),
    }
}
