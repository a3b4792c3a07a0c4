//! What must hold wherever a model of the shared record stands.

use stateright::Property;

use super::standing::Standing;
use super::{Fleet, names};
use crate::stek::KeyName;

pub(super) const OPENS: &str = "a key seals only once all that are in touch open with it";
pub(super) const REVOKED: &str = "a process that knew a key to be revoked is not given it again";
pub(super) const ALL_REVOKED: &str =
    "what one process knows to be revoked, none in touch opens with";
pub(super) const RESUMES: &str =
    "a ticket opens for its lifetime wherever the key's holders are in touch";
pub(super) const SEALS: &str = "a process in touch has a key that seals";

pub(super) fn all() -> Vec<Property<Fleet>> {
    vec![
        Property::always(OPENS, |fleet: &Fleet, standing: &Standing| {
            let mut sealing =
                Fleet::in_touch(standing).filter_map(|process| fleet.sealing(standing, process));
            sealing.all(|name| {
                Fleet::in_touch(standing).all(|other| fleet.opens(standing, other, &name))
            })
        }),
        Property::always(REVOKED, |fleet: &Fleet, standing: &Standing| {
            let mut processes = standing.processes.iter().enumerate();
            processes.all(|(index, process)| {
                let mut known = process.knows.iter();
                known.all(|name| !fleet.opens(standing, index, name))
            })
        }),
        Property::always(ALL_REVOKED, |fleet: &Fleet, standing: &Standing| {
            let knowing = Fleet::in_touch(standing).map(|index| &standing.processes[index]);
            let mut known = knowing.flat_map(|process| &process.knows);
            known.all(|name| {
                Fleet::in_touch(standing).all(|index| !fleet.opens(standing, index, name))
            })
        }),
        Property::always(RESUMES, |fleet: &Fleet, standing: &Standing| {
            let lifetime = 4_u32.saturating_sub(fleet.skew.unsigned_abs() as u32);
            let mut sealed = standing.sealed.iter();
            sealed.all(|(name, at)| {
                let is_over = standing.passed >= at + lifetime;
                let is_withdrawn = standing.revoked.contains(name)
                    || fleet.may.overflows > standing.left.overflows;
                is_over
                    || is_withdrawn
                    || !Fleet::in_touch(standing).any(|index| fleet.holds(standing, index, name))
                    || Fleet::in_touch(standing).all(|index| fleet.opens(standing, index, name))
            })
        }),
        Property::always(SEALS, |fleet: &Fleet, standing: &Standing| {
            let has_overflown = fleet.may.overflows > standing.left.overflows;
            Fleet::in_touch(standing)
                .all(|index| has_overflown || fleet.sealing(standing, index).is_some())
        }),
    ]
}

impl Fleet {
    fn holds(&self, standing: &Standing, process: usize, name: &KeyName) -> bool {
        let held = standing.processes[process].held.as_ref();
        held.is_some_and(|held| names(held).contains(name))
    }
}
