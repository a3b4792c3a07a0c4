//! No client resumes that a full handshake would refuse: policies of client certificates that
//! differ under one scope, certificates that expire, are revoked, or whose authority is no longer
//! trusted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, HandshakeKind, ServerConfig, SupportedProtocolVersion};
use rustls_resumption::{FakeClock, Resumption, ResumptionBuilder};
use test_support::client_auth::*;
use test_support::handshake::{
    FULL, RESUMED, VERSIONS, early_data_accepted, first_flight, server_config, try_handshake,
};

/// A server in one of the two modes, whose clocks a test sets.
struct Server {
    resumption: Resumption,
    clock: FakeClock,
    date: Date,
}

const MODES: [bool; 2] = [false, true];

impl Server {
    fn new(stateful: bool) -> Self {
        let clock = FakeClock::new();
        let builder = Resumption::builder().clock(clock.clock()).manual_stepping();
        let builder = match stateful {
            true => builder.stateful(20_000),
            false => builder,
        };
        Self {
            resumption: builder.build().unwrap(),
            clock,
            date: Date::start(),
        }
    }

    fn pass(&self, time: Duration) {
        self.date.pass(&self.clock, time);
        self.resumption.step();
    }

    fn open(&self) -> Arc<ServerConfig> {
        let mut config = config(None, &self.date);
        self.resumption.install(&mut config, "api");
        Arc::new(config)
    }

    fn verifying(&self, verifier: Arc<dyn ClientCertVerifier>) -> Arc<ServerConfig> {
        let mut config = config(Some(verifier.clone()), &self.date);
        let resumption = &self.resumption;
        resumption.install_with_client_verifier(&mut config, "api", verifier);
        Arc::new(config)
    }

    /// Without handing the verifier over.
    fn learning(&self, verifier: Arc<dyn ClientCertVerifier>) -> Arc<ServerConfig> {
        let mut config = config(Some(verifier), &self.date);
        self.resumption.install(&mut config, "api");
        Arc::new(config)
    }
}

