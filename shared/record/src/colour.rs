//! Colour for the words that an eye looks for first. On a terminal only, and
//! not where somebody asked for none.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

/// Whether standard output gets colour: it is a terminal that knows it, and
/// NO_COLOR (no-color.org) is not set.
pub(crate) fn is_wanted() -> bool {
    let said = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdout().is_terminal() && !dumb && !said("NO_COLOR")
}

/// A word of the column STATUS: green where all is well, red where it is not,
/// yellow where somebody should look.
pub(crate) fn painted(word: &str) -> Cow<'_, str> {
    let code = match word {
        "ok" | "unchanged" | "changed" => 32,
        "DRIFT" | "refused" | "failed" => 31,
        "drift" | "unknown" | "planned" | "skipped" | "rolled-back" => 33,
        _ => return Cow::Borrowed(word),
    };
    Cow::Owned(format!("\x1b[{code}m{word}\x1b[0m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_of_a_status_are_painted() {
        assert_eq!(painted("ok"), "\x1b[32mok\x1b[0m");
        assert_eq!(painted("DRIFT"), "\x1b[31mDRIFT\x1b[0m");
        assert_eq!(painted("STATUS"), "STATUS");
    }
}
