use super::super::slots::Slot;
use super::fallback::EARLIER;
use super::*;
use crate::aead::Sealing;
use crate::ring::supply::Manners;
use crate::source::{StekSource, source_fn};
use crate::stek::Stek;

fn answer(keys: Result<Vec<SourceKey>, Failure>) -> Answer {
    Answer {
        keys,
        fleet_agrees: None,
        manners: Manners {
            poll: Duration::ZERO,
            can_rotate: true,
        },
        took: Duration::ZERO,
        heard: Heard::default(),
        others_stay: false,
    }
}

/// Has the keeper take these keys.
fn take(keeper: &mut Keeper, settings: &RingSettings, keys: Vec<SourceKey>) {
    let answer = answer(Ok(keys));
    let taken = keeper.take_answer(settings, "test", answer, Duration::ZERO, &mut Vec::new());
    taken.unwrap();
}

fn advance(keeper: &mut Keeper, settings: &RingSettings, now: Time) -> Snapshot {
    keeper.is_changed = true;
    let events = &mut Vec::new();
    let advanced = keeper.advance(settings, now, Duration::ZERO, false, false, events);
    advanced.1.unwrap();
    advanced.0.unwrap()
}

#[test]
fn a_key_that_its_source_makes_anew_goes_on_wearing_out() {
    let settings = RingSettings {
        sealing: Sealing::Aes256Gcm,
        ..RingSettings::default()
    };
    let mut keeper = Keeper::default();
    let mut source = source_fn("vault", |query| {
        let stek = query.stek(b"0123456789abcdef0123456789abcdef")?;
        Ok(vec![SourceKey::sealing(stek)])
    });
    let now = Time(1_800_000_000_000);
    let mut is_worn = |wear| {
        let query = SourceQuery {
            now,
            monotonic: Duration::ZERO,
            rotation: &settings.rotation,
            sealing: settings.sealing,
            rotate: false,
            revoked: &[],
            bulletin: None,
            log: &Errands::AT_ONCE,
        };
        let answer = source.load(&query).unwrap();
        take(&mut keeper, &settings, answer);
        let snapshot = advance(&mut keeper, &settings, now);
        if wear {
            let stek = snapshot.sealing(now).unwrap();
            stek.ticket_key().wear(Sealing::GCM_LIMIT / 2);
        }
        snapshot.is_worn(now)
    };
    assert!(is_worn(true));
    assert!(is_worn(false), "after the source answered again");
}

#[test]
fn what_last_went_wrong_is_kept_with_its_time() {
    let (settings, mut keeper) = (RingSettings::default(), Keeper::default());
    let at = Duration::from_secs;
    let mut told = |keys: Result<Vec<SourceKey>, Failure>, now: Duration| {
        let events = &mut Vec::new();
        let _ = keeper.take_answer(&settings, "test", answer(keys), now, events);
        let trouble = keeper.stats(at(10)).last_trouble;
        trouble.map(|trouble| trouble.to_string())
    };
    assert_eq!(told(Ok(Vec::new()), at(1)), None);
    let failed = Err("its mode is 0755".to_owned().into());
    assert_eq!(told(failed, at(2)).unwrap(), "its mode is 0755, 8.0 s ago");
    let over = told(Ok(Vec::new()), at(3)).unwrap();
    assert_eq!(over, "its mode is 0755, 8.0 s ago, over");
}

#[test]
fn trouble_is_told_once_and_whether_there_was_an_answer_before() {
    let (settings, mut keeper) = (RingSettings::default(), Keeper::default());
    let told = |keeper: &mut Keeper, keys| {
        let mut events = Vec::new();
        let _ = keeper.take_answer(&settings, "test", answer(keys), Duration::ZERO, &mut events);
        events
    };
    let failed = |why: &str| Err(why.to_owned().into());
    let event = |why: &str, has_answered| Event::SourceFailed {
        source: "test",
        trouble: why.to_owned(),
        has_answered,
    };
    let answers = [Event::SourceAnswers { source: "test" }];
    assert_eq!(told(&mut keeper, failed("down")), [event("down", false)]);
    assert_eq!(told(&mut keeper, failed("down")), []);
    assert_eq!(told(&mut keeper, Ok(Vec::new())), answers);
    assert_eq!(told(&mut keeper, failed("down")), [event("down", true)]);
    let is_told_late =
        |keeper: &mut Keeper| keeper.health.note_late(Duration::ZERO, Duration::ZERO);
    assert!(is_told_late(&mut keeper));
    assert_eq!(told(&mut keeper, failed("late")), [event("late", true)]);
    assert!(!is_told_late(&mut keeper), "it hangs each time");
    assert_eq!(told(&mut keeper, Ok(Vec::new())), answers);
    assert!(is_told_late(&mut keeper));
    assert_eq!(told(&mut keeper, Ok(Vec::new())), answers, "it was late");
}

