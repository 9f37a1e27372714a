//! From a wish to the nodes and files that it is on this host today.

use std::collections::BTreeMap;

use ::cli::{Exit, Failure, fail};
use host::Machine;
use nvidia::userspace::{self, Set};
use nvidia::{Capability, MigInstance, NodeClass, NodeSpec, cap_path};
use pve::{Conf, Guest, RootFs, Section, root_file_system};
use record::Address;

use crate::facts::Facts;
use crate::plan::{FileMount, HostNode, NodeOptions, Refusal, Style, Target, check_numbers};
use crate::wish::{GpuWish, MigWish, UserspaceWish, Wish};

/// What a wish is today: nodes and files, and the name under which each thing
/// of a card goes.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// For the plan.
    pub target: Target,
    /// `GPU-…/gpu`, `GPU-…/gi1`, `GPU-…/drm-render` and the path of each.
    pub names: BTreeMap<String, String>,
    /// For people.
    pub notes: Vec<String>,
}

/// Why a wish cannot be had.
#[derive(Debug)]
pub enum Cannot {
    /// Something is not as it must be.
    Refused(Refusal),
    /// A mistake in what was asked, or nothing to read.
    Failed(Failure),
}

impl From<Failure> for Cannot {
    fn from(failure: Failure) -> Cannot {
        Cannot::Failed(failure)
    }
}

impl MigWish {
    fn items(&self, there: &MigInstance) -> [Item; 2] {
        let gi = format!("{}/gi{}", self.gpu.key(), self.gi);
        [(gi, there.gi_cap), (self.name(), there.ci_cap)].map(|(name, number)| Item {
            name: Some(name),
            spec: cap(number),
            gid: None,
        })
    }
}

impl Wish {
    /// What it is on this host now, for a container. Errors: a node that is
    /// missing or not what the driver made keeps a container with dev[n] from
    /// starting, so it is refused, with the command that makes it right.
    pub fn resolve(
        &self,
        facts: &Facts<'_>,
        guest: &Guest,
        conf: &Conf,
        style: Style,
    ) -> Result<Resolved, Cannot> {
        let mut resolved = Resolved::default();
        let mut wanted: Vec<Item> = Vec::new();
        for gpu in &self.gpus {
            let here = facts.same_gpu(gpu.uuid.as_deref(), gpu.address);
            let Some(here) = here else {
                return Err(Cannot::Refused(lost(facts, gpu, guest.ctid)));
            };
            let usable = facts.usable(here.address)?;
            for spec in nvidia::gpu_nodes(usable.minor) {
                let own = matches!(spec.class, NodeClass::Gpu(_));
                wanted.push(Item {
                    name: own.then(|| format!("{}/gpu", gpu.key())),
                    spec,
                    gid: None,
                });
            }
            if self.graphics {
                self.drm(facts, here.address, gpu, &mut wanted);
            }
            let instances = facts.mig().of_gpu(usable.minor).count();
            if instances > 0 && !self.mig.iter().any(|mig| mig.gpu.same(gpu)) {
                resolved.notes.push(format!(
                    "{} is divided by MIG ({instances} instances): without --mig the container can \
                     use none of them",
                    here.address
                ));
            }
        }
        self.mig_nodes(facts, guest, &mut wanted)?;
        self.fabric_nodes(facts, &mut wanted)?;
        // the GPUs' own nodes first, then those that all share, each once
        wanted.sort_by_key(|item| item.spec.class.is_shared());
        let groups = match self.graphics {
            true => Groups::of(facts.machine, guest, conf),
            false => Groups::default(),
        };
        if let Some(why) = groups.unknown.as_ref().filter(|_| self.gid.is_none()) {
            resolved.notes.push(format!(
                "the container's groups are not known ({why}): DRM nodes are given with mode 0666"
            ));
        }
        for item in wanted {
            if resolved.target.nodes.iter().any(|node| node.spec.path == item.spec.path) {
                continue;
            }
            let taken = [item.name.as_ref(), Some(&item.spec.path)];
            if taken.into_iter().flatten().any(|name| self.without.contains(name)) {
                continue;
            }
            if let Some(name) = &item.name {
                resolved.names.insert(name.clone(), item.spec.path.clone());
            }
            if let Some(node) = self.host_node(facts, &item, &groups, style)? {
                resolved.target.nodes.push(node);
            }
        }
        if let Some(wish) = &self.userspace {
            let (files, notes) = files(facts, conf, wish, guest)?;
            resolved.target.files = Some(files);
            resolved.notes.extend(notes);
        }
        Ok(resolved)
    }

