use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::aead::Sealing;
use crate::clock::Time;
use crate::error::Error;
use crate::rotation::Rotation;
use crate::source::plan::{Planned, Planner};
use crate::source::{SourceKey, SourceQuery};
use crate::stek::{KeyName, Stek};

pub(super) mod encoding;

/// The most keys that a record may hold: those of a week at ten-minute intervals.
const MAX_KEYS: usize = 1024;

/// STEKs that several processes share, with the schedule of whoever changed them last.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Grows with every change.
    pub(super) version: u64,
    pub(super) schedule: Schedule,
    keys: Vec<Planned<Arc<Key>>>,
}

impl Record {
    /// The one before the first.
    pub(super) fn empty(rotation: &Rotation) -> Self {
        Self {
            version: 0,
            schedule: Schedule::of(rotation),
            keys: Vec::new(),
        }
    }

    /// The record as it must be now, still of the same version: without expired and revoked keys,
    /// with one that seals and, when that is due, its successor. `None` if it is so already.
    pub(super) fn updated(
        &self,
        now: Time,
        query: &SourceQuery<'_>,
    ) -> Result<Option<Self>, Error> {
        let schedule = Schedule::of(query.rotation);
        schedule.check()?;
        let mut next = Self {
            schedule,
            ..self.clone()
        };
        let revoked = next.drop_revoked(query.revoked);
        let planner = Planner {
            now,
            rotation: query.rotation,
            max_skew: query.rotation.ahead(),
            rotate: query.rotate,
        };
        let changed =
            planner.update(&mut next.keys, || Key::random(query.sealing).map(Arc::new))?;
        next.make_room();
        Ok((revoked || changed).then_some(next))
    }

    /// Drops keys that may not be held any longer, even while the record cannot be written.
    pub(super) fn forget(&mut self, now: Time, revoked: &[KeyName]) {
        self.keys.retain(|key| now < key.window.expires);
        self.drop_revoked(revoked);
    }

    pub(super) fn source_keys(&self) -> Vec<SourceKey> {
        let key =
            |key: &Planned<Arc<Key>>| SourceKey::with_window(Arc::clone(&key.key.stek), key.window);
        self.keys.iter().map(key).collect()
    }

    /// Whether one of these keys is in it.
    pub(super) fn holds(&self, names: &[KeyName]) -> bool {
        let mut keys = self.keys.iter();
        keys.any(|key| names.contains(key.key.stek.name()))
    }

    /// When the last of its keys expires.
    #[cfg(feature = "redis")]
    pub(super) fn expires(&self) -> Time {
        let expires = self.keys.iter().map(|key| key.window.expires);
        expires.max().unwrap_or(Time(0))
    }

    fn find(&self, secret: &[u8], sealing: Sealing) -> Option<Arc<Key>> {
        let mut keys = self.keys.iter().map(|planned| &planned.key);
        keys.find(|key| key.has(secret) && key.stek.sealing() == sealing)
            .cloned()
    }

    fn drop_revoked(&mut self, revoked: &[KeyName]) -> bool {
        let before = self.keys.len();
        self.keys
            .retain(|key| !revoked.contains(key.key.stek.name()));
        self.keys.len() != before
    }

    /// Drops the keys that expire first while there are too many: after endless rotations by hand.
    fn make_room(&mut self) {
        while self.keys.len() > MAX_KEYS {
            let keys = self.keys.iter().enumerate();
            let first = keys.min_by_key(|(_, key)| key.window.expires);
            let first = first.map_or(0, |(index, _)| index);
            self.keys.remove(first);
        }
    }
}

/// The rotation of whoever changed a record last, in whole milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Schedule {
    interval: Duration,
    ticket_lifetime: Duration,
    publish_ahead: Duration,
}

impl Schedule {
    pub(super) fn of(rotation: &Rotation) -> Self {
        let window = rotation.window(Time(0), Time(0));
        let whole_millis = |duration| Duration::from_millis(millis(duration));
        Self {
            interval: window.retires.since(Time(0)),
            ticket_lifetime: window.expires.since(window.retires),
            publish_ahead: whole_millis(rotation.ahead()),
        }
    }

    /// Whether the keys that it keeps alive fit into a record.
    fn check(&self) -> Result<(), Error> {
        let retired = self
            .ticket_lifetime
            .as_millis()
            .checked_div(self.interval.as_millis());
        // One that seals, one published ahead, one that is about to expire.
        let keys = retired.unwrap_or(u128::MAX).saturating_add(3);
        if keys <= MAX_KEYS as u128 {
            return Ok(());
        }
        let why = format!(
            "so short for a ticket lifetime of {:?} that {keys} keys would be alive at once: at \
             most {MAX_KEYS} can be shared",
            self.ticket_lifetime
        );
        Err(Error::duration("interval", self.interval, why))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            interval,
            ticket_lifetime,
            publish_ahead,
        } = self;
        write!(
            f,
            "interval {interval:?}, ticket lifetime {ticket_lifetime:?}, \
             publish-ahead {publish_ahead:?}"
        )
    }
}

