//! A record of STEKs that several processes share, and any of them may rotate.
//!
//! ```text
//!  0        1         9          17         25            33      35
//!  | format | version | interval | lifetime | publish     | count | keys …
//!  |        |         |          |          | ahead       |       |
//!
//!  key:  0           8           16        24        32       64
//!        | published | activates | retires | expires | secret |
//! ```
//!
//! Big-endian; times are milliseconds since the Unix epoch, durations milliseconds. The version
//! grows with every change. The schedule is that of whoever changed it last; each key keeps the
//! window that it was made with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::aead::Sealing;
use crate::clock::Time;
use crate::error::Error;
use crate::rotation::{Rotation, Window};
use crate::source::plan::{Planned, Step};
use crate::source::{SourceKey, SourceQuery};
use crate::stek::{KeyName, Stek};

/// Of this layout. Part of each record's place, so that another layout is another record.
pub(crate) const FORMAT: u8 = 1;

/// The most keys that a record may hold: those of a week at ten-minute intervals.
pub(crate) const MAX_KEYS: usize = 1024;

/// The longest record.
pub(crate) const MAX_LEN: usize = HEADER_LEN + MAX_KEYS * KEY_LEN;

const HEADER_LEN: usize = 1 + 4 * 8 + 2;
const KEY_LEN: usize = 4 * 8 + SECRET_LEN;
const SECRET_LEN: usize = Stek::MIN_SECRET_LEN;

/// What the processes share.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) version: u64,
    pub(crate) schedule: Schedule,
    keys: Vec<Planned<Arc<Key>>>,
}

impl Record {
    /// The one before the first.
    pub(crate) fn empty(rotation: &Rotation) -> Self {
        Self {
            version: 0,
            schedule: Schedule::of(rotation),
            keys: Vec::new(),
        }
    }

    /// Reads a record. Of those keys that `known` has too, the STEKs are taken from there. An error
    /// says what is wrong with the bytes, and nothing that is in them.
    pub(crate) fn decode(
        bytes: &[u8],
        sealing: Sealing,
        known: Option<&Self>,
    ) -> Result<Self, String> {
        let mut input = Input(bytes);
        let format = input.array::<1>()?[0];
        if format != FORMAT {
            return Err(format!("its format is {format}, here {FORMAT} is known"));
        }
        let mut record = Self {
            version: input.u64()?,
            schedule: Schedule {
                interval: Duration::from_millis(input.u64()?),
                ticket_lifetime: Duration::from_millis(input.u64()?),
                publish_ahead: Duration::from_millis(input.u64()?),
            },
            keys: Vec::new(),
        };
        let count = usize::from(u16::from_be_bytes(input.array()?));
        if count > MAX_KEYS {
            return Err(format!("it claims {count} keys: at most {MAX_KEYS} fit"));
        }
        for number in 0..count {
            let of_key = |why: String| format!("key {number}: {why}");
            let window = input.window().map_err(of_key)?;
            let secret = input.take(SECRET_LEN).map_err(of_key)?;
            if record.keys.iter().any(|other| other.key.has(secret)) {
                return Err(of_key("the same secret as another".into()));
            }
            let known = known.and_then(|known| known.find(secret, sealing));
            let key = match known {
                Some(key) => key,
                None => Arc::new(Key::new(secret, sealing).map_err(|e| of_key(e.to_string()))?),
            };
            record.keys.push(Planned { key, window });
        }
        match input.0 {
            [] => Ok(record),
            more => Err(format!("{} bytes too many", more.len())),
        }
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let len = HEADER_LEN.saturating_add(self.keys.len().saturating_mul(KEY_LEN));
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
        let count = u16::try_from(self.keys.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
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
        out
    }

    /// The record as it should be now, of the same version, and whether it differs: without what
    /// has expired or was revoked, with a key that seals and, when it is due, its successor.
    pub(crate) fn step(&self, now: Time, query: &SourceQuery<'_>) -> Result<(Self, bool), Error> {
        let schedule = Schedule::of(query.rotation);
        schedule.check()?;
        let mut next = Self {
            schedule,
            ..self.clone()
        };
        let revoked = next.drop_revoked(query.revoked);
        let step = Step {
            now,
            rotation: query.rotation,
            slack: query.rotation.ahead(),
            rotate: query.rotate,
        };
        let stepped = step.take(&mut next.keys, || Key::random(query.sealing).map(Arc::new))?;
        next.make_room();
        Ok(match revoked || stepped {
            true => (next, true),
            false => (self.clone(), false),
        })
    }

    /// Drops what may no longer be held, also while nothing can be written.
    pub(crate) fn forget(&mut self, now: Time, revoked: &[KeyName]) {
        self.keys.retain(|key| now < key.window.expires);
        self.drop_revoked(revoked);
    }

    pub(crate) fn source_keys(&self) -> Vec<SourceKey> {
        let key =
            |key: &Planned<Arc<Key>>| SourceKey::with_window(Arc::clone(&key.key.stek), key.window);
        self.keys.iter().map(key).collect()
    }

    /// When the last of its keys expires.
    #[cfg(feature = "redis")]
    pub(crate) fn expires(&self) -> Time {
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

    /// Only who rotates by hand without end comes here: what expires first goes.
    fn make_room(&mut self) {
        while self.keys.len() > MAX_KEYS {
            let keys = self.keys.iter().enumerate();
            let first = keys.min_by_key(|(_, key)| key.window.expires);
            let first = first.map_or(0, |(index, _)| index);
            self.keys.remove(first);
        }
    }
}

/// How whoever changed a record last rotates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Schedule {
    interval: Duration,
    ticket_lifetime: Duration,
    publish_ahead: Duration,
}

impl Schedule {
    pub(crate) fn of(rotation: &Rotation) -> Self {
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
            "so short for a ticket lifetime of {:?} that {keys} keys would live at once: the \
             processes can share {MAX_KEYS}",
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

/// A secret, which others need to be told of, and the STEK made of it.
struct Key {
    /// On the heap, so that it does not leave copies behind when it moves.
    secret: Zeroizing<Vec<u8>>,
    stek: Arc<Stek>,
}

impl Key {
    fn new(secret: &[u8], sealing: Sealing) -> Result<Self, Error> {
        let stek = Arc::new(Stek::with_sealing(secret, sealing)?);
        Ok(Self {
            secret: Zeroizing::new(secret.to_vec()),
            stek,
        })
    }

    fn random(sealing: Sealing) -> Result<Self, Error> {
        let mut secret = Zeroizing::new(vec![0; SECRET_LEN]);
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

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.0.split_at_checked(len).ok_or("it is cut short")?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "it is cut short".into())
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_be_bytes)
    }

