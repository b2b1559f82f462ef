//! Reads which modules and crates the source files of a crate use. The tests of both programs check their structure
//! with it.
//!
//! Modules are found by following the `mod` declarations from `lib.rs`. Items under `#[cfg(test)]` are not scanned.
//! A path counts as a use of the file that defines the name: re-exports are resolved, so that an import through a
//! `mod.rs` is an import of the sibling behind it.

#![allow(unreachable_pub, reason = "a part of test programs, which export nothing")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, File, Meta, UseTree};

/// A path from the root of the crate: `["store", "mongo"]`, the root itself is empty.
type ModulePath = Vec<String>;

/// One source file of a crate.
pub struct Module {
    /// The module's path with slashes, such as `store/mongo`.
    pub name: String,
    /// The modules whose items it uses, by their names, itself excluded.
    pub uses: BTreeSet<String>,
    /// The first segments of all paths that do not begin in this crate: external crates, and names in scope.
    pub outside: BTreeSet<String>,
    /// All identifiers in its code; those behind `::` are there with it as well.
    pub names: BTreeSet<String>,
}

/// The modules of the crate whose `lib.rs` is in `root`.
pub fn modules(root: &Path) -> Vec<Module> {
    let mut scans = BTreeMap::new();
    scan_file(&root.join("lib.rs"), root, Vec::new(), &mut scans);
    resolved(&scans)
}

/// The top-level modules of the crate `library` that a file of another crate uses, such as the `main.rs` beside it.
pub fn uses_of(library: &str, file: &Path) -> BTreeSet<String> {
    let scan = scan(&read(file), Vec::new());
    assert!(scan.children.is_empty(), "{} declares modules, which are not scanned", file.display());
    let paths = scan.paths.iter().filter(|path| path.first().is_some_and(|first| first == library));
    paths.filter_map(|path| path.get(1).cloned()).collect()
}

/// The groups of sibling files or folders below `root` that import each other in a circle, as text. A `mod.rs` and
/// its child may.
pub fn circles(modules: &[Module]) -> Vec<String> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for module in modules {
        for used in &module.uses {
            if let Some((from, to)) = siblings(&module.name, used) {
                edges.entry(from).or_default().insert(to);
            }
        }
    }
    let reachable = |start: &String| {
        let (mut found, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(next) = open.pop() {
            open.extend(edges.get(next).into_iter().flatten().filter(|to| found.insert((*to).clone())));
        }
        found
    };
    let reach: BTreeMap<&String, BTreeSet<String>> = edges.keys().map(|from| (from, reachable(from))).collect();
    let in_circle = |a: &String, b: &String| {
        reach.get(a).is_some_and(|found| found.contains(b)) && reach.get(b).is_some_and(|found| found.contains(a))
    };
    let mut circles = BTreeSet::new();
    for name in edges.keys().filter(|name| in_circle(name, name)) {
        let members: Vec<&str> = edges.keys().filter(|other| in_circle(name, other)).map(String::as_str).collect();
        circles.insert(members.join(" <-> "));
    }
    circles.into_iter().collect()
}

/// The files below `folders` that have more than 400 lines.
pub fn long_files(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut open = folders.to_vec();
    let mut long = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && read(&path).lines().count() > 400 {
                long.push(path);
            }
        }
    }
    long
}

/// The ancestors of two modules below their common folder; `None` where one contains the other.
fn siblings(from: &str, to: &str) -> Option<(String, String)> {
    let (from, to): (Vec<&str>, Vec<&str>) = (from.split('/').collect(), to.split('/').collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let ancestor = |path: &[&str]| path.get(..=common).map(|part| part.join("/"));
    Some((ancestor(&from)?, ancestor(&to)?))
}

/// What one file contains.
#[derive(Default)]
struct Scan {
    module: ModulePath,
    /// The modules that it declares, tests excluded.
    children: BTreeSet<String>,
    /// The names that `use` brings into scope, with the paths that they stand for.
    bindings: BTreeMap<String, Vec<String>>,
    /// All paths as they are written.
    paths: BTreeSet<Vec<String>>,
    names: BTreeSet<String>,
}

fn scan_file(file: &Path, folder: &Path, module: ModulePath, scans: &mut BTreeMap<ModulePath, Scan>) {
    let scan = scan(&read(file), module.clone());
    for child in &scan.children {
        let (own, inner) = (folder.join(format!("{child}.rs")), folder.join(child));
        let file = if own.exists() { own } else { inner.join("mod.rs") };
        scan_file(&file, &inner, [module.as_slice(), std::slice::from_ref(child)].concat(), scans);
    }
    scans.insert(module, scan);
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn scan(text: &str, module: ModulePath) -> Scan {
    let file: File = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", module.join("/")));
    let mut scan = Scan { module, ..Scan::default() };
    scan.visit_file(&file);
    scan
}

/// Whether one of `attributes` is `cfg(test)`, or `cfg(all(test, …))`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        let condition: String = list.tokens.to_string().split_whitespace().collect();
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all(test,"))
    })
}

