//! The part of YAML that configuration files need: scalars as strings,
//! sequences, mappings with string keys, each with its line. Anchors and tags
//! are refused, and so is a key that is given twice.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// A value and the line on which it begins, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Scalar(String),
    Sequence(Vec<Value>),
    /// Fields in their order.
    Mapping(Vec<(String, Value)>),
}

/// How deep values may be nested; configurations need six levels.
const DEEPEST: usize = 64;

/// Parses the only document. Errors: what is wrong, with the line.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut documents = parse_all(text)?;
    match documents.len() {
        1 => Ok(documents.swap_remove(0)),
        n => Err(format!("has {n} YAML documents instead of one")),
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
            None => Err("ends in the middle of a value".into()),
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
        _ => Err(format!("line {line}: anchors and tags are not supported")),
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
                    (_, line) => return Err(format!("line {line}: a key is not a string")),
                };
                let (event, at) = events.next()?;
                if fields.iter().any(|(known, _)| *known == key) {
                    return Err(format!("line {at}: '{key}' is given twice"));
                }
                fields.push((key, value(events, event, at, depth + 1)?));
            }
        }
        _ => return Err(format!("line {line}: anchors and tags are not supported")),
    };
    Ok(Value { line, kind })
}

/// All documents as JSON, for tests that validate them with a schema: plain
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
    fn values_are_read_and_what_is_not_supported_is_refused() {
        let json = to_json("a: [1, \"2\", x]\nb:\n  c: true\n  d: null\n").unwrap();
        assert_eq!(json[0].to_string(), "{\"a\":[1,\"2\",\"x\"],\"b\":{\"c\":true,\"d\":null}}");
        for (text, why) in [
            ("a: 1\na: 2\n", "'a' is given twice"),
            ("a: &x 1\nb: *x\n", "anchors"),
            ("a: !!binary x\n", "anchors and tags"),
            ("a: [1\n", "not YAML"),
            ("? [x]\n: 1\n", "a key is not a string"),
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
