use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ConnectionInfo, ErrorKind, RedisError, RedisResult, Value, cmd};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::address::Address;
use super::dial::Dialer;

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
    Named(Address),
    NotNamed(String, RedisError),
    Connected(MultiplexedConnection),
    NotMaster(Address, RedisError),
}

impl Sentinels {
    /// How long a round of questions may have led nowhere before another begins.
    const NEXT_ROUND: Duration = Duration::from_millis(500);

    /// So many rounds take longer than the steps of one, by the default limits.
    const MAX_ROUNDS: usize = 10;

    /// A connection to the master.
    ///
    /// All Sentinels are asked at once, so that one that hangs delays nobody, and each server that
    /// any of them names is asked itself: the first that considers itself the master is it. Every
    /// step has its own limit, and there is none on the whole. They are asked again meanwhile, for
    /// a server that hangs may be replaced before its limit is reached.
    pub(super) async fn connect(&self, dialer: Dialer) -> RedisResult<MultiplexedConnection> {
        let mut steps = JoinSet::new();
        self.ask_all(&mut steps, dialer);
        let mut rounds = 1;
        let mut under_way = HashSet::new();
        let mut errors = BTreeMap::new();
        // Whatever is under way ends when the set is dropped.
        while !steps.is_empty() {
            let patience = match rounds {
                Self::MAX_ROUNDS => Duration::MAX,
                _ => Self::NEXT_ROUND,
            };
            let Ok(step) = timeout(patience, steps.join_next()).await else {
                rounds = rounds.saturating_add(1);
                self.ask_all(&mut steps, dialer);
                continue;
            };
            match step {
                Some(Ok(Step::Connected(connection))) => return Ok(connection),
                Some(Ok(Step::Named(address))) if under_way.insert(address.clone()) => {
                    let master = address.in_place_of(&self.master);
                    steps.spawn(async move {
                        match connect_to_master(&master, dialer).await {
                            Ok(connection) => Step::Connected(connection),
                            Err(why) => Step::NotMaster(address, why),
                        }
                    });
                }
                Some(Ok(Step::Named(_))) | None => {}
                Some(Ok(Step::NotNamed(sentinel, why))) => {
                    errors.insert(sentinel, why.to_string());
                }
                Some(Ok(Step::NotMaster(address, why))) => {
                    under_way.remove(&address);
                    errors.insert(address.to_string(), why.to_string());
                }
                Some(Err(panicked)) => {
                    errors.insert(String::new(), panicked.to_string());
                }
            }
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

    fn ask_all(&self, steps: &mut JoinSet<Step>, dialer: Dialer) {
        for sentinel in &self.sentinels {
            let (sentinel, name) = (sentinel.clone(), Arc::clone(&self.name));
            steps.spawn(async move {
                match name_of_master(&sentinel, &name, dialer).await {
                    Ok(address) => Step::Named(address),
                    Err(why) => Step::NotNamed(sentinel.addr().to_string(), why),
                }
            });
        }
    }
}

async fn name_of_master(
    sentinel: &ConnectionInfo,
    name: &str,
    dialer: Dialer,
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
    dialer: Dialer,
) -> RedisResult<MultiplexedConnection> {
    let mut connection = dialer.dial(server).await?;
    let role: Vec<Value> = dialer.ask(&mut connection, &cmd("ROLE")).await?;
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
        _ => Err((ErrorKind::Client, "not a master").into()),
    }
}
