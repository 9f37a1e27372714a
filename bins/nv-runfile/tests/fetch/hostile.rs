//! Servers that lie, stall or send something else: the right file in the end,
//! or exit 3 and nothing under the final name.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use testbed::Ran;

use crate::Cache;
use crate::installer::{NAME, VERSION, installer, sha256};
use crate::server::{Reply, Request, Server};

const SIZE: usize = 1 << 20;

type Behave = fn(&Request, &mut Reply, &[u8]) -> io::Result<()>;

/// Fetches from a server that behaves so, at the first place only.
fn against(behave: Behave, args: &str) -> (Ran, Cache, Server, Vec<u8>) {
    let bytes = installer(VERSION, SIZE, 21);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| behave(request, reply, &served));
    let cache = Cache::new();
    let (url, digest) = (server.url(&format!("/{NAME}")), sha256(&bytes));
    let ran = cache.fetch(&format!("{url} --sha256 {digest} --retries 2 {args}")).run();
    (ran, cache, server, bytes)
}

/// The same; it must end with exit 3 and these words, and leave nothing.
fn fails(behave: Behave, words: &str) -> (Cache, Server) {
    let (ran, cache, server, _) = against(behave, "");
    let ran = ran.expect(3);
    assert!(ran.stderr.contains(words), "'{words}' is not in: {}", ran.stderr);
    assert_eq!(ran.values("change", "status"), ["failed"]);
    assert_eq!(ran.of_type("error").len(), 1);
    cache.has_nothing_final();
    (cache, server)
}

/// The same; it must end with the right file.
fn succeeds(behave: Behave) -> Server {
    let (ran, cache, server, bytes) = against(behave, "");
    ran.expect(0);
    cache.has(&bytes);
    server
}

/// Drops the first answer in the middle, so that a range is asked for.
fn dropped(request: &Request, reply: &mut Reply, bytes: &[u8]) -> Option<io::Result<()>> {
    (request.before == 0).then(|| reply.file_until(request, bytes, "\"a\"", SIZE / 2))
}

fn partial(reply: &mut Reply, range: &str, body: &[u8]) -> io::Result<()> {
    let range = format!("Content-Range: {range}");
    reply.whole("206 Partial Content", &[&range, "ETag: \"a\""], body)
}

#[test]
fn lies_about_a_range_end_in_the_right_file_from_the_beginning() {
    let lies: [Behave; 6] = [
        // another beginning than was asked for
        |request, reply, bytes| match (dropped(request, reply, bytes), request.from()) {
            (Some(done), _) => done,
            (None, Some(from)) => {
                let range = format!("bytes {}-{}/{}", from + 10, bytes.len() - 1, bytes.len());
                partial(reply, &range, &bytes[from + 10..])
            }
            (None, None) => reply.file(request, bytes, "\"a\""),
        },
        // 206 with all of it
        |request, reply, bytes| match (dropped(request, reply, bytes), request.from()) {
            (Some(done), _) => done,
            (None, Some(_)) => {
                let range = format!("bytes 0-{}/{}", bytes.len() - 1, bytes.len());
                partial(reply, &range, bytes)
            }
            (None, None) => reply.file(request, bytes, "\"a\""),
        },
        // another total
        |request, reply, bytes| match (dropped(request, reply, bytes), request.from()) {
            (Some(done), _) => done,
            (None, Some(from)) => {
                let range = format!("bytes {from}-{}/{}", bytes.len() + 4, bytes.len() + 5);
                partial(reply, &range, &bytes[from..])
            }
            (None, None) => reply.file(request, bytes, "\"a\""),
        },
        // none at all
        |request, reply, bytes| match (dropped(request, reply, bytes), request.from()) {
            (Some(done), _) => done,
            (None, Some(from)) => reply.whole("206 Partial Content", &[], &bytes[from..]),
            (None, None) => reply.file(request, bytes, "\"a\""),
        },
        // the right words and the wrong bytes
        |request, reply, bytes| match (dropped(request, reply, bytes), request.from()) {
            (Some(done), _) => done,
            (None, Some(from)) => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                partial(reply, &range, &bytes[..bytes.len() - from])
            }
            (None, None) => reply.file(request, bytes, "\"a\""),
        },
        // 416 for what can be had
        |request, reply, bytes| match (dropped(request, reply, bytes), request.from()) {
            (Some(done), _) => done,
            (None, Some(_)) => reply.status("416 Range Not Satisfiable"),
            (None, None) => reply.file(request, bytes, "\"a\""),
        },
    ];
    for lie in lies {
        let server = succeeds(lie);
        let asked: Vec<_> = server.downloads().iter().map(|request| request.from()).collect();
        assert_eq!(asked, [None, Some(SIZE / 2), None]);
    }
}

