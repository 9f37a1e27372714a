//! Kinds of objections that the user may override, each by name.

use clap::ValueEnum;

/// What `--force` overrides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum ForceKind {
    /// The local display goes dark
    Display,
    /// The network connection is cut
    Network,
    /// A container that is given the function loses it
    Container,
    /// The other functions of the IOMMU group stay with the host
    Group,
    /// The ACS override is active: groups prove nothing
    Acs,
    /// persist: the slot has no GPU
    NoGpu,
}

impl ForceKind {
    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ForceKind::Display => "display",
            ForceKind::Network => "network",
            ForceKind::Container => "container",
            ForceKind::Group => "group",
            ForceKind::Acs => "acs",
            ForceKind::NoGpu => "no-gpu",
        }
    }
}
