//! Processes at the other end of a mount.

/// Whether a thread has been sent SIGKILL, or is gone.
pub(crate) fn killed(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let pending = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    let mask = |text: &str| u64::from_str_radix(text.trim(), 16).unwrap_or(0);
    pending.map(mask).any(|mask| mask & 1 << (libc::SIGKILL - 1) != 0)
}

/// Ends the process that a thread belongs to, unless that is this one.
pub(crate) fn kill(pid: u32) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    let group: i32 = group.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    if group > 1 && group as u32 != std::process::id() {
        // SAFETY: kill(2) with integers.
        unsafe { libc::kill(group, libc::SIGKILL) };
    }
}
