//! What is wrong with the cards behind the nodes: MIG instances, numbers that
//! belong to others, libraries of another version.

use std::collections::{BTreeMap, BTreeSet};

use nvidia::{Capability, NodeClass};
use record::LxcStyle;

use crate::access::is_userspace;
use crate::facts::Facts;
use crate::finding::{Cause, Finding};
use crate::view::{Granted, View};

impl View<'_> {
    /// Instances with both capabilities, existing, and with their GPU.
    pub(crate) fn judge_mig(&mut self) {
        let Some(facts) = self.facts else { return };
        // a mounted directory gives those of all cards: nobody asked for each
        let single =
            |g: &&Granted| g.style == LxcStyle::Dev || self.access.mount(&g.target).is_some();
        let caps: BTreeSet<u32> = self
            .granted
            .iter()
            .filter(single)
            .filter_map(|g| match g.class {
                Some(NodeClass::Cap(minor)) if minor > 2 => Some(minor),
                _ => None,
            })
            .collect();
        let mig = facts.mig();
        let gpus = self.minors();
        let mut found = Vec::new();
        for cap in &caps {
            let (gpu, gi, ci) = match mig.capabilities.get(cap) {
                Some(Capability::Gi(gpu, gi)) => (*gpu, *gi, 0),
                Some(Capability::Ci(gpu, gi, ci)) => (*gpu, *gi, *ci),
                _ => continue,
            };
            let finding = |cause, reason: String, hint: String| Finding {
                property: nvidia::cap_path(*cap),
                expected: None,
                actual: Some(format!("gpu{gpu}/gi{gi}")),
                reason,
                hint: Some(hint),
                ..Finding::error(cause)
            };
            let remove =
                format!("lxc-gpu-conf remove {} --gpu {gpu} --mig {gi}/{ci}", self.guest.ctid);
            let exists = mig.instances.iter().any(|i| i.gi_cap == *cap || i.ci_cap == *cap);
            if !exists {
                let reason = format!("the MIG instance of nvidia-cap{cap} does not exist now");
                found.push(finding(
                    Cause::MigGone,
                    reason,
                    format!("make it again, or '{remove}'"),
                ));
                continue;
            }
            let paired = mig.instances.iter().any(|i| {
                (i.gi_cap == *cap || i.ci_cap == *cap)
                    && caps.contains(&i.gi_cap)
                    && caps.contains(&i.ci_cap)
            });
            if !paired {
                let reason = format!(
                    "nvidia-cap{cap} alone opens nothing: an instance needs the capabilities of \
                     its GPU instance and of its compute instance"
                );
                let ci = mig.instances.iter().find(|i| i.gi == gi && i.gpu == gpu);
                let ci = ci.map_or(0, |i| i.ci);
                let hint =
                    format!("lxc-gpu-conf add {} --gpu {gpu} --mig {gi}/{ci}", self.guest.ctid);
                found.push(finding(Cause::MigPair, reason, hint));
            }
            if !gpus.contains(&gpu) {
                let reason = format!("nvidia-cap{cap} needs /dev/nvidia{gpu} beside it");
                let hint = format!("lxc-gpu-conf add {} --gpu {gpu}", self.guest.ctid);
                found.push(finding(Cause::MigParent, reason, hint));
            }
        }
        found.into_iter().for_each(|finding| self.found(finding));
    }

    /// Cards behind the minors, and what CUDA needs beside them.
    pub(crate) fn judge_cards(&mut self) {
        let minors = self.minors();
        let Some(facts) = self.facts else { return };
        for (then, (name, now)) in self.moved(facts) {
            let card = name.split('/').next().unwrap_or_default();
            self.found(Finding {
                property: then.clone(),
                expected: Some(now.clone()),
                actual: Some(then.clone()),
                reason: format!("the GPU that had {then} ({card}) has {now} now"),
                hint: Some(format!("lxc-gpu-conf sync {}", self.guest.ctid)),
                ..Finding::error(Cause::OtherCard)
            });
        }
        for minor in &minors {
            if facts.by_minor(*minor).is_none() {
                let finding = self.lost(facts, *minor);
                self.found(finding);
                continue;
            }
            for spec in nvidia::gpu_nodes(*minor).iter().filter(|spec| spec.required) {
                if !self.granted.iter().any(|g| g.target == spec.path) {
                    self.found(Finding {
                        property: spec.path.clone(),
                        expected: Some("given".into()),
                        actual: None,
                        reason: format!("{} is not given: CUDA needs it", spec.path),
                        hint: Some(format!("lxc-gpu-conf add {} --gpu {minor}", self.guest.ctid)),
                        ..Finding::error(Cause::Incomplete)
                    });
                }
            }
        }
        if minors.is_empty() && self.granted.iter().any(|g| g.class.is_some()) {
            self.found(Finding {
                property: "gpu".into(),
                expected: Some("/dev/nvidia<minor>".into()),
                actual: None,
                reason: "nodes that all GPUs share are given, but no GPU".into(),
                hint: Some(format!("lxc-gpu-conf add {} --gpu all", self.guest.ctid)),
                ..Finding::error(Cause::Incomplete)
            });
        }
    }

    /// Nodes that are given and that the card which they were for has no longer:
    /// by path, under which name, and what it has now.
    pub(crate) fn moved(&self, facts: &Facts<'_>) -> BTreeMap<String, (String, String)> {
        let Some(state) = &self.state else { return BTreeMap::new() };
        let now = state.wish.names(facts);
        let given = |path: &str| self.granted.iter().any(|g| g.node.path == path);
        let names = state.names.iter().filter(|(_, then)| given(then));
        names
            .filter_map(|(name, then)| {
                let now = now.get(name).filter(|now| *now != then)?;
                Some((then.clone(), (name.clone(), now.clone())))
            })
            .collect()
    }

    /// Why a minor has no GPU of NVIDIA's driver behind it.
    pub(crate) fn lost(&self, facts: &Facts<'_>, minor: u32) -> Finding {
        let text = format!("/dev/nvidia{minor} belongs to no GPU of the host's nvidia driver");
        let away: Vec<String> = facts.system().map_or_else(
            |_| Vec::new(),
            |system| {
                let functions = system.functions.values().filter(|f| {
                    f.is_gpu() && f.vendor == Some(pci::NVIDIA) && f.on_vfio() && f.pf.is_none()
                });
                functions.map(|f| f.address.to_string()).collect()
            },
        );
        let remove = format!("lxc-gpu-conf remove {} --gpu {minor}", self.guest.ctid);
        let base = Finding {
            property: format!("/dev/nvidia{minor}"),
            expected: Some("a GPU of the nvidia driver".into()),
            ..Finding::error(Cause::NoGpu)
        };
        match away.first() {
            None => Finding { reason: text, hint: Some(remove), ..base },
            Some(first) => Finding {
                cause: Cause::OnVfio,
                actual: Some("bound to VFIO".into()),
                reason: format!("{text} (bound to VFIO: {})", away.join(", ")),
                hint: Some(format!("'gpu-vfio-bind release {first}', or '{remove}'")),
                ..base
            },
        }
    }

    /// Mounted libraries: of the loaded module's version, and there.
    pub(crate) fn judge_userspace(&mut self) {
        let Some(facts) = self.facts else { return };
        let known = self.state.as_ref().is_some_and(|state| state.wish.userspace.is_some());
        let minors: Vec<String> = self.minors().iter().map(u32::to_string).collect();
        let hint = Some(match known || minors.is_empty() {
            true => format!("lxc-gpu-conf sync {}", self.guest.ctid),
            // of mounts that were made by hand nothing is remembered
            false => {
                format!("lxc-gpu-conf add {} --gpu {} --libs", self.guest.ctid, minors.join(","))
            }
        });
        let mounts = self.access.mounts.clone();
        for mount in mounts.iter().filter(|mount| is_userspace(&mount.target)) {
            let version = nvidia::userspace::version_of(&mount.source);
            let module = facts.module_version();
            if !facts.machine.exists(&mount.source) {
                self.found(Finding {
                    property: mount.target.clone(),
                    expected: Some("a file of the host".into()),
                    actual: None,
                    reason: format!("{} is not there any more", mount.source),
                    hint: hint.clone(),
                    ..Finding::error(Cause::LibraryMissing)
                });
            } else if version.is_some() && module.is_some() && version.as_deref() != module {
                self.found(Finding {
                    property: mount.target.clone(),
                    expected: module.map(str::to_string),
                    actual: version,
                    reason: format!(
                        "{} is not of the loaded module's version: programs fail with \
                         'driver/library version mismatch'",
                        mount.source
                    ),
                    hint: hint.clone(),
                    ..Finding::error(Cause::LibraryVersion)
                });
            }
        }
    }
}
