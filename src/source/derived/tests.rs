use std::collections::BTreeSet;

use test_support::log::Log;

use super::*;
use crate::aead::Sealing;
use crate::errands::Errands;
use crate::source::bulletin::Bulletin;
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
            bulletin: None,
            log: &Errands::AT_ONCE,
        })
    }

    /// How many keys it lists for a ring that has, or has not, its last answer, and whether others
    /// stay.
    fn lists(&mut self, continues: bool) -> (usize, bool) {
        let bulletin = Bulletin::default().continuing(continues);
        let query = SourceQuery {
            now: self.wall,
            monotonic: self.monotonic,
            rotation: &self.rotation,
            sealing: Sealing::Aes256GcmSiv,
            rotate: false,
            revoked: &self.revoked,
            bulletin: Some(&bulletin),
            log: &Errands::AT_ONCE,
        };
        let keys = self.source.load(&query).unwrap();
        (keys.len(), bulletin.do_others_stay())
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
    let repeated = b"changeme".repeat(4);
    for weak in [&[][..], &[7; 31], &[7; 32], &[0; 64], &repeated] {
        let error = DerivedSource::new(weak).unwrap_err().to_string();
        assert!(error.starts_with("weak key in secret: "), "{error}");
    }
    assert!(DerivedSource::new(&secret()).is_ok());
}

#[test]
fn golden_key_name_of_an_epoch() {
    let mut node = Node::new(source(), START);
    let name = node.active().to_string();
    assert_eq!(name, "070fb44ba2911f97d5dfd9575caeefa0");
}

#[test]
fn debug_shows_no_secret() {
    let source = source().settling_time(HOUR);
    let shown = "DerivedSource { fingerprints: [bb6bdb90e5fe], settling_time: Some(3600s), .. }";
    assert_eq!(format!("{source:?}"), shown);
}

/// Against Python's `hmac`.
#[test]
fn it_logs_a_fingerprint_of_each_secret_once() {
    let mut other = secret();
    other[0] ^= 1;
    let other = DerivedSource::new(&other).unwrap();
    let source = source().also_open(other, Rotation::new()).unwrap();
    let mut node = Node::new(source, START);
    let (log, _) = Log::of(|| (node.load(), node.load()));
    let said = log.lines();
    let about: Vec<_> = said
        .iter()
        .filter(|line| line.contains("fingerprint="))
        .collect();
    assert_eq!(about.len(), 2, "{said:?}");
    for part in [
        "INFO",
        "fingerprint=bb6bdb90e5fe",
        "seals=true",
        "interval=3600s",
    ] {
        assert!(about[0].contains(part), "{}", about[0]);
    }
    assert!(about[0].contains("origin=1577836800"), "{}", about[0]);
    assert!(about[1].contains("seals=false"));
    assert!(
        !about[1].contains("bb6bdb90e5fe"),
        "another secret has another"
    );
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
fn nodes_with_clocks_publish_ahead_apart_open_each_others_tickets() {
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
fn correcting_a_clock_that_was_wrong_beyond_the_settling_time_is_an_error() {
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
fn a_clock_that_stood_still_for_long_is_believed_eventually() {
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
fn each_step_of_a_rollout_opens_what_its_neighbours_seal() {
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

#[test]
fn a_ring_that_has_the_last_answer_is_told_only_what_is_new() {
    let secret = b"0123456789abcdefghijklmnopqrstuv";
    let mut node = Node::new(DerivedSource::new(secret).unwrap(), START);
    assert_eq!(node.lists(false), (13, false));
    assert_eq!(node.lists(true), (0, true));
    node.pass(HOUR);
    assert_eq!(node.lists(true), (1, true));
    assert_eq!(node.lists(false), (13, false));
    node.wall = node.wall.minus(HOUR);
    assert_eq!(node.lists(true), (13, false), "the clock went back");
}
