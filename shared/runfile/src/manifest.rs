//! A driver's `.manifest`: which file goes where.

/// Bytes at most; real ones have 60 KB.
pub(crate) const MOST_BYTES: usize = 4 << 20;
const MOST_ENTRIES: usize = 100_000;
/// Lines before the entries.
const HEAD_LINES: usize = 8;

/// Types whose entry names an architecture, NATIVE or COMPAT32.
const WITH_ARCH: &[&str] = &[
    "OPENGL_LIB",
    "WINE_LIB",
    "CUDA_LIB",
    "OPENCL_LIB",
    "OPENCL_WRAPPER_LIB",
    "OPENCL_LIB_SYMLINK",
    "OPENCL_WRAPPER_SYMLINK",
    "TLS_LIB",
    "UTILITY_LIB",
    "GBM_BACKEND_LIB",
    "OPENGL_SYMLINK",
    "CUDA_SYMLINK",
    "UTILITY_LIB_SYMLINK",
    "GBM_BACKEND_LIB_SYMLINK",
    "VDPAU_LIB",
    "VDPAU_SYMLINK",
    "NVCUVID_LIB",
    "NVCUVID_LIB_SYMLINK",
    "ENCODEAPI_LIB",
    "ENCODEAPI_LIB_SYMLINK",
    "GLVND_LIB",
    "GLVND_SYMLINK",
    "GLX_CLIENT_LIB",
    "GLX_CLIENT_SYMLINK",
    "EGL_CLIENT_LIB",
    "EGL_CLIENT_SYMLINK",
    "INTERNAL_UTILITY_BINARY",
    "INTERNAL_UTILITY_LIB",
    "NVIFR_LIB",
    "NVIFR_LIB_SYMLINK",
];

/// Types whose entry names a directory below the type's own.
const WITH_PATH: &[&str] = &[
    "CUDA_LIB",
    "OPENCL_LIB",
    "OPENCL_WRAPPER_LIB",
    "OPENCL_LIB_SYMLINK",
    "OPENCL_WRAPPER_SYMLINK",
    "TLS_LIB",
    "DOCUMENTATION",
    "APPLICATION_PROFILE",
    "MANPAGE",
    "EXPLICIT_PATH",
    "CUDA_SYMLINK",
    "DOT_DESKTOP",
    "ICON",
    "XMODULE_SHARED_LIB",
    "GLX_MODULE_SHARED_LIB",
    "GLX_MODULE_SYMLINK",
    "VDPAU_LIB",
    "VDPAU_SYMLINK",
    "GRID_LIB",
    "GRID_LIB_SYMLINK",
    "NVIDIA_MODPROBE",
    "NVIDIA_MODPROBE_MANPAGE",
    "VULKAN_ICD_JSON",
    "FLEXERA_LIB",
    "FLEXERA_LIB_SYMLINK",
    "SYSTEMD_UNIT_SYMLINK",
    "OPENGL_DATA",
    "VULKANSC_ICD_JSON",
    "SANDBOXUTILS_FILELIST_JSON",
];

/// Types whose directory is that of the file in the archive.
const INHERITING: &[&str] = &["KERNEL_MODULE_SRC", "DKMS_CONF", "FIRMWARE"];

/// The manifest of one driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// One line about the driver.
    pub description: String,
    /// Its version.
    pub version: String,
    /// Its kernel modules.
    pub modules: Vec<String>,
    /// What goes where.
    pub entries: Vec<ManifestEntry>,
    /// Lines that are no entries, by number from 1.
    pub unread: Vec<usize>,
}

/// One line of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestEntry {
    /// Path in the archive, without a leading `./`.
    pub file: String,
    /// Permissions; 0 for links, which the archive does not hold.
    pub mode: u32,
    /// NVIDIA's word for what it is: `CUDA_LIB`, `FIRMWARE`, ...
    pub kind: String,
    /// `NATIVE` or `COMPAT32`.
    pub arch: Option<String>,
    /// Directory below the one that the type goes to; for inherited paths below
    /// the type's own as well.
    pub path: Option<String>,
    /// Of a link: where it points.
    pub target: Option<String>,
    /// The tag behind `MODULE:`, NVIDIA's word for the part of the driver.
    pub module: Option<String>,
}

