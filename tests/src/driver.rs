//! NVIDIA's driver as files, as packagings leave it: libraries with real
//! sonames and links, kernel modules with a `.modinfo`, DKMS's tree; and
//! Debian's own packages of it, put in place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where Debian's libraries are.
pub const LIB: &str = "/usr/lib/x86_64-linux-gnu";

/// A root file system in the making.
#[derive(Clone, Debug)]
pub struct RootFs {
    dir: PathBuf,
}

/// What a container that runs on a recorded machine sees as its root.
pub fn running(bed: &crate::Bed, ctid: u32) -> RootFs {
    let pid = 4000 + ctid;
    let group = format!("/sys/fs/cgroup/lxc/{ctid}/ns/init.scope/cgroup.procs");
    bed.write(&group, format!("{pid}\n"));
    bed.write(&format!("/proc/{pid}/status"), format!("Name:\tsystemd\nNSpid:\t{pid}\t1\n"));
    RootFs::new(bed.at(&format!("/proc/{pid}/root")))
}

/// A stopped Debian container on a recorded machine, whose volume is a directory of the
/// host, without a driver.
pub fn stopped(bed: &crate::Bed, ctid: u32) -> RootFs {
    bed.write("/etc/pve/storage.cfg", "zfspool: tank\n\tpool tank\n\tmountpoint /tank\n");
    let conf = format!("arch: amd64\nostype: debian\nrootfs: tank:subvol-{ctid}-disk-0\n");
    bed.write(&format!("/etc/pve/lxc/{ctid}.conf"), conf);
    let root = RootFs::new(bed.at(&format!("/tank/subvol-{ctid}-disk-0")));
    root.file("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
    for dir in [LIB, "/usr/bin", "/var/lib", "/usr/lib64"] {
        fs::create_dir_all(root.at(dir)).expect(dir);
    }
    root.link("/lib", "usr/lib").link("/lib64", "usr/lib64");
    root.file("/usr/lib64/ld-linux-x86-64.so.2", "loader");
    root.file(&format!("{LIB}/libc.so.6"), "libc");
    root
}

/// How a module file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    No,
    Xz,
    Zstd,
    Gzip,
}

impl RootFs {
    /// Below a directory; what a container's template has comes first.
    pub fn new(dir: impl Into<PathBuf>) -> RootFs {
        let root = RootFs { dir: dir.into() };
        root.file("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
        root.file(
            "/etc/ld.so.conf.d/x86_64-linux-gnu.conf",
            format!("/lib/x86_64-linux-gnu\n{LIB}\n"),
        );
        root
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path.trim_start_matches('/'))
    }

    pub fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> &RootFs {
        let at = self.at(path);
        fs::create_dir_all(at.parent().expect(path)).expect(path);
        fs::write(at, bytes).expect(path);
        self
    }

    pub fn link(&self, path: &str, target: &str) -> &RootFs {
        let at = self.at(path);
        fs::create_dir_all(at.parent().expect(path)).expect(path);
        let _ = fs::remove_file(&at);
        symlink(target, at).expect(path);
        self
    }

    /// libcuda and NVML of a version as a .run installer leaves them.
    pub fn run_install(&self, dir: &str, version: &str) -> &RootFs {
        for stem in ["libcuda.so", "libnvidia-ml.so"] {
            self.library(dir, stem, version);
            self.link(&format!("{dir}/{stem}.1"), &format!("{stem}.{version}"));
            self.link(&format!("{dir}/{stem}"), &format!("{stem}.1"));
        }
        // the first line as nvidia-installer's backup.c writes it
        let compatible = version.replace('.', "");
        let record = format!("1.0-{compatible} ({version})\nNVIDIA Accelerated Graphics Driver\n");
        self.file("/var/lib/nvidia/log", record)
    }

    /// Debian's packages of a version, `550.163.01-2`, in dpkg's status file, in a
    /// state such as `installed`. The maintainer is that of trixie's packages.
    pub fn debian_status(&self, packages: &[&str], version: &str, state: &str) -> &RootFs {
        let path = "/var/lib/dpkg/status";
        let mut status = fs::read_to_string(self.at(path)).unwrap_or_default();
        for package in packages {
            status += &format!(
                "\nPackage: {package}\nStatus: install ok {state}\nMaintainer: Debian NVIDIA \
                 Maintainers <pkg-nvidia-devel@lists.alioth.debian.org>\nVersion: {version}\n"
            );
        }
        self.file(path, status)
    }

    /// Packages in dpkg's status file, which are installed.
    pub fn installed(&self, packages: &[&str]) -> &RootFs {
        let path = "/var/lib/dpkg/status";
        let mut status = fs::read_to_string(self.at(path)).unwrap_or_default();
        for package in packages {
            status += &format!("\nPackage: {package}\nStatus: install ok installed\n");
        }
        self.file(path, status)
    }

    /// One library without links.
    pub fn library(&self, dir: &str, stem: &str, version: &str) -> &RootFs {
        let soname = format!("{stem}.1");
        self.file(&format!("{dir}/{stem}.{version}"), library(&soname))
    }

