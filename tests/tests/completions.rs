//! Completions in real shells on recorded machines: options, and words that
//! only the machine knows. `--root DIR` on the line leads the completion, too.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testbed::Bed;

mod tools;
use tools::TOOLS;

fn completions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("completions")
}

/// A host with containers, two GPUs and a cached installer.
fn host() -> Bed {
    let bed = Bed::new("pve9-two-gpus");
    let cache = "/var/cache/pve-gpu-tools/runfiles";
    bed.write(&format!("{cache}/NVIDIA-Linux-x86_64-535.183.06.run"), "");
    bed.write(&format!("{cache}/NVIDIA-Linux-x86_64-570.124.06-no-compat32.run"), "");
    bed.write("/files/driver.run", "");
    bed.write("/files/notes.txt", "");
    bed
}

fn shell(name: &str, script: &str) -> String {
    let output = Command::new(name)
        .args(["-c", script])
        .env("HOME", "/nonexistent")
        .output()
        .unwrap_or_else(|_| panic!("{name} is needed: install {name}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn shells_load_the_completions_and_complete_options() {
    let dir = completions();
    for tool in TOOLS {
        let bash = format!(
            "source {}/{tool}.bash && COMP_WORDS=({tool} --ro) COMP_CWORD=1 && \
             COMP_LINE='{tool} --ro' && COMP_POINT=${{#COMP_LINE}} && \
             f=$(complete -p {tool} | sed 's/.*-F //; s/ .*//') && \
             $f {tool} --ro {tool} && echo \"${{COMPREPLY[@]}}\"",
            dir.display()
        );
        let reply = shell("bash", &bash);
        assert!(reply.split_whitespace().any(|word| word == "--root"), "{tool}: {reply}");
        let fish = format!("source {}/{tool}.fish; complete -C '{tool} --ro'", dir.display());
        assert!(shell("fish", &fish).contains("--root"), "{tool}");
        let zsh = format!(
            "fpath=({} $fpath); autoload -U compinit && compinit -u -D && whence -w _{tool} && \
             autoload +X _{tool} && echo loaded",
            dir.display()
        );
        assert!(shell("zsh", &zsh).contains("loaded"), "{tool}");
    }
}

/// What an interactive shell makes of keys that are typed: everything that the
/// terminal showed.
fn typed(bed: &Bed, shell: &str, keys: &str) -> String {
    let mut child = Command::new("script")
        .args(["-qec", &format!("stty cols 200 rows 50; {shell}"), "/dev/null"])
        .current_dir(bed.at("/files"))
        .env("ZDOTDIR", bed.path())
        .env("HOME", bed.path())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script (bsdutils)");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(keys.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Stands for each tool and shows what it is given.
fn stand_ins() -> String {
    TOOLS.map(|tool| format!("{tool}() {{ printf 'GOT<%s>\\n' \"$*\"; }}\n")).concat()
}

/// Lines as typed up to the tabulator, and the command line that comes of it;
/// `ROOT` is the machine.
const LINES: [(&str, &str); 14] = [
    ("gpu-vfio-bind --root ROOT bind 0000:29", "--root ROOT bind 0000:29:00.0"),
    ("gpu-vfio-bind --root ROOT bind 29:", "--root ROOT bind 29:00.0"),
    ("gpu-vfio-bind --root ROOT bind 2c:00.2 2b:00.3", "--root ROOT bind 2c:00.2 2b:00.3"),
    ("gpu-vfio-bind --root ROOT bind --driver vfio", "--root ROOT bind --driver vfio-pci"),
    ("gpu-iommu-groups --root=ROOT --driver snd", "--root=ROOT --driver snd_hda_intel"),
    ("gpu-iommu-groups --root ROOT --check 29:", "--root ROOT --check 29:00.0"),
    ("lxc-gpu-conf --root ROOT add 903 --gpu 2b", "--root ROOT add 903 --gpu 2b:00.0"),
    (
        "lxc-gpu-conf --root ROOT add 903 --gpu 2b:00.0,2c",
        "--root ROOT add 903 --gpu 2b:00.0,2c:00.0",
    ),
    ("lxc-gpu-conf --root ROOT add --gpu=2c", "--root ROOT add --gpu=2c:00.0"),
    ("nv-runfile --root ROOT fetch 57", "--root ROOT fetch 570.124.06"),
    ("nv-runfile --root ROOT install dr", "--root ROOT install driver.run"),
    ("nv-version-check --root ROOT --pin 53", "--root ROOT --pin 535.183.06"),
    ("nv-version-check --root ROOT --next", "--root ROOT --next-boot"),
    ("lxc-gpu-conf --root ROOT sh", "--root ROOT show"),
];

fn completes(bed: &Bed, shell: &str) {
    let root = bed.path().display().to_string();
    let lines = LINES.map(|(line, _)| format!("{}\t\n", line.replace("ROOT", &root)));
    let shown = typed(bed, shell, &(lines.concat() + "exit\n"));
    let got = shown.lines().filter_map(|line| line.split_once("GOT<"));
    let got: Vec<&str> =
        got.filter_map(|(_, line)| line.split_once('>')).map(|(line, _)| line.trim_end()).collect();
    let expected: Vec<String> =
        LINES.iter().map(|(_, expected)| expected.replace("ROOT", &root)).collect();
    assert_eq!(got, expected, "{shell}: {shown}");
}

#[test]
fn a_bash_with_nothing_else_completes_what_the_machine_has() {
    let bed = host();
    let mut rc = stand_ins();
    for tool in TOOLS {
        rc += &format!("source {}/{tool}.bash\n", completions().display());
    }
    bed.write("/rc", rc);
    completes(&bed, &format!("bash --noprofile --rcfile {} -i", bed.at("/rc").display()));
}

#[test]
fn a_bash_with_bash_completion_does_too() {
    let library = "/usr/share/bash-completion/bash_completion";
    assert!(Path::new(library).exists(), "bash-completion is needed: install bash-completion");
    let bed = host();
    let dir = bed.at("/data/bash-completion/completions");
    fs::create_dir_all(&dir).unwrap();
    for tool in TOOLS {
        // as packages install them: loaded when they are first needed
        fs::copy(completions().join(format!("{tool}.bash")), dir.join(tool)).unwrap();
    }
    let data = bed.at("/data");
    bed.write(
        "/rc",
        format!("export XDG_DATA_HOME={}\nsource {library}\n{}", data.display(), stand_ins()),
    );
    completes(&bed, &format!("bash --noprofile --rcfile {} -i", bed.at("/rc").display()));
}

#[test]
fn a_zsh_does_too_and_says_what_it_is() {
    let bed = host();
    let rc = format!(
        "fpath=({} $fpath)\nautoload -U compinit && compinit -u -D\nPROMPT='> '\n{}",
        completions().display(),
        stand_ins()
    );
    bed.write("/.zshrc", rc);
    completes(&bed, "zsh -i");
    let root = bed.path().display().to_string();
    for (line, says) in [
        ("gpu-vfio-bind --root ROOT bind 2b", "NVIDIA GeForce RTX 2080 Ti (nvidia)"),
        ("lxc-gpu-conf --root ROOT check 90", "inference"),
        ("nv-runfile --root ROOT fetch ", "the loaded module"),
    ] {
        let shown =
            typed(&bed, "zsh -i", &format!("{}\t\t\n\nexit\n", line.replace("ROOT", &root)));
        assert!(shown.contains(says), "{line}: {shown}");
    }
}

#[test]
fn a_fish_does_too_and_says_what_it_is() {
    let bed = host();
    let root = bed.path().display().to_string();
    for (line, says) in [
        ("gpu-vfio-bind --root ROOT bind 2b", "2b:00.0\tNVIDIA GeForce RTX 2080 Ti (nvidia)"),
        ("gpu-vfio-bind --root ROOT bind ", "0000:2c:00.2\tUSB of a GPU (xhci_hcd)"),
        ("gpu-iommu-groups --root ROOT 0000:29", "0000:29:00.0\tASPEED Graphics Family (ast)"),
        ("lxc-gpu-conf --root ROOT add ", "902\tinference"),
        ("lxc-gpu-conf --root ROOT add 903 --gpu ", "all\t"),
        ("lxc-gpu-conf --root ROOT add 903 --gpu 2b:00.0,2c", "2b:00.0,2c:00.0\tNVIDIA"),
        ("nv-runfile --root ROOT fetch ", "535.183.06\tin the cache"),
        ("nv-runfile --root ROOT install --ct 90", "904\tbuild"),
        ("nv-version-check --root ROOT --ct 90", "901\tmedia"),
        ("nv-version-check --root ROOT --pin ", "550.163.01\tthe loaded module"),
    ] {
        let tool = line.split(' ').next().unwrap();
        let script = format!(
            "source {}/{tool}.fish; complete -C '{}'",
            completions().display(),
            line.replace("ROOT", &root)
        );
        let shown = shell("fish", &script);
        assert!(shown.contains(says), "{line}: {shown}");
    }
    let script = format!(
        "cd {root}/files; source {}/nv-runfile.fish; complete -C 'nv-runfile info '",
        completions().display()
    );
    let shown = shell("fish", &script);
    assert!(shown.starts_with("driver.run") && !shown.contains("notes.txt"), "{shown}");
}

#[test]
fn virtual_functions_are_named_to_whom_they_are_for() {
    let bed = Bed::new("pve9-l40s-vgpu");
    let root = bed.path().display().to_string();
    let ask = |tool: &str, line: &str| {
        let file = completions().join(format!("{tool}.fish"));
        shell(
            "fish",
            &format!("source {}; complete -C '{tool} --root {root} {line}'", file.display()),
        )
    };
    assert!(ask("vgpu-profile-set", "clear 41:00.4").contains("41:00.4\tvirtual function"));
    assert!(!ask("gpu-vfio-bind", "bind 41:00.4").contains("41:00.4"));
}

#[test]
fn a_machine_without_anything_completes_nothing_and_says_nothing() {
    let bed = Bed::empty();
    for tool in TOOLS {
        let file = completions().join(format!("{tool}.fish"));
        for kind in ["function", "ctid", "version", "driver"] {
            let script = format!(
                "source {}; sh -c $__pve_gpu_candidates sh {kind} {} '' 2>&1 | string match -v -r '^latest'; true",
                file.display(),
                bed.path().display()
            );
            assert_eq!(shell("fish", &script), "", "{tool} {kind}");
        }
    }
}
