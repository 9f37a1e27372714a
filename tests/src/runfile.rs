//! Installers for tests: a writer of NVIDIA's dialect and of an old upstream
//! makeself's, whose stubs can be run by a shell, and archives that no
//! installer would hold.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pack {
    None,
    Gzip,
    Bzip2,
    /// As NVIDIA did until 525: without a check of its own.
    XzNoCheck,
    Xz,
    Zstd,
    Lz4,
}

impl Pack {
    /// The word in records.
    pub fn name(self) -> &'static str {
        match self {
            Pack::None => "none",
            Pack::Gzip => "gzip",
            Pack::Bzip2 => "bzip2",
            Pack::XzNoCheck | Pack::Xz => "xz",
            Pack::Zstd => "zstd",
            Pack::Lz4 => "lz4",
        }
    }

    fn command(self) -> &'static [&'static str] {
        match self {
            Pack::None => &["cat"],
            Pack::Gzip => &["gzip", "-9c"],
            Pack::Bzip2 => &["bzip2", "-c"],
            Pack::XzNoCheck => &["xz", "-C", "none", "-c"],
            Pack::Xz => &["xz", "-c"],
            Pack::Zstd => &["zstd", "-qc", "-9"],
            Pack::Lz4 => &["lz4", "-qc"],
        }
    }

    fn undo(self) -> &'static str {
        match self {
            Pack::None => "cat",
            Pack::Gzip => "gzip -dc",
            Pack::Bzip2 => "bzip2 -dc",
            Pack::XzNoCheck | Pack::Xz => "xz -dc",
            Pack::Zstd => "zstd -qdc",
            Pack::Lz4 => "lz4 -qdc",
        }
    }

    /// Compresses with the usual program.
    pub fn pack(self, bytes: &[u8]) -> Vec<u8> {
        pipe(self.command(), bytes)
    }
}

/// What a program makes of its input.
pub fn pipe(command: &[&str], input: &[u8]) -> Vec<u8> {
    let name = command[0];
    let mut child = Command::new(name)
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} is needed: {error}"));
    let mut stdin = child.stdin.take().expect("stdin");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect(name);
    feeder.join().expect("feeder").expect(name);
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

/// An installer of a driver in NVIDIA's dialect.
#[derive(Clone, Debug)]
pub struct NvidiaRun {
    pub version: String,
    pub arch: String,
    /// With its dash: `-grid`.
    pub suffix: String,
    /// Behind `1.6.0-nv`.
    pub makeself: u32,
    pub pack: Pack,
    /// The embedded program; its bytes may be anything.
    pub decompressor: Option<Vec<u8>>,
    /// What `-A` lists.
    pub options: Vec<String>,
    /// Bytes behind the payload.
    pub trailing: Vec<u8>,
}

impl NvidiaRun {
    pub fn new(version: &str, pack: Pack) -> NvidiaRun {
        let options = [
            "-s, --silent",
            "-a, --accept-license",
            "-k KERNEL-NAME, --kernel-name=KERNEL-NAME",
            "-K, --kernel-module-only",
            "--no-kernel-module",
            "--no-kernel-modules",
            "--dkms, --no-dkms",
            "-z, --no-nouveau-check",
            "--tmpdir=TMPDIR",
            "-q, --no-questions",
        ];
        NvidiaRun {
            version: version.into(),
            arch: "x86_64".into(),
            suffix: String::new(),
            makeself: 9,
            pack,
            decompressor: None,
            options: options.map(str::to_string).to_vec(),
            trailing: Vec::new(),
        }
    }

    /// The name it is downloaded by.
    pub fn file_name(&self) -> String {
        format!("NVIDIA-Linux-{}-{}{}.run", self.arch, self.version, self.suffix)
    }

    /// Packs what is in a directory; `./` stands before each name, and there is
    /// no entry for the directory itself.
    pub fn of_dir(&self, dir: &Path) -> Vec<u8> {
        self.of_tar(&tar_of(dir, &[]))
    }

