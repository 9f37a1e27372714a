//! Rubbish for the programs themselves: installers, guests' configurations,
//! what people ask for, pipes, and a kernel that talks nonsense.

use std::ffi::OsString;
use std::fs;

use testbed::bed::program;
use testbed::runfile::{NvidiaRun, Pack, old_makeself, small_tree, tar_of};
use testbed::tree::Entry;
use testbed::{Bed, machine};

use crate::mutate::{Random, mutate};
use crate::process::{Outcome, run};
use crate::saved::{Look, Saved};
use crate::stage::Stage;
use crate::stages::{bed::Place, vgpu};
use crate::{Effort, Tally};

fn words(tool: &str, args: &str) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![program(tool).into()];
    words.extend(args.split_ascii_whitespace().map(OsString::from));
    words
}

fn rooted(bed: &Bed, tool: &str, args: &str, input: &[u8]) -> Outcome {
    let mut words = words(tool, "");
    words.extend(["--root".into(), bed.path().into()]);
    words.extend(args.split_ascii_whitespace().map(OsString::from));
    run(&words, input)
}

/// What any input may lead to.
fn plain(outcome: &Outcome) -> Result<(), String> {
    outcome.sane(false)?;
    match outcome.code {
        Some(0..=4) => Ok(()),
        _ => Err(outcome.end()),
    }
}

/// Shows what a trial was fed with, where it failed.
fn keep(result: Result<(), String>, bytes: &[u8]) -> Result<(), String> {
    let short: String = String::from_utf8_lossy(&bytes[..bytes.len().min(3000)]).into_owned();
    result.map_err(|why| format!("{why}\nfed with: {short:?}"))
}

