//! The records of an installer, its digests and its contents.

use record::{
    DigestStatus, NestedRunfile, Runfile, RunfileContent, RunfileDigest, RunfileRange, Verified,
};
use runfile::{
    Algorithm, Arch, Compression, DigestResult, DigestScope, DigestSpec, Flavour, Header,
    InstallerName,
};

use crate::installer::content::Content;

/// The record of an installer whose digests were not computed.
pub fn describe(path: &str, header: &Header) -> Runfile {
    let name = &header.name;
    let mut problems = header.problems.clone();
    if header.compression == Compression::Unknown {
        problems.push("unknown compression, so it cannot be unpacked".into());
    }
    Runfile {
        path: path.into(),
        dialect: Some(header.dialect.as_str().into()),
        makeself: header.makeself.clone(),
        label: header.label.clone(),
        version: name.version.clone(),
        flavour: Some(header.flavour().as_str().into()),
        variants: name.variants.clone(),
        arch: name.arch.map(Arch::as_str).map(str::to_string),
        bundled_driver: name.bundled_driver.clone(),
        size: Some(header.size),
        payload_offset: Some(header.payload),
        payload_size: Some(header.payload_size()),
        unpacked_size: header.stub.unpacked,
        compression: Some(header.compression.as_str().into()),
        decompressor: header
            .decompressor
            .as_ref()
            .map(|range| RunfileRange { offset: range.start, size: range.end - range.start }),
        packaged: header.stub.date.clone(),
        options: header.stub.options.clone(),
        digests: header.digests.iter().map(|stated| digest(stated, None)).collect(),
        verified: Verified::Unchecked,
        sha256: None,
        vouched_by: None,
        url: None,
        content: None,
        problems,
    }
}

fn digest(stated: &DigestSpec, computed: Option<&DigestResult>) -> RunfileDigest {
    let covers = match stated.scope {
        DigestScope::AfterLine3 => "after-line-3",
        DigestScope::Part(_) => "part",
        DigestScope::Payload => "payload",
        DigestScope::File => "file",
    };
    let stated_by = match stated.scope {
        _ if stated.expected.is_none() => None,
        DigestScope::File => Some("user"),
        _ => Some("installer"),
    };
    RunfileDigest {
        algorithm: stated.algorithm.as_str().into(),
        covers: covers.into(),
        offset: stated.start,
        size: stated.end - stated.start,
        stated_by: stated_by.map(str::to_string),
        expected: stated.expected.clone(),
        actual: computed.map(|digested| digested.actual.clone()),
        status: match computed.map(DigestResult::matches) {
            None => DigestStatus::Unchecked,
            Some(None) => DigestStatus::Computed,
            Some(Some(true)) => DigestStatus::Ok,
            Some(Some(false)) => DigestStatus::Mismatch,
        },
    }
}

/// What all digests together prove.
pub fn verdict(digests: &[DigestResult]) -> Verified {
    let stated = || digests.iter().filter(|digested| digested.matches().is_some());
    if stated().any(|digested| digested.matches() == Some(false)) {
        return Verified::Mismatch;
    }
    // a size alone proves nothing
    match stated().filter(|digested| digested.spec.algorithm != Algorithm::Size).count() {
        0 => Verified::Undigested,
        _ if stated().any(|digested| digested.spec.scope == DigestScope::File) => Verified::Pinned,
        _ => Verified::Intact,
    }
}

/// The record with computed digests.
pub fn with_digests(mut record: Runfile, digests: &[DigestResult]) -> Runfile {
    record.verified = verdict(digests);
    let whole = |digested: &&DigestResult| digested.spec.scope == DigestScope::File;
    record.sha256 = digests.iter().find(whole).map(|digested| digested.actual.clone());
    record.problems.extend(mismatches(digests));
    record.digests = digests.iter().map(|one| digest(&one.spec, Some(one))).collect();
    record
}

/// Each wrong digest, in words.
pub fn mismatches(digests: &[DigestResult]) -> Vec<String> {
    let wrong = digests.iter().filter(|digested| digested.matches() == Some(false));
    wrong
        .map(|digested| {
            let (what, stated) = (digested.spec.algorithm.as_str(), &digested.spec);
            let of = match stated.scope {
                DigestScope::Part(number) => format!(" of part {number}"),
                DigestScope::File => " of the whole file".into(),
                DigestScope::AfterLine3 | DigestScope::Payload => String::new(),
            };
            let expected = stated.expected.as_deref().unwrap_or_default();
            format!("{what}{of} is {}, expected {expected}", digested.actual)
        })
        .collect()
}

/// The record of an installer's contents.
pub fn content(content: &Content) -> RunfileContent {
    let counts =
        content.gpus.as_ref().and_then(|gpus| gpus.as_ref().ok()).map(|gpus| gpus.counts());
    let manifest = content.manifest.as_ref();
    RunfileContent {
        version: manifest.map(|manifest| manifest.version.clone()),
        manifest_entries: manifest.map(|manifest| manifest.entries.len() as u64),
        kernel_modules: manifest.map(|manifest| manifest.modules.clone()).unwrap_or_default(),
        kernel_module_types: manifest
            .map(|manifest| manifest.module_types().into_iter().map(str::to_string).collect()),
        supported_gpus: counts.map(|(supported, _)| supported as u64),
        legacy_gpus: counts.map(|(_, legacy)| legacy as u64),
        nested: content.nested.iter().map(|(path, size)| nested(path, *size)).collect(),
    }
}

fn nested(path: &str, size: u64) -> NestedRunfile {
    let file_name = path.rsplit('/').next().unwrap_or(path);
    let name = InstallerName::of(file_name, None, None, None, None, &mut Vec::new());
    let flavour: Flavour = name.flavour;
    NestedRunfile {
        path: path.into(),
        size,
        version: name.version,
        flavour: flavour.as_str().into(),
        arch: name.arch.map(Arch::as_str).map(str::to_string),
    }
}
