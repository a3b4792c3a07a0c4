use std::collections::BTreeSet;

use super::place::Place;
use super::standing::Standing;
use super::{Fault, Fleet, START, TICK};
use crate::source::SourceKey;
use crate::source::shared::Shared;
use crate::source::shared::record::Record;
use crate::source::shared::record::tests::query;
use crate::stek::KeyName;

impl Fleet {
    pub(super) fn ask(
        &self,
        standing: &mut Standing,
        index: usize,
        rotate: bool,
        revoked: &[KeyName],
    ) {
        let now = self.time(index, standing.passed);
        let process = &mut standing.processes[index];
        let mut found = standing.record.clone();
        let mut held = process.held.clone();
        self.plant(&mut found, &mut held);
        let before = found.clone();
        let mut shared = Shared {
            held,
            withdrawn: process.withdrawn.iter().copied().collect(),
            ..Shared::new(Place {
                record: found,
                now: START.plus(standing.passed * TICK),
                made: standing.made,
                is_cut_off: process.is_cut_off,
                written: false,
            })
        };
        let had = shared.held.clone();
        let answer = shared.load(&query(now, &self.rotation, rotate, revoked));
        process.held = shared.held;
        process.withdrawn = shared.withdrawn.into_iter().collect();
        process.knows.extend(revoked);
        let Ok(keys) = answer else {
            process
                .keys
                .retain(|key| !revoked.contains(key.stek.name()));
            return;
        };
        standing.made = shared.backend.made;
        standing.record = shared.backend.record;
        let names = |keys: &[SourceKey]| keys.iter().map(|key| *key.stek.name()).collect();
        let (had_names, has): (BTreeSet<_>, BTreeSet<_>) = (names(&process.keys), names(&keys));
        let lost = had_names.difference(&has).copied();
        let lost = lost.filter(|name| standing.revoked.contains(name));
        process.knows.extend(lost);
        process.keys = keys;
        process.asked = standing.passed;
        process.is_behind = false;
        // What the others cannot have foreseen.
        let is_disturbed = shared.backend.written
            && (rotate || brings_more(before.as_ref(), had.as_ref(), standing.record.as_ref()));
        if is_disturbed {
            for (other, process) in standing.processes.iter_mut().enumerate() {
                process.is_behind |= other != index;
            }
        }
    }

    /// Has the fault do its part before a process asks.
    fn plant(&self, found: &mut Option<Record>, held: &mut Option<Record>) {
        match self.fault {
            Some(Fault::NewerVersionWins) => match (&found, &held) {
                (Some(there), Some(mine)) if there.version < mine.version => *found = None,
                (Some(there), Some(_)) => *held = Some(there.clone()),
                _ => {}
            },
            None => {}
        }
    }
}

/// Whether a process told of anything but the successor of a key.
fn brings_more(found: Option<&Record>, held: Option<&Record>, next: Option<&Record>) -> bool {
    let (Some(found), Some(next)) = (found, next) else {
        return true;
    };
    let keys = |record: &Record| {
        let keys = record.source_keys().into_iter();
        let keys = keys.map(|key| (*key.stek.name(), key.window));
        keys.collect::<Vec<_>>()
    };
    let there = keys(found);
    let mine = held.map(keys).unwrap_or_default();
    there.is_empty()
        || !next.withdraws_the_same(found)
        || mine.iter().any(|key| !there.contains(key))
}
