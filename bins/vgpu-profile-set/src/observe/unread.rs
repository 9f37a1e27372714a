//! What could not be looked at.

use host::FileError;

/// What could not be read, in words; `None`: all was.
pub(crate) fn unknown(unread: &[FileError]) -> Option<String> {
    let first = unread.first()?;
    Some(match unread.len() {
        1 => first.to_string(),
        n => format!("{first} (and {} more)", n - 1),
    })
}
