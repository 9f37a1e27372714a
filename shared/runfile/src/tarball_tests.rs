use super::*;

/// An archive by the tar crate's writer.
fn archive(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    fill(&mut builder);
    builder.into_inner().unwrap()
}

fn file(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, path, content).unwrap();
}

fn members(mut bytes: &[u8], limits: ArchiveLimits) -> Result<Vec<(Member, Vec<u8>)>, TarError> {
    let mut tar = TarReader::new(&mut bytes, limits);
    let mut found = Vec::new();
    while let Some(member) = tar.next_member()? {
        let content = tar.bytes(1 << 20)?.unwrap_or_default();
        found.push((member, content));
    }
    Ok(found)
}

#[test]
fn members_come_in_their_order_with_their_content() {
    let long = "d/".repeat(80) + "name";
    let bytes = archive(|builder| {
        file(builder, "a", b"one");
        file(builder, &long, &[7; 1000]);
        file(builder, "empty", b"");
    });
    let found = members(&bytes, ArchiveLimits::default()).unwrap();
    let paths: Vec<_> = found.iter().map(|(member, _)| member.path.clone()).collect();
    assert_eq!(paths, [b"a".to_vec(), long.into_bytes(), b"empty".to_vec()]);
    assert_eq!(found[0].1, b"one");
    assert_eq!(found[1].1, [7; 1000]);
}

#[test]
fn what_is_not_read_is_skipped() {
    let bytes = archive(|builder| {
        file(builder, "a", &[1; 5000]);
        file(builder, "b", b"two");
    });
    let mut input = bytes.as_slice();
    let mut tar = TarReader::new(&mut input, ArchiveLimits::default());
    assert_eq!(tar.next_member().unwrap().unwrap().path, b"a");
    assert_eq!(tar.bytes(10).unwrap(), None);
    assert_eq!(tar.next_member().unwrap().unwrap().path, b"b");
    assert_eq!(tar.next_member().unwrap(), None);
    assert_eq!(tar.left().bytes, ArchiveLimits::default().bytes - 5003);
}

#[test]
fn pax_records_say_what_headers_cannot() {
    let record = |key: &str, value: &str| {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while format!("{length}{body}").len() != length {
            length += 1;
        }
        format!("{length}{body}")
    };
    let text =
        record("path", &"p".repeat(300)) + &record("mtime", "1.5") + &record("linkpath", "to");
    let bytes = archive(|builder| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(text.len() as u64);
        header.set_cksum();
        builder.append(&header, text.as_bytes()).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_path("short").unwrap();
        header.set_size(0);
        header.set_mode(0o777);
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
    });
    let found = members(&bytes, ArchiveLimits::default()).unwrap();
    assert_eq!(found[0].0.path, vec![b'p'; 300]);
    assert_eq!(found[0].0.kind, MemberKind::Symlink(b"to".to_vec()));
    for bad in ["5 a=b", "x a=b\n", "99999999999999999999 a=b\n", "6 ab\n\n", "0 \n", "3 \n\n"] {
        assert!(pax_record(bad.as_bytes()).is_none(), "{bad:?}");
    }
}

#[test]
fn limits_hold() {
    let bytes = archive(|builder| {
        file(builder, "a", &[1; 100]);
        file(builder, "b", &[1; 100]);
    });
    let with = |entries, bytes_| members(&bytes, ArchiveLimits { entries, bytes: bytes_ });
    assert!(with(2, 200).is_ok());
    assert!(matches!(with(1, 200), Err(TarError::Limit(_))));
    assert!(matches!(with(2, 199), Err(TarError::Limit(_))));
}

#[test]
fn places_and_links_stay_inside() {
    let link = |path: &str, target: &str| Member {
        path: path.into(),
        kind: MemberKind::Symlink(target.into()),
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: 0,
        size: 0,
    };
    for (path, target) in
        [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d/e"), ("./a//b", "./../x"), ("a", ".")]
    {
        assert!(link(path, target).link_target().is_ok(), "{path} -> {target}");
    }
    for (path, target) in
        [("a", ".."), ("a", "b/.."), ("a/b", "../.."), ("a", "/b"), ("./a", "./../b"), ("a", "")]
    {
        assert!(link(path, target).link_target().is_err(), "{path} -> {target}");
    }
    assert_eq!(relative_path(b"./a/./b//").unwrap(), b"a/b");
    assert_eq!(relative_path(b"./").unwrap(), b"");
    assert!(relative_path(&[b'a'; 256]).is_err());
}
