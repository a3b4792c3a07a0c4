use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use super::{SourceError, SourceKey, SourceQuery, StekSource};
use crate::clock::Time;
use crate::error::Error;
use crate::rotation::Rotation;
use crate::stek::{Stek, weakness};

mod epochs;
mod ratchet;
mod settled;

use epochs::{Epochs, Moment, Seed};
use settled::Settled;

/// STEKs that every process derives for itself from one shared secret: for a fleet that has a
/// secret and a clock in common, and nothing else.
///
/// Time is divided into epochs as long as the [`Rotation`]'s interval, counted from a fixed
/// [`origin`](DerivedSource::origin). Each epoch has a STEK of its own, which follows from the
/// secret, the origin, the interval and the epoch's number, so nodes that agree on these four have
/// the same keys without ever talking to each other. An epoch's STEK activates with the epoch, is
/// published [`publish_ahead`](Rotation::publish_ahead) before and expires the ticket lifetime
/// after it: nodes whose clocks are up to `publish_ahead` apart open each other's tickets.
///
/// ```
/// use rustls_resumption::Resumption;
/// use rustls_resumption::source::DerivedSource;
/// # let secret = std::array::from_fn::<u8, 32, _>(|i| i as u8);
///
/// let source = DerivedSource::new(&secret)?; // the same 32 random bytes on every node
/// let resumption = Resumption::builder().stek_source(source).build()?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
///
/// # What memory holds
///
/// Not the secret, and not the past. From the secret a ratchet is made, which can only move on:
/// what is kept gives the epochs to come and those that still open, not those that have expired. So
/// a thief of the memory reads what the keys of the schedule's life protect, and all that is sealed
/// from then on, but nothing older. That is worth something only if the secret itself is out of
/// reach once it was read: left in an environment variable (which `/proc/PID/environ` shows as long
/// as the process lives) or in a file that the process can open, it gives back every epoch since
/// the origin.
///
/// The ratchet moves on only when *both* clocks agree that an epoch has expired, since a step
/// cannot be taken back:
///
/// - after its start a process keeps the ratchet at the origin for the
///   [`settling_time`](DerivedSource::settling_time), in which the wall clock may still be set
///   right. *For so long its memory does hold the past.* Then it moves up to the oldest epoch that
///   still opens, and from then on forgets each as it expires;
/// - if the wall clock jumps ahead, the STEKs of the later date are derived and used, but the
///   ratchet stays where it was, moving on by monotonic time, until the jump has lasted for the
///   settling time (twice that at most). If the clock is set right before, nothing was lost. If it
///   is set right only after, the process has the keys neither of this date nor of any until the
///   wrong one: it seals with local random keys and says so, until it is restarted;
/// - the STEKs themselves obey the wall clock alone, so never open outside their window.
///
/// A [revoked](crate::Resumption::revoke) STEK is taken out of the ratchet at once, for good.
///
/// # Changing the secret, the origin or the interval
///
/// In three roll-outs, each finished on all nodes before the next begins, and with no gap at any
/// moment: see [`also_open`](DerivedSource::also_open). What a leaked secret costs and how to
/// choose one is on the page [`choosing`](crate::docs::choosing).
///
/// # Cost
///
/// A new epoch costs about 0.1 ms, however long the origin or the last epoch is past; at the start,
/// each STEK that still opens costs about 15 µs. A schedule under which more than 50,000 STEKs
/// would open at once is refused.
pub struct DerivedSource {
    /// Until the first question, which tells the schedule of the first: whose STEKs seal. Those of
    /// the others only open, on schedules of their own.
    seeds: Vec<(Seed, Option<Rotation>)>,
    /// From then on, in the same order.
    epochs: Vec<Epochs>,
    settled: Settled,
    settling_time: Option<Duration>,
}

impl DerivedSource {
    /// When epoch 0 begins, by default: this long after the Unix epoch, on 2020-01-01 at 00:00 UTC.
    pub const DEFAULT_ORIGIN: Duration = Duration::from_secs(1_577_836_800);