impl ManifestEntry {
    /// Whether it is a link that has to be made.
    pub fn is_link(&self) -> bool {
        is_link(&self.kind)
    }
}

fn is_link(kind: &str) -> bool {
    kind.ends_with("_SYMLINK") || kind == "XMODULE_NEWSYM"
}

impl Manifest {
    /// Reads a manifest. `None` where this is none: too few lines, no version.
    pub fn parse(bytes: &[u8]) -> Option<Manifest> {
        let bytes = &bytes[..bytes.len().min(MOST_BYTES)];
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
        let head: Vec<&str> = lines.by_ref().take(HEAD_LINES).collect();
        let [description, version, _, modules, ..] = head.as_slice() else { return None };
        if head.len() < HEAD_LINES || !crate::is_version(version.trim()) {
            return None;
        }
        let mut manifest = Manifest {
            description: description.trim().into(),
            version: version.trim().into(),
            modules: modules.split_ascii_whitespace().map(str::to_string).collect(),
            ..Manifest::default()
        };
        // the first empty line ends the list
        for (at, line) in lines.enumerate().take_while(|(_, line)| !line.trim().is_empty()) {
            if manifest.entries.len() >= MOST_ENTRIES {
                return None;
            }
            // directories stand there too, alone
            if line.trim_end().ends_with('/') && !line.trim().contains(' ') {
                continue;
            }
            match entry(line) {
                Some(entry) => manifest.entries.push(entry),
                None if manifest.unread.len() < 100 => manifest.unread.push(at + 1 + HEAD_LINES),
                None => {}
            }
        }
        Some(manifest)
    }

    /// Kernel module types that it holds sources of: `proprietary`, `open`.
    pub fn module_types(&self) -> Vec<&'static str> {
        let has = |dir: &str| {
            self.entries.iter().any(|e| e.kind == "KERNEL_MODULE_SRC" && e.file.starts_with(dir))
        };
        let types = [("proprietary", has("kernel/")), ("open", has("kernel-open/"))];
        types.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }
}

fn entry(line: &str) -> Option<ManifestEntry> {
    let mut words = line.split_ascii_whitespace();
    let file = words.next()?;
    let mode = words.next()?;
    if mode.len() > 6 || !mode.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    let kind = words.next()?;
    if !kind.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') {
        return None;
    }
    let mut rest: Vec<&str> = words.collect();
    let mut entry = ManifestEntry {
        file: file.strip_prefix("./").unwrap_or(file).into(),
        mode: u32::from_str_radix(mode, 8).ok()?,
        kind: kind.into(),
        ..ManifestEntry::default()
    };
    if let Some(at) = rest.iter().position(|word| word.starts_with("MODULE:")) {
        entry.module = rest[at].strip_prefix("MODULE:").map(str::to_string);
        rest.remove(at);
    }
    let mut rest = rest.into_iter().peekable();
    if WITH_ARCH.contains(&kind) {
        // a type of a later version may have lost or won its architecture
        entry.arch = rest.next_if(|w| matches!(*w, "NATIVE" | "COMPAT32")).map(str::to_string);
    }
    // only in old drivers
    while rest.next_if(|w| matches!(*w, "CLASSIC" | "NEW" | "GLVND" | "NON_GLVND")).is_some() {}
    if INHERITING.contains(&kind) {
        let depth = rest.next_if(|w| w.starts_with("INHERIT_PATH_DEPTH:"));
        let depth = depth.and_then(|w| w.strip_prefix("INHERIT_PATH_DEPTH:")?.parse().ok());
        entry.path = Some(inherited(&entry.file, depth.unwrap_or(0)));
    } else if WITH_PATH.contains(&kind) {
        let path = rest.next();
        entry.path = path.filter(|path| *path != "/").map(str::to_string);
    }
    if is_link(kind) {
        entry.target = Some(rest.next()?.to_string());
    }
    Some(entry)
}

