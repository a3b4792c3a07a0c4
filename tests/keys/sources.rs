//! Fleets whose nodes have their STEKs from a source in common.
#![cfg(unix)]

mod derived;
mod files;

use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use rustls_resumption::source::StekSource;
use rustls_resumption::{FakeClock, Resumption, Rotation};
use test_support::handshake::{RESUMED, kind, server_config};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A server, on a clock of its own.
struct Node {
    time: FakeClock,
    resumption: Resumption,
    server: Arc<ServerConfig>,
}

impl Node {
    fn new(source: impl StekSource + 'static, rotation: Rotation, time: FakeClock) -> Self {
        let resumption = Resumption::builder()
            .stek_source(source)
            .rotation(rotation)
            .max_session_age(7 * 24 * HOUR) // so that it is the keys that decide
            .clock(time.clock())
            .build()
            .unwrap();
        let mut server = server_config();
        resumption.install(&mut server, "a");
        Self {
            time,
            resumption,
            server: Arc::new(server),
        }
    }

    fn pass(&self, time: Duration) {
        self.time.advance(time);
        self.resumption.step();
    }
}

/// A clock that is ahead by so much.
fn clock_ahead(by: Duration) -> FakeClock {
    let time = FakeClock::new();
    time.step_forward(by);
    time
}

/// A client that has met some node visits every node in turn, and resumes at each.
fn assert_resumes_everywhere(client: &Arc<ClientConfig>, nodes: &[Node], when: &str) {
    for (i, node) in nodes.iter().enumerate() {
        assert_eq!(kind(client, &node.server), RESUMED, "at node {i} {when}");
    }
}
