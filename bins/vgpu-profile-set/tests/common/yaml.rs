//! YAML as JSON, for tests that validate it with a schema.

use std::collections::VecDeque;

use saphyr_parser::{Event, Parser, ScalarStyle};
use vgpu_profile_set::input::yaml::{Kind, Value, parse_all};

/// All documents as JSON: plain scalars that are numbers, booleans or null become those.
pub fn to_json(text: &str) -> Result<Vec<serde_json::Value>, String> {
    let mut events = Parser::new_from_str(text);
    let mut quoted = VecDeque::new();
    while let Some(event) = events.next_event() {
        if let Ok((Event::Scalar(_, style, ..), _)) = event {
            quoted.push_back(style != ScalarStyle::Plain);
        }
    }
    Ok(parse_all(text)?.iter().map(|value| json(value, &mut quoted)).collect())
}

fn json(value: &Value, quoted: &mut VecDeque<bool>) -> serde_json::Value {
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

#[test]
fn plain_scalars_are_numbers_booleans_and_null() {
    let json = to_json("a: [1, \"2\", x]\nb:\n  c: true\n  d: null\n").unwrap();
    assert_eq!(json[0].to_string(), "{\"a\":[1,\"2\",\"x\"],\"b\":{\"c\":true,\"d\":null}}");
}
