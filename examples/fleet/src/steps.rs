//! What happens, step by step.

use crate::redis::Harm;

/// What happens at the beginning of a step.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    Nothing,
    Harm(Harm),
    Heal(Harm),
    NodeRestarts,
    NodeRevokesAll,
    AwayReturn,
}

/// What happens, and for how many seconds clients connect after that.
pub(crate) type Step = (&'static str, Event, u64);

const COME: &str = "clients come for the first time";
const WELL: &str = "all is well, STEKs rotate";

pub(crate) const USUAL: &[Step] = &[
    (COME, Event::Nothing, 2),
    (WELL, Event::Nothing, 10),
    ("a master is killed", Event::Harm(Harm::Killed), 4),
    ("it is started again, empty", Event::Heal(Harm::Killed), 4),
    ("a node is restarted", Event::NodeRestarts, 5),
    (WELL, Event::Nothing, 8),
];

/// The steps with `--chaos`.
pub(crate) const CHAOS: &[Step] = &[
    (COME, Event::Nothing, 2),
    (WELL, Event::Nothing, 8),
    ("a master is killed", Event::Harm(Harm::Killed), 7),
    ("it is started again, empty", Event::Heal(Harm::Killed), 9),
    ("a master's host stops", Event::Harm(Harm::Stopped), 7),
    ("it goes on", Event::Heal(Harm::Stopped), 9),
    ("a master is demoted", Event::Harm(Harm::Demoted), 7),
    ("it is promoted, or replaced", Event::Heal(Harm::Demoted), 9),
    ("a master is cut off", Event::Harm(Harm::CutOff), 7),
    ("it is reached again", Event::Heal(Harm::CutOff), 9),
    ("a master is full", Event::Harm(Harm::Filled), 5),
    ("it has room again", Event::Heal(Harm::Filled), 9),
    (WELL, Event::Nothing, 8),
];

/// The steps with `--incident`. Other nodes are told within 2 seconds.
pub(crate) const INCIDENT: &[Step] = &[
    (COME, Event::Nothing, 3),
    ("all is well, some are away", Event::Nothing, 5),
    (
        "one node revokes all, the others follow",
        Event::NodeRevokesAll,
        6,
    ),
    ("those that were away return", Event::AwayReturn, 4),
    (WELL, Event::Nothing, 8),
];

/// The first step of an incident in which no earlier session may resume.
pub(crate) const AFTER_INCIDENT: usize = 3;
