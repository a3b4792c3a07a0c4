//! The table of promises in the security page names tests that exist.

use std::fs;

use test_support::repository;

#[test]
fn every_test_that_the_security_page_names_exists() {
    let root = repository();
    let page = fs::read_to_string(root.join("src/docs/security.md")).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| C"))
        .collect();
    for contract in 1..=33 {
        let start = format!("| C{contract} |");
        let count = rows.iter().filter(|row| row.starts_with(&start)).count();
        assert_eq!(count, 1, "rows that begin with {start}");
    }
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
                format!("src/{path}/tests.rs"),
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
    let root = repository();
    let crate_root = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    assert!(crate_root.contains("#![forbid(unsafe_code)]"));
}
