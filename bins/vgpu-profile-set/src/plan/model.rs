//! What a plan consists of.

use std::fmt;

use advice::external;
use nvidia::Profile;
use record::{Address, Hint, VgpuHolder, shell_words};

/// How to plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanRules {
    /// Turn heterogeneous mode on where framebuffer sizes differ.
    pub heterogeneous: bool,
    /// Skip what is in use instead of refusing it.
    pub skip_in_use: bool,
}

/// A profile as one GPU knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetProfile {
    /// Its short name, or `id 1155` where the name cannot be looked up now.
    pub name: String,
    /// Its id; `None`: the GPU is too full to list it, so the id is looked up
    /// when the profile is set.
    pub id: Option<u32>,
    /// What its name says.
    pub profile: Option<Profile>,
}

impl TargetProfile {
    /// Framebuffer in MiB, 0 where that is not known.
    pub fn mib(&self) -> u64 {
        self.profile.as_ref().map_or(0, Profile::mib)
    }
}

/// What is requested of one GPU.
#[derive(Default)]
pub(crate) struct GpuRequest {
    /// By function, in the order of the input.
    pub explicit: Vec<(Address, Option<TargetProfile>)>,
    /// By number: so many of each profile, and no other profile.
    pub counted: Option<Vec<(TargetProfile, u32)>>,
}

/// Input that does not fit this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidInput {
    pub why: String,
    pub hint: Hint,
    /// The GPU or function that this host does not have: in a file for several hosts
    /// this is not an error.
    pub absent: Option<Address>,
}

impl InvalidInput {
    pub(crate) fn new(why: impl Into<String>, hint: Hint) -> InvalidInput {
        InvalidInput { why: why.into(), hint, absent: None }
    }
}

/// One reason against a plan. No option overrides one: `--skip-in-use` makes
/// [`ProfileChange::Skip`] of those that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanObjection {
    pub gpu: Address,
    /// The function, or the GPU itself.
    pub address: Address,
    /// The reason, without the address.
    pub why: String,
    pub hint: Hint,
}

/// What happens to one virtual function or mediated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileStep {
    pub gpu: Address,
    /// The function; of a mediated device the parent.
    pub address: Address,
    pub change: ProfileChange,
}

/// The change that a step makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileChange {
    /// A write to `current_vgpu_type`.
    Vendor {
        /// The id that is set, 0 for none.
        from: u32,
        /// Its name, where that is known.
        from_name: Option<String>,
        to: Option<TargetProfile>,
        /// The profile is right but is cleared and set again: heterogeneous
        /// mode can be turned on only while no profile is set.
        again: bool,
    },
    /// A mediated device, made or removed.
    Mdev {
        uuid: String,
        /// Directory and name of the type that it has.
        from: Option<(String, String)>,
        /// Directory and name of the type that it is to have.
        to: Option<(String, String)>,
    },
    /// None: `--skip-in-use` was given, and there is a reason against it.
    Skip {
        from: Option<String>,
        to: Option<String>,
        why: String,
        hint: Hint,
        /// The reason is something that could not be found out.
        unknown: bool,
    },
}

impl ProfileStep {
    /// What it is for: the function, and the UUID of a mediated device on it.
    pub fn key(&self) -> (Address, Option<String>) {
        match &self.change {
            ProfileChange::Mdev { uuid, .. } => (self.address, Some(uuid.clone())),
            _ => (self.address, None),
        }
    }

    /// Whether the function or device has what it is to have.
    pub fn is_unchanged(&self) -> bool {
        match &self.change {
            ProfileChange::Vendor { from, to, again, .. } => {
                !again
                    && match to {
                        None => *from == 0,
                        Some(target) => *from != 0 && target.id == Some(*from),
                    }
            }
            ProfileChange::Mdev { from, to, .. } => from == to,
            ProfileChange::Skip { .. } => false,
        }
    }

    /// Whether anything would be written.
    pub fn is_change(&self) -> bool {
        !self.is_unchanged() && !matches!(self.change, ProfileChange::Skip { .. })
    }

    /// Whether a profile is cleared or a device removed first.
    pub fn clears(&self) -> bool {
        self.is_change()
            && match &self.change {
                ProfileChange::Vendor { from, .. } => *from != 0,
                ProfileChange::Mdev { from, .. } => from.is_some(),
                ProfileChange::Skip { .. } => false,
            }
    }
}

/// All that is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfilePlan {
    /// GPUs whose virtual functions are to be enabled first.
    pub enable: Vec<Address>,
    /// GPUs on which heterogeneous mode is to be turned on.
    pub heterogeneous: Vec<Address>,
    /// GPU by GPU, the largest profile first.
    pub steps: Vec<ProfileStep>,
    /// What of the input does not fit this host, in the order of the input. The
    /// GPUs that it concerns have no steps.
    pub invalid: Vec<InvalidInput>,
    /// Why nothing may be done.
    pub objections: Vec<PlanObjection>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What the user should know of one function or GPU.
    pub notes: Vec<PlanNote>,
}

/// Something that does not keep a plan from being carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanNote {
    /// The function, or the GPU itself.
    pub address: Address,
    /// What it is, without the address.
    pub text: String,
    pub hint: Hint,
    /// It is a problem, and not only a fact.
    pub warns: bool,
}

impl PlanNote {
    pub(crate) fn warning(address: Address, text: impl Into<String>, hint: Hint) -> PlanNote {
        PlanNote { address, text: text.into(), hint, warns: true }
    }
}

impl fmt::Display for PlanNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.address, self.text, in_brackets(&self.hint))
    }
}

/// A hint at the end of a message of one line.
pub(crate) fn in_brackets(hint: &Hint) -> String {
    let commands = hint.commands.iter().map(|command| shell_words(command));
    let parts: Vec<String> = hint.words.iter().cloned().chain(commands).collect();
    if parts.is_empty() { String::new() } else { format!(" (hint: {})", parts.join("; ")) }
}

/// A profile as records show it: its name, else its id.
pub fn shown_profile(id: u32, name: Option<&str>) -> Option<String> {
    match (id, name) {
        (0, _) => None,
        (_, Some(name)) => Some(name.to_string()),
        (id, None) => Some(format!("id {id}")),
    }
}

/// Why a function or device must be left alone, and what to do about it.
pub(crate) struct LeaveAlone {
    pub why: String,
    pub hint: Hint,
    /// The reason is something that could not be found out.
    pub unknown: bool,
}

/// A function or device that is used.
pub(crate) fn in_use(holder: &VgpuHolder) -> LeaveAlone {
    let hint = match holder.vm {
        Some(vm) => Hint::command(external::qm_shutdown(vm)),
        None => Hint::words("stop the VM first"),
    };
    LeaveAlone { why: format!("is in use by {holder}"), hint, unknown: false }
}

/// A function or device of which it is unknown whether it is used.
pub(crate) fn use_unknown(why: &str) -> LeaveAlone {
    let words = "run it as root; a container needs the host's processes (hostPID) and the \
                 capabilities SYS_PTRACE and DAC_READ_SEARCH";
    let why = format!("whether a VM uses it is unknown: {why}");
    LeaveAlone { why, hint: Hint::words(words), unknown: true }
}
