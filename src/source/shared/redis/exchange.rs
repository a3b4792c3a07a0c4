//! Commands to Redis, sent from a thread of its own, so that whoever waits for one is bounded
//! whatever happens to it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, Value, cmd, from_redis_value};

use crate::caught::caught;
use crate::clock::{Time, millis};
use crate::own_runtime::OwnRuntime;
use crate::process::Process;
use crate::redis::{Finder, RedisClient, harmless, misplaced, redirection};

/// Returns the time and the value, empty if there is none.
const READ: &str = "\
local time = redis.call('TIME')
return {time[1], time[2], redis.call('GETRANGE', KEYS[1], 0, ARGV[1])}";

/// Sets the value if it is still what was read: compare and set.
const SWAP: &str = "\
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// How many names may be looked up at once.
const MAX_NAMES: usize = 8;

/// Sends commands to Redis and waits for the answers.
pub(super) struct Exchange {
    client: RedisClient,
    /// To the thread, which ends when this is dropped.
    jobs: Option<SyncSender<Job>>,
    /// The process that has the thread.
    process: Process,
}

/// What Redis answered to a read.
pub(super) struct Found {
    pub(super) time: Time,
    pub(super) value: Vec<u8>,
}

impl Exchange {
    pub(super) fn new(client: RedisClient) -> Self {
        Self {
            client,
            jobs: None,
            process: Process::current(),
        }
    }

    /// How long an answer may take on a new connection. Behind Sentinels and in a Cluster there are
    /// more steps, which all take long only if much is out of order: then the connection is there
    /// for the next command.
    pub(super) fn limit(&self) -> Duration {
        self.client.dialer().limit()
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
            self.run(command, key, Repeat::OnceIfDead, deadline)?;
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
        let lifetime = millis(lifetime);
        let mut command = cmd("EVAL");
        command.arg(SWAP).arg(1).arg(key);
        command.arg(found).arg(next).arg(lifetime.max(1));
        self.run(command, key, Repeat::Never, deadline)
    }

    fn run<T: FromRedisValue>(
        &mut self,
        command: Cmd,
        key: &str,
        repeat: Repeat,
        deadline: Instant,
    ) -> Result<T, String> {
        let (reply, answer) = sync_channel(1);
        let job = Job {
            command,
            key: key.into(),
            repeat,
            deadline,
            reply,
        };
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
            Ok(answer) => answer
                .and_then(|answer| Ok(from_redis_value(answer)?))
                .map_err(|error| harmless(&error.to_string())),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err("no answer in time".into())
            }
        }
    }

    fn jobs(&mut self) -> Result<&SyncSender<Job>, String> {
        if !self.process.is_current() {
            // Forked, without the thread. To drop the channel might be to wait for a lock that is
            // never released.
            mem::forget(self.jobs.take());
            self.process = Process::current();
        }
        if self.jobs.is_none() {
            let (jobs, queue) = sync_channel::<Job>(1);
            let started = start(Worker::new(self.client.clone()), queue);
            started.map_err(|error| format!("its thread cannot be started: {error}"))?;
            self.jobs = Some(jobs);
        }
        self.jobs.as_ref().ok_or_else(|| "it has no thread".into())
    }
}

fn start(mut worker: Worker, queue: Receiver<Job>) -> io::Result<()> {
    let runtime = OwnRuntime::new(MAX_NAMES)?;
    let work = move || {
        for job in queue {
            // Past the deadline nobody waits for the answer.
            if Instant::now() < job.deadline {
                let serving = caught(worker.serve(&job));
                let answer = runtime.block_on(serving);
                let _ = answer.map(|answer| job.reply.send(answer.unwrap_or_else(panicked)));
            }
        }
    };
    let thread = thread::Builder::new().name("resumption-redis".into());
    thread.spawn(work).map(drop)
}

fn panicked(said: String) -> RedisResult<Value> {
    Err((ErrorKind::Client, "its client", said).into())
}

/// What the command `TIME` answers.
fn time_of(seconds: u64, micros: u64) -> Time {
    Time(seconds.saturating_mul(1_000).saturating_add(micros / 1_000))
}

