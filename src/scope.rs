use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256, digest};

mod generations;
mod known;
mod state;

pub(crate) use generations::{ALL, Forgotten, Generations, ScopeDigest, Which};
#[cfg(any(test, rustls_resumption_fuzzing))]
pub(crate) use known::NoSessions;
pub(crate) use known::{HoldsScopes, Scopes};
pub(crate) use state::{Bound, ScopeState, UnderWay, times_forgotten};

/// Names a server identity, as its clients know it.
///
/// A session resumes only in the [scope](crate::docs::glossary) that made it, so configurations of
/// different server identities must have different scopes. See "STEK Sharing is Not Caring" (USENIX
/// Security 2025) for what happens otherwise. A reload keeps its scope.
///
/// How clients are authenticated is not declared here: [`install`](crate::Resumption::install)
/// learns it, and
/// [`install_with_client_verifier`](crate::Resumption::install_with_client_verifier) asks the
/// verifier, so a wrong scope lets nobody in whom a full handshake would refuse (CVE-2025-23419).
///
/// Any string converts into a scope, so most callers just pass `"api.example.com"`. Two scopes are
/// equal only if both their names and their client CAs are.
///
/// ```
/// use rustls_resumption::Scope;
///
/// let ca = b"DER bytes of the client CA";
/// let new_ca = b"DER bytes of the next client CA";
/// assert_eq!(Scope::new("api"), Scope::from("api"));
/// assert_ne!(Scope::new("api").client_cas([ca]), Scope::new("api"));
/// assert_ne!(Scope::new("api").client_cas([ca]), Scope::new("api").client_cas([new_ca]));
/// ```
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Scope {
    name: Arc<str>,
    digest: [u8; Self::DIGEST_LEN],
}

impl Scope {
    pub(crate) const DIGEST_LEN: usize = 32;

    /// The scope of this name.
    pub fn new(name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        Self {
            digest: digest_of(name, &[]),
            name: name.into(),
        }
    }

    /// Binds client CAs (certificates in DER, in any order), so that a changed set is another
    /// scope: every client then does a full handshake. Replaces any CAs bound before. Not needed
    /// for access control; see above.
    #[must_use]
    pub fn client_cas(self, cas: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut cas: Vec<[u8; 32]> = cas.into_iter().map(|ca| sha256(ca.as_ref())).collect();
        cas.sort_unstable();
        cas.dedup();
        Self {
            digest: digest_of(&self.name, &cas),
            name: self.name,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stands for all scopes of this name.
    pub(crate) fn name_digest(&self) -> [u8; Self::DIGEST_LEN] {
        let mut context = Context::new(&SHA256);
        context.update(b"rustls-resumption scopes of the name 1");
        context.update(self.name.as_bytes());
        fixed(context.finish().as_ref())
    }

    /// What is compared: a collision-resistant hash of the name and the client CAs.
    pub(crate) fn digest(&self) -> &[u8; Self::DIGEST_LEN] {
        &self.digest
    }
}

impl Default for Scope {
    /// The scope of a cache or ring used without naming one: the empty name.
    fn default() -> Self {
        Self::new("")
    }
}

impl From<&str> for Scope {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Scope {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<&Self> for Scope {
    fn from(scope: &Self) -> Self {
        scope.clone()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(&self.name).finish()
    }
}

/// Every part is preceded by its length, so no two inputs hash the same bytes.
fn digest_of(name: &str, cas: &[[u8; 32]]) -> [u8; Scope::DIGEST_LEN] {
    let mut context = Context::new(&SHA256);
    context.update(b"rustls-resumption scope 1");
    context.update(&(name.len() as u64).to_be_bytes());
    context.update(name.as_bytes());
    context.update(&(cas.len() as u64).to_be_bytes());
    for ca in cas {
        context.update(ca);
    }
    fixed(context.finish().as_ref())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    fixed(digest(&SHA256, bytes).as_ref())
}

fn fixed(digest: &[u8]) -> [u8; 32] {
    let mut fixed = [0; 32];
    fixed.copy_from_slice(digest); // SHA-256 is 32 bytes
    fixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_client_cas_are_never_confused() {
        let scopes = [
            Scope::default(),
            Scope::new("a"),
            Scope::new("ab"),
            Scope::new("a").client_cas([b"b"]),
            Scope::new("a").client_cas([b"b", b"c"]),
            Scope::new("a").client_cas([b"bc"]),
            Scope::new("b").client_cas([b"a"]),
        ];
        for (i, one) in scopes.iter().enumerate() {
            for (j, other) in scopes.iter().enumerate() {
                assert_eq!(one == other, i == j, "{i} {j}");
                assert_eq!(one.digest() == other.digest(), i == j, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_scope_is_lent_as_itself() {
        let scope = Scope::new("a").client_cas([b"b"]);
        assert_eq!(Scope::from(&scope), scope);
    }

    #[test]
    fn the_order_of_client_cas_does_not_matter() {
        assert_eq!(
            Scope::new("a").client_cas([b"b", b"c"]),
            Scope::new("a").client_cas([b"c", b"b", b"c"])
        );
    }

    #[test]
    fn a_scope_is_shown_by_its_name() {
        let scope = Scope::new("api").client_cas([b"ca"]);
        assert_eq!(scope.to_string(), "api");
        assert_eq!(format!("{scope:?}"), r#"Scope("api")"#);
        assert_eq!((scope.name(), Scope::default().name()), ("api", ""));
        assert_eq!(Scope::from(String::from("api")), Scope::new("api"));
    }
}
