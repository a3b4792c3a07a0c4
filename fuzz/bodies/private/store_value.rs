//! What a store may return: any bytes, any behind the name of a STEK that opens, true values that
//! were changed in any way, and true values of another place.

use std::sync::LazyLock;

use super::*;
use crate::aead::Sealing;
use crate::fuzzed::changed;
use crate::hex;

/// The value of the golden file, where it belongs and what opens it.
struct Golden {
    stek: Stek,
    scope: Scope,
    value: Vec<u8>,
}

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
    Golden {
        stek: Stek::with_sealing(&secret, Sealing::Aes256GcmSiv).unwrap(),
        scope: Scope::new("api"),
        value: hex::decode(include_str!("../../../tests/golden/store-value.hex")),
    }
});

const ID: &[u8; 32] = b"an ID as rustls makes: 32 bytes!";

/// Opens what the bytes say.
pub fn run(data: &[u8]) {
    let Golden { stek, scope, value } = &*GOLDEN;
    let binding = Binding {
        scope: scope.digest(),
        version: Version::Tls13,
        id: ID,
    };
    let returned = match data.split_first() {
        Some((0, rest)) => rest.to_vec(),
        Some((1, rest)) => [stek.name().as_bytes(), rest].concat(),
        Some((2, rest)) => changed(value, rest),
        Some((_, rest)) => return sealed_elsewhere(stek, binding, rest),
        None => Vec::new(),
    };
    let name = key_name(&returned);
    let may_be_one = (OVERHEAD..=MAX_LEN).contains(&returned.len());
    assert_eq!(name.is_some(), may_be_one);
    let opened = name
        .filter(|name| name == stek.name())
        .and_then(|_| open(stek, &binding, &returned));
    let is_true = returned == *value;
    assert_eq!(opened.is_some(), is_true);
    if let Some((times, session)) = opened {
        assert_eq!(times.issued, Time(1_800_000_000_456));
        assert_eq!(*session, b"golden");
    }
}

/// Seals bytes in one place, which comes first in them, and looks for them in another.
fn sealed_elsewhere(stek: &Stek, true_binding: Binding<'_>, data: &[u8]) {
    let Some((&[changes, at, bit], data)) = data.split_first_chunk() else {
        return;
    };
    let Some((times, session)) = data.split_first_chunk::<TIMES_LEN>() else {
        return;
    };
    let times = Times::read(times).unwrap();
    let mut id = *true_binding.id;
    id[usize::from(at % 32)] ^= bit;
    let mut scope = *true_binding.scope;
    scope[usize::from(at % 32)] ^= bit;
    let binding = Binding {
        scope: if changes & 1 == 0 {
            true_binding.scope
        } else {
            &scope
        },
        id: if changes & 2 == 0 {
            true_binding.id
        } else {
            &id
        },
        version: if changes & 4 == 0 {
            Version::Tls13
        } else {
            Version::Tls12
        },
    };
    let is_true = changes & 4 == 0 && (bit == 0 || changes & 3 == 0);
    let value = seal(stek, &binding, &times, session).unwrap();
    assert_eq!(value.len(), OVERHEAD + session.len());
    let (read, opened) = open(stek, &binding, &value).unwrap();
    assert_eq!((read, &**opened), (times, session));
    assert_eq!(open(stek, &true_binding, &value).is_some(), is_true);
    assert_eq!(true_binding.key() == binding.key(), is_true);
}
