//! Two nodes that share a store, as a model: sessions are written and claimed, and the server loses
//! questions and answers, is late, refuses, and gives way to a replica that has not heard of the last
//! writes and claims.
//!
//! A step is what a node's driver does with one question, to its end: on a runtime whose time passes
//! only when nothing else is left to do.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use stateright::{Model, Property};
use tokio::runtime::{Builder, Runtime};

use super::super::single::Single;
use super::*;
use crate::models;

mod server;

use server::{How, Wire, World};

/// By the clock of the host, which goes on: long enough that no look-up begins too late.
const IN_TIME: Duration = Duration::from_secs(60 * 60);

const NODES: usize = 2;
const SESSIONS: usize = 2;

const ONE_WINNER: &str = "a claim has one winner while the store forgets nothing";
const SENT_ONCE: &str = "nothing of unknown outcome is sent again";
const TWO_WINNERS: &str = "a store that forgets a claim has a second winner";
const GONE: &str = "what was claimed is gone, used or not, while the store forgets nothing";
const SERVES: &str = "a server that is well again is asked again";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
});

struct Store {
    /// How many questions may go wrong, and how often the server may give way.
    mishaps: u8,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The server answers a claim and keeps the value.
    ClaimsOnlyRead,
    /// What may not have been written is written again.
    WritesAgain,
    /// What may not have been claimed is put back.
    PutsBack,
    /// What comes of a connection is noted as if it were of an earlier one.
    NotesAsEarlier,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A handshake on this node makes a session.
    Makes(usize, u8),
    /// The node writes what it has queued.
    Writes(usize, How),
    /// A client offers this session to this node.
    Claims(usize, u8, How),
    Connects(usize, How),
    /// The replica hears of everything.
    Replicates,
    /// The replica and the server change places.
    FailsOver,
}

/// A node and its driver, between two steps.
#[derive(Clone, Default)]
struct Driven {
    breaker: Arc<Breaker>,
    /// To which master, and which connection of this node it is.
    link: Option<(u8, Generation)>,
    queued: Vec<u8>,
}

#[derive(Clone)]
struct Standing {
    world: World,
    nodes: [Driven; NODES],
    made: BTreeSet<u8>,
    winners: [u8; SESSIONS],
    mishaps: u8,
}

/// What a step is done with.
struct Parts {
    node: Node,
    line: Arc<Line<Wire>>,
    writes: UnboundedReceiver<Write>,
    wire: Wire,
}

impl Driven {
    /// What goes on from here.
    fn parts(&self, wire: Wire) -> Parts {
        let breaker = Arc::new(self.breaker.twin());
        let (queue, writes) = Queue::new(Node::MAX_QUEUED);
        for session in &self.queued {
            assert!(queue.push(session.to_string(), vec![*session], Duration::MAX));
        }
        let common = Common::new("".into());
        common.note_deadline(Duration::ZERO);
        let link = self.link.map(|(master, generation)| Link {
            connection: Wire {
                master,
                ..wire.clone()
            },
            generation,
        });
        let runtime = RUNTIME.handle().clone();
        let line = Arc::new(Line {
            breaker: Arc::clone(&breaker),
            link: Mutex::new(link),
            ..Line::new(&wire, Arc::new(common), runtime, false)
        });
        let node = Node::new(breaker, Arc::clone(&line) as Arc<dyn Server>, queue);
        Parts {
            node,
            line,
            writes,
            wire,
        }
    }
}

impl Standing {
    fn drive<R>(&mut self, node: usize, how: How, work: impl AsyncFnOnce(&mut Parts) -> R) -> R {
        self.world.how = how;
        let wire = Wire {
            world: Arc::new(Mutex::new(self.world.clone())),
            master: 0,
        };
        let driven = &mut self.nodes[node];
        let mut parts = driven.parts(wire);
        let result = RUNTIME.block_on(work(&mut parts));
        let line = &parts.line;
        driven.breaker = Arc::clone(&line.breaker);
        // The driver gives up a connection once the breaker is open.
        let link = line.link().filter(|_| !line.breaker.is_open());
        driven.link = link.map(|link| (link.connection.master, link.generation));
        self.world = parts.wire.world.lock().clone();
        self.world.how = How::Answered;
        result
    }

    fn makes(&mut self, node: usize, session: u8) {
        self.made.insert(session);
        let is_queued = self.drive(node, How::Answered, async |parts| {
            let key = session.to_string();
            parts.node.write(key, vec![session], Duration::MAX)
        });
        self.nodes[node].queued.extend(is_queued.then_some(session));
    }

    fn writes(&mut self, node: usize, how: How, fault: Option<Fault>) {
        let unknown = self.drive(node, how, async |parts| {
            let mut batch = Vec::new();
            while let Ok(write) = parts.writes.try_recv() {
                batch.push(write);
            }
            let nowhere: Weak<dyn Route> = Weak::<Single>::new();
            parts.line.write(&mut batch, &nowhere).await;
            parts.line.common.unknown.load(Ordering::Relaxed)
        });
        if unknown == 0 || fault != Some(Fault::WritesAgain) {
            self.nodes[node].queued.clear();
        }
    }

    fn claims(&mut self, node: usize, session: u8, how: How, fault: Option<Fault>) {
        self.world.keeps_claimed = fault == Some(Fault::ClaimsOnlyRead);
        match self.look_up(node, &session.to_string(), how) {
            Ok(Some(_)) => self.winners[usize::from(session)] += 1,
            Err(Unanswered::Failed(StoreError::TimedOut)) if fault == Some(Fault::PutsBack) => {
                self.nodes[node].queued.push(session);
            }
            _ => {}
        }
    }

