//! nv-version-check on real containers: running ones are seen through their own
//! mount namespace, privileged or not, with Debian's own packages inside.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use lxcbed::Host;
use serde_json::Value;
use testbed::Ran;
use testbed::debian::DRIVER as DEBIAN;
use testbed::driver::{LIB, RootFs};

const TOOL: &str = "nv-version-check";
const GPU: &str = "dev0: /dev/nvidia0,mode=0666\ndev1: /dev/nvidiactl,mode=0666\n";

fn userspace(ran: &Ran, ctid: u32) -> Value {
    let subject = format!("ct {ctid}");
    let mut found =
        ran.of_type("check").filter(|r| r["subject"] == *subject && r["property"] == "userspace");
    found.next().unwrap_or_else(|| panic!("nothing of {subject}:\n{}", ran.stdout)).clone()
}

#[test]
fn running_containers_are_seen_through_their_own_mounts() {
    let host = Host::new("pve9-two-gpus");
    // the recorded host has loaded what Debian's packages carry
    for (ctid, unprivileged) in [(950, true), (951, false)] {
        let container = host.create(ctid, unprivileged);
        container.append(GPU);
        RootFs::new(container.at("")).debian_packages().ldconfig();
        container.start();
    }
    let ran = host.tool(TOOL).args("--ct 950 --ct 951").run();
    for ctid in [950, 951] {
        let seen = userspace(&ran, ctid);
        assert_eq!((&seen["status"], &seen["actual"]), (&"ok".into(), &DEBIAN.into()), "{seen}");
    }
    // what is mounted inside counts, and the volume shows nothing of it
    let libs = host.at(&format!("{}/951{LIB}/nvidia", lxcbed::VOLUMES));
    let other = libs.join("other");
    std::fs::create_dir_all(&other).unwrap();
    for stem in ["libcuda.so", "libnvidia-ml.so"] {
        let file = other.join(format!("{stem}.535.247.01"));
        std::fs::write(&file, testbed::driver::library(&format!("{stem}.1"))).unwrap();
        std::os::unix::fs::symlink(file.file_name().unwrap(), other.join(format!("{stem}.1")))
            .unwrap();
    }
    let mount = format!("mount --bind {LIB}/nvidia/other {LIB}/nvidia/current");
    host.pct(&format!("exec 951 -- {mount}")).expect(0);
    let ran = host.tool(TOOL).args("--all-cts").run();
    let behind = userspace(&ran, 951);
    assert_eq!(
        (&behind["cause"], &behind["actual"]),
        (&"container-behind".into(), &"535.247.01".into())
    );
    // 'install' refuses over libraries that no package and no installer owns
    let hint = behind["hint"].as_str().unwrap();
    assert!(hint.starts_with("no package and no installer owns /usr/lib"), "{behind}");
    assert_eq!(behind["commands"], serde_json::json!([]));
    assert_eq!(userspace(&ran, 950)["status"], "ok");
}

#[test]
fn a_stopped_container_on_a_block_device_is_unknown_with_the_way_round() {
    let host = Host::new("pve9-two-gpus");
    let container = host.create(950, true);
    container.append(GPU);
    let ran = host.tool(TOOL).args("--ct 950").run().expect(3);
    let unknown = userspace(&ran, 950);
    assert_eq!(unknown["status"], "unknown");
    assert_eq!(unknown["commands"][0], serde_json::json!(["pct", "mount", "950"]), "{unknown}");
    container.start();
    let ran = host.tool(TOOL).args("--ct 950").run().expect(1);
    assert_eq!(userspace(&ran, 950)["cause"], "nothing-installed");
}
