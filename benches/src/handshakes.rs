//! TLS handshakes in memory. Only the server's work is timed.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion, version,
};
use rustls_resumption::Resumption;

use crate::client_certificates::ClientCertificate;
use crate::timing::{Costs, Effort, at_once, each, turn_about};

/// How a session is resumed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// TLS 1.2 by session ID.
    Tls12Id,
    /// TLS 1.2 by ticket.
    Tls12Ticket,
    /// TLS 1.3 by single-use session in the server's cache.
    Tls13Stateful,
    /// TLS 1.3 by ticket.
    Tls13Ticket,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Tls12Id,
        Self::Tls12Ticket,
        Self::Tls13Stateful,
        Self::Tls13Ticket,
    ];

    /// Its name in tables and plots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls12Id => "TLS 1.2 by ID",
            Self::Tls12Ticket => "TLS 1.2 by ticket",
            Self::Tls13Stateful => "TLS 1.3 stateful",
            Self::Tls13Ticket => "TLS 1.3 by ticket",
        }
    }

    /// Whether the server keeps the session.
    pub fn stateful(self) -> bool {
        matches!(self, Self::Tls12Id | Self::Tls13Stateful)
    }

    /// The version it belongs to.
    pub fn version(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12Id | Self::Tls12Ticket => &version::TLS12,
            Self::Tls13Stateful | Self::Tls13Ticket => &version::TLS13,
        }
    }
}

/// Which implementation resumes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    /// [`Resumption`].
    Ours,
    /// rustls's own cache of the same capacity, or its `Ticketer`.
    Rustls,
}

impl By {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ours, Self::Rustls];

    /// Its name in tables and plots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "rustls-resumption",
            Self::Rustls => "rustls built-in",
        }
    }
}

/// The key of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum ServerKey {
    /// ECDSA with P-256.
    P256,
    /// RSA with 2048 bits.
    #[value(name = "rsa")]
    Rsa2048,
}

impl ServerKey {
    /// Both.
    pub const ALL: [Self; 2] = [Self::P256, Self::Rsa2048];

    /// Its name in tables and plots.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::Rsa2048 => "RSA-2048",
        }
    }

    /// A new key.
    pub fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
    }
}

/// A server with its certificate, and a client that trusts it.
#[derive(Clone)]
pub struct Site {
    name: ServerName<'static>,
    server: ServerConfig,
    client: ClientConfig,
    /// Of a server that authenticates its clients.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Site {
    /// A server of one version with rustls's defaults in everything else.
    pub fn new(version: &'static SupportedProtocolVersion, key: ServerKey) -> Self {
        Self::with_clients(version, key, None)
    }

    /// A server that insists on certificates of its clients, which have keys like its own.
    pub fn mutual(version: &'static SupportedProtocolVersion, key: ServerKey) -> Self {
        Self::with_clients(version, key, Some(&ClientCertificate::new(key)))
    }

    fn with_clients(
        version: &'static SupportedProtocolVersion,
        key: ServerKey,
        clients: Option<&ClientCertificate>,
    ) -> Self {
        const NAME: &str = "server.example";
        let key = key.generate().expect("the system's randomness failed");
        let certificate = CertificateParams::new([NAME.to_owned()])
            .and_then(|params| params.self_signed(&key))
            .expect("a name that cannot be certified");
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate.der().clone())
            .expect("a certificate that does not parse");

        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = clients.map(|clients| clients.verifier(provider.clone()));
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .expect("a version that the provider lacks");
        let server = match &verifier {
            Some(verifier) => server.with_client_cert_verifier(verifier.clone()),
            None => server.with_no_client_auth(),
        };
        let server = server
            .with_single_cert(vec![certificate.into()], PrivateKeyDer::Pkcs8(key.into()))
            .expect("a certificate that does not fit its key");
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version that the provider lacks")
            .with_root_certificates(roots);
        let client = match clients {
            Some(clients) => clients.shown_by(client),
            None => client.with_no_client_auth(),
        };
        Self {
            name: NAME.try_into().expect("a name that is not one"),
            server,
            client,
            verifier,
        }
    }

    /// The server's configuration for `way` with the implementation `by` and a capacity of
    /// `sessions`.
    pub fn server(&self, way: Way, by: By, sessions: usize) -> ServerConfig {
        let mut config = self.server.clone();
        match (by, way.stateful()) {
            (By::Ours, true) => {
                let resumption = Resumption::stateful(sessions);
                self.install(
                    &resumption.expect("a cache that cannot be made"),
                    &mut config,
                );
            }
            (By::Ours, false) => {
                let resumption = Resumption::tickets();
                self.install(
                    &resumption.expect("the system's randomness failed"),
                    &mut config,
                );
            }
            (By::Rustls, true) => {
                config.session_storage = ServerSessionMemoryCache::new(sessions);
            }
            (By::Rustls, false) => {
                config.ticketer = Ticketer::new().expect("the system's randomness failed");
            }
        }
        config
    }

    /// Installs resumption in a configuration of the server.
    pub fn install(&self, resumption: &Resumption, config: &mut ServerConfig) {
        match self.verifier.clone() {
            Some(verifier) => resumption.install_with_client_verifier(config, "benches", verifier),
            None => resumption.install(config, "benches"),
        }
    }

    /// A session of a real handshake, in rustls's encoding, with so many bytes of application data.
    pub fn session(&self, data: usize) -> Vec<u8> {
        let recorder = Arc::new(Recorder::default());
        let mut server = self.server.clone();
        server.session_storage = recorder.clone();
        self.client().visit_with(&Arc::new(server), |connection| {
            connection.set_resumption_data(&vec![0x5a; data]);
        });
        let mut recorded = recorder.0.lock().expect("a recorder that panicked");
        recorded.pop().expect("no session stored")
    }

    /// The server's configuration as rustls builds it.
    pub fn default_server(&self) -> ServerConfig {
        self.server.clone()
    }

    /// A typical client, which keeps sessions in rustls's own store.
    pub fn client(&self) -> Client {
        let mut config = self.client.clone();
        config.resumption = rustls::client::Resumption::default();
        Client {
            name: self.name.clone(),
            config: Arc::new(config),
        }
    }
}

