//! Reported hosts: VMs of Proxmox VE, older GPUs with mediated devices, GPUs without what
//! vGPUs need, files for several hosts.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
#[path = "common/yaml.rs"]
mod yaml;

use common::{Host, PF, tree, vf};
use modelkernel::ModelKernel;
use record::VgpuInterface;
use serde_json::json;
use testbed::Bed;
use testbed::tree::Tree;
use vgpu_profile_set::input::{InputChoice, RequestedVgpus, parse};
use vgpu_profile_set::observe::model::{Gpu, Mdev, MdevType, ReadDepth};
use vgpu_profile_set::observe::observe;
use vgpu_profile_set::plan::model::{PlanRules, ProfileChange, ProfilePlan};
use vgpu_profile_set::plan::plan_each;

fn planned(gpus: &[Gpu], text: &str) -> ProfilePlan {
    let input = parse(text.as_bytes(), "test", InputChoice::default()).unwrap();
    let RequestedVgpus::Assignments(assignments) = input.vgpus else { panic!() };
    plan_each(gpus, &assignments, PlanRules::default())
}

fn count(gpu: &str, n: u32, profile: &str) -> String {
    format!(
        "{{\"type\":\"vgpu-assignment\",\"address\":\"{gpu}\",\"profile\":\"{profile}\",\"count\":{n}}}\n"
    )
}

/// Proxmox VE with this qemu-server and these VMs.
fn with_vms(version: &str, vms: &[(u32, &str)], profiles: &str) -> Tree {
    let mut tree = tree();
    let status =
        format!("Package: qemu-server\nStatus: install ok installed\nVersion: {version}\n");
    tree.file("/var/lib/dpkg/status", &status);
    tree.link("/etc/pve/local", "nodes/pve1");
    for (id, hostpci) in vms {
        tree.attr(format!("/etc/pve/qemu-server/{id}.conf"), hostpci);
    }
    tree.file("/etc/vgpu-profiles", profiles);
    tree
}

/// qemu-server, PVE/QemuServer/PCI.pm, prepare_pci_device: only mdev= and driver=keep leave
/// a function on its driver.
#[test]
fn what_proxmox_ve_will_do_to_each_function_is_named() {
    let vms = [
        (100, "hostpci0: 0000:41:00.4,pcie=1"),
        (101, "hostpci1: 0000:41:00.5,driver=keep"),
        (102, "hostpci0: 0000:41:00.6,mdev=nvidia-1155"),
    ];
    let host = Host::of(&with_vms("9.0.27", &vms, ""));
    let listed = host.run("list", "", 0);
    let modes: Vec<_> =
        (0..3).map(|n| listed.one("vgpu", "address", &vf(n))["vms"][0]["mode"].clone()).collect();
    assert_eq!(modes, ["vfio", "keep", "mdev"]);
    let ran = host.run("plan", "41:00.4=L40S-12Q\n41:00.5=L40S-12Q\n", 0);
    let lost = "VM 100 has neither mdev= nor driver=keep (hostpci0): Proxmox VE binds the \
                function to vfio-pci when the VM starts, and the profile is lost";
    assert!(ran.stderr.contains(lost), "{}", ran.stderr);
    let first = ran.one("change", "target", &vf(0));
    let command = json!([["qm", "set", "100", "--hostpci0", "0000:41:00.4,pcie=1,driver=keep"]]);
    assert_eq!((&first["reason"], &first["commands"]), (&json!(lost), &command));
    let kept = ran.one("change", "target", &vf(1))["reason"].to_string();
    assert!(kept.contains("VM 101 keeps the profile at its start"), "{kept}");
    let ran = host.tool("plan").input("41:00.6=L40S-12Q\n").run().expect(4);
    let hint = "hint: qm set 102 --hostpci0 0000:41:00.6,driver=keep";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    // once the command has run, the finding is gone
    let host =
        Host::of(&with_vms("9.0.27", &[(100, "hostpci0: 0000:41:00.4,pcie=1,driver=keep")], ""));
    let ran = host.run("plan", "41:00.4=L40S-12Q\n", 0);
    assert!(!ran.stderr.contains("lost"), "{}", ran.stderr);
    // Proxmox VE 8 does not know driver=keep
    let host = Host::of(&with_vms("8.4.1", &vms[..1], ""));
    let ran = host.run("plan", "41:00.4=L40S-12Q\n", 0);
    let command =
        json!([["qm", "set", "100", "--hostpci0", "0000:41:00.4,pcie=1,mdev=nvidia-1153"]]);
    assert_eq!(ran.one("change", "target", &vf(0))["commands"], command);
}

