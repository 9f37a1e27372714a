//! The words that the project does not use, looked for in everything that a
//! user may read: string literals of the tools, help, man pages, README and the
//! operator's pipelines.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// Words and turns of phrase, in lower case, each with what to write instead.
const BANNED: &[(&str, &str)] = &[
    ("of now", "current"),
    ("of before", "old"),
    ("all the same", "anyway"),
    ("meanwhile", "at the same time, by another process"),
    ("anew", "again"),
    ("vouch", "a trusted SHA-256 is known for"),
    ("held against", "verified against, compared with"),
    ("stranger", "a device that is not part of the GPU"),
    ("below dir", "the system root DIR"),
    ("(same)", "(unchanged)"),
    ("mend:", "Fix:"),
    ("find:", "Diagnose:"),
    ("the answer is no", "a check found a difference or a problem"),
    ("goes on", "continues"),
    ("somebody", "name who"),
    ("nobody", "no process, no VM, name who"),
    ("at hand", "available"),
    ("at work", "running"),
    ("business", "out of scope"),
    ("is not there", "does not exist"),
    ("is there already", "already exists"),
    ("of use", "usable"),
];

/// Each banned phrase in a text, with its line from 1. `is no X` is one, `there
/// is no X` and `is no longer` are not.
fn banned(text: &str) -> Vec<(usize, String)> {
    // a field of records, whose name scripts and notes in caches hold
    let lower = text.to_lowercase().replace("vouched_by", "_");
    let mut found = Vec::new();
    let letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    for (phrase, better) in BANNED {
        for (at, _) in lower.match_indices(phrase) {
            let before = letter(lower[..at].chars().next_back());
            // vouch: vouches, vouched
            let after = letter(lower[at + phrase.len()..].chars().next()) && *phrase != "vouch";
            let first = phrase.starts_with(char::is_alphabetic);
            let last = phrase.ends_with(char::is_alphabetic);
            if !(before && first || after && last) {
                found.push((line(&lower, at), format!("'{phrase}': {better}")));
            }
        }
    }
    for (at, phrase) in lower.match_indices("is no ") {
        let before = lower[..at].trim_end();
        let rest = &lower[at + phrase.len()..];
        let whole = !letter(lower[..at].chars().next_back());
        if whole && !before.ends_with("there") && !rest.starts_with("longer") {
            found.push((line(&lower, at), "'is no X': is not a X".into()));
        }
    }
    found
}

fn line(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

/// String literals of a source file, doc comments and tests left out.
#[derive(Default)]
struct Literals(Vec<(usize, String)>);

impl<'a> Visit<'a> for Literals {
    fn visit_attribute(&mut self, attribute: &'a syn::Attribute) {
        // clap's options are attributes; comments are name-value pairs
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if module.ident != "tests" {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_lit_str(&mut self, literal: &'a syn::LitStr) {
        self.0.push((literal.span().start().line, literal.value()));
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.tokens(call.tokens.clone());
    }
}

impl Literals {
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Group(group) => self.tokens(group.stream()),
                proc_macro2::TokenTree::Literal(literal) => {
                    if let syn::Lit::Str(text) = syn::Lit::new(literal) {
                        self.visit_lit_str(&text);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The files below a directory whose names end so; none of tests.
fn files(top: &Path, dir: &str, end: &str) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(top.join(dir)).sort_by_file_name().into_iter().flatten();
    let files = walk.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path());
    files.filter(|path| path.to_str().is_some_and(|path| path.ends_with(end))).collect()
}

#[test]
fn users_read_only_the_words_of_the_project() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut report = String::new();
    let mut add = |path: &Path, found: Vec<(usize, String)>| {
        for (line, what) in found {
            let path = path.strip_prefix(top).unwrap().display();
            report += &format!("\n{path}:{line}: {what}");
        }
    };
    let sources = [files(top, "bins", ".rs"), files(top, "shared", ".rs")].concat();
    let sources: Vec<PathBuf> = sources
        .into_iter()
        .filter(|path| path.to_str().unwrap().contains("/src/"))
        .filter(|path| !path.to_str().unwrap().ends_with("tests.rs"))
        .collect();
    assert!(sources.len() > 150);
    for path in sources {
        let mut literals = Literals::default();
        literals.visit_file(&syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
        for (first, text) in literals.0 {
            let found = banned(&text).into_iter().map(|(line, what)| (first + line - 1, what));
            add(&path, found.collect());
        }
    }
    // help is in the man pages, which are generated from it
    let pages = [files(top, "man", ""), files(top, "shared/pipelines", "")].concat();
    for path in pages.into_iter().chain([top.join("README.md")]) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        add(&path, banned(&text));
    }
    assert!(report.is_empty(), "{} banned words:{report}", report.lines().count() - 1);
}

#[test]
fn phrases_are_found_as_words_and_not_inside_others() {
    let found = |text: &str| banned(text).len();
    for bad in ["the numbers of now", "X is no GPU", "nobody vouches", "Mend: run it", "a\nis no b"]
    {
        assert!(found(bad) > 0, "{bad}");
    }
    for good in [
        "there is no GPU",
        "is no longer bound",
        "of nowhere",
        "a businesslike",
        "is not",
        "vouched_by",
    ] {
        assert_eq!(found(good), 0, "{good}");
    }
    assert_eq!(banned("one\ntwo is no three")[0].0, 2);
}
