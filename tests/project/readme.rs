//! What a reader copies from the README works where it is pasted.

use std::fs;

use test_support::repository;

fn blocks() -> Vec<String> {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let blocks = readme.split("```rust").skip(1);
    let blocks: Vec<String> = blocks
        .map(|block| {
            let (_, code) = block.split_once('\n').unwrap();
            code.split("```").next().unwrap().to_owned()
        })
        .collect();
    assert!(blocks.len() >= 3, "the README shows its use");
    blocks
}

/// Its blocks are compiled as they are by `cargo test --doc`; a hidden line would only help there.
#[test]
fn no_block_of_code_needs_a_line_that_is_hidden() {
    for block in blocks() {
        let hidden = |line: &&str| line.trim_start().starts_with("# ") || line.trim() == "#";
        assert_eq!(block.lines().find(hidden), None, "in\n{block}");
    }
}

#[test]
fn the_first_block_is_a_program_that_reloads() {
    let program = &blocks()[0];
    // Whoever reloads in a task needs an error that may be sent.
    let error = "dyn std::error::Error + Send + Sync";
    for part in ["fn main", "Resumption::process()?.install", "reload", error] {
        assert!(program.contains(part), "no {part} in\n{program}");
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

#[test]
fn the_front_page_is_short_and_leads_to_every_page_of_the_manual() {
    let lib = text("src/lib.rs");
    let front: Vec<_> = lib
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    assert!((10..40).contains(&front.len()), "{} lines", front.len());
    let front = front.join("\n");
    for page in text("src/docs.rs")
        .lines()
        .filter(|line| line.starts_with("pub mod "))
    {
        let name = page.trim_start_matches("pub mod ").trim_end_matches(" {}");
        assert!(front.contains(&format!("[`docs::{name}`]")), "{name}");
    }
}