    /// The same as Debian's packages leave them: below nvidia/current, reached
    /// through the links of update-alternatives, which are absolute.
    pub fn debian(&self, version: &str) -> &RootFs {
        let current = format!("{LIB}/nvidia/current");
        for stem in ["libcuda.so", "libnvidia-ml.so"] {
            let name = format!("nvidia--{stem}.1-x86_64-linux-gnu");
            self.library(&current, stem, version);
            self.link(&format!("{current}/{stem}.1"), &format!("{stem}.{version}"));
            self.link(&format!("/etc/alternatives/{name}"), &format!("{current}/{stem}.1"));
            self.link(&format!("{LIB}/{stem}.1"), &format!("/etc/alternatives/{name}"));
        }
        self.link("/etc/alternatives/nvidia", "/usr/lib/nvidia/current");
        self.file("/var/lib/dpkg/info/libcuda1:amd64.list", "/.\n");
        self.file("/var/lib/dpkg/info/libnvidia-ml1:amd64.list", "/.\n")
    }

    /// Debian's packages themselves, with the links that their scripts make.
    pub fn debian_packages(&self) -> &RootFs {
        for name in ["libcuda1", "libnvidia-ml1", "nvidia-alternative"] {
            crate::debian::unpack(&crate::debian::package(name), &self.dir);
        }
        for dir in ["var/lib/dpkg/alternatives", "var/lib/dpkg/info", "etc/alternatives", "var/log"]
        {
            fs::create_dir_all(self.dir.join(dir)).expect(dir);
        }
        let mut command = Command::new("update-alternatives");
        command.arg("--quiet").arg("--root").arg(&self.dir);
        command.args([
            "--install",
            "/usr/lib/nvidia/nvidia",
            "nvidia",
            "/usr/lib/nvidia/current",
            "550",
        ]);
        for stem in ["libcuda.so.1", "libnvidia-ml.so.1"] {
            command.args(["--slave", &format!("{LIB}/{stem}")]);
            command.arg(format!("nvidia--{stem}-x86_64-linux-gnu"));
            command.arg(format!("{LIB}/nvidia/current/{stem}"));
        }
        assert!(command.status().expect("update-alternatives").success());
        self.file("/var/lib/dpkg/info/libcuda1:amd64.list", "/.\n");
        self.file("/var/lib/dpkg/info/libnvidia-ml1:amd64.list", "/.\n")
    }

    /// Runs the real ldconfig on it: takes root.
    pub fn ldconfig(&self) -> &RootFs {
        let output = Command::new("/sbin/ldconfig").arg("-r").arg(&self.dir).output();
        let output = output.expect("ldconfig");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "ldconfig -r {}: {said}", self.dir.display());
        self
    }

    /// A kernel with its image in /boot, and the driver's module in `dir` of its
    /// modules (`updates/dkms/nvidia.ko`).
    pub fn kernel(&self, release: &str, module: Option<(&str, &str)>) -> &RootFs {
        self.file(&format!("/boot/vmlinuz-{release}"), "");
        match module {
            Some((name, version)) => {
                let bytes = module_file(version, "NVIDIA", release);
                self.module(release, name, &bytes, Packed::No)
            }
            None => self,
        }
    }

    /// A module's file and its line in modules.dep.
    pub fn module(&self, release: &str, name: &str, bytes: &[u8], packed: Packed) -> &RootFs {
        let (program, end) = match packed {
            Packed::No => (None, ""),
            Packed::Xz => (Some(["xz", "-c"]), ".xz"),
            Packed::Zstd => (Some(["zstd", "-qc"]), ".zst"),
            Packed::Gzip => (Some(["gzip", "-c"]), ".gz"),
        };
        let path = format!("/lib/modules/{release}/{name}{end}");
        self.file(&path, bytes);
        if let Some([program, how]) = program {
            let output = Command::new(program).arg(how).arg(self.at(&path)).output();
            let output = output.unwrap_or_else(|_| panic!("{program} is needed: install it"));
            assert!(output.status.success(), "{program}");
            self.file(&path, output.stdout);
        }
        // depmod keeps the lines of the other modules
        let dep = format!("/lib/modules/{release}/modules.dep");
        let mut lines = fs::read_to_string(self.at(&dep)).unwrap_or_default();
        let line = format!("{name}{end}:\n");
        if !lines.contains(&line) {
            lines += &line;
        }
        self.file(&dep, lines)
    }

    /// What DKMS has of a module: kernels that it is installed for.
    pub fn dkms(&self, module: &str, version: &str, installed: &[&str]) -> &RootFs {
        let top = format!("/var/lib/dkms/{module}");
        self.file(&format!("/usr/src/{module}-{version}/dkms.conf"), "");
        self.link(&format!("{top}/{version}/source"), &format!("/usr/src/{module}-{version}"));
        for release in installed {
            let path = format!("{version}/{release}/x86_64");
            self.file(&format!("{top}/{path}/module/nvidia.ko"), "");
            self.link(&format!("{top}/kernel-{release}-x86_64"), &path);
        }
        self
    }
}

