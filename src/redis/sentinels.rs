use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ConnectionInfo, ErrorKind, RedisError, RedisResult, Value, cmd};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::address::Address;
use super::dial::Dialer;
use super::words::harmless;

/// Sentinels, and the master they are asked for.
#[derive(Clone)]
pub(super) struct Sentinels {
    pub(super) sentinels: Vec<ConnectionInfo>,
    pub(super) name: Arc<str>,
    /// How the master is spoken with; its address is not known.
    pub(super) master: ConnectionInfo,
}

/// A step of the look-up that has been taken.
enum Step {
    /// By which Sentinel.
    Named(usize, Address),
    NotNamed(usize, RedisError),
    Connected(MultiplexedConnection),
    NotMaster(Address, RedisError),
}

impl Sentinels {
    /// How long a round of questions may have led nowhere before another begins.
    const NEXT_ROUND: Duration = Duration::from_millis(500);

    /// A connection to the master.
    ///
    /// All Sentinels are asked at once, so that one that hangs delays nobody, and each server that
    /// any of them names is asked itself: the first that considers itself the master is it. Every
    /// step has its own limit, and there is none on the whole. Until the last step of the first
    /// round has ended, Sentinels that answered are asked again: a server that hangs may be
    /// replaced before its limit is reached.
    pub(super) async fn connect(&self, dialer: &Dialer) -> RedisResult<MultiplexedConnection> {
        let mut steps = JoinSet::new();
        let mut asked = HashSet::new();
        self.ask_all(&mut steps, &mut asked, true, dialer);
        let mut first = self.sentinels.len();
        let mut under_way = HashSet::new();
        let mut errors = BTreeMap::new();
        // Whatever is under way ends when the set is dropped.
        while first > 0 {
            let Ok(taken) = timeout(Self::NEXT_ROUND, steps.join_next()).await else {
                self.ask_all(&mut steps, &mut asked, false, dialer);
                continue;
            };
            let Some(taken) = taken else { break };
            let (is_first, step) = match taken {
                Ok(taken) => taken,
                Err(panicked) => {
                    errors.insert(String::new(), panicked.to_string());
                    first = first.saturating_sub(1);
                    continue;
                }
            };
            match step {
                Step::Connected(connection) => return Ok(connection),
                Step::Named(sentinel, address) => {
                    asked.remove(&sentinel);
                    if under_way.insert(address.clone()) {
                        let master = address.in_place_of(&self.master);
                        let dialer = dialer.clone();
                        steps.spawn(async move {
                            let step = match connect_to_master(&master, &dialer).await {
                                Ok(connection) => Step::Connected(connection),
                                Err(why) => Step::NotMaster(address, why),
                            };
                            (is_first, step)
                        });
                        continue;
                    }
                }
                Step::NotNamed(sentinel, why) => {
                    asked.remove(&sentinel);
                    let sentinel = self.sentinels.get(sentinel);
                    let sentinel = sentinel.map(|sentinel| sentinel.addr().to_string());
                    errors.insert(sentinel.unwrap_or_default(), harmless(&why.to_string()));
                }
                Step::NotMaster(address, why) => {
                    under_way.remove(&address);
                    errors.insert(address.to_string(), harmless(&why.to_string()));
                }
            }
            first = first.saturating_sub(usize::from(is_first));
        }
        let errors = errors
            .iter()
            .map(|(server, why)| format!("{server}: {why}"));
        let errors = errors.collect::<Vec<_>>().join("; ");
        let what = "no Sentinel leads to a master";
        Err(RedisError::from((
            ErrorKind::MasterNameNotFoundBySentinel,
            what,
            format!("{} ({errors})", self.name),
        )))
    }

    /// Asks those that are not `asked` already: one whose name hangs would take a thread each time.
    fn ask_all(
        &self,
        steps: &mut JoinSet<(bool, Step)>,
        asked: &mut HashSet<usize>,
        is_first: bool,
        dialer: &Dialer,
    ) {
        for (i, sentinel) in self.sentinels.iter().enumerate() {
            if !asked.insert(i) {
                continue;
            }
            let (sentinel, name) = (sentinel.clone(), Arc::clone(&self.name));
            let dialer = dialer.clone();
            steps.spawn(async move {
                let step = match name_of_master(&sentinel, &name, &dialer).await {
                    Ok(address) => Step::Named(i, address),
                    Err(why) => Step::NotNamed(i, why),
                };
                (is_first, step)
            });
        }
    }
}

async fn name_of_master(
    sentinel: &ConnectionInfo,
    name: &str,
    dialer: &Dialer,
) -> RedisResult<Address> {
    let mut connection = dialer.dial(sentinel).await?;
    let mut question = cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let address: Option<(String, u16)> = dialer.ask(&mut connection, &question).await?;
    let (host, port) = address.ok_or((ErrorKind::MasterNameNotFoundBySentinel, "unknown name"))?;
    Ok(Address { host, port })
}

