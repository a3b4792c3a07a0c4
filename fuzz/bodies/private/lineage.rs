//! What may stand in a session, of which much is a client's choice: whatever it is, a renewal on
//! this thread or in this context is as old as what it renews.

use std::sync::Arc;

use super::*;
use crate::clock::Moment;
use crate::scope::{NoSessions, Scope, Scopes};
use crate::session::Version;

/// Reads the bytes as a session, and as parts of one.
pub fn run(data: &[u8]) {
    if data.len() > 60_000 {
        return; // more than fits into a session
    }
    assert_eq!(
        Session::parse(data).map(|session| session.version),
        plain::version(data),
        "as a plain reading"
    );
    tagged(data, [7; 16]);
    let Some((&[flags, birth, secret_len, name_len], rest)) = data.split_first_chunk() else {
        return;
    };
    let (secret, rest) = rest.split_at(rest.len().min(secret_len.into()));
    let (name, rest) = rest.split_at(rest.len().min(name_len.into()));
    let version = match flags & 1 {
        0 => Version::Tls12,
        _ => Version::Tls13,
    };
    let one = plain::session(version, name, flags, secret, rest);
    let parsed = Session::parse(&one).unwrap();
    assert_eq!((parsed.version, parsed.secret), (version, secret));
    assert_eq!(parsed.server_name, Some(name));
    let cut = usize::from(flags) % one.len();
    assert_eq!(Session::parse(&one[..cut]), None);
    tagged(&one, [birth; 16]);

    // Another, which has the same parts but for one, or all of them.
    let changed = |bytes: &[u8], by: u8| -> Vec<u8> {
        let by = if flags & by == 0 { 0 } else { 1 };
        bytes.iter().map(|byte| byte ^ by).collect()
    };
    let (other_name, other_secret) = (changed(name, 2), changed(secret, 4));
    let other = plain::session(version, &other_name, flags, &other_secret, b"other");
    let renews = match version {
        // Equal fingerprints of unequal secrets need not be told apart: see there.
        Version::Tls12 => other_secret == secret,
        Version::Tls13 => other_name == name,
    };
    let [_, _, a, b, c, d, e, f] = u64::from(birth).to_be_bytes();
    let lineage = Lineage::from_bytes([a, b, c, d, e, f, flags >> 3]);
    in_context(&one, &other, lineage, renews);
    without(&one, &other, lineage, version, renews);
    // As a session themselves, the bytes are one or not; what descends from them is as old.
    in_context(data, data, lineage, true);
}

/// A tag stands behind a session, changes nothing of it, and leaves it as it was.
fn tagged(bytes: &[u8], tag: Tag) {
    let mut bare = bytes.to_vec();
    let Some(session) = Session::parse(bytes) else {
        Session::untag(None, &mut bare);
        return assert_eq!(bare, bytes);
    };
    Session::untag(session.tag, &mut bare);
    let mut tagged = [&bare[..], &tag].concat();
    let with = Session::parse(&tagged).unwrap();
    assert_eq!(
        with,
        Session {
            tag: Some(tag),
            ..session
        }
    );
    let tag = with.tag;
    assert_eq!(
        Session::parse(&bare),
        Some(Session {
            tag: None,
            ..session
        })
    );
    Session::untag(tag, &mut tagged);
    assert_eq!(tagged, bare);
    assert_eq!(
        Session::parse(&[&tagged[..], &tag.unwrap(), &[0]].concat()),
        None
    );
}

fn in_context(given: &[u8], made: &[u8], lineage: Lineage, renews: bool) {
    let mut context = Some(Context::new(Time(1_000)));
    within(&mut context, || {
        give(Session::parse(given).as_ref(), given_as(lineage));
    });
    // On whichever thread, and as often as it may be.
    for _ in 0..2 {
        let found = within(&mut context, || {
            super::lineage(Session::parse(made).as_ref(), &scope(), Time(2_000)).0
        });
        let expected = match renews {
            true => lineage.renewed(lineage.birth),
            false => Lineage::of_full_handshake(Time(1_000)),
        };
        assert_eq!(found, expected);
    }
    assert_eq!(context.unwrap().was_declined(), !renews);
}

fn without(given: &[u8], made: &[u8], lineage: Lineage, version: Version, renews: bool) {
    read();
    give(Session::parse(given).as_ref(), given_as(lineage));
    let made = Session::parse(made);
    let scope = scope();
    let (found, _) = lineage_of_sealed(made.as_ref(), &scope, Time(2_000));
    let expected = match version {
        Version::Tls12 if renews => lineage.renewed(lineage.birth),
        Version::Tls12 => Lineage::of_full_handshake(Time(2_000)).late(),
        Version::Tls13 => Lineage::of_full_handshake(Time(2_000))
            .late()
            .of_unknown_age(),
    };
    assert_eq!(found, expected);
    let (again, _) = lineage_of_sealed(made.as_ref(), &scope, Time(2_000));
    assert_eq!(again.birth, Time(2_000), "taken once");
}

fn scope() -> Arc<ScopeState> {
    Scopes::default().state(Scope::default(), Moment::default(), &NoSessions)
}

fn given_as(lineage: Lineage) -> Given {
    Given {
        by: ResumedBy::Ticket,
        lineage,
        at: Time(0),
        key_name: None,
        after: 0,
    }
}

/// By hand, as plainly as can be.
mod plain {
    use super::Version;

    /// Of bytes that are a session and nothing more.
    pub(super) fn version(bytes: &[u8]) -> Option<Version> {
        let mut at = 0;
        let mut number = |len: usize| {
            let bytes = bytes.get(at..at + len)?;
            at += len;
            Some(bytes.iter().fold(0, |n, byte| n * 256 + usize::from(*byte)))
        };
        let mut skip = Vec::new();
        // Each: whether it is optional, and of how many bytes its length is.
        let has_name = flag(number(1)?)?;
        if has_name {
            let len = number(1)?;
            for _ in 0..len {
                skip.push(number(1)?);
            }
        }
        let version = match number(2)? {
            0x0303 => Version::Tls12,
            0x0304 => Version::Tls13,
            _ => return None,
        };
        number(2)?;
        let secret = number(1)?;
        for _ in 0..secret {
            number(1)?;
        }
        flag(number(1)?)?;
        for len in [3, 1] {
            if flag(number(1)?)? {
                let len = number(len)?;
                for _ in 0..len {
                    number(1)?;
                }
            }
        }
        let data = number(2)?;
        for _ in 0..data {
            number(1)?;
        }
        number(8)?;
        number(4)?;
        let is_tagged = at + 16 == bytes.len();
        (at == bytes.len() || is_tagged).then_some(version)
    }

    fn flag(number: usize) -> Option<bool> {
        match number {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// As rustls encodes it.
    pub(super) fn session(
        version: Version,
        name: &[u8],
        suite: u8,
        secret: &[u8],
        data: &[u8],
    ) -> Vec<u8> {
        let mut out = vec![1, name.len() as u8];
        out.extend(name);
        out.extend(version.wire());
        out.extend([0x13, suite, secret.len() as u8]);
        out.extend(secret);
        out.extend([1, 1, 0, 0, name.len() as u8]);
        out.extend(name);
        out.extend([1, name.len() as u8]);
        out.extend(name);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
        out.extend([0; 12]);
        out
    }
}
