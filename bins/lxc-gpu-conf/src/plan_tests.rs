//! What is planned for given configurations.

use std::collections::{BTreeMap, BTreeSet};

use nvidia::gpu_nodes;
use pve::Conf;

use crate::access::Access;
use crate::plan::*;

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

pub(crate) fn numbers() -> Numbers {
    Numbers {
        drivers: BTreeMap::from([("nvidia-uvm", 511), ("nvidia-caps", 236)]),
        ..Numbers::default()
    }
}

fn target() -> Target {
    Target { nodes: nodes(), ..Target::default() }
}

fn give_to(text: &str, unprivileged: bool, style: Style, target: &Target) -> Result<Plan, Refusal> {
    let conf = Conf::parse(text.as_bytes());
    let container = Container { ctid: 901, unprivileged };
    let mut plan = Plan::of(&conf);
    give(&mut plan, container, target, style, &numbers())?;
    Ok(plan)
}

fn text_of(plan: &Plan) -> String {
    String::from_utf8(plan.conf.bytes()).unwrap()
}

fn planned(text: &str, unprivileged: bool, style: Style) -> Result<String, Refusal> {
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
        planned(text, true, Style::Dev).unwrap(),
        "arch: amd64\ndev0: /dev/a\ndev2: /dev/nvidia0,mode=0666\ndev3: /dev/b\n\
         dev4: /dev/nvidiactl,mode=0666\ndev5: /dev/nvidia-uvm,mode=0666\n\
         dev6: /dev/nvidia-uvm-tools,mode=0666\ndev7: /dev/nvidia-modeset,mode=0666\n\
         hostname: x\n\n[pve:pending]\ndev1: /dev/c\n"
    );
}

#[test]
fn an_index_that_is_about_to_be_deleted_is_not_free() {
    let text = "arch: amd64\n[pve:pending]\ndelete: dev0, !dev1;dev2\n";
    let after = planned(text, true, Style::Dev).unwrap();
    assert!(after.contains("dev3: /dev/nvidia0") && !after.contains("dev0: "), "{after}");
}

#[test]
fn an_unprivileged_container_needs_no_rules_and_a_privileged_one_exact_ones() {
    let unprivileged = planned("arch: amd64\nunprivileged: 1\n", true, Style::Mount).unwrap();
    assert_eq!(unprivileged.matches("lxc.mount.entry").count(), 5);
    assert!(!unprivileged.contains("cgroup2"));
    let privileged = planned("arch: amd64\n", false, Style::Mount).unwrap();
    for rule in ["c 195:0 rw", "c 195:255 rw", "c 195:254 rw", "c 511:0 rw", "c 511:1 rw"] {
        assert!(privileged.contains(&format!("lxc.cgroup2.devices.allow: {rule}\n")), "{rule}");
    }
}

#[test]
fn a_hand_made_block_gets_what_it_lacks() {
    let text = "arch: amd64\nlxc.cgroup2.devices.allow: c 195:* rwm\n\
        lxc.cgroup2.devices.allow: c 509:* rwm\n\
        lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n";
    let after = planned(text, false, Style::Mount).unwrap();
    assert!(after.starts_with(text));
    assert!(after.contains("allow: c 511:0 rw\n") && !after.contains("allow: c 195:0 rw\n"));
    assert_eq!(after.matches("/dev/nvidia0 ").count(), 1);
}

#[test]
fn one_target_is_never_given_twice() {
    let mounted = "lxc.mount.entry: /dev/nvidiactl dev/nvidiactl none bind\n";
    assert_eq!(planned(mounted, true, Style::Dev).unwrap_err().property, "lxc.mount.entry");
    let dev = "dev0: /dev/nvidiactl\n";
    assert_eq!(planned(dev, true, Style::Mount).unwrap_err().property, "dev0");
}

#[test]
fn a_deny_that_wipes_our_rules_is_refused() {
    let deny = "lxc.cgroup2.devices.deny: a\n";
    assert_eq!(planned(deny, true, Style::Dev).unwrap_err().property, "lxc.cgroup2.devices.deny");
    let open = format!("{deny}lxc.cgroup2.devices.allow: c *:* rwm\n");
    assert!(planned(&open, true, Style::Dev).is_ok());
}

