//! The ring of STEKs against a model of its windows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::ProducesTickets;
use rustls_resumption::{FakeClock, KeyName, Resumption, ResumptionBuilder, Rotation};

use test_support::session;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Reads operations from bytes, as a fuzzer makes them.
pub fn run(data: &[u8]) {
    let ops = data.as_chunks().0.iter().map(|&[kind, high, low]| {
        let number = u16::from_be_bytes([high, low]);
        // Whole seconds, multiples of the clock's grain.
        let time = Duration::from_secs(u64::from(number) % (4 * 3600 / 16) * 16);
        match kind % 16 {
            0..3 => Op::Pass(time),
            3 => Op::StepForward(time),
            4 => Op::StepBack(time),
            5..8 => Op::Step,
            8..11 => Op::Seal,
            11..14 => Op::Open(number.into()),
            14 => Op::Rotate,
            _ => Op::Revoke(number.into()),
        }
    });
    check(ops.collect());
}

/// What is done to the ring, and what clocks do. Tickets are numbered as they are made.
#[derive(Clone, Debug)]
pub enum Op {
    Pass(Duration),
    StepForward(Duration),
    StepBack(Duration),
    Step,
    Seal,
    Open(usize),
    Rotate,
    Revoke(usize),
}

/// What the test knows of a STEK that it saw sealing.
#[derive(Clone, Copy)]
struct Seen {
    retires: Duration,
    revoked: bool,
    /// When it last opened a ticket, by elapsed time.
    opened: Option<i64>,
    /// Whether it was revoked before it had expired.
    in_use: bool,
}

impl Seen {
    /// Whether a handshake may be under way that opened a ticket with it, though it is revoked.
    fn is_renewed(&self, elapsed: i64) -> bool {
        let window = ResumptionBuilder::DEFAULT_INCIDENT_WINDOW.as_secs() as i64;
        self.revoked && self.opened.is_some_and(|opened| elapsed < opened + window)
    }
}

/// A ring on a clock that only the test moves.
pub fn fake(rotation: Rotation) -> (FakeClock, Resumption, Arc<dyn ProducesTickets>) {
    let time = FakeClock::new();
    let resumption = Resumption::builder()
        .rotation(rotation)
        .cache_entries(0) // made for each case, and not used
        .clock(time.clock())
        .build()
        .unwrap();
    let ring = resumption.ticketer("a");
    (time, resumption, ring)
}

/// Does the operations and compares each outcome with the model's: a ticket opens exactly as long
/// as its STEK's window says, by a clock that is the larger of elapsed and wall time and never goes
/// back; whether or not anybody steps the ring.
pub fn check(ops: Vec<Op>) {
    let lifetime = 3 * HOUR;
    // Of TLS 1.3, so that what was opened before says nothing of its age.
    let session = session::tls13(b"secret", b"");
    let (time, resumption, ring) = fake(Rotation::new().ticket_lifetime(lifetime));
    let mut keys: HashMap<KeyName, Seen> = HashMap::new();
    let mut tickets: Vec<(KeyName, Vec<u8>)> = Vec::new();
    // Steady time since the start, and how far wall time is from elapsed time.
    let (mut elapsed, mut offset, mut ahead) = (0_i64, 0_i64, 0_i64);
    for op in ops {
        match op {
            Op::Pass(by) => {
                time.advance(by);
                elapsed += by.as_secs() as i64;
            }
            Op::StepForward(by) => {
                time.step_forward(by);
                offset += by.as_secs() as i64;
            }
            Op::StepBack(by) => {
                time.step_back(by);
                offset -= by.as_secs() as i64;
            }
            _ => {}
        }
        ahead = ahead.max(offset);
        // A jump counts once somebody looked at the clock.
        let active = resumption.stats().steks;
        let now = Duration::from_secs((elapsed + ahead) as u64);
        match op {
            Op::Step => drop(resumption.step()),
            Op::Rotate => {
                resumption.step();
                let before = resumption.stats().steks.active.unwrap();
                resumption.rotate_now().unwrap();
                assert_ne!(resumption.stats().steks.active.unwrap(), before);
                keys.entry(before).and_modify(|key| key.retires = now);
            }
            Op::Seal => {
                let mut renewed = keys.values().filter(|key| key.is_renewed(elapsed));
                let Some(ticket) = ring.encrypt(&session) else {
                    let none_seals = active.active.is_none();
                    assert!(
                        none_seals || renewed.next().is_some(),
                        "one that may seal must"
                    );
                    continue;
                };
                assert!(
                    !renewed.any(|key| key.in_use),
                    "it may renew what was revoked"
                );
                let name = active.active.unwrap();
                assert_eq!(&ticket[..16], &name.as_bytes()[..]);
                let age = active.active_age.unwrap();
                assert!(age < HOUR, "sealed in its interval: {:?}", age);
                let retires = now + HOUR - age;
                let seen = Seen {
                    retires,
                    revoked: false,
                    opened: None,
                    in_use: false,
                };
                assert!(!keys.entry(name).or_insert(seen).revoked);
                tickets.push((name, ticket));
            }
            Op::Open(n) if !tickets.is_empty() => {
                let (name, ticket) = &tickets[n % tickets.len()];
                let key = keys[name];
                let opens = !key.revoked && now < key.retires + lifetime;
                assert_eq!(ring.decrypt(ticket).is_some(), opens);
                if opens {
                    keys.entry(*name)
                        .and_modify(|key| key.opened = Some(elapsed));
                }
            }
            Op::Revoke(n) if !tickets.is_empty() => {
                let (name, _) = tickets[n % tickets.len()];
                let _ = resumption.revoke(&name);
                // If it had expired, it stays so.
                keys.entry(name).and_modify(|key| {
                    key.in_use |= now < key.retires + lifetime;
                    key.revoked = true;
                });
            }
            _ => {}
        }
    }
}
