//! H2O's `ticket-file`: a list of mappings in YAML, of which the newest one that has begun seals.
//!
//! ```text
//! - name: 23ce8ae6d6a6…              32 hexadecimal digits
//!   cipher: aes-256-cbc              or aes-128-cbc
//!   hash: sha256                     or sha1
//!   key: d4a7…                       hexadecimal: the cipher's key, then 64 bytes for HMAC
//!   not_before: 1437092430           when it begins to seal, in seconds
//!   not_after: 1437096029            until when H2O lets it seal
//! ```
//!
//! Only this much of YAML is read: block style, plain or quoted values, comments.

use std::cmp::Reverse;

use zeroize::Zeroizing;

use super::content::Content;
use super::entry::{FileKey, MAX_KEYS, NAME_LEN, Place};
use super::wrong::{FormatError, WrongEntry};
use crate::clock::Time;

/// The block size of SHA-1 and SHA-256: what H2O takes for an HMAC key.
const HMAC_LEN: usize = 64;

/// An HMAC key of nginx. One that is filled up to a block with zeros is the same to HMAC.
const NGINX_HMAC_LEN: usize = 32;

/// The year 5138: a time beyond it was not meant in seconds.
pub(super) const TOO_LATE: u64 = 100_000_000_000;

/// An entry's values, as they are written.
#[derive(Default)]
struct Entry<'a> {
    line: usize,
    values: [Option<&'a str>; FIELDS.len()],
    wrong: Option<WrongEntry>,
}

const FIELDS: [&str; 6] = ["name", "cipher", "hash", "key", "not_before", "not_after"];

/// When H2O seals with a key, in seconds.
struct Times {
    not_before: u64,
    not_after: u64,
}

pub(super) fn parse(text: &str, now: Time) -> Content {
    let mut content = Content {
        is_list: true,
        ..Content::default()
    };
    let entries = entries(text);
    if entries.is_empty() {
        return Content::refused(FormatError::Empty);
    }
    if entries.len() > MAX_KEYS {
        return Content::refused(FormatError::TooManyKeys);
    }
    let mut times = Vec::new();
    for entry in entries {
        let line = entry.line;
        match entry.read() {
            Ok((mut key, time)) => {
                key.h2o_times = Some((time.not_before, time.not_after));
                content.keys.push((Place::Line(line), key));
                times.push(time);
            }
            Err(wrong) => {
                let wrong = FormatError::Entry { line, wrong };
                content.wrong.get_or_insert(wrong);
            }
        }
    }
    content.sealing = sealing(&times, now);
    content.advice = advice(&content.keys, &times, content.sealing, now);
    content
}

/// The newest key that has begun; the first to begin if none has.
fn sealing(times: &[Times], now: Time) -> usize {
    let now = now.0 / 1_000;
    let has_begun = |time: &Times| time.not_before <= now;
    let begun = times.iter().enumerate().filter(|(_, time)| has_begun(time));
    // The first of those that begin at the same time.
    let newest = begun.min_by_key(|(_, time)| Reverse(time.not_before));
    let first = times
        .iter()
        .enumerate()
        .min_by_key(|(_, time)| time.not_before);
    newest.or(first).map_or(0, |(index, _)| index)
}

fn advice(keys: &[(Place, FileKey)], times: &[Times], sealing: usize, now: Time) -> Vec<String> {
    let mut advice = Vec::new();
    for (index, ((place, _), time)) in keys.iter().zip(times).enumerate() {
        let place = place.to_string();
        let place = place.trim_start();
        if time.not_before > TOO_LATE {
            advice.push(format!(
                "{place}: `not_before` is thousands of years ahead: H2O counts seconds, though its \
                 manual says milliseconds"
            ));
        } else if index == sealing && time.not_after < now.0 / 1_000 {
            advice.push(format!(
                "{place}: `not_after` has passed, and H2O would no longer seal with this key: \
                 here it stays active until another begins"
            ));
        }
    }
    advice
}

fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = without_comment(content).trim_end();
        if content.is_empty() || matches!(content, "---" | "...") {
            continue;
        }
        let rest = match content.trim_start().strip_prefix("- ") {
            Some(rest) => {
                entries.push(Entry {
                    line,
                    ..Entry::default()
                });
                rest
            }
            None => content,
        };
        let not_of_h2o = Some(WrongEntry::NotOfH2o);
        let is_outside = rest.len() == content.len() && !content.starts_with(' ');
        match entries.last_mut() {
            Some(entry) if !is_outside => entry.take(rest.trim()),
            Some(entry) => entry.wrong = entry.wrong.or(not_of_h2o),
            None => entries.push(Entry {
                line,
                wrong: not_of_h2o,
                ..Entry::default()
            }),
        }
    }
    entries
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "";
    }
    line.split_once(" #").map_or(line, |(content, _)| content)
}

impl<'a> Entry<'a> {
    fn take(&mut self, attribute: &'a str) {
        let Some((field, value)) = attribute.split_once(':') else {
            self.wrong = self.wrong.or(Some(WrongEntry::NotOfH2o));
            return;
        };
        let known = FIELDS.iter().zip(&mut self.values);
        let field = field.trim_end();
        // Others mean nothing to H2O either.
        for (known, slot) in known.filter(|(known, _)| **known == field) {
            if slot.replace(unquoted(value.trim())).is_some() {
                self.wrong = self.wrong.or(Some(WrongEntry::Twice(known)));
            }
        }
    }

    fn read(&self) -> Result<(FileKey, Times), WrongEntry> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        for (field, value) in FIELDS.iter().zip(&self.values) {
            if value.is_none() {
                return Err(WrongEntry::Missing(field));
            }
        }
        let [name, cipher, hash, key, not_before, not_after] =
            self.values.map(Option::unwrap_or_default);
        let cipher = match cipher.to_ascii_lowercase().as_str() {
            "aes-128-cbc" => 16,
            "aes-256-cbc" => 32,
            _ => return Err(WrongEntry::Cipher),
        };
        if !["sha1", "sha256"].contains(&hash.to_ascii_lowercase().as_str()) {
            return Err(WrongEntry::Hash);
        }
        let name = hexadecimal(name, NAME_LEN).ok_or(WrongEntry::Name)?;
        let len = HMAC_LEN.saturating_add(cipher);
        let digits = len.saturating_mul(2);
        let key = hexadecimal(key, len).ok_or(WrongEntry::Key { digits })?;
        let time = |field, value: &str| value.parse().map_err(|_| WrongEntry::Time(field));
        let times = Times {
            not_before: time("not_before", not_before)?,
            not_after: time("not_after", not_after)?,
        };
        if times.not_after < times.not_before {
            return Err(WrongEntry::Order);
        }
        Ok((file_key(&name, &key, cipher), times))
    }
}

/// In the order of nginx, and with the zeros off, so that a key is the same STEK in either format.
fn file_key(name: &[u8], key: &[u8], cipher: usize) -> FileKey {
    let (cipher, hmac) = key.split_at_checked(cipher).unwrap_or_default();
    let hmac = match hmac.split_at_checked(NGINX_HMAC_LEN) {
        Some((start, zeros)) if cipher.len() == 32 && zeros.iter().all(|byte| *byte == 0) => start,
        _ => hmac,
    };
    // It never grows, so it leaves no copies behind.
    let len = [name, hmac, cipher].map(<[u8]>::len).into_iter();
    let mut bytes = Zeroizing::new(Vec::with_capacity(len.fold(0, usize::saturating_add)));
    for part in [name, hmac, cipher] {
        bytes.extend_from_slice(part);
    }
    FileKey {
        bytes,
        second: name.len().saturating_add(hmac.len()),
        h2o_times: None,
    }
}

fn unquoted(value: &str) -> &str {
    let within = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

/// Reads this many bytes in hexadecimal, in constant time.
fn hexadecimal(digits: &str, len: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; len]);
    let read = base16ct::mixed::decode(digits, &mut bytes).ok()?.len();
    (read == len).then_some(bytes)
}
