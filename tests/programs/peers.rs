//! Clients of other libraries against `echo_server`: OpenSSL, GnuTLS, Python and curl; and the same
//! events with this crate and with rustls's own storage, side by side.

use std::fmt::Write as _;
use std::fs;
use std::thread;

use example_support::client::{self, Client, ClientOptions};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use test_support::clients::{Target, Told};
use test_support::echo_server::{Conn, EchoProcess};
use tokio::runtime::Runtime;

pub(crate) const MODES: [&str; 4] = ["tickets", "stateful", "builtin-tickets", "builtin-stateful"];

/// What each client resumed by when it came back.
///
/// curl asks for no tickets in TLS 1.2. OpenSSL's `-reconnect` does not wait for those of TLS 1.3.
const WHO_RESUMES: &str = "
client                  tickets     stateful       builtin-tickets  builtin-stateful
openssl 1.2 ticket      ticket      session_id     resumed          resumed
openssl 1.2 session ID  session_id  session_id     resumed          resumed
openssl 1.2 -reconnect  ticket x5   session_id x5  resumed x5       resumed x5
openssl 1.3 AES-128     ticket      cache          resumed          resumed
openssl 1.3 AES-256     ticket      cache          resumed          resumed
openssl 1.3 ChaCha20    ticket      cache          resumed          resumed
openssl 1.3 -reconnect  full x5     full x5        full x5          full x5
gnutls 1.2 ticket       ticket      session_id     resumed          resumed
gnutls 1.2 session ID   session_id  session_id     resumed          resumed
gnutls 1.3              ticket      cache          resumed          resumed
python 1.2 ticket       ticket      session_id     resumed          resumed
python 1.2 session ID   session_id  session_id     resumed          resumed
python 1.3              ticket      cache          resumed          resumed
curl 1.2                session_id  session_id     resumed          resumed
curl 1.3                ticket      cache          resumed          resumed
";

type Peer = (&'static str, fn(&Target<'_>) -> Told);

const PEERS: [Peer; 15] = [
    ("openssl 1.2 ticket", |to| to.openssl(&["-tls1_2"])),
    ("openssl 1.2 session ID", |to| {
        to.openssl(&["-tls1_2", "-no_ticket"])
    }),
    ("openssl 1.2 -reconnect", |to| {
        to.openssl_reconnect("-tls1_2")
    }),
    ("openssl 1.3 AES-128", |to| {
        to.openssl_suite("TLS_AES_128_GCM_SHA256")
    }),
    ("openssl 1.3 AES-256", |to| {
        to.openssl_suite("TLS_AES_256_GCM_SHA384")
    }),
    ("openssl 1.3 ChaCha20", |to| {
        to.openssl_suite("TLS_CHACHA20_POLY1305_SHA256")
    }),
    ("openssl 1.3 -reconnect", |to| {
        to.openssl_reconnect("-tls1_3")
    }),
    ("gnutls 1.2 ticket", |to| to.gnutls("1.2", "")),
    ("gnutls 1.2 session ID", |to| {
        to.gnutls("1.2", ":%NO_TICKETS")
    }),
    ("gnutls 1.3", |to| to.gnutls("1.3", "")),
    ("python 1.2 ticket", |to| to.python("TLSv1_2", "")),
    ("python 1.2 session ID", |to| {
        to.python("TLSv1_2", "OP_NO_TICKET")
    }),
    ("python 1.3", |to| to.python("TLSv1_3", "")),
    ("curl 1.2", |to| to.curl("1.2")),
    ("curl 1.3", |to| to.curl("1.3")),
];

#[test]
fn clients_of_other_libraries_resume_in_every_mode() {
    let columns = in_every_mode(|mode| {
        let server = EchoProcess::start(&["--resumption", mode]);
        let column: Vec<_> = PEERS.iter().map(|peer| came_back(peer, &server)).collect();
        assert_eq!(server.stop().failed, 0, "{mode}");
        column
    });
    let names = PEERS.map(|(name, _)| name);
    let table = table("client", &names, &columns);
    assert!(table == WHO_RESUMES, "{table}");
}

/// What a client resumed by when it came back, once or more often.
fn came_back((name, visit): &Peer, server: &EchoProcess) -> String {
    let told = visit(&Target {
        address: server.address(),
        ca: server.ca(),
    });
    let connections = told.as_ref().map_or(2, Vec::len);
    let conns: Vec<Conn> = (0..connections).map(|_| server.conn()).collect();
    for conn in &conns {
        assert!(name.contains(&conn.version), "{name}: {conn:?}");
    }
    let resumed: Vec<_> = conns.iter().map(|conn| conn.outcome != "full").collect();
    if let Some(told) = told {
        assert_eq!(told, resumed, "{name}: it and the server disagree");
    }
    let (first, others) = conns.split_first().expect("they connect");
    assert_eq!(first.outcome, "full", "{name}");
    let outcome = &others[0].outcome;
    for other in others {
        assert_eq!(&other.outcome, outcome, "{name}");
    }
    match others.len() {
        1 => outcome.clone(),
        len => format!("{outcome} x{len}"),
    }
}