    /// Path of each thing of a card now, under the names that [`Resolved`] has.
    /// What is not there has none.
    pub fn names(&self, facts: &Facts<'_>) -> BTreeMap<String, String> {
        let mut items = Vec::new();
        let mut names = BTreeMap::new();
        for gpu in &self.gpus {
            let Some(here) = facts.same_gpu(gpu.uuid.as_deref(), gpu.address) else { continue };
            let path = here.minor.map(|minor| (format!("{}/gpu", gpu.key()), minor));
            names.extend(path.map(|(name, minor)| (name, format!("/dev/nvidia{minor}"))));
            if self.graphics {
                self.drm(facts, here.address, gpu, &mut items);
            }
        }
        for mig in &self.mig {
            let gpu = facts.same_gpu(mig.gpu.uuid.as_deref(), mig.gpu.address);
            let minor = gpu.and_then(|gpu| gpu.minor);
            let there = minor.and_then(|minor| facts.mig().instance(minor, mig.gi, mig.ci));
            items.extend(there.into_iter().flat_map(|there| mig.items(there)));
        }
        names.extend(items.into_iter().filter_map(|item| Some((item.name?, item.spec.path))));
        names
    }

    fn drm(&self, facts: &Facts<'_>, address: Address, gpu: &GpuWish, wanted: &mut Vec<Item>) {
        for name in facts.drm(address) {
            let render = name.starts_with("renderD");
            // controlD nodes went away with Linux 4.10
            if !render && !name.starts_with("card") {
                continue;
            }
            let spec = NodeSpec {
                path: format!("/dev/dri/{name}"),
                class: NodeClass::Other,
                required: true,
            };
            let kind = if render { "render" } else { "card" };
            let name = Some(format!("{}/drm-{kind}", gpu.key()));
            wanted.push(Item { name, spec, gid: Some(if render { "render" } else { "video" }) });
        }
    }

    fn mig_nodes(
        &self,
        facts: &Facts<'_>,
        guest: &Guest,
        wanted: &mut Vec<Item>,
    ) -> Result<(), Cannot> {
        for mig in &self.mig {
            let gpu = facts.same_gpu(mig.gpu.uuid.as_deref(), mig.gpu.address);
            let minor = gpu.and_then(|gpu| gpu.minor);
            let instance = minor.and_then(|m| facts.mig().instance(m, mig.gi, mig.ci)).copied();
            let Some(there) = instance else {
                let there: Vec<String> = minor
                    .into_iter()
                    .flat_map(|minor| facts.mig().of_gpu(minor))
                    .map(|instance| format!("{}/{}", instance.gi, instance.ci))
                    .collect();
                let there = if there.is_empty() { "none".into() } else { there.join(", ") };
                return Err(Cannot::Refused(Refusal {
                    property: format!("mig {}/{}", mig.gi, mig.ci),
                    reason: format!(
                        "{} has no MIG instance {}/{} (GPU instance/compute instance); it has: {there}",
                        mig.gpu.address, mig.gi, mig.ci
                    ),
                    hint: format!(
                        "make it with 'nvidia-smi mig', or 'lxc-gpu-conf remove {}'",
                        guest.ctid
                    ),
                }));
            };
            wanted.extend(mig.items(&there));
        }
        if self.mig_monitor {
            let Some(monitor) = facts.mig().minor(Capability::Monitor) else {
                return Err(Cannot::Refused(Refusal {
                    property: "mig-monitor".into(),
                    reason: "the host's driver knows no MIG".into(),
                    hint: "leave out --mig-monitor".into(),
                }));
            };
            wanted.push(Item { name: None, spec: cap(monitor), gid: None });
        }
        Ok(())
    }

