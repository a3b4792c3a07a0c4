use std::collections::HashMap;
use std::future::ready;

use parking_lot::Mutex;

use super::*;

/// A store in memory, which may break the contract.
#[derive(Default)]
struct Map {
    values: Mutex<HashMap<Vec<u8>, Expiring>>,
    fault: Fault,
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
    TakesNothing,
}

impl Map {
    fn key(&self, key: &StoreKey) -> Vec<u8> {
        match self.fault {
            Fault::CutsKeys => key.0[..31].to_vec(),
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
    fn fetch(&self, key: &StoreKey, _deadline: Duration) -> StoreLookup {
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
        Box::pin(async move {
            let mut values = map.values.lock();
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
fn a_store_that_keeps_the_contract_passes() {
    checked(Fault::None).unwrap();
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
        (Fault::TakesNothing, "it took no write within"),
    ] {
        let violation = checked(fault).unwrap_err();
        assert!(violation.contains(found), "{violation}");
    }
}
