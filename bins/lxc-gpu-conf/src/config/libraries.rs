//! The driver libraries that are mounted into a container.

use ::cli::{Exit, fail};
use advice::external::modprobe;
use advice::nv_runfile;
use nvidia::userspace::{self, Set};
use pve::{Conf, Guest, Section};
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
    let os = conf.keys(&Section::Main).get("ostype").map_or("unmanaged", |os| *os).to_string();
    let Some(library_dir) = library_dir(&os) else {
        return Err(refuse(
            format!("ostype {os} has a C library with which NVIDIA's libraries do not work"),
            Hint::words("use a container with glibc"),
        ));
    };
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

/// A directory that the dynamic loader of a distribution searches by default, so
/// that ld.so.cache need not be updated in the container. Mounting each file
/// under its own name avoids Debian's alternatives links.
fn library_dir(ostype: &str) -> Option<&'static str> {
    let multiarch = if cfg!(target_arch = "aarch64") {
        "/usr/lib/aarch64-linux-gnu"
    } else {
        "/usr/lib/x86_64-linux-gnu"
    };
    match ostype {
        "alpine" => None,
        "debian" | "ubuntu" | "devuan" | "unmanaged" => Some(multiarch),
        "archlinux" => Some("/usr/lib"),
        _ => Some("/usr/lib64"),
    }
}
