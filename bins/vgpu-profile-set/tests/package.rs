//! The unit and the manifests: valid by themselves, and true of the tool.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "common/yaml.rs"]
mod yaml;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::{Value, json};
use vgpu_profile_set::cli::{Options, Verb};
use vgpu_profile_set::input::{self, InputChoice, RequestedVgpus};

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("package")
}

fn manifest(name: &str) -> Value {
    let text = fs::read_to_string(package().join("kubernetes").join(name)).unwrap();
    let mut documents = yaml::to_json(&text).unwrap();
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// Why a manifest is none, by the part of Kubernetes' API that ours use.
fn problems(manifest: &Value) -> Vec<String> {
    let text = include_str!("kubernetes.schema.json");
    let mut schema: Value = serde_json::from_str(text).unwrap();
    let kind = manifest["kind"].as_str().unwrap_or_default();
    schema["$ref"] = json!(format!("#/$defs/{kind}"));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problem =
        |error: jsonschema::ValidationError<'_>| format!("{}: {error}", error.instance_path());
    validator.iter_errors(manifest).map(problem).collect()
}

/// Patches of the DaemonSet.
const PATCHES: [&str; 2] = ["selinux.yaml", "before-1.30.yaml"];

/// A strategic merge: lists of containers are merged by name, null removes a field.
fn merged(base: Value, patch: &Value) -> Value {
    match (base, patch) {
        (Value::Object(mut base), Value::Object(patch)) => {
            for (key, value) in patch {
                let before = base.remove(key).unwrap_or_default();
                if !value.is_null() {
                    base.insert(key.clone(), merged(before, value));
                }
            }
            Value::Object(base)
        }
        (Value::Array(mut base), Value::Array(patch))
            if patch.iter().all(|p| p["name"].is_string()) =>
        {
            for one in patch {
                let at = base.iter().position(|known| known["name"] == one["name"]).unwrap();
                base[at] = merged(base[at].clone(), one);
            }
            Value::Array(base)
        }
        (_, patch) => patch.clone(),
    }
}

fn options(args: &[Value]) -> Options {
    let args = args.iter().map(|arg| arg.as_str().unwrap().to_string());
    Options::try_parse_from(["vgpu-profile-set".to_string()].into_iter().chain(args)).unwrap()
}

#[test]
fn the_manifests_are_what_kubernetes_takes() {
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(package().join("kubernetes")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".yaml") {
            let mut manifest = manifest(&name);
            if PATCHES.contains(&name.as_str()) {
                manifest = merged(self::manifest("daemonset.yaml"), &manifest);
            }
            assert_eq!(problems(&manifest), Vec::<String>::new(), "{name}");
            seen.insert(name);
        }
    }
    let listed = manifest("kustomization.yaml")["resources"].clone();
    for name in listed.as_array().unwrap() {
        assert!(seen.remove(name.as_str().unwrap()), "{name}");
    }
    // what only some clusters need is named in comments
    let text = fs::read_to_string(package().join("kubernetes/kustomization.yaml")).unwrap();
    seen.retain(|name| {
        !text.contains(&format!("path: {name}")) && !text.contains(&format!("# - {name}"))
    });
    assert_eq!(seen, BTreeSet::from(["kustomization.yaml".to_string()]));
    // the schema is one that says no
    let mut wrong = manifest("daemonset.yaml");
    wrong["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = json!([]);
    assert_eq!(problems(&wrong).len(), 1);
    let mut wrong = manifest("daemonset.yaml");
    wrong["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!("5");
    assert_eq!(problems(&wrong).len(), 1);
}

#[test]
fn the_parts_of_the_daemon_set_fit_together_and_with_the_tool() {
    let set = manifest("daemonset.yaml");
    let map = manifest("configmap.yaml");
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(
        set["spec"]["selector"]["matchLabels"],
        set["spec"]["template"]["metadata"]["labels"]
    );
    assert_eq!(set["metadata"]["namespace"], map["metadata"]["namespace"]);
    assert_eq!(set["metadata"]["namespace"], manifest("namespace.yaml")["metadata"]["name"]);
    let container = &pod["containers"][0];
    let names = |list: &Value| -> BTreeSet<String> {
        list.as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names(&container["volumeMounts"]), names(&pod["volumes"]));
    let volume = |name: &str| {
        pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == name).unwrap().clone()
    };
    assert_eq!(volume("profiles")["configMap"]["name"], map["metadata"]["name"]);

    let args = container["args"].as_array().unwrap();
    let Verb::Watch(watch) = options(args).verb else { panic!("not watch") };
    let mounted = |path: &Path| {
        container["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|mount| path.starts_with(mount["mountPath"].as_str().unwrap()))
    };
    assert!(mounted(&watch.file) && mounted(watch.health_file.as_deref().unwrap()));
    let key = watch.file.file_name().unwrap().to_str().unwrap();
    let text = map["data"][key].as_str().unwrap();
    let on = |node| {
        let choice = InputChoice { config: None, node };
        let input = input::parse(text.as_bytes(), "the ConfigMap", choice).unwrap();
        let RequestedVgpus::Assignments(assignments) = input.vgpus else { panic!() };
        assignments.len()
    };
    assert_eq!((on("worker-1"), on("worker-2"), on("worker-3")), (2, 1, 0));
    assert_eq!(watch.node.as_deref(), Some("$(NODE_NAME)"));
    assert_eq!(container["env"][0]["name"], "NODE_NAME");
    // one write may take 30 s, and rolling back another
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > 60);
    for probe in ["readinessProbe", "livenessProbe"] {
        let command = container[probe]["exec"]["command"].as_array().unwrap();
        assert_eq!(command[0], "/vgpu-profile-set");
        let Verb::Check(check) = options(&command[1..]).verb else { panic!("not check") };
        assert_eq!(check.health_file, watch.health_file);
        assert_eq!(check.alive, probe == "livenessProbe");
    }
    // what the loader of the guide had and this has not
    assert_eq!(container["securityContext"]["privileged"], false);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let paths: Vec<&str> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|v| v["hostPath"]["path"].as_str())
        .collect();
    assert!(!paths.contains(&"/sys") && !paths.contains(&"/"), "{paths:?}");
}

#[test]
fn the_unit_starts_the_tool_as_it_is_and_before_guests() {
    let unit = fs::read_to_string(package().join("vgpu-profile-set.service")).unwrap();
    let field =
        |key: &str| unit.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).unwrap();
    let words: Vec<&str> = field("ExecStart").split(' ').collect();
    assert_eq!(words[0], "/usr/bin/vgpu-profile-set");
    let parsed = Options::try_parse_from(&words).unwrap();
    let Verb::Watch(watch) = parsed.verb else { panic!("not watch") };
    assert_eq!(field("ConditionPathExists"), watch.file.to_str().unwrap());
    assert_eq!(field("Type"), "notify");
    for after in ["pve-guests.service", "pve-ha-lrm.service", "pve-gpu-nodes.service"] {
        assert!(field("Before").split(' ').any(|unit| unit == after), "{after}");
    }
    for before in [
        "nvidia-vgpu-mgr.service",
        "nvidia-sriov-manage@ALL.service",
        "pve-nvidia-sriov@ALL.service",
    ] {
        assert!(field("After").split(' ').any(|unit| unit == before), "{before}");
    }
}
