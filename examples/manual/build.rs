//! Writes each block of the manual that has a name (```` ```text NAME ````) to a file of that name,
//! as the block of a function's body.

use std::path::Path;
use std::{env, fs};

const PAGES: [&str; 2] = ["choosing.md", "operating.md"];

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets it");
    for page in PAGES {
        let path = Path::new("../../src/docs").join(page);
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read_to_string(path).expect("a page of the manual");
        for block in text.split("```text ").skip(1) {
            let (name, code) = block.split_once('\n').expect("a block has lines");
            let code = code.split("```").next().unwrap_or_default();
            let file = Path::new(&out).join(format!("{name}.rs"));
            fs::write(file, format!("{{\n{code}}}\n")).expect("OUT_DIR can be written");
        }
    }
}
