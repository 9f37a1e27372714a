//! Who vouches for a download.

use crate::installer::{NAME, VERSION, installer, sha256};
use crate::server::{Server, authority};
use crate::{Cache, first_path, record};

const SIZE: usize = 300_000;

/// Serves an installer, and beside it what sha256sum(1) says of `summed`.
fn mirror(bytes: &[u8], summed: &[u8]) -> (testbed::Bed, String) {
    let bed = testbed::Bed::empty();
    bed.write(&first_path(), bytes);
    bed.write(&format!("{}.sha256sum", first_path()), format!("{}  {NAME}\n", sha256(summed)));
    let url = format!("file:{}", bed.path().display());
    (bed, url)
}

#[test]
fn the_mirrors_own_sums_count_where_nobody_else_speaks() {
    let bytes = installer(VERSION, SIZE, 31);
    let (_bed, url) = mirror(&bytes, &bytes);
    let cache = Cache::new();
    let ran = cache.fetch(&format!("{VERSION} --mirror {url}")).run().expect(0);
    cache.has(&bytes);
    let record = record(&ran);
    assert_eq!((&record["vouched_by"], &record["verified"]), (&"mirror".into(), &"pinned".into()));
    assert_eq!(record["sha256"], sha256(&bytes));
    assert_eq!(record["url"], format!("{url}{}", first_path()));
    assert_eq!(record["path"], cache.at(NAME).display().to_string());
}

#[test]
fn a_file_that_is_not_what_its_sums_say_is_refused() {
    let (_bed, url) = mirror(&installer(VERSION, SIZE, 31), &installer(VERSION, SIZE, 32));
    let cache = Cache::new();
    let ran = cache.fetch(&format!("{VERSION} --mirror {url}")).run().expect(3);
    assert!(ran.stderr.contains(", expected "), "{}", ran.stderr);
    assert!(cache.names().is_empty(), "{:?}", cache.names());
}

#[test]
fn sums_that_came_over_http_count_for_nothing() {
    let bytes = installer(VERSION, SIZE, 31);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| {
        let sums = format!("{}  {NAME}\n", sha256(&served));
        match request.path.ends_with(".sha256sum") {
            true => reply.whole("200 OK", &[], sums.as_bytes()),
            false => reply.file(request, &served, "\"a\""),
        }
    });
    let cache = Cache::new();
    let args = format!("{VERSION} --mirror {}", server.url(""));
    let ran = cache.fetch(&args).run().expect(4);
    assert!(ran.stderr.contains("no trusted SHA-256"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--unverified"), "{}", ran.stderr);
    assert_eq!(ran.values("change", "status"), ["refused"]);
    assert!(cache.names().is_empty(), "{:?}", cache.names());
    assert!(!server.requests().iter().any(|r| r.path.ends_with("sha256sum")));
    // told so, it is taken as it says itself that it is
    let ran = cache.fetch(&format!("{args} --unverified")).run().expect(0);
    assert_eq!(record(&ran)["vouched_by"], "installer");
    assert_eq!(record(&ran)["verified"], "intact");
    // once more costs neither network nor reading
    let asked = server.requests().len();
    cache.fetch(&format!("{args} --unverified")).run().expect(0);
    cache.fetch(&format!("{args} --unverified --offline --verify")).run().expect(0);
    assert_eq!(server.requests().len(), asked);
    // and is not taken again by somebody who did not
    cache.fetch(&args).run().expect(4);
    cache.fetch(&format!("{args} --check")).run().expect(1);
    cache.fetch(&format!("{args} --check --unverified")).run().expect(0);
    // until somebody vouches for it
    let ran = cache.fetch(&format!("{args} --sha256 {}", sha256(&bytes))).run().expect(0);
    assert_eq!(ran.values("change", "status"), ["unchanged"]);
    assert_eq!(record(&ran)["vouched_by"], "user");
}

#[test]
fn unverified_is_not_unchecked() {
    let mut bytes = installer(VERSION, SIZE, 31);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let script = b"#! /bin/sh\nrm -rf /\n".to_vec();
    for (bytes, words) in [
        (bytes, "is damaged"),
        (installer("998.10", SIZE, 31), "has version 998.10, expected 999.10"),
        (script, "not a .run installer"),
        (installer(VERSION, SIZE, 31)[..SIZE / 2].to_vec(), "is damaged"),
    ] {
        let served = bytes.clone();
        let server = Server::new(move |request, reply| reply.file(request, &served, "\"a\""));
        let cache = Cache::new();
        let url = server.url("");
        let ran = cache.fetch(&format!("{VERSION} --mirror {url} --unverified")).run().expect(3);
        assert!(ran.stderr.contains(words), "'{words}': {}", ran.stderr);
        cache.has_nothing_final();
        assert!(cache.names().is_empty(), "{:?}", cache.names());
    }
}

#[test]
fn a_pin_file_must_name_the_file() {
    let bytes = installer(VERSION, SIZE, 31);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| reply.file(request, &served, "\"a\""));
    let cache = Cache::new();
    let pin = cache.bed.at("pins");
    let args = format!("{VERSION} --mirror {} --sha256sums {}", server.url(""), pin.display());
    cache.fetch(&args).run().expect(2);
    for (text, code) in [
        (format!("{}  other.run\n", sha256(&bytes)), 4),
        ("nonsense\n".to_string(), 2),
        (format!("{}  {NAME}\n{}  {NAME}\n", sha256(&bytes), "0".repeat(64)), 4),
        (format!("{}  {NAME}\n", "0".repeat(64)), 3),
    ] {
        std::fs::write(&pin, text).unwrap();
        cache.fetch(&args).run().expect(code);
        cache.has_nothing_final();
    }
    std::fs::write(&pin, format!("# ours\n{}  dir/{NAME}\n", sha256(&bytes))).unwrap();
    let ran = cache.fetch(&args).run().expect(0);
    assert_eq!(record(&ran)["vouched_by"], "pin");
    // two that contradict each other
    let other = format!("{args} --sha256 {}", "1".repeat(64));
    let ran = cache.fetch(&other).run().expect(4);
    assert!(ran.stderr.contains("two different SHA-256"), "{}", ran.stderr);
    cache.has(&bytes);
}

