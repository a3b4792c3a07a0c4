//! Code that depends on one version line of rustls stays in few files, so that the next is a small
//! port.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use test_support::repository;

/// The files that may name rustls, and why. A port begins in the first, and in `session.rs`, which
/// reads what rustls encodes.
const MAY: [(&str, &str); 13] = [
    ("rustls.rs", "implements its traits"),
    ("resumption.rs", "`install` sets its fields"),
    (
        "resumption/storage.rs",
        "finds this crate's storage in a configuration",
    ),
    ("acceptor.rs", "drives its handshakes"),
    ("client_auth.rs", "asks its verifiers"),
    ("client_auth/learn.rs", "shakes hands in memory"),
    ("acceptor/axum_server.rs", "an acceptor for axum-server"),
    ("acceptor/blocking.rs", "the same, by threads"),
    ("acceptor/resumption_acceptor.rs", "the same, on tokio"),
    ("acceptor/incoming.rs", "a stream of what that accepts"),
    ("acceptor/driver.rs", "reads and writes for all of them"),
    (
        "acceptor/versions.rs",
        "asks a configuration for its versions",
    ),
    ("redis.rs", "TLS to Redis uses the process's provider"),
];

/// Names of rustls that its lines change, however they were imported.
const SHAPES: [&str; 4] = [
    "ProducesTickets",
    "ServerConnection",
    "StoresServerSessions",
    "tokio_rustls",
];

/// Files of unit tests.
const TESTS: [&str; 3] = ["tests.rs", "interleavings.rs", "crowding.rs"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            // Unit tests, here those with files of their own, may use what they like.
            false if TESTS.iter().any(|name| path.ends_with(name)) => {}
            false if path.extension().is_some_and(|ext| ext == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Without comments and unit tests, which may say and use what they like.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let text = text
        .split("#[cfg(test)]\npub(crate) mod tests")
        .next()
        .unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines that name something of rustls; this crate's own module of that name does not count.
fn names_rustls(code: &str) -> Vec<&str> {
    let of_rustls = |line: &&str| {
        let by_path = line.match_indices("rustls::").any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
        });
        by_path || SHAPES.iter().any(|shape| line.contains(shape))
    };
    code.lines().filter(of_rustls).collect()
}

#[test]
fn only_a_few_files_name_what_differs_between_versions_of_rustls() {
    let root = repository().join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30);
    let mut naming = BTreeMap::new();
    for file in files {
        let code = code(&fs::read_to_string(&file).unwrap());
        if let Some(line) = names_rustls(&code).first() {
            let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
            naming.insert(name.replace('\\', "/"), line.trim().to_owned());
        }
    }
    for (file, line) in &naming {
        let may = MAY.iter().any(|(name, _)| name == file);
        assert!(may, "src/{file} depends on the line of rustls: {line}");
    }
    for (name, why) in MAY {
        assert!(naming.contains_key(name), "src/{name} no longer {why}");
    }
}

#[test]
fn no_dependency_is_a_pre_release() {
    let manifest = repository().join("Cargo.toml");
    let text = fs::read_to_string(manifest).unwrap();
    let dependencies = &text[text.find("\n[dependencies]").unwrap()..];
    let before_profiles = dependencies.split("\n[profile").next().unwrap();
    for line in before_profiles.lines() {
        let version = line.split("version = \"").nth(1);
        // Or it stands alone, without braces around it.
        let alone = line.split_once(" = \"");
        let alone = alone.filter(|(name, _)| !name.contains('{'));
        let version = version.or_else(|| alone.map(|(_, rest)| rest));
        if let Some(version) = version.and_then(|rest| rest.split('"').next()) {
            assert!(!version.contains('-'), "{line}");
        }
    }
}

#[test]
fn the_search_finds_what_it_is_for() {
    assert_eq!(names_rustls("use rustls::ServerConfig;").len(), 1);
    assert_eq!(
        names_rustls("fn f(x: &dyn StoresServerSessions) {}").len(),
        1
    );
    assert_eq!(names_rustls("use crate::rustls::Session;").len(), 0);
    assert_eq!(names_rustls(&code("// see rustls::ServerConfig")).len(), 0);
}
