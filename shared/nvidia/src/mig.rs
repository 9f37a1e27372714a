//! MIG: which instances exist, and which capability nodes open them.

use std::collections::BTreeMap;

use host::Machine;

const MINORS: &str = "/proc/driver/nvidia-caps/mig-minors";
const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
/// Bytes of mig-minors; the driver's file has 4,323 lines.
const MOST: usize = 1 << 20;

/// One compute instance in its GPU instance: what a program sees as a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MigInstance {
    /// Minor of the GPU.
    pub gpu: u32,
    /// GPU instance id.
    pub gi: u32,
    /// Compute instance id.
    pub ci: u32,
    /// Minor of the GPU instance's capability.
    pub gi_cap: u32,
    /// Minor of the compute instance's capability.
    pub ci_cap: u32,
}

/// What a capability allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `mig/config`: creating and destroying instances of every GPU.
    Config,
    /// `mig/monitor`: reading all of them.
    Monitor,
    /// A GPU instance.
    Gi(u32, u32),
    /// A compute instance.
    Ci(u32, u32, u32),
}

/// The MIG instances and capabilities of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mig {
    /// What each capability minor allows, of all instances that the driver lists as
    /// possible.
    pub capabilities: BTreeMap<u32, Capability>,
    /// The instances that exist.
    pub instances: Vec<MigInstance>,
}

impl Mig {
    /// Reads it; empty where the driver has no MIG or is not loaded. The table of
    /// minors lists every possible instance, so what exists is taken from the
    /// capability files (nv-caps.c).
    pub fn read(machine: &Machine) -> Mig {
        let Ok(text) = machine.read_text(MINORS, MOST) else { return Mig::default() };
        let capabilities = parse_minors(&text);
        let mut mig = Mig { capabilities, instances: Vec::new() };
        let numbered = |dir: &str, prefix: &str| -> Vec<u32> {
            let names = machine.list(dir).unwrap_or_default();
            let mut ids: Vec<u32> =
                names.iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect();
            ids.sort_unstable();
            ids
        };
        for gpu in numbered(CAPABILITIES, "gpu") {
            let gpu_dir = format!("{CAPABILITIES}/gpu{gpu}/mig");
            for gi in numbered(&gpu_dir, "gi") {
                for ci in numbered(&format!("{gpu_dir}/gi{gi}"), "ci") {
                    let caps = (
                        mig.minor(Capability::Gi(gpu, gi)),
                        mig.minor(Capability::Ci(gpu, gi, ci)),
                    );
                    if let (Some(gi_cap), Some(ci_cap)) = caps {
                        mig.instances.push(MigInstance { gpu, gi, ci, gi_cap, ci_cap });
                    }
                }
            }
        }
        mig
    }

    /// Minor of a capability.
    pub fn minor(&self, capability: Capability) -> Option<u32> {
        self.capabilities.iter().find(|(_, c)| **c == capability).map(|(minor, _)| *minor)
    }

    /// The instances of a GPU.
    pub fn of_gpu(&self, minor: u32) -> impl Iterator<Item = &MigInstance> {
        self.instances.iter().filter(move |instance| instance.gpu == minor)
    }

    /// One instance.
    pub fn instance(&self, gpu: u32, gi: u32, ci: u32) -> Option<&MigInstance> {
        self.of_gpu(gpu).find(|instance| (instance.gi, instance.ci) == (gi, ci))
    }

    /// Path of a capability's file, which nvidia-modprobe takes.
    pub fn file(&self, minor: u32) -> Option<String> {
        Some(match self.capabilities.get(&minor)? {
            Capability::Config => format!("{CAPABILITIES}/mig/config"),
            Capability::Monitor => format!("{CAPABILITIES}/mig/monitor"),
            Capability::Gi(gpu, gi) => format!("{CAPABILITIES}/gpu{gpu}/mig/gi{gi}/access"),
            Capability::Ci(gpu, gi, ci) => {
                format!("{CAPABILITIES}/gpu{gpu}/mig/gi{gi}/ci{ci}/access")
            }
        })
    }
}

/// A profile of GPU instances, as `nvidia-smi mig -lgip` lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuInstanceProfile {
    /// The number that `-cgi` takes; it differs by GPU.
    pub id: u32,
    /// `3g.20gb`.
    pub name: String,
    /// How many more can be created now.
    pub free: u32,
    /// How many an empty GPU takes.
    pub total: u32,
    /// Memory of one, in GiB.
    pub memory: f64,
}