#[test]
fn an_answer_of_200_to_a_range_is_begun_anew_and_taken() {
    let server = succeeds(|request, reply, bytes| match dropped(request, reply, bytes) {
        Some(done) => done,
        None => reply.whole("200 OK", &["ETag: \"b\""], bytes),
    });
    assert_eq!(server.downloads().len(), 2);
    // only the second half behind a 200: too short, and never taken for the whole
    fails(
        |request, reply, bytes| match dropped(request, reply, bytes) {
            Some(done) => done,
            None => reply.whole("200 OK", &["ETag: \"a\""], &bytes[SIZE / 2..]),
        },
        "not an installer",
    );
}

#[test]
fn a_range_that_nobody_asked_for_is_refused() {
    fails(
        |_, reply, bytes| {
            partial(reply, &format!("bytes 0-{}/{}", bytes.len() - 1, bytes.len()), bytes)
        },
        "another range",
    );
}

#[test]
fn pages_instead_of_files_are_refused_whatever_they_call_themselves() {
    const PAGE: &[u8] = b"<!DOCTYPE html><title>Please log in</title>";
    fails(|_, reply, _| reply.whole("200 OK", &["Content-Type: text/html"], PAGE), "page (HTML)");
    fails(
        |_, reply, _| reply.whole("200 OK", &["Content-Type: application/octet-stream"], PAGE),
        "not an installer",
    );
    fails(|_, reply, _| reply.whole("200 OK", &[], b""), "SHA-256");
}

#[test]
fn short_and_long_files_are_refused() {
    fails(|_, reply, bytes| reply.whole("200 OK", &[], &bytes[..SIZE / 3]), "SHA-256");
    fails(
        |_, reply, bytes| {
            let long: Vec<u8> = [bytes, &b"tail"[..]].concat();
            reply.whole("200 OK", &[], &long)
        },
        "SHA-256",
    );
}

#[test]
fn what_comes_behind_the_announced_length_does_not_count() {
    succeeds(|_, reply, bytes| {
        reply.head("200 OK", &[format!("Content-Length: {}", bytes.len())])?;
        reply.body(bytes)?;
        reply.body(&[b'x'; 100_000])
    });
}

#[test]
fn a_file_without_a_length_is_taken_and_one_without_an_end_is_not() {
    succeeds(|_, reply, bytes| {
        reply.head("200 OK", &["Transfer-Encoding: chunked".into()])?;
        for chunk in bytes.chunks(100_000) {
            reply.body(format!("{:x}\r\n", chunk.len()).as_bytes())?;
            reply.body(chunk)?;
            reply.body(b"\r\n")?;
        }
        reply.body(b"0\r\n\r\n")
    });
    // breaks off in the middle of its chunks each time
    fails(
        |_, reply, bytes| {
            reply.head("200 OK", &["Transfer-Encoding: chunked".into()])?;
            reply.body(b"1000\r\n")?;
            reply.body(&bytes[..0x1000])
        },
        "broke off",
    );
}

#[test]
fn packed_answers_are_refused() {
    fails(
        |_, reply, _| reply.whole("200 OK", &["Content-Encoding: gzip"], b"\x1f\x8b\x08\0"),
        "packed with gzip",
    );
}

