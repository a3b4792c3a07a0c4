//! Where STEKs come from: [`StekSource`], and the sources of this crate besides the random one.

use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, SystemTime};

use crate::aead::Sealing;
use crate::clock::Time;
use crate::errands::Errands;
use crate::error::Error;
use crate::rotation::Rotation;
use crate::stek::{KeyName, Stek};
use bulletin::Bulletin;

#[cfg_attr(
    not(any(unix, feature = "redis")),
    expect(dead_code, reason = "nothing is shared")
)]
pub(crate) mod bulletin;
mod derived;
mod files;
mod key;
mod plan;
mod random;
mod settled_clock;
#[cfg(any(unix, feature = "redis"))]
mod shared;
mod shared_secret;
mod text;
mod withdrawal;

pub use derived::DerivedSource;
#[cfg(any(test, rustls_resumption_fuzzing))]
pub use files::fuzzed as fuzzed_key_file;
pub use files::{InventoryKey, KeyFiles, KeyInventory};
pub use key::SourceKey;
pub(crate) use random::RandomSource;
#[cfg(unix)]
pub use shared::KeyDirectory;
#[cfg(feature = "redis")]
pub use shared::RedisSource;
#[cfg(all(feature = "redis", any(test, rustls_resumption_fuzzing)))]
pub use shared::fuzzed_redis_record;
pub(crate) use withdrawal::Withdrawal;

/// A source of STEKs. It answers one question: which STEKs exist now, and when may each be used?
///
/// It is loaded on a thread of its own (with a [`FakeClock`](crate::FakeClock), on the thread that
/// calls `step`), so it may do I/O. Each answer replaces the one before. A source that has not
/// answered within a second and a half counts as failed, and
/// [`StekStats::source_late`](crate::stats::StekStats::source_late) says so; a late answer is still
/// used, without the keys that were revoked or have expired since. A source that never returns
/// costs one thread. While the source fails, the ring keeps its current keys until they expire,
/// then seals with local random ones until the source answers again.
///
/// A panic in any of these methods counts as a failure, and the ring goes on. Only a source that
/// does not tell its name, and whether it is shared, when a ring is set up is an error there.
///
/// For a key management system that this crate does not support, [`source_fn`] turns a closure into
/// a source.
pub trait StekSource: Send {
    /// The STEKs that exist now. An error leaves the ring unchanged, and is logged once per change.
    ///
    /// # Errors
    ///
    /// Should tell the operator what is wrong and where, without secrets.
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError>;

    /// Its name in errors, logs and [`Stats`](crate::Stats).
    fn name(&self) -> &'static str {
        "custom"
    }

    /// How often to load it even if no window opens or closes.
    ///
    /// Defaults to [`SourceQuery::DEFAULT_INTERVAL`].
    fn poll_interval(&self) -> Duration {
        SourceQuery::DEFAULT_INTERVAL
    }

    /// Whether other processes have the same STEKs. If so, windows are in wall time, the only clock
    /// that hosts have in common, and a shared session store makes sense.
    fn is_shared(&self) -> bool {
        true
    }

    /// Whether it switches to another STEK when [`SourceQuery::rotate`] asks for it.
    fn can_rotate(&self) -> bool {
        true
    }

    /// Whether the other processes that use this source have the same schedule, if it can tell.
    fn fleet_agrees(&self) -> Option<bool> {
        None
    }
}

/// Why a source could not answer.
pub type SourceError = Box<dyn StdError + Send + Sync>;

impl StekSource for Box<dyn StekSource> {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        (**self).load(query)
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn poll_interval(&self) -> Duration {
        (**self).poll_interval()
    }

    fn is_shared(&self) -> bool {
        (**self).is_shared()
    }

    fn can_rotate(&self) -> bool {
        (**self).can_rotate()
    }

    fn fleet_agrees(&self) -> Option<bool> {
        (**self).fleet_agrees()
    }
}