/// A secret, which the other processes need, and the STEK made of it.
struct Key {
    /// On the heap, so that it leaves no copies behind when it moves.
    secret: Zeroizing<Vec<u8>>,
    stek: Arc<Stek>,
}

impl Key {
    const SECRET_LEN: usize = Stek::MIN_SECRET_LEN;

    fn new(secret: &[u8], sealing: Sealing) -> Result<Self, Error> {
        let stek = Arc::new(Stek::with_sealing(secret, sealing)?);
        Ok(Self {
            secret: Zeroizing::new(secret.to_vec()),
            stek,
        })
    }

    fn random(sealing: Sealing) -> Result<Self, Error> {
        let mut secret = Zeroizing::new(vec![0; Self::SECRET_LEN]);
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| Error::Random)?;
        let stek = Arc::new(Stek::with_sealing(&secret, sealing)?);
        Ok(Self { secret, stek })
    }

    fn has(&self, secret: &[u8]) -> bool {
        self.secret.as_slice() == secret
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stek.name().fmt(f)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const NOW: Time = Time(1_800_000_000_000);
    const SIV: Sealing = Sealing::Aes256GcmSiv;

    pub(in crate::source::shared) fn query<'a>(
        now: Time,
        rotation: &'a Rotation,
        rotate: bool,
        revoked: &'a [KeyName],
    ) -> SourceQuery<'a> {
        SourceQuery {
            now,
            monotonic: Duration::ZERO,
            rotation,
            sealing: SIV,
            rotate,
            revoked,
        }
    }

    /// A record of known secrets: what the golden files hold.
    pub(in crate::source::shared) fn golden() -> Record {
        let rotation = Rotation::new();
        let key = |first: u8, activates: Time| {
            let secret: Vec<u8> = (first..first + 32).collect();
            Planned {
                key: Arc::new(Key::new(&secret, SIV).unwrap()),
                window: rotation.window(activates.minus(HOUR / 12), activates),
            }
        };
        Record {
            version: 7,
            schedule: Schedule::of(&rotation),
            keys: vec![key(0, NOW), key(100, NOW.plus(HOUR))],
        }
    }

    #[cfg(feature = "redis")]
    pub(in crate::source::shared) fn secrets(record: &Record) -> Vec<Vec<u8>> {
        let secrets = record.keys.iter().map(|key| key.key.secret.to_vec());
        secrets.collect()
    }

    pub(in crate::source::shared) fn names(record: &Record) -> Vec<KeyName> {
        record.keys.iter().map(|key| *key.key.stek.name()).collect()
    }

    fn update(record: &Record, now: Time, rotate: bool, revoked: &[KeyName]) -> (Record, bool) {
        let rotation = Rotation::new();
        let updated = record
            .updated(now, &query(now, &rotation, rotate, revoked))
            .unwrap();
        let changed = updated.is_some();
        (updated.unwrap_or_else(|| record.clone()), changed)
    }

    #[test]
    fn an_update_rotates_and_drops_what_expired_or_was_revoked() {
        let (first, changed) = update(&Record::empty(&Rotation::new()), NOW, false, &[]);
        assert!(changed && first.keys.len() == 1);
        let (same, changed) = update(&first, NOW, false, &[]);
        assert!(!changed && names(&same) == names(&first));
        let (rotated, changed) = update(&first, NOW, true, &[]);
        assert!(changed && rotated.keys.len() == 2);
        let (cleared, changed) = update(&rotated, NOW, false, &names(&rotated));
        assert!(changed && cleared.keys.len() == 1);
        assert!(!names(&rotated).contains(&names(&cleared)[0]));
        let (later, changed) = update(&rotated, NOW.plus(24 * HOUR), false, &[]);
        assert!(changed && later.keys.len() == 1);
        assert!(!names(&rotated).contains(&names(&later)[0]));
    }

    #[test]
    fn rotating_without_end_keeps_the_record_within_its_bounds() {
        let mut record = Record::empty(&Rotation::new());
        for second in 0..MAX_KEYS as u32 + 20 {
            let now = NOW.plus(Duration::from_secs(1) * second);
            record = update(&record, now, true, &[]).0;
        }
        assert_eq!(record.keys.len(), MAX_KEYS);
        assert_eq!(record.encode().len(), encoding::MAX_LEN);
        assert!(Record::decode(&record.encode(), SIV, Some(&record)).is_ok());
    }

    #[test]
    fn a_schedule_whose_keys_would_not_fit_is_refused() {
        let rotation = Rotation::new().interval(Duration::from_secs(10));
        let record = Record::empty(&rotation);
        let error = record.updated(NOW, &query(NOW, &rotation, false, &[]));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("interval = 10s: so short"), "{error}");
        assert!(error.contains("4323 keys"), "{error}");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?}", golden());
        assert!(shown.contains("71f1a663d2cf2b6177cb5ecc457571b0"));
        assert!(!shown.contains("[0, 1, 2"), "{shown}");
    }
}