#[test]
fn qm_set_lines_are_printed_for_what_this_proxmox_ve_knows() {
    let host = Host::of(&with_vms("9.0.27", &[(100, "hostpci1: 0000:41:00.4,pcie=1")], ""));
    host.run("apply -q", "41:00.4=L40S-24Q\n41:00.5=L40S-24Q\n", 0);
    let lines = |host: &Host| host.tool("list --format qm").text().run().expect(0).stdout;
    let text = lines(&host);
    assert!(
        text.contains(
            "# 0000:41:00.4: L40S-24Q\nqm set 100 --hostpci1 0000:41:00.4,pcie=1,driver=keep\n"
        ),
        "{text}"
    );
    assert!(text.contains("qm set VMID --hostpci0 0000:41:00.5,driver=keep\n"), "{text}");
    let host = Host::of(&with_vms("8.4.1", &[], ""));
    host.run("apply -q", "41:00.4=L40S-24Q\n", 0);
    assert!(lines(&host).contains("qm set VMID --hostpci0 0000:41:00.4,mdev=nvidia-1155\n"));
}

/// Proxmox VE clears the profile of each function that a VM had reserved when it stops
/// (QemuServer.pm, cleanup_pci_devices), so that it has to be set before the next start.
#[test]
fn the_hook_sets_the_profile_of_a_vm_that_keeps_it_or_stops_its_start() {
    let vms = [
        (100, "hostpci0: 0000:41:00.4,driver=keep"),
        (101, "hostpci0: 0000:41:00.5,pcie=1"),
        (102, "net0: virtio"),
        (103, "hostpci0: 0000:41:00.6,driver=keep"),
    ];
    let file = "41:00.4=L40S-24Q\n41:00.5=L40S-24Q\n41:00.7=L40S-24Q\n";
    let host = Host::of(&with_vms("9.0.27", &vms, file));
    let ran = host.run("hook 100 pre-start", "", 0);
    assert_eq!((host.set()[..4].to_vec(), ran.stdout.as_str()), (vec![1155, 0, 0, 0], ""));
    host.run("hook 100 pre-start", "", 0);
    for phase in ["post-start", "pre-stop", "post-stop"] {
        host.run(&format!("hook 100 {phase}"), "", 0);
    }
    // what Proxmox VE does after the stop
    let path = "/sys/bus/pci/devices/0000:41:00.4/nvidia/current_vgpu_type";
    host.model.write(path, b"0").unwrap();
    let ran = host.run("hook 100 post-stop", "", 0);
    assert!(ran.stderr.contains("Proxmox VE has cleared the profile"), "{}", ran.stderr);
    host.run("hook 100 pre-start", "", 0);
    assert_eq!(host.set()[0], 1155);
    // a VM whose function is bound to vfio-pci anyway is warned of, and starts
    let ran = host.run("hook 101 pre-start", "", 0);
    assert!(ran.stderr.contains("qm set 101 --hostpci0"), "{}", ran.stderr);
    assert_eq!(host.set()[1], 0);
    assert_eq!(host.run("hook 102 pre-start", "", 0).stderr, "");
    // no line in the file: QEMU would only say that the device cannot be opened
    let ran = host.tool("hook 103 pre-start").run().expect(4);
    assert!(
        ran.stderr.contains("hostpci0: 0000:41:00.6 has no vGPU profile")
            && ran.stderr.contains("add a line 0000:41:00.6=PROFILE to /etc/vgpu-profiles"),
        "{}",
        ran.stderr
    );
    host.run("hook 103 pre-start --warn-only", "", 0);
    // the driver refuses it
    host.model.write(path, b"0").unwrap();
    host.model.vgpu_refuse(&vf(0), Some(libc::EIO));
    let ran = host.tool("hook 100 pre-start").run().expect(3);
    assert!(ran.stderr.contains("has no vGPU profile: "), "{}", ran.stderr);
}

