//! The steps of the survey.

use std::net::SocketAddr;
use std::time::Duration;

use indicatif::ProgressBar;
use rustls::pki_types::ServerName;

use crate::connect::{ConnectError, Place};
use crate::report::Finding;
use crate::session::{Issued, Mechanism, Session};
use crate::verdict;
use crate::visit::{Offered, Visitor};
use crate::wire::TicketFacts;

/// What to look at.
pub(crate) struct Plan {
    pub(crate) place: Place,
    /// Other nodes of the same service, and what the user calls them.
    pub(crate) nodes: Vec<(String, SocketAddr)>,
    pub(crate) wait: Option<Duration>,
    pub(crate) other_name: Option<ServerName<'static>>,
}

/// Examines everything in the plan. The findings are in the order of [`Mechanism::ALL`].
///
/// # Errors
///
/// Why no connection to the server succeeded, in any version of TLS: what was wrong with its
/// certificate, if anything was.
pub(crate) async fn survey(
    visitor: &Visitor,
    plan: &Plan,
    progress: &ProgressBar,
) -> Result<Vec<Finding>, ConnectError> {
    let mut findings = Vec::new();
    let mut resumable = Vec::new();
    let mut errors = Vec::new();
    for mechanism in Mechanism::ALL {
        progress.set_message(mechanism.to_string());
        match visitor.collect(mechanism, &plan.place, 2).await {
            Ok(issued) => {
                findings.extend(verdict::issued(mechanism, &issued));
                if basics(visitor, mechanism, &plan.place, issued, &mut findings).await {
                    resumable.push(mechanism);
                }
            }
            // A silent server would be as silent in the next version of TLS.
            Err(error @ ConnectError::Timeout { .. }) if errors.len() == findings.len() => {
                return Err(error);
            }
            Err(error) => {
                findings.push(verdict::no_handshake(mechanism, &error));
                errors.push(error);
            }
        }
    }
    if errors.len() == Mechanism::ALL.len() {
        // It says more than that another version is not spoken.
        let telling = errors.iter().position(ConnectError::is_about_certificate);
        return Err(errors.swap_remove(telling.unwrap_or(errors.len() - 1)));
    }

    for &mechanism in &resumable {
        for (name, address) in &plan.nodes {
            progress.set_message(format!("{mechanism} on {name}"));
            let node = Place {
                address: *address,
                server_name: plan.place.server_name.clone(),
            };
            let there = carry(visitor, mechanism, &plan.place, &node).await;
            let back = carry(visitor, mechanism, &node, &plan.place).await;
            findings.push(verdict::node(mechanism, name, &there, &back));
        }
        if let Some(name) = &plan.other_name {
            progress.set_message(format!("{mechanism} as {}", name.to_str()));
            let elsewhere = Place {
                address: plan.place.address,
                server_name: name.clone(),
            };
            let offered = carry(visitor, mechanism, &plan.place, &elsewhere).await;
            findings.push(verdict::server_name(mechanism, &name.to_str(), &offered));
        }
    }
    if let Some(wait) = plan.wait {
        findings.extend(after_wait(visitor, &resumable, &plan.place, wait, progress).await);
    }

    findings.sort_by_key(|finding| finding.mechanism as u8);
    Ok(findings)
}

