//! No two files of a crate import each other, by whatever way round: what two
//! files need is below both of them.
//!
//! Every path of a source file counts, in `use` lines and elsewhere; a name that
//! a module passes on (`use child::Name`) is looked up where it comes from. The
//! declaration `mod child;`, a `pub use` of a child's items, and test modules
//! are not imports.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemMod, ItemUse, Meta, UseTree, Visibility};

/// A path within its crate: segments below the root.
type ModulePath = Vec<String>;

#[derive(Default)]
struct Module {
    file: PathBuf,
    children: BTreeSet<String>,
    /// What each imported name stands for.
    imports: BTreeMap<String, ModulePath>,
}

/// A path as it is in the source, by where it is.
struct Reference {
    from: ModulePath,
    line: usize,
    words: Vec<String>,
    /// `pub use`.
    passed_on: bool,
}

#[derive(Default)]
struct Crate {
    modules: BTreeMap<ModulePath, Module>,
    references: Vec<Reference>,
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => {
            list.path.is_ident("cfg") && list.tokens.to_string().split(' ').any(|w| w == "test")
        }
        _ => false,
    })
}

/// The value of `#[path = "..."]`.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

impl Crate {
    fn read(root: &Path) -> Crate {
        let mut found = Crate::default();
        found.file(&ModulePath::new(), root, root.parent().unwrap());
        found
    }

    /// Reads the file of a module; its children's files are in `dir`.
    fn file(&mut self, path: &ModulePath, file: &Path, dir: &Path) {
        let text = fs::read_to_string(file).unwrap();
        let parsed: File = syn::parse_file(&text).unwrap_or_else(|e| panic!("{file:?}: {e}"));
        self.items(path, &parsed.items, file, dir);
    }

    fn items(&mut self, path: &ModulePath, items: &[Item], file: &Path, dir: &Path) {
        let module = Module { file: file.to_path_buf(), ..Module::default() };
        self.modules.insert(path.clone(), module);
        for item in items {
            match item {
                Item::Mod(child) if !is_test(&child.attrs) => self.child(path, child, file, dir),
                Item::Mod(_) => {}
                _ => References { of: self, from: path.clone(), passed_on: false }.visit_item(item),
            }
        }
    }

    fn child(&mut self, path: &ModulePath, child: &ItemMod, file: &Path, dir: &Path) {
        let name = child.ident.to_string();
        let below = dir.join(&name);
        self.modules.get_mut(path).unwrap().children.insert(name.clone());
        let path: ModulePath = path.iter().cloned().chain([name.clone()]).collect();
        match (&child.content, path_attribute(&child.attrs)) {
            (Some((_, items)), _) => self.items(&path, items, file, &below),
            (None, Some(named)) => {
                let named = file.parent().unwrap().join(named);
                self.file(&path, &named, named.parent().unwrap());
            }
            (None, None) => {
                let flat = dir.join(format!("{name}.rs"));
                let nested = below.join("mod.rs");
                self.file(&path, if flat.is_file() { &flat } else { &nested }, &below);
            }
        }
    }

    /// The module in which what a path names is defined; `None` for other crates.
    fn module_of(&self, from: &ModulePath, words: &[String], depth: usize) -> Option<ModulePath> {
        let first = words.first()?;
        let mut at = match first.as_str() {
            "crate" => ModulePath::new(),
            "self" | "super" => from.clone(),
            name => {
                let here = self.modules.get(from)?;
                let known = here.children.contains(name) || here.imports.contains_key(name);
                return if known && depth < 16 {
                    self.descend(from.clone(), words, depth)
                } else {
                    None
                };
            }
        };
        let mut rest = if first == "super" { words } else { &words[1..] };
        while rest.first().is_some_and(|word| word == "super") {
            at.pop();
            rest = &rest[1..];
        }
        self.descend(at, rest, depth)
    }

    fn descend(&self, mut at: ModulePath, words: &[String], depth: usize) -> Option<ModulePath> {
        for (index, word) in words.iter().enumerate() {
            let module = self.modules.get(&at)?;
            if module.children.contains(word) {
                let below: ModulePath = at.iter().cloned().chain([word.clone()]).collect();
                // a test module is declared and not read
                if !self.modules.contains_key(&below) {
                    return None;
                }
                at = below;
                continue;
            }
            let Some(target) = module.imports.get(word) else { break };
            // a name like its own import: `use other_crate::name`
            if depth >= 16 || target.first() == Some(word) {
                return None;
            }
            let target: Vec<String> = target.iter().chain(&words[index + 1..]).cloned().collect();
            return self.module_of(&at, &target, depth + 1);
        }
        Some(at)
    }

    /// Which file imports which, with the lines that do.
    fn edges(&self) -> BTreeMap<(PathBuf, PathBuf), BTreeSet<usize>> {
        let mut edges: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
        for reference in &self.references {
            let Some(to) = self.module_of(&reference.from, &reference.words, 0) else { continue };
            let own = to.starts_with(&reference.from);
            let (from, to) = (&self.modules[&reference.from].file, &self.modules[&to].file);
            if from != to && !(reference.passed_on && own) {
                let lines = edges.entry((from.clone(), to.clone())).or_default();
                lines.insert(reference.line);
            }
        }
        edges
    }
}

/// Collects the paths of one item.
struct References<'a> {
    of: &'a mut Crate,
    from: ModulePath,
    passed_on: bool,
}