/// Many root file systems with Debian's packages of the driver among a thousand
/// other libraries, and a program that loads NVML as nvidia-smi does. Their
/// files are links to the same ones: a tree costs its names only.
pub fn many(dir: &Path, count: usize) -> Vec<PathBuf> {
    let first = RootFs::new(dir.join("0000"));
    first.debian_packages();
    for n in 0..1000 {
        first.file(&format!("{LIB}/libother{n}.so.{}", n % 7), "");
    }
    let source = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdio.h>\n#include <link.h>\n\
        int main(void) { void *h = dlopen(\"libnvidia-ml.so.1\", RTLD_NOW); struct link_map *m; char v[80];\n\
        int (*version)(char *, unsigned) = h ? (int (*)(char *, unsigned))dlsym(h, \"nvmlSystemGetNVMLVersion\") : 0;\n\
        if (!version || dlinfo(h, RTLD_DI_LINKMAP, &m)) return 1;\n\
        printf(\"%s %d\\n\", m->l_name, version(v, sizeof v)); return 0; }\n";
    first.file("/which-nvml.c", source).file("/bin/.keep", "");
    let status = Command::new("cc")
        .arg(first.at("/which-nvml.c"))
        .arg("-o")
        .arg(first.at("/bin/which-nvml"))
        .status();
    assert!(status.expect("cc is needed: install gcc").success());
    // what it needs beside itself, as the loader of this machine says
    let needed = Command::new("ldd").arg(first.at("/bin/which-nvml")).output().expect("ldd");
    for path in String::from_utf8_lossy(&needed.stdout).split_whitespace() {
        if path.starts_with('/') {
            first.file(path, fs::read(path).expect(path));
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(first.at(path), fs::Permissions::from_mode(0o755)).expect(path);
        }
    }
    // NVML itself wants libraries of glibc that are no programs' any more
    for name in ["libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"] {
        let path = format!("/lib/x86_64-linux-gnu/{name}");
        first.file(&path, fs::read(&path).expect("glibc"));
    }
    first.ldconfig();
    (0..count)
        .map(|n| {
            let root = dir.join(format!("{n:04}"));
            if n > 0 {
                let mut copy = Command::new("cp");
                let status = copy.args(["-al"]).arg(first.path()).arg(&root).status();
                assert!(status.expect("cp").success());
            }
            root
        })
        .collect()
}

/// A shared library with a soname, as small as the compiler makes it.
pub fn library(soname: &str) -> Vec<u8> {
    static MADE: OnceLock<std::sync::Mutex<std::collections::HashMap<String, Vec<u8>>>> =
        OnceLock::new();
    let mut made = MADE.get_or_init(Default::default).lock().expect("lock");
    made.entry(soname.to_string())
        .or_insert_with(|| {
            let dir = crate::Bed::empty();
            let out = dir.path().join("library.so");
            let status = Command::new("cc")
                .args(["-shared", "-nostdlib", "-s", "-x", "c", "/dev/null", "-o"])
                .arg(&out)
                .arg(format!("-Wl,-soname,{soname}"))
                .status();
            assert!(status.expect("cc is needed: install gcc").success(), "{soname}");
            fs::read(out).expect("library")
        })
        .clone()
}

/// A relocatable ELF file with nothing but a `.modinfo`.
pub fn module_file(version: &str, license: &str, release: &str) -> Vec<u8> {
    let info = format!(
        "version={version}\0license={license}\0alias=char-major-195-*\0name=nvidia\0\
         vermagic={release} SMP preempt mod_unload modversions \0"
    );
    let names = b"\0.modinfo\0.shstrtab\0";
    let (start, header) = (64u64, 64usize);
    let names_at = start + info.len() as u64;
    let mut sections_at = names_at + names.len() as u64;
    sections_at = sections_at.next_multiple_of(8);
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([1u16, 62].iter().flat_map(|n| n.to_le_bytes())); // ET_REL, x86-64
    file.extend(1u32.to_le_bytes());
    file.extend([0u64, 0, sections_at].iter().flat_map(|n| n.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    let sizes = [header as u16, 0, 0, 64, 3, 2];
    file.extend(sizes.iter().flat_map(|n| n.to_le_bytes()));
    file.extend(info.as_bytes());
    file.extend(names);
    file.resize(sections_at as usize, 0);
    let section = |name: u32, kind: u32, at: u64, size: u64| {
        let mut bytes = Vec::new();
        bytes.extend([name, kind].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend([0, 0, at, size].iter().flat_map(|n: &u64| n.to_le_bytes()));
        bytes.extend([0u8; 8]);
        bytes.extend([1u64, 0].iter().flat_map(|n| n.to_le_bytes()));
        bytes
    };
    file.extend([0u8; 64]);
    file.extend(section(1, 1, start, info.len() as u64));
    file.extend(section(10, 3, names_at, names.len() as u64));
    file
}