    /// Packs a tar archive, whatever it holds.
    pub fn of_tar(&self, tar: &[u8]) -> Vec<u8> {
        let (name, payload) = (self.file_name(), self.pack.pack(tar));
        let target = name.trim_end_matches(".run");
        let label =
            format!("NVIDIA Accelerated Graphics Driver for Linux-{} {}", self.arch, self.version);
        let options: String = self
            .options
            .iter()
            .map(|o| {
                format!("    echo \"  {o}\"\n    echo \"      What --it does.\"\n    echo \"\"\n")
            })
            .collect();
        let mut program = self.decompressor.clone().unwrap_or_default();
        if self.decompressor.is_some() {
            program.push(b'\n');
        }
        let program_lines = program.iter().filter(|b| **b == b'\n').count();
        let text = |skip: usize, skip_decompress: usize| {
            STUB.replace("@SKIP@", &skip.to_string())
                .replace("@SKIP_DECOMPRESS@", &skip_decompress.to_string())
                .replace("@SIZE_DECOMPRESS@", &program_lines.to_string())
                .replace("@LABEL@", &label)
                .replace("@VERSION@", &self.version)
                .replace("@ARCH@", &self.arch)
                .replace("@TARGET@", target)
                .replace("@NV@", &self.makeself.to_string())
                .replace("@SIZE@", &tar.len().div_ceil(1024).to_string())
                .replace("@COMPRESSION@", self.pack.name())
                .replace("@UNPACK@", self.pack.undo())
                .replace("@OPTIONS@\n", &options)
        };
        let lines = 3 + text(0, 0).lines().count();
        let mut rest = text(lines + 1 + program_lines, lines + 1).into_bytes();
        rest.extend(program);
        rest.extend(payload);
        rest.extend(&self.trailing);
        let head = format!("#! /bin/sh\nCRCsum={}\nMD5={}\n", cksum(&rest), hash("md5sum", &rest));
        [head.as_bytes(), &rest].concat()
    }

    /// Packs a directory into a file of its own name below `to`.
    pub fn write(&self, dir: &Path, to: &Path) -> std::path::PathBuf {
        let path = to.join(self.file_name());
        write_executable(&path, &self.of_dir(dir));
        path
    }
}

/// From its fourth line on. It understands what NVIDIA's own does of its first
/// argument, and `-x` with `--target`.
const STUB: &str = r#"skip=@SKIP@
skip_decompress=@SKIP_DECOMPRESS@
size_decompress=@SIZE_DECOMPRESS@
label="@LABEL@"
version_string=@VERSION@
pkg_version=0
script=./nvidia-installer
targetdir=@TARGET@
scriptargs=""
keep=n
add_this_kernel=n
apply_patch=n
TMPROOT=${TMPDIR:=/tmp}
TARGET_OS="Linux"
TARGET_ARCH="@ARCH@"

#
# @LABEL@
# Generated by Makeself 1.6.0-nv@NV@
# Do not edit by hand.
# NVIDIA Driver Installation .run file

if [ "$1" = "-A" ] || [ "$1" = "--advanced-options" ]; then
@OPTIONS@
    exit 0
fi
if [ "$1" = "--info" ]; then
    echo "  Identification    : $label"
    echo "  Target directory  : $targetdir"
    echo "  Uncompressed size : @SIZE@ KB"
    echo "  Compression       : @COMPRESSION@"
    echo "  Date of packaging : Tue Apr  8 08:00:00 UTC 2025"
    exit 0
fi
unpacked() { tail -n +$skip "$0" | @UNPACK@; }
if [ "$1" = "--list" ]; then unpacked | tar tf -; exit 0; fi
if [ "$1" = "--extract-decompress" ]; then
    tail -n +$skip_decompress "$0" | head -n $size_decompress
    exit 0
fi
check() {
    crc=$(tail -n +4 "$0" | cksum | cut -d' ' -f1)
    [ "$crc" = "$CRCsum" ] || { echo "Error in checksums $crc $CRCsum"; exit 2; }
    md5=$(tail -n +4 "$0" | md5sum | cut -d' ' -f1)
    [ "$md5" = "$MD5" ] || { echo "Error in md5 sums $md5 $MD5"; exit 2; }
}
if [ "$1" = "--check" ]; then check; echo "check sums and md5 sums are ok"; exit 0; fi
extract=n
while [ $# -gt 0 ]; do
    case $1 in
        -x|--extract-only) extract=y ;;
        --target) shift; targetdir=$1 ;;
        *) scriptargs="$scriptargs $1" ;;
    esac
    shift
