//! A record as bytes.
//!
//! ```text
//!  0        1         9          17         25            33
//!  | format | version | interval | lifetime | publish     | blocks …
//!  |        |         |          |          | ahead       |
//!
//!  block:     0      1        5
//!             | kind | length | its bytes …
//!
//!  1, keys:   0           8           16        24        32       64
//!             | published | activates | retires | expires | secret | …
//!
//!  2, revoked keys:
//!             0       8    24        32      40
//!             | floor | ID | revoked | until | …
//!
//!  3, forgotten scopes:
//!             0                  8            16              48           56     64
//!             | floor generation | floor time | scope digest | generation | time | …
//! ```
//!
//! Big-endian; times are milliseconds since the Unix epoch, durations milliseconds. No number is
//! greater than [`MAX_NUMBER`]. The three blocks stand in this order. Blocks of other kinds, which a
//! later release may add, follow them, and are written again as they are.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::key::Key;
use super::schedule::Schedule;
use super::withdrawn::{Id, MAX_SCOPES, MAX_TOMBSTONES, Tombstone, Withdrawn};
use super::{MAX_KEYS, Record};
use crate::aead::Sealing;
use crate::clock::{Time, millis};
use crate::reader::Reader;
use crate::rotation::{Rotation, Window};
use crate::scope::Scope;
use crate::source::bulletin::Forgotten;
use crate::source::plan::Planned;

/// The version of this layout. It is part of the name under which each record is kept, so records
/// of two layouts stand beside each other.
pub(in crate::source::shared) const FORMAT: u8 = 2;

/// The longest record.
pub(in crate::source::shared) const MAX_LEN: usize = HEADER_LEN
    + 3 * BLOCK_HEADER_LEN
    + MAX_KEYS * KEY_LEN
    + KEYS_FLOOR_LEN
    + MAX_TOMBSTONES * TOMBSTONE_LEN
    + SCOPES_FLOOR_LEN
    + MAX_SCOPES * SCOPE_LEN
    + MAX_UNKNOWN_LEN;

/// The greatest time, duration, version or generation: 146 million years in milliseconds. The next
/// one must be greater: after the `u64::MAX` of a damaged record none could be, and nothing would be
/// forgotten any more. It leaves room for many more, also in Redis, which reckons with 63 bits.
const MAX_NUMBER: u64 = 1 << 62;

const CUT_SHORT: &str = "it is cut short";
const TOO_GREAT: &str = "a number is greater than any can be";

const HEADER_LEN: usize = 1 + 4 * 8;
const BLOCK_HEADER_LEN: usize = 1 + 4;
const KEY_LEN: usize = 4 * 8 + Key::SECRET_LEN;
const KEYS_FLOOR_LEN: usize = 8;
const TOMBSTONE_LEN: usize = Id::LEN + 2 * 8;
const SCOPES_FLOOR_LEN: usize = 2 * 8;
const SCOPE_LEN: usize = Scope::DIGEST_LEN + 2 * 8;

/// How much a later release may add.
const MAX_UNKNOWN_LEN: usize = 16 * 1024;

/// The kinds of blocks.
const KEYS: u8 = 1;
const REVOKED: u8 = 2;
const FORGOTTEN: u8 = 3;

