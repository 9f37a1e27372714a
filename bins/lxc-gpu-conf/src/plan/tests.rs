//! What is planned for given configurations.

use std::collections::{BTreeMap, BTreeSet};

use advice::external::pct_revert;
use nvidia::gpu_nodes;
use pve::Conf;

use crate::config::access::Access;
use crate::config::device_numbers::{DeviceNumbers, MountedNode};
use crate::config::stale_rules::stale_rules;
use crate::host_facts::check_numbers;
use crate::plan::add_nodes::*;
use crate::plan::model::*;
use crate::plan::remove_nodes::*;
use crate::plan::repair::*;

pub(crate) fn host_node(spec: nvidia::NodeSpec) -> HostNode {
    let minor = spec.class.minor().unwrap();
    let major = match spec.class.driver() {
        Some("nvidia-uvm") => 511,
        Some(_) => 236,
        None => 195,
    };
    let mode = if spec.class.access() == "r" { "0444" } else { "0666" };
    let options = NodeOptions { mode: mode.into(), ..NodeOptions::default() };
    HostNode { spec, major, minor, options }
}

fn nodes() -> Vec<HostNode> {
    gpu_nodes(0).into_iter().map(host_node).collect()
}

pub(crate) fn numbers() -> DeviceNumbers {
    DeviceNumbers {
        drivers: BTreeMap::from([("nvidia-uvm", 511), ("nvidia-caps", 236)]),
        ..DeviceNumbers::default()
    }
}

pub(crate) fn container(unprivileged: bool) -> ContainerFacts {
    ContainerFacts { ctid: 901, unprivileged, ..ContainerFacts::default() }
}

fn target() -> DesiredAccess {
    DesiredAccess { nodes: nodes(), ..DesiredAccess::default() }
}

fn give_to(
    text: &str,
    unprivileged: bool,
    style: NodeStyle,
    target: &DesiredAccess,
) -> Result<ConfigPlan, Refusal> {
    let conf = Conf::parse(text.as_bytes());
    let mut plan = ConfigPlan::of(&conf);
    give(&mut plan, &container(unprivileged), target, style, &numbers())?;
    Ok(plan)
}

fn text_of(plan: &ConfigPlan) -> String {
    String::from_utf8(plan.conf.bytes()).unwrap()
}

fn planned(text: &str, unprivileged: bool, style: NodeStyle) -> Result<String, Refusal> {
    let first = text_of(&give_to(text, unprivileged, style, &target())?);
    // a second plan has nothing to do
    let second = give_to(&first, unprivileged, style, &target())?;
    assert!(!second.changes(), "{:?}", second.steps);
    assert_eq!(text_of(&second), first);
    Ok(first)
}

#[test]
fn dev_entries_take_free_indices_of_main_and_pending() {
    let text =
        "arch: amd64\ndev0: /dev/a\ndev3: /dev/b\nhostname: x\n\n[pve:pending]\ndev1: /dev/c\n";
    assert_eq!(
        planned(text, true, NodeStyle::Dev).unwrap(),
        "arch: amd64\ndev0: /dev/a\ndev2: /dev/nvidia0,mode=0666\ndev3: /dev/b\n\
         dev4: /dev/nvidiactl,mode=0666\ndev5: /dev/nvidia-uvm,mode=0666\n\
         dev6: /dev/nvidia-uvm-tools,mode=0666\ndev7: /dev/nvidia-modeset,mode=0666\n\
         hostname: x\n\n[pve:pending]\ndev1: /dev/c\n"
    );
}

#[test]
fn an_index_that_is_about_to_be_deleted_is_not_free() {
    let text = "arch: amd64\n[pve:pending]\ndelete: dev0, !dev1;dev2\n";
    let after = planned(text, true, NodeStyle::Dev).unwrap();
    assert!(after.contains("dev3: /dev/nvidia0") && !after.contains("dev0: "), "{after}");
}

