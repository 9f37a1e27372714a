//! The cache: what is there costs no network, what is wrong is found out, and
//! nobody gets in each other's way.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use testbed::{Bed, Tool};

use crate::installer::{NAME, VERSION, installer, sha256};
use crate::server::Server;
use crate::{Cache, fetch, record};

const SIZE: usize = 1 << 20;

fn serve(bytes: &[u8]) -> Server {
    let served = bytes.to_vec();
    Server::new(move |request, reply| reply.file(request, &served, "\"a\""))
}

fn args(server: &Server, bytes: &[u8]) -> String {
    format!("{VERSION} --mirror {} --sha256 {}", server.url(""), sha256(bytes))
}

#[test]
fn a_cached_file_costs_no_network() {
    let bytes = installer(VERSION, SIZE, 51);
    let server = serve(&bytes);
    let cache = Cache::new();
    let first = cache.fetch(&args(&server, &bytes)).run().expect(0);
    assert_eq!(first.values("change", "status"), ["changed"]);
    let before = server.requests().len();
    // without the digest, too: the note says who vouched for it
    for args in [
        VERSION.to_string(),
        format!("{VERSION} --offline"),
        format!("{VERSION} --verify"),
        args(&server, &bytes),
    ] {
        let ran = cache.fetch(&args).run().expect(0);
        assert_eq!(ran.values("change", "status"), ["unchanged"]);
        assert_eq!(record(&ran), record(&first));
        assert_eq!(ran.stderr, "");
    }
    assert_eq!(server.requests().len(), before);
    // its record is what the other verbs read
    let ran = Tool::new("nv-runfile").args("verify").input(&first.stdout).run().expect(0);
    assert_eq!(record(&ran)["sha256"], sha256(&bytes));
}

#[test]
fn looking_changes_nothing_and_answers() {
    let bytes = installer(VERSION, SIZE, 51);
    let server = serve(&bytes);
    let cache = Cache::new();
    let args = args(&server, &bytes);
    std::fs::remove_dir(cache.dir()).unwrap();
    let ran = cache.fetch(&format!("{args} -n")).run().expect(0);
    assert_eq!(ran.values("change", "status"), ["planned"]);
    let ran = cache.fetch(&format!("{args} --check")).run().expect(1);
    assert_eq!(ran.values("check", "status"), ["drift"]);
    assert!(!cache.dir().exists());
    assert!(server.requests().is_empty());
    cache.fetch(&args).run().expect(0);
    let ran = cache.fetch(&format!("{args} --check")).run().expect(0);
    assert_eq!(ran.values("check", "status"), ["ok"]);
    let ran = cache.fetch(&format!("{args} -n")).run().expect(0);
    assert_eq!(ran.values("change", "status"), ["unchanged"]);
}

#[test]
fn a_file_that_was_changed_is_found_out_and_fetched_anew() {
    let bytes = installer(VERSION, SIZE, 51);
    let server = serve(&bytes);
    let cache = Cache::new();
    let args = args(&server, &bytes);
    cache.fetch(&args).run().expect(0);
    let mut other = bytes.clone();
    other[SIZE / 2] ^= 1;
    std::fs::write(cache.at(NAME), &other).unwrap();
    cache.fetch(&format!("{args} --check")).run().expect(1);
    cache.fetch(&format!("{VERSION} --check")).run().expect(1);
    let ran = cache.fetch(&args).run().expect(0);
    assert!(ran.stderr.contains("downloaded again"), "{}", ran.stderr);
    assert_eq!(ran.values("change", "status"), ["changed"]);
    cache.has(&bytes);
    // with its old time and length only reading it tells
    let time = std::fs::metadata(cache.at(NAME)).unwrap().modified().unwrap();
    std::fs::write(cache.at(NAME), &other).unwrap();
    let file = std::fs::File::options().write(true).open(cache.at(NAME)).unwrap();
    file.set_modified(time).unwrap();
    drop(file);
    cache.fetch(&format!("{args} --check")).run().expect(0);
    cache.fetch(&format!("{args} --check --verify")).run().expect(1);
    cache.fetch(&format!("{args} --verify")).run().expect(0);
    cache.has(&bytes);
    // touched and the same: looked at once more, and no network
    let file = std::fs::File::options().write(true).open(cache.at(NAME)).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    drop(file);
    let before = server.requests().len();
    cache.fetch(VERSION).run().expect(0);
    assert_eq!(server.requests().len(), before);
}

