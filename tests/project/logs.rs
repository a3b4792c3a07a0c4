//! The page `operating` lists every event that is logged, as it is.

use std::fs;
use std::path::{Path, PathBuf};

use test_support::repository;

#[derive(Debug)]
struct Event {
    target: String,
    level: String,
    message: String,
    fields: Vec<String>,
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The events that a file makes outside its tests.
fn events(path: &Path, target: &str, found: &mut Vec<Event>) {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let text = lines.collect::<Vec<_>>().join("\n");
    for level in LEVELS {
        let name = format!("{level}!(");
        for (at, _) in text.match_indices(&name) {
            let begins = text[..at].ends_with(|c: char| !c.is_alphanumeric() && c != '_');
            if begins {
                found.push(event(&text[at + name.len()..], target, level));
            }
        }
    }
}

/// The event of a macro's arguments: fields, and last the message.
fn event(text: &str, target: &str, level: &str) -> Event {
    let (mut depth, mut in_string, mut escaped) = (1, false, false);
    let mut arguments = vec![String::new()];
    for c in text.chars() {
        let argument = arguments.last_mut().unwrap();
        if in_string {
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            argument.push(c);
            continue;
        }
        match c {
            '"' => in_string = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        match (c, depth) {
            (_, 0) => break,
            (',', 1) => arguments.push(String::new()),
            _ => argument.push(c),
        }
    }
    let mut arguments: Vec<_> = arguments.iter().map(|one| one.trim()).collect();
    arguments.retain(|one| !one.is_empty());
    let message = arguments.pop().unwrap().trim_matches('"');
    let message = message.split('\\').map(str::trim_start);
    let field = |argument: &str| {
        let name = argument.split('=').next().unwrap();
        name.trim().trim_start_matches(['%', '?']).to_owned()
    };
    Event {
        target: target.to_owned(),
        level: level.to_owned(),
        message: message.collect::<String>().replace('`', ""),
        fields: arguments.into_iter().map(field).collect(),
    }
}

fn all() -> Vec<Event> {
    let src = repository().join("src");
    let (mut paths, mut found) = (Vec::new(), Vec::new());
    files(&src, &mut paths);
    for path in paths {
        let module = path.strip_prefix(&src).unwrap().with_extension("");
        let target = module.display().to_string().replace('/', "::");
        if !target.ends_with("tests") {
            events(&path, &target, &mut found);
        }
    }
    found
}

/// The rows of the tables in the section on logs.
fn rows() -> Vec<Vec<String>> {
    let page = fs::read_to_string(repository().join("src/docs/operating.md")).unwrap();
    let section = page.split("\n## Logs\n").nth(1).expect("a section on logs");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = |row: &str| row.split(" | ").map(|cell| cell.replace('`', "")).collect();
    rows.map(cells).collect()
}

#[test]
fn the_page_operating_lists_every_event() {
    let (all, rows) = (all(), rows());
    assert!(all.len() > 30, "the events are found: {}", all.len());
    for event in &all {
        let row = [&event.target, &event.level, &event.message].map(String::as_str);
        let fields = event.fields.join(", ");
        let listed = rows.iter().any(|cells| {
            let [target, level, message, told, when] = &cells[..] else {
                panic!("five cells a row: {cells:?}");
            };
            [target.as_str(), level, message] == row && *told == fields && when.len() > 2
        });
        let (target, level, message) = (row[0], row[1], row[2]);
        assert!(
            listed,
            "this row is missing in the section Logs of src/docs/operating.md:\n\
             | `{target}` | {level} | {message} | {fields} | when, and how often |"
        );
    }
}

#[test]
fn the_page_operating_lists_no_event_that_there_is_not() {
    let all = all();
    for row in rows() {
        let is_it = |event: &&Event| event.message == row[2] && event.target == row[0];
        assert!(all.iter().any(|event| is_it(&event)), "{row:?}");
    }
}
