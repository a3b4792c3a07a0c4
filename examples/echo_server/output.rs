//! Standard output that does not block handshakes.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Writes to standard output on its own thread, so that a slow reader does not block the server.
/// Messages beyond [`CAPACITY`] unread ones are dropped and counted.
#[derive(Clone)]
pub(crate) struct Output {
    messages: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// How many messages wait for a slow reader.
const CAPACITY: usize = 4_096;

enum Message {
    Text(String),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

impl Output {
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub(crate) fn new() -> io::Result<Self> {
        let (messages, receiver) = sync_channel(CAPACITY);
        let lost = Arc::<AtomicU64>::default();
        let output = Self {
            messages,
            lost: Arc::clone(&lost),
        };
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || write(&receiver, &lost))?;
        Ok(output)
    }

    /// Writes some lines, soon.
    pub(crate) fn write(&self, text: String) {
        if self.messages.try_send(Message::Text(text)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, at most this long.
    pub(crate) fn flush(&self, deadline: Duration) {
        let (done, wait) = sync_channel(1);
        if self.messages.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(deadline);
        }
    }
}

/// Errors are ignored: if the reader is gone, the server goes on.
fn write(messages: &Receiver<Message>, lost: &AtomicU64) {
    let mut stdout = io::stdout().lock();
    for message in messages {
        let _ = match message {
            Message::Text(text) => writeln!(stdout, "{text}").and_then(|()| stdout.flush()),
            Message::Flush(done) => {
                let _ = done.send(());
                Ok(())
            }
        };
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(stdout, "lost lines={lost}");
        }
    }
}
