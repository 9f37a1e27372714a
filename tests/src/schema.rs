//! Holds lines against the JSON Schemas, more strictly than a consumer would:
//! a key that the schema does not know is an error here, so that no field
//! comes into being undocumented.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

use crate::doc::Document;

fn validators() -> &'static HashMap<&'static str, Validator> {
    static VALIDATORS: OnceLock<HashMap<&'static str, Validator>> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        record::SCHEMAS
            .iter()
            .map(|schema| {
                let mut value: Value = serde_json::from_str(schema.text).expect(schema.name);
                close(&mut value);
                (schema.name, jsonschema::validator_for(&value).expect(schema.name))
            })
            .collect()
    })
}

/// Forbids unknown keys in every object that names its keys.
fn close(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for child in map.values_mut() {
                close(child);
            }
            if map.contains_key("properties")
                && map.contains_key("required")
                && !map.contains_key("const")
            {
                map.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            // a condition names only what it looks at
            if let Some(Value::Object(condition)) = map.get_mut("if") {
                condition.remove("additionalProperties");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// One line as a record. Panics where it is none, with the reason.
pub fn check_line(line: &str) -> Value {
    assert!(line.starts_with("{\"type\":\""), "first key is not type: {line}");
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let name = value["type"].as_str().unwrap_or_default();
    let Some(validator) = validators().get(name) else { panic!("no schema for '{name}': {line}") };
    let errors: Vec<String> =
        validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "not a valid {name} record:\n{}\n{line}", errors.join("\n"));
    if let Some(cause) = value["cause"].as_str() {
        assert!(explained(cause), "pve-gpu-causes(7) does not explain {cause}: {line}");
    }
    value
}

/// Whether a cause is an item of the page that explains them.
fn explained(cause: &str) -> bool {
    static PAGE: OnceLock<HashSet<String>> = OnceLock::new();
    let page = PAGE.get_or_init(|| {
        let items = Document::read("man/pve-gpu-causes.7").items();
        items.into_iter().map(|item| item.tag).collect()
    });
    page.contains(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: &str =
        r#"{"type":"error","tool":"x","message":"y","exit":3,"hint":null,"commands":[]}"#;

    #[test]
    fn a_valid_line_passes() {
        assert_eq!(check_line(ERROR)["exit"], 3);
    }

    #[test]
    fn unknown_keys_missing_keys_and_wrong_values_do_not() {
        for bad in [
            r#"{"type":"error","tool":"x","message":"y","exit":3,"hint":null,"commands":[],"more":1}"#,
            r#"{"type":"error","tool":"x","exit":3,"hint":null,"commands":[]}"#,
            r#"{"type":"error","tool":"x","message":"y","exit":7,"hint":null,"commands":[]}"#,
            r#"{"tool":"x","type":"error","message":"y","exit":3,"hint":null,"commands":[]}"#,
            r#"{"type":"nothing"}"#,
        ] {
            assert!(std::panic::catch_unwind(|| check_line(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_without_a_reason_is_no_record() {
        let change = r#"{"type":"change","tool":"x","target":"y","property":"z","from":null,"to":null,"status":"refused","reason":null,"hint":null,"commands":[]}"#;
        assert!(std::panic::catch_unwind(|| check_line(change)).is_err());
        check_line(&change.replace("refused", "changed"));
    }
}