struct Job {
    command: Cmd,
    /// The one key that it is about.
    key: String,
    repeat: Repeat,
    deadline: Instant,
    reply: SyncSender<RedisResult<Value>>,
}

/// Whether a command may be sent again, though it may have been executed already.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Repeat {
    Never,
    /// For a command that changes nothing: on a new connection, if one that was open turns out to
    /// be dead.
    OnceIfDead,
}

/// What runs on the thread: one connection, kept as long as it answers.
struct Worker {
    finder: Finder,
    connection: Option<MultiplexedConnection>,
}

impl Worker {
    fn new(client: RedisClient) -> Self {
        Self {
            finder: Finder::new(client),
            connection: None,
        }
    }

    async fn serve(&mut self, job: &Job) -> RedisResult<Value> {
        let reused = self.connection.is_some();
        match self.ask(job).await {
            Err(error)
                if reused
                    && job.repeat == Repeat::OnceIfDead
                    && error.is_io_error()
                    && !error.is_timeout() =>
            {
                self.ask(job).await
            }
            answer => answer,
        }
    }

    async fn ask(&mut self, job: &Job) -> RedisResult<Value> {
        let answer = self.try_ask(job).await;
        match answer {
            Ok(_) => self.finder.served(),
            Err(_) => self.finder.failed(),
        }
        answer
    }