/// A client and the sessions that it keeps.
#[derive(Clone)]
pub struct Client {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl Client {
    /// A new connection.
    pub fn connection(&self) -> ClientConnection {
        ClientConnection::new(self.config.clone(), self.name.clone())
            .expect("a client configuration that does not work")
    }

    /// Completes a handshake with `server`, tickets included.
    pub fn visit(&self, server: &Arc<ServerConfig>) -> Visit {
        self.visit_with(server, |_| ())
    }

    fn visit_with(
        &self,
        server: &Arc<ServerConfig>,
        prepare: impl FnOnce(&mut ServerConnection),
    ) -> Visit {
        let mut client = self.connection();
        let (mut to_server, mut to_client) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
        write_all(|to| client.write_tls(to), &mut to_server);

        let start = Instant::now();
        let mut server = ServerConnection::new(server.clone())
            .expect("a server configuration that does not work");
        let mut worked = start.elapsed();
        prepare(&mut server);
        while !to_server.is_empty() {
            let start = Instant::now();
            let mut flight = to_server.as_slice();
            while !flight.is_empty() {
                server
                    .read_tls(&mut flight)
                    .expect("reading from memory failed");
                server
                    .process_new_packets()
                    .expect("the server refused the handshake");
            }
            to_client.clear();
            write_all(|to| server.write_tls(to), &mut to_client);
            worked += start.elapsed();

            let mut flight = to_client.as_slice();
            while !flight.is_empty() {
                client
                    .read_tls(&mut flight)
                    .expect("reading from memory failed");
                client
                    .process_new_packets()
                    .expect("the client refused the handshake");
            }
            to_server.clear();
            write_all(|to| client.write_tls(to), &mut to_server);
        }
        assert!(!server.is_handshaking() && !client.is_handshaking());
        Visit {
            resumed: server.handshake_kind() == Some(HandshakeKind::Resumed),
            worked,
        }
    }
}

/// How a visit went.
pub struct Visit {
    /// Whether the session was resumed.
    pub resumed: bool,
    /// How long the server worked, including the creation of its connection.
    pub worked: Duration,
}

fn write_all(mut write: impl FnMut(&mut Vec<u8>) -> io::Result<usize>, buffer: &mut Vec<u8>) {
    while write(buffer).expect("writing to memory failed") > 0 {}
}

/// One thread's clients: they hold sessions of one server and return in random order.
pub struct Crowd {
    client: Client,
    server: Arc<ServerConfig>,
    memory: Arc<Memory>,
    sessions: VecDeque<ClientSession>,
    /// How many of the newest sessions they keep.
    keeps: usize,
    rng: StdRng,
}

impl Crowd {
    /// Clients that have not visited `server` yet and will keep at most `keeps` sessions.
    pub fn new(site: &Site, server: Arc<ServerConfig>, keeps: usize, seed: u64) -> Self {
        let memory = Arc::new(Memory::default());
        let mut config = site.client.clone();
        config.resumption = rustls::client::Resumption::store(memory.clone());
        Self {
            client: Client {
                name: site.name.clone(),
                config: Arc::new(config),
            },
            server,
            memory,
            sessions: VecDeque::new(),
            keeps,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Makes `visits` full handshakes. Returns the server's time.
    pub fn meet(&mut self, visits: usize) -> Duration {
        let mut worked = Duration::ZERO;
        for _ in 0..visits {
            let visit = self.client.visit(&self.server);
            assert!(!visit.resumed, "resumed a session that nobody offered");
            self.keep_received();
            worked += visit.worked;
        }
        worked
    }

    /// Offers random sessions until `visits` of them were resumed. Returns the server's time for
    /// those.
    pub fn come_back(&mut self, visits: usize) -> Duration {
        let mut worked = Duration::ZERO;
        let (mut resumed, mut missed) = (0, 0);
        while resumed < visits {
            let i = self.rng.random_range(0..self.sessions.len());
            self.memory.locked().offer = self.sessions.remove(i);
            let visit = self.client.visit(&self.server);
            self.keep_received();
            if visit.resumed {
                worked += visit.worked;
                resumed += 1;
            } else {
                missed += 1;
                assert!(
                    missed < 10 + visits,
                    "{missed} of {} sessions gone",
                    missed + resumed
                );
            }
        }
        worked
    }

    fn keep_received(&mut self) {
        self.sessions
            .extend(self.memory.locked().received.drain(..));
        let surplus = self.sessions.len().saturating_sub(self.keeps);
        self.sessions.drain(..surplus);
    }
}

/// A crowd for each of `threads`, with real sessions of a server whose cache has a capacity of
/// `room` sessions and is full: the real ones are spread evenly among filler.
pub fn crowds(
    site: &Site,
    (way, by): (Way, By),
    room: usize,
    threads: usize,
    effort: Effort,
) -> Vec<Crowd> {
    let server = Arc::new(site.server(way, by, room));
    // Shards do not fill evenly, so that the fullest one evicts its oldest sessions early. Real
    // ones are not among the oldest fifth.
    let real = (room * 4 / 5).min(effort.operations(20_000));
    let mut crowds: Vec<_> = (0..threads)
        .map(|thread| Crowd::new(site, server.clone(), real / threads, thread as u64))
        .collect();
    let filler = session(way.version(), 130);
    let mut rng = StdRng::seed_from_u64(room as u64);
    let mut fill = |sessions: usize| {
        for _ in 0..sessions {
            let mut id = vec![0; 32];
            rng.fill_bytes(&mut id);
            server.session_storage.put(id, filler.clone());
        }
    };
    if way.stateful() {
        fill(room);
    }
    let between = if way.stateful() { room / real - 1 } else { 0 };
    while crowds
        .iter()
        .any(|crowd| crowd.sessions.len() < crowd.keeps)
    {
        for crowd in &mut crowds {
            let before = crowd.sessions.len();
            crowd.meet(1);
            fill(between * (crowd.sessions.len() - before));
        }
    }
    crowds
}

/// What `work` costs the server per visit, for each contender: way, implementation, capacity of the
/// cache, and visits per round and thread.
pub fn costs<const N: usize>(
    site: &Site,
    contenders: [(Way, By, usize, usize); N],
    threads: usize,
    work: fn(&mut Crowd, usize) -> Duration,
    effort: Effort,
) -> [Costs; N] {
    let contenders = contenders.map(|(way, by, room, visits)| {
        let mut crowds = crowds(site, (way, by), room, threads, effort);
        let visits = effort.operations(visits);
        move || {
            let worked = at_once(&mut crowds, |crowd| work(crowd, visits));
            each(worked.iter().sum(), visits * threads)
        }
    });
    turn_about(effort.rounds(101), contenders)
}

/// A session of a real handshake, in rustls's encoding, padded with application data to `length`
/// bytes (at least 118).
pub fn session(version: &'static SupportedProtocolVersion, length: usize) -> Vec<u8> {
    let site = Site::new(version, ServerKey::P256);
    let least = site.session(0).len();
    site.session(length.checked_sub(least).expect("no session is that short"))
}

/// What a client keeps of a session.
#[derive(Debug)]
enum ClientSession {
    Tls12(Tls12ClientSessionValue),
    Tls13(Tls13ClientSessionValue),
}

impl ClientSession {
    fn is_tls13(&self) -> bool {
        matches!(self, Self::Tls13(_))
    }
}

/// A client's session store that offers the session it is told to offer.
#[derive(Debug, Default)]
struct Memory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    offer: Option<ClientSession>,
    received: Vec<ClientSession>,
}

impl Memory {
    fn locked(&self) -> MutexGuard<'_, Remembered> {
        self.0
            .lock()
            .expect("a thread panicked with a client's memory locked")
    }
}

impl ClientSessionStore for Memory {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.locked().received.push(ClientSession::Tls12(session));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        match self.locked().offer.take_if(|offer| !offer.is_tls13())? {
            ClientSession::Tls12(session) => Some(session),
            ClientSession::Tls13(_) => None,
        }
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.locked().offer = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, session: Tls13ClientSessionValue) {
        self.locked().received.push(ClientSession::Tls13(session));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        match self.locked().offer.take_if(|offer| offer.is_tls13())? {
            ClientSession::Tls12(_) => None,
            ClientSession::Tls13(session) => Some(session),
        }
    }
}

/// A session store that records what it is given.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Vec<u8>>>);

impl StoresServerSessions for Recorder {
    fn put(&self, _: Vec<u8>, session: Vec<u8>) -> bool {
        self.0
            .lock()
            .expect("a recorder that panicked")
            .push(session);
        true
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        true
    }
}