#[test]
fn a_full_container_is_refused() {
    let text: String = (0..254).map(|n| format!("dev{n}: /dev/x{n}\n")).collect();
    assert_eq!(planned(&text, true, Style::Dev).unwrap_err().property, "dev255");
}

#[test]
fn auto_keeps_to_what_is_there() {
    let style = |text: &str, has| auto_style(&Access::of(&Conf::parse(text.as_bytes())), has);
    assert_eq!(style("", true), Style::Dev);
    assert_eq!(style("", false), Style::Mount);
    let mounted = "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind\n";
    assert_eq!(style(mounted, true), Style::Mount);
    assert_eq!(style("lxc.mount.entry: /dev/fuse dev/fuse none bind\n", true), Style::Dev);
}

#[test]
fn stale_numbers_are_told() {
    let specs = gpu_nodes(1);
    assert!(check_numbers(specs[0].class, 195, 1, None).is_ok());
    assert!(check_numbers(specs[0].class, 195, 0, None).unwrap_err().contains("195:1 now"));
    assert!(check_numbers(specs[2].class, 509, 0, Some(511)).unwrap_err().contains("511:0 now"));
    assert!(check_numbers(specs[2].class, 511, 0, None).unwrap_err().contains("nvidia-uvm"));
}

fn take_from(text: &str, taking: &Taking) -> Result<String, Refusal> {
    let mut plan = Plan::of(&Conf::parse(text.as_bytes()));
    take(&mut plan, Container { ctid: 901, unprivileged: false }, taking, &numbers())?;
    Ok(text_of(&plan))
}

#[test]
fn taking_all_takes_nodes_rules_and_what_cgroup_v1_left() {
    let kept = "arch: amd64\ndev3: /dev/ttyUSB0\nlxc.cgroup2.devices.allow: c 10:200 rwm\n\
        lxc.mount.entry: /dev/fuse dev/fuse none bind\n";
    let text = "arch: amd64\ndev0: /dev/nvidia0\ndev3: /dev/ttyUSB0\n\
        lxc.cgroup2.devices.allow: c 195:* rwm\nlxc.cgroup2.devices.allow: c 509:* rwm\n\
        lxc.cgroup2.devices.allow: c 10:200 rwm\nlxc.cgroup.devices.allow: c 508:* rwm\n\
        lxc.cgroup2.devices.allow: /dev/nvidiactl rw\n\
        lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind,optional,create=file\n\
        lxc.mount.entry: /dev/fuse dev/fuse none bind\n[snap]\ndev0: /dev/nvidia0\n";
    let all = Taking { all: true, userspace: true, ..Taking::default() };
    assert_eq!(take_from(text, &all).unwrap(), format!("{kept}[snap]\ndev0: /dev/nvidia0\n"));
}

#[test]
fn one_card_goes_with_its_own_numbers_only() {
    let text = "dev0: /dev/nvidia0\ndev1: /dev/nvidia1\ndev2: /dev/nvidiactl\n\
        lxc.cgroup2.devices.allow: c 195:1 rw\nlxc.cgroup2.devices.allow: c 195:* rwm\n";
    let paths = BTreeMap::from([("/dev/nvidia1".to_string(), Some((195, 1)))]);
    let one = Taking { paths, ..Taking::default() };
    assert_eq!(
        take_from(text, &one).unwrap(),
        "dev0: /dev/nvidia0\ndev2: /dev/nvidiactl\nlxc.cgroup2.devices.allow: c 195:* rwm\n"
    );
}

#[test]
fn what_a_pending_change_gives_is_not_ours_to_take() {
    let all = Taking { all: true, ..Taking::default() };
    let text = "arch: a\n[pve:pending]\ndev4: /dev/nvidia0\n";
    let refusal = take_from(text, &all).unwrap_err();
    assert!(refusal.hint.contains("pct set 901 --revert dev4"), "{refusal:?}");
    // one that goes anyway is no hindrance
    let text = "arch: a\ndev4: /dev/nvidia0\n[pve:pending]\ndelete: dev4\n";
    assert_eq!(take_from(text, &all).unwrap(), text);
}

