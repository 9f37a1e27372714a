//! The part of YAML that configuration files need: scalars as strings,
//! sequences, mappings with string keys, each with its line. Anchors and tags
//! are refused, and so is a key that is given twice.

use saphyr_parser::{Event, Parser};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_what_is_not_supported_is_refused() {
        let scalar = |line, text: &str| Value { line, kind: Kind::Scalar(text.into()) };
        let Kind::Mapping(fields) = parse("a: [1, \"2\"]\nb:\n  c: true\n").unwrap().kind else {
            panic!("not a mapping")
        };
        assert_eq!(fields[0].1.kind, Kind::Sequence(vec![scalar(1, "1"), scalar(1, "2")]));
        assert_eq!(fields[1].1.kind, Kind::Mapping(vec![("c".into(), scalar(3, "true"))]));
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
