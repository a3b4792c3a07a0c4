use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256, digest};

use crate::clock::Time;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Names who the server is to its clients.
///
/// A session resumes only in the scope that made it, so configurations of different server
/// identities must have different scopes. See "STEK Sharing is Not Caring" (USENIX Security 2025)
/// for what happens otherwise. A reload keeps its scope.
///
/// How clients are authenticated is not declared here: [`install`](crate::Resumption::install)
/// learns it, and
/// [`install_with_client_verifier`](crate::Resumption::install_with_client_verifier) asks the
/// verifier, so that no scope can be wrong enough to let anybody in (CVE-2025-23419).
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

    /// Binds client CAs (certificates in DER, in any order), so that a changed set is another scope:
    /// every client then does a full handshake. Replaces any CAs bound before. Not needed to keep
    /// anybody out; see above.
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

/// What a cache or ring knows about a scope; shared by all handles of that scope.
#[derive(Debug)]
pub(crate) struct ScopeState {
    pub(crate) scope: Scope,
    /// Stands for the scope in the cache's keys; changes when the scope is forgotten, so that
    /// everything stored before is out of reach at once.
    number: AtomicU32,
    /// Tickets issued up to this time (in milliseconds) are refused.
    forgotten: AtomicU64,
}

impl ScopeState {
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    pub(crate) fn forgotten(&self) -> Time {
        Time(self.forgotten.load(Ordering::Acquire))
    }

    /// Always moves forward, even if the clock stood still, because tickets are issued after the
    /// time last forgotten.
    fn forget(&self, now: Time) {
        let later = |forgotten: u64| Some(now.0.max(forgotten.saturating_add(1)));
        let _ = self
            .forgotten
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }
}

/// The scopes known to a cache, to a ring, or to a pair of them.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    states: Mutex<HashMap<Scope, Arc<ScopeState>>>,
    last_number: AtomicU32,
}

impl Scopes {
    pub(crate) fn state(&self, scope: Scope) -> Arc<ScopeState> {
        let mut states = self.states.lock();
        let state = states.entry(scope).or_insert_with_key(|scope| {
            Arc::new(ScopeState {
                scope: scope.clone(),
                number: AtomicU32::new(self.fresh_number()),
                forgotten: AtomicU64::new(0),
            })
        });
        Arc::clone(state)
    }

    /// Puts everything the scope made up to `now` out of reach. Returns its previous number.
    pub(crate) fn forget(&self, scope: &Scope, now: Time) -> Option<u32> {
        let states = self.states.lock();
        let state = states.get(scope)?;
        state.forget(now);
        Some(state.number.swap(self.fresh_number(), Ordering::AcqRel))
    }

    /// The same for every known scope.
    pub(crate) fn forget_all(&self, now: Time) {
        for state in self.states.lock().values() {
            state.forget(now);
            state.number.store(self.fresh_number(), Ordering::Release);
        }
    }

    fn fresh_number(&self) -> u32 {
        self.last_number
            .fetch_add(1, Ordering::AcqRel)
            .wrapping_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_client_cas_never_run_together() {
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
    fn the_order_of_client_cas_does_not_matter() {
        assert_eq!(
            Scope::new("a").client_cas([b"b", b"c"]),
            Scope::new("a").client_cas([b"c", b"b", b"c"])
        );
    }

    #[test]
    fn forgetting_changes_the_number_of_that_scope_alone() {
        let scopes = Scopes::default();
        let (a, b) = (scopes.state("a".into()), scopes.state("b".into()));
        let before = (a.number(), b.number());
        assert_ne!(before.0, before.1);
        assert_eq!(scopes.forget(&"a".into(), Time(7)), Some(before.0));
        assert_ne!(a.number(), before.0);
        assert_eq!(b.number(), before.1);
        assert_eq!((a.forgotten(), b.forgotten()), (Time(7), Time(0)));
        assert_eq!(scopes.forget(&"unheard of".into(), Time(7)), None);
    }

    #[test]
    fn forgetting_all_changes_the_number_of_each() {
        let scopes = Scopes::default();
        let states = [scopes.state("a".into()), scopes.state("b".into())];
        let before = [states[0].number(), states[1].number()];
        scopes.forget_all(Time(7));
        for state in &states {
            assert!(!before.contains(&state.number()));
            assert_eq!(state.forgotten(), Time(7));
        }
        assert_ne!(states[0].number(), states[1].number());
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