/// The directory of `file` without its first `depth` components.
fn inherited(file: &str, depth: usize) -> String {
    let parts: Vec<&str> = file.split('/').collect();
    let dirs = &parts[..parts.len().saturating_sub(1)];
    dirs.iter().skip(depth).map(|dir| format!("{dir}/")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL_390: &str = "NVIDIA Accelerated Graphics Driver for Linux-x86_64\n390.48\n \n\
        nvidia nvidia-uvm nvidia-modeset nvidia-drm \n \n \nx\ny\n./kernel/\n./kernel/precompiled/\n\
        kernel/nvidia/nv-kernel.o_binary 0644 KERNEL_MODULE_SRC INHERIT_PATH_DEPTH:1 MODULE:resman\n\
        libnvidia-ml.so.390.48 0755 CUDA_LIB NATIVE / MODULE:nvml\n\
        libnvidia-ml.so.1 0000 CUDA_SYMLINK NATIVE / libnvidia-ml.so.390.48 MODULE:nvml\n\
        libvdpau_nvidia.so.390.48 0755 VDPAU_LIB NATIVE vdpau/ MODULE:vdpau\n\
        nvidia-modprobe 04755 NVIDIA_MODPROBE /usr/bin/ MODULE:installer\n\
        nvidia-uninstall 0000 UTILITY_BIN_SYMLINK nvidia-installer MODULE:installer\n\
        kernel/dkms.conf 0644 DKMS_CONF INHERIT_PATH_DEPTH:1 MODULE:resman\n\
        libnvidia-tls.so.390.48 0755 TLS_LIB NATIVE CLASSIC / MODULE:opengl\n\
        libGL.so.390.48 0755 GLX_CLIENT_LIB NATIVE NON_GLVND MODULE:opengl\n\
        32/libcuda.so.390.48 0755 CUDA_LIB COMPAT32 / MODULE:gpgpu\n\
        what is this\n\nlibnever.so 0755 CUDA_LIB NATIVE / MODULE:x\n";

    #[test]
    fn a_manifest_of_390_is_understood() {
        let manifest = Manifest::parse(REAL_390.as_bytes()).unwrap();
        assert_eq!(manifest.version, "390.48");
        assert_eq!(manifest.modules, ["nvidia", "nvidia-uvm", "nvidia-modeset", "nvidia-drm"]);
        assert_eq!(manifest.entries.len(), 10);
        assert_eq!(manifest.unread, [21]);
        let of = |file: &str| manifest.entries.iter().find(|e| e.file == file).unwrap();
        assert_eq!(of("kernel/nvidia/nv-kernel.o_binary").path.as_deref(), Some("nvidia/"));
        assert_eq!(of("kernel/dkms.conf").path.as_deref(), Some(""));
        assert_eq!(of("libnvidia-ml.so.390.48").path, None);
        let link = of("libnvidia-ml.so.1");
        assert!(link.is_link());
        assert_eq!(link.target.as_deref(), Some("libnvidia-ml.so.390.48"));
        assert_eq!(of("libvdpau_nvidia.so.390.48").path.as_deref(), Some("vdpau/"));
        assert_eq!(of("nvidia-modprobe").mode, 0o4755);
        assert_eq!(of("nvidia-uninstall").target.as_deref(), Some("nvidia-installer"));
        assert_eq!(of("libnvidia-tls.so.390.48").path, None);
        assert_eq!(of("32/libcuda.so.390.48").arch.as_deref(), Some("COMPAT32"));
        assert_eq!(of("libGL.so.390.48").module.as_deref(), Some("opengl"));
        assert_eq!(manifest.module_types(), ["proprietary"]);
    }

    #[test]
    fn what_is_no_manifest_is_none() {
        for text in ["", "a\nb\n", "d\nno version\n \nm\n \n \n \n \n"] {
            assert_eq!(Manifest::parse(text.as_bytes()), None, "{text}");
        }
    }
}