    async fn try_ask(&mut self, job: &Job) -> RedisResult<Value> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.finder.connect(&job.key).await?,
        };
        let answer = self.ask_on(connection, job, false).await;
        // A redirection proves that nothing was done: it is followed once.
        let Some((node, asking)) = answer.as_ref().err().and_then(redirection) else {
            return answer;
        };
        if !self.finder.is_cluster() {
            return Err(misplaced("cluster"));
        }
        let connection = self.finder.connect_to(&node).await?;
        self.ask_on(connection, job, asking).await
    }

    async fn ask_on(
        &mut self,
        mut connection: MultiplexedConnection,
        job: &Job,
        asking: bool,
    ) -> RedisResult<Value> {
        let dialer = self.finder.dialer();
        if asking {
            let _: Value = dialer.ask(&mut connection, &cmd("ASKING")).await?;
        }
        let answer = dialer.ask(&mut connection, &job.command).await?;
        if !asking {
            self.connection = Some(connection); // reused only if it answered well
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[cfg(unix)]
    use test_support::fake_redis;

    use super::*;

    #[test]
    fn the_time_of_redis_is_counted_in_milliseconds() {
        assert_eq!(time_of(1_800_000_000, 123_999), Time(1_800_000_000_123));
        assert_eq!(time_of(u64::MAX, u64::MAX), Time(u64::MAX));
    }

    #[cfg(unix)]
    #[test]
    fn an_error_reply_without_end_or_with_lines_of_its_own_is_told_in_few_words() {
        let reply = format!("-ERR one\ntwo {}\r\n", "x".repeat(1_000_000));
        let port = fake_redis::start(move |command| {
            (command == "EVAL").then(|| reply.clone().into_bytes())
        });
        let client = RedisClient::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let read = Exchange::new(client).read("key", 10, deadline);
        let why = read.err().unwrap();
        assert!(
            why.len() < 2_000 && why.contains("one\u{fffd}two"),
            "{why:.100}"
        );
    }

    #[cfg(unix)]
    fn read(exchange: &mut Exchange) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let found = exchange.read("key", 10, deadline);
        found.map(|found| found.value)
    }

    #[cfg(unix)]
    #[test]
    fn a_panic_is_told_as_what_it_is_and_the_next_command_is_served() {
        let port = fake_redis::start(|_| None);
        // Nobody checks that there is a crypto provider.
        let client = redis::Client::open(format!("rediss://127.0.0.1:{port}")).unwrap();
        let mut exchange = Exchange::new(client.into());
        for _ in 0..2 {
            let why = read(&mut exchange).unwrap_err();
            assert!(
                why.contains("panicked: ") && why.contains("CryptoProvider"),
                "{why}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_redirection_is_followed_and_only_one_for_good_is_kept_to() {
        const FOUND: &str = "*3\r\n:1800000000\r\n:0\r\n";
        let (tell, told) = std::sync::mpsc::channel();
        let said = tell.clone();
        let other = fake_redis::start_node(move |command| {
            said.send(format!("{command} of the other")).unwrap();
            match command {
                "ASKING" => Some(b"+OK\r\n".to_vec()),
                "EVAL" => Some(format!("{FOUND}$5\r\nother\r\n").into_bytes()),
                _ => None,
            }
        });
        let asked = AtomicUsize::new(0);
        let one = fake_redis::start_node(move |command| {
            tell.send(format!("{command} of the one")).unwrap();
            let answer = match (command, asked.load(Ordering::Relaxed)) {
                ("EVAL", 1) => format!("-ASK 1 127.0.0.1:{other}\r\n"),
                ("EVAL", 3) => format!("-MOVED 1 127.0.0.1:{other}\r\n"),
                ("EVAL", _) => format!("{FOUND}$3\r\none\r\n"),
                _ => return None,
            };
            asked.fetch_add(1, Ordering::Relaxed);
            Some(answer.into_bytes())
        });
        let client = RedisClient::cluster([format!("redis://127.0.0.1:{one}")]).unwrap();
        let mut exchange = Exchange::new(client);
        for found in ["one", "other", "one", "other", "other"] {
            assert_eq!(read(&mut exchange).unwrap(), found.as_bytes());
        }
        let told: Vec<_> = told
            .try_iter()
            .filter(|line| !line.starts_with("CL")) // CLIENT, CLUSTER
            .collect();
        assert_eq!(
            told,
            [
                "EVAL of the one",
                "EVAL of the one",
                "ASKING of the other",
                "EVAL of the other",
                "EVAL of the one",
                "EVAL of the one",
                "EVAL of the other",
                "EVAL of the other"
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_node_of_a_cluster_that_sends_us_away_is_told_as_what_it_is() {
        let port = fake_redis::start(|command| {
            (command == "EVAL").then(|| b"-MOVED 1 127.0.0.1:1\r\n".to_vec())
        });
        let client = RedisClient::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let why = read(&mut Exchange::new(client)).unwrap_err();
        let said = "this server is a node of a Cluster: use RedisClient::cluster";
        assert!(why.contains(said), "{why}");
    }

    #[cfg(unix)]
    #[test]
    fn a_command_has_as_long_as_the_client_says() {
        let port = fake_redis::start(|command| {
            if command == "EVAL" {
                thread::sleep(Duration::from_secs(60));
            }
            None
        });
        let client = RedisClient::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let client = client
            .connect_timeout(Duration::from_secs(30))
            .command_timeout(Duration::from_millis(20));
        let why = read(&mut Exchange::new(client)).unwrap_err();
        assert!(why.contains("no answer within 20ms"), "{why}");
    }

    #[cfg(unix)]
    #[test]
    fn on_a_connection_that_turns_out_dead_only_a_read_is_repeated() {
        let server = test_support::redis::RedisServer::start();
        let mut exchange = Exchange::new(RedisClient::open(server.url()).unwrap());
        assert_eq!(read(&mut exchange).unwrap(), b"");
        server.ask("CLIENT KILL TYPE normal");
        let lifetime = Duration::from_secs(60 * 60);
        let deadline = Instant::now() + Duration::from_secs(30);
        let swapped = exchange.swap("key", Vec::new(), b"next".to_vec(), lifetime, deadline);
        assert!(swapped.is_err());
        assert_eq!(read(&mut exchange).unwrap(), b"");
        server.ask("CLIENT KILL TYPE normal");
        assert_eq!(read(&mut exchange).unwrap(), b"");
    }

    #[cfg(unix)]
    #[test]
    fn an_error_reply_of_redis_counts_as_an_answer() {
        let server = test_support::redis::RedisServer::start();
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        cmd("LPUSH")
            .arg("list")
            .arg(1)
            .exec(&mut connection)
            .unwrap();
        let mut exchange = Exchange::new(RedisClient::open(server.url()).unwrap());
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
