//! Peak memory of a command. What wait4(2) says of a child counts in the
//! process that it was forked from, which here is large: so a small one, this
//! program again, starts it and is asked.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The option that makes this program the small one.
pub const MODE: &str = "peak-of";

/// Runs a command and prints its peak in KiB.
pub fn print(command: &[String]) -> Result<()> {
    let (program, args) = command.split_first().context("no command")?;
    let done = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ensure!(done.with_context(|| program.clone())?.success(), "{program} failed");
    println!("{}", crate::machine::usage(libc::RUSAGE_CHILDREN).ru_maxrss);
    Ok(())
}

/// Peak memory in KiB of a command and its children, the largest of them.
pub fn of(command: &Command) -> Result<u64> {
    let mut small = Command::new(std::env::current_exe()?);
    small.arg(format!("--{MODE}")).arg(command.get_program()).args(command.get_args());
    let output = small.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
