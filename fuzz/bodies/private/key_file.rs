//! What may stand in a key file.

use zeroize::Zeroizing;

use super::*;
use crate::hex::Hex;

/// Reads the bytes as one file, or divided into two, and looks at what is said of them.
pub fn run(data: &[u8]) {
    let Some((&at, content)) = data.split_first() else {
        return;
    };
    let contents = match at {
        0 => vec![content],
        at => {
            let (first, second) = content.split_at(content.len().min(at.into()));
            vec![first, second]
        }
    };
    let paths = ["/0", "/1"].map(Path::new);
    let read = |content: &&[u8]| Contents {
        bytes: Zeroizing::new(content.to_vec()),
        modified: Time(0),
        wrong: None,
    };
    let files = contents.iter().map(|content| Ok(read(content)));
    let mut listing = Listing::of(paths.into_iter().zip(files), Time(1_800_000_000_000));
    match listing.wrong.take() {
        None => listed(&listing, &contents),
        Some(error) => shows_nothing(&error.to_string(), content),
    }
    for advice in &listing.advice {
        shows_nothing(advice, content);
    }
}

/// Each key is a whole file, one of several in a row, on a line of its own, or in YAML.
fn listed(listing: &Listing, contents: &[&[u8]]) {
    let keys = listing.keys.iter().map(|listed| listed.key.as_bytes());
    let keys: Vec<&[u8]> = keys.collect();
    assert!(listing.sealing < keys.len());
    for (i, key) in keys.iter().enumerate() {
        assert!(matches!(key.len(), 48 | 80 | 96 | 112));
        let differs = |other: &&[u8]| other[..16] != key[..16] && other[16..] != key[16..];
        assert!(keys[..i].iter().all(differs), "no name and no secret twice");
        assert!(key[16..].iter().any(|byte| *byte != key[16]), "no weak one");
        assert!(contents.iter().any(|content| holds(content, key)));
    }
    let is_whole = |content: &&[u8]| matches!(content.len(), 48 | 80);
    if contents.iter().all(is_whole) {
        assert_eq!((listing.sealing, keys[0]), (0, contents[0]));
        return;
    }
    let is_first = |other: &&[u8]| *other == contents[0];
    assert!(contents.iter().all(is_first), "a list is the only file");
    let text = String::from_utf8_lossy(contents[0]);
    if text.contains(':') {
        return;
    }
    // The last line but one seals.
    let lines = text.split('\n').map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    match lines.iter().rev().nth(1) {
        Some(line) if text.is_ascii() => assert_eq!(*line, base64(keys[listing.sealing])),
        _ => assert_eq!(listing.sealing, 0),
    }
}

/// Whether the key can be found in a file, in any format.
fn holds(content: &[u8], key: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let lower = text.to_lowercase();
    let in_yaml = || {
        let hexadecimal = |bytes: &[u8]| Hex(bytes).to_string();
        let hmac = if key.len() == 80 { 32 } else { 64 };
        let (name, secret) = key.split_at(16);
        let (hmac, cipher) = secret.split_at(hmac);
        lower.contains(&hexadecimal(name))
            && lower.contains(&(hexadecimal(cipher) + &hexadecimal(hmac)))
    };
    content == key
        || content.chunks(48).any(|chunk| chunk == key)
        || text.contains(&base64(key))
        || (key.len() >= 80 && in_yaml())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0, |bits, byte| bits * 256 + usize::from(*byte))
            << (8 * (3 - three.len()));
        for i in 0..4 {
            let symbol = char::from(ALPHABET[bits >> (18 - 6 * i) & 63]);
            text.push(if i <= three.len() { symbol } else { '=' });
        }
    }
    text
}

/// An error names the file, and holds no word of it that may be part of a key.
fn shows_nothing(error: &str, content: &[u8]) {
    let unnamed = error.replace("/0", "").replace("/1", "");
    assert_ne!(unnamed, error, "it names the file");
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let content = String::from_utf8_lossy(content);
    let words = content.split(|c| !is_base64(c));
    for word in words.filter(|word| word.len() >= 12) {
        assert!(
            !unnamed.contains(word),
            "it shows what may be a key: {error}"
        );
    }
}
