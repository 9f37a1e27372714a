//! `machine list`, `machine build NAME DIR`, `machine generate COUNT DIR`,
//! `machine unpack FILE DIR`: directories for `--root`. `machine runfile VERSION
//! DIR`: an installer of NVIDIA's dialect with a small driver in it.

#![allow(clippy::disallowed_methods)]

use std::path::Path;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use testbed::runfile::{NvidiaRun, Pack};
use testbed::tree::Tree;
use testbed::{generate, machine, runfile};

fn main() -> Result<()> {
    let mut args = lexopt::Parser::from_env();
    let mut words = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            for name in machine::names() {
                let title = machine::load(&name).map(|m| m.title).unwrap_or_default();
                println!("{name:24} {title}");
            }
            Ok(())
        }
        ["build", name, dir] => machine::tree(name)?.write(&fresh(dir)?),
        ["generate", count, dir] => {
            let mut tree = Tree::default();
            generate::large(count.parse().context("COUNT")?).build(&mut tree);
            tree.write(&fresh(dir)?)
        }
        ["unpack", file, dir] => {
            let text = std::fs::read_to_string(file).with_context(|| file.to_string())?;
            Tree::parse(&text)?.write(&fresh(dir)?)
        }
        ["runfile", version, dir] => {
            let tree = Path::new(dir).join(format!("{version}.tree"));
            runfile::driver_tree(&tree, version);
            std::fs::write(tree.join("nvidia-smi"), SMI)?;
            NvidiaRun::new(version, Pack::Zstd).write(&tree, Path::new(dir));
            Ok(std::fs::remove_dir_all(tree)?)
        }
        _ => bail!(
            "usage: machine list | build NAME DIR | generate COUNT DIR | unpack FILE DIR | \
             runfile VERSION DIR"
        ),
    }
}

/// Answers where the devices do.
const SMI: &str = "#!/bin/sh
: <>/dev/nvidiactl && : <>/dev/nvidia-uvm && echo 'GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-0)'
";

/// A directory that is empty or made now: never one that holds something.
fn fresh(dir: &str) -> Result<std::path::PathBuf> {
    std::fs::create_dir_all(dir)?;
    if std::fs::read_dir(dir)?.next().is_some() {
        bail!("{dir} is not empty");
    }
    Ok(Path::new(dir).to_path_buf())
}
