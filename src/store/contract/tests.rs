use std::collections::HashMap;
use std::future::ready;

use parking_lot::Mutex;

use super::*;

/// A store in memory, which may break the contract.
#[derive(Default)]
struct Map {
    values: Mutex<HashMap<Vec<u8>, Expiring>>,
    fault: Fault,
    /// Held by each claim that is under way.
    claims: Arc<()>,
    /// Fetches that fail once one had no time at all.
    failing: AtomicUsize,
}

type Expiring = (Vec<u8>, Instant);

#[derive(Clone, Copy, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    ClaimsLeave,
    FetchesDelete,
    ClaimsRace,
    NeverExpires,
    ExpiresEarly,
    CutsKeys,
    CutsValues,
    ClaimsUnasked,
    FailsForGood,
    FailsThrice,
    IgnoresABit,
    RacesNobodyWins,
    TakesNothing,
}

impl Map {
    fn key(&self, key: &StoreKey) -> Vec<u8> {
        match self.fault {
            Fault::CutsKeys => key.0[..31].to_vec(),
            Fault::IgnoresABit => [&[key.0[0] & 0x7f], &key.0[1..]].concat(),
            _ => key.0.to_vec(),
        }
    }

    fn get(&self, key: &StoreKey, delete: bool) -> Option<Vec<u8>> {
        let key = self.key(key);
        let found = self.values.lock().get(&key).cloned();
        if self.fault == Fault::ClaimsRace && delete {
            thread::sleep(Duration::from_millis(1));
        }
        if delete {
            self.values.lock().remove(&key);
        }
        let (value, expires) = found?;
        (self.fault == Fault::NeverExpires || Instant::now() < expires).then_some(value)
    }
}

struct Handle(Arc<Map>);

impl SharedStore for Handle {
    fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        let failing = &self.0.failing;
        match self.0.fault {
            Fault::FailsForGood if deadline.is_zero() => {
                failing.store(usize::MAX, Ordering::Relaxed);
            }
            Fault::FailsThrice if deadline.is_zero() => failing.store(4, Ordering::Relaxed),
            _ => {}
        }
        let fails = failing.load(Ordering::Relaxed);
        if fails > 0 && deadline == DEADLINE {
            failing.store(fails - 1, Ordering::Relaxed);
            return Box::pin(ready(Err(StoreError::Unavailable)));
        }
        Box::pin(ready(Ok(self
            .0
            .get(key, self.0.fault == Fault::FetchesDelete))))
    }

    fn claim(&self, key: &StoreKey, _deadline: Duration) -> StoreLookup {
        let (map, key) = (Arc::clone(&self.0), *key);
        let deletes = self.0.fault != Fault::ClaimsLeave;
        if self.0.fault == Fault::ClaimsUnasked {
            return Box::pin(ready(Ok(map.get(&key, true))));
        }
        if self.0.fault == Fault::ClaimsRace {
            return Box::pin(async move { Ok(map.get(&key, true)) });
        }
        let claims = Arc::clone(&self.0.claims);
        Box::pin(async move {
            let mut values = map.values.lock();
            if map.fault == Fault::RacesNobodyWins && Arc::strong_count(&claims) > 2 {
                values.remove(&map.key(&key));
            }
            let found = match deletes {
                true => values.remove(&map.key(&key)),
                false => values.get(&map.key(&key)).cloned(),
            };
            let lives = |expires| map.fault == Fault::NeverExpires || Instant::now() < expires;
            Ok(found
                .filter(|(_, expires)| lives(*expires))
                .map(|(value, _)| value))
        })
    }

    fn write(&self, key: StoreKey, mut value: Vec<u8>, ttl: Duration) -> bool {
        let ttl = match self.0.fault {
            Fault::ExpiresEarly => ttl / 2,
            _ => ttl,
        };
        if self.0.fault == Fault::CutsValues {
            value.truncate(1_000);
        }
        let value = (value, Instant::now() + ttl);
        self.0.values.lock().insert(self.0.key(&key), value);
        self.0.fault != Fault::TakesNothing
    }
}

fn checked(fault: Fault) -> Result<(), String> {
    let map = Arc::new(Map {
        fault,
        ..Map::default()
    });
    check(&Handle(map)).map_err(|violation| violation.to_string())
}

#[test]
fn a_store_that_keeps_the_contract_passes_and_one_that_needs_a_moment_to_recover() {
    checked(Fault::None).unwrap();
    checked(Fault::FailsThrice).unwrap();
}

#[test]
fn every_broken_contract_is_found() {
    for (fault, found) in [
        (Fault::ClaimsLeave, "what was claimed must be gone"),
        (Fault::FetchesDelete, "must stay"),
        (Fault::ClaimsRace, "racing claims got the value"),
        (Fault::NeverExpires, "a value was there after"),
        (Fault::ExpiresEarly, "a value was gone after"),
        (Fault::CutsKeys, "byte 31 of a key makes no difference"),
        (Fault::CutsValues, "as it was written"),
        (Fault::ClaimsUnasked, "never polled must claim nothing"),
        (
            Fault::FailsForGood,
            "does not recover from look-ups that timed",
        ),
        (Fault::IgnoresABit, "byte 0 of a key makes no difference"),
        (Fault::RacesNobodyWins, "nobody won 100 of 100 races"),
        (Fault::TakesNothing, "it took no write within"),
    ] {
        let violation = checked(fault).unwrap_err();
        assert!(violation.contains(found), "{violation}");
    }
}
