//! Measures what a useless ticket costs: the server's time for a full handshake whose ClientHello
//! carries another server's ticket, against one without a ticket.

use std::sync::Arc;

use benches::handshakes::{By, ServerKey, Site, Way};
use benches::timing::{Effort, each, turn_about};

pub(crate) fn run(effort: Effort) {
    println!("server time of a full handshake, medians:");
    for way in [Way::Tls12Ticket, Way::Tls13Ticket] {
        let site = Site::new(way.version(), ServerKey::P256);
        let server = || Arc::new(site.server(way, By::Ours, 1_000));
        let (here, elsewhere) = (server(), server());
        let contenders: [&mut dyn FnMut() -> f64; 2] = [
            &mut || {
                let client = site.client();
                client.visit(&elsewhere);
                let visit = client.visit(&here);
                assert!(!visit.resumed, "a ticket of another server");
                each(visit.worked, 1)
            },
            &mut || {
                let client = site.client();
                site.client().visit(&elsewhere); // as the other contender does
                each(client.visit(&here).worked, 1)
            },
        ];
        let [junk, none] = turn_about(effort.rounds(10_000), contenders);
        println!(
            "{:<14} with junk {:6.1} µs, without {:6.1} µs, ratio {:.3}",
            way.name(),
            junk.median() / 1_000.0,
            none.median() / 1_000.0,
            junk.over(&none).median(),
        );
    }
}