#[test]
fn a_file_that_somebody_put_there_must_be_vouched_for() {
    let bytes = installer(VERSION, SIZE, 51);
    let cache = Cache::new();
    std::fs::write(cache.at(NAME), &bytes).unwrap();
    cache.fetch(&format!("{VERSION} --offline")).run().expect(4);
    let right = format!("{VERSION} --offline --sha256 {}", sha256(&bytes));
    let ran = cache.fetch(&right).run().expect(0);
    assert_eq!(record(&ran)["vouched_by"], "user");
    cache.has(&bytes);
    // one that is wrong does not keep its name where another may be had
    std::fs::remove_file(cache.at(&format!("{NAME}.json"))).unwrap();
    std::fs::write(cache.at(NAME), b"#!/bin/sh\nevil\n").unwrap();
    let server = Server::new(|_, reply| reply.status("404 Not Found"));
    let online = format!("{VERSION} --mirror {} --sha256 {}", server.url(""), sha256(&bytes));
    cache.fetch(&online).run().expect(3);
    cache.has_nothing_final();
}

/// A program run: the file was deleted, and a host without a network cannot
/// download another.
#[test]
fn a_wrong_file_is_refused_and_kept_where_no_network_may_be_used() {
    let bytes = installer(VERSION, SIZE, 51);
    let cache = Cache::new();
    std::fs::write(cache.at(NAME), &bytes).unwrap();
    let other = format!("{VERSION} --offline --sha256 {}", "1".repeat(64));
    let ran = cache.fetch(&other).run().expect(4).one_line("it was not removed");
    assert!(ran.stderr.contains(&sha256(&bytes)), "{}", ran.stderr);
    assert_eq!(std::fs::read(cache.at(NAME)).unwrap(), bytes);
}

#[test]
fn a_wrong_digest_on_the_command_line_costs_no_good_file() {
    let bytes = installer(VERSION, SIZE, 51);
    let server = serve(&bytes);
    let cache = Cache::new();
    cache.fetch(&args(&server, &bytes)).run().expect(0);
    let typo = format!("{VERSION} --mirror {} --sha256 {}", server.url(""), "1".repeat(64));
    let ran = cache.fetch(&typo).run().expect(4);
    assert!(ran.stderr.contains("(user)"), "{}", ran.stderr);
    cache.fetch(&format!("{typo} --check")).run().expect(1);
    cache.has(&bytes);
}

#[test]
fn two_at_once_download_once() {
    let bytes = installer(VERSION, SIZE, 52);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| {
        let half = served.len() / 2;
        reply
            .head("200 OK", &[format!("Content-Length: {}", served.len()), "ETag: \"a\"".into()])?;
        reply.body(&served[..half])?;
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(request.before, 0, "asked for twice");
        reply.body(&served[half..])
    });
    let cache = Cache::new();
    let (dir, args) = (cache.dir(), args(&server, &bytes));
    let others: Vec<_> = (0..4)
        .map(|_| {
            let (dir, args) = (dir.clone(), args.clone());
            std::thread::spawn(move || fetch(&dir, &args).run().expect(0))
        })
        .collect();
    let rans: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
    cache.has(&bytes);
    assert_eq!(server.downloads().len(), 1);
    let changed = rans.iter().filter(|ran| ran.values("change", "status") == ["changed"]).count();
    assert_eq!(changed, 1);
    assert!(rans.iter().any(|ran| ran.stderr.contains("waiting")));
}