/// Mutated installers of both dialects: as files, and with an archive inside
/// whose digests are right.
pub fn installers(effort: Effort) -> Tally {
    let mut tally = Tally::new(
        "nv-runfile info, verify, list, extract",
        "mutated .run files of both dialects",
        "read or refused; valid records; no panic, hang or 256 MiB; nothing outside the target, which is whole or not there",
    );
    let bed = Bed::empty();
    small_tree(&bed.at("tree"));
    let tar = tar_of(&bed.at("tree"), &[]);
    let packs = [Pack::Zstd, Pack::Gzip, Pack::Xz, Pack::None];
    let mut files: Vec<Vec<u8>> =
        packs.map(|pack| NvidiaRun::new("550.163.01", pack).of_tar(&tar)).into();
    files.extend([Pack::Gzip, Pack::None].map(|pack| old_makeself(&[&bed.at("tree")], pack)));
    files.extend(parsers::dialects());
    bed.write("canary", "sings");
    let around = |bed: &Bed| -> Vec<String> {
        let names = fs::read_dir(bed.path()).unwrap();
        let mut names: Vec<String> =
            names.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    fs::create_dir(bed.at("at")).unwrap();
    bed.write("x.run", "");
    let before = (around(&bed), Saved::of(bed.path(), &["tree", "canary"]).look());
    let mut random = Random::new(effort.seed);
    for round in 0..effort.most * 8 {
        let bytes = match random.below(3) {
            0 => {
                let pack = *random.pick(&packs);
                NvidiaRun::new("550.163.01", pack).of_tar(&mutate(&mut random, &tar, &[]))
            }
            _ => {
                let seed = random.pick(&files).clone();
                mutate(&mut random, &seed, &files)
            }
        };
        bed.write("x.run", &bytes);
        let verb = *random.pick(&["info", "verify", "list", "extract", "extract --force"]);
        let mut words = words("nv-runfile", verb);
        words.push(bed.at("x.run").into());
        if verb.starts_with("extract") {
            words.push(bed.at("at/out").into());
        }
        let outcome = run(&words, b"");
        let judged = || {
            plain(&outcome)?;
            let out = bed.at("at/out").exists();
            if out != (verb.starts_with("extract") && outcome.code == Some(0)) {
                return Err(format!("target there: {out}, {}", outcome.end()));
            }
            let left = fs::read_dir(bed.at("at")).unwrap().count();
            if left != usize::from(out) {
                return Err(format!("{left} names beside the target: {}", outcome.end()));
            }
            let now = (around(&bed), Saved::of(bed.path(), &["tree", "canary"]).look());
            if now != before {
                return Err("something outside the target changed".into());
            }
            Ok(())
        };
        let result = keep(judged(), &bytes);
        let _ = fs::remove_dir_all(bed.at("at"));
        fs::create_dir(bed.at("at")).unwrap();
        tally.trial(format!("{verb}, round {round}"), result);
    }
    tally
}

/// The lines of `before` are those of `after` in their order, but for what came
/// or went between them.
fn keeps_others(before: &str, after: &str) -> Result<(), String> {
    let ours = |line: &str| {
        ["nvidia", "lxc.cgroup", "delete:"].iter().any(|word| line.contains(word))
            || line.trim_end_matches('\r').is_empty()
    };
    let lines = |text: &str| -> Vec<String> {
        text.split('\n').filter(|line| !ours(line)).map(str::to_string).collect()
    };
    let (was, is) = (lines(before), lines(after));
    match was == is {
        true => Ok(()),
        false => Err(format!("lines of others changed:\n{before:?}\n{after:?}")),
    }
}

/// Mutated configurations of a guest.
pub fn guests(effort: Effort) -> Tally {
    let mut tally = Tally::new(
        "lxc-gpu-conf show, check, add, sync, remove",
        "mutated guest configurations",
        "valid records; refused and untouched, or done with every line of others as it was; a second run says unchanged; other guests' files untouched",
    );
    let place = Place::empty().with(&testbed::machine::one_gpu());
    let bed = &place.bed;
    let path = "/etc/pve/nodes/pve1/lxc/901.conf";
    let mut seeds: Vec<Vec<u8>> = (parsers::all()[0].seeds)();
    seeds.push(bed.read(path).into_bytes());
    seeds.push(bed.read("/etc/pve/nodes/pve1/lxc/902.conf").into_bytes());
    let saved = Saved::of(bed.path(), &["etc/pve", "var/lib/pve-gpu-tools", "run"]);
    let others = |look: Look| -> Look {
        let keep = |item: &String| !item.ends_with("/901.conf") && !item.ends_with("901.json");
        look.into_iter().filter(|(item, _)| keep(item) && !item.ends_with(".lock")).collect()
    };
    let mut random = Random::new(effort.seed);
    for round in 0..effort.most * 4 {
        saved.restore();
        let seed = random.pick(&seeds).clone();
        let bytes = mutate(&mut random, &seed, &seeds);
        fs::write(bed.at(path), &bytes).unwrap();
        let around = others(saved.look());
        let text = || String::from_utf8_lossy(&fs::read(bed.at(path)).unwrap()).into_owned();
        let judged = || {
            for args in ["show --all", "check 901"] {
                let outcome = rooted(bed, "lxc-gpu-conf", args, b"");
                plain(&outcome).map_err(|why| format!("{args}: {why}"))?;
                if fs::read(bed.at(path)).unwrap() != bytes {
                    return Err(format!("{args} wrote"));
                }
            }
            for args in ["add 901 --gpu 0", "sync 901", "remove 901"] {
                let was = text();
                let outcome = rooted(bed, "lxc-gpu-conf", args, b"");
                plain(&outcome).map_err(|why| format!("{args}: {why}"))?;
                let is = text();
                if outcome.code != Some(0) && was != is {
                    return Err(format!("{args} changed it and failed: {}", outcome.end()));
                }
                keeps_others(&was, &is).map_err(|why| format!("{args}: {why}"))?;
                let again = rooted(bed, "lxc-gpu-conf", args, b"");
                plain(&again).map_err(|why| format!("{args} again: {why}"))?;
                if outcome.code == Some(0) && text() != is {
                    return Err(format!("{args} changes it twice:\n{is:?}\n{:?}", text()));
                }
            }
            match others(saved.look()) == around {
                true => Ok(()),
                false => Err("files of others changed".into()),
            }
        };
        tally.trial(format!("round {round}"), keep(judged(), &bytes));
    }
    tally
}

/// Mutated wishes: lines, records, YAML.
pub fn wishes(effort: Effort) -> Tally {
    let mut tally = Tally::new(
        "vgpu-profile-set plan, apply",
        "mutated lines, records and YAML from a pipe",
        "valid records; refused and untouched, or done and a second run says unchanged",
    );
    let mut stage = vgpu::all().remove(0);
    let parser = parsers::all().into_iter().find(|p| p.name == "vgpu-input").unwrap();
    let mut seeds = (parser.seeds)();
    seeds.push(stage.input());
    seeds.push(b"41:00.4=L40S-24Q\n41:00.5=1155\n".to_vec());
    seeds.push(b"version: v1\nvgpu-configs:\n  default:\n  - devices: all\n    vgpu-devices:\n      L40S-4Q: 12\n".to_vec());
    let mut random = Random::new(effort.seed);
    stage.reset();
    let empty = stage.look();
    for round in 0..effort.most * 4 {
        if stage.look() != empty {
            stage.reset();
        }
        let seed = random.pick(&seeds).clone();
        let bytes = mutate(&mut random, &seed, &seeds);
        let tool = |verb: &str| {
            let mut words = words("vgpu-profile-set", "--root");
            words.extend([stage.mounted().path().into(), verb.into()]);
            run(&words, &bytes)
        };
        let judged = || {
            plain(&tool("plan"))?;
            if stage.look() != empty {
                return Err("plan wrote".into());
            }
            let outcome = tool("apply");
            plain(&outcome)?;
            let now = stage.look();
            let functions = |look: &Look| -> Vec<_> {
                look.iter()
                    .filter(|(item, _)| !item.starts_with("run/"))
                    .map(|(i, w)| (i.clone(), w.clone()))
                    .collect()
            };
            if outcome.code != Some(0) && functions(&now) != functions(&empty) {
                return Err(format!("changed and failed: {}", outcome.end()));
            }
            let again = tool("apply");
            plain(&again)?;
            let changed = again.records().iter().any(|r| r["status"] == "changed");
            match outcome.code == Some(0) && (again.code != Some(0) || changed) {
                true => Err(format!("a second run: {}", again.end())),
                false => Ok(()),
            }
        };
        let result = keep(judged(), &bytes);
        tally.trial(format!("round {round}"), result);
    }
    tally
}

/// Mutated records into every tool that reads them.
pub fn pipes(effort: Effort) -> Tally {
    let mut tally = Tally::new(
        "lxc-gpu-conf add, gpu-vfio-bind bind, nv-runfile info",
        "mutated records in the pipe",
        "valid records; exit 2 to 4 and untouched, or done as asked; an error record always stops it",
    );
    let place = Place::empty().with(&testbed::machine::one_gpu());
    let bed = &place.bed;
    let lister = bed.tool("gpu-iommu-groups").args("--all").run().expect(0).stdout.into_bytes();
    let mut seeds: Vec<Vec<u8>> = lister.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    seeds.push(lister);
    seeds.extend((parsers::all()[1].seeds)());
    seeds.push(
        b"{\"type\":\"runfile\",\"path\":\"/nonexistent.run\",\"version\":\"550.163.01\"}\n"
            .to_vec(),
    );
    let saved = Saved::of(bed.path(), &["etc", "var/lib/pve-gpu-tools", "run", "sys"]);
    let before = saved.look();
    let mut random = Random::new(effort.seed);
    for round in 0..effort.most * 6 {
        let seed = random.pick(&seeds).clone();
        let mut bytes = mutate(&mut random, &seed, &seeds);
        let stops = random.below(5) == 0;
        if stops {
            bytes = [
                &bytes[..],
                b"\n{\"type\":\"error\",\"tool\":\"x\",\"message\":\"no\",\"exit\":3}\n",
            ]
            .concat();
        }
        let verbs =
            [("lxc-gpu-conf", "add 901"), ("gpu-vfio-bind", "bind -n"), ("nv-runfile", "info")];
        let (tool, args) = *random.pick(&verbs);
        let outcome = match tool {
            "nv-runfile" => run(&words(tool, args), &bytes),
            _ => rooted(bed, tool, args, &bytes),
        };
        let judged = || {
            plain(&outcome)?;
            if stops && !matches!(outcome.code, Some(2 | 3)) {
                return Err(format!("an error record did not stop it: {}", outcome.end()));
            }
            let mut now = saved.look();
            now.retain(|item, _| !item.ends_with(".lock"));
            match outcome.code == Some(0) || now == before {
                true => Ok(()),
                false => Err(format!("failed and changed: {}", outcome.end())),
            }
        };
        let result = keep(judged(), &bytes);
        tally.trial(format!("{tool} {args}, round {round}"), result);
        saved.restore();
    }
    tally
}

/// Recorded machines whose kernel says something else in places.
pub fn kernels(effort: Effort) -> Tally {
    let mut tally = Tally::new(
        "every tool's questions, and add, persist, plan",
        "mutated text in /sys and /proc of recorded machines",
        "valid records; no panic, hang or 256 MiB; exit 0 to 4",
    );
    let questions = [
        ("gpu-iommu-groups", "--all"),
        ("gpu-iommu-groups", "--groups"),
        ("gpu-vfio-bind", "status"),
        ("gpu-vfio-bind", "bind 2c:00 -n"),
        ("gpu-vfio-bind", "persist 2c:00"),
        ("lxc-gpu-conf", "show --all"),
        ("lxc-gpu-conf", "check --all"),
        ("lxc-gpu-conf", "add 901 --gpu all -n"),
        ("nv-version-check", "--all-cts --cuda --xid"),
        ("vgpu-profile-set", "list"),
    ];
    let words: Vec<Vec<u8>> = (parsers::all()[4].seeds)();
    let mut random = Random::new(effort.seed);
    let names = machine::names();
    for round in 0..effort.most {
        let name = random.pick(&names).clone();
        let mut tree = machine::tree(&name).unwrap();
        let read = |path: &str| {
            path.starts_with("/sys/") || path.starts_with("/proc/") || path.starts_with("/etc/")
        };
        let paths: Vec<String> =
            tree.entries.iter().filter(|(path, _)| read(path)).map(|(p, _)| p.clone()).collect();
        for _ in 0..1 + random.below(60) {
            let path = random.pick(&paths).clone();
            match (random.below(20), tree.entries.get(&path).cloned()) {
                (0, _) => drop(tree.entries.remove(&path)),
                (1..=14, Some(Entry::File(bytes))) => {
                    tree.file(path, mutate(&mut random, &bytes, &words));
                }
                (15.., Some(Entry::Link(_))) => {
                    let target = random.pick(&["../../nothing", "/", ".", "x\n", "../../../.."]);
                    tree.link(path, (*target).to_string());
                }
                _ => {}
            }
        }
        let bed = Bed::empty();
        if tree.write(bed.path()).is_err() {
            // a directory where a file was made: no kernel does that
            continue;
        }
        for (tool, args) in questions {
            let outcome = rooted(&bed, tool, args, b"");
            tally.trial(format!("{tool} {args} on {name}, round {round}"), plain(&outcome));
        }
    }
    tally
}
