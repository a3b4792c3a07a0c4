//! Whether what happened is what must happen.

use std::sync::atomic::Ordering;

use crate::balancer::Balancer;
use crate::clients::Clients;
use crate::nodes::Nodes;
use crate::recovery::{Recovery, Taken};
use crate::steps::AFTER_INCIDENT;
use crate::tables::Row;

/// Prints what must hold, and returns whether it did.
pub(crate) fn as_ever(clients: &Clients, nodes: &Nodes, balancer: &Balancer) -> bool {
    let seen = clients.seen();
    let told = nodes.told();
    let accepted: u64 = told.early.values().sum();
    let twice = told.early.values().filter(|times| **times > 1).count();
    let replays = balancer.replays.load(Ordering::Relaxed);
    let rotations = told.reports.iter().map(|report| report.rotations).max();
    let rotations = rotations.unwrap_or(0);
    println!("handshake failures: {}", seen.failed);
    if let Some(failure) = clients.first_failure() {
        println!("  the first: {failure}");
    }
    println!(
        "early data accepted twice: {twice} (accepted {accepted} times; {replays} first flights \
         replayed at other nodes)"
    );
    println!("rotations: {rotations}");
    // Otherwise nothing was demonstrated.
    let was_tried = seen.resumed > 0 && accepted > 0 && replays > 0 && rotations > 1;
    if !was_tried {
        println!("too little happened to judge: is this machine very busy?");
    }
    seen.failed == 0 && twice == 0 && was_tried
}

/// Prints what must hold after the incident, and returns whether it did.
pub(crate) fn after_incident(rows: &[Row], nodes: &Nodes) -> bool {
    let (until, after) = rows.split_at(AFTER_INCIDENT);
    let of_before: u64 = after.iter().map(|row| row.seen.of_before).sum();
    if let Some(withdrawn) = &nodes.told().withdrawn {
        println!("revoke_all: {withdrawn}");
    }
    println!("earlier sessions that resumed after it: {of_before}");
    // Otherwise there was nothing to revoke, or resumption did not go on.
    let was_tried = until[AFTER_INCIDENT - 2].seen.resumed > 0
        && after.first().is_some_and(|row| row.seen.returned > 0)
        && after.last().is_some_and(|row| row.seen.resumed > 0);
    if !was_tried {
        println!("too little happened to judge the incident: is this machine very busy?");
    }
    of_before == 0 && was_tried
}

/// Prints what must hold after the chaos, and returns whether it did: whatever befell Redis, in the
/// end everything serves again.
pub(crate) fn after_chaos(rows: &[Row]) -> bool {
    let is_back = |taken: Taken| !matches!(taken, Taken::NotYet);
    let last = rows.iter().rev().find_map(|row| row.recovery.as_ref());
    let serves = last.is_some_and(|last| is_back(last.store()) && is_back(last.source()));
    let share = rows.last().and_then(|row| row.seen.share()).unwrap_or(0.0);
    print_beyond_failovers(rows);
    println!("in the end: store and source serve: {serves}; {share:.2} % resumed");
    // On local STEKs a third would resume, on the node that they met.
    serves && share > 50.0
}

/// Prints how long store and source were down after Redis itself had replaced its master: how busy
/// the machine is has its part in that, so nothing is judged.
fn print_beyond_failovers(rows: &[Row]) {
    let recoveries = rows.iter().filter_map(|row| row.recovery.as_ref());
    let beyond: Vec<_> = recoveries.filter_map(Recovery::beyond_failover).collect();
    for (i, what) in ["store", "source"].into_iter().enumerate() {
        let longest = beyond.iter().map(|beyond| &beyond[i]).max();
        if let Some(longest) = longest {
            let allowed = Recovery::ALLOWED[i];
            println!(
                "longest until the {what} was back after Redis had failed over: {longest} \
                 ({allowed:?} allowed)"
            );
        }
    }
}
