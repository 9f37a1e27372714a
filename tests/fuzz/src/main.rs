//! `FUZZ_PARSER=NAME fuzz [LIBFUZZER OPTION...]`: feeds one parser.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fn parser() -> fn(&[u8]) {
    static PARSER: OnceLock<fn(&[u8])> = OnceLock::new();
    *PARSER.get_or_init(|| {
        let name = std::env::var("FUZZ_PARSER").unwrap_or_default();
        let found = parsers::all().into_iter().find(|parser| parser.name == name);
        found.unwrap_or_else(|| panic!("FUZZ_PARSER names no parser: '{name}'")).run
    })
}

fuzz_target!(|bytes: &[u8]| parser()(bytes));
