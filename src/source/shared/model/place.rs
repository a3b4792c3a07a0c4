use std::time::{Duration, Instant};

use crate::aead::Sealing;
use crate::clock::Time;
use crate::error::Error;
use crate::source::shared::record::{Key, Record};
use crate::source::shared::{Backend, Next, Reading};
use crate::source::{SourceError, SourceQuery};

/// The record, at one moment.
pub(super) struct Place {
    pub(super) record: Option<Record>,
    pub(super) now: Time,
    pub(super) made: u8,
    pub(super) is_cut_off: bool,
    pub(super) written: bool,
}

impl Backend for Place {
    type Basis = ();

    const HAS_CLOCK: bool = true;

    fn limit(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn place(&self) -> String {
        "the model".into()
    }

    fn read(
        &mut self,
        _: &SourceQuery<'_>,
        _: usize,
        _: Instant,
    ) -> Result<Reading<()>, SourceError> {
        if self.is_cut_off {
            return Err("cut off".into());
        }
        Ok(Reading {
            record: self.record.as_ref().map(Record::encode),
            now: self.now,
            basis: (),
        })
    }

    fn replace(&mut self, (): (), next: &Next, _: Instant) -> Result<bool, SourceError> {
        self.record = Some(next.record.clone());
        self.written = true;
        Ok(true)
    }

    fn new_key(&mut self, sealing: Sealing) -> Result<Key, Error> {
        self.made += 1;
        let mut secret = *b"a secret of the model, number: 00";
        secret[Key::SECRET_LEN - 1] = self.made;
        Key::new(&secret[..Key::SECRET_LEN], sealing)
    }

    fn damaged(&self, why: &str) -> SourceError {
        why.into()
    }
}
