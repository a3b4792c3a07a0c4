//! Reads, writes and waits for one handshake, on whatever stream. What is done between is in the
//! parent.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::task::{Context, Poll};

use rustls::ServerConnection;

use super::early_data::RefusedEarlyData;
use super::{Accepting, Greeting, Hello, Refused};

/// A stream with a client at its other end.
pub(super) trait Transport {
    /// Whether it blocks where others are pending.
    const BLOCKS: bool;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnMut(&mut dyn Read) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>>;

    fn poll_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnMut(&mut dyn Write) -> io::Result<T>,
    ) -> Poll<io::Result<T>>;
}

pub(super) async fn read_hello(io: &mut impl Transport) -> io::Result<Hello> {
    let mut greeting = Greeting::default();
    loop {
        read_some(io, |io| greeting.read(io)).await?;
        match greeting.hello() {
            Ok(Some(hello)) => return Ok(hello),
            Ok(None) => {}
            Err(refused) => return Err(refuse(io, refused).await),
        }
    }
}

impl Accepting {
    /// Does the handshake until the ClientHello that counts is processed and the application, if it
    /// wants, has had its say; where early data is refused, until its end.
    pub(super) async fn drive<F>(
        &mut self,
        hello: Hello,
        io: &mut impl Transport,
        say: Option<F>,
    ) -> io::Result<Box<ServerConnection>>
    where
        F: FnOnce(&mut ServerConnection),
    {
        let Hello {
            accepted, mut rest, ..
        } = hello;
        let mut connection = match self.begin(accepted) {
            Ok(connection) => connection,
            Err(refused) => return Err(refuse(io, refused).await),
        };
        let mut early_data = self.refused_early_data(&mut connection, &mut rest);
        if let Some(early_data) = &mut early_data {
            self.drop_early_data(io, &mut connection, early_data)
                .await?;
        }
        self.process(io, &mut connection, &rest).await?;
        if self.hello_retry {
            send(io, &mut connection).await?;
            self.process_second_hello(io, &mut connection).await?;
        }
        if let Some(say) = say {
            say(&mut connection);
        }
        if let Some(early_data) = early_data {
            self.finish(io, &mut connection, early_data).await?;
        }
        Ok(connection)
    }

    /// Lets rustls process what was read, and tells the client what it refuses.
    async fn process(
        &mut self,
        io: &mut impl Transport,
        connection: &mut ServerConnection,
        read: &[u8],
    ) -> io::Result<()> {
        let heard = self.hear(connection, read);
        or_alert(io, connection, heard).await
    }

    /// Reads what there is before the server's flight leaves, and the rest of a record that has
    /// begun. Of a stream that blocks it cannot be asked whether there is more than came with the
    /// ClientHello.
    async fn drop_early_data<T: Transport>(
        &mut self,
        io: &mut T,
        connection: &mut ServerConnection,
        early_data: &mut RefusedEarlyData,
    ) -> io::Result<()> {
        loop {
            let others = early_data.others();
            self.process(io, connection, &others).await?;
            if T::BLOCKS && early_data.is_between_records() {
                return Ok(());
            }
            let read = poll_fn(|cx| match io.poll_read(cx, |io| early_data.read(io)) {
                Poll::Pending if early_data.is_between_records() => Poll::Ready(Ok(0)),
                read => read,
            });
            if read.await? == 0 {
                return Ok(());
            }
        }
    }

    /// Waits until rustls has something to say to the second ClientHello.
    async fn process_second_hello(
        &mut self,
        io: &mut impl Transport,
        connection: &mut ServerConnection,
    ) -> io::Result<()> {
        loop {
            // Before it there may be early data that came with the first one.
            let heard = self.go_on(connection);
            if or_alert(io, connection, heard).await? {
                return Ok(());
            }
            read_some(io, |mut io| connection.read_tls(&mut io)).await?;
        }
    }

    /// Does the rest of a handshake, with whole records.
    async fn finish(
        &mut self,
        io: &mut impl Transport,
        connection: &mut ServerConnection,
        mut early_data: RefusedEarlyData,
    ) -> io::Result<()> {
        loop {
            let records = early_data.whole_records();
            self.process(io, connection, &records).await?;
            send(io, connection).await?;
            if !connection.is_handshaking() {
                break;
            }
            read_some(io, |io| early_data.read(io)).await?;
        }
        let rest = early_data.into_rest();
        self.process(io, connection, &rest).await
    }
}

/// Reads once. The end is an error.
async fn read_some(
    io: &mut impl Transport,
    mut read: impl FnMut(&mut dyn Read) -> io::Result<usize>,
) -> io::Result<()> {
    match poll_fn(|cx| io.poll_read(cx, &mut read)).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Sends the alert for what rustls refused. Its error says more than what may go wrong meanwhile.
async fn or_alert<T>(
    io: &mut impl Transport,
    connection: &mut ServerConnection,
    heard: io::Result<T>,
) -> io::Result<T> {
    if heard.is_err() {
        let _ = send(io, connection).await;
    }
    heard
}

/// The same where there is no connection yet.
async fn refuse(io: &mut impl Transport, refused: Refused) -> io::Error {
    let mut alert = refused.alert.as_slice();
    while !alert.is_empty() {
        match poll_fn(|cx| io.poll_write(cx, |io| io.write(alert))).await {
            Ok(len) if len > 0 => alert = alert.get(len..).unwrap_or_default(),
            _ => return refused.error,
        }
    }
    let _ = flush(io).await;
    refused.error
}

/// Sends what rustls has to say.
pub(super) async fn send(
    io: &mut impl Transport,
    connection: &mut ServerConnection,
) -> io::Result<()> {
    while connection.wants_write() {
        let write = poll_fn(|cx| io.poll_write(cx, |mut io| connection.write_tls(&mut io)));
        if write.await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    flush(io).await
}

async fn flush(io: &mut impl Transport) -> io::Result<()> {
    poll_fn(|cx| io.poll_write(cx, |io| io.flush())).await
}
