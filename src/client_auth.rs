//! What a server does about its clients' certificates: learnt from its configuration, and asked
//! anew of its verifier whenever a session is to resume.
//!
//! On resumption rustls restores the client's certificates unread. So whoever resumes skips what
//! the full handshake would check; here it is checked again.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, Error};

use crate::clock::Clock;
use crate::context;
use crate::counters::Counters;
use crate::errands::guarded;
use crate::lineage::Lineage;
use crate::reader::Reader;
use crate::stats::{ClientAuthCount, ClientAuthStats};

mod learn;
mod policy;
mod verdicts;

pub(crate) use learn::learn;
use policy::Policy;
use verdicts::{Verdict, Verdicts};

/// How one installed configuration authenticates clients.
#[derive(Clone, Debug)]
pub(crate) struct ClientAuth {
    /// `None` for a handle that sees no configuration.
    policy: Option<Policy>,
    certificates: Certificates,
}

/// What becomes of sessions that carry client certificates.
#[derive(Clone, Debug)]
enum Certificates {
    /// They neither are made nor resume, for nobody could say whether they still may.
    Refused,
    /// They resume unseen, as rustls would have it: the owner asked for it.
    Unverified,
    Verified(Verifier),
}

/// Why a session does not resume here, by its client's certificates or the want of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Refusal {
    /// It has none, and the full handshake would ask for one.
    NoCertificate = 1,
    /// There is no verifier to ask about those it has.
    NotVerified,
    /// As many as may be were verified for this ClientHello.
    TooMany,
    Expired,
    Revoked,
    UnknownIssuer,
    Other,
}

impl Refusal {
    pub(crate) fn count(self) -> ClientAuthCount {
        match self {
            Self::NoCertificate => ClientAuthCount::NoCertificate,
            Self::NotVerified => ClientAuthCount::NotVerified,
            Self::TooMany => ClientAuthCount::TooMany,
            Self::Expired => ClientAuthCount::Expired,
            Self::Revoked => ClientAuthCount::Revoked,
            Self::UnknownIssuer => ClientAuthCount::UnknownIssuer,
            Self::Other => ClientAuthCount::Other,
        }
    }

    /// In the context of a handshake.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::NotVerified => "certificate_not_verified",
            Self::TooMany => "too_many_certificates",
            Self::Expired => "certificate_expired",
            Self::Revoked => "certificate_revoked",
            Self::UnknownIssuer => "certificate_unknown_issuer",
            Self::Other => "certificate_refused",
        }
    }

    /// Those that a verifier may give.
    fn from_code(code: u8) -> Self {
        match code {
            code if code == Self::Expired as u8 => Self::Expired,
            code if code == Self::Revoked as u8 => Self::Revoked,
            code if code == Self::UnknownIssuer as u8 => Self::UnknownIssuer,
            _ => Self::Other,
        }
    }
}

/// A session, as far as client certificates are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presented<'a> {
    /// Whether its full handshake asked for a certificate.
    pub(crate) was_asked: bool,
    /// Whether that is not known.
    pub(crate) is_unseen: bool,
    /// Whether it could be parsed: if not, it may have certificates.
    pub(crate) is_readable: bool,
    /// The client's chain as the session encodes it: each certificate after its length in three
    /// bytes.
    pub(crate) chain: Option<&'a [u8]>,
}

/// What is remembered of clients that came back, for all configurations of a
/// [`Resumption`](crate::Resumption).
pub(crate) struct Rechecks {
    /// How long a verdict holds.
    interval: Duration,
    /// Made for the first client with a certificate; `None` if there were no random bytes.
    verdicts: OnceLock<Option<Verdicts>>,
    pub(crate) counts: Counters<ClientAuthStats>,
}

/// How long a verdict on a client's certificates holds, by default.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

impl Rechecks {
    /// Another that remembers nothing.
    pub(crate) fn afresh(&self) -> Self {
        Self::new(self.interval)
    }

    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            verdicts: OnceLock::new(),
            counts: Counters::new(),
        }
    }

    fn verdicts(&self) -> Option<&Verdicts> {
        self.verdicts.get_or_init(Verdicts::new).as_ref()
    }
}