impl Record {
    /// Reads a record. STEKs of keys that `known` has too are taken from there. An error says what
    /// is wrong with the bytes, and nothing that is in them.
    pub(in crate::source::shared) fn decode(
        bytes: &[u8],
        sealing: Sealing,
        known: Option<&Self>,
    ) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let format = reader.u8().ok_or(CUT_SHORT)?;
        if format != FORMAT {
            return Err(format!("its format is {format}, here {FORMAT} is known"));
        }
        let mut record = Self::read_header(&mut reader)?;
        let keys = block(&mut reader, KEYS)?;
        record.read_keys(keys, sealing, known)?;
        record.withdrawn = Withdrawn::default();
        read_revoked(block(&mut reader, REVOKED)?, &mut record.withdrawn)?;
        read_forgotten(block(&mut reader, FORGOTTEN)?, &mut record.withdrawn)?;
        record.unknown = Zeroizing::new(unknown(&mut reader)?.to_vec());
        Ok(record)
    }

    /// The record without its blocks.
    fn read_header(reader: &mut Reader<'_>) -> Result<Self, &'static str> {
        Ok(Self {
            version: number(reader)?,
            schedule: Schedule {
                interval: Duration::from_millis(number(reader)?),
                ticket_lifetime: Duration::from_millis(number(reader)?),
                publish_ahead: Duration::from_millis(number(reader)?),
            },
            keys: Vec::new(),
            withdrawn: Withdrawn::default(),
            unknown: Zeroizing::default(),
        })
    }

    fn read_keys(
        &mut self,
        mut reader: Reader<'_>,
        sealing: Sealing,
        known: Option<&Self>,
    ) -> Result<(), String> {
        let mut number = 0_usize;
        while !reader.is_empty() {
            if number >= MAX_KEYS {
                return Err(format!("more than {MAX_KEYS} keys"));
            }
            let of_key = |why: &str| format!("key {number}: {why}");
            let (window, secret) = read_key(&mut reader).map_err(of_key)?;
            check_window(window).map_err(of_key)?;
            if self.keys.iter().any(|other| other.key.has(secret)) {
                return Err(of_key("the same secret as another"));
            }
            let known = known.and_then(|known| known.find(secret, sealing));
            let key = match known {
                Some(key) => key,
                None => Arc::new(Key::new(secret, sealing).map_err(|e| of_key(&e.to_string()))?),
            };
            self.keys.push(Planned { key, window });
            number = number.saturating_add(1);
        }
        Ok(())
    }

    /// Of its final size at once: a buffer that grows leaves copies of secrets behind.
    pub(in crate::source::shared) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let Withdrawn {
            tombstones,
            keys_floor,
            scopes,
            scopes_floor,
        } = &self.withdrawn;
        let of_keys = self.keys.len().saturating_mul(KEY_LEN);
        let of_revoked = tombstones.len().saturating_mul(TOMBSTONE_LEN);
        let of_revoked = of_revoked.saturating_add(KEYS_FLOOR_LEN);
        let of_forgotten = scopes.len().saturating_mul(SCOPE_LEN);
        let of_forgotten = of_forgotten.saturating_add(SCOPES_FLOOR_LEN);
        let blocks = [of_keys, of_revoked, of_forgotten, self.unknown.len()];
        let headers = HEADER_LEN + 3 * BLOCK_HEADER_LEN;
        let len = blocks.into_iter().fold(headers, usize::saturating_add);
        let mut out = Zeroizing::new(Vec::with_capacity(len));

        out.push(FORMAT);
        out.extend_from_slice(&self.version.to_be_bytes());
        let Schedule {
            interval,
            ticket_lifetime,
            publish_ahead,
        } = self.schedule;
        for duration in [interval, ticket_lifetime, publish_ahead] {
            out.extend_from_slice(&millis(duration).to_be_bytes());
        }
        begin(&mut out, KEYS, of_keys);
        for Planned { key, window } in &self.keys {
            let Window {
                published,
                activates,
                retires,
                expires,
            } = *window;
            for time in [published, activates, retires, expires] {
                out.extend_from_slice(&time.0.to_be_bytes());
            }
            out.extend_from_slice(&key.secret);
        }
        begin(&mut out, REVOKED, of_revoked);
        out.extend_from_slice(&keys_floor.0.to_be_bytes());
        for (id, Tombstone { revoked, until }) in tombstones {
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&revoked.0.to_be_bytes());
            out.extend_from_slice(&until.0.to_be_bytes());
        }
        begin(&mut out, FORGOTTEN, of_forgotten);
        let put = |out: &mut Vec<u8>, Forgotten { generation, time }: &Forgotten| {
            out.extend_from_slice(&generation.to_be_bytes());
            out.extend_from_slice(&time.0.to_be_bytes());
        };
        put(&mut out, scopes_floor);
        for (scope, forgotten) in scopes {
            out.extend_from_slice(scope);
            put(&mut out, forgotten);
        }
        out.extend_from_slice(&self.unknown);
        out
    }
}