    /// Derives from this secret: at least 32 bytes from a random generator, the same on each node.
    /// A password will not do: who has a ticket can try passwords on it.
    ///
    /// The caller's bytes are the caller's to wipe; nothing is kept that gives them back.
    ///
    /// # Errors
    ///
    /// [`Error::WeakKey`] naming the `secret` if it is shorter than [`Stek::MIN_SECRET_LEN`] bytes
    /// or all its bytes are equal.
    pub fn new(secret: &[u8]) -> Result<Self, Error> {
        if let Some(why) = weakness(secret, Stek::MIN_SECRET_LEN) {
            return Err(Error::weak_key("secret", why));
        }
        let seed = Seed::new(secret, Time(0).plus(Self::DEFAULT_ORIGIN))?;
        Ok(Self {
            seeds: vec![(seed, None)],
            epochs: Vec::new(),
            settled: Settled::default(),
            settling_time: None,
        })
    }

    /// When epoch 0 begins. Every node must have the same. It shifts the moments of rotation (a day
    /// begins at its origin's time of day), and a clock that stands before it is known to be wrong.
    ///
    /// Defaults to [`DerivedSource::DEFAULT_ORIGIN`], 2020-01-01 at 00:00 UTC.
    #[must_use]
    pub fn origin(mut self, origin: SystemTime) -> Self {
        if let Some((own, _)) = self.seeds.first_mut() {
            own.origin = origin.into();
        }
        self
    }

    /// How long the wall clock must have kept to what it says before the ratchet believes it. A
    /// shorter time forgets the past sooner after a start; a longer one forgives a clock that was
    /// ahead for longer.
    ///
    /// Defaults to the life of one STEK: the interval plus the ticket lifetime, 13 hours on the
    /// default schedule.
    #[must_use]
    pub fn settling_time(mut self, time: Duration) -> Self {
        self.settling_time = Some(time);
        self
    }

    /// Also opens, without ever sealing, what another secret, origin or schedule seals: for the
    /// time of a change.
    ///
    /// To change from *old* to *new* with no gap, roll out to all nodes, one step after another:
    ///
    /// 1. *old*, which also opens *new*;
    /// 2. *new*, which also opens *old*;
    /// 3. *new*, at least a ticket lifetime after the last node left step 1.
    ///
    /// Within a step the order of nodes does not matter, and the way back is the same steps in
    /// reverse. The schedule is the one that the other side has in its builder.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use rustls_resumption::{Resumption, Rotation};
    /// # use rustls_resumption::source::DerivedSource;
    /// # let old = std::array::from_fn::<u8, 32, _>(|i| i as u8);
    /// # let new = std::array::from_fn::<u8, 32, _>(|i| !i as u8);
    /// // Step 1 of a change of both the secret and the interval.
    /// let hour = Duration::from_secs(3600);
    /// let old_schedule = Rotation::new();
    /// let new_schedule = Rotation::new().interval(2 * hour);
    /// let source = DerivedSource::new(&old)?.also_open(DerivedSource::new(&new)?, new_schedule)?;
    /// let builder = Resumption::builder().rotation(old_schedule).stek_source(source);
    /// # builder.build()?;
    /// # Ok::<(), rustls_resumption::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Duration`] if the schedule cannot work.
    pub fn also_open(mut self, other: Self, rotation: Rotation) -> Result<Self, Error> {
        rotation.validate()?;
        for (seed, own) in other.seeds {
            self.seeds.push((seed, own.or(Some(rotation))));
        }
        Ok(self)
    }
}

impl StekSource for DerivedSource {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        for (seed, other) in self.seeds.drain(..) {
            self.epochs.push(match other {
                None => Epochs::sealing(&seed, *query.rotation)?,
                Some(rotation) => Epochs::opening(&seed, rotation)?,
            });
        }
        let settling = self.settling_time.unwrap_or_else(|| {
            let rotation = query.rotation;
            rotation.sealing_time().saturating_add(rotation.lifetime())
        });
        let moment = Moment {
            now: query.now,
            settled: self.settled.reading(query.now, query.monotonic, settling),
            sealing: query.sealing,
            revoked: query.revoked,
        };
        let mut keys = Vec::new();
        for epochs in &mut self.epochs {
            keys.append(&mut epochs.keys(&moment)?);
        }
        if let Some(own) = self.epochs.first() {
            own.check_clock(query.now)?;
        }
        Ok(merged(keys))
    }

    fn name(&self) -> &'static str {
        "derived"
    }

    fn poll_interval(&self) -> Duration {
        Duration::ZERO // costs nothing to ask
    }

    fn can_rotate(&self) -> bool {
        false
    }
}

