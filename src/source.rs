//! Where STEKs come from: [`StekSource`], and those that this crate has beside random ones.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::aead::Sealing;
use crate::clock::Time;
use crate::error::Error;
use crate::rotation::{Rotation, Window};
use crate::stek::{KeyName, Stek};

mod derived;
mod files;
mod plan;
mod random;
#[cfg(any(unix, feature = "redis"))]
mod shared;

pub use derived::DerivedSource;
pub use files::KeyFiles;
#[cfg(any(test, fuzzing))]
pub use files::fuzzed as fuzzed_key_file;
pub(crate) use random::RandomSource;
#[cfg(unix)]
pub use shared::KeyDirectory;
#[cfg(feature = "redis")]
pub use shared::RedisSource;
#[cfg(all(feature = "redis", any(test, fuzzing)))]
pub use shared::fuzzed_redis_record;

/// Where STEKs come from. It answers one question: which STEKs exist now, with which windows?
///
/// It is asked on the ring's timer thread (or by whoever steps the ring), so it may do I/O; it must
/// come to an end by itself, within a second or so. Whatever it returns replaces what it returned
/// before. While it fails, the ring keeps what it has until that expires, then seals with local
/// random STEKs until the source answers again.
///
/// For key management that this crate does not know, [`source_fn`] makes a source of a closure.
pub trait StekSource: Send {
    /// The STEKs there are. An error leaves the ring as it is and is reported once per change.
    ///
    /// # Errors
    ///
    /// Anything that tells the operator what is wrong and where. Nothing secret.
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError>;

    /// Its name in errors, logs and [`Stats`](crate::Stats).
    fn name(&self) -> &'static str {
        "custom"
    }

    /// How often to ask it even if no window opens or closes.
    ///
    /// Defaults to [`SourceQuery::DEFAULT_INTERVAL`].
    fn poll_interval(&self) -> Duration {
        SourceQuery::DEFAULT_INTERVAL
    }

    /// Whether other processes have the same STEKs: then only wall time means the same to all, and
    /// a shared store of sessions makes sense.
    fn is_shared(&self) -> bool {
        true
    }

    /// Whether it makes another STEK seal when [`SourceQuery::rotate`] asks for it.
    fn can_rotate(&self) -> bool {
        true
    }

    /// Whether the other users of this source keep the same schedule, where it can tell.
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

/// Makes a [`StekSource`] of a closure, shared with whoever asks the same key management.
///
/// ```
/// use rustls_resumption::Resumption;
/// use rustls_resumption::source::{SourceKey, source_fn};
/// # fn fetch_from_vault() -> Result<(Vec<u8>, Vec<u8>), std::io::Error> {
/// #     Ok(((0..32).collect(), (1..33).collect()))
/// # }
///
/// let vault = source_fn("vault", |query| {
///     let (current, previous) = fetch_from_vault()?;
///     Ok(vec![
///         SourceKey::sealing(query.stek(&current)?),
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

/// What a [`StekSource`] is asked.
#[derive(Debug)]
pub struct SourceQuery<'a> {
    pub(crate) now: Time,
    pub(crate) monotonic: Duration,
    pub(crate) rotation: &'a Rotation,
    pub(crate) sealing: Sealing,
    pub(crate) rotate: bool,
    pub(crate) revoked: &'a [KeyName],
}

impl SourceQuery<'_> {
    /// How often a source is asked, by default: every 2 seconds.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);

    /// The time: wall time for a shared source, else elapsed time that never goes back.
    pub fn now(&self) -> SystemTime {
        self.now.into()
    }

    /// Monotonic time since an arbitrary start, for steps that must not be taken on the word of a
    /// wrong wall clock.
    pub fn monotonic(&self) -> Duration {
        self.monotonic
    }

    /// The ring's schedule.
    pub fn rotation(&self) -> &Rotation {
        self.rotation
    }

    /// Whether a new STEK should seal from now on, whatever the schedule says.
    pub fn rotate(&self) -> bool {
        self.rotate
    }

    /// STEKs that were revoked here. The ring drops them from what a source returns.
    pub fn revoked(&self) -> &[KeyName] {
        self.revoked
    }

    /// A STEK of this secret, sealing as the ring is configured to.
    ///
    /// # Errors
    ///
    /// As [`Stek::from_bytes`].
    pub fn stek(&self, secret: &[u8]) -> Result<Stek, Error> {
        Stek::with_sealing(secret, self.sealing)
    }
}

/// A STEK and the window in which it may be used.
#[derive(Clone, Debug)]
pub struct SourceKey {
    pub(crate) stek: Arc<Stek>,
    pub(crate) window: Window,
}

impl SourceKey {
    /// The window of a key that lives as long as it is listed.
    pub(crate) const ALWAYS: Window = Window {
        published: Time(0),
        activates: Time(0),
        retires: Time(u64::MAX),
        expires: Time(u64::MAX),
    };

    /// A STEK that seals and opens for as long as the source lists it. Of several that seal, the
    /// first listed does.
    pub fn sealing(stek: impl Into<Arc<Stek>>) -> Self {
        Self::with_window(stek, Self::ALWAYS)
    }

