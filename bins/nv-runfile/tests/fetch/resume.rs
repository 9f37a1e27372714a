//! Downloads that break off, and going on with them.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::installer::{NAME, VERSION, installer, sha256};
use crate::server::Server;
use crate::{Cache, record};

const SIZE: usize = 2 << 20;

fn args(server: &Server, bytes: &[u8]) -> String {
    format!("{VERSION} --mirror {} --sha256 {}", server.url(""), sha256(bytes))
}

#[test]
fn a_connection_that_drops_at_every_tenth_costs_only_the_rest() {
    let bytes = Arc::new(installer(VERSION, SIZE, 1));
    let served = bytes.clone();
    let server = Server::new(move |request, reply| {
        // nine drops, then the tenth answer is whole
        let end = served.len() * (request.before + 1).min(10) / 10;
        reply.file_until(request, &served, "\"a\"", end)
    });
    let cache = Cache::new();
    let ran = cache.fetch(&args(&server, &bytes)).run().expect(0);
    cache.has(&bytes);
    assert_eq!(server.downloads().len(), 10);
    assert_eq!(server.sent(), bytes.len() as u64, "every byte came once");
    assert_eq!(record(&ran)["verified"], "pinned");
    for (at, request) in server.downloads().iter().enumerate().skip(1) {
        assert_eq!(request.from(), Some(bytes.len() * at / 10));
        assert_eq!(request.header("if-range"), Some("\"a\""));
    }
}

#[test]
fn one_drop_wherever_it_is_gives_the_right_file() {
    let bytes = Arc::new(installer(VERSION, 300_000, 2));
    for at in [0, 1, 2, 3, 64, 1023, 65_536, 150_000, bytes.len() - 1] {
        let served = bytes.clone();
        let server = Server::new(move |request, reply| {
            let end = if request.before == 0 { at } else { served.len() };
            reply.file_until(request, &served, "\"a\"", end)
        });
        let cache = Cache::new();
        cache.fetch(&args(&server, &bytes)).run().expect(0);
        cache.has(&bytes);
        assert_eq!(server.sent(), bytes.len() as u64, "dropped at {at}");
    }
}

#[test]
fn a_server_that_drops_without_end_is_given_up_and_the_part_is_kept() {
    let bytes = Arc::new(installer(VERSION, SIZE, 3));
    let served = bytes.clone();
    let server = Server::new(move |request, reply| {
        let end = (request.from().unwrap_or(0) + 100).min(served.len());
        reply.file_until(request, &served, "\"a\"", end)
    });
    let cache = Cache::new();
    let ran = cache.fetch(&args(&server, &bytes)).args("--retries 3").run().expect(3);
    assert!(ran.stderr.contains("broke off"), "{}", ran.stderr);
    assert_eq!(server.downloads().len(), 4);
    cache.has_nothing_final();
    assert_eq!(std::fs::metadata(cache.at(&format!("{NAME}.part"))).unwrap().len(), 400);
}

