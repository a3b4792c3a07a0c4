//! Ten thousand clients come back, again and again, through a flood of strangers and junk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustls::server::{ProducesTickets, StoresServerSessions};
use rustls::version::TLS13;
use rustls::{ServerConfig, ServerConnection};
use rustls_resumption::Resumption;
use test_support::handshake::{FULL, client, client_without_tickets, kind, server_config};
use test_support::hello;
use test_support::session::{id, tls12, tls13};

const CLIENTS: u64 = 10_000;

/// Sessions that the flood stores: five times what the cache holds by default.
const STRANGERS: u64 = 100_000;

/// Handshakes of strangers, and as many ClientHellos of junk.
const HANDSHAKES: u64 = 200;

/// Half come by session ID, half by ticket. Rustls does with them what is done here; its own part
/// of a handshake plays none in this.
struct Server {
    storage: Arc<dyn StoresServerSessions>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl Server {
    /// A client's first visit. It gets a ticket if it speaks them.
    fn welcome(&self, number: u64) -> Option<Vec<u8>> {
        let session = tls12(&number.to_be_bytes());
        if number.is_multiple_of(2) {
            return Some(self.ticketer.encrypt(&session).unwrap());
        }
        assert!(self.storage.put(id(number).to_vec(), session));
        None
    }

    /// Whether it resumes. A ticket is renewed.
    fn resumes(&self, number: u64, ticket: &mut Option<Vec<u8>>) -> bool {
        let found = match ticket {
            Some(ticket) => self.ticketer.decrypt(ticket),
            None => self.storage.get(&id(number)),
        };
        let Some(session) = found else { return false };
        assert_eq!(session, tls12(&number.to_be_bytes()));
        if ticket.is_some() {
            *ticket = self.ticketer.encrypt(&session);
        }
        true
    }

    /// Sessions that nobody asks for, look-ups of none, and tickets of nobody.
    fn flood(&self) {
        for number in 0..STRANGERS {
            let stranger = id(CLIENTS + number);
            match number % 3 {
                0 => self.storage.put(stranger.to_vec(), tls13(b"stranger", b"")),
                _ => self.storage.put(stranger.to_vec(), tls12(b"stranger")),
            };
            let mut junk = stranger.repeat(6);
            assert_eq!(self.storage.get(&junk[1..33]), None);
            assert_eq!(self.storage.take(&junk[2..34]), None);
            assert_eq!(self.ticketer.decrypt(&junk), None);
            let true_head = self.ticketer.encrypt(b"stranger").unwrap();
            junk[..16].copy_from_slice(&true_head[..16]);
            assert_eq!(self.ticketer.decrypt(&junk), None, "of a true key name");
        }
    }
}

fn handshakes(server: &Arc<ServerConfig>) {
    for number in 0..HANDSHAKES {
        let stranger = match number % 2 {
            0 => client(&TLS13),
            _ => client_without_tickets(),
        };
        assert_eq!(kind(&stranger, server), FULL);
        let identities: Vec<_> = (0..8).map(|i| id(u64::MAX - 8 * number - i)).collect();
        let hello = hello::offering(&identities);
        let mut connection = ServerConnection::new(Arc::clone(server)).unwrap();
        connection.read_tls(&mut hello.as_slice()).unwrap();
        connection.process_new_packets().unwrap();
        assert_eq!(connection.handshake_kind(), Some(FULL));
    }
}

#[test]
fn ten_thousand_clients_resume_through_a_flood_of_strangers_and_junk() {
    let resumption = Resumption::tickets().unwrap();
    let mut config = server_config();
    resumption.install(&mut config, "a");
    let config = Arc::new(config);
    let server = Server {
        storage: Arc::clone(&config.session_storage),
        ticketer: Arc::clone(&config.ticketer),
    };
    let mut tickets: Vec<_> = (0..CLIENTS).map(|number| server.welcome(number)).collect();
    let (mut returned, mut resumed) = (0, 0);
    let mut all_return = || {
        for (number, ticket) in (0..).zip(&mut tickets) {
            returned += 1;
            resumed += u64::from(server.resumes(number, ticket));
        }
    };
    all_return();
    let floods = AtomicU64::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            server.flood();
            floods.fetch_sub(1, Ordering::Relaxed);
        });
        scope.spawn(|| {
            handshakes(&config);
            floods.fetch_sub(1, Ordering::Relaxed);
        });
        while floods.load(Ordering::Relaxed) > 0 {
            all_return();
        }
    });
    all_return();
    println!("{}", resumption.stats());
    println!("figure: {resumed} of {returned} resumed");
    assert!(returned >= 3 * CLIENTS);
    assert_eq!(resumed, returned);
    let evicted = resumption.stats().cache.evictions.entries;
    assert!(evicted > STRANGERS / 2, "the flood went over it: {evicted}");
}
