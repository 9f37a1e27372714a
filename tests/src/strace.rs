//! What strace says that a run did.

use std::collections::BTreeMap;

/// How often each system call was made, from a log of one run: of several
/// processes (`-f`) the one that made it most often counts, since strace counts
/// `when=` for each by itself.
pub fn calls(log: &str) -> BTreeMap<String, usize> {
    let mut by_process: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in log.lines() {
        let (process, rest) = match line.split_once(char::is_whitespace) {
            Some((pid, rest)) if pid.bytes().all(|b| b.is_ascii_digit()) => {
                (pid, rest.trim_start())
            }
            _ => ("", line),
        };
        let Some((name, _)) = rest.split_once('(') else { continue };
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if !name.is_empty() && name.bytes().all(plain) {
            *by_process.entry((process, name)).or_insert(0) += 1;
        }
    }
    let mut calls = BTreeMap::new();
    for ((_, name), count) in by_process {
        let most = calls.entry(name.to_string()).or_insert(0);
        *most = count.max(*most);
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_counts_by_itself() {
        let log = "12 openat(AT_FDCWD, \"/x\") = 3\n12 write(1, \"a\") = 1\n13 write(1, \"(\") = 1\n\
            13 write(1, \"a\" <unfinished ...>\n13 <... write resumed>) = 1\n12 +++ exited with 0 +++\n";
        let counted = calls(log);
        assert_eq!((counted["write"], counted["openat"], counted.len()), (2, 1, 2));
        assert_eq!(calls("read(3, \"\", 1) = 0\n--- SIGTERM {si_signo=SIGTERM} ---\n")["read"], 1);
    }
}
