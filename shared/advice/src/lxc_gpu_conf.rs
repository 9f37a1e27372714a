//! Command lines of `lxc-gpu-conf`.

use record::CommandLine;

use crate::command;

/// Options of `add`. What is empty or `false` is not on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddOptions {
    /// `--gpu`: addresses, UUIDs, minors or `all`.
    pub gpus: Vec<String>,
    /// `--mig`: instances as `GI/CI` or a MIG UUID.
    pub mig: Vec<String>,
    /// `--mig-monitor`.
    pub mig_monitor: bool,
    /// `--graphics`.
    pub graphics: bool,
    /// `--imex`: channel numbers or `all`.
    pub imex: Vec<String>,
    /// `--fabric`.
    pub fabric: bool,
    /// `--style`: `dev` or `mount`.
    pub style: Option<&'static str>,
    /// `--convert`.
    pub convert: bool,
    /// `--uid`.
    pub uid: Option<u32>,
    /// `--gid`.
    pub gid: Option<u32>,
    /// `--mode`: a zero and three octal digits.
    pub mode: Option<String>,
    /// `--libs`: sets of driver libraries.
    pub libs: Vec<String>,
    /// `--share-driver`: an absolute path.
    pub share_driver: Option<String>,
    /// `--no-hotplug`.
    pub no_hotplug: bool,
    /// `--restart`.
    pub restart: bool,
    /// `--start`.
    pub start: bool,
    /// `--wait`, in seconds.
    pub wait: Option<u64>,
}

/// Gives a container GPUs.
pub fn add(ctid: u32, options: &AddOptions) -> CommandLine {
    let mut line = command(&["lxc-gpu-conf", "add", &ctid.to_string()]);
    list(&mut line, "--gpu", &options.gpus);
    list(&mut line, "--mig", &options.mig);
    flag(&mut line, "--mig-monitor", options.mig_monitor);
    flag(&mut line, "--graphics", options.graphics);
    list(&mut line, "--imex", &options.imex);
    flag(&mut line, "--fabric", options.fabric);
    value(&mut line, "--style", options.style);
    flag(&mut line, "--convert", options.convert);
    value(&mut line, "--uid", options.uid);
    value(&mut line, "--gid", options.gid);
    value(&mut line, "--mode", options.mode.as_ref());
    if !options.libs.is_empty() {
        // clap takes the value of this option only behind '='
        line.push(format!("--libs={}", options.libs.join(",")));
    }
    value(&mut line, "--share-driver", options.share_driver.as_ref());
    flag(&mut line, "--no-hotplug", options.no_hotplug);
    flag(&mut line, "--restart", options.restart);
    flag(&mut line, "--start", options.start);
    value(&mut line, "--wait", options.wait);
    line
}

/// Options of `remove`. With none of `gpus`, `mig`, `nodes` and `libs` all of a
/// container's GPUs are removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// `--gpu`: addresses, UUIDs, minors or `all`.
    pub gpus: Vec<String>,
    /// `--mig`: instances as `GI/CI`.
    pub mig: Vec<String>,
    /// `--node`: paths of device nodes.
    pub nodes: Vec<String>,
    /// `--libs`.
    pub libs: bool,
    /// `--restart`.
    pub restart: bool,
    /// `--wait`, in seconds.
    pub wait: Option<u64>,
}

/// Removes GPUs from a container.
pub fn remove(ctid: u32, options: &RemoveOptions) -> CommandLine {
    let mut line = command(&["lxc-gpu-conf", "remove", &ctid.to_string()]);
    list(&mut line, "--gpu", &options.gpus);
    list(&mut line, "--mig", &options.mig);
    list(&mut line, "--node", &options.nodes);
    flag(&mut line, "--libs", options.libs);
    flag(&mut line, "--restart", options.restart);
    value(&mut line, "--wait", options.wait);
    line
}

/// Repairs a container's GPU configuration.
pub fn sync(ctid: u32) -> CommandLine {
    command(&["lxc-gpu-conf", "sync", &ctid.to_string()])
}

/// Checks a container's GPU configuration.
pub fn check(ctid: u32) -> CommandLine {
    command(&["lxc-gpu-conf", "check", &ctid.to_string()])
}

/// Checks the GPU configuration of all containers.
pub fn check_all() -> CommandLine {
    command(&["lxc-gpu-conf", "check", "--all"])
}

/// Shows the GPUs of a container.
pub fn show(ctid: u32) -> CommandLine {
    command(&["lxc-gpu-conf", "show", &ctid.to_string()])
}

/// Creates or fixes the host's device nodes.
pub fn nodes() -> CommandLine {
    command(&["lxc-gpu-conf", "nodes"])
}

fn list(line: &mut CommandLine, option: &str, values: &[String]) {
    if !values.is_empty() {
        line.extend([option.to_string(), values.join(",")]);
    }
}

fn flag(line: &mut CommandLine, option: &str, given: bool) {
    line.extend(given.then(|| option.to_string()));
}

fn value(line: &mut CommandLine, option: &str, given: Option<impl ToString>) {
    line.extend(given.into_iter().flat_map(|given| [option.to_string(), given.to_string()]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_on_the_command_line() {
        assert_eq!(add(901, &AddOptions::default()), ["lxc-gpu-conf", "add", "901"]);
        let options = AddOptions {
            gpus: vec!["0".into(), "1".into()],
            libs: vec!["utility".into()],
            uid: Some(0),
            restart: true,
            ..AddOptions::default()
        };
        assert_eq!(
            add(901, &options).join(" "),
            "lxc-gpu-conf add 901 --gpu 0,1 --uid 0 --libs=utility --restart"
        );
        let options = RemoveOptions { nodes: vec!["/dev/nvidia7".into()], ..Default::default() };
        assert_eq!(remove(7, &options).join(" "), "lxc-gpu-conf remove 7 --node /dev/nvidia7");
    }
}