/// A Tesla P40: 24 GiB, types as Proxmox VE's users list them.
fn with_p40() -> Tree {
    let mut tree = tree();
    let dir = "/sys/devices/pci0000:40/0000:40:01.1/0000:42:00.0";
    tree.link_to("/sys/bus/pci/devices/0000:42:00.0", dir);
    for (name, value) in [
        ("vendor", "0x10de"),
        ("device", "0x1b38"),
        ("class", "0x030200"),
        ("modalias", "pci:v000010DEd00001B38sv000010DEsd000011D9bc03sc02i00"),
    ] {
        tree.attr(format!("{dir}/{name}"), value);
    }
    tree.link_to(&format!("{dir}/driver"), "/sys/bus/pci/drivers/nvidia");
    for (id, size, most) in [
        (46, 1, 24),
        (47, 2, 12),
        (48, 3, 8),
        (49, 4, 6),
        (50, 6, 4),
        (51, 8, 3),
        (52, 12, 2),
        (53, 24, 1),
    ] {
        let of = format!("{dir}/mdev_supported_types/nvidia-{id}");
        tree.attr(format!("{of}/name"), format!("GRID P40-{size}Q"));
        tree.attr(format!("{of}/available_instances"), most);
        let description = format!(
            "num_heads=4, frl_config=60, framebuffer={}M, max_resolution=7680x4320, max_instance={most}",
            size << 10
        );
        tree.attr(format!("{of}/description"), description);
        tree.file(format!("{of}/create"), "");
        tree.dir(format!("{of}/devices"));
    }
    tree
}

#[test]
fn the_framebuffer_of_a_p40_is_one_for_all_its_mediated_devices() {
    let host = Host::of(&with_p40());
    let two = format!("{}{}", count("42:00.0", 3, "P40-4Q"), count("42:00.0", 2, "P40-8Q"));
    let ran = host.tool("plan").input(two).run().expect(4);
    let why = "2 x P40-8Q and 3 x P40-4Q need 28 GiB of framebuffer, the GPU has 24 GiB";
    let other = "3 x P40-4Q and 2 x P40-8Q need 28 GiB of framebuffer, the GPU has 24 GiB";
    assert!(ran.stderr.contains(why) || ran.stderr.contains(other), "{}", ran.stderr);
    let small = format!("{}{}", count("42:00.0", 1, "P40-4Q"), count("42:00.0", 1, "P40-8Q"));
    let ran = host.tool("plan").input(small).run().expect(4);
    assert!(ran.stderr.contains("different framebuffer sizes"), "{}", ran.stderr);
    let ran = host.tool("plan").input(count("42:00.0", 8, "P40-4Q")).run().expect(4);
    assert!(ran.stderr.contains("6 x P40-4Q would fit"), "{}", ran.stderr);
    // another program's device counts, and names of B series are read
    host.run("apply -q", &count("42:00.0", 6, "P40-4Q"), 0);
}

#[test]
fn what_is_listed_of_mediated_devices_is_checked_again() {
    let host = Host::of(&with_p40());
    host.run("apply -q", &count("42:00.0", 3, "P40-4Q"), 0);
    let listed = host.run("list 42:00.0", "", 0).stdout;
    let ran = host.run("check", &listed, 0);
    assert_eq!(ran.values("check", "status"), vec![json!("ok"); 3]);
    // a device of Proxmox VE is listed with its VM, and is not requested
    let types = "/sys/bus/pci/devices/0000:42:00.0/mdev_supported_types/nvidia-49";
    let uuid = "00000001-0000-0000-0000-000000000105";
    host.model.write(&format!("{types}/create"), uuid.as_bytes()).unwrap();
    let listed = host.run("list 42:00.0", "", 0);
    let foreign = listed.one("vgpu", "uuid", uuid);
    assert_eq!((&foreign["managed_by"], &foreign["index"]), (&json!([105]), &json!(null)));
    host.run("check", &listed.stdout, 0);
    // fewer devices: one goes, and those that stay keep their numbers
    let ran = host.run("apply", &count("42:00.0", 2, "P40-4Q"), 0);
    assert_eq!(ran.values("change", "status"), ["unchanged", "unchanged", "changed"]);
}

/// Four virtual functions of an A40 on a kernel before 6.8, with mediated devices.
fn a40_with_mdevs() -> Gpu {
    let mut gpu = observe(&ModelKernel::from_tree(&tree()), ReadDepth::Plan).unwrap().remove(0);
    let of = |id, size, most| MdevType {
        id,
        dir: format!("nvidia-{id}"),
        name: format!("NVIDIA A40-{size}Q"),
        available: 1,
        most: Some(most),
    };
    gpu.functions.truncate(4);
    gpu.types.clear();
    for function in &mut gpu.functions {
        (function.interface, function.offers) = (Some(VgpuInterface::Mdev), None);
        function.mdev_types = vec![of(557, 1, 32), of(563, 24, 2), of(564, 48, 1)];
        gpu.types.extend(function.mdev_types.iter().map(|of| (of.id, of.name.clone())));
    }
    gpu.complete = true;
    gpu
}