    fn fabric_nodes(&self, facts: &Facts<'_>, wanted: &mut Vec<Item>) -> Result<(), Cannot> {
        for channel in &self.imex {
            let spec = NodeSpec {
                path: format!("/dev/nvidia-caps-imex-channels/channel{channel}"),
                class: NodeClass::ImexChannel(*channel),
                required: true,
            };
            wanted.push(Item { name: None, spec, gid: None });
        }
        if !self.fabric {
            return Ok(());
        }
        let names = facts.machine.nodes_in("/dev").map_err(Failure::from)?;
        let before = wanted.len();
        for name in names {
            let path = format!("/dev/{name}");
            let class = nvidia::classify(&path);
            if let Some(class) = class.filter(|class| class.is_fabric()) {
                wanted.push(Item {
                    name: None,
                    spec: NodeSpec { path, class, required: true },
                    gid: None,
                });
            }
        }
        if wanted.len() == before {
            return Err(Cannot::Refused(Refusal {
                property: "fabric".into(),
                reason: "this host has no node of NVSwitch or NVLink".into(),
                hint: "leave out --fabric: only machines with NVSwitch have them".into(),
            }));
        }
        Ok(())
    }

    /// The node as the host has it; `None` where it may be left out.
    fn host_node(
        &self,
        facts: &Facts<'_>,
        item: &Item,
        groups: &Groups,
        style: Style,
    ) -> Result<Option<HostNode>, Cannot> {
        let spec = &item.spec;
        let make = "lxc-gpu-conf nodes".to_string();
        let refuse = |reason: String| {
            let hint = format!("'{make}' makes it right");
            Cannot::Refused(Refusal { property: spec.path.clone(), reason, hint })
        };
        let Some(node) = facts.node(&spec.path) else {
            // for displays it is no extra
            let modeset = self.graphics && spec.class == NodeClass::Modeset;
            if !spec.required && !modeset {
                return Ok(None);
            }
            let tail = match style {
                Style::Dev => ": dev[n] for it would keep the container from starting",
                Style::Mount => ": the container would find an empty file in its place",
            };
            return Err(refuse(format!("does not exist on the host{tail}")));
        };
        if !node.is_char() {
            return Err(refuse("is no character device on the host".into()));
        }
        check_numbers(spec.class, node.major, node.minor, facts.major(spec.class))
            .map_err(refuse)?;
        let gid = item.gid.and_then(|name| groups.gid(name));
        let cap = matches!(spec.class, NodeClass::Cap(_));
        let open = item.gid.is_none() || (gid.is_none() && self.gid.is_none());
        let default = if cap {
            "0444"
        } else if open {
            // nodes are open to everybody on the host; a dev[n] node is for root
            // alone unless told otherwise, and then only root could use the GPU
            "0666"
        } else {
            "0660"
        };
        // the right to use an instance is to read its capability: a mode asked
        // for the GPU says nothing of it
        let mode = self.mode.clone().filter(|_| !cap).unwrap_or_else(|| default.into());
        let options = NodeOptions {
            uid: self.uid,
            gid: self.gid.or(gid),
            mode,
            asked: self.uid.is_some() || self.gid.is_some() || (self.mode.is_some() && !cap),
        };
        let spec = spec.clone();
        Ok(Some(HostNode { spec, major: node.major, minor: node.minor, options }))
    }
}

/// A node that is wanted.
struct Item {
    /// Whose, where it belongs to one card.
    name: Option<String>,
    spec: NodeSpec,
    /// Group of the container that it belongs to.
    gid: Option<&'static str>,
}

fn cap(minor: u32) -> NodeSpec {
    NodeSpec { path: cap_path(minor), class: NodeClass::Cap(minor), required: true }
}