    fn look_up(&mut self, node: usize, key: &str, how: How) -> Answer {
        self.drive(node, how, async |parts| {
            let claim = parts.node.look_up(key.into(), IN_TIME, true, false);
            claim.await
        })
    }

    /// As `stay_connected` does.
    fn connects(&mut self, node: usize, how: How, fault: Option<Fault>) {
        self.drive(node, how, async |parts| {
            let Parts { line, wire, .. } = parts;
            match line.connect(wire, "probe").await {
                Ok((connection, trouble)) => {
                    let generation = match (line.breaker.close(trouble), fault) {
                        (_, Some(Fault::NotesAsEarlier)) => Generation::default(),
                        (generation, _) => generation,
                    };
                    *line.link.lock() = Some(Link {
                        connection,
                        generation,
                    });
                }
                Err((trouble, _)) => line.breaker.note(trouble),
            }
        });
    }

    fn fails_over(&mut self) {
        let world = &mut self.world;
        world.has_forgotten |= world.stored != world.replica;
        std::mem::swap(&mut world.stored, &mut world.replica);
        world.master += 1;
    }

    /// Whether this node gets an answer once all goes well: at the second look-up, if the first one
    /// finds that its connection is lost.
    fn is_served(&self, node: usize, fault: Option<Fault>) -> bool {
        let link = self.nodes[node].link;
        if link.is_some_and(|(master, _)| master == self.world.master) {
            return true;
        }
        let mut next = self.clone();
        (0..2).any(|_| {
            if next.nodes[node].link.is_none() {
                next.connects(node, How::Answered, fault);
            }
            next.look_up(node, "of none", How::Answered).is_ok()
        })
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = (&self.world, &self.made, self.winners, self.mishaps);
        f.debug_list().entry(&world).finish_non_exhaustive()
    }
}

impl Hash for Standing {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.world, &self.made, self.winners, self.mishaps).hash(state);
        for Driven {
            breaker,
            link,
            queued,
        } in &self.nodes
        {
            (breaker.standing(), link, queued).hash(state);
        }
    }
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        models::hashed(self) == models::hashed(other)
    }
}

impl Model for Store {
    type State = Standing;
    type Action = Step;

    fn init_states(&self) -> Vec<Standing> {
        vec![Standing {
            world: World::default(),
            nodes: Default::default(),
            made: BTreeSet::new(),
            winners: [0; SESSIONS],
            mishaps: self.mishaps,
        }]
    }

    fn actions(&self, state: &Standing, steps: &mut Vec<Step>) {
        use How::{AnswerLost, Answered, Late, Refused, Unheard};

        let hows: &[How] = match state.mishaps {
            0 => &[Answered],
            _ => &[Answered, Unheard, AnswerLost, Late, Refused],
        };
        for (node, driven) in state.nodes.iter().enumerate() {
            let session = node as u8; // each makes one
            if !state.made.contains(&session) {
                steps.push(Step::Makes(node, session));
            }
            for how in hows {
                if driven.link.is_none() {
                    steps.push(Step::Connects(node, *how));
                }
                if !driven.queued.is_empty() {
                    steps.push(Step::Writes(node, *how));
                }
                let claims = state.made.iter().filter(|_| driven.link.is_some());
                steps.extend(claims.map(|session| Step::Claims(node, *session, *how)));
            }
        }
        if state.world.stored != state.world.replica {
            steps.push(Step::Replicates);
        }
        if state.mishaps > 0 {
            steps.push(Step::FailsOver);
        }
    }

    fn next_state(&self, state: &Standing, step: Step) -> Option<Standing> {
        let mut next = state.clone();
        let goes_well = match step {
            Step::Makes(..) | Step::Replicates => true,
            Step::Writes(_, how) | Step::Claims(_, _, how) | Step::Connects(_, how) => {
                how == How::Answered
            }
            Step::FailsOver => false,
        };
        next.mishaps -= u8::from(!goes_well);
        match step {
            Step::Makes(node, session) => next.makes(node, session),
            Step::Writes(node, how) => next.writes(node, how, self.fault),
            Step::Claims(node, session, how) => next.claims(node, session, how, self.fault),
            Step::Connects(node, how) => next.connects(node, how, self.fault),
            Step::Replicates => next.world.replica = next.world.stored.clone(),
            Step::FailsOver => next.fails_over(),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_WINNER, |_, Standing { world, winners, .. }| {
                world.has_forgotten || winners.iter().all(|winners| *winners <= 1)
            }),
            Property::sometimes(TWO_WINNERS, |_, state: &Standing| {
                state.world.has_forgotten && state.winners.contains(&2)
            }),
            Property::always(SENT_ONCE, |_, state: &Standing| {
                state.world.sent.iter().all(|sent| *sent <= 1)
            }),
            Property::always(GONE, |_, Standing { world, .. }| {
                world.has_forgotten || world.stored.is_disjoint(&world.claimed)
            }),
            Property::always(SERVES, |model: &Self, state: &Standing| {
                (0..NODES).all(|node| state.is_served(node, model.fault))
            }),
        ]
    }
}

#[test]
fn each_session_has_one_winner_and_a_store_that_comes_back_serves() {
    let (mishaps, fault) = (2, None);
    models::holds(Store { mishaps, fault }, 40);
}

#[test]
fn the_model_finds_what_is_wrong() {
    for (fault, property) in [
        (Fault::ClaimsOnlyRead, ONE_WINNER),
        (Fault::WritesAgain, SENT_ONCE),
        (Fault::PutsBack, GONE),
        (Fault::NotesAsEarlier, SERVES),
    ] {
        let (mishaps, fault) = (1, Some(fault));
        models::refutation(Store { mishaps, fault }, property, 40);
    }
}