#[test]
fn by_count_functions_with_devices_of_others_are_left_alone() {
    let mut gpu = a40_with_mdevs();
    let foreign = |ours| Mdev { uuid: "x".into(), dir: "nvidia-563".into(), ours, holder: None };
    gpu.functions[0].mdevs.push(foreign(None));
    let plan = planned(&[gpu.clone()], &count(PF, 1, "A40-24Q"));
    assert_eq!(plan.objections, []);
    let made: Vec<_> =
        plan.steps.iter().filter(|step| step.is_change()).map(|s| s.address).collect();
    assert_eq!(made, [gpu.functions[1].address]);
    // one is set already: two of 24 GiB are all
    let plan = planned(&[gpu.clone()], &count(PF, 2, "A40-24Q"));
    assert!(plan.objections[0].why.contains("need 72 GiB of framebuffer"), "{plan:?}");
    // a device that is right stays where it is
    gpu.functions[0].mdevs.clear();
    let right = Mdev { uuid: Mdev::uuid_of(gpu.functions[2].address, 0), ..foreign(Some(0)) };
    gpu.functions[2].mdevs.push(right);
    let plan = planned(&[gpu.clone()], &count(PF, 1, "A40-24Q"));
    assert!(plan.steps.iter().all(|step| !step.is_change()), "{plan:?}");
    assert!(matches!(plan.steps[0].change, ProfileChange::Mdev { .. }));
}

#[test]
fn how_many_more_can_be_made_counts_framebuffer_and_functions() {
    let mut tree = tree();
    let (free, full) = (Host::of(&tree), "41:00.4=L40S-24Q\n41:00.5=L40S-24Q\n");
    let available = |host: &Host, name: &str| {
        let types = host.run("list --types", "", 0);
        let of = types.one("vgpu-type", "profile", name);
        (of["available"].clone(), of["max_instances"].clone())
    };
    assert_eq!(available(&free, "L40S-1Q"), (json!(32), json!(32)));
    assert_eq!(available(&free, "L40S-48Q"), (json!(1), json!(1)));
    free.run("apply -q", full, 0);
    assert_eq!(available(&free, "L40S-24Q"), (json!(0), json!(2)));
    // one VM's 24Q, set before the tool ran the first time: its board is known
    for (path, entry) in &mut tree.entries {
        if path.ends_with("/0000:41:00.4/nvidia/current_vgpu_type") {
            *entry = testbed::tree::Entry::File(b"1155\n".to_vec());
        }
    }
    let host = Host::of(&tree);
    let three = "41:00.5=L40S-24Q\n41:00.6=L40S-24Q\n41:00.7=L40S-24Q\n";
    let ran = host.tool("plan").input(three).run().expect(4);
    assert!(ran.stderr.contains("the GPU has 48 GiB"), "{}", ran.stderr);
}

/// gpu-operator and hypeman users: what takes functions is named, and only that.
#[test]
fn functions_that_are_not_available_are_counted_by_their_reasons() {
    let vms = [(200, "hostpci0: mapping=half,mdev=nvidia-1155")];
    let mut tree = with_vms("9.0.27", &vms, "");
    tree.file(
        "/etc/pve/mapping/pci.cfg",
        "half\n\tmap id=10de:26b9,node=pve1,path=0000:41:00.5;0000:41:00.6\n",
    );
    let host = Host::of(&tree);
    let ran = host.tool("plan").input(count(PF, 31, "L40S-1Q")).run().expect(4);
    let hint = "of the others 2 set by Proxmox VE for VM 200 (mdev=)";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    let ran = Host::new().tool("plan").input(count(PF, 33, "L40S-1Q")).run().expect(4);
    assert!(!ran.stderr.contains("of the others"), "{}", ran.stderr);
}

