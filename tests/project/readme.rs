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
    for part in ["fn main", "Resumption::process()?.install", "reload"] {
        assert!(program.contains(part), "no {part} in\n{program}");
    }
}