impl fmt::Debug for Rechecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rechecks")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl ClientAuth {
    /// Of a configuration whose verifier is not known here. What could not be learnt counts as the
    /// strictest case.
    pub(crate) fn learnt(policy: Option<Policy>, unverified: bool) -> Self {
        Self {
            policy: Some(policy.unwrap_or(Policy::Required)),
            certificates: match unverified {
                true => Certificates::Unverified,
                false => Certificates::Refused,
            },
        }
    }

    /// Of a configuration with this verifier, and what was learnt of it: it may have another.
    pub(crate) fn verified(verifier: Verifier, learnt: Option<Policy>) -> Self {
        Self {
            policy: learnt,
            certificates: Certificates::Verified(verifier),
        }
    }

    /// Of a handle that is put into configurations which nobody sees. Its sessions resume through
    /// such handles and where no certificates are asked for, and those with certificates nowhere.
    pub(crate) fn unseen() -> Self {
        Self {
            policy: None,
            certificates: Certificates::Refused,
        }
    }

    fn policy(&self) -> Option<Policy> {
        match &self.certificates {
            // Asked each time, for it may change its mind; but never less than the configuration.
            Certificates::Verified(verifier) => Some(verifier.policy()).max(self.policy),
            Certificates::Refused | Certificates::Unverified => self.policy,
        }
    }

    /// Writes into the lineage of a new session what its full handshake asked for.
    pub(crate) fn mark(&self, lineage: Lineage) -> Lineage {
        match self.policy() {
            None => lineage.unseen(),
            Some(policy) if policy.asks() => lineage.asked(),
            Some(_) => lineage,
        }
    }

    /// Whether a session with client certificates may be made at all.
    pub(crate) fn keeps_certificates(&self) -> bool {
        !matches!(self.certificates, Certificates::Refused)
    }

    /// Whether a session may resume: whether the full handshake would admit its client now.
    #[inline(always)]
    pub(crate) fn admit(
        &self,
        presented: Presented<'_>,
        rechecks: &Rechecks,
        clock: &Clock,
    ) -> Result<(), Refusal> {
        match (presented.chain, &self.certificates) {
            (None, _) => {
                let is_admitted = match self.policy() {
                    None => presented.is_unseen,
                    Some(Policy::NotAsked) => true,
                    Some(Policy::Optional) => presented.was_asked && presented.is_readable,
                    Some(Policy::Required) => false,
                };
                is_admitted.then_some(()).ok_or(Refusal::NoCertificate)
            }
            (Some(_), Certificates::Refused) => Err(Refusal::NotVerified),
            (Some(_), Certificates::Unverified) => Ok(()),
            (Some(chain), Certificates::Verified(verifier)) => {
                verifier.recheck(chain, rechecks, clock)
            }
        }
    }
}

/// A configuration's verifier of client certificates, and its clock.
#[derive(Clone)]
pub(crate) struct Verifier {
    verifier: Arc<dyn ClientCertVerifier>,
    time: Arc<dyn TimeProvider>,
    /// Tells its verdicts from those of other verifiers, also in a process that was forked, where
    /// those of before are still installed.
    number: u64,
}

impl Verifier {
    /// One of which nothing is remembered.
    pub(crate) fn new(verifier: Arc<dyn ClientCertVerifier>, time: Arc<dyn TimeProvider>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            verifier,
            time,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// One that panics is taken for the strictest.
    pub(crate) fn policy(&self) -> Policy {
        let verifier = &self.verifier;
        let ask = || match (
            verifier.offer_client_auth(),
            verifier.client_auth_mandatory(),
        ) {
            (false, _) => Policy::NotAsked,
            (true, false) => Policy::Optional,
            (true, true) => Policy::Required,
        };
        guarded(ask).unwrap_or(Policy::Required)
    }

    /// The verdict, remembered or fresh. No lock is held while the verifier is asked.
    fn recheck(&self, chain: &[u8], rechecks: &Rechecks, clock: &Clock) -> Result<(), Refusal> {
        let verdicts = rechecks.verdicts().ok_or(Refusal::Other)?;
        let digest = verdicts.digest(self.number, chain).ok_or(Refusal::Other)?;
        // The monotonic clock stands still while a machine is suspended, and certificates expire.
        let now = clock.now().steady;
        match verdicts.find(digest, now) {
            Some((Verdict::Accepted, until)) => {
                rechecks.counts.add(ClientAuthCount::Remembered);
                context::verified(rechecks.interval.saturating_sub(until.since(now)));
                return Ok(());
            }
            Some((Verdict::Refused(code), _)) => return Err(Refusal::from_code(code)),
            None => {}
        }
        if !context::may_verify(now) {
            return Err(Refusal::TooMany);
        }
        let outcome = self.verify(chain);
        rechecks.counts.add(ClientAuthCount::Verified);
        let verdict = match outcome {
            Ok(()) => {
                context::verified(Duration::ZERO);
                Verdict::Accepted
            }
            Err(refusal) => {
                // It may have taken its time.
                context::refused_afresh(now, clock.now().steady);
                Verdict::Refused(refusal as u8)
            }
        };
        verdicts.remember(digest, verdict, now, now.plus(rechecks.interval));
        outcome
    }

    fn verify(&self, chain: &[u8]) -> Result<(), Refusal> {
        let chain = certificates(chain).ok_or(Refusal::Other)?;
        let (leaf, others) = chain.split_first().ok_or(Refusal::Other)?;
        let ask = || {
            let now = self.time.current_time().ok_or(Refusal::Other)?;
            let verified = self.verifier.verify_client_cert(leaf, others, now);
            verified.map(drop).map_err(|error| reason(&error))
        };
        guarded(ask).unwrap_or(Err(Refusal::Other))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

fn certificates(chain: &[u8]) -> Option<Vec<CertificateDer<'_>>> {
    let mut reader = Reader::new(chain);
    let mut certificates = Vec::new();
    while !reader.is_empty() {
        certificates.push(CertificateDer::from(reader.vector::<3>()?));
    }
    Some(certificates)
}

fn reason(error: &Error) -> Refusal {
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Refusal::Expired,
            CertificateError::Revoked => Refusal::Revoked,
            CertificateError::UnknownIssuer => Refusal::UnknownIssuer,
            _ => Refusal::Other,
        },
        _ => Refusal::Other,
    }
}

#[cfg(test)]
mod tests;
