use std::collections::HashSet;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ConnectionInfo, ErrorKind, RedisError, RedisResult, Value, cmd, from_redis_value_ref};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::address::Address;
use super::dial::Dialer;
use super::words::harmless;

/// A Redis Cluster, and how its nodes are spoken with.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(super) seeds: Vec<ConnectionInfo>,
    pub(super) dialer: Dialer,
}

/// Which master has which slots.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Slots(Vec<Range>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Range {
    first: u16,
    last: u16,
    master: Address,
    replicas: Vec<Address>,
}

impl Cluster {
    /// How many slots there are, from 0.
    const SLOTS: u16 = 16_384;

    /// How many nodes a cluster has at most, as Redis is specified.
    pub(crate) const MAX_NODES: usize = 1_000;

    /// How many replicas of a range are kept. They are asked for the slots, of which two tell enough;
    /// a server may list as many as it likes, and the nodes of a map are bounded, but not how often
    /// it names each.
    const MAX_REPLICAS: usize = 8;

    /// How long a better answer is waited for.
    const SECOND_BEST_PATIENCE: Duration = Duration::from_millis(300);

    /// A node that was named by another: spoken with as the first that was configured.
    pub(crate) fn node(&self, address: &Address) -> Option<ConnectionInfo> {
        Some(address.in_place_of(self.seeds.first()?))
    }

    pub(crate) fn seeds(&self) -> &[ConnectionInfo] {
        &self.seeds
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Has names resolved by this runtime, whichever connects.
    pub(crate) fn resolved_by(mut self, resolver: &Handle) -> Self {
        self.dialer.resolver = Some(resolver.clone());
        self
    }

    pub(crate) async fn connect(
        &self,
        node: &ConnectionInfo,
    ) -> RedisResult<MultiplexedConnection> {
        self.dialer.dial(node).await
    }

    /// Asks these nodes at once. The first answer is taken in which no suspect has a slot; if there
    /// is none soon, one in which a suspect has, for it may be well again.
    pub(crate) async fn slots(
        &self,
        asked: impl IntoIterator<Item = ConnectionInfo>,
        suspects: &HashSet<Address>,
    ) -> RedisResult<Slots> {
        let mut answers = JoinSet::new();
        for node in asked {
            let dialer = self.dialer.clone();
            answers.spawn(async move {
                let slots = slots_of(&node, &dialer).await;
                slots.map_err(|why| format!("{}: {}", node.addr(), harmless(&why.to_string())))
            });
        }
        let mut second_best = None;
        let mut errors = Vec::new();
        loop {
            let patience = match second_best {
                Some(_) => Self::SECOND_BEST_PATIENCE,
                None => Duration::MAX,
            };
            let Ok(Some(answer)) = timeout(patience, answers.join_next()).await else {
                break;
            };
            match answer {
                Ok(Ok(slots)) if slots.masters().iter().any(|node| suspects.contains(node)) => {
                    second_best = Some(slots);
                }
                Ok(Ok(slots)) => return Ok(slots),
                Ok(Err(error)) => errors.push(error),
                Err(panicked) => errors.push(panicked.to_string()),
            }
        }
        errors.sort_unstable();
        second_best.ok_or_else(|| {
            let what = "no node tells of the cluster's slots";
            RedisError::from((
                ErrorKind::ClusterConnectionNotFound,
                what,
                errors.join("; "),
            ))
        })
    }
}

async fn slots_of(node: &ConnectionInfo, dialer: &Dialer) -> RedisResult<Slots> {
    let mut connection = dialer.dial(node).await?;
    let mut question = cmd("CLUSTER");
    let answer: Value = dialer.ask(&mut connection, question.arg("SLOTS")).await?;
    let own = Address::of(node);
    let slots = Slots::parse(&answer, own.as_ref());
    slots.ok_or_else(|| (ErrorKind::Client, "its slots cannot be read").into())
}

impl Slots {
    /// The answer to `CLUSTER SLOTS`. A node that does not know its own address leaves it out.
    fn parse(answer: &Value, own: Option<&Address>) -> Option<Self> {
        let Value::Array(ranges) = answer else {
            return None;
        };
        let parse = |range: &Value| {
            let Value::Array(range) = range else {
                return None;
            };
            let [Value::Int(first), Value::Int(last), master, replicas @ ..] = range.as_slice()
            else {
                return None;
            };
            Some(Range {
                first: u16::try_from(*first).ok()?,
                last: u16::try_from(*last).ok()?,
                master: parse_node(master, own)?,
                replicas: replicas
                    .iter()
                    .filter_map(|node| parse_node(node, own))
                    .take(Cluster::MAX_REPLICAS)
                    .collect(),
            })
        };
        let mut ranges: Vec<_> = ranges.iter().map(parse).collect::<Option<_>>()?;
        ranges.sort_unstable_by_key(|range| range.first);
        let are_apart = ranges.windows(2).all(|pair| match pair {
            [one, next] => one.last < next.first,
            _ => false,
        });
        let is_range = |range: &Range| range.first <= range.last && range.last < Cluster::SLOTS;
        let is_sound = !ranges.is_empty() && are_apart && ranges.iter().all(is_range);
        let slots = Self(ranges);
        (is_sound && slots.nodes().len() <= Cluster::MAX_NODES).then_some(slots)
    }

