//! How a ring has its source asked, and takes over the answer.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::answer::{Answer, Failure};
use super::settings::RingSettings;
use super::supply::{After, CLOSED, LOST, Manners, Wish};
use super::{Ring, events};
use crate::clock::Time;
use crate::errands::{Errands, guarded};
use crate::error::Error;
use crate::outside::Outside;
use crate::scope::{Forgotten, ScopeDigest};
use crate::source::bulletin::{Bulletin, Heard};
use crate::source::{SourceQuery, StekSource, Withdrawal};
use crate::stek::KeyName;
use crate::sync::Mutex;
use crate::sync::mpsc::{RecvTimeoutError, sync_channel};
use crate::terms::Terms;

/// A query that owns its parts, kept while the source is asked.
struct Question {
    now: Time,
    monotonic: Duration,
    rotate: bool,
    /// Whether the answer may be no more than what is new.
    continues: bool,
    revoked: Arc<Vec<KeyName>>,
    forgotten: Vec<(ScopeDigest, Forgotten)>,
    dropped: Forgotten,
}

impl Ring {
    /// Has the source asked, and waits until its answer is in use.
    pub(super) fn ask_and_wait(
        self: &Arc<Self>,
        terms: &Terms,
        outside: &Outside,
        rotate: bool,
        deadline: Duration,
    ) -> Result<(), Error> {
        let (sender, answer) = sync_channel(1);
        let wish = Wish {
            rotate,
            waiting: vec![sender],
        };
        self.ask(terms, outside, wish);
        let failed = |why: String| Error::source(self.supply.name, why);
        match answer.recv_timeout(deadline) {
            Ok(answered) => answered.map_err(failed),
            Err(RecvTimeoutError::Timeout) => Err(failed(format!("no answer within {deadline:?}"))),
            Err(RecvTimeoutError::Disconnected) => Err(failed(match self.supply.is_lost() {
                true => LOST.into(),
                false => CLOSED.into(),
            })),
        }
    }

    /// Has the source asked: on a thread of its own if it may block.
    pub(super) fn ask(self: &Arc<Self>, terms: &Terms, outside: &Outside, wish: Wish) {
        let Some((source, wish)) = self.supply.begin(wish, terms.clock.monotonic()) else {
            return;
        };
        if !self.supply.on_thread {
            self.put_to(source, wish, terms, outside);
            return;
        }
        // The thread may hang, so it must not keep the ring and its keys alive.
        let weak = Arc::downgrade(self);
        let settings = self.settings.clone();
        let (their_terms, their_outside) = (terms.clone(), outside.clone());
        let given = Arc::new(Mutex::new(Some((source, wish))));
        let taken = Arc::clone(&given);
        let work = move || {
            let mut next = taken.lock().take();
            while let Some((mut source, wish)) = next {
                let question = weak
                    .upgrade()
                    .map(|ring| ring.question(&their_terms, &wish));
                let answer = question
                    .as_ref()
                    .map(|question| load(&mut source, &settings, question, &their_outside.log));
                next = match (weak.upgrade(), question, answer) {
                    (Some(ring), Some(question), Some(answer)) => {
                        ring.take_answer(source, &question, answer, &their_terms, &their_outside)
                    }
                    _ => {
                        drop_guarded(source);
                        None
                    }
                };
            }
        };
        let started = thread::Builder::new()
            .name("resumption-source".into())
            .spawn(work);
        let Err(error) = started else { return };
        if let Some((source, wish)) = given.lock().take() {
            let manners = Manners::of(&*source);
            let answer = Answer {
                manners,
                fleet_agrees: None,
                keys: Err(format!("its thread cannot be started: {error}").into()),
                took: Duration::ZERO,
                heard: Heard::default(),
                others_stay: false,
            };
            let question = self.question(terms, &wish);
            self.take_answer(source, &question, answer, terms, outside);
        }
    }

    /// Asks the source on this thread until there are no more queries.
    fn put_to(&self, source: Box<dyn StekSource>, wish: Wish, terms: &Terms, outside: &Outside) {
        let mut next = Some((source, wish));
        while let Some((mut source, wish)) = next {
            let question = self.question(terms, &wish);
            let answer = load(&mut source, &self.settings, &question, &outside.log);
            next = self.take_answer(source, &question, answer, terms, outside);
        }
    }

