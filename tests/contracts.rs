//! The table of promises in the security page names tests that exist.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_the_security_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/docs/security.md")).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| C"))
        .collect();
    assert!(rows.len() >= 20, "the table is there");
    for row in rows {
        let tests: Vec<&str> = row.split('`').filter(|part| part.contains("::")).collect();
        assert!(!tests.is_empty(), "no test for {row}");
        for test in tests {
            let (module, name) = test.rsplit_once("::").unwrap();
            let path = module.replace("::", "/");
            let files = [
                format!("tests/{path}.rs"),
                format!("tests/{path}/main.rs"),
                format!("src/{path}.rs"),
            ];
            let texts = files
                .iter()
                .filter_map(|file| fs::read_to_string(root.join(file)).ok());
            let function = format!("fn {name}(");
            let found = texts.into_iter().any(|text| text.contains(&function));
            assert!(found, "the security page names {test}, which there is not");
        }
    }
}

#[test]
fn unsafe_code_is_forbidden() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crate_root = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    assert!(crate_root.contains("#![forbid(unsafe_code)]"));
}