impl References<'_> {
    fn add(&mut self, words: Vec<String>, line: usize) {
        let (from, passed_on) = (self.from.clone(), self.passed_on);
        self.of.references.push(Reference { from, line, words, passed_on });
    }

    fn tree(&mut self, tree: &UseTree, mut words: Vec<String>) {
        let import = |this: &mut Self, name: String, words: Vec<String>, line| {
            let module = this.of.modules.get_mut(&this.from).unwrap();
            module.imports.insert(name, words.clone());
            this.add(words, line);
        };
        match tree {
            UseTree::Path(path) => {
                words.push(path.ident.to_string());
                self.tree(&path.tree, words);
            }
            UseTree::Name(name) => {
                let line = name.ident.span().start().line;
                if name.ident != "self" {
                    words.push(name.ident.to_string());
                }
                import(self, words.last().unwrap().clone(), words, line);
            }
            UseTree::Rename(rename) => {
                words.push(rename.ident.to_string());
                let line = rename.ident.span().start().line;
                import(self, rename.rename.to_string(), words, line);
            }
            UseTree::Glob(glob) => self.add(words, glob.star_token.spans[0].start().line),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(tree, words.clone()));
            }
        }
    }
}

impl<'ast> Visit<'ast> for References<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.passed_on = !matches!(item.vis, Visibility::Inherited);
        self.tree(&item.tree, Vec::new());
        self.passed_on = false;
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        // a single name is an import that counted already, or its own
        if words.len() > 1 {
            self.add(words, path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    /// Arguments of macros such as `format!` are expressions to nobody but them.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let arguments = syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated;
        if let Ok(arguments) = call.parse_body_with(arguments) {
            let paths: Vec<syn::Expr> = arguments.into_iter().collect();
            for expression in &paths {
                let mut inner =
                    References { of: self.of, from: self.from.clone(), passed_on: false };
                inner.visit_expr(expression);
            }
        }
        visit::visit_macro(self, call);
    }
}

/// Groups of files that all import each other, directly or through others.
fn rings(edges: &BTreeMap<(PathBuf, PathBuf), BTreeSet<usize>>) -> Vec<BTreeSet<PathBuf>> {
    let files: BTreeSet<&PathBuf> = edges.keys().flat_map(|(from, to)| [from, to]).collect();
    let reached = |start: &PathBuf| {
        let mut seen = BTreeSet::new();
        let mut open = vec![start.clone()];
        while let Some(file) = open.pop() {
            for (from, to) in edges.keys() {
                if *from == file && seen.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&PathBuf, BTreeSet<PathBuf>> =
        files.iter().map(|file| (*file, reached(file))).collect();
    let mut rings: Vec<BTreeSet<PathBuf>> = Vec::new();
    for (file, others) in &reached {
        let ring: BTreeSet<PathBuf> =
            others.iter().filter(|other| reached[other].contains(*file)).cloned().collect();
        if ring.len() > 1 && !rings.contains(&ring) {
            rings.push(ring);
        }
    }
    rings
}

/// The root files of all programs and libraries of the workspace.
fn roots(top: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(top).into_iter();
    let walk = walk.filter_entry(|entry| {
        !["target", ".git", "lab", "debian"].iter().any(|name| entry.file_name() == *name)
    });
    let files = walk.flatten().map(|entry| entry.into_path());
    let is_root = |path: &PathBuf| {
        let path = path.strip_prefix(top).unwrap().to_str().unwrap_or_default();
        let in_bin = path.contains("/src/bin/") && path.matches('/').count() < 6;
        let main = path.ends_with("/main.rs") || path.ends_with("/src/lib.rs");
        main || (in_bin && path.rsplit('/').nth(1) == Some("bin") && path.ends_with(".rs"))
    };
    files.filter(is_root).collect()
}

#[test]
fn no_two_files_of_a_crate_import_each_other() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let roots = roots(top);
    assert!(roots.len() > 20, "{roots:?}");
    let mut report = String::new();
    for root in roots {
        let edges = Crate::read(&root).edges();
        for ring in rings(&edges) {
            report += &format!("\n{} files import each other:\n", ring.len());
            for ((from, to), lines) in &edges {
                if ring.contains(from) && ring.contains(to) {
                    let short = |path: &Path| path.strip_prefix(top).unwrap().display().to_string();
                    let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
                    report += &format!("  {}:{} -> {}\n", short(from), lines.join(","), short(to));
                }
            }
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn a_ring_is_seen_through_every_kind_of_path() {
    let dir = testbed::bed::Bed::empty();
    dir.write("src/lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\n");
    dir.write("src/a.rs", "use crate::{b::{self, B}, c};\npub struct A(B);\nfn f() { c::g() }\n");
    dir.write("src/b.rs", "pub struct B;\nfn f() { format!(\"{}\", super::A::default()); }\n");
    dir.write("src/c.rs", "pub fn g() {}\n#[cfg(test)]\nmod tests { use crate::a::A; }\n");
    let edges = Crate::read(&dir.at("src/lib.rs")).edges();
    let found = rings(&edges);
    assert_eq!(found, [BTreeSet::from([dir.at("src/a.rs"), dir.at("src/b.rs")])]);
    assert_eq!(edges[&(dir.at("src/b.rs"), dir.at("src/a.rs"))], BTreeSet::from([2]));
}
