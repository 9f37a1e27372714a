//! Where is looked, what `latest` and a branch mean, proxies.

use crate::installer::{NAME, VERSION, installer, sha256};
use crate::server::Server;
use crate::{Cache, first_path, record};

const SIZE: usize = 300_000;

#[test]
fn places_are_tried_in_order_until_one_has_it() {
    let bytes = installer(VERSION, SIZE, 41);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| match request.path.starts_with("/tesla/") {
        true => reply.file(request, &served, "\"a\""),
        false => reply.status("404 Not Found"),
    });
    let cache = Cache::new();
    let args = format!("{VERSION} --mirror {} --sha256 {}", server.url("/"), sha256(&bytes));
    let ran = cache.fetch(&args).run().expect(0);
    cache.has(&bytes);
    let asked: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(asked, [first_path(), format!("/tesla/{VERSION}/{NAME}")]);
    assert_eq!(record(&ran)["url"], server.url(&asked[1]));
}

#[test]
fn a_mirror_that_is_down_is_asked_once_and_the_next_one_goes_on_with_the_part() {
    let bytes = installer(VERSION, SIZE, 42);
    let (half, served) = (bytes.clone(), bytes.clone());
    let first = Server::new(move |request, reply| match request.before {
        0 => reply.file_until(request, &half, "\"a\"", SIZE / 2),
        _ => reply.status("503 Service Unavailable"),
    });
    let second = Server::new(move |request, reply| reply.file(request, &served, "\"b\""));
    let cache = Cache::new();
    let args = format!(
        "{VERSION} --mirror {} --mirror {} --sha256 {} --retries 1",
        first.url(""),
        second.url(""),
        sha256(&bytes)
    );
    cache.fetch(&args).run().expect(0);
    cache.has(&bytes);
    let asked = second.downloads();
    assert_eq!((asked.len(), asked[0].from()), (1, Some(SIZE / 2)));
    assert_eq!(asked[0].header("if-range"), None, "the tag is another server's");
    assert!(first.downloads().iter().all(|request| request.path == first_path()));
}

#[test]
fn nowhere_is_told_with_every_place() {
    let server = Server::new(|_, reply| reply.status("404 Not Found"));
    let cache = Cache::new();
    let ran =
        cache.fetch(&format!("{VERSION} --mirror {} --unverified", server.url(""))).run().expect(3);
    let ran = ran.one_line("answers 404 Not Found");
    assert!(ran.stderr.contains("published this version for this architecture"), "{}", ran.stderr);
    assert_eq!(server.requests().len(), 4);
    assert!(cache.names().is_empty(), "{:?}", cache.names());
}

#[test]
fn latest_is_what_latest_txt_says() {
    let bytes = installer(VERSION, SIZE, 43);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| match request.path.as_str() {
        "/XFree86/Linux-x86_64/latest.txt" if request.before == 0 => {
            reply.status("503 Service Unavailable")
        }
        "/XFree86/Linux-x86_64/latest.txt" => {
            reply.whole("200 OK", &[], format!("{VERSION} {VERSION}/{NAME}\n").as_bytes())
        }
        _ => reply.file(request, &served, "\"a\""),
    });
    let cache = Cache::new();
    let args = format!("latest --mirror {} --sha256 {}", server.url(""), sha256(&bytes));
    cache.fetch(&args).run().expect(0);
    cache.has(&bytes);
    cache.fetch(&format!("{args} --offline")).run().expect(2);
    for text in ["<html>", "../x ../x/NVIDIA-Linux-x86_64-../x.run", ""] {
        let server = Server::new(move |_, reply| reply.whole("200 OK", &[], text.as_bytes()));
        let empty = Cache::new();
        let ran = empty.fetch(&format!("latest --mirror {} --unverified", server.url(""))).run();
        assert!(ran.expect(3).stderr.contains("does not have a version"));
        assert!(empty.names().is_empty());
    }
}