#[test]
fn a_cache_that_others_can_write_in_is_refused() {
    let bytes = installer(VERSION, SIZE, 53);
    let server = serve(&bytes);
    let args = args(&server, &bytes);
    let cache = Cache::new();
    for mode in [0o777, 0o1777] {
        std::fs::set_permissions(cache.dir(), std::fs::Permissions::from_mode(mode)).unwrap();
        let ran = cache.fetch(&args).run().expect(4);
        assert!(ran.stderr.contains("writable by other users"), "{}", ran.stderr);
        cache.prune("--keep 0").run().expect(4);
    }
    std::fs::set_permissions(cache.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(cache.dir(), Some(4321), None).unwrap();
    let ran = cache.fetch(&args).run().expect(4);
    assert!(ran.stderr.contains("another user"), "{}", ran.stderr);
    assert!(cache.names().is_empty() && server.requests().is_empty());
}

#[test]
fn links_in_the_cache_are_not_written_through() {
    let bytes = installer(VERSION, SIZE, 53);
    let server = serve(&bytes);
    let args = args(&server, &bytes);
    let victim = Bed::empty();
    victim.write("/victim", "precious");
    let target = victim.at("/victim");
    for name in [NAME.to_string(), format!("{NAME}.part"), format!("{NAME}.lock")] {
        let cache = Cache::new();
        symlink(&target, cache.at(&name)).unwrap();
        let ran = cache.fetch(&args).run();
        assert!(matches!(ran.code(), 3 | 4), "{name}: {}", ran.stderr);
        assert_eq!(victim.read("/victim"), "precious");
    }
    // a note is replaced, not written through
    for name in [format!("{NAME}.json"), format!("{NAME}.part.json")] {
        let cache = Cache::new();
        symlink(&target, cache.at(&name)).unwrap();
        cache.fetch(&args).run().expect(0);
        cache.has(&bytes);
        assert_eq!(victim.read("/victim"), "precious");
    }
    for name in [NAME.to_string(), format!("{NAME}.part")] {
        let cache = Cache::new();
        std::fs::create_dir(cache.at(&name)).unwrap();
        assert!(matches!(cache.fetch(&args).run().code(), 3 | 4));
    }
}

#[test]
fn below_root_the_cache_lies_there() {
    let bytes = installer(VERSION, SIZE, 54);
    let server = serve(&bytes);
    let bed = Bed::empty();
    // a link in the tree leads where it would lead if the tree were /
    bed.link("/var/cache", "/srv/cache");
    std::fs::create_dir_all(bed.at("/srv/cache")).unwrap();
    let ran = bed
        .tool("nv-runfile")
        .args(&format!("fetch --arch x86_64 {}", args(&server, &bytes)))
        .env("no_proxy", "127.0.0.1")
        .run()
        .expect(0);
    assert_eq!(record(&ran)["sha256"], sha256(&bytes));
    let at = bed.at(&format!("/srv/cache/pve-gpu-tools/runfiles/{NAME}"));
    assert!(std::fs::read(at).unwrap() == bytes);
}

#[test]
fn a_full_disk_is_told_and_leaves_no_final_name() {
    let bytes = installer(VERSION, 3 << 20, 55);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| match request.path.contains("chunked") {
        // without a length nobody can know beforehand
        true => {
            reply.head("200 OK", &["Transfer-Encoding: chunked".into()])?;
            reply.body(format!("{:x}\r\n", served.len()).as_bytes())?;
            reply.body(&served)?;
            reply.body(b"\r\n0\r\n\r\n")
        }
        false => reply.file(request, &served, "\"a\""),
    });
    let cache = Cache::new();
    let script = "mount -t tmpfs -o size=1m,mode=755 tmpfs \"$0\" && \"$@\"; status=$?; ls \"$0\" >&2; exit $status";
    for (place, words) in [("/", "of free space and needs"), ("/chunked/", "no space left")] {
        let dir = cache.dir();
        let prefix: Vec<&std::ffi::OsStr> = vec![
            "unshare".as_ref(),
            "-m".as_ref(),
            "sh".as_ref(),
            "-c".as_ref(),
            script.as_ref(),
            dir.as_os_str(),
        ];
        let ran = Tool::through(&prefix, testbed::bed::program("nv-runfile"))
            .args(&format!("fetch --sha256 {} --retries 0 --cache", sha256(&bytes)))
            .arg(&dir)
            .arg(server.url(&format!("{place}{NAME}")))
            .env("no_proxy", "127.0.0.1")
            .run()
            .expect(3);
        assert!(ran.stderr.to_lowercase().contains(words), "{}", ran.stderr);
        assert!(!ran.stderr.lines().any(|line| line == NAME), "{}", ran.stderr);
    }
}