#[test]
fn an_unprivileged_container_needs_no_rules_and_a_privileged_one_exact_ones() {
    let unprivileged = planned("arch: amd64\nunprivileged: 1\n", true, NodeStyle::Mount).unwrap();
    assert_eq!(unprivileged.matches("lxc.mount.entry").count(), 5);
    assert!(!unprivileged.contains("cgroup2"));
    let privileged = planned("arch: amd64\n", false, NodeStyle::Mount).unwrap();
    for rule in ["c 195:0 rw", "c 195:255 rw", "c 195:254 rw", "c 511:0 rw", "c 511:1 rw"] {
        assert!(privileged.contains(&format!("lxc.cgroup2.devices.allow: {rule}\n")), "{rule}");
    }
}

#[test]
fn a_hand_made_block_gets_what_it_lacks() {
    let text = "arch: amd64\nlxc.cgroup2.devices.allow: c 195:* rwm\n\
        lxc.cgroup2.devices.allow: c 509:* rwm\n\
        lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n";
    let after = planned(text, false, NodeStyle::Mount).unwrap();
    assert!(after.starts_with(text));
    assert!(after.contains("allow: c 511:0 rw\n") && !after.contains("allow: c 195:0 rw\n"));
    assert_eq!(after.matches("/dev/nvidia0 ").count(), 1);
}

#[test]
fn one_target_is_never_given_twice() {
    let mounted = "lxc.mount.entry: /dev/nvidiactl dev/nvidiactl none bind\n";
    assert_eq!(planned(mounted, true, NodeStyle::Dev).unwrap_err().property, "lxc.mount.entry");
    let dev = "dev0: /dev/nvidiactl\n";
    assert_eq!(planned(dev, true, NodeStyle::Mount).unwrap_err().property, "dev0");
}

#[test]
fn a_deny_that_discards_our_rules_is_refused() {
    let deny = "lxc.cgroup2.devices.deny: a\n";
    assert_eq!(
        planned(deny, true, NodeStyle::Dev).unwrap_err().property,
        "lxc.cgroup2.devices.deny"
    );
    let open = format!("{deny}lxc.cgroup2.devices.allow: c *:* rwm\n");
    assert!(planned(&open, true, NodeStyle::Dev).is_ok());
}

#[test]
fn a_full_container_is_refused() {
    let text: String = (0..254).map(|n| format!("dev{n}: /dev/x{n}\n")).collect();
    assert_eq!(planned(&text, true, NodeStyle::Dev).unwrap_err().property, "dev255");
}

#[test]
fn auto_keeps_the_present_style() {
    let style = |text: &str, has| auto_style(&Access::of(&Conf::parse(text.as_bytes())), has);
    assert_eq!(style("", true), NodeStyle::Dev);
    assert_eq!(style("", false), NodeStyle::Mount);
    let mounted = "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind\n";
    assert_eq!(style(mounted, true), NodeStyle::Mount);
    assert_eq!(style("lxc.mount.entry: /dev/fuse dev/fuse none bind\n", true), NodeStyle::Dev);
}

#[test]
fn stale_numbers_are_found() {
    let specs = gpu_nodes(1);
    assert!(check_numbers(specs[0].class, 195, 1, None).is_ok());
    assert!(check_numbers(specs[0].class, 195, 0, None).unwrap_err().contains("uses 195:1"));
    assert!(check_numbers(specs[2].class, 509, 0, Some(511)).unwrap_err().contains("uses 511:0"));
    assert!(check_numbers(specs[2].class, 511, 0, None).unwrap_err().contains("nvidia-uvm"));
}

fn remove_from(text: &str, removal: &Removal) -> Result<String, Refusal> {
    let mut plan = ConfigPlan::of(&Conf::parse(text.as_bytes()));
    remove_nodes(&mut plan, &container(false), removal, &numbers())?;
    Ok(text_of(&plan))
}

