//! What may stand in a session as the application's data: any bytes, which a birth record stands
//! before if an acceptor wrote one; and the session around it, of which much is a client's choice.

use super::*;
use crate::context::{inherit, leave, read};
use crate::session::{Session, Version};

/// Reads the bytes as application data and as a session, and both from within a session.
pub fn run(data: &[u8]) {
    if data.len() > 60_000 {
        return; // more than fits into a session
    }
    let (record, rest) = BirthRecord::split(data);
    assert_eq!(
        (record.is_some(), rest),
        plainly(data),
        "as a plain reading"
    );

    // What is written is what is read, whatever follows it.
    let Some((&[flags, birth @ ..], rest)) = data.split_first_chunk::<9>() else {
        return;
    };
    let written = BirthRecord {
        birth: Time(u64::from_be_bytes(birth) >> 16), // of six bytes
        is_renewal: flags & 1 != 0,
    };
    let joined = written.join(rest);
    assert_eq!(joined.len(), BirthRecord::LEN + rest.len());
    assert_eq!(BirthRecord::split(&joined), (Some(written), rest));
    for at in 0..BirthRecord::MAGIC.len() {
        let mut other = joined.clone();
        other[at] ^= flags | 1;
        assert_eq!(BirthRecord::split(&other), (None, &other[..]));
    }

    // Within a session, whatever the client chose for the parts of it.
    let (name, secret) = rest.split_at(rest.len() / 2);
    let secret = &secret[..secret.len().min(255)];
    let version = match flags & 2 {
        0 => Version::Tls12,
        _ => Version::Tls13,
    };
    let session = session(version, name, secret, &joined);
    let parsed = Session::parse(&session).unwrap();
    assert_eq!(parsed.version, version);
    assert_eq!(
        (parsed.secret, parsed.application_data),
        (secret, &joined[..])
    );
    let cut = usize::from(flags) % session.len();
    assert_eq!(Session::parse(&session[..cut]), None);
    inherits(&session, version, written.birth);

    // As a session themselves, the bytes are one or not, and what descends from them is as old.
    let of_what_version = Session::parse(data).map(|session| session.version);
    inherits(
        data,
        of_what_version.unwrap_or(Version::Tls12),
        written.birth,
    );
}

/// Whether a record is there, and what follows it.
fn plainly(data: &[u8]) -> (bool, &[u8]) {
    match data.len() >= 12 && data.starts_with(b"\xd3born") {
        true => (true, &data[12..]),
        false => (false, data),
    }
}

/// A renewal on this thread is as old as what it renews, and only the next one.
fn inherits(session: &[u8], version: Version, birth: Time) {
    read();
    leave(session, birth);
    let parsed = Session::parse(session);
    let expected = (version == Version::Tls12).then_some(birth);
    assert_eq!(inherit(parsed.as_ref()), expected);
    assert_eq!(inherit(parsed.as_ref()), None);
}

/// As rustls encodes it.
fn session(version: Version, name: &[u8], secret: &[u8], data: &[u8]) -> Vec<u8> {
    let part = |bytes: &[u8]| bytes[..bytes.len().min(255)].to_vec();
    let (name, data_len) = (part(name), data.len() as u16);
    let mut out = vec![1, name.len() as u8];
    out.extend(&name);
    out.extend(version.wire());
    out.extend([0x13, 1, secret.len() as u8]);
    out.extend(secret);
    out.extend([1, 1, 0, 0, name.len() as u8]);
    out.extend(&name);
    out.extend([1, name.len() as u8]);
    out.extend(&name);
    out.extend(data_len.to_be_bytes());
    out.extend(data);
    out.extend([0; 12]);
    out
}
