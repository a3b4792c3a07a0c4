//! What a file of ticket keys looks like, in the formats of the servers that ship them.
//!
//! ```text
//!  0             16            32            48                           80
//!  | name        | AES-128     | HMAC        |                            nginx, Apache: 48 bytes
//!  | name        | HMAC                      | AES-256                  | nginx, Apache: 80 bytes
//! ```
//!
//! HAProxy lists keys of either length, each in base64 on a line of its own.

use std::fmt;
use std::str;

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use crate::stek::weakness;

/// A key as it is written in a file.
pub(super) struct FileKey(Zeroizing<Vec<u8>>);

/// What a file holds.
#[derive(Debug)]
pub(super) enum Keys {
    /// The bytes of one key.
    One(FileKey),
    /// Lines of base64, at least two, in their order and with their numbers.
    List(Vec<(usize, FileKey)>),
}

/// Why the content of a file is neither a key nor a list of keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FormatError {
    Empty,
    /// Neither 48 nor 80 bytes, nor text.
    Length(usize),
    Line {
        number: usize,
        wrong: WrongLine,
    },
    OneLine,
    TooManyLines,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WrongLine {
    NotBase64,
    Length(usize),
}

/// The most keys that a list may have.
pub(super) const MAX_KEYS: usize = 64;

const NAME_LEN: usize = 16;
const SHORT: usize = 48;
const LONG: usize = 80;

impl FileKey {
    fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        matches!(bytes.len(), SHORT | LONG).then_some(Self(bytes))
    }

    /// The whole key, from which a STEK is derived: the name too, so that it is bound to the
    /// secret.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn name(&self) -> &[u8] {
        self.0.get(..NAME_LEN).unwrap_or_default()
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.0.get(NAME_LEN..).unwrap_or_default()
    }

    /// Whether it has no more than 32 secret bytes, made for AES-128.
    pub(super) fn is_short(&self) -> bool {
        self.0.len() == SHORT
    }

    /// Why the key is weak, if it is. An AES or HMAC key that is all one byte comes from a broken
    /// generator or a sparse copy.
    pub(super) fn weakness(&self) -> Option<&'static str> {
        let half = self.secret().len() / 2;
        let mut parts = self.secret().chunks(half.max(1));
        parts.find_map(|part| weakness(part, 0))
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKey").finish_non_exhaustive()
    }
}

/// Parses a file. The content tells the format: 48 or 80 bytes are a key, as even the shortest
/// list, of two keys in base64, is longer.
pub(super) fn parse(content: &[u8]) -> Result<Keys, FormatError> {
    if content.is_empty() {
        return Err(FormatError::Empty);
    }
    if let Some(key) = FileKey::new(Zeroizing::new(content.to_vec())) {
        return Ok(Keys::One(key));
    }
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    match str::from_utf8(content) {
        Ok(text) if content.iter().all(is_text) => list(text).map(Keys::List),
        _ => Err(FormatError::Length(content.len())),
    }
}

fn list(text: &str) -> Result<Vec<(usize, FileKey)>, FormatError> {
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if keys.len() == MAX_KEYS {
            return Err(FormatError::TooManyLines);
        }
        let wrong = |wrong| FormatError::Line { number, wrong };
        let bytes = decode(line).ok_or_else(|| wrong(WrongLine::NotBase64))?;
        let len = bytes.len();
        let key = FileKey::new(bytes).ok_or_else(|| wrong(WrongLine::Length(len)))?;
        keys.push((number, key));
    }
    match keys.len() {
        0 => Err(FormatError::Empty),
        1 => Err(FormatError::OneLine),
        _ => Ok(keys),
    }
}

