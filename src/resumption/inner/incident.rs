use std::sync::Arc;

use super::Inner;
use crate::resumption::withdrawn::{Reach, Withdrawn};
use crate::ring::Ring;
use crate::scope::{Scope, Which};
use crate::stek::KeyName;

/// What is called after an incident. It acts here before anything foreign is asked.
impl Inner {
    pub(crate) fn revoke(&self, name: &KeyName) -> Withdrawn {
        let steks = self.revoke_keys(Some(name));
        self.withdrawn(steks, 0, 0)
    }

    /// Every key and every session.
    pub(crate) fn revoke_all(&self) -> Withdrawn {
        let steks = self.revoke_keys(None);
        let (scopes, sessions) = self.forget_here(Which::All);
        self.withdrawn(steks, sessions, scopes)
    }

    /// Puts what these scopes stored and sealed up to now out of reach, and wipes what is here.
    pub(crate) fn forget(&self, which: Which<'_>) -> Withdrawn {
        let (scopes, sessions) = self.forget_here(which);
        self.withdrawn(0, sessions, scopes)
    }

    /// Returns how many scopes that are known were forgotten, and how many sessions dropped.
    fn forget_here(&self, which: Which<'_>) -> (usize, usize) {
        self.terms.generations.forget(which, self.terms.now());
        let states = match which {
            Which::All => self.scopes.named(None),
            Which::Named(scope) => self.scopes.named(Some(scope.name())),
            Which::Exactly(scope) => self.scopes.find(scope).into_iter().collect(),
        };
        let sessions = match which {
            Which::All => self.put_all_out_of_reach(),
            Which::Named(scope) | Which::Exactly(scope) => {
                let known = states.iter().map(|state| &state.scope);
                // It may be installed later, and after a fork not all that are installed are known.
                let unknown = (!known.clone().any(|known| known == scope)).then_some(scope);
                self.put_out_of_reach(known.chain(unknown))
            }
        };
        self.follow_for_unknown();
        (states.len(), sessions)
    }

    /// Forgets what the cache stored.
    pub(crate) fn clear(&self) {
        self.put_all_out_of_reach();
    }

    pub(super) fn put_all_out_of_reach(&self) -> usize {
        self.forget_all();
        self.cache.drop_all(None)
    }

    pub(super) fn forget_all(&self) {
        let generations = &self.terms.generations;
        let greatest = generations.greatest();
        let of = |scope: &Scope| generations.of(scope);
        self.scopes
            .forget_all(of, greatest, self.terms.moment(), &self.cache);
    }

    fn revoke_keys(&self, name: Option<&KeyName>) -> usize {
        let revoke = |ring: &Arc<Ring>| ring.revoke(&self.terms, &self.outside, name);
        self.ring.as_ref().map_or(0, revoke)
    }

    /// What comes after things were withdrawn here: the source is told, and asked for other keys, which
    /// may take its time.
    fn withdrawn(&self, steks: usize, sessions: usize, scopes: usize) -> Withdrawn {
        let reach = self.ring.as_ref().map_or(Reach::Nobody, |ring| {
            let is_carried = self.terms.generations.are_carried();
            let told = match steks > 0 || is_carried {
                true => ring.succeed(&self.terms, &self.outside),
                false => Ok(()),
            };
            // Of a call that met another's, the source is told twice.
            let told = match told {
                Ok(()) if is_carried && self.terms.generations.are_untold() => {
                    ring.succeed(&self.terms, &self.outside)
                }
                told => told,
            };
            match (ring.is_shared(), is_carried && !ring.is_cut_off(), told) {
                (false, _, _) if !self.life.is_heir => Reach::Nobody,
                // The parent has what was random at the fork, and so may its other children.
                (false, _, _) | (true, false, _) => Reach::Each,
                (true, true, Ok(())) => Reach::Shared,
                (true, true, Err(error)) => Reach::NotYet(error.to_string()),
            }
        });
        self.let_tell();
        Withdrawn {
            steks: steks as u64,
            sessions: sessions as u64,
            scopes: scopes as u64,
            reach,
        }
    }
}