#[test]
fn removing_all_removes_nodes_rules_and_what_cgroup_v1_left() {
    let kept = "arch: amd64\ndev3: /dev/ttyUSB0\nlxc.cgroup2.devices.allow: c 10:200 rwm\n\
        lxc.mount.entry: /dev/fuse dev/fuse none bind\n";
    let text = "arch: amd64\ndev0: /dev/nvidia0\ndev3: /dev/ttyUSB0\n\
        lxc.cgroup2.devices.allow: c 195:* rwm\nlxc.cgroup2.devices.allow: c 509:* rwm\n\
        lxc.cgroup2.devices.allow: c 10:200 rwm\nlxc.cgroup.devices.allow: c 508:* rwm\n\
        lxc.cgroup2.devices.allow: /dev/nvidiactl rw\n\
        lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind,optional,create=file\n\
        lxc.mount.entry: /dev/fuse dev/fuse none bind\n[snap]\ndev0: /dev/nvidia0\n";
    let all = Removal { all: true, libraries: true, ..Removal::default() };
    let snapshot = "[snap]\ndev0: /dev/nvidia0\n";
    // the major of a single rule may be another device's
    let unknown = "lxc.cgroup2.devices.allow: c 509:* rwm\n";
    let expected = kept.replace("lxc.cgroup2", &format!("{unknown}lxc.cgroup2"));
    assert_eq!(remove_from(text, &all).unwrap(), expected + snapshot);
    let pair = "lxc.cgroup2.devices.allow: c 509:0 rw\nlxc.cgroup2.devices.allow: c 509:1 rw\n";
    let own = text.replace(unknown, pair);
    assert_eq!(remove_from(&own, &all).unwrap(), format!("{kept}{snapshot}"));
}

#[test]
fn one_gpu_is_removed_with_its_own_numbers_only() {
    let text = "dev0: /dev/nvidia0\ndev1: /dev/nvidia1\ndev2: /dev/nvidiactl\n\
        lxc.cgroup2.devices.allow: c 195:1 rw\nlxc.cgroup2.devices.allow: c 195:* rwm\n";
    let paths = BTreeMap::from([("/dev/nvidia1".to_string(), Some((195, 1)))]);
    let one = Removal { paths, ..Removal::default() };
    assert_eq!(
        remove_from(text, &one).unwrap(),
        "dev0: /dev/nvidia0\ndev2: /dev/nvidiactl\nlxc.cgroup2.devices.allow: c 195:* rwm\n"
    );
}

#[test]
fn what_a_pending_change_gives_is_not_removed() {
    let all = Removal { all: true, ..Removal::default() };
    let text = "arch: a\n[pve:pending]\ndev4: /dev/nvidia0\n";
    let refusal = remove_from(text, &all).unwrap_err();
    assert_eq!(refusal.hint.commands, [pct_revert(901, "dev4")]);
    // a pending deletion does not matter
    let text = "arch: a\ndev4: /dev/nvidia0\n[pve:pending]\ndelete: dev4\n";
    assert_eq!(remove_from(text, &all).unwrap(), text);
}

#[test]
fn a_stale_rule_is_one_that_is_proven_to_be_nvidias() {
    let mounts = "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind\n\
        lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind\n";
    let stale = |text: &str, numbers: &DeviceNumbers| -> Vec<String> {
        let access = Access::of(&Conf::parse(text.as_bytes()));
        stale_rules(&access, numbers).into_iter().map(|rule| rule.text).collect()
    };
    let rule = |value: &str| format!("lxc.cgroup2.devices.allow: {value}\n");
    let old = format!("{mounts}{}", rule("c 509:* rwm"));
    // a number does not show which driver had it, but memory does
    assert!(stale(&old, &numbers()).is_empty());
    let remembered = BTreeSet::from(["c 509:* rwm".to_string()]);
    let known = DeviceNumbers { remembered, ..numbers() };
    assert_eq!(stale(&old, &known), ["c 509:* rwm"]);
    assert_eq!(stale(&format!("{old}{}", rule("c 511:0 rw")), &known), ["c 509:* rwm"]);
    // not where a node of the container has the major, nor while the driver is not loaded
    let others = DeviceNumbers { others: BTreeSet::from([509]), ..known.clone() };
    assert!(stale(&old, &others).is_empty());
    let unloaded = DeviceNumbers { drivers: BTreeMap::new(), ..known };
    assert!(stale(&old, &unloaded).is_empty());
    // and so does the pair of this tool, where the present major has no rule
    let pair = |major: u32| rule(&format!("c {major}:0 rw")) + &rule(&format!("c {major}:1 rw"));
    let own = format!("{mounts}{}", pair(509));
    assert_eq!(stale(&own, &numbers()), ["c 509:0 rw", "c 509:1 rw"]);
    assert!(stale(&format!("{own}{}", rule("c 511:0 rw")), &numbers()).is_empty());
    assert!(stale(&pair(509), &numbers()).is_empty());
    assert!(stale(&format!("{own}{}", pair(240)), &numbers()).is_empty());
}

