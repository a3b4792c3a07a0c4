use std::sync::Arc;

use crate::client_auth::{ClientAuth, Presented};
use crate::context;
use crate::lineage::Lineage;
use crate::scope::ScopeState;
use crate::session::Session;
use crate::stats::ClientAuthCount;
use crate::terms::Terms;

/// Where a session is made or resumes: a configuration's scope, and how it authenticates clients.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    pub(crate) scope: Arc<ScopeState>,
    pub(crate) client_auth: ClientAuth,
}

impl Installation {
    /// Of a handle that sees no configuration.
    pub(crate) fn unseen(scope: Arc<ScopeState>) -> Self {
        Self {
            scope,
            client_auth: ClientAuth::unseen(),
        }
    }

    /// Whether the full handshake would admit the client of a session that is to resume.
    #[inline(always)]
    pub(crate) fn admits(
        &self,
        terms: &Terms,
        session: Option<&Session<'_>>,
        lineage: Lineage,
    ) -> bool {
        let presented = Presented {
            is_unseen: lineage.is_unseen(),
            was_asked: lineage.was_asked(),
            is_readable: session.is_some(),
            chain: session.and_then(|session| session.client_certificates),
        };
        let rechecks = &*terms.client_auth;
        let admitted = self.client_auth.admit(presented, rechecks, &terms.clock);
        if let Err(refusal) = admitted {
            rechecks.counts.add(refusal.count());
            context::miss(refusal.name());
        }
        admitted.is_ok()
    }

    /// Whether a session may be made: not if it could never resume.
    #[inline(always)]
    pub(crate) fn keeps(&self, terms: &Terms, session: Option<&Session<'_>>) -> bool {
        let has_certificates = session.is_some_and(|s| s.client_certificates.is_some());
        if has_certificates && !self.client_auth.keeps_certificates() {
            terms.client_auth.counts.add(ClientAuthCount::NotKept);
            return false;
        }
        true
    }

    /// A session's lineage, with what this configuration asks of clients.
    #[inline(always)]
    pub(crate) fn mark(&self, lineage: Lineage) -> Lineage {
        match lineage.is_renewal() {
            true => lineage,
            false => self.client_auth.mark(lineage),
        }
    }
}
