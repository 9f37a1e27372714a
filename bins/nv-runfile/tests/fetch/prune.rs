//! `prune`: what goes, what stays, and that nothing goes that is in use.

use std::fs::File;
use std::time::{Duration, SystemTime};

use crate::Cache;
use crate::server::Server;

fn name(version: &str) -> String {
    format!("NVIDIA-Linux-x86_64-{version}.run")
}

/// A cache with files of these versions and ages in days.
fn cache(versions: &[(&str, u64)]) -> Cache {
    let cache = Cache::new();
    for (version, days) in versions {
        let path = cache.at(&name(version));
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::write(cache.at(&format!("{}.json", name(version))), "{}").unwrap();
        let time = SystemTime::now() - Duration::from_secs(days * 86_400);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    cache
}

fn runs(cache: &Cache) -> Vec<String> {
    cache.names().into_iter().filter(|name| name.ends_with(".run")).collect()
}

const ALL: [(&str, u64); 4] =
    [("550.54.14", 90), ("550.163.01", 60), ("580.126.20", 10), ("580.142", 1)];

#[test]
fn the_newest_stay_and_a_dry_run_removes_nothing() {
    let cache = cache(&ALL);
    let before = cache.bed.contents();
    let ran = cache.prune("--keep 2 -n").run().expect(0);
    let mut statuses = ran.values("change", "status");
    statuses.sort_by_key(ToString::to_string);
    assert_eq!(statuses, ["planned", "planned", "unchanged", "unchanged"]);
    let ran = cache.prune("--keep 2 --check").run().expect(1);
    assert_eq!(ran.values("check", "status"), ["drift", "drift"]);
    assert_eq!(cache.bed.contents(), before);
    cache.prune("--keep 2").run().expect(0);
    assert_eq!(runs(&cache), [name("580.126.20"), name("580.142")]);
    assert_eq!(cache.names().len(), 4, "notes go with their files");
    cache.prune("--keep 2 --check").run().expect(0);
}

#[test]
fn age_and_named_versions_are_heeded() {
    let old = cache(&ALL);
    old.prune("--older-than 30 --keep-version 550.54.14").run().expect(0);
    assert_eq!(runs(&old), [name("550.54.14"), name("580.126.20"), name("580.142")]);
    let none = cache(&ALL);
    none.prune("").run().expect(0);
    assert_eq!(runs(&none).len(), 4);
    none.prune("--keep 0").run().expect(0);
    assert!(runs(&none).is_empty());
    for bad in ["--keep -1", "--keep x", "--older-than x", "--keep-version ../x"] {
        none.prune(bad).run().expect(2);
    }
}

#[test]
fn parts_and_leftovers_go_and_files_of_others_stay() {
    let cache = cache(&[("550.54.14", 1)]);
    let run = name("570.1");
    for left in [
        format!("{run}.part"),
        format!("{run}.part.json"),
        format!("{run}.json"),
        format!("{run}.json.tmp.4194305"),
    ] {
        std::fs::write(cache.at(&left), "x").unwrap();
    }
    for others in ["README", "notes.json", "x.part", "a.run.bak"] {
        std::fs::write(cache.at(others), "x").unwrap();
    }
    cache.prune("--keep-partial").run().expect(0);
    assert!(cache.at(&format!("{run}.part")).exists());
    assert!(cache.at(&format!("{run}.part.json")).exists());
    assert!(!cache.at(&format!("{run}.json")).exists());
    let ran = cache.prune("").run().expect(0);
    assert_eq!(ran.values("change", "status"), ["unchanged", "changed"]);
    let run = name("550.54.14");
    assert_eq!(
        cache.names(),
        [
            run.clone(),
            format!("{run}.json"),
            "README".into(),
            "a.run.bak".into(),
            "notes.json".into(),
            "x.part".into()
        ]
    );
}

#[test]
fn nothing_goes_that_is_in_use() {
    let cache = cache(&ALL);
    // open in some process
    let held = File::open(cache.at(&name("550.54.14"))).unwrap();
    // its module is loaded
    cache.bed.write("/sys/module/nvidia/version", "550.163.01\n");
    let root = cache.bed.path().display().to_string();
    let args = format!("--keep 0 --root {root}");
    let ran = cache.prune(&args).run().expect(0);
    assert_eq!(runs(&cache), [name("550.163.01"), name("550.54.14")]);
    let open = ran.one("change", "target", &cache.at(&name("550.54.14")).display().to_string());
    assert_eq!(open["status"], "skipped");
    assert!(open["reason"].as_str().unwrap().contains("open"), "{open}");
    let loaded = ran.one("change", "target", &cache.at(&name("550.163.01")).display().to_string());
    assert_eq!(loaded["status"], "unchanged");
    drop(held);
    cache.prune(&args).run().expect(0);
    assert_eq!(runs(&cache), [name("550.163.01")]);
}

#[test]
fn a_download_under_way_is_left_alone() {
    let server = Server::new(|_, reply| {
        reply.head("200 OK", &["Content-Length: 1000000".into(), "ETag: \"a\"".into()])?;
        reply.body(b"#! /bin/sh\n")?;
        std::thread::sleep(Duration::from_secs(3));
        Ok(())
    });
    let cache = Cache::new();
    let (dir, url) = (cache.dir(), server.url(&format!("/{}", name("999.10"))));
    let fetching = std::thread::spawn(move || {
        let args = format!("{url} --sha256 {} --retries 0 --stall-timeout 2", "0".repeat(64));
        crate::fetch(&dir, &args).run().expect(3)
    });
    let part = cache.at(&format!("{}.part", name("999.10")));
    while std::fs::metadata(&part).map_or(0, |found| found.len()) == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    for args in ["", "-n"] {
        let ran = cache.prune(args).run().expect(0);
        assert_eq!(ran.values("change", "status"), ["skipped"]);
        assert!(part.exists());
    }
    fetching.join().unwrap();
    cache.prune("").run().expect(0);
    assert!(cache.names().is_empty(), "{:?}", cache.names());
}

#[test]
fn without_a_cache_there_is_nothing_to_do() {
    let cache = Cache::new();
    std::fs::remove_dir(cache.dir()).unwrap();
    let ran = cache.prune("--keep 0").run().expect(0);
    assert!(ran.records.is_empty());
    assert!(!cache.dir().exists());
}