#[test]
fn repair_replaces_the_rule_where_rules_have_an_effect() {
    let text = "lxc.cgroup2.devices.allow: c 195:* rwm\nlxc.cgroup2.devices.allow: c 509:* rwm\n\
        lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind\n\
        lxc.mount.entry: /dev/nvidia-uvm-tools dev/nvidia-uvm-tools none bind\n";
    let repaired = |unprivileged, text: &str, remembered: &[&str]| {
        let mut plan = ConfigPlan::of(&Conf::parse(text.as_bytes()));
        let mounted = |path: &str, minor| MountedNode {
            path: path.into(),
            numbers: (511, minor),
            access: "rw",
            alone: true,
        };
        let mounted = vec![mounted("/dev/nvidia-uvm", 0), mounted("/dev/nvidia-uvm-tools", 1)];
        let remembered = remembered.iter().map(|rule| (*rule).to_string()).collect();
        let numbers = DeviceNumbers { mounted, remembered, ..numbers() };
        repair_rules(&mut plan, &container(unprivileged), &numbers);
        text_of(&plan)
    };
    let without = text.replace("lxc.cgroup2.devices.allow: c 509:* rwm\n", "");
    let added = "lxc.cgroup2.devices.allow: c 511:0 rw\nlxc.cgroup2.devices.allow: c 511:1 rw\n";
    let own = ["c 509:* rwm"];
    assert_eq!(repaired(true, text, &own), without);
    assert_eq!(repaired(false, text, &own), format!("{without}{added}"));
    // without memory a major may be another device's, but a pair of this form is not
    assert_eq!(repaired(true, text, &[]), text);
    assert_eq!(repaired(false, text, &[]), format!("{text}{added}"));
    let pair = text.replace("c 509:* rwm", "c 509:0 rw\nlxc.cgroup2.devices.allow: c 509:1 rw");
    assert_eq!(repaired(false, &pair, &[]), format!("{without}{added}"));
    let single = text.replace("c 509:* rwm", "c 509:0 rw");
    assert_eq!(repaired(false, &single, &[]), format!("{single}{added}"));
}

#[test]
fn a_hand_made_block_becomes_dev() {
    let text = "#note\narch: amd64\nunprivileged: 1\nlxc.cgroup2.devices.allow: c 195:* rwm\n\
        lxc.cgroup2.devices.allow: c 509:* rwm\nlxc.cgroup.devices.allow: c 235:* rwm\n\
        lxc.cgroup2.devices.allow: c 226:* rwm\n\
        lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n\
        lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind,optional,create=file\n\
        lxc.mount.entry: /dev/dri dev/dri none bind,optional,create=dir\n";
    let target = DesiredAccess { convert: true, ..target() };
    let plan = give_to(text, true, NodeStyle::Dev, &target).unwrap();
    assert_eq!(
        text_of(&plan),
        "#note\narch: amd64\ndev0: /dev/nvidia0,mode=0666\ndev1: /dev/nvidiactl,mode=0666\n\
         dev2: /dev/nvidia-uvm,mode=0666\ndev3: /dev/nvidia-uvm-tools,mode=0666\n\
         dev4: /dev/nvidia-modeset,mode=0666\nunprivileged: 1\n\
         lxc.cgroup2.devices.allow: c 509:* rwm\n\
         lxc.cgroup2.devices.allow: c 226:* rwm\n\
         lxc.mount.entry: /dev/dri dev/dri none bind,optional,create=dir\n"
    );
}

