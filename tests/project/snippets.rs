//! Every block of Rust in the README and the manual is compiled as it stands there.

use std::fs;

use test_support::repository;

struct Block {
    page: &'static str,
    /// What follows the opening fence.
    info: String,
    code: String,
}

const PAGES: [&str; 6] = [
    "README.md",
    "src/docs/choosing.md",
    "src/docs/glossary.md",
    "src/docs/migrating.md",
    "src/docs/operating.md",
    "src/docs/security.md",
];

/// The packages that compile what has a name.
const COMPILED_BY: [&str; 2] = [
    "examples/frameworks/src/lib.rs",
    "examples/manual/src/lib.rs",
];

fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for page in PAGES {
        let text = text(page);
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if let Some(info) = line.strip_prefix("```") {
                let code: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
                blocks.push(Block {
                    page,
                    info: info.to_owned(),
                    code: code.join("\n"),
                });
            }
        }
    }
    assert!(blocks.len() > 30, "the blocks are found: {}", blocks.len());
    blocks
}

fn looks_like_rust(code: &str) -> bool {
    let is_rust = |line: &str| line.ends_with(';') || line.ends_with('{') || line.contains("::");
    code.lines().any(is_rust)
}

#[test]
fn every_block_of_rust_is_compiled() {
    let compiled: String = COMPILED_BY.map(text).concat();
    for Block { page, info, code } in blocks() {
        match info.split_once(' ').unwrap_or((&info, "")) {
            // By rustdoc.
            ("" | "rust" | "rust,no_run", "") => {}
            ("text", "") => assert!(!looks_like_rust(&code), "{page}: name this block:\n{code}"),
            ("text", name) => {
                let uses = compiled.matches(&format!("lines!(\"{name}\")")).count();
                assert_eq!(uses, 1, "{page}: who compiles {name}?");
            }
            ("ini" | "sh" | "yaml", "") => {}
            _ => panic!("{page}: what is `{info}`?"),
        }
    }
}

#[test]
fn rustdoc_sees_the_readme_and_every_page() {
    let (docs, lib) = (text("src/docs.rs"), text("src/lib.rs"));
    for page in fs::read_dir(repository().join("src/docs")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(
            docs.contains(&format!("include_str!(\"docs/{name}\")")),
            "{name}"
        );
        assert!(
            PAGES.contains(&format!("src/docs/{name}").as_str()),
            "{name}"
        );
    }
    assert!(lib.contains("include_str!(\"../README.md\")"));
}
