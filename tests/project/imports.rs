//! Imports between the files of `src` form no circle: an arrow points down only, at any distance.
//!
//! Counted are `use` lines, and paths within code that begin with `crate`, `super`, `self` or a
//! child module. A name is followed through re-exports to the file that has it. A parent's `mod`
//! lines do not count, nor do re-exports of what it does not use itself; nor do unit tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::tokens::{Import, Source};

/// For each file those that it imports from.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Sources by their module: `["cache", "shard"]` for `cache/shard.rs`.
type Sources = BTreeMap<Vec<String>, Source>;

fn module_of(file: &str) -> Vec<String> {
    let path = file.strip_suffix(".rs").unwrap();
    path.split('/').map(str::to_owned).collect()
}

/// Where `path`, as the file of `module` writes it, leads to in this crate.
fn absolute(path: &[String], module: &[String], sources: &Sources) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    let mut base = match first.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module[..module.len() - 1].to_vec(),
        _ => {
            let child = [module, std::slice::from_ref(first)].concat();
            return sources
                .contains_key(&child)
                .then(|| [module, path].concat());
        }
    };
    let ups = rest.iter().take_while(|step| *step == "super").count();
    base.truncate(base.len() - ups);
    base.extend_from_slice(&rest[ups..]);
    Some(base)
}

/// The module of the file that has what an absolute path names.
fn home(path: &[String], sources: &Sources, depth: usize) -> Option<Vec<String>> {
    let longest = (1..=path.len())
        .rev()
        .find(|len| sources.contains_key(&path[..*len]))?;
    let (module, rest) = path.split_at(longest);
    let Some(name) = rest.first().filter(|_| depth < 10) else {
        return Some(module.to_vec());
    };
    // It may have come there by an import.
    let imports = &sources[module].imports;
    let import = imports.iter().find(|import| import.name == *name);
    let through = import
        .and_then(|import| absolute(&import.path, module, sources))
        .and_then(|path| home(&path, sources, depth + 1));
    Some(through.unwrap_or_else(|| module.to_vec()))
}

fn graph(files: &BTreeMap<String, String>) -> Graph {
    let mut sources: Sources = files
        .iter()
        .map(|(file, text)| (module_of(file), Source::read(text)))
        .collect();
    // The root only has `mod` lines and re-exports.
    sources.remove(&["lib".to_owned()][..]);
    let tests: Vec<Vec<String>> = sources
        .iter()
        .flat_map(|(module, source)| {
            let child = |name: &String| [module.as_slice(), std::slice::from_ref(name)].concat();
            source.test_modules.iter().map(child)
        })
        .collect();
    sources.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));

    let file_of = |module: &[String]| format!("{}.rs", module.join("/"));
    let mut graph = Graph::new();
    for (module, source) in &sources {
        let arrows = graph.entry(file_of(module)).or_default();
        let is_re_export = |import: &Import| {
            let path = absolute(&import.path, module, &sources);
            let is_below = path.is_some_and(|path| path.starts_with(module));
            import.is_public && is_below && !source.words.contains(&import.name)
        };
        let imports = source.imports.iter().filter(|import| !is_re_export(import));
        let paths = imports.map(|import| &import.path).chain(&source.paths);
        for path in paths {
            let path = absolute(path, module, &sources);
            let home = path.and_then(|path| home(&path, &sources, 0));
            if let Some(home) = home.filter(|home| home != module) {
                arrows.insert(file_of(&home));
            }
        }
    }
    graph
}

/// Some circle, if there is one: each imports from the next, the last is the first.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    fn visit(
        file: &str,
        graph: &Graph,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(at) = path.iter().position(|before| before == file) {
            let mut circle = path[at..].to_vec();
            circle.push(file.to_owned());
            return Some(circle);
        }
        if !done.insert(file.to_owned()) {
            return None;
        }
        path.push(file.to_owned());
        let mut arrows = graph[file].iter();
        let circle = arrows.find_map(|next| visit(next, graph, path, done));
        path.pop();
        circle
    }
    let mut done = BTreeSet::new();
    let mut files = graph.keys();
    files.find_map(|file| visit(file, graph, &mut Vec::new(), &mut done))
}