#[test]
fn the_table_speaks_for_known_versions_and_a_sites_table_for_its_own() {
    // the real 550.163.01 is another file: its length alone gives it away
    let bytes = installer("550.163.01", SIZE, 31);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| reply.file(request, &served, "\"a\""));
    let cache = Cache::new();
    let url = server.url("");
    let ran = cache.fetch(&format!("550.163.01 --mirror {url} --unverified")).run().expect(3);
    assert!(ran.stderr.contains("expected 307143336"), "{}", ran.stderr);
    let digest = sha256(&bytes);
    let ran = cache.fetch(&format!("550.163.01 --mirror {url} --sha256 {digest}")).run().expect(4);
    assert!(ran.stderr.contains("(table)"), "{}", ran.stderr);
    assert!(cache.names().is_empty(), "{:?}", cache.names());
    // a site's table, below --root
    let bytes = installer(VERSION, SIZE, 31);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| reply.file(request, &served, "\"a\""));
    let row = format!("{VERSION} x86_64 {} {} -\n", bytes.len(), sha256(&bytes));
    cache.bed.write("/etc/pve-gpu-tools/runfiles", format!("# ours\n{row}"));
    let args =
        format!("{VERSION} --mirror {} --root {}", server.url(""), cache.bed.path().display());
    let ran = cache.fetch(&args).run().expect(0);
    assert_eq!(record(&ran)["vouched_by"], "table");
    cache.bed.write("/etc/pve-gpu-tools/runfiles", "garbage\n");
    let ran = cache.fetch(&args).run().expect(2);
    assert!(ran.stderr.contains("line 1"), "{}", ran.stderr);
}

#[test]
fn over_tls_the_systems_authorities_decide_and_sums_count() {
    let cache = Cache::new();
    let (config, ca) = authority(cache.bed.path());
    let bytes = installer(VERSION, SIZE, 31);
    let served = bytes.clone();
    let server = Server::tls(config.clone(), move |request, reply| {
        let sums = format!("{}  {NAME}\n", sha256(&served));
        match request.path.ends_with(".sha256sum") {
            true => reply.whole("200 OK", &[], sums.as_bytes()),
            false => reply.file(request, &served, "\"a\""),
        }
    });
    let args = format!("{VERSION} --mirror {}", server.url(""));
    // nobody knows this authority
    let ran = cache.fetch(&args).env("SSL_CERT_FILE", "/dev/null").run().expect(3);
    assert!(ran.stderr.contains("TLS"), "{}", ran.stderr);
    assert!(cache.names().is_empty(), "{:?}", cache.names());
    let ca = ca.to_str().unwrap();
    let ran = cache.fetch(&args).env("SSL_CERT_FILE", ca).run().expect(0);
    cache.has(&bytes);
    assert_eq!(record(&ran)["vouched_by"], "mirror");
    // another name than the certificate's
    let other = server.url("").replace("localhost", "127.0.0.1");
    let ran = cache
        .fetch(&format!("{VERSION} --mirror {other} --no-compat32 --unverified"))
        .env("SSL_CERT_FILE", ca)
        .run()
        .expect(3);
    assert!(ran.stderr.contains("TLS"), "{}", ran.stderr);
    // and never back to http
    let served = bytes.clone();
    let plain = Server::new(move |request, reply| reply.file(request, &served, "\"a\""));
    let to = format!("Location: {}", plain.url("/x.run"));
    let server = Server::tls(config, move |_, reply| {
        reply.head("302 Found", &[to.clone(), "Content-Length: 0".into()])
    });
    let empty = Cache::new();
    let url = server.url(&format!("/{NAME}"));
    let ran = empty
        .fetch(&format!("{url} --sha256 {}", sha256(&bytes)))
        .env("SSL_CERT_FILE", ca)
        .run()
        .expect(3);
    assert!(ran.stderr.contains("away from https"), "{}", ran.stderr);
    assert!(plain.requests().is_empty());
}
