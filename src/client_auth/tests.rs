use std::collections::HashSet;

use rustls::CertificateError as Certificate;
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::DefaultTimeProvider;

use super::*;

const ALL: [Refusal; 7] = [
    Refusal::NoCertificate,
    Refusal::NotVerified,
    Refusal::TooMany,
    Refusal::Expired,
    Refusal::Revoked,
    Refusal::UnknownIssuer,
    Refusal::Other,
];

#[test]
fn each_refusal_has_a_name_and_a_counter_of_its_own() {
    let names: HashSet<_> = ALL.map(Refusal::name).into();
    assert_eq!(names.len(), ALL.len());
    assert!(names.iter().all(|name| name.contains("certificate")));
    let told = include_str!("../handshake.rs");
    assert!(names.iter().all(|name| told.contains(&format!("`{name}`"))));
    let counts: HashSet<_> = ALL.map(|refusal| refusal.count() as usize).into();
    assert_eq!(counts.len(), ALL.len());
}

#[test]
fn what_a_verifier_refuses_is_remembered_under_its_reason() {
    for (error, refusal) in [
        (Certificate::Expired, Refusal::Expired),
        (Certificate::NotValidYet, Refusal::Expired),
        (Certificate::Revoked, Refusal::Revoked),
        (Certificate::UnknownIssuer, Refusal::UnknownIssuer),
        (Certificate::BadSignature, Refusal::Other),
    ] {
        let found = reason(&Error::InvalidCertificate(error));
        assert_eq!(found, refusal);
        assert_eq!(Refusal::from_code(found as u8), refusal);
    }
    assert_eq!(reason(&Error::DecryptError), Refusal::Other);
}

#[test]
fn nothing_is_shown_of_verdicts_and_verifiers() {
    let rechecks = Rechecks::new(DEFAULT_INTERVAL);
    assert_eq!(format!("{rechecks:?}"), "Rechecks { interval: 60s, .. }");
    let anyone = WebPkiClientVerifier::no_client_auth();
    let verifier = Verifier::new(anyone, Arc::new(DefaultTimeProvider));
    let number = verifier.number;
    assert_eq!(
        format!("{verifier:?}"),
        format!("Verifier {{ number: {number}, .. }}")
    );
}
