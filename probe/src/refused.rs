//! Whether sessions still resume after an incident, when they should have been revoked.

use serde_json::json;

use crate::connect::{ConnectError, Place};
use crate::report::{Aspect, Finding, Grade};
use crate::session::{Mechanism, Session};
use crate::survey::Plan;
use crate::visit::{Offered, Visitor};

/// Takes sessions of every node for every node, calls `revoked`, which returns when they should
/// have been revoked, and offers them. `target` is what the user calls the first node.
///
/// Each session is offered once and to one node: a node that refuses a session may have removed it
/// from a store that it shares with the others. A connection that fails before the call is a finding
/// too, unless the version of TLS is not spoken there: what it was to find out is not known. There
/// are no findings if no node issued a session.
///
/// # Errors
///
/// The last connection that failed, if no node issued a session.
pub(crate) async fn examine(
    visitor: &Visitor,
    plan: &Plan,
    target: &str,
    revoked: impl FnOnce(),
) -> Result<Vec<Finding>, ConnectError> {
    let mut nodes = vec![(target, plan.place.clone())];
    for (name, address) in &plan.nodes {
        let server_name = plan.place.server_name.clone();
        let address = *address;
        nodes.push((
            name,
            Place {
                address,
                server_name,
            },
        ));
    }

    let mut held = Vec::new();
    let mut findings = Vec::new();
    let mut error = None;
    for mechanism in Mechanism::ALL {
        for from in &nodes {
            for to in &nodes {
                match hold(visitor, mechanism, &from.1, &to.1).await {
                    Ok(Some(session)) => held.push((mechanism, from.0, to, session)),
                    Ok(None) => {}
                    Err(failed) => {
                        if !failed.is_about_version() {
                            let aspect = Aspect::Refused(from.0.to_owned(), to.0.to_owned());
                            findings.push(not_held(mechanism, aspect, &failed));
                        }
                        error = Some(failed);
                    }
                }
            }
        }
    }
    if held.is_empty() {
        return error.map_or_else(|| Ok(Vec::new()), Err);
    }
    revoked();

    for (mechanism, from, (to, place), held) in held {
        let offered = visitor.offer(mechanism, place, held.session, None).await;
        let aspect = Aspect::Refused(from.to_owned(), (*to).to_owned());
        findings.push(judge(mechanism, aspect, held.resumed_before, &offered));
    }
    findings.sort_by_key(|finding| finding.mechanism.id());
    Ok(findings)
}

/// Whether there is proof of each node that it refuses sessions, by each mechanism by which sessions
/// resumed anywhere, and none that it does not.
pub(crate) fn all(findings: &[Finding]) -> bool {
    let good = |finding: &&Finding| finding.grade == Grade::Good;
    let proved: Vec<_> = findings.iter().filter(good).collect();
    let is_proved = |node: &str, mechanism| {
        let mut of_node = proved
            .iter()
            .filter(|finding| matches!(&finding.aspect, Aspect::Refused(_, to) if to == node));
        let mut by_mechanism = proved.iter().filter(|it| it.mechanism == mechanism);
        match by_mechanism.next() {
            Some(_) => of_node.any(|finding| finding.mechanism == mechanism),
            // Nothing resumed by it, such as the session IDs of a server without a cache.
            None => of_node.next().is_some(),
        }
    };
    findings.iter().all(|finding| match &finding.aspect {
        Aspect::Refused(_, to) => finding.grade != Grade::Bad && is_proved(to, finding.mechanism),
        _ => false,
    })
}

struct Held {
    session: Session,
    /// Whether another session, issued just before, resumed there.
    resumed_before: bool,
}

/// None if there is nothing to resume by this mechanism.
async fn hold(
    visitor: &Visitor,
    mechanism: Mechanism,
    from: &Place,
    to: &Place,
) -> Result<Option<Held>, ConnectError> {
    let mut tried = visitor.collect(mechanism, from, 1).await?;
    let mut kept = visitor.collect(mechanism, from, 1).await?;
    let (Some(tried), Some(session)) = (tried.copies.pop(), kept.copies.pop()) else {
        return Ok(None);
    };
    let resumed_before = match visitor.offer(mechanism, to, tried, None).await {
        Offered::Broken(error) if !error.is_about_version() => return Err(error),
        offered => offered.resumed(),
    };
    Ok(Some(Held {
        session,
        resumed_before,
    }))
}

fn not_held(mechanism: Mechanism, aspect: Aspect, error: &ConnectError) -> Finding {
    Finding {
        mechanism,
        aspect,
        value: json!(null),
        seen: error.to_string(),
        grade: Grade::Bad,
        verdict: "cannot tell: no session was held".to_owned(),
    }
}

fn judge(mechanism: Mechanism, aspect: Aspect, resumed_before: bool, offered: &Offered) -> Finding {
    let (seen, grade, verdict) = match offered {
        Offered::Answered(handshake) if handshake.resumed => (
            "resumed".to_owned(),
            Grade::Bad,
            "an earlier session is still accepted",
        ),
        Offered::Answered(_) if resumed_before => (
            "refused".to_owned(),
            Grade::Good,
            "earlier sessions are refused here",
        ),
        Offered::Answered(_) => (
            "refused".to_owned(),
            Grade::Note,
            "proves nothing: it did not resume before either",
        ),
        Offered::Broken(error) | Offered::NoSession(Some(error)) => (
            error.to_string(),
            Grade::Bad,
            "cannot tell, and a client would have failed",
        ),
        Offered::NoSession(None) => ("none".to_owned(), Grade::Note, "nothing to offer"),
    };
    Finding {
        mechanism,
        aspect,
        value: json!(!offered.resumed()),
        seen,
        grade,
        verdict: verdict.to_owned(),
    }
}
