//! The shell assignments of a stub, and the small parsers that all readers of
//! an installer share.

/// Bytes of a value that is kept.
const MOST_VALUE: usize = 4096;

/// The shell assignments at the beginning of a stub.
pub(crate) struct Assignments<'a> {
    /// The stub, up to its cap.
    pub(crate) text: &'a [u8],
}

impl Assignments<'_> {
    /// The first assignment to `key`, as it stands there.
    pub(crate) fn raw(&self, key: &str) -> Option<&[u8]> {
        raw_value(self.text, key)
    }

    /// The same without quotes; an empty value is none.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        let value = unquote(self.raw(key)?);
        let value = &value[..value.len().min(MOST_VALUE)];
        let text = String::from_utf8_lossy(value).replace("\\\"", "\"").replace("\\$", "$");
        (!text.is_empty()).then_some(text)
    }
}

pub(crate) fn raw_value<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    lines(text).find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
}

pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n')
}

pub(crate) fn trim_start(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    &line[blanks..]
}

pub(crate) fn unquote(value: &[u8]) -> &[u8] {
    for quote in [b"\"", b"'"] {
        let inner = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner;
        }
    }
    value
}

/// A plain decimal number.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
