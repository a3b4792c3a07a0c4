use std::fmt;

use super::entry::{LONG, MAX_KEYS, SHORT};
use crate::source::text::is_text;

/// Why the content of a file is neither a key nor a list of keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) enum FormatError {
    Empty,
    /// Neither 48 nor 80 bytes, nor text.
    Length(usize),
    /// A key of this many bytes, and a newline after it.
    Newline(usize),
    ByteOrderMark,
    Utf16,
    GnuTls,
    Lighttpd,
    /// This many keys of 80 bytes, one after the other.
    Dnsdist(usize),
    /// ASCII, of which this line has a byte that is no text.
    Control {
        line: usize,
        byte: u8,
    },
    Line {
        number: usize,
        wrong: WrongLine,
    },
    /// A single key of this many bytes.
    Base64OfKey {
        len: usize,
        twice: bool,
    },
    Base64OfList,
    Hexadecimal(usize),
    /// The entry that begins in this line.
    Entry {
        line: usize,
        wrong: WrongEntry,
    },
    TooManyKeys,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) enum WrongLine {
    NotBase64,
    Length(usize),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) enum WrongEntry {
    NotOfH2o,
    Missing(&'static str),
    Twice(&'static str),
    Name,
    Cipher,
    Hash,
    Key { digits: usize },
    Time(&'static str),
    Order,
}

impl FormatError {
    /// What is wrong with a binary file of neither 48 nor 80 bytes, unless it is several keys of
    /// 48.
    pub(super) fn of_binary(content: &[u8]) -> Option<Self> {
        let len = content.len();
        let is_keys_of = |size| len.checked_rem(size) == Some(0);
        if content.is_empty() {
            return Some(Self::Empty);
        }
        if is_utf16(content) {
            return Some(Self::Utf16);
        }
        if content
            .strip_prefix(BYTE_ORDER_MARK)
            .is_some_and(<[u8]>::is_ascii)
        {
            return Some(Self::ByteOrderMark);
        }
        if is_keys_of(SHORT) {
            // Random bytes are not all below 128: it is a list with something in it.
            return content.is_ascii().then(|| control(content)).flatten();
        }
        if is_keys_of(LONG) {
            return Some(Self::Dnsdist(len.checked_div(LONG).unwrap_or_default()));
        }
        let without = content.strip_suffix(b"\n");
        let without = without.map(|content| content.strip_suffix(b"\r").unwrap_or(content));
        Some(match (len, without.map(<[u8]>::len)) {
            (_, Some(key @ (SHORT | LONG))) => Self::Newline(key),
            (GNUTLS, _) => Self::GnuTls,
            (LIGHTTPD, _) if content.starts_with(&[0; 4]) => Self::Lighttpd,
            _ => Self::Length(len),
        })
    }
}

/// The first byte of ASCII that is no text.
fn control(content: &[u8]) -> Option<FormatError> {
    let mut lines = (1..).zip(content.split(|byte| *byte == b'\n'));
    lines.find_map(|(line, bytes)| {
        let byte = bytes.iter().copied().find(|byte| !is_text(byte))?;
        Some(FormatError::Control { line, byte })
    })
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The length of a key of GnuTLS.
const GNUTLS: usize = 64;

/// A version, two times, and a key of 80 bytes.
const LIGHTTPD: usize = 92;

/// Whether this is plain text in UTF-16, with a byte order mark or without one.
fn is_utf16(content: &[u8]) -> bool {
    let little = content.strip_prefix(b"\xff\xfe").unwrap_or(content);
    let big = content.strip_prefix(b"\xfe\xff").unwrap_or(content);
    let is_ascii = |content: &[u8], high: usize| {
        let mut units = content.chunks_exact(2);
        let is_plain = |unit: &[u8]| match (unit, high) {
            ([0, low], 0) | ([low, 0], 1) => is_text(low),
            _ => false,
        };
        units.remainder().is_empty() && units.len() > 0 && units.all(is_plain)
    };
    is_ascii(little, 1) || is_ascii(big, 0)
}

const KUBERNETES: &str = "Kubernetes decodes what is in `data` once and what is in `stringData` \
                          never, and `kubectl create secret` encodes by itself: give it the key as \
                          it is";

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Length(len) => write!(
                f,
                "{len} bytes: a key of nginx or Apache has 48 or 80 (`openssl rand 80`)"
            ),
            Self::Newline(len) => write!(
                f,
                "a key of {len} bytes and a newline, which an editor may have added: remove it \
                 (`head -c {len}`)"
            ),
            Self::ByteOrderMark => f.write_str(
                "text that begins with a byte order mark (BOM): save it as plain ASCII, without one",
            ),
            Self::Utf16 => f.write_str(
                "text in UTF-16, as PowerShell's `>` writes it: save it as plain ASCII \
                 (`Out-File -Encoding ascii`)",
            ),
            Self::GnuTls => f.write_str(
                "64 bytes, the length of a GnuTLS key: make one of 80 bytes (`openssl rand 80`), as \
                 for nginx",
            ),
            Self::Lighttpd => f.write_str(
                "92 bytes, as lighttpd's `ssl.stek-file` has: a version, two times and a key. Give \
                 the key alone (`tail -c 80`)",
            ),
            Self::Dnsdist(count) => write!(
                f,
                "{count} keys of 80 bytes, as dnsdist lists them: put each in a file of its own \
                 (`split -b 80`), and list the last first, as it is the one that seals"
            ),
            Self::Control { line, byte } => write!(
                f,
                "line {line} has a byte 0x{byte:02x}, which is neither text nor a part of random \
                 bytes: was the file cut short, or filled up?"
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
            Self::Base64OfKey { len, twice } => {
                let encoded = match twice {
                    true => "base64 of base64 of one key",
                    false => "base64 of one key",
                };
                write!(
                    f,
                    "{encoded}: a file holds either the {len} bytes themselves (`base64 -d`), or a \
                     list of at least two keys in base64, a line each, of which the last but one \
                     seals. {KUBERNETES}"
                )
            }
            Self::Base64OfList => write!(
                f,
                "base64 of a whole list of keys: decode it once (`base64 -d`). {KUBERNETES}"
            ),
            Self::Hexadecimal(len) => write!(
                f,
                "hexadecimal digits of one key: a file holds the {len} bytes themselves \
                 (`xxd -r -p`)"
            ),
            Self::Entry { line, wrong } => write!(f, "line {line}: {wrong}"),
            Self::TooManyKeys => write!(f, "more than {MAX_KEYS} keys"),
        }
    }
}

impl fmt::Display for WrongEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOfH2o => f.write_str(
                "neither base64 nor YAML as H2O has it: a list of mappings, each line a \
                 `name: value` with plain values",
            ),
            Self::Missing(field) => write!(f, "the entry has no `{field}`"),
            Self::Twice(field) => write!(f, "the entry has `{field}` twice"),
            Self::Name => f.write_str("`name` must be 32 hexadecimal digits"),
            Self::Cipher => f.write_str("`cipher` must be `aes-128-cbc` or `aes-256-cbc`"),
            Self::Hash => f.write_str("`hash` must be `sha1` or `sha256`"),
            Self::Key { digits } => write!(
                f,
                "`key` must be {digits} hexadecimal digits for this cipher, as H2O's HMAC key has \
                 64 bytes"
            ),
            Self::Time(field) => write!(f, "`{field}` must be a number of seconds"),
            Self::Order => f.write_str("`not_after` is before `not_before`"),
        }
    }
}

impl std::error::Error for FormatError {}
