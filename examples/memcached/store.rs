use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use rustls_resumption::store::{SharedStore, StoreError, StoreKey, StoreLookup};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Requests that may wait. Further ones are refused: no handshake may wait for room.
const MAX_WAITING: usize = 1_024;

/// Each serves one request at a time.
const CONNECTIONS: usize = 8;

const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// memcached takes more seconds for a date.
const MAX_TTL: u64 = 30 * 24 * 60 * 60;

/// memcached's own limit for a value.
const MAX_LEN: usize = 1024 * 1024;

/// Sessions in a memcached server, which is spoken with on a thread of its own, so that look-ups
/// depend on no runtime of their caller's.
///
/// memcached has no command that gets and deletes. A claim gets the value with its CAS token, which
/// no other value ever has, and then deletes the key if that still has this token: memcached does
/// so for the first who asks, and for nobody else.
pub(crate) struct Memcached {
    requests: Sender<Request>,
}

struct Request {
    key: String,
    task: Task,
    asked: Instant,
    deadline: Duration,
    /// Nobody waits for a write.
    reply: Option<oneshot::Sender<Result<Option<Vec<u8>>, StoreError>>>,
}

enum Task {
    Fetch,
    Claim,
    Write { value: Vec<u8>, ttl: Duration },
}

impl Memcached {
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        let (requests, queue) = mpsc::channel(MAX_WAITING);
        let queue = Arc::new(Mutex::new(queue));
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let serve_all = async move {
            let serve = |_| serve(address, Arc::clone(&queue));
            let mut connections: JoinSet<()> = (0..CONNECTIONS).map(serve).collect();
            while connections.join_next().await.is_some() {}
        };
        let thread = thread::Builder::new().name("memcached".into());
        thread.spawn(move || runtime.block_on(serve_all))?;
        Ok(Self { requests })
    }

    fn look_up(&self, key: &StoreKey, task: Task, deadline: Duration) -> StoreLookup {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            key: key.to_string(),
            task,
            asked: Instant::now(),
            deadline,
            reply: Some(reply),
        };
        let requests = self.requests.clone();
        Box::pin(async move {
            // Not before it is polled: a claim that nobody waits for would lose the session.
            requests.try_send(request).map_err(|_| StoreError::Busy)?;
            answer.await.unwrap_or(Err(StoreError::Unavailable))
        })
    }
}

impl SharedStore for Memcached {
    fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.look_up(key, Task::Fetch, deadline)
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.look_up(key, Task::Claim, deadline)
    }

    fn write(&self, key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        let request = Request {
            key: key.to_string(),
            task: Task::Write { value, ttl },
            asked: Instant::now(),
            deadline: WRITE_TIMEOUT,
            reply: None,
        };
        self.requests.try_send(request).is_ok()
    }

    fn name(&self) -> &'static str {
        "memcached"
    }
}

/// Serves requests over one connection until no handle is left. What fails is not repeated: it may
/// have been done.
async fn serve(address: SocketAddr, queue: Arc<Mutex<Receiver<Request>>>) {
    let mut idle = None;
    while let Some(request) = next(&queue).await {
        let Request { key, task, .. } = request;
        if request
            .reply
            .as_ref()
            .is_some_and(oneshot::Sender::is_closed)
        {
            continue; // the caller has given up
        }
        let exchange = async {
            let mut connection = match idle.take() {
                Some(connection) => connection,
                None => Connection::open(address).await?,
            };
            let found = connection.exchange(&key, task).await?;
            idle = Some(connection); // what was read to the end, and well, can be used again
            io::Result::Ok(found)
        };
        let left = request.deadline.saturating_sub(request.asked.elapsed());
        let outcome = match timeout(left, exchange).await {
            Ok(outcome) => outcome.map_err(|error| StoreError::Failed(error.into())),
            Err(_) => Err(StoreError::TimedOut),
        };
        if let Some(reply) = request.reply {
            let _ = reply.send(outcome);
        }
    }
}

async fn next(queue: &Mutex<Receiver<Request>>) -> Option<Request> {
    queue.lock().await.recv().await
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    async fn exchange(&mut self, key: &str, task: Task) -> io::Result<Option<Vec<u8>>> {
        match task {
            Task::Fetch => Ok(self.get(key).await?.map(|(value, _)| value)),
            Task::Claim => {
                let Some((value, token)) = self.get(key).await? else {
                    return Ok(None);
                };
                Ok(self.delete(key, &token).await?.then_some(value))
            }
            Task::Write { value, ttl } => self.set(key, &value, ttl).await.map(|()| None),
        }
    }

    /// The value and its CAS token.
    async fn get(&mut self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        let answer = self.ask(format!("mg {key} v c\r\n").as_bytes()).await?;
        if answer == "EN" {
            return Ok(None);
        }
        let found = answer
            .strip_prefix("VA ")
            .and_then(|it| it.split_once(" c"));
        let Some((Ok(len @ 0..=MAX_LEN), token)) = found.map(|(len, token)| (len.parse(), token))
        else {
            return Err(io::Error::other(answer));
        };
        let mut value = vec![0; len + "\r\n".len()];
        self.0.read_exact(&mut value).await?;
        value.truncate(len);
        Ok(Some((value, token.to_owned())))
    }

    /// Deletes the value that has this CAS token. False if it is gone.
    async fn delete(&mut self, key: &str, token: &str) -> io::Result<bool> {
        let answer = self
            .ask(format!("md {key} C{token}\r\n").as_bytes())
            .await?;
        match answer.as_str() {
            "HD" => Ok(true),
            "NF" | "EX" => Ok(false),
            _ => Err(io::Error::other(answer)),
        }
    }

    async fn set(&mut self, key: &str, value: &[u8], ttl: Duration) -> io::Result<()> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let ttl = seconds.clamp(1, MAX_TTL);
        let command = format!("ms {key} {} T{ttl}\r\n", value.len());
        let command = [command.as_bytes(), value, b"\r\n"].concat();
        match self.ask(&command).await?.as_str() {
            "HD" => Ok(()),
            other => Err(io::Error::other(other)),
        }
    }

    /// Sends a command. Returns the first line of the answer.
    async fn ask(&mut self, command: &[u8]) -> io::Result<String> {
        self.0.write_all(command).await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
