//! Which `lxc.*` keys Proxmox VE lets a configuration hold (pve-container 6.1.10,
//! PVE/LXC/Config.pm, valid_lxc_conf_keys).

/// Keys that are permitted by their whole name.
const PERMITTED: &[&str] = &[
    "lxc.apparmor.profile",
    "lxc.apparmor.allow_incomplete",
    "lxc.apparmor.allow_nesting",
    "lxc.apparmor.raw",
    "lxc.selinux.context",
    "lxc.include",
    "lxc.arch",
    "lxc.uts.name",
    "lxc.signal.halt",
    "lxc.signal.reboot",
    "lxc.signal.stop",
    "lxc.init.cmd",
    "lxc.init.cwd",
    "lxc.init.uid",
    "lxc.init.gid",
    "lxc.init.groups",
    "lxc.pty.max",
    "lxc.console.logfile",
    "lxc.console.path",
    "lxc.tty.max",
    "lxc.devtty.dir",
    "lxc.hook.autodev",
    "lxc.autodev",
    "lxc.kmsg",
    "lxc.mount.fstab",
    "lxc.mount.entry",
    "lxc.mount.auto",
    "lxc.rootfs.mount",
    "lxc.cap.drop",
    "lxc.cap.keep",
    "lxc.seccomp.profile",
    "lxc.seccomp.notify.proxy",
    "lxc.seccomp.notify.cookie",
    "lxc.idmap",
    "lxc.hook.pre-start",
    "lxc.hook.pre-mount",
    "lxc.hook.mount",
    "lxc.hook.start",
    "lxc.hook.stop",
    "lxc.hook.post-stop",
    "lxc.hook.clone",
    "lxc.hook.destroy",
    "lxc.hook.version",
    "lxc.log.level",
    "lxc.log.file",
    "lxc.start.auto",
    "lxc.start.delay",
    "lxc.start.order",
    "lxc.group",
    "lxc.environment",
    "lxc.environment.runtime",
    "lxc.environment.hooks",
    "lxc.sysctl.fs.mqueue",
    "lxc.sysctl.kernel.msgmax",
    "lxc.sysctl.kernel.msgmnb",
    "lxc.sysctl.kernel.msgmni",
    "lxc.sysctl.kernel.sem",
    "lxc.sysctl.kernel.shmall",
    "lxc.sysctl.kernel.shmmax",
    "lxc.sysctl.kernel.shmmni",
    "lxc.sysctl.kernel.shm_rmid_forced",
];

/// Whatever begins so is permitted; the last two groups with a warning.
const PREFIXES: &[&str] =
    &["lxc.cgroup2.", "lxc.prlimit.", "lxc.net.", "lxc.cgroup.", "lxc.limit."];

/// Names from before LXC 3, which are kept with a warning.
const OLD: &[&str] = &[
    "lxc.id_map",
    "lxc.aa_profile",
    "lxc.aa_allow_incomplete",
    "lxc.se_context",
    "lxc.haltsignal",
    "lxc.rebootsignal",
    "lxc.stopsignal",
    "lxc.init_cmd",
    "lxc.console",
    "lxc.devttydir",
    "lxc.mount",
    "lxc.pts",
    "lxc.tty",
    "lxc.utsname",
    "lxc.seccomp",
    "lxc.logfile",
    "lxc.loglevel",
    "lxc.network.type",
    "lxc.network.flags",
    "lxc.network.link",
    "lxc.network.mtu",
    "lxc.network.name",
    "lxc.network.hwaddr",
    "lxc.network.ipv4",
    "lxc.network.ipv4.gateway",
    "lxc.network.ipv6",
    "lxc.network.ipv6.gateway",
    "lxc.network.script.up",
    "lxc.network.script.down",
];

/// Whether Proxmox VE keeps a key when it writes the file; any other is warned
/// about, has no effect, and is dropped.
pub fn is_permitted_lxc_key(key: &str) -> bool {
    PERMITTED.contains(&key)
        || OLD.contains(&key)
        || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Whether LXC still has a key that Proxmox VE passes to it. With another the whole
/// configuration is refused (confile.c of 5.0.2 and 6.0.4, lxc_get_config).
pub fn is_known_to_lxc(key: &str) -> bool {
    let gone = ["lxc.devtty.dir", "lxc.kmsg", "lxc.limit."];
    !OLD.contains(&key) && !gone.iter().any(|gone| key.starts_with(gone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_guides_use_and_proxmox_drops_are_known() {
        for key in ["lxc.hook.start-host", "lxc.namespace.keep", "lxc.tty.dir", "lxc.rootfs.path"] {
            assert!(!is_permitted_lxc_key(key), "{key}");
        }
        for key in ["lxc.mount.entry", "lxc.cgroup2.devices.allow", "lxc.cgroup.devices.allow"] {
            assert!(is_permitted_lxc_key(key), "{key}");
        }
    }
}