/// The head of a block.
fn begin(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.push(kind);
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

/// The block of this kind, which must come next.
fn block<'a>(reader: &mut Reader<'a>, kind: u8) -> Result<Reader<'a>, String> {
    let found = reader.u8().ok_or(CUT_SHORT)?;
    if found != kind {
        return Err(format!("a block of kind {found} in place of kind {kind}"));
    }
    Ok(Reader::new(reader.vector::<4>().ok_or(CUT_SHORT)?))
}

/// Whole blocks of kinds that are not known here.
fn unknown<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], String> {
    let mut blocks = *reader;
    while !blocks.is_empty() {
        let kind = blocks.u8().ok_or(CUT_SHORT)?;
        if (KEYS..=FORGOTTEN).contains(&kind) {
            return Err(format!("a second block of kind {kind}"));
        }
        blocks.vector::<4>().ok_or(CUT_SHORT)?;
    }
    let len = reader.len();
    if len > MAX_UNKNOWN_LEN {
        return Err(format!("{len} bytes of blocks that are not known here"));
    }
    reader.take(len).ok_or_else(|| CUT_SHORT.into())
}

/// No greater than any can be.
fn number(reader: &mut Reader<'_>) -> Result<u64, &'static str> {
    match reader.u64().ok_or(CUT_SHORT)? {
        number if number <= MAX_NUMBER => Ok(number),
        _ => Err(TOO_GREAT),
    }
}

fn time(reader: &mut Reader<'_>) -> Result<Time, &'static str> {
    number(reader).map(Time)
}

fn read_key<'a>(reader: &mut Reader<'a>) -> Result<(Window, &'a [u8]), &'static str> {
    let window = Window {
        published: time(reader)?,
        activates: time(reader)?,
        retires: time(reader)?,
        expires: time(reader)?,
    };
    let secret = reader.take(Key::SECRET_LEN).ok_or(CUT_SHORT)?;
    Ok((window, secret))
}

fn read_revoked(mut reader: Reader<'_>, withdrawn: &mut Withdrawn) -> Result<(), String> {
    withdrawn.keys_floor = time(&mut reader)?;
    while !reader.is_empty() {
        let (id, tombstone) = read_tombstone(&mut reader)?;
        let last = withdrawn.tombstones.last_key_value();
        if last.is_some_and(|(last, _)| *last >= id) {
            return Err("revoked keys out of order".into());
        }
        withdrawn.tombstones.insert(id, tombstone);
        if withdrawn.tombstones.len() > MAX_TOMBSTONES {
            return Err(format!("more than {MAX_TOMBSTONES} revoked keys"));
        }
    }
    Ok(())
}

fn read_tombstone(reader: &mut Reader<'_>) -> Result<(Id, Tombstone), &'static str> {
    let id = Id(reader.array().ok_or(CUT_SHORT)?);
    let revoked = time(reader)?;
    let until = time(reader)?;
    Ok((id, Tombstone { revoked, until }))
}

fn read_forgotten(mut reader: Reader<'_>, withdrawn: &mut Withdrawn) -> Result<(), String> {
    withdrawn.scopes_floor = read_generation(&mut reader)?;
    while !reader.is_empty() {
        let scope = reader.array().ok_or(CUT_SHORT)?;
        let forgotten = read_generation(&mut reader)?;
        let last = withdrawn.scopes.last_key_value();
        if last.is_some_and(|(last, _)| *last >= scope) {
            return Err("forgotten scopes out of order".into());
        }
        withdrawn.scopes.insert(scope, forgotten);
        if withdrawn.scopes.len() > MAX_SCOPES {
            return Err(format!("more than {MAX_SCOPES} forgotten scopes"));
        }
    }
    Ok(())
}

fn read_generation(reader: &mut Reader<'_>) -> Result<Forgotten, &'static str> {
    Ok(Forgotten {
        generation: number(reader)?,
        time: time(reader)?,
    })
}

fn check_window(window: Window) -> Result<(), &'static str> {
    let Window {
        published,
        activates,
        retires,
        expires,
    } = window;
    if !(published <= activates && activates <= retires && retires <= expires) {
        return Err("its window is out of order");
    }
    if expires.since(retires) > Rotation::MAX_TICKET_LIFETIME {
        return Err("it expires more than 7 days after it retires");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