#[test]
fn nobody_knows_whether_the_fleet_agrees_while_the_source_fails() {
    let (settings, mut keeper) = (RingSettings::default(), Keeper::default());
    let mut answers = |keys: Result<Vec<SourceKey>, Failure>| {
        let answer = Answer {
            fleet_agrees: Some(true),
            ..answer(keys)
        };
        let _ = keeper.take_answer(&settings, "test", answer, Duration::ZERO, &mut Vec::new());
        keeper.stats(Duration::ZERO).fleet_agrees
    };
    assert_eq!(answers(Ok(Vec::new())), Some(true));
    assert_eq!(answers(Err("no answer".to_owned().into())), None);
    assert_eq!(answers(Ok(Vec::new())), Some(true));
}

#[test]
fn no_fleet_agrees_with_a_node_whose_local_keys_seal() {
    let (settings, mut keeper) = (RingSettings::default(), Keeper::default());
    for (keys, agrees) in [
        (Vec::new(), None), // and no key of the source seals
        (vec![scheduled(&settings, NOW)], Some(true)),
    ] {
        let answer = Answer {
            fleet_agrees: Some(true),
            ..answer(Ok(keys))
        };
        let events = &mut Vec::new();
        let taken = keeper.take_answer(&settings, "test", answer, Duration::ZERO, events);
        taken.unwrap();
        advance(&mut keeper, &settings, NOW);
        let stats = keeper.stats(Duration::ZERO);
        assert_eq!(
            (stats.fleet_agrees, stats.fallen_back),
            (agrees, agrees.is_none())
        );
    }
}

#[test]
fn local_keys_are_there_once_and_are_wiped_when_they_expire() {
    let (settings, mut keeper) = (RingSettings::default(), Keeper::default());
    let mut names = HashSet::new();
    // For two days the source has no key, and then it has.
    for hour in 0..96 {
        let now = NOW.plus(hour * HOUR);
        let sourced = (hour >= 48).then(|| scheduled(&settings, now));
        take(&mut keeper, &settings, Vec::from_iter(sourced));
        advance(&mut keeper, &settings, now);
        let local = keeper.fallback.keys();
        assert!(local.iter().all(|key| now < key.window.expires), "{hour}");
        let listed: HashSet<_> = local.iter().map(|key| *key.stek.name()).collect();
        assert_eq!(listed.len(), local.len(), "{hour}");
        names.extend(listed);
    }
    assert!(names.len() > 40 && keeper.fallback.keys().is_empty());
}

#[test]
fn tickets_of_local_keys_open_until_they_expire_however_often_the_source_fails() {
    let settings = RingSettings::default();
    let mut keeper = Keeper::default();
    let mut now = Time(1_800_000_000_000);
    let mut step = |seals: bool| {
        now = now.plus(Duration::from_secs(1));
        let secret = b"0123456789abcdef0123456789abcdef";
        let key = || SourceKey::sealing(Stek::from_bytes(secret).unwrap());
        take(&mut keeper, &settings, Vec::from_iter(seals.then(key)));
        let snapshot = advance(&mut keeper, &settings, now);
        let name = *snapshot.sealing(now).unwrap().name();
        (name, snapshot, now, keeper.fallback.keys().len())
    };
    let (first, ..) = step(false);
    step(true);
    let (second, snapshot, _, _) = step(false);
    assert_ne!(first, second);
    let opens = |snapshot: &Snapshot, name| matches!(snapshot.find(name), Some(Slot::Key(_)));
    assert!(opens(&snapshot, &first) && opens(&snapshot, &second));
    for _ in 0..=EARLIER {
        step(true);
        step(false);
    }
    let (last, snapshot, _, kept) = step(false);
    assert_eq!(kept, EARLIER + 1);
    assert!(opens(&snapshot, &last) && !opens(&snapshot, &second));
    assert_eq!(EARLIER, 256);
}