/// The longest chain of imports, where there is no circle.
fn longest_chain(graph: &Graph) -> Vec<String> {
    fn from(file: &str, graph: &Graph, known: &mut BTreeMap<String, Vec<String>>) -> Vec<String> {
        if let Some(chain) = known.get(file) {
            return chain.clone();
        }
        let chains = graph[file].iter().map(|next| from(next, graph, known));
        let mut chain = vec![file.to_owned()];
        chain.extend(chains.max_by_key(Vec::len).unwrap_or_default());
        known.insert(file.to_owned(), chain.clone());
        chain
    }
    let mut known = BTreeMap::new();
    let chains = graph.keys().map(|file| from(file, graph, &mut known));
    chains.max_by_key(Vec::len).unwrap()
}

#[test]
fn imports_form_no_circle() {
    let files = crate::tokens::files();
    assert!(files.len() > 30);
    let graph = graph(&files);
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 100);
    assert!(graph["rustls.rs"].contains("resumption.rs"));
    if let Some(circle) = circle(&graph) {
        panic!("files of src import each other: {}", circle.join(" -> "));
    }
    let chain = longest_chain(&graph);
    println!("figure: {} files: {}", chain.len(), chain.join(" -> "));
}

fn made_up(files: &[(&str, &str)]) -> Graph {
    let files = files
        .iter()
        .map(|(name, text)| (name.to_string(), text.to_string()));
    graph(&files.collect())
}

#[test]
fn a_circle_is_found_at_any_distance_and_named() {
    let top = ("top.rs", "use crate::middle::Middle;");
    let middle = ("middle.rs", "mod low;\nuse low::Low;\npub struct Middle;");
    let low = (
        "middle/low.rs",
        "pub struct Low;\nfn f() { g(crate::ground::Ground) }",
    );
    let ground = ("ground.rs", "pub struct Ground;");
    let graph = made_up(&[top, middle, low, ground]);
    assert_eq!(circle(&graph), None);
    let chain = ["top.rs", "middle.rs", "middle/low.rs", "ground.rs"];
    assert_eq!(longest_chain(&graph), chain);

    for planted in [
        "use crate::top::Top;",
        "use crate::{top::{Top as Other}};",
        "use super::top;",
        "fn f() -> crate::top::Top { todo!() }",
        "#[cfg(unix)]\nuse crate::top::Top;",
        "#[cfg(not(test))]\nuse crate::top::Top;",
    ] {
        let found = circle(&made_up(&[top, middle, low, ("ground.rs", planted)]));
        let found = found.unwrap_or_else(|| panic!("not found: {planted}"));
        assert_eq!(found.len(), 5, "{found:?}");
        for file in chain {
            assert!(found.contains(&file.to_owned()), "{found:?}");
        }
    }
    for harmless in [
        "// use crate::top::Top;",
        "const S: &str = \"use crate::top::Top;\";",
        "#[cfg(test)]\nmod tests { use crate::top::Top; }",
        "#[cfg(all(test, unix))]\nuse crate::top::Top;",
        "use top::Top;", // another crate of this name
    ] {
        let found = circle(&made_up(&[top, middle, low, ("ground.rs", harmless)]));
        assert_eq!(found, None, "{harmless}");
    }
}

#[test]
fn a_parent_and_its_child_may_only_import_one_way() {
    let child = ("a/b.rs", "use super::A;\npub struct B;");
    for (parent, is_circle) in [
        ("mod b;\npub struct A;", false),
        ("mod b;\npub use b::B;\npub struct A;", false),
        ("mod b;\npub use b::B;\npub struct A(B);", true),
        ("mod b;\nuse b::B;\npub struct A(B);", true),
        ("mod b;\npub struct A(b::B);", true),
        (
            "#[cfg(test)]\nmod b;\n#[cfg(test)]\nuse b::B;\npub struct A;",
            false,
        ),
    ] {
        let graph = made_up(&[("a.rs", parent), child]);
        assert_eq!(circle(&graph).is_some(), is_circle, "{parent}");
    }
}

#[test]
fn a_name_is_followed_to_the_file_that_has_it() {
    let graph = made_up(&[
        ("a.rs", "mod b;\nmod c;\npub use b::B;\npub struct A;"),
        ("a/b.rs", "pub struct B;"),
        (
            "a/c.rs",
            "use crate::a::{self, A, B as Other};\nuse super::*;",
        ),
        ("d.rs", "use crate::a::B;"),
    ]);
    assert!(graph["a.rs"].is_empty());
    let of_c: Vec<_> = graph["a/c.rs"].iter().collect();
    assert_eq!(of_c, ["a.rs", "a/b.rs"]);
    let of_d: Vec<_> = graph["d.rs"].iter().collect();
    assert_eq!(of_d, ["a/b.rs"]);
}
