//! As much of YAML as configuration files need: scalars as text, sequences,
//! mappings with text keys. Anchors and tags are refused rather than guessed
//! at, and so is a key that comes twice.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// From 1.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
}

/// Kinds of value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, as it stands.
    Scalar(String),
    /// A list.
    Sequence(Vec<Value>),
    /// Fields in their order.
    Mapping(Vec<(String, Value)>),
}

/// How deep values may lie in each other; files of ours need six levels.
const DEEPEST: usize = 64;

/// Parses the first document. Errors: in words, with the line.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut documents = parse_all(text)?;
    match documents.len() {
        1 => Ok(documents.swap_remove(0)),
        n => Err(format!("holds {n} YAML documents, not one")),
    }
}

/// Parses all documents.
pub fn parse_all(text: &str) -> Result<Vec<Value>, String> {
    let mut events = Events { parser: Parser::new_from_str(text) };
    let mut documents = Vec::new();
    loop {
        match events.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing,
                _,
            ) => {}
            (event, line) => documents.push(value(&mut events, event, line, 0)?),
        }
    }
}

struct Events<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), String> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => {
                Err(format!("line {}: not YAML: {}", error.marker().line(), error.info()))
            }
            None => Err("ends too early".into()),
        }
    }
}

fn value(
    events: &mut Events<'_>,
    event: Event<'_>,
    line: usize,
    depth: usize,
) -> Result<Value, String> {
    if depth > DEEPEST {
        return Err(format!("line {line}: nested too deeply"));
    }
    let special = |anchor: usize, tag: bool| match (anchor, tag) {
        (0, false) => Ok(()),
        _ => Err(format!("line {line}: anchors and tags are not understood here")),
    };
    let kind = match event {
        Event::Scalar(text, _, anchor, tag) => {
            special(anchor, tag.is_some())?;
            Kind::Scalar(text.into_owned())
        }
        Event::SequenceStart(anchor, tag) => {
            special(anchor, tag.is_some())?;
            let mut items = Vec::new();
            loop {
                match events.next()? {
                    (Event::SequenceEnd, _) => break Kind::Sequence(items),
                    (event, line) => items.push(value(events, event, line, depth + 1)?),
                }
            }
        }
        Event::MappingStart(anchor, tag) => {
            special(anchor, tag.is_some())?;
            let mut fields: Vec<(String, Value)> = Vec::new();
            loop {
                let key = match events.next()? {
                    (Event::MappingEnd, _) => break Kind::Mapping(fields),
                    (Event::Scalar(key, _, 0, None), _) => key.into_owned(),
                    (_, line) => return Err(format!("line {line}: a key is not a text")),
                };
                let (event, at) = events.next()?;
                if fields.iter().any(|(known, _)| *known == key) {
                    return Err(format!("line {at}: '{key}' twice"));
                }
                fields.push((key, value(events, event, at, depth + 1)?));
            }
        }
        _ => return Err(format!("line {line}: anchors and tags are not understood here")),
    };
    Ok(Value { line, kind })
}

/// The first document as JSON, for tests that hold it against a schema: plain
/// scalars that are numbers, booleans or null become those.
pub fn to_json(text: &str) -> Result<Vec<serde_json::Value>, String> {
    let mut events = Parser::new_from_str(text);
    let mut quoted = std::collections::VecDeque::new();
    while let Some(event) = events.next_event() {
        if let Ok((Event::Scalar(_, style, ..), _)) = event {
            quoted.push_back(style != ScalarStyle::Plain);
        }
    }
    Ok(parse_all(text)?.iter().map(|value| json(value, &mut quoted)).collect())
}

fn json(value: &Value, quoted: &mut std::collections::VecDeque<bool>) -> serde_json::Value {
    match &value.kind {
        Kind::Scalar(text) if quoted.pop_front() == Some(true) => text.clone().into(),
        Kind::Scalar(text) => match text.as_str() {
            "" | "~" | "null" => serde_json::Value::Null,
            "true" => true.into(),
            "false" => false.into(),
            text => text.parse::<i64>().map_or_else(|_| text.into(), Into::into),
        },
        Kind::Sequence(items) => items.iter().map(|item| json(item, quoted)).collect(),
        Kind::Mapping(fields) => {
            let field = |(key, value): &(String, Value)| {
                quoted.pop_front();
                (key.clone(), json(value, quoted))
            };
            serde_json::Value::Object(fields.iter().map(field).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_what_is_not_understood_is_refused() {
        let json = to_json("a: [1, \"2\", x]\nb:\n  c: true\n  d: null\n").unwrap();
        assert_eq!(json[0].to_string(), "{\"a\":[1,\"2\",\"x\"],\"b\":{\"c\":true,\"d\":null}}");
        for (text, why) in [
            ("a: 1\na: 2\n", "'a' twice"),
            ("a: &x 1\nb: *x\n", "anchors"),
            ("a: !!binary x\n", "anchors and tags"),
            ("a: [1\n", "not YAML"),
            ("? [x]\n: 1\n", "a key is not a text"),
            ("a: 1\n---\nb: 2\n", "2 YAML documents"),
            ("", "0 YAML documents"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(why), "{text:?}: {message}");
        }
        let deep = "[".repeat(5000);
        assert!(parse(&deep).is_err());
    }
}