done
check
[ ! -d "$targetdir" ] || { echo "The directory '$targetdir' already exists."; exit 1; }
mkdir "$targetdir" && unpacked | (cd "$targetdir" && tar xf -) || exit 3
chown -Rf "$(id -u):$(id -g)" "$targetdir"
[ $extract = y ] || (cd "$targetdir" && eval "$script $scriptargs")
exit $?
END_OF_STUB
"#;

/// A tar archive of what is in a directory, as `tar` writes it.
pub fn tar_of(dir: &Path, options: &[&str]) -> Vec<u8> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("directory")
        .map(|entry| format!("./{}", entry.expect("entry").file_name().to_string_lossy()))
        .collect();
    names.sort();
    let output = Command::new("tar")
        .arg("-C")
        .arg(dir)
        .args(["--format=gnu", "--sort=name", "-cf", "-"])
        .args(options)
        .arg("--")
        .args(names)
        .output()
        .expect("tar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// An archive of upstream's makeself 2.1.5, from before `skip=`: where the
/// payload begins is a command. A part for each directory, as `--append` made
/// them (Debian 12's makeself replaces the first part instead).
pub fn old_makeself(dirs: &[&Path], pack: Pack) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = dirs.iter().map(|dir| pack.pack(&tar_of(dir, &[]))).collect();
    let each = |f: &dyn Fn(&Vec<u8>) -> String| parts.iter().map(f).collect::<Vec<_>>().join(" ");
    let text = |lines: usize| {
        OLD.replace("@LINES@", &lines.to_string())
            .replace("@CRC@", &each(&|part| cksum(part)))
            .replace("@MD5@", &each(&|part| hash("md5sum", part)))
            .replace("@BYTES@", &each(&|part| part.len().to_string()))
            .replace("@UNPACK@", pack.undo())
    };
    let lines = text(0).lines().count();
    [text(lines).into_bytes(), parts.concat()].concat()
}

const OLD: &str = r#"#!/bin/sh
# This script was generated using Makeself 2.1.5
CRCsum="@CRC@"
MD5="@MD5@"
TMPROOT=${TMPDIR:=/tmp}

label="An old archive"
script="./setup.sh"
scriptargs=""
targetdir="old"
filesizes="@BYTES@"
keep=n

MS_Part()
{
	tail -c +$(expr $offset + 1) "$0" | head -c $1
}
MS_Check()
{
	i=1
	offset=`head -n @LINES@ "$0" | wc -c | tr -d " "`
	for s in $filesizes; do
		crc=`echo $CRCsum | cut -d" " -f$i`
		test "$(MS_Part $s | cksum | cut -d' ' -f1)" = "$crc" || exit 2
		i=`expr $i + 1`
		offset=`expr $offset + $s`
	done
	echo " All good."
}
if test "$1" = --info; then
	echo Uncompressed size: 44 KB
	echo Date of packaging: Thu Jan  1 00:00:00 UTC 2009
	exit 0
fi
if test "$1" = --check; then MS_Check; exit $?; fi
test "$1" = --noexec && test "$2" = --target || exit 1
mkdir -p "$3"
offset=`head -n @LINES@ "$0" | wc -c | tr -d " "`
for s in $filesizes; do
	MS_Part $s | @UNPACK@ | (cd "$3" && tar xpf -) || exit 1
	offset=`expr $offset + $s`
done
exit 0
"#;

/// An archive by Debian's makeself, which is installed with the tests' needs.
pub fn makeself(dir: &Path, to: &Path, options: &[&str]) {
    let output = Command::new("makeself")
        .args(["--quiet", "--nox11"])
        .args(options)
        .arg(dir)
        .arg(to)
        .args(["A test archive", "./setup.sh"])
        .output()
        .expect("makeself is needed: install makeself");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub fn write_executable(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// What cksum(1) says.
pub fn cksum(bytes: &[u8]) -> String {
    hash("cksum", bytes)
}

/// The first word of what a program such as md5sum says.
pub fn hash(program: &str, bytes: &[u8]) -> String {
    let said = String::from_utf8(pipe(&[program], bytes)).expect("UTF-8");
    said.split_whitespace().next().expect("a digest").to_string()
}

/// One member of a tar archive, as hostile as asked for: nothing is checked.
pub struct RawMember<'a> {
    pub path: &'a str,
    pub kind: u8,
    pub link: &'a str,
    pub mode: u32,
    pub content: &'a [u8],
    /// What the header says of its size, where that is a lie.
    pub size: Option<u64>,
}

impl RawMember<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let mut header = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.path.as_bytes()[..self.path.len().min(100)]);
        put(100, format!("{:07o}\0{:07o}\0{:07o}\0", self.mode, 0, 0).as_bytes());
        let size = self.size.unwrap_or(self.content.len() as u64);
        put(124, format!("{size:011o}\0{:011o}\0        ", 1_700_000_000).as_bytes());
        put(156, &[self.kind]);
        put(157, &self.link.as_bytes()[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let padding = (512 - self.content.len() % 512) % 512;
        [&header, self.content, &vec![0; padding]].concat()
    }
}

