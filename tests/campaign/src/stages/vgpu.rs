//! `vgpu-profile-set`: profiles onto the virtual functions of a recorded L40S.

use modelkernel::machines::l40s;

use super::model::{OnModel, Setting};

const TOOL: &str = "vgpu-profile-set";
const WISH: &str = "0000:41:00.4=L40S-12Q\n0000:41:00.5=L40S-12Q\n0000:41:00.6=L40S-12Q\n";
const OTHER: &str = "0000:41:00.4=L40S-24Q\n0000:41:00.5=L40S-24Q\n0000:41:00.6=none\n";

/// `input` onto an empty card, onto one that has other profiles, and off it.
pub fn all() -> Vec<OnModel> {
    let stage = |args, input, before| {
        let (modules, memory) = (&[][..], "run/vgpu-profile-set");
        OnModel::new(l40s(), Setting { tool: TOOL, args, input, modules, before, memory })
    };
    vec![
        stage("apply", WISH, &[]),
        stage("apply -q", OTHER, &[("apply -q", WISH)]),
        stage("clear --all", "", &[("apply -q", WISH)]),
    ]
}
