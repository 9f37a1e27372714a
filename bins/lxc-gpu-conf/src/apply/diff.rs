//! A unified diff of a planned change.

use record::escape_controls;
use similar::{ChangeTag, TextDiff};

/// Lines of context.
const CONTEXT: usize = 3;

/// The change of a file, with control characters escaped.
pub fn unified(path: &str, old: &[u8], new: &[u8]) -> String {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let diff = TextDiff::from_lines(old.as_ref(), new.as_ref());
    let mut text = format!("--- {path}\n+++ {path} (planned)\n");
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        text.push_str(&format!("{}\n", hunk.header()));
        for change in hunk.iter_changes() {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            let line = change.value().trim_end_matches(['\n', '\r']);
            text.push_str(&format!("{sign}{}\n", escape_controls(line)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_three_lines_around_it() {
        let old: String = (0..10).map(|n| format!("{n}\n")).collect();
        let new = old.replace("5\n", "5\nnew\x1b\n");
        assert_eq!(
            unified("/x", old.as_bytes(), new.as_bytes()),
            "--- /x\n+++ /x (planned)\n@@ -4,6 +4,7 @@\n 3\n 4\n 5\n+new\\x1b\n 6\n 7\n 8\n"
        );
    }
}
