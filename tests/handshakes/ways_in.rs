//! How servers as they are take it in.

use std::sync::Arc;
use std::thread;

use axum_server::tls_rustls::RustlsConfig;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use rustls_resumption::{Error, Resumption};
use test_support::handshake::{
    VERSIONS, client, client_without_tickets, kind, provider, server_config,
};
use test_support::log::Log;
use tokio_rustls::TlsAcceptor;

const FULL: HandshakeKind = HandshakeKind::Full;
const RESUMED: HandshakeKind = HandshakeKind::Resumed;

/// As a server has it that calls the same function again at each reload.
fn load() -> Result<Arc<ServerConfig>, Error> {
    let mut config = server_config();
    Resumption::process()?.install(&mut config, "reloaded");
    Ok(Arc::new(config))
}

#[test]
fn a_function_that_knows_nothing_of_its_last_call_keeps_sessions() {
    let failed = Resumption::process_with(|| Err(Error::Random));
    assert!(failed.is_err(), "and the next call tries again");
    for client in [client(&TLS12), client(&TLS13), client_without_tickets()] {
        assert_eq!(kind(&client, &load().unwrap()), FULL);
        for _ in 0..3 {
            let (log, config) = Log::of(|| load().unwrap());
            assert_eq!(kind(&client, &config), RESUMED);
            assert_eq!(log.warnings(), [""; 0]);
        }
    }
    let again = Resumption::process_with(|| unreachable!("it is there"));
    assert!(again.unwrap().stats().steks.active.is_some());
}

#[test]
fn threads_that_ask_at_the_same_time_share_the_process_handle() {
    let threads = [(); 8].map(|()| thread::spawn(|| Resumption::process().unwrap()));
    let names = threads.map(|thread| thread.join().unwrap().stats().steks.active);
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
}

#[test]
fn whoever_makes_another_resumption_at_each_reload_is_warned() {
    let load = || {
        let mut config = server_config();
        Resumption::tickets()
            .unwrap()
            .install(&mut config, "forgets");
        Arc::new(config)
    };
    let (log, first) = Log::of(load);
    assert_eq!(log.warnings(), [""; 0]);
    let (log, second) = Log::of(load);
    assert_eq!(log.warnings().len(), 1, "{:?}", log.warnings());
    assert!(log.warnings()[0].contains("another Resumption"));
    drop((first, second));
    let (log, _) = Log::of(load);
    assert_eq!(log.warnings(), [""; 0], "the others are gone");
}

#[test]
fn a_handle_that_is_kept_is_installed_again_without_a_word() {
    let resumption = Resumption::tickets().unwrap();
    let (log, _) = Log::of(|| {
        [(); 3].map(|()| {
            let mut config = server_config();
            resumption.install(&mut config, "kept");
            config
        })
    });
    assert_eq!(log.warnings(), [""; 0]);
}

#[test]
fn a_configuration_in_an_arc_is_copied_with_resumption_in_it() {
    let resumption = Resumption::tickets().unwrap();
    let bare = Arc::new(server_config());
    let acceptor = TlsAcceptor::from(Arc::clone(&bare));
    let configs = [
        resumption.installed(&bare, "arc"),
        resumption.installed(acceptor.config(), "arc"),
    ];
    for version in VERSIONS {
        let client = client(version);
        assert_eq!(kind(&client, &configs[0]), FULL);
        assert_eq!(kind(&client, &configs[1]), RESUMED);
    }
}

#[test]
fn who_asks_twice_for_the_fields_of_a_scope_is_given_the_same() {
    for resumption in [Resumption::tickets(), Resumption::stateful(100)].map(Result::unwrap) {
        let (storage, ticketer) = (resumption.session_storage("a"), resumption.ticketer("a"));
        let clone = resumption.clone();
        assert!(Arc::ptr_eq(&storage, &clone.session_storage("a")));
        assert!(Arc::ptr_eq(&ticketer, &clone.ticketer("a")));
        assert!(!Arc::ptr_eq(&storage, &resumption.session_storage("b")));
    }
}

#[test]
fn nothing_resumes_where_resumption_is_refused() {
    let mut config = server_config();
    Resumption::tickets().unwrap().install(&mut config, "a");
    Resumption::refuse(&mut config);
    let config = Arc::new(config);
    for client in [client(&TLS12), client(&TLS13), client_without_tickets()] {
        for _ in 0..3 {
            assert_eq!(kind(&client, &config), FULL);
        }
    }
}

#[test]
fn what_axum_server_holds_is_rewrapped_in_one_line_after_each_reload() {
    let resumption = Resumption::tickets().unwrap();
    let tls = RustlsConfig::from_config(Arc::new(server_config()));
    let client = client(&TLS13);
    for expected in [FULL, RESUMED, RESUMED] {
        tls.reload_from_config(Arc::new(server_config())); // as `reload_from_pem` does, bare
        tls.reload_from_config(resumption.installed(&tls.get_inner(), "axum"));
        assert_eq!(kind(&client, &tls.get_inner()), expected);
    }
}

#[test]
fn a_certificate_with_another_kind_of_key_costs_a_tls12_client_a_full_handshake() {
    let mut roots = RootCertStore::empty();
    let mut reloads = [&PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256].map(|kind| {
        let key = KeyPair::generate_for(kind).unwrap();
        let made = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = made.self_signed(&key).unwrap();
        roots.add(certificate.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    });
    let resumption = Resumption::tickets().unwrap();
    for config in &mut reloads {
        resumption.install(config, "kinds");
    }
    let [ecdsa, rsa] = reloads.map(Arc::new);
    for (version, expected) in [(&TLS12, FULL), (&TLS13, RESUMED)] {
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let client = Arc::new(client);
        assert_eq!(kind(&client, &ecdsa), FULL);
        assert_eq!(kind(&client, &rsa), expected);
        assert_eq!(kind(&client, &rsa), RESUMED);
    }
}
