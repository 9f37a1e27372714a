//! Properties of configuration and plan, over generated files.

use proptest::prelude::*;

use crate::access::Access;
use crate::plan::{Container, HostNode, Style, plan};
use pve::{Conf, Section};

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0u32..300, prop::sample::select(vec!["/dev/a", "/dev/nvidia0", "/dev/dri/card0,gid=44"]))
            .prop_map(|(n, path)| format!("dev{n}: {path}")),
        3 => "(arch|cores|hostname|memory|net0|zzz): [ -~]{0,12}",
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
    let mut nodes = Vec::new();
    for minor in [0, 3] {
        for spec in nvidia::gpu_nodes(minor) {
            let numbers = (
                if spec.class.driver().is_some() { 511 } else { 195 },
                spec.class.minor().unwrap(),
            );
            if !nodes.iter().any(|n: &HostNode| n.spec.path == spec.path) {
                nodes.push(HostNode { spec, major: numbers.0, minor: numbers.1 });
            }
        }
    }
    nodes
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
        let container = Container { ctid: 901, unprivileged };
        let style = if mount { Style::Mount } else { Style::Dev };
        let Ok(first) = plan(&conf, container, &nodes(), style) else { return Ok(()) };
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
        let access = Access::of(&again);
        for node in nodes() {
            let path = &node.spec.path;
            prop_assert!(access.dev(path).is_some() != access.mount(path).is_some(), "{path}");
            let pve_rule = !mount && !access.wipes_dev_rules();
            prop_assert!(
                pve_rule || access.allows(path, node.major, node.minor, unprivileged)
                    || (mount && unprivileged),
                "{} may not be opened", path
            );
        }
        let second = plan(&again, container, &nodes(), style);
        prop_assert!(second.as_ref().is_ok_and(|p| p.steps.iter().all(|s| s.there)));
        prop_assert_eq!(second.unwrap().conf.bytes(), after);
    }
}