#[test]
fn openssl_sends_early_data_once_a_session() {
    for (mode, by) in [("stateful", "cache"), ("builtin-stateful", "resumed")] {
        let server = EchoProcess::start(&["--resumption", mode, "--early-data", "4096"]);
        let target = Target {
            address: server.address(),
            ca: server.ca(),
        };
        let directory = tempfile::tempdir().unwrap();
        let [session, early] = ["session.pem", "early.txt"].map(|name| {
            let path = directory.path().join(name);
            path.to_str().unwrap().to_owned()
        });
        fs::write(&early, "early bird\n").unwrap();

        target.s_client(&["-tls1_3", "-sess_out", &session]);
        let again = ["-tls1_3", "-sess_in", &session, "-early_data", &early];
        let once = target.s_client(&again);
        assert!(once.contains("Early data was accepted"), "{mode}: {once}");
        let (bird, hello) = (once.find("early bird"), once.find("hello"));
        assert!(bird.is_some() && bird < hello, "{mode}: {once}");
        // What was used is gone: a replay is a full handshake, and its early data is not looked at.
        let replay = target.s_client(&again);
        assert!(
            replay.contains("Early data was rejected"),
            "{mode}: {replay}"
        );
        assert!(!replay.contains("early bird"), "{mode}: {replay}");

        let seen = [(); 3].map(|()| server.conn());
        let seen = seen.map(|conn| (conn.outcome, conn.early));
        let expected = [("full", 0), (by, 11), ("full", 0)];
        assert_eq!(seen, expected.map(|(kind, early)| (kind.to_owned(), early)));
        let sums = server.stop();
        assert_eq!((sums.early, sums.failed), (1, 0), "{mode}");
    }
}

/// What a client resumes by after what happened since its last visit.
///
/// The others are more than rustls's own cache holds. What rustls has of its own is made anew with
/// each configuration, and cannot be rotated or revoked.
const SIDE_BY_SIDE: &str = "
before it came back     tickets  stateful    builtin-tickets  builtin-stateful
1.2 nothing             ticket   session_id  resumed          resumed
1.2 260 others came     ticket   session_id  resumed          full
1.2 rotation            ticket   session_id  cannot           cannot
1.2 certificate reload  ticket   session_id  full             full
1.2 revocation          full     full        cannot           cannot
1.3 nothing             ticket   cache       resumed          resumed
1.3 260 others came     ticket   cache       resumed          full
1.3 rotation            ticket   cache       cannot           cannot
1.3 certificate reload  ticket   cache       full             full
1.3 revocation          full     full        cannot           cannot
";

const OTHERS: usize = 260;

const VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("1.2", &TLS12), ("1.3", &TLS13)];

#[derive(Clone, Copy)]
enum Event {
    Nothing,
    OthersCame,
    Signal(&'static str),
}

const EVENTS: [(&str, Event); 5] = [
    ("nothing", Event::Nothing),
    ("260 others came", Event::OthersCame),
    ("rotation", Event::Signal("USR1")),
    ("certificate reload", Event::Signal("HUP")),
    ("revocation", Event::Signal("USR2")),
];

#[test]
fn sessions_survive_more_than_with_rustls_own_storage() {
    let columns = in_every_mode(|mode| {
        let mut column = Vec::new();
        for (_, version) in VERSIONS {
            let server = EchoProcess::start(&["--resumption", mode]);
            for (_, event) in EVENTS {
                column.push(after(event, &server, version));
            }
        }
        column
    });
    let names: Vec<_> = VERSIONS
        .iter()
        .flat_map(|(version, _)| EVENTS.map(|(name, _)| format!("{version} {name}")))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(table("before it came back", &names, &columns), SIDE_BY_SIDE);
}

/// What a new client resumes by when it comes back after `event`.
fn after(event: Event, server: &EchoProcess, version: &'static SupportedProtocolVersion) -> String {
    let runtime = Runtime::new().unwrap();
    let options = |resume| ClientOptions {
        version,
        resume,
        ..ClientOptions::new(
            vec![server.address()],
            client::read_roots(server.ca()).unwrap(),
        )
    };
    let mut worker = Client::new(options(true)).unwrap().worker();
    runtime.block_on(worker.echo()).unwrap();
    assert_eq!(server.conn().outcome, "full");
    match event {
        Event::Nothing => {}
        Event::OthersCame => {
            let others = Client::new(options(false)).unwrap();
            for result in runtime.block_on(others.run(OTHERS, 8, |_| {})) {
                result.unwrap();
                assert_eq!(server.conn().outcome, "full");
            }
        }
        Event::Signal(signal) => {
            let (said, _) = server.order(signal);
            if said.contains(" failed reason=\"rustls's own sessions cannot be") {
                return "cannot".to_owned();
            }
            assert!(said.ends_with(" ok"), "{said}");
        }
    }
    let resumed = runtime.block_on(worker.echo()).unwrap().handshake.resumed;
    let outcome = server.conn().outcome;
    assert_eq!(outcome != "full", resumed, "the client sees it too");
    outcome
}

/// Runs the same with every mode of the server, at the same time.
pub(crate) fn in_every_mode<T: Send>(run: impl Fn(&str) -> Vec<T> + Sync) -> [Vec<T>; 4] {
    let run = &run;
    thread::scope(|scope| {
        MODES
            .map(|mode| scope.spawn(move || run(mode)))
            .map(|thread| thread.join().unwrap())
    })
}

/// A row for each of `names`, a column for each mode.
pub(crate) fn table(header: &str, names: &[&str], columns: &[Vec<String>; 4]) -> String {
    let names = [&[header], names].concat();
    let columns = MODES.iter().zip(columns).map(|(mode, column)| {
        let cells = column.iter().map(String::as_str);
        [*mode].into_iter().chain(cells).collect()
    });
    let mut lines = vec![String::new(); names.len()];
    for column in [names].into_iter().chain(columns) {
        let width = column.iter().map(|cell| cell.len()).max().unwrap_or(0);
        assert_eq!(column.len(), lines.len());
        for (line, cell) in lines.iter_mut().zip(&column) {
            write!(line, "{cell:<width$}  ").unwrap();
        }
    }
    lines.iter().fold(String::from("\n"), |table, line| {
        table + line.trim_end() + "\n"
    })
}