#[test]
fn two_gpus_that_exchanged_numbers_are_renumbered_at_once() {
    let names = BTreeMap::from([
        ("/dev/nvidia0".to_string(), "/dev/nvidia1".to_string()),
        ("/dev/nvidia1".to_string(), "/dev/nvidia0".to_string()),
    ]);
    let rules = BTreeMap::from([((195, 0), (195, 1)), ((195, 1), (195, 0))]);
    let text = "dev0: /dev/nvidia0,mode=0660\ndev1: /dev/nvidia1\n\
        lxc.cgroup2.devices.allow: c 195:0 rw\n\
        lxc.mount.entry: /dev/nvidia1 dev/nvidia1 none bind,optional,create=file\n";
    let mut plan = ConfigPlan::of(&Conf::parse(text.as_bytes()));
    renumber(&mut plan, &names, &rules);
    assert_eq!(
        text_of(&plan),
        "dev0: /dev/nvidia1,mode=0660\ndev1: /dev/nvidia0\n\
         lxc.cgroup2.devices.allow: c 195:1 rw\n\
         lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n"
    );
}

#[test]
fn a_gpu_whose_new_number_is_given_already_is_not_given_twice() {
    let names = BTreeMap::from([("/dev/nvidia0".to_string(), "/dev/nvidia1".to_string())]);
    let mount = "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind\n";
    for text in ["dev0: /dev/nvidia0\n", mount] {
        let other = text.replace("nvidia0", "nvidia1").replace("dev0:", "dev1:");
        let mut plan = ConfigPlan::of(&Conf::parse(format!("{text}{other}").as_bytes()));
        renumber(&mut plan, &names, &BTreeMap::new());
        assert_eq!(text_of(&plan), other);
        assert_eq!(plan.steps.len(), 1);
    }
}

#[test]
fn owner_and_mode_change_only_when_requested() {
    let text = "dev0: /dev/nvidia0,uid=7\n";
    let after = planned(text, true, NodeStyle::Dev).unwrap();
    assert!(after.starts_with("dev0: /dev/nvidia0,uid=7\n"), "{after}");
    let options =
        NodeOptions { gid: Some(44), mode: "0660".into(), asked: true, ..NodeOptions::default() };
    let nodes = vec![HostNode { options, ..nodes().remove(0) }];
    let target = DesiredAccess { nodes, ..DesiredAccess::default() };
    let plan = give_to(text, true, NodeStyle::Dev, &target).unwrap();
    assert_eq!(text_of(&plan), "dev0: /dev/nvidia0,gid=44,mode=0660,uid=7\n");
}

#[test]
fn libraries_of_another_version_are_replaced() {
    let dir = "/usr/lib/x86_64-linux-gnu";
    let file = |source: &str, name: &str| FileMount {
        source: format!("{dir}/{source}"),
        target: format!("{dir}/{name}"),
    };
    let files = vec![
        file("libcuda.so.2.0.0", "libcuda.so.2.0.0"),
        file("libcuda.so.2.0.0", "libcuda.so.1"),
    ];
    let target = DesiredAccess { files: Some(files), ..DesiredAccess::default() };
    let entry = |source: &str, name: &str| {
        format!(
            "lxc.mount.entry: {dir}/{source} usr/lib/x86_64-linux-gnu/{name} none \
             bind,ro,optional,create=file\n"
        )
    };
    let old = entry("libcuda.so.1.0.0", "libcuda.so.1.0.0")
        + &entry("libcuda.so.1.0.0", "libcuda.so.1")
        + "lxc.mount.entry: /srv srv none bind\n";
    let after = text_of(&give_to(&old, true, NodeStyle::Dev, &target).unwrap());
    assert_eq!(
        after,
        entry("libcuda.so.2.0.0", "libcuda.so.1")
            + "lxc.mount.entry: /srv srv none bind\n"
            + &entry("libcuda.so.2.0.0", "libcuda.so.2.0.0")
    );
    let removal = Removal { libraries: true, ..Removal::default() };
    assert_eq!(remove_from(&after, &removal).unwrap(), "lxc.mount.entry: /srv srv none bind\n");
}