#[test]
fn a_revoked_local_key_is_not_kept() {
    let settings = RingSettings::default();
    let mut keeper = Keeper::default();
    // A source that never answered: local keys seal.
    let now = Time(1_800_000_000_000);
    let snapshot = advance(&mut keeper, &settings, now);
    let name = *snapshot.sealing(now).unwrap().name();
    assert_eq!(keeper.fallback.keys().len(), 1);
    assert_eq!(
        keeper.revoke(Some(&name), now, Duration::ZERO, &mut Vec::new()),
        1
    );
    assert!(keeper.fallback.keys().is_empty());
    advance(&mut keeper, &settings, now);
    assert_ne!(keeper.revoke(None, now, Duration::ZERO, &mut Vec::new()), 0);
    assert!(keeper.fallback.keys().is_empty());
}

#[test]
fn an_heir_holds_what_the_snapshot_holds_and_refuses_what_was_revoked() {
    let settings = RingSettings::default();
    let now = Time(1_800_000_000_000);
    let key = || SourceKey::sealing(Stek::random(settings.sealing).unwrap());
    let (sourced, local, revoked) = (key(), key(), key());
    let name = |key: &SourceKey| *key.stek.name();
    let mut keeper = Keeper::default();
    take(
        &mut keeper,
        &settings,
        vec![sourced.clone(), revoked.clone()],
    );
    keeper
        .held
        .stand_in(std::slice::from_ref(&local), Duration::ZERO);
    keeper.held.revoke(&[name(&revoked)]);
    let snapshot = keeper.held.snapshot(std::slice::from_ref(&local));
    assert_eq!(snapshot.revoked_openings().len(), 1);

    let mut heir = Keeper::of(&snapshot, &settings);
    let listed: Vec<_> = heir.sourced().map(name).collect();
    assert_eq!(listed, [name(&sourced)]);
    let listed: Vec<_> = heir.fallback.keys().iter().map(name).collect();
    assert_eq!(listed, [name(&local)]);
    let inherited = heir.held.snapshot(heir.fallback.keys());
    assert!(Arc::ptr_eq(
        inherited.revoked_openings(),
        snapshot.revoked_openings()
    ));
    assert!(inherited.has_revoked(Some(name(&revoked))));
    // Its source still lists the one that was revoked.
    take(&mut heir, &settings, vec![sourced.clone(), revoked.clone()]);
    let next = advance(&mut heir, &settings, now);
    assert!(next.has_revoked(Some(name(&revoked))));
    let listed: Vec<_> = heir.sourced().map(name).collect();
    assert_eq!(listed, [name(&sourced)]);
}