#[test]
fn a_branch_is_its_newest_listed_version_as_numbers() {
    let bytes = installer(VERSION, SIZE, 44);
    let served = bytes.clone();
    let server = Server::new(move |request, reply| match request.path.as_str() {
        "/XFree86/Linux-x86_64/" => {
            let page = "<a href='999.9.09/'>x</a><a href='999.10/'>x</a><a href='1000.1/'>y</a>";
            reply.whole("200 OK", &["Content-Type: text/html"], page.as_bytes())
        }
        _ => reply.file(request, &served, "\"a\""),
    });
    let cache = Cache::new();
    cache
        .fetch(&format!("999 --mirror {} --sha256 {}", server.url(""), sha256(&bytes)))
        .run()
        .expect(0);
    cache.has(&bytes);
    // without a list: what the table knows, with a word about it
    let server = Server::new(|_, reply| reply.status("404 Not Found"));
    let ran = cache.fetch(&format!("550 -n --mirror {}", server.url(""))).run().expect(0);
    assert!(ran.stderr.contains("550.163.01"), "{}", ran.stderr);
    assert!(ran.values("change", "target")[0].as_str().unwrap().ends_with("-550.163.01.run"));
    let ran = cache.fetch("580 -n --offline").run().expect(0);
    assert!(ran.values("change", "target")[0].as_str().unwrap().ends_with("-580.173.02.run"));
    cache.fetch("111 --offline").run().expect(3);
}

#[test]
fn a_directory_is_a_mirror_too() {
    let bytes = installer(VERSION, SIZE, 45);
    let bed = testbed::Bed::empty();
    for place in [format!("/{NAME}"), format!("/{VERSION}/{NAME}"), first_path()] {
        let cache = Cache::new();
        bed.write(&place, &bytes);
        let url = format!("file://{}", bed.path().display());
        let args = format!("{VERSION} --offline --mirror {url} --sha256 {}", sha256(&bytes));
        cache.fetch(&args).run().expect(0);
        cache.has(&bytes);
        bed.remove(&place);
        let cache = Cache::new();
        cache.fetch(&args).run().expect(3).one_line("does not exist");
    }
    // a branch is looked for in directories
    bed.write(&first_path(), &bytes);
    let cache = Cache::new();
    let url = format!("file:{}", bed.path().display());
    cache.fetch(&format!("999 --mirror {url} --sha256 {}", sha256(&bytes))).run().expect(0);
    cache.has(&bytes);
    // and one file by its URL
    let cache = Cache::new();
    cache.fetch(&format!("{url}{} --unverified", first_path())).run().expect(0);
    cache.has(&bytes);
}

#[test]
fn a_proxy_of_the_environment_is_asked_instead() {
    let bytes = installer(VERSION, SIZE, 46);
    let proxy = Server::new(|_, reply| reply.status("403 Forbidden"));
    let cache = Cache::new();
    let args = format!("http://somewhere.invalid/{NAME} --retries 0 --sha256 {}", sha256(&bytes));
    let tool = cache.fetch(&args).env("http_proxy", &proxy.url("")).env("no_proxy", "");
    let ran = tool.run().expect(3);
    assert_eq!(proxy.requests().len(), 1, "{}", ran.stderr);
    // and not for what is excepted from it
    let served = bytes.clone();
    let server = Server::new(move |request, reply| reply.file(request, &served, "\"a\""));
    let args = format!("{} --sha256 {}", server.url(&format!("/{NAME}")), sha256(&bytes));
    let tool = cache.fetch(&args).env("http_proxy", &proxy.url("")).env("no_proxy", "127.0.0.1");
    tool.run().expect(0);
    assert_eq!(proxy.requests().len(), 1);
    cache.has(&bytes);
}

#[test]
fn operands_that_make_no_sense_touch_nothing() {
    let cache = Cache::new();
    for args in [
        "../../etc/passwd",
        "550.163.01/../../x",
        "https://h/..%2f..%2fx.run",
        "https://h/../..",
        "https://h/.hidden.run",
        "https://user:secret@h/a.run",
        "ftp://h/a.run",
        "file:relative.run",
        "999.10 --mirror ftp://h",
        "999.10 --mirror /srv/mirror",
        "999.10 --url https://h/readme.txt",
        "latest --url https://h/a.run",
        "https://h/a.run --mirror https://m",
        "999.10 --sha256 1234",
        "999.10 --retry-delay 0",
        "999.10 --arch sparc",
        "5",
    ] {
        let ran = cache.fetch(args).run().expect(2);
        assert!(!ran.stderr.contains("secret") || args.contains("secret"), "{}", ran.stderr);
        assert!(cache.names().is_empty(), "{args}: {:?}", cache.names());
    }
}
