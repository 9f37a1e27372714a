//! How much a GPU takes: its framebuffer, how many of a profile, how many more now. From
//! the strongest source there is: the driver's list while it is complete, nvidia-smi, the
//! description of a mediated device type, a dated table of boards; else unknown.

use nvidia::Profile;
use record::VgpuInterface;

use crate::observe::model::Gpu;
use crate::plan::boards::{framebuffer_mib, most_instances};

/// Framebuffer of the GPU in MiB: by the driver's list while that is complete, else by
/// the board that the profiles name. `None`: unknown.
pub(crate) fn total_mib<'a>(
    gpu: &Gpu,
    plain: impl IntoIterator<Item = &'a Profile>,
) -> Option<u64> {
    gpu.mib().or_else(|| plain.into_iter().find_map(framebuffer_mib))
}

/// How many of a profile an empty GPU takes. `None`: unknown.
pub(crate) fn most(gpu: &Gpu, profile: &Profile) -> Option<u64> {
    let by_driver = gpu.most.iter().find(|(id, _)| gpu.profile_of(**id).as_ref() == Some(profile));
    if let Some((_, most)) = by_driver {
        return Some(u64::from(*most));
    }
    if profile.slices().is_some() {
        return None;
    }
    total_mib(gpu, [profile]).map(|total| most_instances(profile, total))
}

/// What all vGPUs of the GPU are. Errors: how many of them have no known name.
pub(crate) fn profiles_now(gpu: &Gpu) -> Result<Vec<Profile>, usize> {
    let set = gpu.functions.iter().filter(|function| function.current != 0);
    let set = set.map(|function| gpu.profile_of(function.current));
    let mdevs = gpu.functions.iter().flat_map(|function| {
        let name = |dir: &str| function.mdev_type(dir).and_then(|of| Profile::parse(&of.name));
        function.mdevs.iter().map(move |mdev| name(&mdev.dir))
    });
    let all: Vec<Option<Profile>> = set.chain(mdevs).collect();
    let unknown = all.iter().filter(|profile| profile.is_none()).count();
    if unknown == 0 { Ok(all.into_iter().flatten().collect()) } else { Err(unknown) }
}

/// How many more of the profile with this id can be made now. `None`: unknown.
pub(crate) fn more_now(gpu: &Gpu, id: u32) -> Option<u64> {
    let own = gpu.functions.iter().find(|function| function.address == gpu.address);
    if let Some(of) = own.and_then(|own| own.mdev_types.iter().find(|of| of.id == id)) {
        // the driver's own answer, for the GPU as a whole
        return Some(u64::from(of.available));
    }
    let mdev = gpu.interface() == Some(VgpuInterface::Mdev);
    let offered = gpu.functions.iter().filter(|function| match mdev {
        true => function.mdev_types.iter().any(|of| of.id == id && of.available > 0),
        false => function.offers.iter().flatten().any(|offer| offer.id == id),
    });
    let free = offered.filter(|function| function.is_free()).count() as u64;
    if free == 0 {
        return Some(0);
    }
    let profile = gpu.profile_of(id)?;
    if profile.slices().is_some() {
        return None;
    }
    let now = profiles_now(gpu).ok()?;
    let used: u64 = now.iter().map(Profile::mib).sum();
    let left = total_mib(gpu, [&profile])?.saturating_sub(used) / profile.mib().max(1);
    let most = most(gpu, &profile)?.saturating_sub(now.len() as u64);
    Some(free.min(left).min(most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::boards::framebuffer_mib;

    /// NVIDIA's vgpu-device-manager, examples/config-example.yaml (2026-08-20).
    #[test]
    fn the_table_gives_the_published_numbers() {
        for (name, published) in [
            ("L40S-1Q", 32),
            ("L40S-2Q", 24),
            ("L40S-24Q", 2),
            ("A10-1Q", 24),
            ("A16-1Q", 16),
            ("T4-1Q", 16),
            ("H100-4C", 20),
            ("H200-4C", 32),
            ("H200-7C", 20),
            ("H200-8C", 16),
            ("RTX8000P-4C", 8),
            ("RTX8000P-4Q", 12),
            ("DC-3Q", 32),
            ("DC-96Q", 1),
            ("A100-4C", 10),
        ] {
            let profile = Profile::parse(name).unwrap();
            let total = framebuffer_mib(&profile).unwrap();
            assert_eq!(most_instances(&profile, total), published, "{name}");
        }
    }
}
