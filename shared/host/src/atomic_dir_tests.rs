use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

const PLAIN: Attributes = Attributes { owner: None, mode: 0o640, mtime: Some(1_000_000_000) };

fn place(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("host-staging-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn put(staging: &AtomicDir, path: &str, text: &str) {
    let mut file = staging.file(path.as_bytes()).unwrap();
    file.write(text.as_bytes()).unwrap();
    file.finish(PLAIN).unwrap();
}

#[test]
fn nothing_is_there_until_all_of_it_is() {
    let dir = place("commit");
    let target = dir.join("tree");
    let staging = AtomicDir::begin(&target).unwrap();
    staging.dir(b"a").unwrap();
    put(&staging, "a/b/file", "one\n");
    put(&staging, "a/b/file", "two\n");
    staging.symlink(b"a/link", b"b/file", None).unwrap();
    staging.hardlink(b"other", b"a/b/file").unwrap();
    assert!(!target.exists());
    staging.finish_dir(b"a", Attributes { mode: 0o755, ..PLAIN }).unwrap();
    staging.finish_dir(b"", Attributes { mode: 0o751, ..PLAIN }).unwrap();
    staging.commit().unwrap();
    assert_eq!(names(&dir), ["tree"]);
    assert_eq!(fs::read_to_string(target.join("a/link")).unwrap(), "two\n");
    let file = fs::metadata(target.join("other")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.nlink(), file.mtime()), (0o640, 2, 1_000_000_000));
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o751);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_is_discarded_leaves_nothing() {
    let dir = place("discard");
    let staging = AtomicDir::begin(&dir.join("tree")).unwrap();
    put(&staging, "a/file", "x");
    assert_eq!(names(&dir).len(), 1);
    staging.discard().unwrap();
    assert!(names(&dir).is_empty());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn no_path_leads_through_a_link_or_out() {
    let dir = place("hostile");
    fs::create_dir(dir.join("outside")).unwrap();
    fs::write(dir.join("outside/file"), "mine\n").unwrap();
    let staging = AtomicDir::begin(&dir.join("tree")).unwrap();
    // what no caller should ask for: the last line of defence
    staging.symlink(b"out", b"../outside", None).unwrap();
    assert!(staging.file(b"out/file").is_err());
    assert!(staging.dir(b"out").is_err());
    assert!(staging.dir(b"out/deeper").is_err());
    assert!(staging.symlink(b"out/link", b"x", None).is_err());
    assert!(staging.hardlink(b"stolen", b"out/file").is_err());
    assert!(staging.hardlink(b"stolen", b"out").is_err());
    for path in ["../x", "a/../../x", "/x/y", "out/../x/y"] {
        assert!(staging.file(path.as_bytes()).is_err(), "{path}");
    }
    assert!(staging.finish_dir(b"out", PLAIN).is_err());
    // the link itself is replaced, not what it points to
    put(&staging, "out", "new\n");
    assert_eq!(fs::read_to_string(dir.join("outside/file")).unwrap(), "mine\n");
    assert_eq!(names(&dir.join("outside")), ["file"]);
    assert!(!dir.join("x").exists());
    staging.discard().unwrap();
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_target_that_is_there_is_never_replaced() {
    let dir = place("there");
    fs::create_dir(dir.join("tree")).unwrap();
    symlink("nowhere", dir.join("link")).unwrap();
    for name in ["tree", "link", ".", ".."] {
        let Err(error) = AtomicDir::begin(&dir.join(name)) else { panic!("{name} was taken") };
        assert_eq!(error.errno(), libc::EEXIST, "{name}: {error}");
    }
    // one that appears meanwhile
    let staging = AtomicDir::begin(&dir.join("new")).unwrap();
    fs::create_dir(dir.join("new")).unwrap();
    assert_eq!(staging.commit().unwrap_err().errno(), libc::EEXIST);
    staging.discard().unwrap();
    assert!(names(&dir.join("new")).is_empty());
    assert!(AtomicDir::begin(&dir.join("none/such")).is_err_and(|error| error.is_not_found()));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
    let dir = place("leftovers");
    // no process has a number beyond the kernel's highest
    for name in [".tree.tmp.4194305", ".tree.tmp.1", ".tree.tmp.x", ".other.tmp.4194305"] {
        fs::create_dir_all(dir.join(name).join("deep")).unwrap();
    }
    // one whose process lives in another namespace
    fs::create_dir(dir.join(".tree.tmp.4194306")).unwrap();
    let busy = fs::File::open(dir.join(".tree.tmp.4194306")).unwrap();
    flock(&busy, libc::LOCK_EX).unwrap();
    let staging = AtomicDir::begin(&dir.join("tree")).unwrap();
    staging.discard().unwrap();
    assert!(dir.join(".tree.tmp.4194306").exists());
    drop(busy);
    let staging = AtomicDir::begin(&dir.join("tree")).unwrap();
    staging.discard().unwrap();
    assert_eq!(names(&dir), [".other.tmp.4194305", ".tree.tmp.1", ".tree.tmp.x"]);
    fs::remove_dir_all(dir).unwrap();
}
