//! Putting, getting and taking sessions in full caches, beside rustls's own cache and other
//! crates'.

use std::env;
use std::time::Duration;

use benches::caches::{Contender, Workload, ZipfMix};
use benches::handshakes::session;
use benches::timing::slowest;
use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

const ENTRIES: [usize; 5] = [256, 4_096, 65_536, 524_288, 1_048_576];

type Work = fn(&mut Workload, usize) -> Duration;

/// TLS 1.2 sessions are looked up, TLS 1.3 sessions are taken.
const WORK: [(&str, &SupportedProtocolVersion, Work); 4] = [
    ("get hit", &TLS12, Workload::get_hits),
    ("get miss", &TLS12, Workload::get_misses),
    ("take+put", &TLS13, Workload::take_and_put),
    ("put", &TLS13, Workload::puts),
];

fn operations(criterion: &mut Criterion) {
    // `cargo bench -- --test` runs everything once, where filling large caches would take longest.
    let test = env::args().any(|argument| argument == "--test");
    let sizes = if test { &ENTRIES[..3] } else { &ENTRIES };
    for (name, version, work) in WORK {
        let session = session(version, 130);
        for threads in [1, 2] {
            let mut group =
                criterion.benchmark_group(format!("cache: {name}, {threads} thread(s)"));
            group.sampling_mode(SamplingMode::Flat);
            group.throughput(Throughput::Elements(threads as u64));
            for &entries in sizes {
                for contender in Contender::ALL {
                    let fill = || Workload::new(contender, entries, &session).split(threads);
                    // Fill no cache for a benchmark that is filtered out.
                    let mut full = None;
                    group.bench_function(BenchmarkId::new(contender.name(), entries), |bencher| {
                        let parts = full.get_or_insert_with(fill);
                        bencher.iter_custom(|iterations| {
                            slowest(parts, |part| work(part, iterations as usize))
                        });
                    });
                }
            }
        }
    }
}

fn zipf_mix(criterion: &mut Criterion) {
    let session = session(&TLS12, 130);
    for strangers in [0.0, 0.5] {
        let mix = ZipfMix {
            clients: 100_000,
            strangers,
            visits: 200_000,
        };
        let mut group = criterion.benchmark_group(format!(
            "cache: 10,000 entries, 200,000 visits, {}% of them by clients who never come back",
            100.0 * strangers
        ));
        group.sampling_mode(SamplingMode::Flat);
        for contender in Contender::ALL {
            let mut share = None;
            group.bench_function(contender.name(), |bencher| {
                bencher.iter_custom(|iterations| {
                    (0..iterations)
                        .map(|_| {
                            let (hits, lasted) = mix.run(&*contender.build(10_000), &session);
                            share = Some(hits);
                            lasted
                        })
                        .sum()
                });
            });
            if let Some(share) = share {
                println!(
                    "{}: {:.1} % of returning visits hit",
                    contender.name(),
                    100.0 * share
                );
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = operations, zipf_mix
}
criterion_main!(benches);