fn kind(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<HandshakeKind, Error> {
    Ok(try_handshake(client, server, b"")?.kind)
}

fn each(test: impl Fn(&'static SupportedProtocolVersion, Server) + Sync) {
    for version in VERSIONS {
        for stateful in MODES {
            // On a thread of its own: a thread that saw refusals stops verifying for a moment.
            std::thread::scope(|scope| {
                let test = &test;
                let run = scope.spawn(move || test(version, Server::new(stateful)));
                run.join().unwrap();
            });
        }
    }
}

#[test]
fn a_session_made_without_a_certificate_request_does_not_resume_where_one_is_made() {
    let ca = Authority::make();
    each(|version, server| {
        let required = [
            server.verifying(ca.verifier()),
            server.learning(ca.verifier()),
        ];
        let optional = [
            server.verifying(ca.verifier_with(true, None)),
            server.learning(ca.verifier_with(true, None)),
        ];
        let open = server.open();
        for from in [&open, &optional[0], &optional[1]] {
            let client = client(version, None);
            assert_eq!(kind(&client, from), Ok(FULL));
            assert_eq!(kind(&client, from), Ok(RESUMED), "where it was made");
            for required in &required {
                let refused = kind(&client, required);
                assert!(
                    refused.is_err(),
                    "not resumed, and then without a certificate"
                );
            }
        }
        for optional in &optional {
            let client = client(version, None);
            assert_eq!(kind(&client, &open), Ok(FULL));
            assert_eq!(kind(&client, optional), Ok(FULL), "now it is asked");
            assert_eq!(kind(&client, optional), Ok(RESUMED));
            assert_eq!(kind(&client, &open), Ok(RESUMED), "there nobody asks");
        }
        assert_ne!(
            server.resumption.stats().client_auth.refused.no_certificate,
            0
        );
    });
}

#[test]
fn sessions_with_certificates_resume_where_their_verifier_is_known() {
    let ca = Authority::make();
    each(|version, server| {
        let certificate = ca.issue();
        let required = server.verifying(ca.verifier());
        let optional = server.verifying(ca.verifier_with(true, None));
        let client = client(version, Some(&certificate));
        assert_eq!(kind(&client, &required), Ok(FULL));
        for server in [&required, &optional, &required] {
            assert_eq!(kind(&client, server), Ok(RESUMED));
        }
        let blind = server.learning(ca.verifier());
        assert_eq!(kind(&client, &blind), Ok(FULL), "nobody to ask");
        assert_eq!(kind(&client, &blind), Ok(FULL), "nor is one made there");
        let stats = server.resumption.stats().client_auth;
        assert_ne!(stats.refused.not_verified, 0);
        assert_ne!(stats.not_kept, 0);
        assert_eq!(
            kind(&client, &server.open()),
            Ok(FULL),
            "nor is anybody here"
        );
    });
}

#[test]
fn unverified_client_certificates_resume_only_on_request() {
    let ca = Authority::make();
    for version in VERSIONS {
        let builder = Resumption::builder().resume_unverified_client_certificates();
        let mut config = config(Some(ca.verifier()), &Date::start());
        let resumption = builder.build().unwrap();
        resumption.install(&mut config, "api");
        let config = Arc::new(config);
        let client = client(version, Some(&ca.issue()));
        assert_eq!(kind(&client, &config), Ok(FULL));
        assert_eq!(kind(&client, &config), Ok(RESUMED));
    }
}

#[test]
fn an_expired_certificate_does_not_resume_and_a_renewed_one_is_accepted_at_once() {
    let ca = Authority::make();
    each(|version, server| {
        let config = server.verifying(ca.verifier());
        let short = ca.issue_until(2028);
        let wallet = Wallet::with(Some(&short));
        let client = client_showing(version, wallet.clone());
        // To an hour before the end.
        let end = 1_830_297_600;
        server.date.0.store(end - 3600, Ordering::Relaxed);
        assert_eq!(kind(&client, &config), Ok(FULL));
        assert_eq!(kind(&client, &config), Ok(RESUMED));
        server.pass(Duration::from_secs(3601));
        wallet.change(Some(&ca.issue()));
        assert_eq!(kind(&client, &config), Ok(FULL));
        assert_eq!(kind(&client, &config), Ok(RESUMED));
        assert_ne!(server.resumption.stats().client_auth.refused.expired, 0);
        let old = self::client(version, Some(&short));
        assert!(kind(&old, &config).is_err(), "as the full handshake says");
    });
}

#[test]
fn a_new_crl_refuses_the_clients_it_lists_and_costs_no_other_a_session() {
    let ca = Authority::make();
    each(|version, server| {
        let (good, evil) = (ca.issue(), ca.issue());
        let before = server.verifying(ca.verifier());
        let [honest, thief] = [&good, &evil].map(|c| client(version, Some(c)));
        for client in [&honest, &thief] {
            assert_eq!(kind(client, &before), Ok(FULL));
            assert_eq!(kind(client, &before), Ok(RESUMED));
        }
        let crl = ca.revoke(&[&evil]);
        let after = server.verifying(ca.verifier_with(false, Some(crl)));
        assert_eq!(kind(&honest, &after), Ok(RESUMED));
        assert!(
            kind(&thief, &after).is_err(),
            "not resumed, and then revoked"
        );
        let refused = server.resumption.stats().client_auth.refused;
        assert_ne!(refused.revoked, 0);
    });
}

#[test]
fn clients_of_a_replaced_ca_do_not_resume() {
    each(|version, server| {
        let (old, new) = (Authority::make(), Authority::make());
        let client = client(version, Some(&old.issue()));
        let before = server.verifying(old.verifier());
        assert_eq!(kind(&client, &before), Ok(FULL));
        assert_eq!(kind(&client, &before), Ok(RESUMED));
        let after = server.verifying(new.verifier());
        assert!(
            kind(&client, &after).is_err(),
            "of the same subject, but not the same"
        );
        assert_ne!(server.resumption.stats().client_auth.refused.total(), 0);
    });
}

#[test]
fn early_data_of_a_revoked_client_is_not_accepted() {
    let ca = Authority::make();
    let server = Server::new(true);
    let allowing = |verifier: Arc<dyn ClientCertVerifier>| {
        let mut config = config(Some(verifier.clone()), &server.date);
        config.max_early_data_size = 1024;
        let resumption = &server.resumption;
        resumption.install_with_client_verifier(&mut config, "api", verifier);
        Arc::new(config)
    };
    let evil = ca.issue();
    let thief = client(&TLS13, Some(&evil));
    let before = allowing(ca.verifier());
    for _ in 0..2 {
        kind(&thief, &before).unwrap();
    }
    let flight = first_flight(&thief, b"early");
    assert_eq!(
        early_data_accepted(&before, &flight).as_deref(),
        Some(&b"early"[..])
    );
    let flight = first_flight(&thief, b"early");
    let after = allowing(ca.verifier_with(false, Some(ca.revoke(&[&evil]))));
    assert_eq!(early_data_accepted(&after, &flight), None);
}

#[test]
fn a_verdict_is_cached_for_the_interval_and_a_new_verifier_has_none() {
    let ca = Authority::make();
    each(|version, server| {
        let verifier = Watched::new(ca.verifier());
        let config = server.verifying(verifier.clone());
        let client = client(version, Some(&ca.issue()));
        assert_eq!(kind(&client, &config), Ok(FULL));
        assert_eq!(verifier.asked(), 1, "by rustls");
        for _ in 0..3 {
            assert_eq!(kind(&client, &config), Ok(RESUMED));
        }
        assert_eq!(verifier.asked(), 1, "and once for all that come back");
        server.pass(ResumptionBuilder::DEFAULT_RECHECK_INTERVAL);
        assert_eq!(kind(&client, &config), Ok(RESUMED));
        assert_eq!(verifier.asked(), 1);
        let reloaded = Watched::new(ca.verifier());
        assert_eq!(
            kind(&client, &server.verifying(reloaded.clone())),
            Ok(RESUMED)
        );
        assert_eq!((verifier.asked(), reloaded.asked()), (0, 1));
    });
}

#[test]
fn a_verdict_does_not_outlive_a_suspension_of_the_machine() {
    let ca = Authority::make();
    each(|version, server| {
        let verifier = Watched::new(ca.verifier());
        let config = server.verifying(verifier.clone());
        let client = client(version, Some(&ca.issue()));
        assert_eq!(kind(&client, &config), Ok(FULL));
        assert_eq!(kind(&client, &config), Ok(RESUMED));
        assert_eq!(verifier.asked(), 2, "by rustls, and then by us");
        // The monotonic clock stood still.
        server
            .clock
            .step_forward(ResumptionBuilder::DEFAULT_RECHECK_INTERVAL);
        assert_eq!(kind(&client, &config), Ok(RESUMED));
        assert_eq!(verifier.asked(), 1, "anew");
        server
            .clock
            .step_back(ResumptionBuilder::DEFAULT_RECHECK_INTERVAL);
        assert_eq!(kind(&client, &config), Ok(RESUMED));
        assert_eq!(verifier.asked(), 0, "and not for every client then");
    });
}

#[test]
fn how_long_ago_a_certificate_was_verified_is_told() {
    const SECOND: Duration = Duration::from_secs(1);
    let ca = Authority::make();
    each(|version, server| {
        let config = server.verifying(ca.verifier());
        let client = client(version, Some(&ca.issue()));
        let told = || {
            let handshake = || kind(&client, &config);
            let (kind, told) = server.resumption.follow_blocking(handshake).unwrap();
            (kind, told.client_verified)
        };
        assert_eq!(told(), (FULL, None));
        for ago in [0, 7, 14] {
            assert_eq!(told(), (RESUMED, Some(ago * SECOND)));
            server.pass(7 * SECOND);
        }
        server.pass(ResumptionBuilder::DEFAULT_RECHECK_INTERVAL);
        assert_eq!(told(), (RESUMED, Some(Duration::ZERO)));
    });
}

#[test]
fn a_verifier_that_panics_refuses() {
    let ca = Authority::make();
    each(|version, server| {
        let verifier = Watched::new(ca.verifier_with(true, None));
        let config = server.verifying(verifier.clone());
        let wallet = Wallet::with(Some(&ca.issue()));
        let client = client_showing(version, wallet.clone());
        assert_eq!(kind(&client, &config), Ok(FULL));
        verifier.panics.store(true, Ordering::Relaxed);
        // Or rustls would ask it in the full handshake too.
        wallet.change(None);
        assert!(
            kind(&client, &config).is_err(),
            "`Watched` insists on a certificate"
        );
        assert_ne!(server.resumption.stats().client_auth.refused.other, 0);
    });
}

#[test]
fn at_most_two_chains_are_verified_for_one_client_hello() {
    let ca = Authority::make();
    let server = Server::new(false);
    let verifier = Watched::new(ca.verifier());
    let config = server.verifying(verifier);
    let certificates: Vec<_> = (0..8).map(|_| ca.issue()).collect();
    let tickets: Vec<_> = certificates
        .iter()
        .map(|certificate| {
            let client = client(&TLS13, Some(certificate));
            kind(&client, &config).unwrap();
            first_flight(&client, b"")
        })
        .collect();
    let revoked = Watched::new(ca.verifier_with(
        false,
        Some(ca.revoke(&certificates.iter().collect::<Vec<_>>())),
    ));
    let config = server.verifying(revoked.clone());
    // Each flight has one ticket; rustls asks for it in the call that reads the hello.
    let identities: Vec<_> = tickets.iter().map(|flight| identity(flight)).collect();
    for ticket in &identities {
        assert!(config.ticketer.decrypt(ticket).is_none());
    }
    assert!(revoked.asked() <= 2);
    let stats = server.resumption.stats().client_auth.refused;
    assert_eq!((stats.revoked, stats.too_many), (2, 6));
    // The same ones again cost nothing, however often.
    for _ in 0..14 {
        assert!(config.ticketer.decrypt(&identities[0]).is_none());
    }
    assert_eq!(revoked.asked(), 0);
}

#[test]
fn fields_set_by_hand_work_without_client_authentication() {
    let ca = Authority::make();
    each(|version, server| {
        let by_hand = |mut config: ServerConfig| {
            config.session_storage = server.resumption.session_storage("api");
            config.ticketer = server.resumption.ticketer("api");
            Arc::new(config)
        };
        let open = by_hand(server_config());
        let bare = client(version, None);
        assert_eq!(kind(&bare, &open), Ok(FULL));
        assert_eq!(kind(&bare, &open), Ok(RESUMED));
        assert!(kind(&bare, &server.verifying(ca.verifier())).is_err());
        let optional = server.learning(ca.verifier_with(true, None));
        assert_eq!(
            kind(&bare, &optional),
            Ok(FULL),
            "nobody knows what it was asked"
        );
        let required = by_hand(config(Some(ca.verifier()), &server.date));
        let client = client(version, Some(&ca.issue()));
        for _ in 0..2 {
            assert_eq!(kind(&client, &required), Ok(FULL), "nobody to ask");
        }
    });
}