/// Makes a [`StekSource`] of a closure. It counts as [shared](StekSource::is_shared), since other
/// processes may use the same key management system. What seals on one node must open on all: so a
/// key opens for [`publish_ahead`](crate::Rotation::publish_ahead), here as the next one, before it
/// seals. Nobody checks that it rotates when [`SourceQuery::rotate`] says so, after
/// [`rotate_now`](crate::Resumption::rotate_now): one that cannot should be a [`StekSource`] whose
/// [`can_rotate`](StekSource::can_rotate) says that.
///
/// ```
/// use rustls_resumption::Resumption;
/// use rustls_resumption::source::{SourceKey, source_fn};
/// # fn fetch_from_vault() -> Result<[Vec<u8>; 3], std::io::Error> {
/// #     Ok([(0..32).collect(), (1..33).collect(), (2..34).collect()])
/// # }
///
/// let vault = source_fn("vault", |query| {
///     let [next, current, previous] = fetch_from_vault()?;
///     Ok(vec![
///         SourceKey::sealing(query.stek(&current)?),
///         SourceKey::opening(query.stek(&next)?),
///         SourceKey::opening(query.stek(&previous)?),
///     ])
/// });
/// let resumption = Resumption::builder().stek_source(vault).build()?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
pub fn source_fn<F>(name: &'static str, load: F) -> impl StekSource + 'static
where
    F: FnMut(&SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> + Send + 'static,
{
    SourceFn { name, load }
}

struct SourceFn<F> {
    name: &'static str,
    load: F,
}

impl<F> StekSource for SourceFn<F>
where
    F: FnMut(&SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> + Send,
{
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        (self.load)(query)
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for dyn StekSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StekSource")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// What a [`StekSource`] is asked for.
#[derive(Debug)]
pub struct SourceQuery<'a> {
    pub(crate) now: Time,
    pub(crate) monotonic: Duration,
    pub(crate) rotation: &'a Rotation,
    pub(crate) sealing: Sealing,
    pub(crate) rotate: bool,
    pub(crate) revoked: &'a [KeyName],
    /// What else was withdrawn, here and elsewhere. `None` where nobody asks.
    pub(crate) bulletin: Option<&'a Bulletin>,
    /// Through which a source logs: a subscriber that panics or hangs must not cost it its answer.
    pub(crate) log: &'a Errands,
}

impl SourceQuery<'_> {
    /// How often a source is loaded, by default: every 2 seconds.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);

    /// The current time: wall time for a shared source, else a time that never goes back.
    pub fn now(&self) -> SystemTime {
        self.now.into()
    }

    /// Monotonic time since an arbitrary start, for irreversible steps, which a wrong wall clock
    /// must not trigger.
    pub fn monotonic(&self) -> Duration {
        self.monotonic
    }

    /// The ring's schedule.
    pub fn rotation(&self) -> &Rotation {
        self.rotation
    }

    /// How long each STEK should seal: [`Rotation::interval`].
    pub fn interval(&self) -> Duration {
        self.rotation.sealing_time()
    }

    /// How long a STEK should open after it sealed last: [`Rotation::ticket_lifetime`], or
    /// [`max_session_age`](crate::ResumptionBuilder::max_session_age) if that is shorter.
    pub fn ticket_lifetime(&self) -> Duration {
        self.rotation.lifetime()
    }

    /// How long a STEK should open before it seals: [`Rotation::publish_ahead`].
    pub fn publish_ahead(&self) -> Duration {
        self.rotation.ahead()
    }

    /// Whether another STEK must seal from now on, whatever the schedule says.
    pub fn rotate(&self) -> bool {
        self.rotate
    }

    /// STEKs that were revoked in this process. The ring ignores them if they are returned.
    pub fn revoked(&self) -> &[KeyName] {
        self.revoked
    }

    /// A STEK made from this secret, which seals with the algorithm that the ring is configured
    /// for.
    ///
    /// # Errors
    ///
    /// As [`Stek::from_bytes`].
    pub fn stek(&self, secret: &[u8]) -> Result<Stek, Error> {
        Stek::with_sealing(secret, self.sealing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

    /// A source that overrides every default.
    struct Custom;

    impl StekSource for Custom {
        fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
            Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
        }

        fn name(&self) -> &'static str {
            "overriding"
        }

        fn poll_interval(&self) -> Duration {
            Duration::from_secs(7)
        }

        fn is_shared(&self) -> bool {
            false
        }

        fn can_rotate(&self) -> bool {
            false
        }

        fn fleet_agrees(&self) -> Option<bool> {
            Some(false)
        }
    }

    fn query<'a>(rotation: &'a Rotation, revoked: &'a [KeyName]) -> SourceQuery<'a> {
        SourceQuery {
            now: Time(1_800_000_000_000),
            monotonic: Duration::from_secs(5),
            rotation,
            sealing: Sealing::Aes256Gcm,
            rotate: true,
            revoked,
            bulletin: None,
            log: &Errands::AT_ONCE,
        }
    }

    #[test]
    fn a_boxed_source_forwards_every_method() {
        let mut boxed: Box<dyn StekSource> = Box::new(Custom);
        let boxed = &mut boxed as &mut dyn StekSource;
        assert_eq!(boxed.name(), "overriding");
        assert_eq!(boxed.poll_interval(), Duration::from_secs(7));
        assert!(!boxed.is_shared() && !boxed.can_rotate());
        assert_eq!(boxed.fleet_agrees(), Some(false));
        let keys = boxed.load(&query(&Rotation::new(), &[])).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(
            format!("{boxed:?}"),
            r#"StekSource { name: "overriding", .. }"#
        );
        let silent: Box<dyn StekSource> = Box::new(source_fn("mine", |_| Ok(Vec::new())));
        let silent = &silent as &dyn StekSource;
        assert_eq!(silent.fleet_agrees(), None);
    }

    #[test]
    fn by_default_a_source_is_shared_and_can_rotate() {
        /// Has all the defaults.
        struct Default;

        impl StekSource for Default {
            fn load(&mut self, _: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
                Ok(Vec::new())
            }
        }

        let source = source_fn("mine", |_| Ok(Vec::new()));
        assert_eq!((source.name(), Default.name()), ("mine", "custom"));
        assert_eq!(source.poll_interval(), Duration::from_secs(2));
        assert!(source.is_shared() && source.can_rotate());
        assert_eq!(source.fleet_agrees(), None);
    }

    #[test]
    fn each_source_has_a_name_and_those_with_keys_of_an_operator_cannot_rotate() {
        let derived = DerivedSource::new(SECRET).unwrap();
        assert_eq!((derived.name(), derived.can_rotate()), ("derived", false));
        let files = KeyFiles::new(["keys"]).unwrap();
        assert_eq!((files.name(), files.can_rotate()), ("file", false));
        #[cfg(unix)]
        {
            let parent = tempfile::tempdir().unwrap();
            let directory = KeyDirectory::new(parent.path().join("keys")).unwrap();
            let told = (directory.name(), directory.can_rotate());
            assert_eq!(told, ("directory", true));
            assert_eq!(directory.fleet_agrees(), None, "nothing was read yet");
        }
        #[cfg(feature = "redis")]
        {
            let redis = RedisSource::new("redis://localhost", SECRET).unwrap();
            assert_eq!((redis.name(), redis.can_rotate()), ("redis", true));
        }
    }

    #[test]
    fn a_query_gives_all_that_it_was_made_of() {
        let rotation = Rotation::new().interval(Duration::from_secs(60));
        let revoked = [KeyName::from_bytes([7; KeyName::LEN])];
        let query = query(&rotation, &revoked);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!(query.now(), time);
        assert_eq!(query.monotonic(), Duration::from_secs(5));
        assert_eq!(*query.rotation(), rotation);
        let spans = (
            query.interval(),
            query.ticket_lifetime(),
            query.publish_ahead(),
        );
        let hours = Duration::from_secs(12 * 60 * 60);
        assert_eq!(
            spans,
            (Duration::from_secs(60), hours, Duration::from_secs(30))
        );
        assert!(query.rotate());
        let quiet = SourceQuery {
            rotate: false,
            ..query
        };
        assert!(!quiet.rotate());
        assert_eq!(query.revoked(), revoked);
        assert_eq!(query.stek(SECRET).unwrap().sealing(), Sealing::Aes256Gcm);
    }
}