/// A key that seals for an hour from this time, and opens for another.
fn scheduled(settings: &RingSettings, activates: Time) -> SourceKey {
    let mut key = SourceKey::sealing(Stek::random(settings.sealing).unwrap());
    key.window.activates = activates;
    key.window.retires = activates.plus(HOUR);
    key.window.expires = activates.plus(2 * HOUR);
    key
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const NOW: Time = Time(1_800_000_000_000);

#[test]
fn something_is_due_when_it_changes_or_the_clock_goes_back_and_not_in_between() {
    let settings = RingSettings::default();
    let mut keeper = Keeper::default();
    take(&mut keeper, &settings, vec![scheduled(&settings, NOW)]);
    advance(&mut keeper, &settings, NOW);
    assert!(!keeper.is_due(NOW) && !keeper.is_due(NOW.plus(HOUR / 2)));
    assert!(keeper.is_due(NOW.plus(HOUR)) && keeper.is_due(NOW.minus(HOUR)));
    let events = &mut Vec::new();
    let again = keeper.advance(&settings, NOW, Duration::ZERO, false, false, events);
    assert!(again.0.is_none(), "nothing is done twice");

    let idle = keeper.idle(NOW);
    assert!(!idle.is_zero() && idle < HOUR && !keeper.is_due_sooner());
    take(
        &mut keeper,
        &settings,
        vec![scheduled(&settings, NOW.minus(HOUR / 2))],
    );
    advance(&mut keeper, &settings, NOW);
    assert!(keeper.is_due_sooner());
    assert!(keeper.idle(NOW) < idle && !keeper.is_due_sooner());
}

#[test]
fn local_keys_stand_in_once_nothing_is_awaited_and_go_on_then() {
    let settings = RingSettings::default();
    let mut keeper = Keeper::default();
    let step = |keeper: &mut Keeper, is_awaited| {
        keeper.is_changed = true;
        let events = &mut Vec::new();
        let made = keeper.advance(&settings, NOW, Duration::ZERO, false, is_awaited, events);
        made.0.unwrap().sealing(NOW).is_some()
    };
    assert!(!step(&mut keeper, true));
    assert!(keeper.is_due(NOW), "it is looked at until the answer comes");
    assert!(!keeper.stats(Duration::ZERO).fallen_back);
    for is_awaited in [false, true] {
        assert!(step(&mut keeper, is_awaited));
        assert!(!keeper.is_due(NOW));
        assert!(keeper.stats(Duration::ZERO).fallen_back);
    }
}

#[test]
fn a_name_stays_known_when_its_key_expired_or_was_revoked_here_or_elsewhere() {
    let settings = RingSettings::default();
    let keys = [(); 4].map(|()| scheduled(&settings, NOW));
    let [first, second, third, _] = keys.each_ref().map(|key| *key.stek.name());
    let mut keeper = Keeper::default();
    take(&mut keeper, &settings, keys.into());
    advance(&mut keeper, &settings, NOW);
    keeper.revoke(Some(&first), NOW, Duration::ZERO, &mut Vec::new());
    assert_eq!(*keeper.revoked(false), [first]);
    assert_eq!(*keeper.revoked(true), [first]);
    assert!(keeper.revoked(true).is_empty(), "it was told");
    let answer = Answer {
        heard: Heard {
            revoked: vec![second],
            overflows: 7,
            ..Heard::default()
        },
        others_stay: true,
        fleet_agrees: Some(true),
        ..answer(Ok(Vec::new()))
    };
    let events = &mut Vec::new();
    let taken = keeper.take_answer(&settings, "test", answer, Duration::ZERO, events);
    taken.unwrap();
    let stats = keeper.stats(Duration::ZERO);
    assert_eq!((stats.overflows, stats.fleet_agrees), (7, Some(true)));
    let later = advance(&mut keeper, &settings, NOW.plus(2 * HOUR));
    assert!(later.has_revoked(Some(first)) && later.has_revoked(Some(second)));
    assert!(matches!(later.find(&third), Some(Slot::Expired)));
}

#[test]
fn an_answer_changes_something_unless_nothing_is_new_and_the_others_stay() {
    let settings = RingSettings::default();
    for (keys, others_stay, is_changed) in [
        (Vec::new(), true, false),
        (Vec::new(), false, true),
        (vec![scheduled(&settings, NOW)], true, true),
        (vec![scheduled(&settings, NOW)], false, true),
    ] {
        let mut keeper = Keeper::default();
        let answer = Answer {
            others_stay,
            ..answer(Ok(keys))
        };
        let events = &mut Vec::new();
        let taken = keeper.take_answer(&settings, "test", answer, Duration::ZERO, events);
        assert!(taken.is_ok() && keeper.continues());
        assert_eq!(keeper.is_changed, is_changed);
    }
}

#[test]
fn too_many_keys_are_refused_and_what_was_not_taken_is_not_continued() {
    let settings = RingSettings::default();
    let key = scheduled(&settings, NOW);
    let most = Rotation::MAX_KEYS as usize;
    for (number, said) in [
        (most, "is listed twice"),
        (most + 1, "keys are listed: at most"),
    ] {
        let mut keeper = Keeper::default();
        let answer = answer(Ok(vec![key.clone(); number]));
        let events = &mut Vec::new();
        let taken = keeper.take_answer(&settings, "test", answer, Duration::ZERO, events);
        let error = taken.unwrap_err();
        assert!(error.contains(said), "{error}");
        assert!(!keeper.continues());
    }
}

#[test]
fn an_active_key_that_is_too_old_is_told_of_once() {
    let settings = RingSettings::default();
    let mut key = scheduled(&settings, NOW.minus(20 * HOUR));
    key.window.retires = NOW.plus(HOUR);
    key.window.expires = NOW.plus(2 * HOUR);
    let mut keeper = Keeper::default();
    take(&mut keeper, &settings, vec![key]);
    for is_told in [true, false] {
        keeper.is_changed = true;
        let events = &mut Vec::new();
        let _ = keeper.advance(&settings, NOW, Duration::ZERO, false, false, events);
        let told = events
            .iter()
            .any(|event| matches!(event, Event::OverAge { .. }));
        assert_eq!(told, is_told);
    }
}