    /// A STEK that only opens, for as long as the source lists it.
    pub fn opening(stek: impl Into<Arc<Stek>>) -> Self {
        let never = Window {
            activates: Time(u64::MAX),
            ..Self::ALWAYS
        };
        Self::with_window(stek, never)
    }

    /// A STEK that opens from `published`, seals from `activates` until `retires`, and opens until
    /// `expires`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the four are not in this order.
    pub fn scheduled(
        stek: impl Into<Arc<Stek>>,
        published: SystemTime,
        activates: SystemTime,
        retires: SystemTime,
        expires: SystemTime,
    ) -> Result<Self, Error> {
        if published <= activates && activates <= retires && retires <= expires {
            let window = Window {
                published: published.into(),
                activates: activates.into(),
                retires: retires.into(),
                expires: expires.into(),
            };
            return Ok(Self::with_window(stek, window));
        }
        Err(Error::config(
            "window",
            "out of order: a STEK is published, activates, retires, then expires",
        ))
    }

    pub(crate) fn with_window(stek: impl Into<Arc<Stek>>, window: Window) -> Self {
        Self {
            stek: stek.into(),
            window,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

    /// One that answers every question unlike the default.
    struct Peculiar;

    impl StekSource for Peculiar {
        fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
            Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
        }

        fn name(&self) -> &'static str {
            "peculiar"
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
        }
    }

    #[test]
    fn a_boxed_source_answers_as_the_source_does() {
        let mut boxed: Box<dyn StekSource> = Box::new(Peculiar);
        let boxed = &mut boxed as &mut dyn StekSource;
        assert_eq!(boxed.name(), "peculiar");
        assert_eq!(boxed.poll_interval(), Duration::from_secs(7));
        assert!(!boxed.is_shared() && !boxed.can_rotate());
        assert_eq!(boxed.fleet_agrees(), Some(false));
        let keys = boxed.load(&query(&Rotation::new(), &[])).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(
            format!("{boxed:?}"),
            r#"StekSource { name: "peculiar", .. }"#
        );
        let silent: Box<dyn StekSource> = Box::new(source_fn("mine", |_| Ok(Vec::new())));
        let silent = &silent as &dyn StekSource;
        assert_eq!(silent.fleet_agrees(), None);
    }

    #[test]
    fn a_source_that_says_nothing_of_itself_is_shared_and_rotates() {
        /// Says nothing of itself.
        struct Silent;

        impl StekSource for Silent {
            fn load(&mut self, _: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
                Ok(Vec::new())
            }
        }

        let source = source_fn("mine", |_| Ok(Vec::new()));
        assert_eq!((source.name(), Silent.name()), ("mine", "custom"));
        assert_eq!(source.poll_interval(), Duration::from_secs(2));
        assert!(source.is_shared() && source.can_rotate());
        assert_eq!(source.fleet_agrees(), None);
    }

    #[test]
    fn each_source_has_its_name_and_those_whose_operator_decides_do_not_rotate() {
        let derived = DerivedSource::new(SECRET).unwrap();
        assert_eq!((derived.name(), derived.can_rotate()), ("derived", false));
        let files = KeyFiles::new(["keys"]).unwrap();
        assert_eq!((files.name(), files.can_rotate()), ("file", false));
        #[cfg(unix)]
        {
            let directory = KeyDirectory::new("keys").unwrap();
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
    fn a_source_is_told_all_that_it_is_asked() {
        let rotation = Rotation::new().interval(Duration::from_secs(60));
        let revoked = [KeyName::from_bytes([7; KeyName::LEN])];
        let query = query(&rotation, &revoked);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!(query.now(), time);
        assert_eq!(query.monotonic(), Duration::from_secs(5));
        assert_eq!(*query.rotation(), rotation);
        assert!(query.rotate());
        let quiet = SourceQuery {
            rotate: false,
            ..query
        };
        assert!(!quiet.rotate());
        assert_eq!(query.revoked(), revoked);
        assert_eq!(query.stek(SECRET).unwrap().sealing(), Sealing::Aes256Gcm);
    }

    #[test]
    fn a_window_must_be_in_order_and_may_be_empty() {
        let secret = SECRET;
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let made = |[a, b, c, d]: [u64; 4]| {
            let stek = Stek::from_bytes(secret).unwrap();
            SourceKey::scheduled(stek, time(a), time(b), time(c), time(d))
        };
        let window = made([1, 2, 3, 4]).unwrap().window;
        let times = [
            window.published,
            window.activates,
            window.retires,
            window.expires,
        ];
        assert_eq!(times, [1_000, 2_000, 3_000, 4_000].map(Time));
        assert!(made([1, 1, 1, 1]).is_ok());
        for wrong in [[2, 1, 3, 4], [1, 3, 2, 4], [1, 2, 4, 3]] {
            let error = made(wrong).unwrap_err().to_string();
            assert!(error.starts_with("window: out of order"), "{error}");
        }
    }
}
