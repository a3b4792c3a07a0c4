//! Runs the example.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn a_grpc_client_resumes_on_three_nodes_and_after_their_reloads() {
    let output = Command::new(env!("CARGO_BIN_EXE_tonic-example"))
        .output()
        .unwrap();
    let (said, error) = (output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}");
    let expected = "node 1: full\nnode 2: resumed\nnode 3: resumed\n\
                    node 1: resumed\nnode 2: resumed\nnode 3: resumed\n";
    assert_eq!(String::from_utf8(said).unwrap(), expected, "{error}");
}
