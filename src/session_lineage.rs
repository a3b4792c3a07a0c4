use std::fmt;

use aws_lc_rs::rand;

use crate::kdf::Kdf;
use crate::session::Tag;

/// What the connections of one session have in common, from its full handshake on, however often it
/// was renewed since, on any node: two are equal only then.
///
/// For protocols that must know whether one connection resumes the session of another, such as FTPS,
/// where the client of a data connection has to be that of the control connection. The
/// [`Handshake`](super::acceptor::Handshake) of each connection has it, where
/// [`session_lineage`](crate::ResumptionBuilder::session_lineage) is enabled.
///
/// In TLS 1.2 it is derived from the master secret, by HKDF under a label of its own, and says
/// nothing of it; in TLS 1.3, where each renewal has another secret, it is 16 random bytes that
/// travel with the session, sealed. It is not shown by `Debug`, and means nothing to another process
/// but by comparison.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct SessionLineage(Tag);

impl SessionLineage {
    /// Of the TLS 1.2 session with this master secret.
    pub(crate) fn of_tls12(secret: &[u8]) -> Option<Tag> {
        let kdf = Kdf::new("rustls-resumption session lineage", secret);
        let mut tag = Tag::default();
        kdf.expand(&[b"TLS 1.2"], &mut tag).ok()?;
        Some(tag)
    }

    /// Of a TLS 1.3 session that a full handshake makes. `None` if there are no random bytes.
    pub(crate) fn fresh() -> Option<Tag> {
        let mut tag = Tag::default();
        rand::fill(&mut tag).ok()?;
        Some(tag)
    }

    pub(crate) fn from_tag(tag: Tag) -> Self {
        Self(tag)
    }
}

impl fmt::Debug for SessionLineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLineage").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_secret_has_one_lineage_which_is_not_a_part_of_it() {
        let of = |secret: &[u8]| SessionLineage::of_tls12(secret).unwrap();
        assert_eq!(of(&[7; 48]), of(&[7; 48]));
        assert_ne!(of(&[7; 48]), of(&[8; 48]));
        assert_ne!(of(&[7; 48]), [7; 16]);
        assert_ne!(SessionLineage::fresh(), SessionLineage::fresh());
        let shown = format!("{:?}", SessionLineage::from_tag([7; 16]));
        assert_eq!(shown, "SessionLineage { .. }");
    }
}
