//! What may stand in a key file.

use super::*;

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
    };
    let files = contents.iter().map(|content| Ok(read(content)));
    let listing = Listing::of(paths.into_iter().zip(files));
    match listing {
        Ok(listing) => listed(&listing, &contents),
        Err(error) => shows_nothing(&error.to_string(), content),
    }
}

/// Each key is a whole file, or stands on a line of its own.
fn listed(listing: &Listing, contents: &[&[u8]]) {
    let keys = listing.keys.iter().map(|listed| listed.key.as_bytes());
    let keys: Vec<&[u8]> = keys.collect();
    for (i, key) in keys.iter().enumerate() {
        assert!(matches!(key.len(), 48 | 80));
        let differs = |other: &&[u8]| other[..16] != key[..16] && other[16..] != key[16..];
        assert!(keys[..i].iter().all(differs), "no name and no secret twice");
        assert!(key[16..].iter().any(|byte| *byte != key[16]), "no weak one");
    }
    if keys == contents {
        return assert_eq!(listing.sealing, 0);
    }
    let &[content] = contents else {
        panic!("a list stands alone");
    };
    let text = str::from_utf8(content).unwrap();
    let lines = text.split('\n').map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    assert!(keys.iter().map(|key| base64(key)).eq(lines));
    assert_eq!(listing.sealing, keys.len() - 2);
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
