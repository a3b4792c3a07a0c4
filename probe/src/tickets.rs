//! A TLS 1.3 connection that reads the server's NewSessionTickets itself.
//!
//! rustls exposes neither the size nor the lifetime of a TLS 1.3 ticket, and returns each only
//! once. So rustls is used for the handshake alone: the probe decrypts the records after it, and
//! passes each ticket to rustls as often as it wants to offer it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::cipher::{InboundOpaqueMessage, MessageDecrypter};
use rustls::kernel::KernelConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus, WriteTraffic};
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::{self, ConnectError, Place, QUIET};
use crate::session::{Issued, Shelf};
use crate::wire::{self, Message, Record, TicketFacts};

/// Makes a handshake, and returns all tickets that follow it, with `copies` of the first's session.
///
/// `config` allows the extraction of secrets and stores its sessions in `shelf`.
pub(crate) async fn collect(
    config: Arc<ClientConfig>,
    place: &Place,
    shelf: &Shelf,
    copies: usize,
) -> Result<Issued, ConnectError> {
    let address = place.address;
    let mut tcp = connect::tcp(address).await?;
    let read = async {
        let (mut received, mut opener) = handshake(config, place, &mut tcp).await?;
        let mut issued = Issued::default();
        loop {
            while let Some(record) = Record::split_off(&mut received) {
                let Some(tickets) = opener.open(record)? else {
                    return Ok(issued);
                };
                for ticket in tickets {
                    issued.tickets.extend(TicketFacts::of_tls13(&ticket));
                    if issued.copies.is_empty() {
                        for _ in 0..copies {
                            opener.connection.handle_new_session_ticket(&ticket)?;
                        }
                        issued.copies = shelf.take_kept();
                    }
                }
            }
            // A server that has nothing more to send may close the connection, or leave it open.
            match timeout(QUIET, tcp.read_buf(&mut received)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return Ok(issued),
            }
        }
    };
    read.await
        .map_err(|trouble: Trouble| ConnectError::Handshake {
            address,
            source: io::Error::other(trouble),
        })
}

/// Completes a handshake, sends a request and a `close_notify`. Returns what the server has sent
/// after its handshake so far, and the means to decrypt it.
async fn handshake(
    config: Arc<ClientConfig>,
    place: &Place,
    tcp: &mut TcpStream,
) -> Result<(Vec<u8>, Opener), Trouble> {
    let name = place.server_name.clone();
    let request = request(&name.to_str());
    let mut connection = UnbufferedClientConnection::new(config, name)?;
    let mut received = Vec::new();
    let mut to_send = Vec::new();
    loop {
        let UnbufferedStatus { discard, state } = connection.process_tls_records(&mut received);
        let mut read_more = false;
        let mut complete = false;
        match state? {
            ConnectionState::EncodeTlsData(mut data) => {
                let length = match data.encode(&mut []) {
                    Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
                    other => other?,
                };
                let begin = to_send.len();
                to_send.resize(begin + length, 0);
                data.encode(&mut to_send[begin..])?;
            }
            ConnectionState::TransmitTlsData(mut data) => {
                if let Some(mut traffic) = data.may_encrypt_app_data() {
                    say_all(&mut traffic, &request, &mut to_send)?;
                    complete = true;
                }
                tcp.write_all(&to_send).await?;
                to_send.clear();
                data.done();
            }
            ConnectionState::BlockedHandshake => read_more = true,
            other => return Err(format!("{other:?} in a handshake").into()),
        }
        received.drain(..discard);
        if complete {
            // Before rustls processes the records after the handshake.
            return Ok((received, Opener::new(connection)?));
        }
        if read_more && tcp.read_buf(&mut received).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

fn say_all(
    traffic: &mut WriteTraffic<'_, ClientConnectionData>,
    request: &[u8],
    to_send: &mut Vec<u8>,
) -> Result<(), Trouble> {
    let mut records = [0; 1024];
    let length = traffic.encrypt(request, &mut records)?;
    to_send.extend_from_slice(&records[..length]);
    let length = traffic.queue_close_notify(&mut records)?;
    to_send.extend_from_slice(&records[..length]);
    Ok(())
}

/// A request to answer: BoringSSL, for example, sends its tickets only with its first data.
fn request(host: &str) -> Vec<u8> {
    format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Decrypts the server's records after its handshake.
struct Opener {
    connection: KernelConnection<ClientConnectionData>,
    decrypter: Box<dyn MessageDecrypter>,
    sequence_number: u64,
    /// The beginning of a message that continues in a later record.
    handshake: Vec<u8>,
}

impl Opener {
    fn new(connection: UnbufferedClientConnection) -> Result<Self, Trouble> {
        let (secrets, connection) = connection.dangerous_into_kernel_connection()?;
        let (sequence_number, secret) = secrets.rx;
        Ok(Self {
            decrypter: decrypter(connection.negotiated_cipher_suite(), secret)?,
            connection,
            sequence_number,
            handshake: Vec::new(),
        })
    }

    /// Returns the NewSessionTicket messages that end in `record`. None at the end of the stream.
    fn open(&mut self, record: Record) -> Result<Option<Vec<Vec<u8>>>, Trouble> {
        if record.content_type != wire::APPLICATION_DATA {
            return Ok(Some(Vec::new()));
        }
        let mut fragment = Vec::from(record.fragment);
        let opaque = InboundOpaqueMessage::new(
            ContentType::ApplicationData,
            ProtocolVersion::TLSv1_2,
            &mut fragment,
        );
        let plain = self.decrypter.decrypt(opaque, self.sequence_number)?;
        self.sequence_number += 1;
        match plain.typ.into() {
            wire::ALERT => return Ok(None),
            wire::HANDSHAKE => self.handshake.extend_from_slice(plain.payload),
            _ => {}
        }

        let mut tickets = Vec::new();
        while let Some(message) = Message::split_off(&mut self.handshake) {
            match message.message_type {
                wire::NEW_SESSION_TICKET => tickets.push(message.body.into()),
                wire::KEY_UPDATE => {
                    let (sequence_number, secret) = self.connection.update_rx_secret()?;
                    let suite = self.connection.negotiated_cipher_suite();
                    self.decrypter = decrypter(suite, secret)?;
                    self.sequence_number = sequence_number;
                }
                _ => {}
            }
        }
        Ok(Some(tickets))
    }
}

fn decrypter(
    suite: SupportedCipherSuite,
    secret: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageDecrypter>, Trouble> {
    let suite = suite.tls13().expect("only TLS 1.3 is offered");
    match secret {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            Ok(suite.aead_alg.decrypter(key, iv))
        }
        _ => Err("a cipher suite that the probe cannot read".into()),
    }
}

/// Any error of this module; `ConnectError` wraps it in an I/O error.
type Trouble = Box<dyn Error + Send + Sync>;