/// Offers the issued session twice, and again with early data if that is allowed. Returns whether
/// it was resumed.
async fn basics(
    visitor: &Visitor,
    mechanism: Mechanism,
    place: &Place,
    issued: Issued,
    findings: &mut Vec<Finding>,
) -> bool {
    let offers = offer_all(visitor, mechanism, place, issued.copies, None).await;
    let resumed = offers.first().is_some_and(Offered::resumed);
    if let [first, second] = &offers[..] {
        findings.push(verdict::resumed(mechanism, first));
        if resumed {
            findings.push(verdict::single_use(mechanism, second));
        }
        // A server cannot withdraw a single ticket.
        if resumed
            && mechanism == Mechanism::SessionId
            && let Ok(issued) = visitor.collect(mechanism, place, 2).await
            && let Ok([provoking, again]) = <[Session; 2]>::try_from(issued.copies)
        {
            visitor.provoke_alert(mechanism, place, provoking).await;
            let offered = visitor.offer(mechanism, place, again, None).await;
            findings.push(verdict::after_alert(mechanism, &offered));
        }
        if resumed && mechanism == Mechanism::Tls12Ticket {
            findings.push(verdict::renewal(first));
        }
    }

    if mechanism == Mechanism::Tls13Ticket
        && let Some(ticket) = issued.tickets.first()
    {
        let mut offers = Vec::new();
        let mut with_bytes = None;
        if ticket.max_early_data > 0
            && let Ok(mut issued) = visitor.collect(mechanism, place, 3).await
        {
            let third = issued.copies.pop();
            offers = offer_all(visitor, mechanism, place, issued.copies, Some(&[])).await;
            let is_refused = offers
                .get(1)
                .is_some_and(|again| !again.early_data_accepted());
            if let Some(session) = third.filter(|_| is_refused) {
                let bytes = vec![b' '; EARLY_DATA.min(ticket.max_early_data as usize)];
                let offered = visitor.offer(mechanism, place, session, Some(&bytes));
                with_bytes = Some((bytes.len(), offered.await));
            }
        }
        findings.push(verdict::early_data(ticket, &offers));
        let refused = with_bytes.filter(|(_, offered)| !offered.early_data_accepted());
        findings.extend(refused.map(|(len, offered)| verdict::refused_early_data(len, &offered)));
    }
    resumed
}

async fn offer_all(
    visitor: &Visitor,
    mechanism: Mechanism,
    place: &Place,
    sessions: Vec<Session>,
    early_data: Option<&[u8]>,
) -> Vec<Offered> {
    let mut offers = Vec::new();
    for session in sessions {
        offers.push(visitor.offer(mechanism, place, session, early_data).await);
    }
    offers
}

/// Collects a session at one place and offers it at another.
async fn carry(visitor: &Visitor, mechanism: Mechanism, from: &Place, to: &Place) -> Offered {
    let issued = visitor.collect(mechanism, from, 1).await;
    offer_issued(visitor, mechanism, to, issued).await
}

async fn offer_issued(
    visitor: &Visitor,
    mechanism: Mechanism,
    place: &Place,
    issued: Result<Issued, ConnectError>,
) -> Offered {
    match issued.map(|mut issued| issued.copies.pop()) {
        Ok(Some(session)) => visitor.offer(mechanism, place, session, None).await,
        Ok(None) => Offered::NoSession(None),
        Err(error) => Offered::NoSession(Some(error)),
    }
}

/// Collects sessions, waits once for all of them, and offers them.
async fn after_wait(
    visitor: &Visitor,
    mechanisms: &[Mechanism],
    place: &Place,
    wait: Duration,
    progress: &ProgressBar,
) -> Vec<Finding> {
    let mut collected = Vec::new();
    for &mechanism in mechanisms {
        collected.push((mechanism, visitor.collect(mechanism, place, 1).await));
    }
    progress.set_message(format!("waiting {}", humantime::format_duration(wait)));
    tokio::time::sleep(wait).await;

    let mut findings = Vec::new();
    for (mechanism, issued) in collected {
        let ticket = issued
            .as_ref()
            .ok()
            .and_then(|issued| issued.tickets.first());
        let hint = ticket.and_then(TicketFacts::lifetime);
        let offered = offer_issued(visitor, mechanism, place, issued).await;
        findings.push(verdict::after_wait(mechanism, wait, hint, &offered));
    }
    findings
}

/// How much early data is sent to be refused: as much as clients may ever send at once.
const EARLY_DATA: usize = 16_384;
