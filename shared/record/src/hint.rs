//! What to do next: words for people, and commands as argument vectors.

use std::borrow::Cow;

/// A command as its argument vector: the program, then its arguments.
pub type CommandLine = Vec<String>;

/// What to do next. Words alone are for what only a person can do: firmware
/// setup, a reboot, a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// In words.
    pub words: Option<String>,
    /// The commands to run, in order.
    pub commands: Vec<CommandLine>,
}

impl Hint {
    /// One in words alone.
    pub fn words(words: impl Into<String>) -> Hint {
        Hint { words: Some(words.into()), commands: Vec::new() }
    }

    /// One command.
    pub fn command(command: CommandLine) -> Hint {
        Hint { words: None, commands: vec![command] }
    }

    /// Commands in their order.
    pub fn commands(commands: impl IntoIterator<Item = CommandLine>) -> Hint {
        Hint { words: None, commands: commands.into_iter().collect() }
    }

    /// The same hint with words before the commands.
    pub fn because(mut self, words: impl Into<String>) -> Hint {
        self.words = Some(words.into());
        self
    }

    /// The same hint with one more command at its end.
    pub fn then(mut self, command: CommandLine) -> Hint {
        self.commands.push(command);
        self
    }
}

/// A command as it is typed into a shell: words that a shell would change are
/// quoted.
pub fn shell_words(command: &[String]) -> String {
    command.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

fn shell_word(word: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:=,@%+-".contains(&b);
    match !word.is_empty() && word.bytes().all(plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_change_is_quoted() {
        let command = |words: &[&str]| words.iter().map(|w| (*w).to_string()).collect::<Vec<_>>();
        assert_eq!(shell_words(&command(&["pct", "reboot", "901"])), "pct reboot 901");
        assert_eq!(shell_words(&command(&["a", "it's", "", "$x;y"])), r"a 'it'\''s' '' '$x;y'");
    }
}
