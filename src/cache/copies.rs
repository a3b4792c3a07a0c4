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

/// The session in what was made so, and the name.
pub(super) fn split(value: &[u8]) -> (&[u8], Option<KeyName>) {
    match value.split_last_chunk() {
        Some((session, &NOT_SEALED)) => (session, None),
        Some((session, &name)) => (session, Some(KeyName::from_bytes(name))),
        None => (value, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_the_name_that_it_was_given() {
        for name in [None, Some(KeyName::from_bytes([7; KeyName::LEN]))] {
            let named = with_name(b"session".to_vec(), name);
            assert_eq!(split(&named), (&b"session"[..], name));
        }
        assert_eq!(split(b"short"), (&b"short"[..], None));
    }
}