/// Members by kind, path and link or content, with the archive's end.
pub fn raw_tar(members: &[(u8, &str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, path, text) in members {
        let is_link = matches!(kind, b'1' | b'2');
        let (link, content) = if is_link { (*text, "") } else { ("", *text) };
        let mode = if *kind == b'5' { 0o755 } else { 0o644 };
        let content = content.as_bytes();
        bytes.extend(RawMember { path, kind: *kind, link, mode, content, size: None }.bytes());
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// What a driver's archive holds, small: libraries, firmware, both kinds of
/// kernel sources, manifest, list of GPUs, and an installer that only writes
/// down how it was called.
pub fn driver_tree(dir: &Path, version: &str) {
    let mut manifest = format!(
        "NVIDIA Accelerated Graphics Driver for Linux-x86_64\n{version}\n \n\
         nvidia nvidia-uvm nvidia-modeset nvidia-drm \n \n \n \n \n"
    );
    let mut put = |path: &str, mode: u32, row: &str, content: &[u8]| {
        let at = dir.join(path);
        fs::create_dir_all(at.parent().expect("parent")).expect("directory");
        fs::write(&at, content).expect(path);
        fs::set_permissions(&at, fs::Permissions::from_mode(mode & 0o777)).expect(path);
        if !row.is_empty() {
            manifest += &format!("{path} {mode:04o} {row}\n");
        }
    };
    let library = |name: &str| {
        let text = format!("\x7fELF {name} {version}\n");
        text.as_bytes().iter().copied().cycle().take(40_000 + name.len()).collect::<Vec<u8>>()
    };
    for (name, kind, tag) in [
        ("libcuda.so", "CUDA_LIB NATIVE /", "gpgpu"),
        ("libnvidia-ml.so", "CUDA_LIB NATIVE /", "nvml"),
        ("libnvidia-ptxjitcompiler.so", "CUDA_LIB NATIVE /", "gpgpu"),
        ("libnvcuvid.so", "NVCUVID_LIB NATIVE", "nvcuvid"),
        ("libnvidia-encode.so", "ENCODEAPI_LIB NATIVE", "encodeapi"),
        ("32/libcuda.so", "CUDA_LIB COMPAT32 /", "gpgpu"),
    ] {
        put(&format!("{name}.{version}"), 0o755, &format!("{kind} MODULE:{tag}"), &library(name));
    }
    put(
        "nvidia-smi",
        0o755,
        "UTILITY_BINARY MODULE:nvml",
        b"#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n",
    );
    put("nvidia-modprobe", 0o4755, "NVIDIA_MODPROBE /usr/bin/ MODULE:installer", b"#!/bin/sh\n");
    let firmware: Vec<u8> =
        (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    put("firmware/gsp_ga10x.bin", 0o444, "FIRMWARE INHERIT_PATH_DEPTH:1 MODULE:gsp", &firmware);
    for tree in ["kernel", "kernel-open"] {
        put(
            &format!("{tree}/nvidia/nv.c"),
            0o644,
            "KERNEL_MODULE_SRC INHERIT_PATH_DEPTH:1 MODULE:resman",
            b"int nv;\n",
        );
        put(
            &format!("{tree}/Kbuild"),
            0o644,
            "KERNEL_MODULE_SRC INHERIT_PATH_DEPTH:1 MODULE:resman",
            b"",
        );
    }
    put("supported-gpus/supported-gpus.json", 0o644, "", GPUS.as_bytes());
    put("nvidia-installer", 0o755, "INSTALLER_BINARY MODULE:installer", INSTALLER.as_bytes());
    for (link, kind, target) in [
        ("libcuda.so.1", "CUDA_SYMLINK NATIVE /", format!("libcuda.so.{version}")),
        ("libcuda.so", "CUDA_SYMLINK NATIVE /", "libcuda.so.1".to_string()),
        ("libnvidia-ml.so.1", "CUDA_SYMLINK NATIVE /", format!("libnvidia-ml.so.{version}")),
    ] {
        manifest += &format!("{link} 0000 {kind} {target} MODULE:nvml\n");
    }
    fs::write(dir.join(".manifest"), manifest + "\n").expect("manifest");
    fs::create_dir_all(dir.join("empty")).expect("directory");
    symlink("nvidia-installer", dir.join("nvidia-uninstall")).expect("link");
}

/// The GPUs of the recorded machines and two more.
const GPUS: &str = r#"{"chips":[
{"devid":"0x13C2","name":"NVIDIA GeForce GTX 970","legacybranch":"580.xx","features":[]},
{"devid":"0x1288","name":"NVIDIA GeForce GT 720","legacybranch":"470.xx","features":[]},
{"devid":"0x1E07","name":"NVIDIA GeForce RTX 2080 Ti","features":["kernelopen","gsp_proprietary_supported","runtimepm"]},
{"devid":"0x2B85","name":"NVIDIA GeForce RTX 5090","features":["kernelopen"]},
{"devid":"0x1DB6","name":"Tesla V100-PCIE-32GB","features":[]}
]}
"#;

const INSTALLER: &str = r#"#!/bin/sh
# stands in for the real one: only writes down how it was called
for arg in "$@"; do echo "$arg"; done >"${RECORD_ARGS:-/dev/null}"
"#;

/// A name that only extensions of the tar format can say.
pub fn longest_name() -> String {
    "ä".repeat(120)
}

/// A small tree of all kinds of entries, with a setup script that fails: it is
/// never to run.
pub fn small_tree(dir: &Path) {
    fs::create_dir_all(dir.join("sub/deeper")).expect("directory");
    fs::create_dir_all(dir.join("empty")).expect("directory");
    let put = |path: &str, mode: u32, text: &str| {
        fs::write(dir.join(path), text).expect(path);
        fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode)).expect(path);
    };
    put("setup.sh", 0o755, "#!/bin/sh\ntouch /tmp/pve-gpu-tools-setup-was-run\nexit 1\n");
    put("read only", 0o444, "text with a blank in its name\n");
    put("sub/empty file", 0o600, "");
    put("sub/large", 0o640, &"0123456789abcdef\n".repeat(40_000));
    // longer than a header's first field, short enough for both
    let long = format!("sub/deeper/{}", "long-name-".repeat(7));
    fs::create_dir(dir.join(&long)).expect("directory");
    put(&format!("{long}/{}", "long-name-".repeat(7)), 0o644, "a path of 150 bytes\n");
    put("sub/größe", 0o664, "not ASCII\n");
    symlink("../read only", dir.join("sub/link")).expect("link");
    symlink("sub/deeper", dir.join("dir-link")).expect("link");
    fs::hard_link(dir.join("sub/large"), dir.join("other-name")).expect("link");
    fs::set_permissions(dir.join("sub/deeper"), fs::Permissions::from_mode(0o750)).expect("chmod");
}

/// Every path below a directory with all that is to be equal in two trees.
pub fn tree_of(dir: &Path) -> std::collections::BTreeMap<String, String> {
    use std::os::unix::fs::MetadataExt;
    let walk = walkdir::WalkDir::new(dir).min_depth(1).into_iter().map(|e| e.expect("walk"));
    walk.map(|entry| {
        let meta = entry.metadata().expect("stat");
        let path = entry.path();
        let content = if meta.is_symlink() {
            format!("-> {}", fs::read_link(path).expect("link").display())
        } else if meta.is_file() {
            let bytes = fs::read(path).expect("file");
            format!("{} bytes, {} names, {}", bytes.len(), meta.nlink(), hash("md5sum", &bytes))
        } else {
            "directory".into()
        };
        let time = if meta.is_file() { meta.mtime() } else { 0 };
        let mode = meta.mode();
        let owner = format!("{}:{}", meta.uid(), meta.gid());
        let name = path.strip_prefix(dir).expect("below").to_string_lossy().into_owned();
        (name, format!("{mode:o} {owner} {time} {content}"))
    })
    .collect()
}
