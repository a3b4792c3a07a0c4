//! Commands to Redis, sent from a thread of its own: name resolution and some of the `redis`
//! crate's own look-ups have no timeout, and the ring must not wait for them.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{ConnectionLike, RedisResult, cmd};

use crate::clock::Time;
use crate::redis::RedisClient;

/// Returns the time and the value, empty if there is none.
const READ: &str = "\
local time = redis.call('TIME')
return {time[1], time[2], redis.call('GETRANGE', KEYS[1], 0, ARGV[1])}";

/// Sets the value if it is still what was read: compare and set.
const SWAP: &str = "\
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// For connecting, for writing and for reading.
const IO_TIMEOUT: Duration = Duration::from_millis(400);

/// Sends commands to Redis and waits for the answers.
pub(super) struct Exchange {
    client: Arc<Mutex<RedisClient>>,
    /// To the thread, which ends when this is dropped.
    jobs: Option<SyncSender<Job>>,
}

/// What Redis answered to a read.
pub(super) struct Found {
    pub(super) time: Time,
    pub(super) value: Vec<u8>,
}

impl Exchange {
    pub(super) fn new(client: RedisClient) -> Self {
        Self {
            client: Arc::new(Mutex::new(client)),
            jobs: None,
        }
    }

    /// Redis's time, and the value of this key: its first `max_len + 1` bytes at most.
    pub(super) fn read(
        &mut self,
        key: &str,
        max_len: usize,
        deadline: Instant,
    ) -> Result<Found, String> {
        let mut command = cmd("EVAL");
        command.arg(READ).arg(1).arg(key).arg(max_len);
        let (seconds, micros, value): (u64, u64, Vec<u8>) =
            self.run(deadline, move |worker| worker.ask_again(&command))?;
        Ok(Found {
            time: time_of(seconds, micros),
            value,
        })
    }

    /// Writes `next` if the value is still what was found. False if it is not. After an error it
    /// may have been written or not, so it is not tried again.
    pub(super) fn swap(
        &mut self,
        key: &str,
        found: Vec<u8>,
        next: Vec<u8>,
        lifetime: Duration,
        deadline: Instant,
    ) -> Result<bool, String> {
        let lifetime = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let mut command = cmd("EVAL");
        command.arg(SWAP).arg(1).arg(key);
        command.arg(found).arg(next).arg(lifetime.max(1));
        self.run(deadline, move |worker| worker.ask(&command))
    }

    fn run<T: Send + 'static>(
        &mut self,
        deadline: Instant,
        work: impl FnOnce(&mut Worker) -> RedisResult<T> + Send + 'static,
    ) -> Result<T, String> {
        let (reply, answer) = sync_channel(1);
        let job = Box::new(move |worker: &mut Worker| {
            // Past the deadline nobody waits for the answer.
            if Instant::now() < deadline {
                let _ = reply.send(work(worker));
            }
        });
        match self.jobs()?.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err("an earlier command has not been answered".into());
            }
            Err(TrySendError::Disconnected(_)) => {
                self.jobs = None; // another thread next time
                return Err("its thread has ended".into());
            }
        }
        match answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err("no answer in time".into())
            }
        }
    }

    fn jobs(&mut self) -> Result<&SyncSender<Job>, String> {
        if self.jobs.is_none() {
            let (jobs, queue) = sync_channel::<Job>(1);
            let mut worker = Worker {
                client: Arc::clone(&self.client),
                connection: None,
            };
            thread::Builder::new()
                .name("resumption-redis".into())
                .spawn(move || queue.iter().for_each(|job| job(&mut worker)))
                .map_err(|error| format!("its thread cannot be started: {error}"))?;
            self.jobs = Some(jobs);
        }
        self.jobs.as_ref().ok_or_else(|| "it has no thread".into())
    }
}

/// What the command `TIME` answers.
fn time_of(seconds: u64, micros: u64) -> Time {
    Time(seconds.saturating_mul(1_000).saturating_add(micros / 1_000))
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// What runs on the thread: one connection, kept as long as it answers.
struct Worker {
    client: Arc<Mutex<RedisClient>>,
    connection: Option<Box<dyn ConnectionLike + Send>>,
}

impl Worker {
    fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> RedisResult<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.client.lock().connect(IO_TIMEOUT)?,
        };
        let answer = command.query(&mut *connection)?;
        // Reused only if it answered well.
        self.connection = Some(connection);
        Ok(answer)
    }

    /// For a command that changes nothing: if a connection that was open turns out to be dead, asks
    /// once more on a new one.
    fn ask_again<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> RedisResult<T> {
        let reused = self.connection.is_some();
        match self.ask(command) {
            Err(error) if reused && error.is_io_error() && !error.is_timeout() => self.ask(command),
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_redis_is_counted_in_milliseconds() {
        assert_eq!(time_of(1_800_000_000, 123_999), Time(1_800_000_000_123));
        assert_eq!(time_of(u64::MAX, u64::MAX), Time(u64::MAX));
    }

    #[cfg(unix)]
    #[test]
    fn what_redis_answers_is_taken_for_its_answer_even_if_it_is_an_error() {
        let server = test_support::redis::RedisServer::start();
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        cmd("LPUSH")
            .arg("list")
            .arg(1)
            .exec(&mut connection)
            .unwrap();
        let mut exchange = Exchange::new(RedisClient::open(&server.url()).unwrap());
        // On a connection that is reused, and on one that is new.
        for (asked, key) in (1..).zip(["none", "list", "list"]) {
            let deadline = Instant::now() + Duration::from_secs(10);
            let read = exchange.read(key, 10, deadline);
            assert_eq!(read.is_ok(), key == "none");
            let stats: String = cmd("INFO")
                .arg("commandstats")
                .query(&mut connection)
                .unwrap();
            let calls = format!("cmdstat_eval:calls={asked},");
            assert!(stats.contains(&calls), "{stats}");
        }
    }
}
