//! May a function be passed through? One answer for the tool that lists
//! functions and the one that binds them: what is against taking functions from
//! their drivers, each reason with what to do about it. Judges what was observed.

mod assignable;
mod force;
mod objections;
mod users;
mod verdict;
mod warnings;

use std::collections::BTreeSet;

use ::apply::Objection;
use advice::external::sriov_manage_disable;
use pci::{Function, is_vfio_driver};
use record::{Address, Hint};

use assignable::cannot_be_assigned;
pub use force::ForceKind;
use objections::Objections;
pub use objections::{Judge, ObjectionKind, Retry, RetryCommand, TakenWhen};
use users::add_users;
pub use verdict::possible;
pub use warnings::of as warnings;

/// What a release does to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is taken from its driver.
    Unbinds,
    /// Only what `bind` left is cleared.
    OnlyClears,
}

impl Judge<'_> {
    /// What is against binding `functions` to VFIO.
    pub fn bind(&self, functions: &[&Function]) -> Vec<Objection<ObjectionKind>> {
        self.bind_of(functions, functions)
    }

    /// The same, where `functions` will all be on VFIO and `taken` are not yet.
    pub(crate) fn bind_of(
        &self,
        taken: &[&Function],
        functions: &[&Function],
    ) -> Vec<Objection<ObjectionKind>> {
        let mut found = Vec::new();
        for function in taken {
            let mut objections = Objections { address: function.address, found: &mut found };
            stays_bound(function, &mut objections);
            cannot_be_assigned(self.system, function, &mut objections);
            let is_taken = !function.driver.as_deref().is_some_and(is_vfio_driver);
            if self.when != TakenWhen::AtBoot || is_taken {
                add_users(self, &self.users.of(function), function, &mut objections);
            }
            if self.when == TakenWhen::AtBoot {
                self.without_gpu(function, functions, &mut objections);
            }
        }
        // last: the command that takes the rest of a group along has to get past all
        // that is against the functions themselves
        for function in taken {
            let is_taken = !function.driver.as_deref().is_some_and(is_vfio_driver);
            if self.when != TakenWhen::AtBoot || is_taken {
                let mut objections = Objections { address: function.address, found: &mut found };
                self.group_members(function, functions, &mut objections);
            }
        }
        self.name_overrides(&mut found);
        found
    }

    /// What is against releasing functions to the host: it depends on whether
    /// each of them is taken from a driver.
    pub fn release(&self, functions: &[(&Function, Release)]) -> Vec<Objection<ObjectionKind>> {
        let mut found = Vec::new();
        for (function, release) in functions {
            let mut objections = Objections { address: function.address, found: &mut found };
            // without an unbind nobody loses anything
            let usage = match release {
                Release::Unbinds => self.users.of(function),
                Release::OnlyClears => self.users.removal(function),
            };
            add_users(self, &usage, function, &mut objections);
        }
        self.name_overrides(&mut found);
        found
    }

    /// A slot without a GPU is more often a typing error than meant.
    fn without_gpu(
        &self,
        function: &Function,
        functions: &[&Function],
        objections: &mut Objections<'_>,
    ) {
        let with_gpu = |f: &Function| self.system.gpu_in_slot(f);
        let of_group = |f: &&Function| f.group.is_some() && f.group == function.group;
        let goes_along = functions.iter().filter(|f| of_group(f)).any(|f| with_gpu(f));
        if with_gpu(function) || goes_along {
            return;
        }
        let driver = function.driver.as_deref();
        let why = match driver {
            Some(driver) => format!("is not a GPU (driver {driver})"),
            None => "is not a GPU".into(),
        };
        objections.add(ObjectionKind::NoGpu, why, Hint::default());
    }

    /// The command that overrides an objection overrides all of them, or it
    /// would be refused in turn; where one is left, there is no such command.
    fn name_overrides(&self, found: &mut [Objection<ObjectionKind>]) {
        let is_final = found.iter().any(|objection| !objection.overridable);
        let kinds: BTreeSet<ForceKind> =
            found.iter().filter_map(|objection| objection.kind.force_kind()).collect();
        for objection in found {
            let costs = match objection.kind.force_kind() {
                Some(ForceKind::Display) => "--force display turns off the local console",
                Some(ForceKind::Network) => "--force network cuts the network connection",
                Some(ForceKind::NoGpu) => "name a GPU; --force no-gpu binds what is named",
                Some(ForceKind::Acs) => {
                    "--force acs trusts the groups that pcie_acs_override= makes; remove it from \
                     the kernel command line to see the real ones"
                }
                _ => continue,
            };
            objection.hint = match is_final {
                true => Hint::words(costs),
                false => Hint::command((self.retry)(Retry::Force(kinds.clone()))).because(costs),
            };
        }
    }
}

/// NVIDIA's driver does not grant the unbind although no process has the GPU
/// open.
pub fn driver_busy(address: Address) -> Objection<ObjectionKind> {
    let mut found = Vec::new();
    let hint = Hint::words(
        "a kernel module that uses nvidia (lsmod) or a program that is opening it keeps it: end \
         that, then run the command again",
    );
    let why = "is in use according to NVIDIA's driver, though no process has it open";
    Objections { address, found: &mut found }.add(ObjectionKind::DriverBusy, why, hint);
    found.remove(0)
}

/// What must not be taken from its driver whoever uses it.
fn stays_bound(function: &Function, objections: &mut Objections<'_>) {
    if function.vgpu_vendor {
        let why = "is a virtual function of NVIDIA's vGPU and stays bound to nvidia";
        let hint = "assign it a vGPU profile, and pass it through as it is: vgpu-profile-set(1)";
        objections.add(ObjectionKind::VgpuFunction, why, Hint::words(hint));
    }
    if !function.vfs.is_empty() || function.sriov_enabled.is_some_and(|n| n > 0) {
        let why = format!("has {} virtual functions enabled", function.vfs.len());
        let hint = match function.vendor {
            Some(pci::NVIDIA) => Hint::command(sriov_manage_disable(function.address))
                .because("end the VMs that have one of them first: all lose their vGPU profiles"),
            _ => Hint::words("disable them first: write 0 to its sriov_numvfs"),
        };
        objections.add(ObjectionKind::VirtualFunctions, why, hint);
    }
}