/// Defines visitors that pass over items for tests.
macro_rules! skip_tests {
    ($($visit:ident: $item:ident),* $(,)?) => {
        $(fn $visit(&mut self, item: &'ast syn::$item) {
            if !is_test(&item.attrs) {
                visit::$visit(self, item);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Scan {
    skip_tests! {
        visit_item_const: ItemConst,
        visit_item_enum: ItemEnum,
        visit_item_fn: ItemFn,
        visit_item_impl: ItemImpl,
        visit_item_macro: ItemMacro,
        visit_item_static: ItemStatic,
        visit_item_struct: ItemStruct,
        visit_item_trait: ItemTrait,
        visit_item_type: ItemType,
        visit_impl_item_fn: ImplItemFn,
        visit_field: Field,
        visit_local: Local,
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) {
            return;
        }
        assert!(item.content.is_none(), "{}: the module {} is inline", self.module.join("/"), item.ident);
        assert!(!item.attrs.iter().any(|attribute| attribute.path().is_ident("path")), "{} has a path", item.ident);
        self.children.insert(item.ident.to_string());
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            let prefix = if item.leading_colon.is_some() { vec![String::new()] } else { Vec::new() };
            self.add_use(&prefix, &item.tree);
        }
    }

    fn visit_ident(&mut self, name: &'ast syn::Ident) {
        self.names.insert(name.to_string());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let root = path.leading_colon.iter().map(|_| String::new());
        self.add(root.chain(path.segments.iter().map(|segment| segment.ident.to_string())).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        visit::visit_macro(self, item);
        self.add_tokens(&item.tokens.to_string());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.add_tokens(&list.tokens.to_string());
        }
    }
}

impl Scan {
    /// A single name is no reference to a module or a crate, but for those that `use` has.
    fn add(&mut self, path: Vec<String>) {
        self.names.extend(path.iter().skip(1).map(|name| format!("::{name}")));
        self.names.extend(path.iter().cloned());
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }

    fn add_use(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_use(&with(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_use(prefix, tree)),
            UseTree::Glob(_) => self.add_import(prefix.to_vec()),
            UseTree::Name(name) if name.ident == "self" => self.bind(prefix.last().cloned(), prefix.to_vec()),
            UseTree::Name(name) => self.bind(Some(name.ident.to_string()), with(&name.ident)),
            UseTree::Rename(rename) => self.bind(Some(rename.rename.to_string()), with(&rename.ident)),
        }
    }

    fn bind(&mut self, name: Option<String>, path: Vec<String>) {
        self.bindings.extend(name.map(|name| (name, path.clone())));
        self.add_import(path);
    }

    /// A single name is the use of a crate here.
    fn add_import(&mut self, path: Vec<String>) {
        self.add(path.clone());
        self.paths.insert(path);
    }

    /// Adds the paths in the tokens of a macro, which are not parsed.
    fn add_tokens(&mut self, tokens: &str) {
        let spaced = tokens
            .replace("::", " :: ")
            .replace(|c: char| !c.is_alphanumeric() && !c.is_whitespace() && !"_:".contains(c), " ; ");
        let mut path: Vec<String> = Vec::new();
        let mut joined = false;
        for token in spaced.split_whitespace().chain([";"]) {
            if token == "::" {
                joined = true;
                continue;
            }
            if !joined {
                self.add(std::mem::take(&mut path));
            }
            joined = false;
            path.push(token.to_owned());
        }
    }
}

/// Each file with the modules and crates that its paths lead to.
fn resolved(scans: &BTreeMap<ModulePath, Scan>) -> Vec<Module> {
    let module = |scan: &Scan| {
        let mut module = Module {
            name: scan.module.join("/"),
            uses: BTreeSet::new(),
            outside: BTreeSet::new(),
            names: scan.names.clone(),
        };
        for path in &scan.paths {
            match absolute(scan, path) {
                Some(path) => {
                    module
                        .uses
                        .extend(defining(scans, &path, 0).filter(|used| *used != scan.module).map(|m| m.join("/")));
                }
                None => module.outside.extend(path.iter().find(|segment| !segment.is_empty()).cloned()),
            }
        }
        module.uses.remove("");
        module
    };
    scans.values().map(module).collect()
}

/// `path`, as it is written in a file, from the root of the crate; `None` where it does not begin in the crate.
fn absolute(scan: &Scan, path: &[String]) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([&scan.module, rest].concat()),
        "super" => {
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            let parent = scan.module.get(..scan.module.len().checked_sub(ups)?)?;
            Some([parent, path.get(ups..)?].concat())
        }
        child if scan.children.contains(child) => Some([&scan.module, path].concat()),
        _ => None,
    }
}

/// The module that defines what `path` names. An alias of an alias is followed, a circle of them is not.
fn defining(scans: &BTreeMap<ModulePath, Scan>, path: &[String], depth: usize) -> Option<ModulePath> {
    let length = (0..=path.len()).rev().find(|length| path.get(..*length).is_some_and(|m| scans.contains_key(m)))?;
    let (module, rest) = path.split_at(length);
    let scan = scans.get(module)?;
    let alias = rest.first().and_then(|name| scan.bindings.get(name)).filter(|_| depth < 8);
    let target = alias.and_then(|alias| absolute(scan, alias));
    match target {
        Some(target) => defining(scans, &[&target, rest.get(1..)?].concat(), depth + 1),
        None => Some(module.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_of(files: &[(&str, &str)]) -> Vec<Module> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        modules(folder.path())
    }

    fn uses<'a>(modules: &'a [Module], name: &str) -> Vec<&'a str> {
        let module = modules.iter().find(|module| module.name == name).unwrap();
        module.uses.iter().map(String::as_str).collect()
    }

    #[test]
    fn every_form_of_import_is_found() {
        let code = "use crate::{a, b::{c, d}, e::X};\n// crate::no\nfn f(t: crate::t::T) -> u8 { crate::i::f(); vec![crate::m::V] }\n\
                    #[cfg(test)]\nfn g() { crate::no::f() }\n#[derive(crate::k::K)]\nstruct S;\nuse ::outer as other;\n\
                    #[cfg(test)]\nmod tests { use crate::no; }\nconst L: u8 = { let x = hyper::X; crate::last::L };\n";
        let root = "mod here; mod a; mod b; mod e; mod t; mod i; mod m; mod k; mod last; mod no;";
        let names = ["a", "b", "e", "t", "i", "m", "k", "last", "no"];
        let mut files: Vec<_> = names.map(|name| (format!("{name}.rs"), "")).into();
        files.extend([("lib.rs".to_owned(), root), ("here.rs".to_owned(), code)]);
        let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        let modules = crate_of(&files);
        assert_eq!(uses(&modules, "here"), ["a", "b", "e", "i", "k", "last", "m", "t"]);
        let here = modules.iter().find(|module| module.name == "here").unwrap();
        assert!(["outer", "hyper"].iter().all(|name| here.outside.contains(*name)), "{:?}", here.outside);
        assert!(["hyper", "::X", "V", "L", "S"].iter().all(|name| here.names.contains(*name)), "{:?}", here.names);
        assert!(["no", "g", "::no", "::L2"].iter().all(|name| !here.names.contains(*name)), "{:?}", here.names);
    }

    #[test]
    fn the_modules_that_a_program_uses_of_its_library_are_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "use library::{a, b::{C, D}};\nuse other::no;\nfn main() { library::e::f(); }\n").unwrap();
        assert_eq!(uses_of("library", file.path()), ["a", "b", "e"].map(str::to_owned).into());
    }

    #[test]
    fn a_circle_through_a_re_export_is_found_and_a_child_may_use_its_parent() {
        let modules = crate_of(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod x; mod y; pub use x::X; pub struct Own;"),
            ("a/x.rs", "use super::y::Y; use super::Own; pub struct X;"),
            ("a/y.rs", "use super::X; pub struct Y;"),
            ("b.rs", "use crate::a::X;"),
        ]);
        assert_eq!(uses(&modules, "b"), ["a/x"]);
        assert_eq!(circles(&modules), ["a/x <-> a/y"]);
    }
}
