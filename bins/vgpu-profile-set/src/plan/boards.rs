//! Framebuffer by board, for a GPU whose driver lists no profile: its virtual
//! functions are off, or it is too full to list its largest profile.

use nvidia::Profile;

/// The board in names of profiles, and the GiB of its largest profile: the examples of
/// NVIDIA's vgpu-device-manager (examples/config-example.yaml, 2026-08-20).
const BOARDS: &[(&str, u64)] = &[
    ("6000D", 84),
    ("A10", 24),
    ("A100", 40),
    ("A100D", 80),
    ("A100DX", 80),
    ("A100X", 40),
    ("A16", 16),
    ("A2", 16),
    ("A30", 24),
    ("A40", 48),
    ("A800", 40),
    ("A800D", 80),
    ("A800DX", 80),
    ("B200X", 180),
    ("B300X", 269),
    ("DC", 96),
    ("GB200", 189),
    ("GH200", 96),
    ("GH200L", 144),
    ("H100", 80),
    ("H100L", 94),
    ("H100XL", 94),
    ("H100XM", 80),
    ("H100XS", 64),
    ("H20", 96),
    ("H200", 141),
    ("H200X", 141),
    ("H20X", 141),
    ("H800", 80),
    ("H800L", 94),
    ("H800XM", 80),
    ("L2", 24),
    ("L20", 48),
    ("L4", 24),
    ("L40", 48),
    ("L40S", 48),
    ("RTX5000-Ada", 32),
    ("RTX5880-Ada", 48),
    ("RTX6000-Ada", 48),
    ("RTX6000P", 24),
    ("RTX8000P", 48),
    ("RTXA5000", 24),
    ("RTXA5500", 24),
    ("RTXA6000", 48),
    ("T4", 16),
    ("V100", 16),
    ("V100D", 32),
    ("V100DX", 32),
    ("V100L", 16),
    ("V100S", 32),
    ("V100X", 16),
];

/// Slices of the largest MIG instance of boards that can have any; the same source.
const MIG_BOARDS: &[(&str, u32)] = &[
    ("6000D", 2),
    ("A100", 7),
    ("A100D", 7),
    ("A100DX", 7),
    ("A100X", 7),
    ("A30", 4),
    ("A800", 7),
    ("A800D", 7),
    ("A800DX", 7),
    ("B200X", 7),
    ("B300X", 7),
    ("DC", 4),
    ("GB200", 7),
    ("GH200", 7),
    ("GH200L", 7),
    ("H100", 7),
    ("H100L", 7),
    ("H100XL", 7),
    ("H100XM", 7),
    ("H100XS", 7),
    ("H20", 7),
    ("H200", 7),
    ("H200X", 7),
    ("H20X", 7),
    ("H800", 7),
    ("H800L", 7),
    ("H800XM", 7),
];

/// The board in the name of a profile.
pub(crate) fn board(profile: &Profile) -> &str {
    let without_last = |name: &str| name.rfind('-').unwrap_or(name.len());
    let short = profile.short();
    let board = &short[..without_last(short)];
    match profile.slices() {
        Some(_) => &board[..without_last(board)],
        None => board,
    }
}

/// Framebuffer in MiB of the board that a profile is for; `None`: the board is not in
/// the table.
pub(crate) fn framebuffer_mib(profile: &Profile) -> Option<u64> {
    let board = board(profile);
    BOARDS.iter().find(|(known, _)| *known == board).map(|(_, gib)| gib * 1024)
}

/// No GPU takes more time-sliced vGPUs; in the same source the count of every profile
/// is the framebuffer divided by its size, up to this number.
const MOST_VGPUS: u64 = 32;

/// The exceptions.
const FEWER: &[(&str, u64)] =
    &[("H200-8C", 16), ("H200X-8C", 16), ("H20X-8C", 16), ("RTX8000P-4C", 8)];

/// How many time-sliced vGPUs of this profile an empty GPU with this framebuffer takes.
pub(crate) fn most_instances(profile: &Profile, total_mib: u64) -> u64 {
    let fewer = FEWER.iter().find(|(name, _)| *name == profile.short());
    let most = (total_mib / profile.mib().max(1)).min(MOST_VGPUS);
    fewer.map_or(most, |(_, fewer)| most.min(*fewer))
}

/// MIG slices of that board; `None`: it has no MIG, or is not in the table.
pub(crate) fn mig_slices(profile: &Profile) -> Option<u32> {
    let board = board(profile);
    MIG_BOARDS.iter().find(|(known, _)| *known == board).map(|(_, slices)| *slices)
}
