//! The server and its replica, and how questions end.

use std::collections::BTreeSet;
use std::fmt;
use std::future::pending;

use super::*;

/// What becomes of a question.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) enum How {
    #[default]
    Answered,
    /// The connection is lost before the server hears it.
    Unheard,
    /// The connection is lost after the server did what it was asked.
    AnswerLost,
    /// The server does what it was asked, and does not answer in time.
    Late,
    Refused,
}

/// The servers, and what was asked of them.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct World {
    pub(super) stored: BTreeSet<u8>,
    pub(super) replica: BTreeSet<u8>,
    /// How often the replica took over: connections from before are lost.
    pub(super) master: u8,
    /// What becomes of the next question.
    pub(super) how: How,
    pub(super) keeps_claimed: bool,
    pub(super) sent: [u8; SESSIONS],
    pub(super) claimed: BTreeSet<u8>,
    pub(super) has_forgotten: bool,
}

/// A connection to the server, and what makes one.
#[derive(Clone, Default)]
pub(super) struct Wire {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) master: u8,
}

impl Wire {
    async fn ask<R>(&self, done: impl FnOnce(&mut World) -> R) -> Result<R, Failure> {
        let failure = |kind| Failure {
            kind,
            cause: "told to".into(),
        };
        let lost = || failure(FailureKind::Useless(StoreTrouble::Unreachable));
        let (how, result) = {
            let world = &mut *self.world.lock();
            match world.how {
                _ if world.master != self.master => return Err(lost()),
                How::Unheard => return Err(lost()),
                How::Refused => {
                    let kind = FailureKind::Refused(StoreTrouble::NotPermitted);
                    return Err(failure(kind));
                }
                how => (how, done(world)),
            }
        };
        match how {
            How::AnswerLost => Err(lost()),
            How::Late => pending().await,
            _ => Ok(result),
        }
    }
}

/// The session of this key, unless it is that of none.
fn session(key: &str) -> Option<u8> {
    key.parse().ok()
}

impl Connection for Wire {
    async fn try_out(&mut self, probe_key: &str) -> Result<(), Failure> {
        self.get_and_delete(probe_key, false).await.map(drop)
    }

    async fn get(&mut self, _: &str, _: bool) -> Result<Option<Vec<u8>>, Failure> {
        unreachable!("these sessions are claimed")
    }

    async fn get_and_delete(&mut self, key: &str, _: bool) -> Result<Option<Vec<u8>>, Failure> {
        let claim = |world: &mut World| {
            let session = session(key).filter(|session| world.stored.contains(session))?;
            world.claimed.insert(session);
            if !world.keeps_claimed {
                world.stored.remove(&session);
            }
            Some(vec![session])
        };
        self.ask(claim).await
    }

    async fn write(&mut self, batch: &[Write]) -> Result<Vec<Result<(), Failure>>, Failure> {
        let sessions: Vec<_> = batch
            .iter()
            .filter_map(|write| session(&write.key))
            .collect();
        for session in &sessions {
            self.world.lock().sent[usize::from(*session)] += 1;
        }
        let write = |world: &mut World| {
            world.stored.extend(&sessions);
            sessions.iter().map(|_| Ok(())).collect()
        };
        self.ask(write).await
    }
}

impl Backend for Wire {
    type Connection = Self;

    async fn connect(&mut self) -> Result<Self, Failure> {
        self.master = self.world.lock().master;
        Ok(self.clone())
    }

    fn write_timeout(&self) -> Duration {
        Duration::ZERO
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("model")
    }
}
