//! HAProxy's list: a key in base64 on each line, of which the last but one seals.

use std::str;

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use super::content::Content;
use super::entry::{FileKey, MAX_KEYS, Place};
use super::wrong::{FormatError, WrongLine};
use crate::clock::Time;
use crate::source::text::is_text;

pub(super) fn parse(text: &str) -> Content {
    let mut content = Content {
        is_list: true,
        ..Content::default()
    };
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if content.keys.len() == MAX_KEYS {
            content.wrong.get_or_insert(FormatError::TooManyKeys);
            break;
        }
        match key(line) {
            Ok(key) => content.keys.push((Place::Line(number), key)),
            Err(wrong) => {
                let wrong = FormatError::Line { number, wrong };
                content.wrong.get_or_insert(wrong);
            }
        }
    }
    if content.keys.len() < 2 {
        if let Some(whole) = of_whole(text) {
            return Content::refused(whole);
        }
    }
    if content.keys.is_empty() && content.wrong.is_none() {
        return Content::refused(FormatError::Empty);
    }
    content.sealing = content.keys.len().saturating_sub(2);
    content
}

fn key(line: &str) -> Result<FileKey, WrongLine> {
    let bytes = decode(line).ok_or(WrongLine::NotBase64)?;
    let len = bytes.len();
    FileKey::new(bytes).ok_or(WrongLine::Length(len))
}

/// What text is that is not a list of at least two lines.
fn of_whole(text: &str) -> Option<FormatError> {
    let words = text.split_ascii_whitespace().collect::<Vec<_>>();
    let text = Zeroizing::new(words.concat());
    let is_hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hexadecimal && matches!(text.len(), 96 | 160) {
        return Some(FormatError::Hexadecimal(text.len().div_ceil(2)));
    }
    let decoded = decode(&text)?;
    if let len @ (48 | 80) = decoded.len() {
        return Some(FormatError::Base64OfKey { len, twice: false });
    }
    if decoded.is_empty() || !decoded.iter().all(is_text) {
        return None;
    }
    let inner = Content::parse(&decoded, Time(0));
    match inner.wrong {
        None => Some(FormatError::Base64OfList),
        Some(FormatError::Base64OfKey { len, .. }) => {
            Some(FormatError::Base64OfKey { len, twice: true })
        }
        Some(_) => None,
    }
}

/// Decodes base64 ([RFC 4648 §4](https://www.rfc-editor.org/rfc/rfc4648#section-4)), with its
/// padding and nothing else, in constant time.
pub(super) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    // It never grows, so it leaves no copies behind.
    let mut bytes = Zeroizing::new(vec![0; (text.len() / 4).saturating_mul(3)]);
    let len = Base64::decode(text, &mut bytes).ok()?.len();
    bytes.truncate(len);
    Some(bytes)
}
