//! The files of `src`, and as much of Rust's grammar as it takes to tell what they import.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

use test_support::repository;

/// Every file of `src`, by its path there, with its text.
pub(crate) fn files() -> BTreeMap<String, String> {
    fn add(directory: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, root, files);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                let text = fs::read_to_string(&path).unwrap();
                files.insert(name.replace('\\', "/"), text);
            }
        }
    }
    let root = repository().join("src");
    let mut files = BTreeMap::new();
    add(&root, &root, &mut files);
    files
}

/// What a `use` line brings in.
pub(crate) struct Import {
    /// As it is written: `["super", "Shard"]`.
    pub(crate) path: Vec<String>,
    /// The name that it has here.
    pub(crate) name: String,
    pub(crate) is_public: bool,
}

/// What a file says, without comments, strings and unit tests.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) imports: Vec<Import>,
    /// Paths in its code.
    pub(crate) paths: Vec<Vec<String>>,
    /// Names in its code that stand alone, or first in a path.
    pub(crate) words: BTreeSet<String>,
    /// Child modules in files of their own that are unit tests.
    pub(crate) test_modules: Vec<String>,
}

impl Source {
    pub(crate) fn read(text: &str) -> Self {
        let tokens = tokens(text);
        let mut source = Self::default();
        let (mut at, mut is_test, mut is_public) = (0, false, false);
        while at < tokens.len() {
            match tokens[at].as_str() {
                "#" => {
                    let end = end_of_group(&tokens, at + 1 + usize::from(tokens[at + 1] == "!"));
                    is_test |= is_cfg_test(&tokens[at..end]);
                    at = end;
                }
                "pub" => {
                    is_public = true;
                    at += 1;
                    if tokens[at] == "(" {
                        at = end_of_group(&tokens, at);
                    }
                }
                "mod" => {
                    let opens = tokens[at + 2] == "{";
                    match is_test {
                        true if opens => at = end_of_group(&tokens, at + 2),
                        true => {
                            source.test_modules.push(tokens[at + 1].clone());
                            at += 3;
                        }
                        false => at += 3,
                    }
                    (is_test, is_public) = (false, false);
                }
                "use" => {
                    let end = at + tokens[at..].iter().position(|t| t == ";").unwrap();
                    if !is_test {
                        let tree = &mut tokens[at + 1..end].iter().map(String::as_str).peekable();
                        use_tree(tree, &[], is_public, &mut source.imports);
                    }
                    at = end + 1;
                    (is_test, is_public) = (false, false);
                }
                token if is_name(token) => {
                    let mut path = vec![token.to_owned()];
                    at += 1;
                    while tokens.get(at).is_some_and(|t| t == "::")
                        && tokens.get(at + 1).is_some_and(|t| is_name(t))
                    {
                        path.push(tokens[at + 1].clone());
                        at += 2;
                    }
                    source.words.insert(path[0].clone());
                    if path.len() > 1 {
                        source.paths.push(path);
                    }
                    (is_test, is_public) = (false, false);
                }
                _ => at += 1,
            }
        }
        source
    }
}

/// `#[cfg(test)]`, or what includes it; not `#[cfg(not(test))]`.
fn is_cfg_test(attribute: &[String]) -> bool {
    let has = |word: &str| attribute.iter().any(|token| token == word);
    has("cfg") && has("test") && !has("not")
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// One past the bracket that closes the one at `start`.
fn end_of_group(tokens: &[String], start: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    panic!("a bracket is not closed");
}

fn use_tree<'a>(
    tokens: &mut Peekable<impl Iterator<Item = &'a str>>,
    before: &[String],
    is_public: bool,
    imports: &mut Vec<Import>,
) {
    let mut path = before.to_vec();
    let mut name = None;
    while let Some(token) = tokens.next() {
        match token {
            "::" => {}
            "{" => {
                while tokens.peek().is_some_and(|token| *token != "}") {
                    use_tree(tokens, &path, is_public, imports);
                }
                tokens.next();
                if tokens.peek() == Some(&",") {
                    tokens.next();
                }
                return;
            }
            "as" => name = tokens.next().map(str::to_owned),
            "," => break,
            "self" if !before.is_empty() => {}
            "*" => {}
            token => path.push(token.to_owned()),
        }
        if tokens.peek() == Some(&"}") {
            break;
        }
    }
    if let Some(last) = path.last() {
        let name = name.unwrap_or_else(|| last.clone());
        imports.push(Import {
            path,
            name,
            is_public,
        });
    }
}

/// Names, `::` and single signs.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => {
                chars.by_ref().find(|c| *c == '\n');
            }
            '"' => skip_string(&mut chars),
            '\'' => skip_quoted(&mut chars),
            ':' if chars.peek() == Some(&':') => {
                chars.next();
                tokens.push("::".into());
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut name = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                let is_raw = matches!(name.as_str(), "r" | "br");
                match chars.peek() {
                    Some('"' | '#') if is_raw => skip_raw_string(&mut chars),
                    _ => tokens.push(name),
                }
            }
            c if c.is_whitespace() => {}
            c => tokens.push(c.into()),
        }
    }
    tokens
}

fn skip_string(chars: &mut Peekable<Chars<'_>>) {
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '"' => return,
            _ => {}
        }
    }
}

fn skip_raw_string(chars: &mut Peekable<Chars<'_>>) {
    let mut end = String::from("\"");
    while chars.next_if_eq(&'#').is_some() {
        end.push('#');
    }
    let mut seen = String::new();
    chars.next();
    for c in chars {
        seen.push(c);
        if seen.ends_with(&end) {
            return;
        }
    }
}

/// A character, or nothing where it is a lifetime.
fn skip_quoted(chars: &mut Peekable<Chars<'_>>) {
    let mut ahead = chars.clone();
    match (ahead.next(), ahead.next()) {
        (Some('\\'), _) => {
            chars.nth(1);
            chars.find(|c| *c == '\'');
        }
        (Some(_), Some('\'')) => drop(chars.nth(1)),
        _ => {}
    }
}