    /// The master that has a slot.
    pub(crate) fn master_of(&self, slot: u16) -> Option<&Address> {
        let above = self.0.partition_point(|range| range.first <= slot);
        let range = self.0.get(above.checked_sub(1)?)?;
        (slot <= range.last).then_some(&range.master)
    }

    /// Whether each slot has a master.
    pub(crate) fn are_all_covered(&self) -> bool {
        let mut next = 0;
        self.0.iter().all(|range| {
            let is_next = range.first == next;
            next = range.last.saturating_add(1);
            is_next
        }) && next == Cluster::SLOTS
    }

    pub(crate) fn masters(&self) -> HashSet<&Address> {
        self.0.iter().map(|range| &range.master).collect()
    }

    pub(crate) fn nodes(&self) -> HashSet<&Address> {
        let nodes = self.0.iter();
        nodes
            .flat_map(|range| range.replicas.iter().chain([&range.master]))
            .collect()
    }
}

#[cfg(test)]
impl Slots {
    /// Of servers on loopback: the first and the last slot of each range, and the ports of its master
    /// and replicas.
    pub(crate) fn on_loopback(ranges: &[(u16, u16, &[u16])]) -> Self {
        let address = |port: &u16| Address {
            host: "127.0.0.1".into(),
            port: *port,
        };
        let range = |(first, last, ports): &(u16, u16, &[u16])| Range {
            first: *first,
            last: *last,
            master: address(&ports[0]),
            replicas: ports[1..].iter().map(address).collect(),
        };
        Self(ranges.iter().map(range).collect())
    }
}

fn parse_node(node: &Value, own: Option<&Address>) -> Option<Address> {
    let Value::Array(node) = node else {
        return None;
    };
    let [host, port, ..] = node.as_slice() else {
        return None;
    };
    let host: Option<String> = from_redis_value_ref(host).ok()?;
    let port: u16 = from_redis_value_ref(port).ok()?;
    let host = match host.filter(|host| !host.is_empty()) {
        Some(unknown) if unknown == "?" => return None,
        Some(host) => host,
        None => own?.host.clone(),
    };
    Some(Address { host, port })
}

/// The slot of a key: of the part in braces, if there is one.
pub(crate) fn slot_of(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let hashed = match tag {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    };
    crc16(hashed.as_bytes()) % Cluster::SLOTS
}

/// CRC-16/XMODEM, by which Redis Clusters divide keys.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let polynomial = if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            (crc << 1) ^ polynomial
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address {
            host: host.into(),
            port,
        }
    }

    fn node(host: Option<&str>, port: i64) -> Value {
        let host = host.map_or(Value::Nil, |host| Value::BulkString(host.into()));
        Value::Array(vec![host, Value::Int(port), Value::BulkString("id".into())])
    }

    #[test]
    fn keys_fall_into_the_slots_that_redis_says() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), 12_182);
        assert_eq!(
            slot_of("{user1000}.following"),
            slot_of("{user1000}.followers")
        );
        assert_eq!(slot_of("foo{}{bar}"), crc16(b"foo{}{bar}") % Cluster::SLOTS);
        assert_eq!(slot_of("foo{{bar}}zap"), crc16(b"{bar") % Cluster::SLOTS);
        assert_eq!(slot_of("foo{bar"), crc16(b"foo{bar") % Cluster::SLOTS);
    }

    #[test]
    fn a_map_of_slots_names_masters_and_replicas() {
        let range = |first, last, nodes: Vec<Value>| {
            Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
        };
        let answer = Value::Array(vec![
            range(
                0,
                99,
                vec![node(Some("a"), 1), node(Some("b"), 2), node(Some("?"), 3)],
            ),
            range(100, 16_383, vec![node(None, 4), node(Some(""), 5)]),
        ]);
        let own = address("own", 4);
        let slots = Slots::parse(&answer, Some(&own)).unwrap();
        assert_eq!(slots.master_of(99), Some(&address("a", 1)));
        assert_eq!(slots.master_of(100), Some(&own));
        assert!(slots.are_all_covered());
        assert_eq!(slots.masters(), [&address("a", 1), &own].into());
        assert_eq!(slots.nodes().len(), 4);
        let holes = Value::Array(vec![
            range(7, 9, vec![node(Some("b"), 2)]),
            range(0, 5, vec![node(Some("a"), 1)]),
        ]);
        let slots = Slots::parse(&holes, None).unwrap();
        let master = |slot| slots.master_of(slot).map(|node| node.port);
        assert_eq!(
            [0, 5, 6, 7, 9, 10].map(master),
            [Some(1), Some(1), None, Some(2), Some(2), None]
        );
        assert!(!slots.are_all_covered());
        assert_eq!(Slots::parse(&Value::Array(vec![]), Some(&own)), None);
        assert_eq!(Slots::parse(&answer, None), None);
        assert_eq!(Slots::parse(&Value::Nil, None), None);
    }

    #[test]
    fn so_many_replicas_of_a_range_are_kept_and_no_more() {
        let range = |first, last| {
            let master = node(Some("a"), 1);
            let replicas = (0..100).map(|i| node(Some("b"), i));
            let nodes = [Value::Int(first), Value::Int(last), master];
            Value::Array(nodes.into_iter().chain(replicas).collect())
        };
        let answer = Value::Array(vec![range(0, 99), range(100, 16_383)]);
        let slots = Slots::parse(&answer, None).unwrap();
        let kept = slots.0.iter().map(|range| range.replicas.len());
        assert_eq!(kept.collect::<Vec<_>>(), [8, 8]);
        assert_eq!(slots.nodes().len(), 1 + 8);
    }

    #[test]
    fn all_slots_are_covered_from_the_first_to_the_last() {
        for (ranges, all) in [
            (&[(0, 16_383)][..], true),
            (&[(0, 99), (100, 16_383)], true),
            (&[(0, 98), (100, 16_383)], false),
            (&[(1, 16_383)], false),
            (&[(0, 16_382)], false),
        ] {
            let ranges: Vec<_> = ranges
                .iter()
                .map(|(first, last)| (*first, *last, &[1][..]))
                .collect();
            assert_eq!(Slots::on_loopback(&ranges).are_all_covered(), all);
        }
    }

    #[test]
    fn a_map_that_no_cluster_can_have_is_refused() {
        let parse = |ranges: &[(i64, i64, i64)]| {
            let range = |&(first, last, port)| {
                let node = node(Some("a"), port);
                Value::Array(vec![Value::Int(first), Value::Int(last), node])
            };
            Slots::parse(&Value::Array(ranges.iter().map(range).collect()), None)
        };
        assert!(parse(&[(0, 16_383, 1)]).is_some());
        assert!(parse(&[(0, 16_384, 1)]).is_none());
        assert!(parse(&[(9, 8, 1)]).is_none());
        assert!(parse(&[(0, 9, 1), (9, 16_383, 2)]).is_none());
        let many = |masters| {
            let ranges: Vec<_> = (0..masters).map(|i| (i, i, i)).collect();
            parse(&ranges)
        };
        assert!(many(1_000).is_some());
        assert!(many(1_001).is_none(), "each would be connected to");
    }
}
