//! The writes that set and clear profiles, each read back, and what the driver's
//! error numbers mean for them.

use std::time::Duration;

use ::apply::{StepError, write_within};
use host::{FileError, KernelFiles};
use nvidia::{parse_creatable, short_name};
use record::Address;

use crate::plan::model::TargetProfile;
use crate::sysfs::{function_path, link_name};

/// The attributes of virtual functions and mediated devices.
pub(crate) struct VgpuAttributes<'a> {
    pub files: &'a dyn KernelFiles,
    /// How long the driver may take for one write.
    pub deadline: Duration,
}

impl VgpuAttributes<'_> {
    /// The profile id that a function has, 0 for none.
    pub fn current(&self, address: Address) -> Result<u32, StepError> {
        let path = function_path(address, "nvidia/current_vgpu_type");
        let text = self.files.read_attr(&path)?;
        let text = text.trim();
        text.parse().map_err(|_| StepError::Failed(format!("'{path}' reads '{text}'")))
    }

    /// The id of a profile by the list of this very function. Only this list is
    /// valid: ids differ by GPU, and it gets shorter as the GPU fills.
    pub fn offered_id(&self, address: Address, target: &TargetProfile) -> Result<u32, StepError> {
        let text = self.files.read_attr(&function_path(address, "nvidia/creatable_vgpu_types"))?;
        let offers = parse_creatable(&text);
        let found = offers.iter().find(|offer| match target.id {
            Some(id) => offer.id == id,
            None => short_name(&offer.name) == target.name,
        });
        match found {
            Some(offer) if target.profile.is_some() && short_name(&offer.name) != target.name => {
                let why = format!("id {} is {} here, not {}", offer.id, offer.name, target.name);
                Err(StepError::Failed(why))
            }
            Some(offer) => Ok(offer.id),
            None => {
                let now: Vec<&str> = offers.iter().map(|offer| short_name(&offer.name)).collect();
                let now = if now.is_empty() { "nothing".into() } else { now.join(" ") };
                let why = format!("does not offer {} now, only {now}", target.name);
                Err(StepError::Failed(why))
            }
        }
    }

    /// One write to current_vgpu_type, and one read. `written` is called as
    /// soon as the write may have had an effect, before anything else can fail.
    pub fn write_type(
        &self,
        address: Address,
        id: u32,
        written: &mut dyn FnMut(),
    ) -> Result<(), StepError> {
        let path = function_path(address, "nvidia/current_vgpu_type");
        let result =
            self.write(&path, &id.to_string(), "the write to current_vgpu_type", |error| {
                explain_type(id, error)
            });
        // the kernel may still complete a pending write: rollback reads what it did
        if matches!(result, Ok(()) | Err(StepError::Pending(_))) {
            written();
        }
        result?;
        match self.current(address)? {
            now if now == id => Ok(()),
            now => Err(StepError::Failed(format!("reads back as {now}, not {id}"))),
        }
    }

    /// The directory name of the type of a mediated device, if it exists.
    pub fn mdev_type(&self, parent: Address, uuid: &str) -> Option<String> {
        link_name(self.files, parent, &format!("{uuid}/mdev_type"))
    }

    /// Makes a mediated device.
    pub fn make_mdev(&self, parent: Address, dir: &str, uuid: &str) -> Result<(), StepError> {
        let types = function_path(parent, &format!("mdev_supported_types/{dir}"));
        let left = self.files.read_attr(&format!("{types}/available_instances"));
        if left.is_ok_and(|left| left.trim() == "0") {
            let why = format!("no more of {dir} can be made (available_instances is 0)");
            return Err(StepError::Failed(why));
        }
        self.write(&format!("{types}/create"), uuid, "create", explain_create)?;
        match self.files.exists(&function_path(parent, uuid)) {
            true => Ok(()),
            false => Err(StepError::Failed(format!("{uuid} does not exist after it was made"))),
        }
    }

    /// Removes a mediated device.
    pub fn remove_mdev(&self, parent: Address, uuid: &str) -> Result<(), StepError> {
        let path = function_path(parent, &format!("{uuid}/remove"));
        self.write(&path, "1", "remove", explain_remove)
    }

    fn write(
        &self,
        path: &str,
        value: &str,
        what: &str,
        explain: impl FnOnce(&FileError) -> String,
    ) -> Result<(), StepError> {
        write_within(self.files, path, value, self.deadline, what, explain)
    }
}

fn with_meaning(error: &FileError, meaning: Option<&str>) -> String {
    meaning.map_or_else(|| error.to_string(), |meaning| format!("{error}: {meaning}"))
}

/// What the driver's answer to a write of `id` to current_vgpu_type means.
fn explain_type(id: u32, error: &FileError) -> String {
    let meaning = match (error.errno(), id) {
        (libc::EPERM, 0) => "no profile is set",
        (libc::EPERM, _) => "a profile is already set",
        (libc::EIO, 0) => "the driver cannot clear it: is it in use by a VM?",
        (libc::EIO, _) => {
            "it does not fit (the kernel log has 'Failed to add vgpu create request: 0x38')"
        }
        (libc::EBUSY, _) => "it is in use by a VM",
        (libc::ENOSPC, _) => "the GPU is full",
        (libc::ENODEV, _) => "the GPU does not have this profile",
        (libc::EINVAL, _) => {
            "the driver no longer knows this virtual function, or does not know this profile; \
             disable and enable the virtual functions (sriov-manage -d, -e)"
        }
        (libc::ENOENT, _) => "it is no longer bound to nvidia, the vGPU host driver",
        (libc::EACCES | libc::EROFS, _) => "this needs root and a writable /sys",
        _ => return error.to_string(),
    };
    with_meaning(error, Some(meaning))
}

fn explain_create(error: &FileError) -> String {
    let meaning = match error.errno() {
        libc::EEXIST => Some("a device with this UUID exists"),
        libc::ENOSPC => Some("no more devices of this type fit"),
        libc::EINVAL => Some(
            "the driver cannot make it: is nvidia-vgpu-mgr running, and is the framebuffer size \
             that of the other devices of the GPU?",
        ),
        libc::EIO => Some(
            "the GPU cannot make it now (the kernel log says why: journalctl -k -g nvidia-vgpu)",
        ),
        libc::EPERM => Some("the driver refuses mediated devices on this GPU, or a lockdown does"),
        libc::EACCES | libc::EROFS => Some("this needs root and a writable /sys"),
        _ => None,
    };
    with_meaning(error, meaning)
}

fn explain_remove(error: &FileError) -> String {
    let meaning = match error.errno() {
        libc::EBUSY => Some("it is in use by a VM"),
        libc::ENODEV | libc::ENOENT => Some("it is already removed"),
        _ => None,
    };
    with_meaning(error, meaning)
}