#[test]
fn after_kill_9_only_the_rest_is_downloaded() {
    let bytes = Arc::new(installer(VERSION, SIZE, 4));
    let served = bytes.clone();
    let server = Server::new(move |request, reply| {
        if request.before > 0 {
            return reply.file(request, &served, "\"a\"");
        }
        reply.file_until(request, &served, "\"a\"", SIZE / 2)?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    let cache = Cache::new();
    let mut child = Command::new(testbed::bed::program("nv-runfile"))
        .args(["fetch", "--arch", "x86_64", "--cache"])
        .arg(cache.dir())
        .args(args(&server, &bytes).split(' '))
        .env("no_proxy", "127.0.0.1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let part = cache.at(&format!("{NAME}.part"));
    let begun = Instant::now();
    while std::fs::metadata(&part).map_or(0, |found| found.len()) < SIZE as u64 / 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing comes in");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    cache.has_nothing_final();
    let before = server.sent();
    cache.fetch(&args(&server, &bytes)).run().expect(0);
    cache.has(&bytes);
    assert_eq!(server.sent() - before, (bytes.len() - SIZE / 2) as u64);
}

#[test]
fn a_signal_leaves_a_part_that_is_gone_on_with() {
    let bytes = Arc::new(installer(VERSION, SIZE, 5));
    for signal in ["INT", "TERM", "HUP"] {
        let served = bytes.clone();
        let server = Server::new(move |request, reply| {
            if request.before > 0 {
                return reply.file(request, &served, "\"a\"");
            }
            reply.file_until(request, &served, "\"a\"", SIZE / 4)?;
            std::thread::sleep(Duration::from_secs(20));
            Ok(())
        });
        let cache = Cache::new();
        let script = format!(
            "\"$@\" & while [ $(stat -c %s {part} 2>/dev/null || echo 0) -lt {size} ]; do sleep 0.02; done; \
             kill -{signal} $!; wait $!",
            part = cache.at(&format!("{NAME}.part")).display(),
            size = SIZE / 4,
        );
        let words: Vec<&std::ffi::OsStr> =
            ["sh", "-c", &script, "sh"].into_iter().map(std::ffi::OsStr::new).collect();
        let ran = testbed::Tool::through(&words, testbed::bed::program("nv-runfile"))
            .args("fetch --stall-timeout 20 --arch x86_64 --cache")
            .arg(cache.dir())
            .args(&args(&server, &bytes))
            .run()
            .expect(3);
        assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
        assert_eq!(ran.values("change", "status"), ["failed"]);
        cache.has_nothing_final();
        cache.fetch(&args(&server, &bytes)).run().expect(0);
        cache.has(&bytes);
        assert_eq!(server.sent(), bytes.len() as u64, "{signal}");
    }
}

#[test]
fn a_file_that_changed_on_the_server_is_begun_anew() {
    let (old, new) = (installer(VERSION, SIZE, 6), Arc::new(installer(VERSION, SIZE, 7)));
    let served = new.clone();
    let server = Server::new(move |request, reply| match request.before {
        0 => reply.file_until(request, &old, "\"old\"", SIZE / 2),
        _ => reply.file(request, &served, "\"new\""),
    });
    let cache = Cache::new();
    cache.fetch(&args(&server, &new)).run().expect(0);
    cache.has(&new);
    assert_eq!(server.downloads()[1].header("if-range"), Some("\"old\""));
}

#[test]
fn a_file_that_changed_behind_the_same_etag_is_found_out_by_its_digest() {
    let (old, new) = (installer(VERSION, SIZE, 6), Arc::new(installer(VERSION, SIZE, 7)));
    let served = new.clone();
    let server = Server::new(move |request, reply| match request.before {
        0 => reply.file_until(request, &old, "\"same\"", SIZE / 2),
        _ => reply.file(request, &served, "\"same\""),
    });
    let cache = Cache::new();
    cache.fetch(&args(&server, &new)).run().expect(0);
    cache.has(&new);
    assert_eq!(server.downloads().len(), 3);
}

#[test]
fn without_a_digest_nothing_is_gone_on_with_that_has_no_validator() {
    let bytes = Arc::new(installer(VERSION, SIZE, 8));
    let served = bytes.clone();
    let server = Server::new(move |request, reply| {
        reply.head("200 OK", &[format!("Content-Length: {}", served.len())])?;
        let end = if request.before == 0 { SIZE / 2 } else { served.len() };
        reply.body(&served[..end])
    });
    let cache = Cache::new();
    let url = server.url(&format!("/{NAME}"));
    cache.fetch(&format!("{url} --unverified --retries 0")).run().expect(3);
    let ran = cache.fetch(&format!("{url} --unverified")).run().expect(0);
    cache.has(&bytes);
    assert!(server.downloads().iter().all(|request| request.from().is_none()));
    assert_eq!(
        (&record(&ran)["verified"], &record(&ran)["vouched_by"]),
        (&"intact".into(), &"installer".into())
    );
}

#[test]
fn a_part_that_is_whole_already_costs_no_download() {
    let bytes = installer(VERSION, SIZE, 9);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| reply.file(request, &served, "\"a\""));
    let cache = Cache::new();
    // killed between the last byte and the rename
    std::fs::write(cache.at(&format!("{NAME}.part")), &bytes).unwrap();
    let note = format!(
        "{{\"url\":\"{}\",\"validator\":\"\\\"a\\\"\",\"total\":{}}}",
        server.url("/x"),
        bytes.len()
    );
    std::fs::write(cache.at(&format!("{NAME}.part.json")), note).unwrap();
    cache.fetch(&args(&server, &bytes)).run().expect(0);
    cache.has(&bytes);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_part_of_something_else_does_no_harm() {
    let bytes = installer(VERSION, SIZE, 10);
    let mut larger = bytes.clone();
    larger.extend_from_slice(b"more");
    for (part, note) in [
        (b"garbage".to_vec(), "{}"),
        (b"garbage".to_vec(), "{\"url\":\"x\",\"validator\":\"y\",\"total\":null}"),
        (bytes[..1000].to_vec(), "no json"),
        (larger, "{\"url\":\"x\",\"validator\":null,\"total\":null}"),
        (vec![b'#'; 5000], "{\"url\":\"x\",\"validator\":\"y\",\"total\":2000000}"),
    ] {
        let served = bytes.clone();
        let server = Server::new(move |request, reply| reply.file(request, &served, "\"a\""));
        let cache = Cache::new();
        std::fs::write(cache.at(&format!("{NAME}.part")), &part).unwrap();
        std::fs::write(cache.at(&format!("{NAME}.part.json")), note).unwrap();
        cache.fetch(&args(&server, &bytes)).run().expect(0);
        cache.has(&bytes);
    }
}

#[test]
fn killed_again_and_again_it_gets_there_and_never_leaves_a_wrong_file() {
    let bytes = Arc::new(installer(VERSION, SIZE, 11));
    let served = bytes.clone();
    let server = Server::new(move |request, reply| {
        let from = request.from().unwrap_or(0);
        let headers = [
            "ETag: \"a\"".to_string(),
            format!("Content-Length: {}", served.len() - from),
            format!("Content-Range: bytes {from}-{}/{}", served.len() - 1, served.len()),
        ];
        match from {
            0 => reply.head("200 OK", &headers[..2])?,
            _ => reply.head("206 Partial Content", &headers)?,
        }
        for chunk in served[from..].chunks(64 << 10) {
            reply.body(chunk)?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    });
    let cache = Cache::new();
    let part = cache.at(&format!("{NAME}.part"));
    let mut kills = 0;
    let mut before = 0;
    // a whole download takes some 160 ms; each turn is given a little longer
    for turn in 0..200u64 {
        let mut child = Command::new(testbed::bed::program("nv-runfile"))
            .args(["fetch", "--arch", "x86_64", "--cache"])
            .arg(cache.dir())
            .args(args(&server, &bytes).split(' '))
            .env("no_proxy", "127.0.0.1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(3 + turn * 2));
        let done = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if cache.at(NAME).exists() {
            assert!(std::fs::read(cache.at(NAME)).unwrap() == *bytes);
        }
        if let Some(status) = done {
            assert!(status.success());
            break;
        }
        kills += 1;
        // what came in stays
        let size = std::fs::metadata(&part).map_or(0, |found| found.len());
        assert!(size >= before || cache.at(NAME).exists(), "{size} after {before}");
        before = size;
    }
    assert!(kills > 3, "{kills}");
    cache.fetch(&args(&server, &bytes)).run().expect(0);
    cache.has(&bytes);
}
