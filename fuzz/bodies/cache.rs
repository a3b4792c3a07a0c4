//! The session cache against a naive model.

use std::time::Duration;

use rustls_resumption::{FakeClock, Resumption};

use test_support::session::id;

/// Reads a budget and operations from bytes, as a fuzzer makes them.
pub fn run(data: &[u8]) {
    let Some(([entries, bytes], data)) = data.split_first_chunk() else {
        return;
    };
    let ops = data.as_chunks().0.iter().map(|&[kind, id, len]| {
        let id = u16::from(id % 40);
        match kind % 10 {
            0..4 => Op::Put {
                id,
                len: len.into(),
            },
            4..7 => Op::Get(id),
            7..9 => Op::Take(id),
            _ => Op::Pass(Duration::from_secs(u64::from(len % 40))),
        }
    });
    check(
        ops.collect(),
        usize::from(entries % 30),
        usize::from(*bytes) * 12,
    );
}

/// What is done to the cache. Sessions are numbered.
#[derive(Clone, Debug)]
pub enum Op {
    Put { id: u16, len: usize },
    Get(u16),
    Take(u16),
    Pass(Duration),
}

pub const TTL: Duration = Duration::from_secs(60);

/// A segmented LRU as one would write it down: two lists, most recent first. What is read again
/// while it is protected moves to the front when it would be pushed out.
#[derive(Default)]
struct Model {
    probation: Vec<Held>,
    protected: Vec<Held>,
    entries: usize,
    bytes: usize,
}

#[derive(Clone)]
struct Held {
    id: u16,
    value: Vec<u8>,
    expires: Duration,
    read_again: bool,
}

impl Model {
    fn put(&mut self, id: u16, value: Vec<u8>, now: Duration) -> bool {
        if self.entries == 0 || value.len() > self.bytes {
            return false;
        }
        self.remove(id);
        while self.len() >= self.entries || self.size() + value.len() > self.bytes {
            if self.probation.pop().is_none() {
                self.spare_the_read();
                self.protected.pop();
            }
        }
        let expires = now + TTL;
        let held = Held {
            id,
            value,
            expires,
            read_again: false,
        };
        self.probation.insert(0, held);
        true
    }

    fn get(&mut self, id: u16, now: Duration) -> Option<Vec<u8>> {
        let mut protected = self.protected.iter_mut();
        if let Some(held) = protected.find(|held| held.id == id && now < held.expires) {
            held.read_again = true;
            return Some(held.value.clone());
        }
        let held = self.remove(id).filter(|held| now < held.expires)?;
        self.protected.insert(0, held.clone());
        if self.protected.len() > (self.entries * 4 / 5).max(1) {
            self.spare_the_read();
            let mut demoted = self.protected.pop().unwrap();
            demoted.read_again = false;
            self.probation.insert(0, demoted);
        }
        Some(held.value)
    }

    fn spare_the_read(&mut self) {
        if let Some(held) = self.protected.pop_if(|held| held.read_again) {
            let read_again = false;
            self.protected.insert(0, Held { read_again, ..held });
        }
    }

    fn take(&mut self, id: u16, now: Duration) -> Option<Vec<u8>> {
        let held = self.remove(id).filter(|held| now < held.expires);
        held.map(|held| held.value)
    }

    fn remove(&mut self, id: u16) -> Option<Held> {
        for list in [&mut self.probation, &mut self.protected] {
            if let Some(at) = list.iter().position(|held| held.id == id) {
                return Some(list.remove(at));
            }
        }
        None
    }

    fn all(&self) -> impl Iterator<Item = &Held> {
        self.probation.iter().chain(&self.protected)
    }

    fn len(&self) -> usize {
        self.all().count()
    }

    fn size(&self) -> usize {
        self.all().map(|held| held.value.len()).sum()
    }
}

/// Does the operations on a cache of this budget and on the model, and compares.
pub fn check(ops: Vec<Op>, entries: usize, bytes: usize) {
    let time = FakeClock::new();
    let resumption = Resumption::builder()
        .stateful(entries)
        .cache_bytes(bytes)
        .session_ttl(TTL)
        .clock(time.clock())
        .build()
        .unwrap();
    let cache = resumption.session_storage("model");
    let mut model = Model {
        entries,
        bytes,
        ..Model::default()
    };
    let mut now = Duration::ZERO;
    for (step, op) in ops.into_iter().enumerate() {
        match op {
            Op::Put { id: number, len } => {
                // Bytes that are no session of rustls: both `get` and `take` serve them.
                let value = vec![step as u8; len];
                // Sweeping changes which of the expired are there to be evicted, so let the
                // model forget them too before room is needed.
                sweep(&resumption, &mut model, now);
                let stored = cache.put(id(number.into()).to_vec(), value.clone());
                assert_eq!(stored, model.put(number, value, now));
            }
            Op::Get(number) => {
                assert_eq!(cache.get(&id(number.into())), model.get(number, now));
            }
            Op::Take(number) => {
                assert_eq!(cache.take(&id(number.into())), model.take(number, now));
            }
            Op::Pass(duration) => {
                time.advance(duration);
                now += duration;
            }
        }
        let stats = resumption.stats().cache;
        assert!(stats.entries as usize <= entries);
        assert!(stats.bytes as usize <= bytes);
    }
    sweep(&resumption, &mut model, now);
    let stats = resumption.stats().cache;
    assert_eq!(stats.entries as usize, model.len());
    assert_eq!(stats.bytes as usize, model.size());
}

fn sweep(resumption: &Resumption, model: &mut Model, now: Duration) {
    resumption.step();
    resumption.step(); // the second begins at the start, wherever the first ended
    model.probation.retain(|held| now < held.expires);
    model.protected.retain(|held| now < held.expires);
}
