//! What Redis may return for a record: any bytes, any that bear a KEK's name, the true record
//! changed in any way; and what another program that has the KEK may have sealed.

use std::sync::LazyLock;

use super::*;
use crate::fuzzed::changed;
use crate::hex;
use crate::source::shared::record::Record;

/// The sealed record of the golden file, what is in it and what opens it.
struct Golden {
    keks: Keks,
    sealed: Vec<u8>,
    record: Vec<u8>,
}

const KEY: &str = "fleet:steks:2";

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let secret: Vec<u8> = (200..232).collect();
    Golden {
        keks: Keks::with_sealing(&secret, Sealing::Aes256GcmSiv).unwrap(),
        sealed: hex::decode(include_str!("../../../tests/golden/redis-record.hex")),
        record: hex::decode(include_str!("../../../tests/golden/record.hex")),
    }
});

/// Opens and reads what the bytes say.
pub fn run(data: &[u8]) {
    let Golden {
        keks,
        sealed,
        record,
    } = &*GOLDEN;
    let returned = match data.split_first() {
        Some((0, rest)) => rest.to_vec(),
        Some((1, rest)) => [&sealed[..HEAD_LEN], rest].concat(),
        Some((2, rest)) => changed(sealed, rest),
        Some((3, rest)) => return read(keks, &changed(record, rest)),
        Some((_, rest)) => return read(keks, rest),
        None => Vec::new(),
    };
    match keks.open(&returned, KEY) {
        Ok(opened) => {
            assert_eq!(returned, *sealed);
            assert_eq!(*opened, *record);
        }
        Err(why) => {
            assert_ne!(returned, *sealed);
            assert!(!why.is_empty());
        }
    }
}

/// A record opens under its own key in Redis alone; it is refused, or says the same when written
/// again.
fn read(keks: &Keks, record: &[u8]) {
    let sealed = keks.seal(record, KEY).unwrap();
    assert_eq!(sealed.len(), sealed_len(record.len()));
    assert_eq!(*keks.open(&sealed, KEY).unwrap(), record);
    assert!(keks.open(&sealed, "fleet:steks:3").is_err());
    match Record::decode(record, Sealing::Aes256GcmSiv, None) {
        Ok(decoded) => {
            assert_eq!(*decoded.encode(), record);
            for key in decoded.source_keys() {
                let window = key.window;
                assert!(window.published <= window.activates && window.activates <= window.retires);
                assert!(window.retires <= window.expires && window.expires <= decoded.expires());
            }
        }
        Err(why) => assert!(!why.is_empty()),
    }
}