    fn window(&mut self) -> Result<Window, String> {
        let window = Window {
            published: Time(self.u64()?),
            activates: Time(self.u64()?),
            retires: Time(self.u64()?),
            expires: Time(self.u64()?),
        };
        let Window {
            published,
            activates,
            retires,
            expires,
        } = window;
        if !(published <= activates && activates <= retires && retires <= expires) {
            return Err("its window is out of order".into());
        }
        if expires.since(retires) > Rotation::MAX_TICKET_LIFETIME {
            return Err("it expires more than 7 days after it retires".into());
        }
        Ok(window)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hex;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const NOW: Time = Time(1_800_000_000_000);
    const SIV: Sealing = Sealing::Aes256GcmSiv;

    pub(crate) fn query<'a>(
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
    pub(crate) fn golden() -> Record {
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
    pub(crate) fn secrets(record: &Record) -> Vec<Vec<u8>> {
        let secrets = record.keys.iter().map(|key| key.key.secret.to_vec());
        secrets.collect()
    }

    pub(crate) fn names(record: &Record) -> Vec<KeyName> {
        record.keys.iter().map(|key| *key.key.stek.name()).collect()
    }

    fn step(record: &Record, now: Time, rotate: bool, revoked: &[KeyName]) -> (Record, bool) {
        let rotation = Rotation::new();
        record
            .step(now, &query(now, &rotation, rotate, revoked))
            .unwrap()
    }

    #[test]
    fn golden_record() {
        let bytes = hex::decode(include_str!("../../../tests/golden/record.hex"));
        assert_eq!(*golden().encode(), bytes);
        assert_eq!(golden().encode().capacity(), bytes.len(), "it never moved");
        let read = Record::decode(&bytes, SIV, None).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", golden()));
        assert_eq!(
            names(&read)[0].to_string(),
            "57b28138add7585273b2397655d12ca0",
            "the same secret as in the STEK's own golden test"
        );
    }

    #[test]
    fn every_truncation_and_what_cannot_be_is_refused_and_says_why() {
        let good = golden().encode().to_vec();
        for len in 0..good.len() {
            let error = Record::decode(&good[..len], SIV, None).unwrap_err();
            assert!(error.contains("cut short"), "length {len}: {error}");
        }
        let changed = |at: usize, bytes: &[u8]| {
            let mut changed = good.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            Record::decode(&changed, SIV, None).unwrap_err()
        };
        let second = HEADER_LEN + KEY_LEN;
        let secret = HEADER_LEN + 32;
        for (error, why) in [
            (changed(0, &[2]), "its format is 2, here 1 is known"),
            (changed(33, &[4, 1]), "it claims 1025 keys: at most 1024"),
            (changed(33, &[0, 1]), "64 bytes too many"),
            (changed(secret, &[0; 32]), "key 0: weak key"),
            (
                changed(second + 32, &good[secret..secret + 32]),
                "key 1: the same secret as another",
            ),
            (
                changed(second, &[0xff; 8]),
                "key 1: its window is out of order",
            ),
            (
                changed(HEADER_LEN + 24, &[0xff; 8]),
                "key 0: it expires more than 7 days after",
            ),
        ] {
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn a_key_may_outlive_its_sealing_by_seven_days_and_no_longer() {
        let mut record = golden();
        for (more, fits) in [(0, true), (1, false)] {
            let window = &mut record.keys[0].window;
            window.expires = window
                .retires
                .plus(7 * 24 * HOUR + Duration::from_millis(more));
            assert_eq!(Record::decode(&record.encode(), SIV, None).is_ok(), fits);
        }
    }

    #[test]
    fn keys_that_are_known_are_not_derived_again() {
        let known = golden();
        let read = Record::decode(&known.encode(), SIV, Some(&known)).unwrap();
        let same = |(a, b): (&Planned<Arc<Key>>, _)| Arc::ptr_eq(&a.key, b);
        let others = known.keys.iter().map(|key| &key.key);
        assert!(read.keys.iter().zip(others).all(same));
        let gcm = Record::decode(&known.encode(), Sealing::Aes256Gcm, Some(&known)).unwrap();
        assert_ne!(
            names(&gcm),
            names(&known),
            "another algorithm, another STEK"
        );
    }

    #[test]
    fn a_step_rotates_and_drops_what_expired_or_was_revoked() {
        let (first, changed) = step(&Record::empty(&Rotation::new()), NOW, false, &[]);
        assert!(changed && first.keys.len() == 1);
        let (same, changed) = step(&first, NOW, false, &[]);
        assert!(!changed && names(&same) == names(&first));
        let (rotated, changed) = step(&first, NOW, true, &[]);
        assert!(changed && rotated.keys.len() == 2);
        let (cleared, changed) = step(&rotated, NOW, false, &names(&rotated));
        assert!(changed && cleared.keys.len() == 1);
        assert!(!names(&rotated).contains(&names(&cleared)[0]));
        let (later, changed) = step(&rotated, NOW.plus(24 * HOUR), false, &[]);
        assert!(changed && later.keys.len() == 1);
        assert!(!names(&rotated).contains(&names(&later)[0]));
    }

    #[test]
    fn rotating_without_end_keeps_the_record_within_its_bounds() {
        let mut record = Record::empty(&Rotation::new());
        for second in 0..MAX_KEYS as u32 + 20 {
            let now = NOW.plus(Duration::from_secs(1) * second);
            record = step(&record, now, true, &[]).0;
        }
        assert_eq!(record.keys.len(), MAX_KEYS);
        assert_eq!(record.encode().len(), MAX_LEN);
        assert!(Record::decode(&record.encode(), SIV, Some(&record)).is_ok());
    }

    #[test]
    fn a_schedule_whose_keys_would_not_fit_is_refused() {
        let rotation = Rotation::new().interval(Duration::from_secs(10));
        let record = Record::empty(&rotation);
        let error = record.step(NOW, &query(NOW, &rotation, false, &[]));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("interval = 10s: so short"), "{error}");
        assert!(error.contains("4323 keys"), "{error}");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?}", golden());
        assert!(shown.contains("57b28138add7585273b2397655d12ca0"));
        assert!(!shown.contains("[0, 1, 2"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::decode(&bytes, SIV, None);
        }

        #[test]
        fn a_damaged_record_is_refused_or_can_be_written_again(
            at in 0_usize..163, value in any::<u8>(),
        ) {
            let mut bytes = golden().encode().to_vec();
            bytes[at] = value;
            if let Ok(record) = Record::decode(&bytes, SIV, None) {
                prop_assert_eq!(&*record.encode(), &bytes);
            }
        }
    }
}
