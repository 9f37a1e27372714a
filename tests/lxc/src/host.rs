//! A recorded Proxmox VE host that is the machine for whatever runs on it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use testbed::bed::program;
use testbed::{Bed, Ran, TOOLS, Tool};

/// Private namespaces with a recorded machine in them, until it is dropped.
///
/// Inside, `/etc/pve`, `/proc/devices`, `/proc/driver`, `/sys` and the nodes of
/// `dev.list` are the recorded machine's; `/sys/fs/cgroup` is a real, pure and
/// empty cgroup2; `/dev`, `/run` and `/var/lib/lxc` are new; `/etc`, `/usr` and
/// `/var` are the real machine's with the recorded files on top, and nothing
/// that is written there reaches the real machine.
pub struct Host {
    bed: Bed,
    holder: Child,
    pid: String,
    cgroup: String,
}

impl Host {
    /// A recorded machine by name.
    pub fn new(name: &str) -> Host {
        Host::of(Bed::new(name))
    }

    /// A machine that the test has altered.
    pub fn of(bed: Bed) -> Host {
        let mut hold = Command::new(program("lxcbed"));
        hold.arg("hold").arg(bed.path()).args(TOOLS.map(program));
        let mut holder =
            hold.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("lxcbed hold");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("stdout");
        BufReader::new(stdout).read_line(&mut line).expect("read");
        let Some((cgroup, pid)) = line.trim().split_once(' ') else {
            let status = holder.wait();
            panic!("the host did not come up ({status:?}): these tests need root, see stderr")
        };
        let (cgroup, pid) = (cgroup.to_string(), pid.to_string());
        Host { bed, holder, pid, cgroup }
    }

    /// The recorded machine. Its `/etc/pve`, `/proc` and `/sys` are the host's
    /// own; its other files were copied when the host was made.
    pub fn bed(&self) -> &Bed {
        &self.bed
    }

    /// Its first process, as the test sees it: its namespaces are the host's.
    pub fn pid(&self) -> &str {
        &self.pid
    }

    /// The control group that is the root of the host's hierarchy, below the
    /// root of the real one.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Ends it the hard way, as if the test had been killed.
    pub fn kill(mut self) {
        self.holder.kill().expect("kill");
    }

    /// A path of the host as the test can open it. Links to absolute paths
    /// lead out of it.
    pub fn at(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).expect(path)
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        if let Some(parent) = self.at(path).parent() {
            std::fs::create_dir_all(parent).expect(path);
        }
        std::fs::write(self.at(path), text).expect(path);
    }

    /// A program: a hookscript, or a stand-in for one that the real machine has not.
    pub fn script(&self, path: &str, text: &str) {
        self.write(path, format!("#!/bin/sh\n{text}"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.at(path), mode).expect(path);
    }

    /// From now on lxc-gpu-conf, called by its name alone, finds that a driver
    /// answers at nodes which the kernel lets it open.
    pub fn let_nodes_answer(&self) {
        let library = crate::rootfs::answer();
        self.write("/usr/local/lib/answer.so", library);
        self.script(
            "/usr/local/sbin/lxc-gpu-conf",
            "LD_PRELOAD=/usr/local/lib/answer.so exec /usr/sbin/lxc-gpu-conf \"$@\"\n",
        );
    }

    pub fn remove(&self, path: &str) {
        std::fs::remove_file(self.at(path)).expect(path);
    }

    /// Any program of the host's, its output taken as it is.
    pub fn run(&self, command: &str) -> Ran {
        self.command("sh").arg("-c").arg(command).text().run()
    }

    /// A tool on this machine, without `--root`. Its records are checked as
    /// anywhere.
    pub fn tool(&self, name: &str) -> Tool {
        assert!(TOOLS.contains(&name), "{name} is not in the host");
        self.command(&format!("/usr/sbin/{name}"))
    }

    fn command(&self, program_inside: &str) -> Tool {
        let enter = program("lxcbed");
        let prefix = [enter.as_os_str(), "enter".as_ref(), self.pid.as_ref(), self.cgroup.as_ref()];
        Tool::through(&prefix, "--").arg(program_inside)
    }

    /// `pct` with these words.
    pub fn pct(&self, words: &str) -> Ran {
        self.command("/usr/sbin/pct").args(words).text().run()
    }

    /// `pct`, for arguments that hold spaces.
    pub fn pct_words(&self, words: &[&str]) -> Ran {
        let tool = words.iter().fold(self.command("/usr/sbin/pct"), |tool, word| tool.arg(word));
        tool.text().run()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // the end of its standard input is the end of the host
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
