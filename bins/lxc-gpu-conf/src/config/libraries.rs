//! The driver libraries that are mounted into a container.

use ::cli::{Exit, fail};
use advice::external::modprobe;
use advice::nv_runfile;
use host::Machine;
use nvidia::userspace::{self, Set};
use nvidia::{LibraryArch, LibraryDirError};
use pve::{Conf, Guest, Section, root_file_system};
use record::Hint;

use crate::config::assignment::LibrarySelection;
use crate::config::node_requests::ResolveError;
use crate::host_facts::HostFacts;
use crate::plan::model::{FileMount, Refusal};

/// The files to mount, and notes for the user. Refuses where the version is not
/// known, the container has another C library, or the host has no such files.
pub fn library_mounts(
    facts: &HostFacts<'_>,
    conf: &Conf,
    selection: &LibrarySelection,
    guest: &Guest,
) -> Result<(Vec<FileMount>, Option<String>), ResolveError> {
    let refuse = |reason: String, hint: Hint| {
        ResolveError::Refused(Refusal { property: "libs".into(), reason, hint })
    };
    let Some(version) = facts.module_version() else {
        let reason = "the nvidia module is not loaded, so the driver version is not known";
        return Err(refuse(reason.into(), Hint::command(modprobe("nvidia"))));
    };
    let library_dir = library_target(facts.machine, guest, conf).map_err(|why| {
        let reason = format!("driver libraries cannot be mounted into this container: {why}");
        refuse(reason, Hint::words("use a container with glibc"))
    })?;
    let sets: Vec<Set> = selection.sets.iter().filter_map(|name| Set::named(name)).collect();
    let found = userspace::find(facts.machine, selection.dir.as_deref(), version, &sets)
        .map_err(|why| ResolveError::Failed(fail(Exit::System, why)))?;
    let has = |stem: &str| found.files.iter().any(|file| file.names[0].starts_with(stem));
    if !has("libnvidia-ml.so") && !has("libcuda.so") {
        let dir = selection.dir.as_deref();
        let at = dir.map_or("on the host".into(), |dir| format!("in {dir}"));
        return Err(refuse(
            format!("no driver libraries of {version}, the loaded module's version, {at}"),
            Hint::commands([
                nv_runfile::fetch(version),
                nv_runfile::install_in_container(version, guest.ctid),
            ])
            .because("install the libraries in the container instead"),
        ));
    }
    let mut mounts = Vec::new();
    for file in &found.files {
        let dir = if file.program { "/usr/bin" } else { library_dir };
        let target = |name: &String| FileMount {
            source: file.source.clone(),
            target: format!("{dir}/{name}"),
        };
        mounts.extend(file.names.iter().map(target));
    }
    let absent = found.absent.len();
    let note = format!("{absent} files that other driver versions have do not exist: omitted");
    Ok((mounts, (absent > 0).then_some(note)))
}

/// The directory for libraries in the container. Mounting each file under its own
/// name there avoids Debian's alternatives links and needs no ldconfig. A stopped
/// container on block storage cannot be read: its `ostype` decides then. Errors:
/// NVIDIA's libraries do not work there, and why.
fn library_target(machine: &Machine, guest: &Guest, conf: &Conf) -> Result<&'static str, String> {
    let root = root_file_system(machine, guest.ctid, conf);
    let inside = root.path().and_then(|path| machine.container_root(path).ok());
    if let Some(inside) = inside {
        return nvidia::library_dir(&inside, LibraryArch::HOST).map_err(|why| why.to_string());
    }
    match conf.keys(&Section::Main).get("ostype").copied().unwrap_or("unmanaged") {
        "alpine" => Err(LibraryDirError::Musl.to_string()),
        "debian" | "ubuntu" | "devuan" | "unmanaged" => Ok(LibraryArch::HOST.multiarch_dir()),
        "archlinux" => Ok("/usr/lib"),
        _ => Ok("/usr/lib64"),
    }
}