/// A Sentinel may not have learnt of a failover yet, or a server of its demotion.
async fn connect_to_master(
    server: &ConnectionInfo,
    dialer: &Dialer,
) -> RedisResult<MultiplexedConnection> {
    let mut connection = dialer.dial(server).await?;
    let role: Vec<Value> = dialer.ask(&mut connection, &cmd("ROLE")).await?;
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
        _ => Err((ErrorKind::Client, "not a master").into()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use test_support::fake_redis;

    use super::*;

    /// The questions that the Sentinel which is well was asked.
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static RESOLVED: AtomicUsize = AtomicUsize::new(0);
    static IS_OVER: AtomicBool = AtomicBool::new(false);

    const PATIENT: Duration = Duration::from_secs(30);

    /// More than were asked in the time of a TCP connection.
    const FAILOVER: usize = 12;

    /// Hangs until the master has been found.
    fn resolve(_host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        RESOLVED.fetch_add(1, Ordering::Relaxed);
        while !IS_OVER.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Vec::new())
    }

    fn info(url: &str) -> ConnectionInfo {
        url.parse().unwrap()
    }

    /// Sentinels at these ports, given so long for an answer.
    async fn connect(sentinels: &[u16], command_timeout: Duration) -> RedisError {
        let sentinels = sentinels.iter();
        let sentinels = Sentinels {
            sentinels: sentinels
                .map(|port| info(&format!("redis://127.0.0.1:{port}")))
                .collect(),
            name: "sessions".into(),
            master: info("redis://master.test"),
        };
        let dialer = Dialer {
            connect_timeout: PATIENT,
            command_timeout,
            ..Dialer::default()
        };
        let connected = timeout(PATIENT, sentinels.connect(&dialer)).await;
        connected.expect("it comes to an end").err().unwrap()
    }

    /// A Sentinel's word for the master.
    fn named(port: u16) -> Vec<u8> {
        let port = port.to_string();
        let host = "$9\r\n127.0.0.1";
        format!("*2\r\n{host}\r\n${}\r\n{port}\r\n", port.len()).into_bytes()
    }

    #[tokio::test]
    async fn a_server_that_a_sentinel_names_but_is_no_master_is_not_taken() {
        let replica = fake_redis::start(|command| {
            (command == "ROLE").then(|| b"*1\r\n$5\r\nslave\r\n".to_vec())
        });
        let sentinel =
            fake_redis::start(move |command| (command == "SENTINEL").then(|| named(replica)));
        let error = connect(&[sentinel], PATIENT).await.to_string();
        let said = format!("127.0.0.1:{replica}: not a master");
        assert!(error.contains(&said), "{error}");
    }

    #[tokio::test]
    async fn what_hangs_in_a_later_round_is_not_waited_for() {
        let unknown = |questions: usize| {
            let asked = AtomicUsize::new(0);
            fake_redis::start(move |command| {
                if command != "SENTINEL" {
                    return None;
                }
                if asked.fetch_add(1, Ordering::Relaxed) >= questions {
                    thread::sleep(2 * PATIENT);
                }
                Some(b"*-1\r\n".to_vec())
            })
        };
        // The second is asked once more before the time of the first is over.
        let limit = 3 * Sentinels::NEXT_ROUND;
        let error = connect(&[unknown(0), unknown(2)], limit).await.to_string();
        assert!(error.contains("no answer within 1.5s"), "{error}");
    }

    #[tokio::test]
    async fn a_sentinel_that_is_well_is_asked_until_the_failover_is_over_and_one_that_hangs_once() {
        let master = fake_redis::start(|command| match command {
            "ROLE" => Some(b"*1\r\n$6\r\nmaster\r\n".to_vec()),
            _ => None,
        });
        let sentinel = fake_redis::start(move |command| {
            let question =
                (command == "SENTINEL").then(|| ASKED.fetch_add(1, Ordering::Relaxed))?;
            let port = if question + 1 < FAILOVER { 1 } else { master };
            Some(named(port))
        });
        let well = format!("redis://127.0.0.1:{sentinel}");
        let sentinels = Sentinels {
            sentinels: vec![info("redis://sentinel.test"), info(&well)],
            name: "sessions".into(),
            master: info("redis://master.test"),
        };
        let dialer = Dialer {
            name_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(30),
            resolve,
            ..Dialer::default()
        };
        let connected = sentinels.connect(&dialer).await;
        IS_OVER.store(true, Ordering::Relaxed);
        assert!(connected.is_ok());
        assert_eq!(RESOLVED.load(Ordering::Relaxed), 1);
    }
}
