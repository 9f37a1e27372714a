//! Properties of configuration and plan, over generated files.

use proptest::prelude::*;

use crate::config::access::Access;
use crate::config::device_rules::NodeOpening;
use crate::plan::add_nodes::give;
use crate::plan::model::{ConfigPlan, ContainerFacts, DesiredAccess, HostNode, NodeStyle, Refusal};
use crate::plan::remove_nodes::{Removal, remove_nodes};
use crate::plan::tests::{container, host_node, numbers};
use pve::{Conf, Section};

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0u32..300, prop::sample::select(vec!["/dev/a", "/dev/nvidia0", "/dev/dri/card0,gid=44"]))
            .prop_map(|(n, path)| format!("dev{n}: {path}")),
        3 => "(arch|cores|hostname|memory|net0|zzz): [ -~]{0,12}",
        2 => prop::sample::select(vec![
            "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file",
            "lxc.mount.entry = /dev/nvidia-uvm dev/nvidia-uvm none bind",
            "lxc.cgroup2.devices.allow: c 195:* rwm",
            "lxc.cgroup2.devices.allow: c 511:0 rw",
            "lxc.cgroup2.devices.allow: c 10:229 rwm",
            "lxc.cgroup.devices.allow: c 195:* rwm",
        ]).prop_map(str::to_string),
        2 => "lxc\\.(cap\\.drop|mount\\.entry|idmap|cgroup2\\.devices\\.(allow|deny))( ?=|:) ?[ -~]{0,20}",
        2 => "#[ -~]{0,20}",
        1 => "\\[(pve:pending|[a-z]{1,6}|special:x)\\]",
        1 => "delete: dev[0-9],dev[0-9]",
        1 => "[ \t]*",
        1 => "[ -~\u{80}-\u{ff}]{0,20}",
    ]
}

prop_compose! {
    fn file()(
        lines in prop::collection::vec((line(), prop::bool::weighted(0.1)), 0..60),
        end in any::<bool>(),
    ) -> String {
        let mut text = String::new();
        for (line, crlf) in lines {
            text.push_str(&line);
            text.push_str(if crlf { "\r\n" } else { "\n" });
        }
        if !end && text.ends_with('\n') {
            text.pop();
        }
        text
    }
}

fn nodes() -> Vec<HostNode> {
    let mut nodes: Vec<HostNode> = Vec::new();
    let caps = [12, 13].map(|minor| nvidia::NodeSpec {
        path: nvidia::cap_path(minor),
        class: nvidia::NodeClass::Cap(minor),
        required: true,
    });
    for spec in [0, 3].into_iter().flat_map(nvidia::gpu_nodes).chain(caps) {
        if !nodes.iter().any(|n| n.spec.path == spec.path) {
            nodes.push(host_node(spec));
        }
    }
    nodes
}

fn plan(conf: &Conf, container: &ContainerFacts, style: NodeStyle) -> Result<ConfigPlan, Refusal> {
    let target = DesiredAccess { nodes: nodes(), ..DesiredAccess::default() };
    let mut plan = ConfigPlan::of(conf);
    give(&mut plan, container, &target, style, &numbers())?;
    Ok(plan)
}

fn all_removed(conf: &Conf, container: &ContainerFacts) -> Result<Conf, Refusal> {
    let mut plan = ConfigPlan::of(conf);
    let removal = Removal { all: true, libraries: true, ..Removal::default() };
    remove_nodes(&mut plan, container, &removal, &numbers())?;
    Ok(plan.conf)
}

/// The lines of `before` are those of `after` in their order, but for what was
/// added; gives what was added.
fn added(before: &[u8], after: &[u8]) -> Option<Vec<String>> {
    let mut rest = before.split(|b| *b == b'\n').peekable();
    let mut added = Vec::new();
    for line in after.split(|b| *b == b'\n') {
        if rest.peek() == Some(&line) {
            rest.next();
        } else {
            added.push(String::from_utf8_lossy(line).into_owned());
        }
    }
    rest.all(<[u8]>::is_empty).then_some(added)
}

