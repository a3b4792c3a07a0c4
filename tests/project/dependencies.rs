//! The page `security` says how many crates this one brings.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use test_support::repository;

/// The crates that this one is built of on this platform, itself not counted.
fn crates(feature: Option<&str>) -> usize {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--package=rustls-resumption",
        ])
        .args(["--edges=normal", "--prefix=none", "--format={p}"])
        .args(feature.map(|name| format!("--features={name}")))
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split(" (").next())
        .collect();
    crates.len() - 1
}

#[cfg(target_os = "linux")]
#[test]
fn the_page_security_counts_the_dependencies_right() {
    let page = fs::read_to_string(repository().join("src/docs/security.md")).unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let alone = format!("{} in all on Linux", crates(None));
    assert!(page.contains(&alone), "{alone}");
    for (features, is) in [
        (&["metrics", "serde"][..], "(`metrics`, `serde`)"),
        (&["tokio"], "(`tokio`)"),
        (&["quinn"], "(`quinn`)"),
        (&["axum-server"], "(`axum-server`)"),
        (&["redis"], "(`redis`)"),
    ] {
        for feature in features {
            let total = format!("{} {is}", crates(Some(feature)));
            assert!(page.contains(&total), "{feature}: {total}");
        }
    }
}