#[test]
fn a_rule_of_before_is_known_by_what_lacks_one() {
    let mounts = "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind\n\
        lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind\n";
    let stale = |text: &str, numbers: &Numbers| -> Vec<String> {
        let access = Access::of(&Conf::parse(text.as_bytes()));
        stale_rules(&access, numbers).into_iter().map(|rule| rule.text).collect()
    };
    let rule = |value: &str| format!("lxc.cgroup2.devices.allow: {value}\n");
    let old = format!("{mounts}{}", rule("c 509:* rwm"));
    assert_eq!(stale(&old, &numbers()), ["c 509:* rwm"]);
    // with a rule for the major of now the other one is somebody's
    assert!(stale(&format!("{old}{}", rule("c 511:0 rw")), &numbers()).is_empty());
    // and so is one that a node of the container has
    let others = Numbers { others: BTreeSet::from([509]), ..numbers() };
    assert!(stale(&old, &others).is_empty());
    // fixed majors are nobody's of NVIDIA's, and of two numbers neither is known
    assert!(stale(&format!("{mounts}{}", rule("c 226:* rwm")), &numbers()).is_empty());
    assert!(stale(&format!("{old}{}", rule("c 240:* rwm")), &numbers()).is_empty());
    assert!(stale(&rule("c 509:* rwm"), &numbers()).is_empty());
}

#[test]
fn repair_replaces_the_rule_where_rules_count() {
    let text = "lxc.cgroup2.devices.allow: c 195:* rwm\nlxc.cgroup2.devices.allow: c 509:* rwm\n\
        lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind\n\
        lxc.mount.entry: /dev/nvidia-uvm-tools dev/nvidia-uvm-tools none bind\n";
    let repaired = |unprivileged| {
        let mut plan = Plan::of(&Conf::parse(text.as_bytes()));
        let mounted =
            |path: &str, minor| Mounted { path: path.into(), numbers: (511, minor), access: "rw" };
        let mounted = vec![mounted("/dev/nvidia-uvm", 0), mounted("/dev/nvidia-uvm-tools", 1)];
        let numbers = Numbers { mounted, ..numbers() };
        repair(&mut plan, Container { ctid: 901, unprivileged }, &numbers);
        text_of(&plan)
    };
    let without = text.replace("lxc.cgroup2.devices.allow: c 509:* rwm\n", "");
    assert_eq!(repaired(true), without);
    assert_eq!(
        repaired(false),
        format!(
            "{without}lxc.cgroup2.devices.allow: c 511:0 rw\nlxc.cgroup2.devices.allow: c 511:1 rw\n"
        )
    );
}

#[test]
fn a_hand_made_block_becomes_dev() {
    let text = "#note\narch: amd64\nunprivileged: 1\nlxc.cgroup2.devices.allow: c 195:* rwm\n\
        lxc.cgroup2.devices.allow: c 509:* rwm\nlxc.cgroup.devices.allow: c 235:* rwm\n\
        lxc.cgroup2.devices.allow: c 226:* rwm\n\
        lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n\
        lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind,optional,create=file\n\
        lxc.mount.entry: /dev/dri dev/dri none bind,optional,create=dir\n";
    let target = Target { convert: true, ..target() };
    let plan = give_to(text, true, Style::Dev, &target).unwrap();
    assert_eq!(
        text_of(&plan),
        "#note\narch: amd64\ndev0: /dev/nvidia0,mode=0666\ndev1: /dev/nvidiactl,mode=0666\n\
         dev2: /dev/nvidia-uvm,mode=0666\ndev3: /dev/nvidia-uvm-tools,mode=0666\n\
         dev4: /dev/nvidia-modeset,mode=0666\nunprivileged: 1\n\
         lxc.cgroup2.devices.allow: c 226:* rwm\n\
         lxc.mount.entry: /dev/dri dev/dri none bind,optional,create=dir\n"
    );
}

