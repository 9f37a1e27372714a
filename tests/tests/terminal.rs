//! What is seen on a terminal: tables that fit, whatever is in them, colour
//! where it is wanted, and the same words in the same order as in a pipe.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::process::{Command, Stdio};

use testbed::Bed;
use testbed::bed::program;
use testbed::generate::large;
use unicode_width::UnicodeWidthStr;

/// What a tool shows on a terminal of so many columns, line ends as in a file.
fn on_terminal(bed: &Bed, columns: usize, env: &[(&str, &str)], command: &str) -> String {
    let (tool, args) = command.split_once(' ').unwrap_or((command, ""));
    // inside: a shell may set COLUMNS itself
    let env: String = env.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let command = format!(
        "stty cols {columns} rows 24; exec env -u NO_COLOR -u COLUMNS TERM=xterm {env} {} --root {} {args}",
        program(tool).display(),
        bed.path().display()
    );
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("script (bsdutils)");
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

/// Without colour.
fn plain(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, behind)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = behind.split_once('m').unwrap().1;
    }
    plain + rest
}

/// A host on which names are long, and some are wide.
fn long_names() -> Bed {
    let bed = Bed::new("pve9-two-gpus");
    let ids = bed.read("/usr/share/misc/pci.ids").replace(
        "\t1e07  ",
        "\t1e07  日本語の非常に長い名前を持つグラフィックス処理装置 größte Ausführung ",
    );
    bed.write("/usr/share/misc/pci.ids", ids);
    let sys = fs::canonicalize(bed.at("/sys/bus/pci/devices/0000:2b:00.1")).unwrap();
    fs::remove_file(sys.join("driver")).unwrap();
    let driver = "/sys/bus/pci/drivers/a_driver_with_a_name_that_nobody_would_want_to_type";
    fs::create_dir_all(bed.at(driver)).unwrap();
    std::os::unix::fs::symlink(bed.at(driver), sys.join("driver")).unwrap();
    bed
}

/// Every view that there is.
const VIEWS: [&str; 9] = [
    "gpu-iommu-groups",
    "gpu-iommu-groups --all",
    "gpu-iommu-groups --groups",
    "gpu-iommu-groups --check",
    "gpu-vfio-bind status",
    "gpu-vfio-bind bind 2b:00.0 --dry-run --force container",
    "lxc-gpu-conf show --all",
    "lxc-gpu-conf check --all",
    "nv-version-check --all-cts",
];

#[test]
fn tables_fit_terminals_of_all_widths() {
    let bed = long_names();
    for view in VIEWS {
        let (tool, args) = view.split_once(' ').unwrap_or((view, ""));
        let records = bed.tool(tool).args(args).run().records;
        let commands = records.iter().filter_map(|record| record["commands"].as_array()).flatten();
        let commands: Vec<String> = commands
            .map(|command| {
                let words: Vec<String> = serde_json::from_value(command.clone()).unwrap();
                record::shell_words(&words)
            })
            .collect();
        for columns in [200, 100, 80, 60, 40] {
            let text = plain(&on_terminal(&bed, columns, &[], view));
            assert!(!text.is_empty(), "{view}");
            for line in text.lines() {
                let message = line.starts_with(view.split(' ').next().unwrap());
                // a command is whole: one that is wrapped cannot be copied
                let whole = message || commands.iter().any(|c| c == line.trim_start());
                assert!(whole || line.width() <= columns, "{view} in {columns}: {line}");
            }
        }
    }
}

#[test]
fn columns_stand_below_their_headings() {
    let bed = long_names();
    for view in ["gpu-iommu-groups --all", "gpu-vfio-bind status", "lxc-gpu-conf show --all"] {
        let text = plain(&on_terminal(&bed, 250, &[], view));
        let lines: Vec<&str> = text.lines().filter(|l| !l.contains(": ")).collect();
        let heading = lines.iter().position(|l| l.starts_with(|c: char| c.is_uppercase())).unwrap();
        let titles = lines[heading];
        let starts: Vec<usize> = (2..titles.len())
            .filter(|at| titles[at - 2..].starts_with("  ") && !titles[*at..].starts_with(' '))
            .collect();
        assert!(starts.len() >= 3, "{view}: {text}");
        for line in &lines[heading + 1..] {
            for start in &starts {
                // the two columns before a column are empty in every line
                let before = columns_of(line, start - 2, 2);
                assert!(before.trim().is_empty(), "{view}: '{before}' in {line}");
            }
        }
    }
}

