//! Files of the real driver, from Debian's packages: fetched once by apt-get,
//! with lists and cache of its own, so that the machine's apt stays as it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version in Debian 13.
pub const DRIVER: &str = "550.163.01";

/// Packages of the driver's userspace that the tests use.
const PACKAGES: [&str; 8] = [
    "libcuda1",
    "libnvidia-ml1",
    "nvidia-smi",
    "libnvcuvid1",
    "libnvidia-encode1",
    "libnvidia-ptxjitcompiler1",
    "libnvidia-cfg1",
    "nvidia-alternative",
];

/// The mirror of Debian that this machine's own apt is set up with, also where
/// it has fetched no lists yet.
pub fn mirror() -> String {
    let output = Command::new("apt-get")
        .args(["--print-uris", "update"])
        .output()
        .expect("apt-get is needed");
    let uris = String::from_utf8_lossy(&output.stdout).into_owned();
    let bases = uris.lines().filter_map(|line| line.trim_start_matches('\'').split_once("/dists/"));
    let own = bases.map(|(base, _)| base).find(|base| !base.contains("security"));
    own.expect("apt has a source for Debian").to_string()
}

/// A line for sources.list: the component that holds NVIDIA's driver, of the
/// release that has [`DRIVER`].
pub fn driver_source() -> String {
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    format!("deb [arch=amd64 signed-by={key}] {} trixie non-free\n", mirror())
}

/// Makes what an installer of the driver holds, from real files: libraries and
/// nvidia-smi beside each other, and a manifest for them. Panics with what
/// apt-get says where the packages cannot be had.
pub fn driver_tree(to: &Path) {
    let unpacked = unpacked();
    fs::create_dir_all(to).expect("directory");
    let mut manifest = format!(
        "NVIDIA Accelerated Graphics Driver for Linux-x86_64\n{DRIVER}\n \n\
         nvidia nvidia-uvm nvidia-modeset nvidia-drm \n \n \n \n \n"
    );
    let walk = walkdir::WalkDir::new(&unpacked).sort_by_file_name().into_iter();
    for entry in walk.map(|entry| entry.expect("walk")).filter(|e| e.file_type().is_file()) {
        // not its namesakes below /usr/share
        if !entry.path().parent().is_some_and(|dir| dir.ends_with("nvidia/current")) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.strip_suffix(&format!(".so.{DRIVER}"));
        let kind = match (name.as_str(), stem) {
            ("nvidia-smi", _) => "UTILITY_BINARY",
            (_, Some("libnvcuvid")) => "NVCUVID_LIB NATIVE",
            (_, Some("libnvidia-encode")) => "ENCODEAPI_LIB NATIVE",
            (_, Some(_)) => "CUDA_LIB NATIVE /",
            _ => continue,
        };
        let at = to.join(&name);
        fs::copy(entry.path(), &at).expect("copy");
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).expect("chmod");
        manifest += &format!("{name} 0755 {kind} MODULE:real\n");
        if let Some(stem) = stem {
            let kind = kind.replace("_LIB", "_LIB_SYMLINK").replace("CUDA_LIB_SYM", "CUDA_SYM");
            manifest += &format!("{stem}.so.1 0000 {kind} {name} MODULE:real\n");
        }
    }
    fs::write(to.join(".manifest"), manifest + "\n").expect("manifest");
}

/// The packages' files below one directory, unpacked once.
pub fn unpacked() -> PathBuf {
    locked(|cache| {
        let done = cache.join(DRIVER);
        if !done.exists() {
            let half = cache.join(format!("{DRIVER}.half"));
            let _ = fs::remove_dir_all(&half);
            for package in fetched(cache) {
                unpack(&package, &half);
            }
            fs::rename(&half, &done).expect("rename");
        }
        done
    })
}

/// The dkms program of a release of Debian: `bookworm` has 3.0.10, `trixie` 3.2.
pub fn dkms(release: &str) -> PathBuf {
    locked(|cache| {
        let cache = cache.join(format!("dkms-{release}"));
        let program = cache.join("root/usr/sbin/dkms");
        if program.exists() {
            return program;
        }
        for dir in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(cache.join(dir)).expect("cache");
        }
        let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let source = format!("deb [arch=amd64 signed-by={key}] {} {release} main\n", mirror());
        fs::write(cache.join("sources.list"), source).expect("sources.list");
        apt(&cache, &["update"]);
        apt(&cache, &["download", "dkms"]);
        let files = fs::read_dir(&cache).expect("cache").flatten().map(|entry| entry.path());
        let package = files.into_iter().find(|path| path.extension().is_some_and(|e| e == "deb"));
        unpack(&package.expect("dkms"), &cache.join("root"));
        program
    })
}

/// One of the packages as Debian has it. Panics where it is none of
/// [`PACKAGES`].
pub fn package(name: &str) -> PathBuf {
    let begin = format!("{name}_{DRIVER}-");
    let all = locked(fetched);
    let of = |path: &PathBuf| {
        path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&begin))
    };
    all.into_iter().find(of).expect(name)
}

/// Puts a package's files below a directory.
pub fn unpack(package: &Path, to: &Path) {
    let ran = Command::new("dpkg-deb").arg("-x").args([package, to]).output().expect("dpkg-deb");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// Test programs run side by side, and one of them fetches.
fn locked<T>(work: impl FnOnce(&Path) -> T) -> T {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project");
    let cache = project.join("target/debian-packages");
    fs::create_dir_all(&cache).expect("cache");
    let lock = fs::File::create(cache.join("lock")).expect("lock");
    // SAFETY: flock(2) on a descriptor that `lock` keeps open.
    let locked = unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(&lock), libc::LOCK_EX) };
    assert_eq!(locked, 0, "flock");
    work(&cache)
}

/// The packages, from apt where one is not there yet.
fn fetched(cache: &Path) -> Vec<PathBuf> {
    let found = || -> Vec<PathBuf> {
        let files = fs::read_dir(cache).expect("cache").flatten().map(|entry| entry.path());
        let debs = files.filter(|path| path.extension().is_some_and(|end| end == "deb"));
        debs.filter(|path| path.to_string_lossy().contains(&format!("_{DRIVER}-"))).collect()
    };
    if found().len() < PACKAGES.len() {
        for dir in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(cache.join(dir)).expect("cache");
        }
        fs::write(cache.join("sources.list"), driver_source()).expect("sources.list");
        apt(cache, &["update"]);
        let versions = PACKAGES.map(|name| format!("{name}:amd64={DRIVER}-*"));
        let mut args = vec!["download"];
        args.extend(versions.iter().map(String::as_str));
        apt(cache, &args);
    }
    found()
}

fn apt(cache: &Path, args: &[&str]) {
    let at = cache.display();
    let ran = Command::new("apt-get")
        .args(["-q", "-o", "Dir::Etc::SourceParts=/dev/null", "-o", "APT::Sandbox::User=root"])
        .args(["-o", &format!("Dir::Etc::SourceList={at}/sources.list")])
        .args(["-o", &format!("Dir::State::Lists={at}/lists")])
        .args(["-o", &format!("Dir::Cache={at}")])
        .args(args)
        .current_dir(cache)
        .output()
        .expect("apt-get is needed: these tests run on Debian");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "the packages cannot be had from Debian: {said}");
}