/// Schedules that differ in ticket lifetime or publish-ahead alone have the same keys. Each is
/// listed once, first where it seals, and opens for the longer of the two times.
fn merged(keys: Vec<SourceKey>) -> Vec<SourceKey> {
    let mut merged: Vec<SourceKey> = Vec::with_capacity(keys.len());
    let mut places = HashMap::new();
    for key in keys {
        let place = *places.entry(*key.stek.name()).or_insert(merged.len());
        match merged.get_mut(place) {
            Some(same) => {
                same.window.published = same.window.published.min(key.window.published);
                same.window.expires = same.window.expires.max(key.window.expires);
            }
            None => merged.push(key),
        }
    }
    merged
}

impl fmt::Debug for DerivedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DerivedSource")
            .field("settling_time", &self.settling_time)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::aead::Sealing;
    use crate::stek::KeyName;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    const AHEAD: Duration = Duration::from_secs(5 * 60);
    /// An epoch begins here, on the default schedule.
    const START: Time = Time(1_800_000_000_000);

    fn secret() -> [u8; 32] {
        std::array::from_fn(|i| i as u8)
    }

    fn source() -> DerivedSource {
        DerivedSource::new(&secret()).unwrap()
    }

    /// A source and the two clocks it sees.
    struct Node {
        source: DerivedSource,
        rotation: Rotation,
        wall: Time,
        monotonic: Duration,
        revoked: Vec<KeyName>,
    }

    impl Node {
        fn new(source: DerivedSource, wall: Time) -> Self {
            Self {
                source,
                rotation: Rotation::new(),
                wall,
                monotonic: 7 * HOUR,
                revoked: Vec::new(),
            }
        }

        fn try_load(&mut self) -> Result<Vec<SourceKey>, SourceError> {
            self.source.load(&SourceQuery {
                now: self.wall,
                monotonic: self.monotonic,
                rotation: &self.rotation,
                sealing: Sealing::Aes256GcmSiv,
                rotate: false,
                revoked: &self.revoked,
            })
        }

        fn load(&mut self) -> Vec<SourceKey> {
            self.try_load().unwrap()
        }

        fn pass(&mut self, time: Duration) {
            self.wall = self.wall.plus(time);
            self.monotonic += time;
        }

        fn active(&mut self) -> KeyName {
            let wall = self.wall;
            let keys = self.load();
            let active: Vec<_> = keys.iter().filter(|key| key.window.seals(wall)).collect();
            assert_eq!(active.len(), 1, "exactly one seals");
            *active[0].stek.name()
        }

        fn opens(&mut self) -> BTreeSet<KeyName> {
            let wall = self.wall;
            let keys = self.load();
            let opens = keys.iter().filter(|key| key.window.opens(wall));
            opens.map(|key| *key.stek.name()).collect()
        }

        /// Whether what is kept gives the STEK that sealed at this time: asked as a thief of the
        /// memory would, who has the process as it is and sets its clocks.
        fn betrays(&mut self, time: Time) -> bool {
            let epochs = &self.source.epochs[0];
            epochs.can_derive(time)
        }
    }

    #[test]
    fn weak_secrets_are_refused_naming_the_field() {
        for weak in [&[][..], &[7; 31], &[7; 32], &[0; 64]] {
            let error = DerivedSource::new(weak).unwrap_err().to_string();
            assert!(error.starts_with("weak key in secret: "), "{error}");
        }
        assert!(DerivedSource::new(&secret()).is_ok());
    }

    #[test]
    fn golden_key_name_of_an_epoch() {
        let mut node = Node::new(source(), START);
        let name = node.active().to_string();
        assert_eq!(name, "a157f597cfeecebe956728313077f527");
    }

    #[test]
    fn what_is_shown_of_it_holds_no_secret() {
        let source = source().settling_time(HOUR);
        let shown = "DerivedSource { settling_time: Some(3600s), .. }";
        assert_eq!(format!("{source:?}"), shown);
    }

    #[test]
    fn an_epoch_is_published_ahead_activates_on_time_and_expires_by_the_schedule() {
        let mut node = Node::new(source(), START);
        let keys = node.load();
        assert_eq!(keys.len(), 13, "12 that were and the one that seals");
        let window = keys.last().unwrap().window;
        assert_eq!(window.published, START.minus(AHEAD));
        assert_eq!(window.activates, START);
        assert_eq!(window.retires, START.plus(HOUR));
        assert_eq!(window.expires, START.plus(13 * HOUR));
        node.pass(HOUR - AHEAD - Duration::from_millis(1));
        assert_eq!(node.load().len(), 13);
        node.pass(Duration::from_millis(1));
        assert_eq!(node.load().len(), 14);
        let first = *node.load()[0].stek.name();
        node.pass(AHEAD);
        assert!(!node.opens().contains(&first), "it expired at this moment");
    }

    #[test]
    fn secret_origin_and_interval_are_all_bound_into_the_keys() {
        let mut other = secret();
        other[0] ^= 1;
        let mut nodes = [
            Node::new(source(), START),
            Node::new(DerivedSource::new(&other).unwrap(), START),
            Node::new(source().origin(SystemTime::UNIX_EPOCH), START),
            Node::new(source(), START),
        ];
        nodes[3].rotation = Rotation::new().interval(2 * HOUR);
        let opens = nodes.each_mut().map(Node::opens);
        let all: BTreeSet<_> = opens.iter().flatten().collect();
        assert_eq!(all.len(), opens.iter().map(BTreeSet::len).sum::<usize>());
    }

    #[test]
    fn nodes_up_to_publish_ahead_apart_open_what_each_other_seals() {
        for apart in [Duration::ZERO, AHEAD / 3, AHEAD] {
            let mut early = Node::new(source(), START.plus(apart));
            let mut late = Node::new(source(), START);
            for _ in 0..200 {
                let (a, b) = (early.active(), late.active());
                assert!(late.opens().contains(&a) && early.opens().contains(&b));
                early.pass(HOUR / 24);
                late.pass(HOUR / 24);
            }
        }
    }

    #[test]
    fn the_past_is_out_of_reach_once_the_clocks_have_agreed_for_the_life_of_a_key() {
        let mut node = Node::new(source(), START);
        node.load();
        node.pass(13 * HOUR - Duration::from_millis(1));
        node.load();
        assert!(node.betrays(START.minus(YEAR)), "as documented: not yet");
        node.pass(Duration::from_millis(1));
        node.load();
        for _ in 0..100 {
            let oldest = node.wall.minus(13 * HOUR);
            assert!(!node.betrays(oldest), "expired now");
            assert!(!node.betrays(oldest.minus(30 * HOUR)));
            assert!(!node.betrays(START.minus(YEAR)));
            assert!(node.betrays(oldest.plus(HOUR)), "still opens");
            assert!(node.betrays(node.wall.plus(YEAR)), "yet to come");
            node.pass(HOUR);
            node.load();
        }
    }

    #[test]
    fn a_clock_that_jumps_years_ahead_and_back_loses_nothing() {
        let mut node = Node::new(source(), START);
        node.load();
        node.pass(20 * HOUR);
        let before = node.opens();
        node.wall = node.wall.plus(30 * YEAR);
        assert!(node.opens().is_disjoint(&before));
        for _ in 0..12 {
            node.pass(HOUR);
            node.load();
        }
        node.wall = node.wall.minus(30 * YEAR);
        assert_eq!(node.opens(), Node::new(source(), node.wall).opens());
        // It moved on by monotonic time alone, and expired keys stay out of reach.
        assert!(!node.betrays(START.minus(HOUR)));
    }

    #[test]
    fn a_clock_that_is_wrong_at_the_start_and_set_right_recovers() {
        for (wrong, right) in [(START.plus(30 * YEAR), START), (START.minus(YEAR), START)] {
            let mut node = Node::new(source(), wrong);
            for _ in 0..12 {
                node.load();
                node.pass(HOUR);
            }
            node.wall = right;
            for _ in 0..100 {
                let opens = node.opens();
                assert_eq!(opens, Node::new(source(), node.wall).opens());
                node.pass(HOUR / 2);
            }
            assert!(!node.betrays(START), "and then it forgets as ever");
        }
    }

    #[test]
    fn a_clock_wrong_for_longer_is_believed_and_says_so_when_set_right() {
        let mut node = Node::new(source(), START.plus(YEAR));
        node.load();
        node.pass(14 * HOUR);
        node.load();
        node.wall = START;
        let error = node.try_load().unwrap_err().to_string();
        assert!(error.contains("restart the process"), "{error}");
        node.wall = START.plus(YEAR).plus(14 * HOUR);
        node.load();
    }

    #[test]
    fn a_clock_that_stood_still_for_long_is_believed_in_the_end() {
        let mut node = Node::new(source(), START);
        node.load();
        node.pass(20 * HOUR);
        node.load();
        node.wall = node.wall.plus(YEAR); // a suspended machine wakes up
        for _ in 0..30 {
            node.pass(HOUR);
            node.load();
        }
        assert!(!node.betrays(node.wall.minus(14 * HOUR)));
        assert!(!node.betrays(START.plus(HOUR)));
    }

    #[test]
    fn a_shorter_settling_time_forgets_sooner() {
        let mut node = Node::new(source().settling_time(HOUR / 60), START);
        node.load();
        node.pass(HOUR / 60);
        node.load();
        assert!(!node.betrays(START.minus(14 * HOUR)));
        assert!(node.betrays(START.minus(12 * HOUR)));
    }

    #[test]
    fn a_revoked_key_is_out_of_reach_at_once() {
        let mut node = Node::new(source(), START);
        let active = node.active();
        node.revoked.push(active);
        assert!(!node.opens().contains(&active));
        assert!(!node.betrays(START));
        assert!(node.betrays(START.minus(HOUR)) && node.betrays(START.plus(HOUR)));
        node.pass(HOUR);
        node.active();
    }

    #[test]
    fn a_clock_before_the_origin_is_an_error_and_recovers() {
        let mut node = Node::new(source(), Time(0));
        let error = node.try_load().unwrap_err().to_string();
        assert!(error.contains("before the origin"), "{error}");
        node.wall = START;
        assert_eq!(node.opens(), Node::new(source(), START).opens());
    }

    #[test]
    fn the_end_of_time_and_a_schedule_of_too_many_keys_are_errors() {
        let mut node = Node::new(source(), Time(u64::MAX));
        node.rotation = Rotation::new().interval(Duration::from_millis(1));
        let error = node.try_load().unwrap_err().to_string();
        assert!(error.contains("thousands of years"), "{error}");
        node.wall = START;
        let error = node.try_load().unwrap_err().to_string();
        assert!(error.contains("STEKs would open at once"), "{error}");
    }

    #[test]
    fn each_step_of_a_change_opens_what_the_steps_beside_it_seal() {
        let old = || DerivedSource::new(&secret()).unwrap();
        let new = || DerivedSource::new(&secret().map(|byte| !byte)).unwrap();
        let old_schedule = Rotation::new();
        let new_schedule = Rotation::new().interval(HOUR / 2).ticket_lifetime(6 * HOUR);
        let node = |source, rotation| Node {
            rotation,
            ..Node::new(source, START.plus(AHEAD))
        };
        let mut steps = [
            node(old(), old_schedule),
            node(old().also_open(new(), new_schedule).unwrap(), old_schedule),
            node(new().also_open(old(), old_schedule).unwrap(), new_schedule),
            node(new(), new_schedule),
        ];
        for _ in 0..50 {
            let seen = steps.each_mut().map(|step| (step.active(), step.opens()));
            assert_eq!((seen[0].0, seen[2].0), (seen[1].0, seen[3].0));
            for beside in seen.windows(2) {
                assert!(beside[0].1.contains(&beside[1].0));
                assert!(beside[1].1.contains(&beside[0].0));
            }
            steps.iter_mut().for_each(|step| step.pass(HOUR / 4));
        }
    }

    #[test]
    fn schedules_that_differ_in_lifetime_alone_share_their_keys_for_the_longer() {
        let longer = Rotation::new().ticket_lifetime(20 * HOUR);
        let both = source().also_open(source(), longer).unwrap();
        let mut both = Node::new(both, START);
        let mut long = Node::new(source(), START);
        long.rotation = longer;
        assert_eq!(both.active(), long.active());
        assert_eq!(both.opens(), long.opens());
    }

    #[test]
    fn an_impossible_schedule_to_open_is_refused() {
        let schedule = Rotation::new().interval(Duration::ZERO);
        let error = source().also_open(source(), schedule).unwrap_err();
        assert!(error.to_string().starts_with("interval = 0ns"), "{error}");
    }
}