/// What stands in some columns of a line.
fn columns_of(line: &str, from: usize, count: usize) -> String {
    let mut at = 0;
    let mut found = String::new();
    for c in line.chars() {
        if (from..from + count).contains(&at) {
            found.push(c);
        }
        at += c.to_string().width();
    }
    found
}

#[test]
fn no_word_of_a_reason_is_lost_however_narrow_it_is() {
    let bed = long_names();
    for view in ["nv-version-check --all-cts -q", "lxc-gpu-conf check --all -q"] {
        let (tool, args) = view.split_once(' ').unwrap();
        let ran = bed.tool(tool).args(args).run();
        let texts = |key: &str| -> Vec<String> {
            let texts = ran.of_type("check").filter_map(|check| check[key].as_str());
            texts.map(|text| text.replace(' ', "")).collect()
        };
        let commands: Vec<String> = ran
            .of_type("check")
            .flat_map(|check| check["commands"].as_array().unwrap())
            .map(|command| {
                command.as_array().unwrap().iter().filter_map(|word| word.as_str()).collect()
            })
            .collect();
        assert!(!texts("hint").is_empty() || !commands.is_empty(), "{view}");
        for columns in [80, 50, 30] {
            let shown = plain(&on_terminal(&bed, columns, &[], view));
            let shown: String = shown.split_whitespace().collect();
            for text in texts("hint").iter().chain(&texts("reason")).chain(&commands) {
                assert!(shown.contains(text), "{view} in {columns} columns: {text}");
            }
        }
    }
}

#[test]
fn many_functions_are_one_table() {
    let mut tree = testbed::tree::Tree::default();
    large(60).build(&mut tree);
    let bed = Bed::of(&tree);
    let text = on_terminal(&bed, 80, &[], "gpu-iommu-groups --all -q");
    assert_eq!(text.lines().count(), 61, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ADDRESS")).count(), 1);
}

#[test]
fn a_shell_may_say_how_wide_it_is() {
    let bed = long_names();
    let text = on_terminal(&bed, 200, &[("COLUMNS", "50")], "gpu-iommu-groups -q");
    assert!(plain(&text).lines().all(|line| line.width() <= 50), "{text}");
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let bed = Bed::new("pve9-two-gpus");
    for view in [
        "nv-version-check",
        "gpu-vfio-bind bind 2b:00.0 --dry-run --force container",
        "lxc-gpu-conf check --all",
    ] {
        let coloured = on_terminal(&bed, 100, &[], view);
        assert!(coloured.contains("\x1b["), "{view}: {coloured}");
        for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", "")] {
            let text = on_terminal(&bed, 100, &[(name, value)], view);
            assert!(!text.contains('\x1b'), "{view} with {name}={value}: {text:?}");
            assert_eq!(text, plain(&coloured), "{view} with {name}={value}");
        }
        // NO_COLOR counts where it is not empty
        assert!(on_terminal(&bed, 100, &[("NO_COLOR", "")], view).contains("\x1b["), "{view}");
        let (tool, args) = view.split_once(' ').unwrap_or((view, ""));
        let piped = bed.tool(tool).args(args).args("-o table").text().run();
        assert!(!piped.stdout.contains('\x1b') && !piped.stdout.is_empty(), "{view}");
        assert!(!piped.stderr.contains('\x1b'), "{view}");
    }
    let help = on_terminal(&bed, 80, &[], "lxc-gpu-conf --help");
    assert!(!help.contains('\x1b') && help.contains("Usage:"), "{help:?}");
}

#[test]
fn terminal_and_pipe_say_the_same_in_the_same_order() {
    let bed = Bed::new("pve9-two-gpus");
    for view in
        VIEWS.iter().chain(&["gpu-iommu-groups --driver none_such", "nv-version-check --pin 1"])
    {
        let (tool, args) = view.split_once(' ').unwrap_or((view, ""));
        let piped = bed.tool(tool).args(args).run();
        // wide enough for every line
        let shown = plain(&on_terminal(&bed, 2000, &[], view));
        for line in piped.stderr.lines() {
            assert!(shown.contains(line), "{view}: on a terminal there is no: {line}\n{shown}");
        }
        let messages =
            |text: &str| text.lines().filter(|line| line.starts_with(&format!("{tool}: "))).count();
        assert_eq!(messages(&shown), messages(&piped.stderr), "{view}: {shown}");
        let named = piped.records.iter().filter_map(|record| {
            let keys = ["address", "subject", "target"];
            keys.iter().find_map(|key| record[key].as_str()).map(str::to_string)
        });
        let mut rest = shown.as_str();
        for name in named {
            let at =
                rest.find(&name).unwrap_or_else(|| panic!("{view}: {name} not in order\n{shown}"));
            rest = &rest[at..];
        }
    }
}
