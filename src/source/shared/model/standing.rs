use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use super::Mishaps;
use crate::models;
use crate::rotation::Window;
use crate::source::SourceKey;
use crate::source::shared::record::{self, Record};
use crate::stek::KeyName;

/// Where everything stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) passed: u32,
    pub(super) record: Option<Record>,
    /// How many keys were made.
    pub(super) made: u8,
    pub(super) processes: Vec<Process>,
    pub(super) left: Mishaps,
    /// When each key last sealed in a process in touch, unless all have lost it since.
    pub(super) sealed: BTreeMap<KeyName, u32>,
    pub(super) revoked: BTreeSet<KeyName>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) held: Option<Record>,
    pub(super) revoked: Vec<KeyName>,
    pub(super) withdrawn: BTreeSet<KeyName>,
    /// What the source answered.
    pub(super) keys: Vec<SourceKey>,
    /// The tick in which it last asked.
    pub(super) asked: u32,
    /// Whether something happened to the record that it has not heard of.
    pub(super) is_behind: bool,
    pub(super) is_cut_off: bool,
    /// The keys that it revoked, or had and lost because another did.
    pub(super) knows: BTreeSet<KeyName>,
}

impl Process {
    pub(super) fn is_in_touch(&self, now: u32) -> bool {
        !self.is_cut_off && !self.is_behind && self.asked + 1 >= now
    }
}

/// All of a standing that decides what may follow. A record's version is for logs alone.
impl Hash for Standing {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.passed, self.made, self.left).hash(state);
        (&self.sealed, &self.revoked).hash(state);
        let processes = self.processes.iter();
        let records = processes.map(|process| &process.held).chain([&self.record]);
        for record in records {
            record.is_some().hash(state);
            if let Some(record) = record {
                record::tests::hash(record, state);
            }
        }
        for process in &self.processes {
            (&process.revoked, &process.withdrawn, &process.knows).hash(state);
            (process.asked, process.is_behind, process.is_cut_off).hash(state);
            for key in &process.keys {
                let Window {
                    published,
                    activates,
                    retires,
                    expires,
                } = key.window;
                let times = [published, activates, retires, expires].map(|time| time.0);
                (key.stek.name(), times).hash(state);
            }
        }
    }
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        models::hashed(self) == models::hashed(other)
    }
}