fn opening(node: &HostNode) -> NodeOpening<'_> {
    let (path, access) = (&node.spec.path, node.spec.class.access());
    NodeOpening { path, major: node.major, minor: node.minor, access }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parsing_loses_no_byte(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert_eq!(Conf::parse(&bytes).bytes(), bytes);
    }

    #[test]
    fn a_plan_only_adds_lines_to_the_main_section(
        text in file(), unprivileged in any::<bool>(), mount in any::<bool>(),
    ) {
        let bytes = text.into_bytes();
        let conf = Conf::parse(&bytes);
        let unprivileged = unprivileged || pve::is_unprivileged(&conf);
        let container = container(unprivileged);
        let style = if mount { NodeStyle::Mount } else { NodeStyle::Dev };
        let Ok(first) = plan(&conf, &container, style) else { return Ok(()) };
        let after = first.conf.bytes();
        // what was there stays, in its order
        let new = added(&bytes, &after);
        prop_assert!(new.is_some(), "{}", String::from_utf8_lossy(&after));
        // read again it is the same, and sections other than the main one are as before
        let again = Conf::parse(&after);
        prop_assert_eq!(&again, &first.conf);
        prop_assert_eq!(again.keys(&Section::Pending), conf.keys(&Section::Pending));
        for name in conf.snapshots() {
            let section = Section::Snapshot(name.to_string());
            prop_assert_eq!(again.keys(&section), conf.keys(&section));
        }
        // every node is given, none twice, and once done there is nothing to do
        let mut access = Access::of(&again);
        access.unprivileged = unprivileged;
        for node in nodes() {
            let path = &node.spec.path;
            prop_assert!(access.dev(path).is_some() != access.mounted(path).is_some(), "{path}");
            let opening = opening(&node);
            let opens = match mount {
                true => access.opening(&opening),
                false => access.opening_as_dev(&opening),
            };
            prop_assert!(opens.is_ok(), "{} may not be opened: {opens:?}", path);
        }
        let second = plan(&again, &container, style);
        prop_assert!(second.as_ref().is_ok_and(|p| !p.changes()));
        prop_assert_eq!(second.unwrap().conf.bytes(), after);
    }

    #[test]
    fn what_was_added_can_be_removed_to_the_byte(
        text in file(), unprivileged in any::<bool>(), mount in any::<bool>(),
    ) {
        let conf = Conf::parse(text.as_bytes());
        let container = container(unprivileged);
        let style = if mount { NodeStyle::Mount } else { NodeStyle::Dev };
        // what had a GPU before has none after; the rest is as it was
        let Ok(before) = all_removed(&conf, &container) else { return Ok(()) };
        let Ok(first) = plan(&before, &container, style) else { return Ok(()) };
        let after = all_removed(&first.conf, &container).unwrap();
        let text = |conf: &Conf| String::from_utf8_lossy(&conf.bytes()).into_owned();
        prop_assert_eq!(text(&after), text(&before));
        prop_assert_eq!(&after, &before);
    }

    #[test]
    fn removal_leaves_every_line_that_is_not_ours(
        text in file(), unprivileged in any::<bool>(),
    ) {
        let conf = Conf::parse(text.as_bytes());
        let container = container(unprivileged);
        let Ok(after) = all_removed(&conf, &container) else { return Ok(()) };
        let gone = added(&after.bytes(), &conf.bytes());
        prop_assert!(gone.is_some(), "a line moved or is new");
        let keys = conf.keys(&Section::Main);
        for line in gone.unwrap() {
            // a line that another of its key hides would come into force
            let key = line.split(':').next().unwrap();
            if keys.get(key).is_some_and(|value| value.contains("/dev/nvidia")) {
                continue;
            }
            let ours = ["/dev/nvidia", "c 195:", "c 511:", "c 236:"].iter().any(|s| line.contains(s));
            prop_assert!(ours, "'{line}' was not ours");
        }
        prop_assert!(!Access::of(&after).has_nvidia());
        for name in conf.snapshots() {
            let section = Section::Snapshot(name.to_string());
            prop_assert_eq!(after.keys(&section), conf.keys(&section));
            let lxc: Vec<_> = after.lxc_in(&section).collect();
            prop_assert_eq!(lxc, conf.lxc_in(&section).collect::<Vec<_>>());
        }
    }
}
