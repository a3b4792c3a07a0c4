//! Sealing, opening and refusing tickets, beside rustls's `Ticketer` and the bare primitives.

use std::time::Duration;

use benches::handshakes::session;
use benches::rotation::rotating;
use benches::tickets::{Contender, Workload, ring};
use benches::timing::slowest;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustls::version::TLS13;

/// A bare session, one with a client's certificate, and one with a chain of them.
const LENGTHS: [usize; 3] = [130, 1_024, 8_192];

type Work = fn(&Workload, usize) -> Duration;

const WORK: [(&str, Work); 4] = [
    ("seal", Workload::seals),
    ("open", Workload::opens),
    ("refuse junk", Workload::refuses_junk),
    ("refuse forged", Workload::refuses_forged),
];

fn one_thread(criterion: &mut Criterion) {
    for length in LENGTHS {
        let session = session(&TLS13, length);
        for (name, work) in WORK {
            let mut group = criterion.benchmark_group(format!("tickets: {name}"));
            for contender in Contender::ALL {
                let workload = Workload::new(contender, &session);
                group.bench_function(BenchmarkId::new(contender.name(), length), |bencher| {
                    bencher.iter_custom(|iterations| work(&workload, iterations as usize));
                });
            }
        }
    }
}

fn two_threads(criterion: &mut Criterion) {
    let session = session(&TLS13, 130);
    for (name, work) in WORK {
        let mut group = criterion.benchmark_group(format!("tickets: {name}, two threads"));
        group.throughput(Throughput::Elements(2));
        for contender in Contender::ALL {
            let workload = Workload::new(contender, &session);
            group.bench_function(BenchmarkId::new(contender.name(), 130), |bencher| {
                bencher.iter_custom(|iterations| {
                    slowest(&mut [(); 2], |()| work(&workload, iterations as usize))
                });
            });
        }
    }
}

fn while_rotating(criterion: &mut Criterion) {
    let session = session(&TLS13, 130);
    let mut group = criterion.benchmark_group("tickets: while rotating");
    for (name, work) in WORK {
        let ring = ring();
        let workload = Workload::with(ring.clone(), &session);
        group.bench_function(BenchmarkId::new(name, 130), |bencher| {
            rotating(&ring, || {
                bencher.iter_custom(|iterations| work(&workload, iterations as usize));
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = one_thread, two_threads, while_rotating
}
criterion_main!(benches);