fn lost(facts: &Facts<'_>, gpu: &GpuWish, ctid: u32) -> Refusal {
    let name = gpu.uuid.clone().unwrap_or_else(|| gpu.address.to_string());
    let driver = facts
        .system()
        .ok()
        .and_then(|system| system.functions.get(&gpu.address))
        .and_then(|function| function.driver.clone());
    let (reason, hint) = match driver {
        Some(driver) if driver != "nvidia" => (
            format!("{} is bound to {driver}, not to nvidia", gpu.address),
            format!("gpu-vfio-bind release {}", gpu.address.slot()),
        ),
        _ => (
            format!("{name} (last seen at {}) is no GPU of the host's nvidia driver", gpu.address),
            format!("put it back, or 'lxc-gpu-conf remove {ctid}'"),
        ),
    };
    Refusal { property: "gpu".into(), reason, hint }
}

/// Ids of groups inside a container.
#[derive(Debug, Default)]
struct Groups {
    ids: BTreeMap<String, u32>,
    unknown: Option<String>,
}

impl Groups {
    /// From the container's own /etc/group.
    fn of(machine: &Machine, guest: &Guest, conf: &Conf) -> Groups {
        let unknown = |why: String| Groups { ids: BTreeMap::new(), unknown: Some(why) };
        let path = match root_file_system(machine, guest.ctid, conf) {
            RootFs::Unknown(why) => return unknown(why),
            RootFs::Running(path) | RootFs::Stopped(path) => path,
        };
        let text =
            machine.container_root(&path).and_then(|root| root.read_text("/etc/group", 1 << 20));
        match text {
            Ok(text) => Groups { ids: groups(&text), unknown: None },
            Err(error) => unknown(error.to_string()),
        }
    }

    fn gid(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }
}

/// `video:x:44:user`.
fn groups(text: &str) -> BTreeMap<String, u32> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((name.to_string(), fields.nth(1)?.parse().ok()?))
        })
        .collect()
}

/// The files that a container gets of the driver's userspace.
fn files(
    facts: &Facts<'_>,
    conf: &Conf,
    wish: &UserspaceWish,
    guest: &Guest,
) -> Result<(Vec<FileMount>, Vec<String>), Cannot> {
    let refuse = |reason: String, hint: String| {
        Cannot::Refused(Refusal { property: "libs".into(), reason, hint })
    };
    let Some(version) = facts.module_version() else {
        return Err(refuse(
            "the nvidia module is not loaded: which version the container needs is not known"
                .into(),
            "load it ('modprobe nvidia')".into(),
        ));
    };
    let os = conf.keys(&Section::Main).get("ostype").map_or("unmanaged", |os| *os).to_string();
    let Some(library_dir) = library_dir(&os) else {
        return Err(refuse(
            format!("ostype {os} has another C library: NVIDIA's userspace does not run there"),
            "use a container with glibc".into(),
        ));
    };
    let sets: Vec<Set> = wish.sets.iter().filter_map(|name| Set::named(name)).collect();
    let found = userspace::find(facts.machine, wish.dir.as_deref(), version, &sets)
        .map_err(|why| Cannot::Failed(fail(Exit::System, why)))?;
    let has = |stem: &str| found.files.iter().any(|file| file.names[0].starts_with(stem));
    if !has("libnvidia-ml.so") && !has("libcuda.so") {
        let place = wish.dir.as_deref().map_or("on the host".into(), |dir| format!("below {dir}"));
        return Err(refuse(
            format!("there is no userspace of {version}, the loaded module's version, {place}"),
            format!(
                "'nv-runfile fetch {version} | nv-runfile install --ct {}' installs it in the container \
                 instead",
                guest.ctid
            ),
        ));
    }
    let mut files: Vec<FileMount> = Vec::new();
    for file in &found.files {
        let dir = if file.program { "/usr/bin" } else { library_dir };
        for name in &file.names {
            files.push(FileMount { source: file.source.clone(), target: format!("{dir}/{name}") });
        }
    }
    let absent = found.absent.len();
    let notes = match absent {
        0 => Vec::new(),
        _ => vec![format!("{absent} files that other versions have are not there: left out")],
    };
    Ok((files, notes))
}

/// Where the loader of a distribution looks without being told, so that no
/// cache has to be made anew in the container. Mounting each file under its own
/// name spares it Debian's alternatives links.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read() {
        let ids = groups("root:x:0:\nvideo:x:44:plex\nrender:x:993:\nbad\n:x:y\n");
        assert_eq!((ids["video"], ids["render"]), (44, 993));
    }
}
