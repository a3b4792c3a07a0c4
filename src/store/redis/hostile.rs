//! A server that is broken, or in the hands of an enemy.

use std::thread;
use std::time::{Duration, Instant};

use test_support::fake_redis;
use tokio::runtime::Builder;

use super::RedisStore;
use crate::stats::{StoreHealth, StoreTrouble};
use crate::store::{SharedStore, StoreKey};

pub(super) const PATIENT: Duration = Duration::from_secs(30);

/// A store on a server that replies so to this command.
fn store(hostile: &'static str, reply: &str) -> RedisStore {
    let reply = reply.as_bytes().to_vec();
    let port = fake_redis::start(move |command| (command == hostile).then(|| reply.clone()));
    RedisStore::new(&format!("redis://127.0.0.1:{port}")).unwrap()
}

pub(super) fn until(store: &RedisStore, reached: impl Fn(&StoreHealth) -> bool) {
    let start = Instant::now();
    while !reached(&store.health()) {
        assert!(start.elapsed() < PATIENT, "{:?}", store.health());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_reply_that_cannot_be_read_is_told_as_trouble_and_harms_nothing() {
    let nested = "*1\r\n".repeat(100_000);
    for reply in [
        "\0\0\r\n",
        "$-2147483648\r\nx\r\n",
        "%-1\r\n",
        "|9223372036854775807\r\n+\r\n",
        "*2147483647\r\n$2147483647\r\n",
        "$9223372036854775807\r\n",
        &nested,
    ] {
        let store = store("GETDEL", reply);
        until(&store, |health| health.trouble.is_some());
    }
}

#[test]
fn a_full_server_that_may_not_be_read_is_of_no_use() {
    let port = fake_redis::start(|command| match command {
        "SET" => Some(b"-OOM command not allowed\r\n".to_vec()),
        "GET" => Some(b"-NOPERM no permissions\r\n".to_vec()),
        _ => None,
    });
    let store = RedisStore::new(&format!("redis://127.0.0.1:{port}")).unwrap();
    until(&store, |health| health.trouble.is_some());
    let health = store.health();
    assert_eq!(health.trouble, Some(StoreTrouble::NotPermitted));
    assert!(health.is_down);
}

#[test]
fn a_value_of_another_type_is_no_session() {
    let runtime = Builder::new_current_thread().build().unwrap();
    for reply in [
        ":7\r\n",
        "%1\r\n+a\r\n+b\r\n",
        ">2\r\n+x\r\n+y\r\n:7\r\n",
        "*1\r\n_\r\n",
        "-WRONGTYPE not a string\r\n",
    ] {
        let store = store("GETDEL", reply);
        let key = StoreKey([7; StoreKey::LEN]);
        let found = runtime.block_on(store.claim(&key, PATIENT));
        assert!(!matches!(found, Ok(Some(_))), "{reply}: {found:?}");
    }
}
