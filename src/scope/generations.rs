use std::collections::HashMap;
use std::sync::Arc;

use super::Scope;
use crate::clock::Time;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a scope was forgotten. Of two, the greater of each number counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Forgotten {
    /// Grows each time: what is bound to an earlier generation must not resume. The time of the
    /// call in milliseconds, or one more than the greatest generation before if that is greater. Of
    /// two nodes that forget before they hear of each other, one is raised above the other.
    pub(crate) generation: u64,
    /// When that was, by the clock of whoever forgot it.
    pub(crate) time: Time,
}

impl Forgotten {
    pub(crate) fn later(self, other: Self) -> Self {
        Self {
            generation: self.generation.max(other.generation),
            time: self.time.max(other.time),
        }
    }

    /// Whether both of its numbers are as great as the other's.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.later(other) == self
    }
}

/// Names a scope, or all scopes of a name, or all, where the name itself need not be known.
pub(crate) type ScopeDigest = [u8; Scope::DIGEST_LEN];

/// Stands for all scopes. They are forgotten together with every STEK.
pub(crate) const ALL: ScopeDigest = [0; Scope::DIGEST_LEN];

/// What was forgotten, for scopes that are met later and for other processes. What this process
/// forgot is told to the source of STEKs; if that can carry it, the generation of a scope goes into
/// whatever is sealed for it, and all processes that share the source follow.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    known: Mutex<Known>,
    /// The greatest that is known, to be read without the lock.
    greatest: AtomicU64,
    /// Whether the source carries them.
    are_carried: AtomicBool,
    /// Whether there is anything that the known scopes were not told.
    has_news: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Known {
    forgotten: HashMap<ScopeDigest, Forgotten>,
    /// So far is every scope forgotten that is not listed.
    others: Forgotten,
    /// As far as the source had it when it last answered.
    heard: HashMap<ScopeDigest, Forgotten>,
    /// What this process forgot itself.
    own: HashMap<ScopeDigest, Own>,
    /// The same of every scope that is not listed.
    own_others: Time,
    /// So far had this process forgotten those that it has had no room to list, which the source may
    /// not have been told.
    dropped: Forgotten,
}

#[derive(Clone, Copy, Debug)]
struct Own {
    /// When, by its own clock.
    time: Time,
    told: Told,
    /// Whether the source had anything that this process had not heard of when it forgot this.
    has_met: bool,
}

/// Whether the source knows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    NotYet,
    /// It is being told, or was and did not answer.
    Now,
    /// But not of the generation to which it was raised then.
    Raised,
    /// This generation.
    Done(u64),
}

/// Remembered of this process: as much as a shared record has room for.
const MAX_OWN: usize = 256;

/// What is to be forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    All,
    /// All scopes of this one's name.
    Named(&'a Scope),
    Exactly(&'a Scope),
}

impl Which<'_> {
    fn digest(self) -> ScopeDigest {
        match self {
            Self::All => ALL,
            Self::Named(scope) => scope.name_digest(),
            Self::Exactly(scope) => *scope.digest(),
        }
    }
}

impl Generations {
    /// Notes what this process forgets.
    pub(crate) fn forget(&self, which: Which<'_>, now: Time) {
        let digest = which.digest();
        let known = &mut *self.known.lock();
        // Greater than all others, because a name stands for several scopes, and each for itself.
        let forgotten = Forgotten {
            generation: now.0.max(known.greatest().saturating_add(1)),
            time: now,
        };
        known.forgotten.insert(digest, forgotten);
        self.note_greatest(known);
        let own = Own {
            time: now,
            told: Told::NotYet,
            has_met: false,
        };
        known.own.insert(digest, own);
        if known.own.len() > MAX_OWN {
            let oldest = known.own.iter().min_by_key(|(_, own)| own.time);
            if let Some((&digest, &Own { time, .. })) = oldest {
                known.own.remove(&digest);
                known.own_others = known.own_others.max(time);
                let dropped = known.forgotten.get(&digest).copied().unwrap_or_default();
                known.dropped = known.dropped.later(dropped);
                if !self.are_carried() {
                    known.forgotten.remove(&digest);
                }
            }
        }
    }

    /// How far the source is told that all scopes are forgotten, because there were too many to list.
    pub(crate) fn dropped(&self) -> Forgotten {
        self.known.lock().dropped
    }

    /// What the source is told.
    pub(crate) fn list(&self) -> Vec<(ScopeDigest, Forgotten)> {
        let Known { own, forgotten, .. } = &mut *self.known.lock();
        let listed = own.iter_mut().filter_map(|(digest, own)| {
            if own.told == Told::NotYet {
                own.told = Told::Now;
            }
            Some((*digest, *forgotten.get(digest)?))
        });
        listed.collect()
    }

    /// Takes what the source knew before it was told what was listed last.
    pub(crate) fn meet(&self, found: &[(ScopeDigest, Forgotten)], others: Forgotten) {
        let known = &mut *self.known.lock();
        let is_heard = |(digest, found): &(ScopeDigest, Forgotten)| {
            let heard = known.heard.get(digest);
            heard.is_some_and(|heard| heard.covers(*found)) || known.others.covers(*found)
        };
        let are_heard = found.iter().all(is_heard) && known.others.covers(others);
        let found: HashMap<_, _> = found.iter().copied().collect();
        for (digest, own) in &mut known.own {
            let found = found.get(digest).copied().unwrap_or_default().later(others);
            if matches!(own.told, Told::Done(told) if found.generation < told) {
                own.told = Told::Now; // it had lost it
                // What it has in its place may be a call that came later.
                own.has_met = found.generation > 0;
            }
            own.has_met |= !are_heard;
        }
    }