#[test]
fn redirects_are_followed_a_little_way_and_only_to_servers() {
    succeeds(|request, reply, bytes| match request.path.as_str() {
        "/here/file.run" => reply.file(request, bytes, "\"a\""),
        _ => reply
            .head("302 Found", &["Location: /here/file.run".into(), "Content-Length: 0".into()]),
    });
    let (_, server) = fails(
        |request, reply, _| {
            let to = format!("Location: {}", request.path);
            reply.head("301 Moved Permanently", &[to, "Content-Length: 0".into()])
        },
        "redirects more than",
    );
    assert_eq!(server.requests().len(), 6);
    // a path on the same server, whatever it looks like: nothing but a server is asked
    let (_, server) = fails(
        |_, reply, _| reply.head("302 Found", &["Location: file:///etc/hostname".into()]),
        "redirects more than",
    );
    assert_eq!(server.requests().len(), 6);
    fails(
        |_, reply, _| reply.head("302 Found", &["Location: //a b/c".into()]),
        "redirects to nowhere",
    );
    fails(|_, reply, _| reply.head("302 Found", &[]), "redirects to nowhere");
}

#[test]
fn a_trickle_and_silence_are_broken_off() {
    let begun = Instant::now();
    fails(
        |_, reply, bytes| {
            reply.head("200 OK", &[format!("Content-Length: {}", bytes.len())])?;
            // ten seconds of it
            for byte in &bytes[..500] {
                reply.body(std::slice::from_ref(byte))?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        },
        "almost nothing",
    );
    fails(
        |_, reply, bytes| {
            reply.head("200 OK", &[format!("Content-Length: {}", bytes.len())])?;
            reply.body(&bytes[..10])?;
            std::thread::sleep(Duration::from_secs(20));
            Ok(())
        },
        "",
    );
    fails(
        |_, _, _| {
            std::thread::sleep(Duration::from_secs(20));
            Ok(())
        },
        "",
    );
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn what_may_pass_is_asked_again_and_what_stays_is_not() {
    for status in ["429 Too Many Requests", "500 Internal Server Error", "503 Service Unavailable"]
    {
        let bytes = Arc::new(installer(VERSION, SIZE, 21));
        let served = bytes.clone();
        let server = Server::new(move |request, reply| match request.before {
            0 => reply.head(status, &["Retry-After: 1".into(), "Content-Length: 0".into()]),
            1 => reply.status(status),
            _ => reply.file(request, &served, "\"a\""),
        });
        let cache = Cache::new();
        let begun = Instant::now();
        let (url, digest) = (server.url(&format!("/{NAME}")), sha256(&bytes));
        cache.fetch(&format!("{url} --sha256 {digest} --retries 2")).run().expect(0);
        cache.has(&bytes);
        assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After was not heeded");
        let (_, server) = fails(
            |_, reply, _| reply.status("503 Service Unavailable"),
            "answers 503 Service Unavailable",
        );
        assert_eq!(server.requests().len(), 3);
    }
    for behave in [
        (|_, reply, _| reply.status("404 Not Found")) as Behave,
        |_, reply, _| reply.status("403 Forbidden"),
        |_, reply, _| reply.status("418 I'm a teapot"),
    ] {
        let (_, server) = fails(behave, "answers 4");
        assert_eq!(server.requests().len(), 1);
    }
    // an hour is not waited for
    let (_, server) = fails(
        |_, reply, _| reply.head("503 Service Unavailable", &["Retry-After: 3600".into()]),
        "asks to wait 3600 s",
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn nonsense_instead_of_http_is_an_error() {
    fails(|_, reply, _| reply.body(b"SSH-2.0-OpenSSH_9.2\r\n"), "");
    fails(|_, _, _| Ok(()), "");
    fails(|_, reply, _| reply.head("200 OK", &[format!("X: {}", "y".repeat(200_000))]), "");
    fails(
        |_, reply, bytes| {
            reply.head("200 OK", &["Content-Length: 99999999999999".into()])?;
            reply.body(bytes)
        },
        "larger than any installer",
    );
}

#[test]
fn nobody_there_and_names_that_nobody_knows() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let digest = "0".repeat(64);
    for (url, words) in [
        (format!("http://127.0.0.1:{port}/{NAME}"), "refuse"),
        (format!("http://nobody.invalid/{NAME}"), "name"),
    ] {
        let cache = Cache::new();
        let ran = cache.fetch(&format!("{url} --sha256 {digest} --retries 1")).run().expect(3);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
        assert!(ran.stderr.contains("next attempt in"), "{}", ran.stderr);
        assert!(cache.names().is_empty(), "{:?}", cache.names());
    }
}
