use crate::session::{Session, Tag, Version};
use crate::session_lineage::SessionLineage;

/// What tells the connections of one session, of the session that rustls was given and of the one
/// that it made.
#[derive(Default)]
pub(super) struct Tags {
    given: Option<Tag>,
    made: Option<Tag>,
}

impl Tags {
    /// Of a session that rustls is about to see.
    pub(super) fn give(&mut self, session: Option<&Session<'_>>) {
        self.given = session.and_then(|session| match session.version {
            Version::Tls12 => SessionLineage::of_tls12(session.secret),
            Version::Tls13 => session.tag,
        });
    }

    /// Of a session that rustls hands over: what is to be added to it.
    pub(super) fn make(&mut self, session: &Session<'_>, is_renewal: bool) -> Option<Tag> {
        if session.version == Version::Tls12 {
            self.made = SessionLineage::of_tls12(session.secret);
            return None;
        }
        // A handshake makes several sessions, which are one.
        let inherited = self.given.filter(|_| is_renewal);
        self.made = inherited.or(self.made).or_else(SessionLineage::fresh);
        self.made
    }

    pub(super) fn lineage(&self, is_resumed: bool) -> Option<SessionLineage> {
        let given = self.given.filter(|_| is_resumed);
        given.or(self.made).map(SessionLineage::from_tag)
    }
}