/// KubeVirt takes each function with the ids of a selector that is bound to vfio-pci.
#[test]
fn a_selector_that_also_matches_a_whole_gpu_is_named() {
    let mut tree = tree();
    let dir = "/sys/devices/pci0000:40/0000:40:01.1/0000:42:00.0";
    tree.link_to("/sys/bus/pci/devices/0000:42:00.0", dir);
    for (name, value) in [("vendor", "0x10de"), ("device", "0x26b9"), ("class", "0x030200")] {
        tree.attr(format!("{dir}/{name}"), value);
    }
    tree.attr(format!("{dir}/modalias"), "pci:v000010DEd000026B9sv000010DEsd00001851bc03sc02i00");
    tree.link_to(&format!("{dir}/driver"), "/sys/bus/pci/drivers/vfio-pci");
    let host = Host::of(&tree);
    host.run("apply -q", "41:00.4=L40S-24Q\n", 0);
    let ran = host.tool("list --format kubevirt").text().run().expect(0);
    assert!(ran.stdout.contains("also matches 0000:42:00.0, a whole GPU"), "{}", ran.stdout);
}

/// The recorded L40S without its virtual functions, with another device id.
fn without_functions(device: &str, modules: &str) -> Gpu {
    let mut tree = tree();
    tree.entries.retain(|path, _| !path.contains("virtfn") && !path.contains("/0000:41:00.4"));
    for (path, entry) in &mut tree.entries {
        let bytes = match path.rsplit('/').next() {
            Some("device") if path.contains("/0000:41:00.0/") => format!("{device}\n"),
            Some("sriov_totalvfs") => "0\n".into(),
            Some("modules") => modules.into(),
            _ => continue,
        };
        *entry = testbed::tree::Entry::File(bytes.into_bytes());
    }
    let mut gpus = observe(&ModelKernel::from_tree(&tree), ReadDepth::Plan).unwrap();
    let at = gpus.iter().position(|gpu| gpu.address.to_string() == PF).unwrap();
    let mut gpu = gpus.remove(at);
    gpu.functions.clear();
    gpu
}

#[test]
fn a_gpu_without_functions_is_told_what_it_lacks() {
    let module = "nvidia_vgpu_vfio 126976 1 - Live 0x0000000000000000 (OE)\n";
    for (device, modules, why) in [
        ("0x2231", module, "while its display outputs are on"),
        ("0x26b9", "nvidia 1 0 - Live 0x0\n", "nvidia_vgpu_vfio is not loaded"),
        ("0x26b9", module, "has neither virtual functions nor mediated device types"),
    ] {
        let gpu = without_functions(device, modules);
        let plan = planned(&[gpu], &count(PF, 1, "RTXA5000-4Q"));
        assert!(plan.objections[0].why.contains(why), "{device}: {plan:?}");
    }
}

#[test]
fn profiles_of_a_gpu_whose_functions_are_off_are_not_silently_missing() {
    let mut tree = tree();
    let vf =
        |path: &str| (4..36).any(|n| path.contains(&format!("/0000:41:{:02x}.{}", n / 8, n % 8)));
    tree.entries.retain(|path, _| !vf(path) && !path.contains("/virtfn"));
    let ran = Host::of(&tree).run("list --types", "", 0);
    let hint = "hint: /usr/lib/nvidia/sriov-manage -e 0000:41:00.0";
    assert!(ran.stdout.is_empty() && ran.stderr.contains(hint), "{}", ran.stderr);
    let mapping = Host::of(&tree).tool("list --format pve-mapping").text().run().expect(0);
    assert!(!mapping.stdout.contains("mdev 1"), "{}", mapping.stdout);
}

/// vgpu-device-manager's file names GPUs by their ids and those of their subsystem.
#[test]
fn a_filter_by_subsystem_selects_one_board_and_errors_name_the_file() {
    let host = Host::new();
    let bed = Bed::empty();
    let file = |filter: &str, profile: &str| {
        let text = format!(
            "version: v1\nvgpu-configs:\n  a:\n  - device-filter: \"{filter}\"\n    devices: all\n    \
             vgpu-devices:\n      {profile}: 2\n"
        );
        bed.write("/vgpu.yaml", &text);
        bed.at("/vgpu.yaml").display().to_string()
    };
    let path = file("0x26B910DE:0x185110DE", "L40S-24Q");
    host.run(&format!("apply --config a {path}"), "", 0);
    assert_eq!(host.set().iter().filter(|id| **id == 1155).count(), 2);
    let path = file("0x26B910DE:0x157E10DE", "L40S-12Q");
    let ran = host.run(&format!("apply --config a {path}"), "", 0);
    assert!(ran.stderr.contains("selects no GPU of this host"), "{}", ran.stderr);
    assert_eq!(host.set().iter().filter(|id| **id == 1155).count(), 2);
    let path = file("0x26B910DE", "A10-24Q");
    let ran = host.tool(&format!("apply --config a {path}")).run().expect(2);
    assert!(ran.stderr.contains(&format!("{path}: line 4: ")), "{}", ran.stderr);
}