impl GpuInstanceProfile {
    /// Slices of the GPU that one takes; the name begins with them.
    pub fn slices(&self) -> u32 {
        self.name.split('g').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}

/// Parses `nvidia-smi mig -lgip`: a row `|   0  MIG 1g.10gb       19     0/7        9.50 ...`
/// for each profile; all other lines are passed over.
pub fn parse_gpu_instance_profiles(text: &str) -> Vec<GpuInstanceProfile> {
    let row = |line: &str| {
        let words: Vec<&str> = line.trim().trim_matches('|').split_whitespace().collect();
        let [_, "MIG", name, id, count, memory, ..] = words[..] else { return None };
        let (free, total) = count.split_once('/')?;
        Some(GpuInstanceProfile {
            id: id.parse().ok()?,
            name: name.to_string(),
            free: free.parse().ok()?,
            total: total.parse().ok()?,
            memory: memory.parse().ok()?,
        })
    };
    text.lines().filter_map(row).collect()
}

/// A GPU instance, as `nvidia-smi mig -lgi` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInstance {
    /// Its id on its GPU.
    pub id: u32,
    /// `3g.20gb`.
    pub name: String,
}

/// Parses `nvidia-smi mig -lgi`: a row `|   0  MIG 3g.20gb       9        1          4:4     |`
/// for each instance, with the ids of the profile and of the instance.
pub fn parse_gpu_instances(text: &str) -> Vec<GpuInstance> {
    let row = |line: &str| {
        let words: Vec<&str> = line.trim().trim_matches('|').split_whitespace().collect();
        let [_, "MIG", name, profile, id, placement] = words[..] else { return None };
        profile.parse::<u32>().ok().filter(|_| placement.contains(':'))?;
        Some(GpuInstance { id: id.parse().ok()?, name: name.to_string() })
    };
    text.lines().filter_map(row).collect()
}

/// `config 1`, `monitor 2`, `gpu0/gi0/access 3`, `gpu0/gi0/ci0/access 4`, where
/// `gpuN` is the GPU's minor.
fn parse_minors(text: &str) -> BTreeMap<u32, Capability> {
    text.lines()
        .filter_map(|line| {
            let (name, minor) = line.trim().split_once(' ')?;
            let parts: Vec<&str> = name.split('/').collect();
            let id = |part: &str, prefix: &str| part.strip_prefix(prefix)?.parse::<u32>().ok();
            let capability = match parts.as_slice() {
                ["config"] => Capability::Config,
                ["monitor"] => Capability::Monitor,
                [gpu, gi, "access"] => Capability::Gi(id(gpu, "gpu")?, id(gi, "gi")?),
                [gpu, gi, ci, "access"] => {
                    Capability::Ci(id(gpu, "gpu")?, id(gi, "gi")?, id(ci, "ci")?)
                }
                _ => return None,
            };
            Some((minor.trim().parse().ok()?, capability))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors_are_read_and_not_computed() {
        let minors = parse_minors(
            "config 1\nmonitor 2\ngpu0/gi0/access 3\ngpu0/gi0/ci7/access 11\ngpu1/gi2/access 9000\nx\n",
        );
        assert_eq!(minors[&1], Capability::Config);
        assert_eq!(minors[&11], Capability::Ci(0, 0, 7));
        assert_eq!(minors[&9000], Capability::Gi(1, 2));
        assert_eq!(minors.len(), 5);
    }

    /// NVIDIA/mig-parted#139 (a GH200) and NVIDIA/DCGM#138, shortened.
    #[test]
    fn the_lists_of_nvidia_smi_are_read() {
        let profiles = parse_gpu_instance_profiles(
            "+-----------------------------------------------------------------------------+\n\
             | GPU instance profiles:                                                      |\n\
             | GPU   Name             ID    Instances   Memory     P2P    SM    DEC   ENC  |\n\
             |                              Free/Total   GiB              CE    JPEG  OFA  |\n\
             |=============================================================================|\n\
             |   0  MIG 1g.18gb       19     7/7        17.50      No     16     1     0   |\n\
             |                                                             1     1     0   |\n\
             +-----------------------------------------------------------------------------+\n\
             |   0  MIG 1g.18gb+me    20     1/1        17.50      No     16     1     0   |\n",
        );
        assert_eq!(profiles.len(), 2);
        let first = &profiles[0];
        assert_eq!((first.id, first.name.as_str(), first.free, first.total), (19, "1g.18gb", 7, 7));
        assert_eq!((first.slices(), first.memory, profiles[1].slices()), (1, 17.5, 1));
        let instances = parse_gpu_instances(
            "+-------------------------------------------------------+\n\
             | GPU instances:                                        |\n\
             | GPU   Name             Profile  Instance   Placement  |\n\
             |                          ID       ID       Start:Size |\n\
             |=======================================================|\n\
             |   0  MIG 1g.10gb         19        9          2:1     |\n\
             +-------------------------------------------------------+\n\
             |   0  MIG 3g.40gb          9        2          4:4     |\n",
        );
        let one = |id, name: &str| GpuInstance { id, name: name.into() };
        assert_eq!(instances, [one(9, "1g.10gb"), one(2, "3g.40gb")]);
        assert_eq!(parse_gpu_instances("No GPU instances found: Not Found\n"), []);
    }
}
