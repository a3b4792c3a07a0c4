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
fn of_two_that_forget_at_once_the_one_that_the_source_hears_later_goes_above_whatever_the_clocks() {
    let scope = Scope::new("a");
    let calls = |time: u64| {
        let generations = Generations::default();
        generations.hear(&[], Forgotten::default());
        generations.forget(Which::Exactly(&scope), Time(time));
        generations
    };
    let none = Forgotten::default();
    let day = 24 * 60 * 60 * 1_000;
    for (first, second) in [(day, 10 * day), (10 * day, day)] {
        let [first, second] = [calls(first), calls(second)];
        let told = first.list();
        first.meet(&[], none);
        first.hear(&told, none);
        assert_eq!(first.of(&scope).generation, told[0].1.generation);

        // Its first question was not answered.
        let _ = second.list();
        let mine = second.list();
        let both = [(mine[0].0, mine[0].1.later(told[0].1))];
        second.meet(&told, none);
        second.hear(&both, none);
        let raised = second.of(&scope).generation;
        assert!(raised > both[0].1.generation);
        // Once; and whoever comes later has heard of it.
        second.meet(&both, none);
        second.hear(&second.list(), none);
        first.meet(&both, none);
        first.hear(&second.list(), none);
        for generations in [&first, &second] {
            assert_eq!(generations.of(&scope).generation, raised);
        }
        first.forget(Which::Exactly(&scope), Time(1)); // having heard
        let told = first.list();
        first.meet(&second.list(), none);
        first.hear(&told, none);
        assert_eq!(first.of(&scope).generation, told[0].1.generation);
    }
}

#[test]
fn whom_the_source_is_told_of_again_because_it_lost_that_is_told_of_later() {
    let scope = Scope::new("a");
    let generations = Generations::default();
    let none = Forgotten::default();
    generations.hear(&[], none);
    generations.forget(Which::Exactly(&scope), Time(20));
    let told = generations.list();
    generations.meet(&[], none);
    generations.hear(&told, none);
    for has_lost_it in [false, true] {
        let theirs = Forgotten {
            generation: 10,
            time: Time(10),
        };
        let theirs = (*Scope::new("b").digest(), theirs);
        let found = match has_lost_it {
            true => vec![theirs],
            false => vec![told[0], (*Scope::new("c").digest(), theirs.1)],
        };
        let told = generations.list();
        generations.meet(&found, none);
        generations.hear(&[&found[..], &told].concat(), none);
        assert_eq!(generations.of(&scope).generation > 20, has_lost_it);
    }
}

#[test]
fn what_the_source_has_in_place_of_a_call_that_it_lost_came_before() {
    let (scope, none) = (Scope::new("a"), Forgotten::default());
    for (in_its_place, is_raised) in [(0, false), (10, true)] {
        let generations = Generations::default();
        generations.hear(&[], none);
        generations.forget(Which::Exactly(&scope), Time(20));
        let told = generations.list();
        generations.meet(&[], none);
        generations.hear(&told, none);
        let theirs = Forgotten {
            generation: in_its_place,
            time: Time(in_its_place),
        };
        let found = (in_its_place > 0).then_some((told[0].0, theirs));
        generations.meet(&Vec::from_iter(found), none);
        generations.hear(&generations.list(), none);
        assert_eq!(generations.of(&scope).generation > 20, is_raised);
    }
}

/// Between the question and its answer, which tells of others' calls: by a clock that is ahead, so
/// that all they sealed before is bound to a greater generation.
#[test]
fn a_call_that_is_made_while_the_source_answers_comes_after_what_it_says() {
    let scope = Scope::new("a");
    let ahead = Forgotten {
        generation: 1_000,
        time: Time(1_000),
    };
    let none = Forgotten::default();
    let listed = (vec![(*scope.digest(), ahead)], none);
    let not_listed = (Vec::new(), ahead);
    for (theirs, others) in [listed, not_listed] {
        for is_met in [false, true] {
            let generations = Generations::default();
            generations.hear(&[], none);
            let _ = generations.list();
            if !is_met {
                generations.meet(&theirs, others);
            }
            generations.forget(Which::Exactly(&scope), Time(20));
            if is_met {
                generations.meet(&theirs, others);
            }
            generations.hear(&theirs, others);
            assert!(generations.are_untold());
            let mine = generations.list();
            generations.meet(&theirs, others);
            let mut told = theirs.clone();
            told.extend(mine);
            generations.hear(&told, others);
            assert!(generations.of(&scope).generation > 1_000);
        }
    }
}

#[test]
fn a_call_that_was_raised_is_told_once_more() {
    let scope = Scope::new("a");
    let (generations, none) = (Generations::default(), Forgotten::default());
    generations.hear(&[], none);
    generations.forget(Which::Exactly(&scope), Time(20));
    let theirs = Forgotten {
        generation: 30,
        time: Time(30),
    };
    let theirs = [(*scope.digest(), theirs)];
    generations.list();
    generations.meet(&theirs, none);
    generations.hear(&theirs, none);
    assert_eq!(generations.of(&scope).generation, 31);
    for _ in 0..2 {
        assert!(generations.are_untold());
        let told = generations.list(); // to which there may be no answer
        assert_eq!(told[0].1.generation, 31);
    }
    generations.meet(&theirs, none);
    generations.hear(&generations.list(), none);
    assert!(!generations.are_untold());
    assert_eq!(generations.of(&scope).generation, 31);
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
fn a_forked_process_knows_what_was_forgotten_or_takes_all_for_forgotten() {
    let (scope, other) = (Scope::new("a"), Scope::new("b"));
    let generations = Generations::default();
    generations.forget(Which::Exactly(&scope), Time(7));
    let heir = generations.heir(Time(9));
    assert_eq!(
        [heir.of(&scope).time, heir.of(&other).time],
        [Time(7), Time(0)]
    );
    let theirs = Forgotten {
        generation: 50,
        time: Time(50),
    };
    generations.hear(&[(*scope.digest(), theirs)], Forgotten::default());
    let _changing = generations.known.lock(); // by a thread that was not forked
    let heir = generations.heir(Time(9));
    for scope in [&scope, &other] {
        let expected = Forgotten {
            generation: 50,
            time: Time(9),
        };
        assert_eq!(heir.of(scope), expected);
    }
    heir.forget(Which::Exactly(&scope), Time(9));
    assert_eq!(heir.of(&scope).generation, 51);
}
