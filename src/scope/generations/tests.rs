use super::*;

#[test]
fn a_name_stands_for_all_its_scopes_and_all_for_every_one() {
    let (plain, bound) = (Scope::new("a"), Scope::new("a").client_cas([b"ca"]));
    let other = Scope::new("b");
    let generations = Generations::default();
    generations.hear(&[], Forgotten::default());
    let of = |scope: &Scope| generations.of(scope).generation;
    generations.forget(Which::Exactly(&bound), Time(5));
    assert_eq!([of(&plain), of(&bound), of(&other)], [0, 5, 0]);
    generations.forget(Which::Named(&plain), Time(7));
    assert_eq!([of(&plain), of(&bound), of(&other)], [7, 7, 0]);
    generations.forget(Which::All, Time(9));
    assert_eq!([of(&plain), of(&bound), of(&other)], [9, 9, 9]);
    assert_eq!(generations.of(&plain).time, Time(7), "by its name");
}

#[test]
fn it_grows_though_the_clock_stands_still_or_goes_back() {
    let scope = Scope::new("a");
    let generations = Generations::default();
    generations.hear(&[], Forgotten::default());
    for (now, generation) in [(7, 7), (7, 9), (3, 11), (20, 20)] {
        generations.forget(Which::Exactly(&scope), Time(now));
        assert_eq!(generations.of(&scope).generation, generation);
        generations.forget(Which::Exactly(&Scope::new("another")), Time(3));
    }
}

#[test]
fn without_a_source_that_carries_it_only_the_own_time_counts() {
    let scope = Scope::new("a");
    let generations = Generations::default();
    generations.forget(Which::Named(&scope), Time(7));
    let forgotten = generations.of(&scope);
    assert_eq!((forgotten.generation, forgotten.time), (0, Time(7)));
    assert!(!generations.take_news());
    // Until it does.
    generations.hear(&[], Forgotten::default());
    assert!(generations.take_news() && !generations.take_news());
    assert_eq!(generations.of(&scope).generation, 7);
}

#[test]
fn what_others_forgot_is_news_once_and_has_no_time_here() {
    let scope = Scope::new("a");
    let generations = Generations::default();
    generations.hear(&[], Forgotten::default());
    generations.take_news();
    let theirs = Forgotten {
        generation: 7,
        time: Time(7),
    };
    for is_new in [true, false] {
        generations.hear(&[(*scope.digest(), theirs)], Forgotten::default());
        assert_eq!(generations.has_news(), is_new);
        assert_eq!(generations.take_news(), is_new);
    }
    let expected = Forgotten {
        generation: 7,
        time: Time(0),
    };
    assert_eq!(generations.of(&scope), expected);
    assert_eq!(generations.list(), []);
    generations.hear(&[], theirs);
    assert!(generations.take_news());
    assert_eq!(generations.of(&Scope::new("b")).generation, 7);
}

#[test]
fn what_two_forget_before_they_hear_of_each_other_is_raised_once_by_whose_clock_is_behind() {
    let scope = Scope::new("a");
    let generations = Generations::default();
    generations.hear(&[], Forgotten::default());
    generations.forget(Which::Exactly(&scope), Time(7));
    let theirs = Forgotten {
        generation: 20,
        time: Time(20),
    };
    // Of all scopes of the name.
    let name = (scope.name_digest(), theirs);
    generations.hear(&[name], Forgotten::default());
    assert_eq!(generations.of(&scope).generation, 21);
    let told = generations.list();
    assert_eq!(told[0].1.generation, 21);
    // Once, and not above what came later for sure.
    let later = Forgotten {
        generation: 22,
        time: Time(22),
    };
    generations.hear(&[(*scope.digest(), later)], Forgotten::default());
    assert_eq!(generations.of(&scope).generation, 22);
    generations.forget(Which::Exactly(&scope), Time(30));
    let later = Time(31).plus(ABOUT);
    let theirs = Forgotten {
        generation: later.0,
        time: later,
    };
    generations.hear(&[(*scope.digest(), theirs)], Forgotten::default());
    assert_eq!(generations.of(&scope).generation, later.0);
}

#[test]
fn what_was_forgotten_without_end_is_bounded_and_nothing_of_it_comes_back() {
    let generations = Generations::default();
    for number in 1..=2 * MAX_OWN as u64 {
        let scope = Scope::new(number.to_string());
        generations.forget(Which::Named(&scope), Time(number));
    }
    assert_eq!(generations.known.lock().forgotten.len(), MAX_OWN);
    for number in [1, MAX_OWN as u64, 2 * MAX_OWN as u64] {
        let forgotten = generations.of(&Scope::new(number.to_string()));
        assert!(forgotten.time >= Time(number));
    }
    // Once there is a source that carries it, it is told of all, and all are as far as it says.
    let (listed, dropped) = (generations.list(), generations.dropped());
    assert_eq!(listed.len(), MAX_OWN);
    assert_eq!(dropped.generation, MAX_OWN as u64);
    generations.hear(&listed, dropped);
    for number in 1..=2 * MAX_OWN as u64 {
        let forgotten = generations.of(&Scope::new(number.to_string()));
        assert!(forgotten.generation >= number);
    }
}

#[test]
fn what_others_forget_without_end_is_bounded() {
    let generations = Generations::default();
    for number in 1..=1_000 {
        let forgotten = Forgotten {
            generation: number,
            time: Time(number),
        };
        let before = Forgotten {
            generation: number.saturating_sub(3),
            time: Time(number.saturating_sub(3)),
        };
        let scope = Scope::new(number.to_string());
        generations.hear(&[(*scope.digest(), forgotten)], before);
        assert_eq!(generations.of(&scope).generation, number);
    }
    assert_eq!(generations.known.lock().forgotten.len(), 3);
}

#[test]
fn what_others_forgot_of_another_scope_at_the_same_time_raises_nothing() {
    let scope = Scope::new("a");
    let generations = Generations::default();
    generations.hear(&[], Forgotten::default());
    generations.forget(Which::Exactly(&scope), Time(7));
    let theirs = Forgotten {
        generation: 7,
        time: Time(7),
    };
    generations.hear(&[(*Scope::new("b").digest(), theirs)], Forgotten::default());
    assert_eq!(generations.of(&scope).generation, 7);
}

#[test]
fn a_forked_process_knows_what_was_forgotten_or_takes_all_for_forgotten() {
    let (scope, other) = (Scope::new("a"), Scope::new("b"));
    let generations = Generations::default();
    generations.forget(Which::Exactly(&scope), Time(7));
    let heir = generations.heir(Time(9));
    assert_eq!(
        [heir.of(&scope).time, heir.of(&other).time],
        [Time(7), Time(0)]
    );
    let _changing = generations.known.lock(); // by a thread that was not forked
    let heir = generations.heir(Time(9));
    assert_eq!(
        [heir.of(&scope).time, heir.of(&other).time],
        [Time(9), Time(9)]
    );
}