    /// Takes what the source knows, which carries it.
    pub(crate) fn hear(&self, forgotten: &[(ScopeDigest, Forgotten)], others: Forgotten) {
        let known = &mut *self.known.lock();
        let is_first = !self.are_carried.swap(true, Ordering::AcqRel);
        let mut has_news = false;
        for (digest, heard) in forgotten {
            let there = known.forgotten.entry(*digest).or_default();
            has_news |= !there.covers(*heard);
            *there = there.later(*heard);
        }
        has_news |= !known.others.covers(others);
        known.others = known.others.later(others);
        if has_news {
            known.meet_untold();
        }
        has_news |= known.raise();
        let Known { others, own, .. } = known;
        known.forgotten.retain(|digest, forgotten| {
            let is_told = own.get(digest).is_none_or(Own::is_told);
            !(is_told && others.covers(*forgotten))
        });
        known.heard = forgotten.iter().copied().collect();
        self.note_greatest(known);
        if has_news || is_first {
            self.has_news.store(true, Ordering::Release);
        }
    }

    /// Whether the source is yet to be told of anything.
    pub(crate) fn are_untold(&self) -> bool {
        let known = self.known.lock();
        known.own.values().any(|own| !own.is_told())
    }

    /// Whether there are news.
    pub(crate) fn has_news(&self) -> bool {
        self.has_news.load(Ordering::Acquire)
    }

    /// Whether there are news, which are none afterwards.
    pub(crate) fn take_news(&self) -> bool {
        self.has_news() && self.has_news.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn are_carried(&self) -> bool {
        self.are_carried.load(Ordering::Acquire)
    }

    /// The generation of a scope, and up to when this process forgot it, unless with all others: that
    /// is known of all, and what they sealed does not open any more.
    pub(crate) fn of(&self, scope: &Scope) -> Forgotten {
        let known = self.known.lock();
        let digests = [*scope.digest(), scope.name_digest(), ALL];
        let of = |digest| {
            known
                .forgotten
                .get(digest)
                .map_or(0, |known| known.generation)
        };
        let own = |digest| known.own.get(digest).map_or(Time(0), |own| own.time);
        let generation = digests.iter().map(of).max().unwrap_or(0);
        let [exactly, named, _] = &digests;
        let time = own(exactly).max(own(named));
        Forgotten {
            generation: match self.are_carried() {
                true => generation.max(known.others.generation),
                false => 0,
            },
            time: time.max(known.own_others),
        }
    }

    /// The greatest generation of any scope, or 0 if there are none.
    pub(crate) fn greatest(&self) -> u64 {
        match self.are_carried() {
            true => self.greatest.load(Ordering::Acquire),
            false => 0,
        }
    }

    fn note_greatest(&self, known: &Known) {
        self.greatest.fetch_max(known.greatest(), Ordering::AcqRel);
    }

    /// The same in a process that was forked. If another thread was changing them, all that was
    /// forgotten until now, by this process or others, is forgotten of every scope.
    pub(crate) fn heir(&self, now: Time) -> Arc<Self> {
        let known = self.known.try_lock().map(|known| known.clone());
        let greatest = self.greatest.load(Ordering::Acquire);
        let known = known.unwrap_or_else(|| Known {
            own_others: now,
            others: Forgotten {
                generation: greatest,
                time: Time(0),
            },
            ..Known::default()
        });
        Arc::new(Self {
            known: Mutex::new(known),
            greatest: AtomicU64::new(greatest),
            are_carried: AtomicBool::new(self.are_carried()),
            has_news: AtomicBool::new(true),
        })
    }
}

impl Own {
    fn is_told(&self) -> bool {
        matches!(self.told, Told::Done(_))
    }
}

impl Known {
    /// What is not told yet comes after what was just heard.
    fn meet_untold(&mut self) {
        let untold = self.own.values_mut();
        for own in untold.filter(|own| own.told == Told::NotYet) {
            own.has_met = true;
        }
    }

    /// The greatest that any scope has.
    fn greatest(&self) -> u64 {
        let all = self.forgotten.values().chain([&self.others]);
        all.map(|known| known.generation).max().unwrap_or(0)
    }

    /// Of two processes that forget before they hear of each other, the one of which the source is told
    /// later raises its generation above the other's, or else what the other made in between would
    /// resume. Once a telling, so that this ends.
    fn raise(&mut self) -> bool {
        let raised = self.greatest().saturating_add(1);
        let mut is_any = false;
        for (digest, own) in &mut self.own {
            let Some(there) = self.forgotten.get_mut(digest) else {
                own.told = Told::Done(self.others.generation); // as far as all others
                continue;
            };
            own.told = match own.told {
                Told::Now if own.has_met => {
                    there.generation = raised;
                    is_any = true;
                    Told::Raised
                }
                Told::Now | Told::Raised => Told::Done(there.generation),
                untouched @ (Told::NotYet | Told::Done(_)) => untouched,
            };
        }
        is_any
    }
}

/// For models, which go on from one standing in several ways.
#[cfg(test)]
impl Generations {
    pub(crate) fn twin(&self) -> Self {
        Self {
            known: Mutex::new(self.known.lock().clone()),
            greatest: AtomicU64::new(self.greatest.load(Ordering::Acquire)),
            are_carried: AtomicBool::new(self.are_carried()),
            has_news: AtomicBool::new(self.has_news()),
        }
    }
}

#[cfg(test)]
mod tests;
