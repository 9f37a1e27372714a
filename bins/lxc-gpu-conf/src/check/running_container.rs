//! Whether a running container has the nodes that its configuration gives.

use advice::external::pct_reboot;
use record::LxcStyle;

use crate::check::finding::{Cause, Finding};
use crate::config::given_nodes::ContainerView;

/// A running container keeps the nodes with which it was started.
pub fn check(view: &ContainerView<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(facts) = view.facts else { return found };
    let Some(pid) = facts.init_pid(view.guest.ctid) else { return found };
    let Ok(root) = facts.machine.container_root(&format!("/proc/{pid}/root")) else { return found };
    for given in view.given.iter().filter(|given| given.style != LxcStyle::Hook) {
        let host = facts.node(&given.node.path).filter(host::Node::is_char);
        let Some(host) = host else { continue };
        let Ok(inside) = root.node(&given.target) else { continue };
        let actual = match inside {
            Some(node) if (node.major, node.minor) == (host.major, host.minor) => continue,
            Some(node) if node.is_char() => Some(format!("{}:{}", node.major, node.minor)),
            Some(_) => Some("no device".into()),
            None => None,
        };
        let expected = format!("{}:{}", host.major, host.minor);
        let reason = match actual.as_deref() {
            None => format!("the running container does not have {}", given.target),
            Some("no device") => format!(
                "the running container has {} as something other than a device node",
                given.target
            ),
            Some(actual) => format!(
                "the running container has {} as {actual}; the host has {expected}",
                given.target
            ),
        };
        found.push(
            Finding {
                property: given.target.clone(),
                expected: Some(expected),
                actual,
                reason,
                ..Finding::error(Cause::NotRestarted)
            }
            .run(pct_reboot(view.guest.ctid)),
        );
    }
    found
}