    fn question(&self, terms: &Terms, wish: &Wish) -> Question {
        let (continues, revoked) = {
            let mut keeper = self.keeper.lock();
            (keeper.continues(), keeper.revoked(self.supply.is_own))
        };
        Question {
            now: terms.now(),
            monotonic: terms.clock.monotonic(),
            rotate: wish.rotate,
            continues,
            revoked,
            forgotten: terms.generations.list(),
            dropped: terms.generations.dropped(),
        }
    }

    /// Takes over the source's answer, however late, without what is no longer valid. Returns the
    /// source if it is to be asked again.
    fn take_answer(
        &self,
        source: Box<dyn StekSource>,
        question: &Question,
        answer: Answer,
        terms: &Terms,
        outside: &Outside,
    ) -> Option<(Box<dyn StekSource>, Wish)> {
        let manners = answer.manners;
        if answer.heard.is_carried {
            let heard = &answer.heard;
            terms.generations.meet(&heard.found, heard.found_others);
            terms.generations.hear(&heard.forgotten, heard.others);
        }
        // With these STEKs may come what others sealed before the calls that were heard of.
        guarded(|| self.follow.call());
        if let Some(publisher) = outside.publisher.as_ref().filter(|_| self.supply.is_shared) {
            let (publisher, name) = (publisher.clone(), self.supply.name);
            outside
                .metrics
                .run(move || publisher.source_answered(name, answer.took));
        }
        let mut events = Vec::new();
        let (now, monotonic) = (terms.now(), terms.clock.monotonic());
        let (outcome, is_due_sooner) = {
            let mut keeper = self.keeper.lock();
            let name = self.supply.name;
            let taken = keeper.take_answer(&self.settings, name, answer, monotonic, &mut events);
            let (snapshot, made) = keeper.advance(
                &self.settings,
                now,
                monotonic,
                question.rotate,
                false,
                &mut events,
            );
            if let Some(snapshot) = snapshot {
                self.snapshot.store(Arc::new(snapshot));
            }
            let outcome = taken.and_then(|()| made.map_err(|error| error.to_string()));
            (outcome, keeper.is_due_sooner())
        };
        let (waiting, after) = self.supply.end(source, manners, outcome.is_ok(), monotonic);
        events::tell(events, &outside.log);
        for waiting in waiting {
            let _ = waiting.try_send(outcome.clone());
        }
        if is_due_sooner {
            outside.alarm.ring();
        }
        match after {
            After::AskAgain(source, wish) => return Some((source, wish)),
            After::Drop(leaver) => leaver.leave(),
            After::Nothing => {}
        }
        None
    }
}

/// Asks a source. A panic counts as a failure and goes no further: keys must still be wiped when
/// they expire.
fn load(
    source: &mut Box<dyn StekSource>,
    settings: &RingSettings,
    question: &Question,
    log: &Errands,
) -> Answer {
    let bulletin = Bulletin::new(question.forgotten.clone())
        .and_others(question.dropped)
        .continuing(question.continues);
    let query = SourceQuery {
        now: question.now,
        monotonic: question.monotonic,
        rotation: &settings.rotation,
        sealing: settings.sealing,
        rotate: question.rotate,
        revoked: &question.revoked,
        bulletin: Some(&bulletin),
        log,
    };
    let began = Instant::now();
    let keys = guarded(|| {
        let answer = source.load(&query);
        answer.map_err(|cause| {
            let (left, cause) = match cause.downcast::<Withdrawal>() {
                Ok(withdrawal) => (Some(withdrawal.keys), withdrawal.cause),
                Err(cause) => (None, cause),
            };
            // Formatting and dropping the error runs the source's own code, too.
            let trouble = guarded(|| cause.to_string()).unwrap_or_else(|| PANICKED.into());
            guarded(|| drop(cause));
            Failure { trouble, left }
        })
    });
    Answer {
        keys: keys.unwrap_or_else(|| Err(Failure::from(PANICKED.to_owned()))),
        took: began.elapsed(),
        heard: bulletin.heard(),
        others_stay: bulletin.do_others_stay(),
        fleet_agrees: guarded(|| source.fleet_agrees()).flatten(),
        manners: Manners::of(&**source),
    }
}

const PANICKED: &str = "it panicked";

fn drop_guarded(source: Box<dyn StekSource>) {
    guarded(|| drop(source));
}
