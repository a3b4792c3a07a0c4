//! For tests that measure the process they run in, and so must be alone in it.

use std::env;
use std::process::Command;
use std::thread;

/// Runs the body of a test in a process of its own: this test program again, which runs this test
/// alone.
///
/// # Panics
///
/// If the body does, and unless this is called on the thread of a test.
pub fn alone(test: impl FnOnce()) {
    if env::var_os(IS_ALONE).is_some() {
        return test();
    }
    let thread = thread::current();
    let name = thread.name().expect("the name of the test");
    let output = Command::new(env::current_exe().expect("the path of this test program"))
        .args([name, "--exact", "--nocapture"])
        .env(IS_ALONE, "yes")
        .output()
        .expect("this test program runs again");
    let said = String::from_utf8_lossy(&output.stdout);
    for line in said.lines() {
        // Indented, so that it cannot be taken for what this harness says.
        println!("    {line}");
    }
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} alone: {}", output.status);
    assert!(said.contains("test result: ok. 1 passed"), "{name} ran");
}

const IS_ALONE: &str = "RUSTLS_RESUMPTION_TEST_IS_ALONE";