#[test]
fn a_file_with_sections_serves_all_nodes() {
    let host = Host::of(&with_vms("9.0.27", &[], ""));
    let file = "[node pve2]\nc1:00.4=A40-24Q\n[node pve1]\n41:00.4=L40S-24Q\n";
    host.run("apply -q", file, 0);
    assert_eq!(host.set()[..2], [1155, 0]);
    host.run("check", file, 0);
    host.run("apply -q --node-name pve3", file, 0);
    // what is in a section for this host is meant for it
    let ran = host.tool("apply --node-name pve2").input(file).run().expect(2);
    assert!(ran.stderr.contains("no NVIDIA GPU or virtual function at 0000:c1:00.4"));
}

#[test]
fn the_licence_snippet_is_what_cloud_init_takes() {
    let bed = Bed::empty();
    bed.write("/token.tok", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl-_x");
    let tool = |args: &str| testbed::Tool::new("vgpu-profile-set").args(args).text();
    let path = bed.at("/token.tok").display().to_string();
    let text = tool(&format!("cloud-init {path} --feature-type 2")).run().expect(0).stdout;
    assert!(text.starts_with("#cloud-config\n"), "{text}");
    let value = yaml::to_json(&text).unwrap().remove(0);
    let files = value["write_files"].as_array().unwrap();
    let of = |n: usize, key: &str| files[n][key].as_str().unwrap().to_string();
    assert_eq!(of(0, "path"), "/etc/nvidia/ClientConfigToken/client_configuration_token.tok");
    assert_eq!((of(0, "permissions"), of(0, "encoding")), ("0744".into(), "b64".into()));
    assert!(of(0, "content").starts_with("ZXlKaGJHY2lPaUpTVXpJMU5pSjku"));
    assert_eq!(
        (of(1, "path"), of(1, "content")),
        ("/etc/nvidia/gridd.conf".into(), "FeatureType=2\n".into())
    );
    bed.write("/token.tok", "ServerAddress=x\n");
    let ran = tool(&format!("cloud-init {path}")).run().expect(2);
    assert!(ran.stderr.contains("not a client configuration token"), "{}", ran.stderr);
}

/// The DaemonSet's rights: root with exactly its capabilities sees the processes of all
/// users, which QEMU runs as in KubeVirt, and sees no less than it says.
#[test]
fn the_capabilities_of_the_daemon_set_are_enough_to_see_all_holders() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/package/kubernetes/daemonset.yaml");
    let manifest = yaml::to_json(&std::fs::read_to_string(manifest).unwrap()).unwrap().remove(0);
    let container = &manifest["spec"]["template"]["spec"]["containers"][0];
    let capabilities = &container["securityContext"]["capabilities"];
    assert_eq!(capabilities["drop"], json!(["ALL"]));
    let add: Vec<String> = capabilities["add"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| format!("+{}", name.as_str().unwrap().to_lowercase()))
        .collect();
    let host = Host::new();
    host.run("apply -q", "41:00.4=L40S-12Q\n", 0);
    // /proc is a real one, whose rights the kernel checks, of a namespace of its own: what else
    // runs on the host of the tests may be hidden from root
    let plan = |capabilities: &str| {
        let script = "mount --bind \"$1/sys\" /sys && mount -t proc proc /proc && \
                      { setpriv --reuid 65534 --clear-groups sleep 20 & sleep 0.2; } && \
                      printf '41:00.4=none\\n' | setpriv --inh-caps=\"$2\" --bounding-set=\"$2\" --no-new-privs \
                      \"$3\" plan -o jsonl";
        let ran = std::process::Command::new("unshare")
            .args(["-m", "-p", "-f", "sh", "-c", script, "sh"])
            .arg(host.mounted.path())
            .arg(format!("-all,{capabilities}"))
            .arg(testbed::bed::program("vgpu-profile-set"))
            .output()
            .unwrap();
        format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
    };
    let (enough, less) = (plan(&add.join(",")), plan("+net_raw"));
    assert!(enough.contains("\"status\":\"planned\""), "{enough}");
    // a look that fails is never taken for nobody
    assert!(less.contains("whether a VM uses it is unknown"), "{less}");
}