/// Decodes base64 ([RFC 4648 §4](https://www.rfc-editor.org/rfc/rfc4648#section-4)), with its
/// padding and nothing else, in constant time.
fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    // It never grows, so it leaves no copies behind.
    let mut bytes = Zeroizing::new(vec![0; (text.len() / 4).saturating_mul(3)]);
    let len = Base64::decode(text, &mut bytes).ok()?.len();
    bytes.truncate(len);
    Some(bytes)
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Length(len) => write!(
                f,
                "{len} bytes: a key of nginx or Apache has 48 or 80 (`openssl rand 80`)"
            ),
            Self::Line { number, wrong } => {
                write!(f, "line {number}: ")?;
                match wrong {
                    WrongLine::NotBase64 => f.write_str(
                        "not base64: either a file is 48 or 80 bytes, or each line is such a key \
                         in base64 (`openssl rand 80 | openssl base64 -A`)",
                    ),
                    WrongLine::Length(len) => {
                        write!(f, "{len} bytes in base64: a key has 48 or 80")
                    }
                }
            }
            Self::OneLine => f.write_str(
                "one line: a list needs at least two keys, of which the last but one seals",
            ),
            Self::TooManyLines => write!(f, "more than {MAX_KEYS} keys"),
        }
    }
}

impl std::error::Error for FormatError {}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn base64(bytes: &[u8]) -> String {
        let mut text = vec![0; Base64::encoded_len(bytes)];
        Base64::encode(bytes, &mut text).unwrap().into()
    }

    fn error(content: &[u8]) -> String {
        parse(content).unwrap_err().to_string()
    }

    #[test]
    fn a_file_of_48_or_80_bytes_is_a_key_with_its_name_and_secret_apart() {
        for len in [48_u8, 80] {
            let bytes: Vec<u8> = (0..len).collect();
            let Ok(Keys::One(key)) = parse(&bytes) else {
                panic!("{len} bytes are a key");
            };
            assert_eq!((key.name(), key.secret()), bytes.split_at(16));
            assert_eq!(key.as_bytes(), bytes);
            assert_eq!(key.is_short(), len == 48);
            assert_eq!(key.weakness(), None);
        }
    }

    #[test]
    fn lines_of_base64_are_a_list_in_their_order() {
        // As `openssl rand 80 | openssl base64 -A | xargs echo` appends them.
        let keys: Vec<Vec<u8>> = [(0, 80), (100, 180), (7, 55)]
            .map(|(from, to)| (from..to).collect())
            .into();
        for (end, last) in [("\n", "\n"), ("\r\n", "\r\n"), ("\n\n", "")] {
            let lines: Vec<_> = keys.iter().map(|key| base64(key)).collect();
            let content = lines.join(end) + last;
            let Ok(Keys::List(list)) = parse(content.as_bytes()) else {
                panic!("{content}");
            };
            assert!(list.iter().map(|(_, key)| key.as_bytes()).eq(&keys));
            let number = if end == "\n\n" { 5 } else { 3 };
            assert_eq!(list[2].0, number, "a line's number counts blank ones");
        }
    }

    #[test]
    fn base64_of_openssl_is_read() {
        let decoded = |text: &str| decode(text).map(|bytes| bytes.to_vec());
        assert_eq!(decoded("Zm9vYmFy").unwrap(), b"foobar");
        assert_eq!(decoded("Zm9vYmE=").unwrap(), b"fooba");
        assert_eq!(decoded("Zm9vYg==").unwrap(), b"foob");
        assert_eq!(decoded("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
        assert_eq!(decoded("").unwrap(), b"");
        for wrong in [
            "Zm9vYg", "Zm9vYh==", "Zm9v!mFy", "Zm=vYmFy", "====", "Z===", "-_-_", "Zm9v YmF",
        ] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_decoded_has_its_room_from_the_start_and_leaves_no_copies() {
        let decoded = decode(&base64(&[7; 80])).unwrap();
        assert_eq!((decoded.len(), decoded.capacity()), (80, 81));
    }

    #[test]
    fn anything_else_is_refused_and_says_what_is_wrong() {
        let key = base64(&[1; 80]);
        assert_eq!(error(b""), "empty");
        assert_eq!(error(b"\n \n"), "empty");
        assert!(error(&[0xff; 79]).starts_with("79 bytes: a key of nginx"));
        assert!(error(&[0; 32]).starts_with("32 bytes: "));
        assert!(error(key.as_bytes()).starts_with("one line: "));
        let short = format!("{key}\n{}", base64(&[1; 47]));
        assert_eq!(
            error(short.as_bytes()),
            "line 2: 47 bytes in base64: a key has 48 or 80"
        );
        let cut = format!("{key}\n{}", &key[..50]);
        assert!(error(cut.as_bytes()).starts_with("line 2: not base64: "));
        assert!(error(b"-----BEGIN PRIVATE KEY-----").starts_with("line 1: not base64: "));
        let many = format!("{key}\n").repeat(65);
        assert_eq!(error(many.as_bytes()), "more than 64 keys");
    }

    #[test]
    fn a_part_that_is_all_one_byte_is_weak() {
        for (len, weak) in [
            (48, 16..32),
            (48, 32..48),
            (80, 16..48),
            (80, 48..80),
            (80, 16..80),
        ] {
            let mut bytes: Vec<u8> = (0..len).collect();
            bytes[weak].fill(0xaa);
            let key = FileKey::new(Zeroizing::new(bytes)).unwrap();
            assert!(key.weakness().unwrap().starts_with("all bytes are equal"));
        }
        let mut bytes: Vec<u8> = (0..80).collect();
        bytes[..16].fill(0);
        let key = FileKey::new(Zeroizing::new(bytes)).unwrap();
        assert_eq!(key.weakness(), None, "a name is no secret");
    }

    #[test]
    fn what_is_shown_of_a_key_holds_no_secret() {
        let key = FileKey::new(Zeroizing::new((0..80).collect())).unwrap();
        assert_eq!(format!("{key:?}"), "FileKey { .. }");
    }

    /// Text that is nearly a list.
    fn nearly_a_list() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            proptest::collection::vec(any::<u8>(), 44..84).prop_map(|bytes| base64(&bytes)),
            "[A-Za-z0-9+/=]{0,120}",
            "\\PC{0,20}",
        ];
        let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just(" ")];
        proptest::collection::vec((line, end), 0..6)
            .prop_map(|lines| {
                lines
                    .iter()
                    .flat_map(|(line, end)| [line, *end])
                    .collect::<String>()
            })
            .prop_map(String::into_bytes)
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let is_key = matches!(content.len(), 48 | 80);
            prop_assert_eq!(matches!(parse(&content), Ok(Keys::One(_))), is_key);
        }

        #[test]
        fn no_text_makes_it_panic_and_what_it_takes_are_keys(content in nearly_a_list()) {
            match parse(&content) {
                Ok(Keys::List(keys)) => {
                    prop_assert!(keys.len() >= 2);
                    for (number, key) in keys {
                        prop_assert!(number >= 1 && matches!(key.as_bytes().len(), 48 | 80));
                    }
                }
                Ok(Keys::One(key)) => prop_assert_eq!(key.as_bytes(), content),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn every_list_is_read_as_it_was_written(
            keys in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 48),
                    proptest::collection::vec(any::<u8>(), 80),
                ],
                2..8,
            )
        ) {
            let content: String = keys.iter().map(|key| base64(key) + "\n").collect();
            let Ok(Keys::List(read)) = parse(content.as_bytes()) else {
                return Err(TestCaseError::fail(content));
            };
            prop_assert!(read.iter().map(|(_, key)| key.as_bytes()).eq(&keys));
        }

        #[test]
        fn base64_decodes_to_what_was_encoded(
            bytes in proptest::collection::vec(any::<u8>(), 0..100)
        ) {
            let decoded = decode(&base64(&bytes));
            prop_assert_eq!(decoded.map(|decoded| decoded.to_vec()), Some(bytes));
        }
    }
}
