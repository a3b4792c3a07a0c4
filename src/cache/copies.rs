//! Beside a shared store each session is kept with the name of the STEK that sealed it there, or
//! would have: once that does not open any more, what it sealed resumes from here no more than from
//! there.

use zeroize::Zeroizing;

use crate::stek::KeyName;

/// Stands for no STEK: the session did not get to the store.
const NOT_SEALED: [u8; KeyName::LEN] = [0; KeyName::LEN];

/// A session, and behind it the name.
pub(crate) fn with_name(session: Vec<u8>, name: Option<KeyName>) -> Vec<u8> {
    let name = name.map_or(NOT_SEALED, |name| *name.as_bytes());
    // Not extended, which would leave a copy behind.
    [&Zeroizing::new(session)[..], &name].concat()
}

/// The session in what was made so.
pub(super) fn session(copy: &[u8]) -> &[u8] {
    let session = copy.split_last_chunk::<{ KeyName::LEN }>();
    session.map_or(copy, |(session, _)| session)
}

/// Leaves the session.
pub(super) fn take_name(copy: &mut Vec<u8>) -> Option<KeyName> {
    let name = *copy.last_chunk()?;
    copy.truncate(session(copy).len());
    (name != NOT_SEALED).then(|| KeyName::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_the_name_that_it_was_given() {
        for name in [None, Some(KeyName::from_bytes([7; KeyName::LEN]))] {
            let mut copy = with_name(b"session".to_vec(), name);
            assert_eq!(session(&copy), b"session");
            assert_eq!(take_name(&mut copy), name);
            assert_eq!(copy, b"session");
        }
    }

    #[test]
    fn what_is_too_short_for_a_name_has_none() {
        let mut short = b"short".to_vec();
        assert_eq!(session(&short), b"short");
        assert_eq!(take_name(&mut short), None);
        assert_eq!(short, b"short");
    }
}
