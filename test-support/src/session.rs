//! Sessions as rustls encodes them, for tests that need many.

/// A session ID of its own for each number.
pub fn id(number: u64) -> [u8; 32] {
    let mut id = [0x5a; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id
}

pub fn tls12(secret: &[u8]) -> Vec<u8> {
    encoded([3, 3], secret, b"")
}

pub fn tls13(secret: &[u8], application_data: &[u8]) -> Vec<u8> {
    encoded([3, 4], secret, application_data)
}

/// Of a client that showed these certificates, each after its length in three bytes.
pub fn tls12_with_chain(secret: &[u8], chain: &[u8]) -> Vec<u8> {
    let mut session = tls12(secret);
    // From whether there are certificates on.
    let rest = session.split_off(session.len() - 16);
    session.push(1);
    session.extend_from_slice(&(chain.len() as u32).to_be_bytes()[1..]);
    session.extend_from_slice(chain);
    session.extend_from_slice(&rest[1..]);
    session
}

/// A certificate of so many bytes, for a chain.
pub fn certificate(fill: u8, len: usize) -> Vec<u8> {
    let mut out = (len as u32).to_be_bytes()[1..].to_vec();
    out.extend(std::iter::repeat_n(fill, len));
    out
}

fn encoded(version: [u8; 2], secret: &[u8], application_data: &[u8]) -> Vec<u8> {
    let mut session = vec![0]; // no SNI
    session.extend_from_slice(&version);
    session.extend_from_slice(&[0x13, 1]); // cipher suite
    session.push(secret.len() as u8);
    session.extend_from_slice(secret);
    session.extend_from_slice(&[1, 0, 0]); // extended master secret; no certificates, no ALPN
    session.extend_from_slice(&(application_data.len() as u16).to_be_bytes());
    session.extend_from_slice(application_data);
    session.extend_from_slice(&[0; 12]); // creation time, age offset
    session
}