#[test]
fn two_cards_that_changed_places_are_renumbered_at_once() {
    let names = BTreeMap::from([
        ("/dev/nvidia0".to_string(), "/dev/nvidia1".to_string()),
        ("/dev/nvidia1".to_string(), "/dev/nvidia0".to_string()),
    ]);
    let rules = BTreeMap::from([((195, 0), (195, 1)), ((195, 1), (195, 0))]);
    let text = "dev0: /dev/nvidia0,mode=0660\ndev1: /dev/nvidia1\n\
        lxc.cgroup2.devices.allow: c 195:0 rw\n\
        lxc.mount.entry: /dev/nvidia1 dev/nvidia1 none bind,optional,create=file\n";
    let mut plan = Plan::of(&Conf::parse(text.as_bytes()));
    renumber(&mut plan, &names, &rules);
    assert_eq!(
        text_of(&plan),
        "dev0: /dev/nvidia1,mode=0660\ndev1: /dev/nvidia0\n\
         lxc.cgroup2.devices.allow: c 195:1 rw\n\
         lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n"
    );
}

#[test]
fn a_card_that_takes_a_number_that_is_given_already_is_not_given_twice() {
    let names = BTreeMap::from([("/dev/nvidia0".to_string(), "/dev/nvidia1".to_string())]);
    let mount = "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind\n";
    for text in ["dev0: /dev/nvidia0\n", mount] {
        let other = text.replace("nvidia0", "nvidia1").replace("dev0:", "dev1:");
        let mut plan = Plan::of(&Conf::parse(format!("{text}{other}").as_bytes()));
        renumber(&mut plan, &names, &BTreeMap::new());
        assert_eq!(text_of(&plan), other);
        assert_eq!(plan.steps.len(), 1);
    }
}

#[test]
fn owner_and_mode_change_only_when_asked_for() {
    let text = "dev0: /dev/nvidia0,uid=7\n";
    let after = planned(text, true, Style::Dev).unwrap();
    assert!(after.starts_with("dev0: /dev/nvidia0,uid=7\n"), "{after}");
    let options =
        NodeOptions { gid: Some(44), mode: "0660".into(), asked: true, ..NodeOptions::default() };
    let nodes = vec![HostNode { options, ..nodes().remove(0) }];
    let target = Target { nodes, ..Target::default() };
    let plan = give_to(text, true, Style::Dev, &target).unwrap();
    assert_eq!(text_of(&plan), "dev0: /dev/nvidia0,gid=44,mode=0660,uid=7\n");
}

#[test]
fn libraries_of_another_version_make_room() {
    let dir = "/usr/lib/x86_64-linux-gnu";
    let file = |source: &str, name: &str| FileMount {
        source: format!("{dir}/{source}"),
        target: format!("{dir}/{name}"),
    };
    let files = vec![
        file("libcuda.so.2.0.0", "libcuda.so.2.0.0"),
        file("libcuda.so.2.0.0", "libcuda.so.1"),
    ];
    let target = Target { files: Some(files), ..Target::default() };
    let entry = |source: &str, name: &str| {
        format!(
            "lxc.mount.entry: {dir}/{source} usr/lib/x86_64-linux-gnu/{name} none \
             bind,ro,optional,create=file\n"
        )
    };
    let old = entry("libcuda.so.1.0.0", "libcuda.so.1.0.0")
        + &entry("libcuda.so.1.0.0", "libcuda.so.1")
        + "lxc.mount.entry: /srv srv none bind\n";
    let after = text_of(&give_to(&old, true, Style::Dev, &target).unwrap());
    assert_eq!(
        after,
        entry("libcuda.so.2.0.0", "libcuda.so.1")
            + "lxc.mount.entry: /srv srv none bind\n"
            + &entry("libcuda.so.2.0.0", "libcuda.so.2.0.0")
    );
    let taking = Taking { userspace: true, ..Taking::default() };
    assert_eq!(take_from(&after, &taking).unwrap(), "lxc.mount.entry: /srv srv none bind\n");
}
