use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use crate::clock::millis;
use crate::redis::{harmless, misplaced, redirection};
use crate::stats::StoreTrouble;
use crate::store::remote::{self, Failure, FailureKind, Redirection, Write};

/// A connection to one server.
#[derive(Clone)]
pub(super) struct Connection {
    redis: MultiplexedConnection,
    /// Whether the server may send us to another.
    in_cluster: bool,
}

impl Connection {
    pub(super) fn new(
        connected: RedisResult<MultiplexedConnection>,
        in_cluster: bool,
    ) -> Result<Self, Failure> {
        match connected {
            Ok(redis) => Ok(Self { redis, in_cluster }),
            Err(error) => Err(failure(error, in_cluster)),
        }
    }

    async fn ask(&mut self, command: Cmd, asking: bool) -> Result<Option<Vec<u8>>, Failure> {
        let in_cluster = self.in_cluster;
        let failed = |error| failure(error, in_cluster);
        if !asking {
            return command.query_async(&mut self.redis).await.map_err(failed);
        }
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("ASKING").ignore();
        pipeline.add_command(command);
        let answer: RedisResult<(Option<Vec<u8>>,)> = pipeline.query_async(&mut self.redis).await;
        Ok(answer.map_err(failed)?.0)
    }

    async fn run(&mut self, pipeline: &Pipeline) -> Result<Vec<RedisResult<Value>>, Failure> {
        let outcomes = pipeline.query_async(&mut self.redis).await;
        outcomes.map_err(|error| failure(error, self.in_cluster))
    }
}

impl remote::Connection for Connection {
    /// Writes, reads and claims, in one round trip.
    async fn try_out(&mut self, key: &str) -> Result<(), Failure> {
        let mut pipeline = Pipeline::with_capacity(3);
        pipeline.ignore_errors();
        pipeline.add_command(set(key, b"probe", Duration::from_secs(1)));
        pipeline.add_command(Cmd::get(key));
        pipeline.add_command(Cmd::get_del(key));
        let outcomes = self.run(&pipeline).await?;
        let failures = outcomes.into_iter().filter_map(Result::err);
        let failures: Vec<_> = failures
            .map(|error| failure(error, self.in_cluster))
            .collect();
        // A full server serves what it has; but one that may not be read is of no use.
        let is_full = |failure: &Failure| failure.kind == FailureKind::Full;
        let worst = failures.iter().position(|failure| !is_full(failure));
        match failures.into_iter().nth(worst.unwrap_or(0)) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    async fn get(&mut self, key: &str, asking: bool) -> Result<Option<Vec<u8>>, Failure> {
        self.ask(Cmd::get(key), asking).await
    }

    async fn get_and_delete(
        &mut self,
        key: &str,
        asking: bool,
    ) -> Result<Option<Vec<u8>>, Failure> {
        self.ask(Cmd::get_del(key), asking).await
    }

    /// Writes a batch in one round trip, and tells what became of each.
    async fn write(&mut self, batch: &[Write]) -> Result<Vec<Result<(), Failure>>, Failure> {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        pipeline.ignore_errors(); // each write has an outcome of its own
        for write in batch {
            if write.asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(set(&write.key, &write.value, write.ttl));
        }
        let mut outcomes = self.run(&pipeline).await?.into_iter();
        let mut outcome_of = |write: &Write| {
            if write.asking {
                outcomes.next();
            }
            match outcomes.next() {
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(failure(error, self.in_cluster)),
                None => Err(failure((ErrorKind::Parse, "too few answers").into(), false)),
            }
        };
        Ok(batch.iter().map(&mut outcome_of).collect())
    }
}

fn set(key: &str, value: &[u8], ttl: Duration) -> Cmd {
    let ttl = millis(ttl).max(1);
    let mut set = Cmd::new();
    set.arg("SET").arg(key).arg(value).arg("PX").arg(ttl);
    set
}

/// What an error says of the server.
fn failure(error: RedisError, in_cluster: bool) -> Failure {
    if let Some((address, asking)) = redirection(&error) {
        let address = address.to_string();
        return match in_cluster {
            true => Failure {
                kind: FailureKind::Redirected(Redirection { address, asking }),
                cause: said(&error).into(),
            },
            false => Failure {
                kind: FailureKind::Useless(StoreTrouble::Misplaced),
                cause: format!("{}: {}", misplaced("cluster"), said(&error)).into(),
            },
        };
    }
    let refused = |trouble| FailureKind::Refused(trouble);
    let kind = match error.kind() {
        ErrorKind::Server(ServerErrorKind::ReadOnly) => {
            FailureKind::Useless(StoreTrouble::ReadOnly)
        }
        ErrorKind::Server(ServerErrorKind::NoPerm) => refused(StoreTrouble::NotPermitted),
        ErrorKind::AuthenticationFailed => FailureKind::Useless(StoreTrouble::NotPermitted),
        ErrorKind::InvalidClientConfig => FailureKind::Useless(StoreTrouble::Misplaced),
        ErrorKind::Io if error.is_timeout() => FailureKind::Useless(StoreTrouble::TimedOut),
        ErrorKind::Io | ErrorKind::MasterNameNotFoundBySentinel => {
            FailureKind::Useless(StoreTrouble::Unreachable)
        }
        _ if error.is_unrecoverable_error() => FailureKind::Useless(StoreTrouble::Unreachable),
        _ => match error.code() {
            Some("OOM") => FailureKind::Full,
            Some("NOAUTH" | "WRONGPASS") => FailureKind::Useless(StoreTrouble::NotPermitted),
            Some("ERR") if is_unknown_command(&error) => refused(StoreTrouble::Unsupported),
            _ => refused(StoreTrouble::Refused),
        },
    };
    Failure {
        kind,
        cause: said(&error).into(),
    }
}

/// In Redis's own words, which are what an operator looks for.
fn said(error: &RedisError) -> String {
    harmless(&match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    })
}

fn is_unknown_command(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.starts_with("unknown command")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_a_server_is_useless_for_is_told_apart() {
        let useless = |error: RedisError| match failure(error, false).kind {
            FailureKind::Useless(trouble) => Some(trouble),
            _ => None,
        };
        let io = |kind: io::ErrorKind| useless(io::Error::from(kind).into());
        assert_eq!(io(io::ErrorKind::TimedOut), Some(StoreTrouble::TimedOut));
        let unreachable = Some(StoreTrouble::Unreachable);
        assert_eq!(io(io::ErrorKind::ConnectionRefused), unreachable);
        // What no server of Redis says.
        assert_eq!(useless((ErrorKind::Parse, "nonsense").into()), unreachable);
        let odd = (ErrorKind::UnexpectedReturnType, "a list");
        assert_eq!(useless(odd.into()), None);
    }
}
