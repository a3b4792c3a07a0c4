//! The server's time for in-memory handshakes, full and resumed, beside rustls's built-ins.

use std::env;
use std::time::Duration;

use benches::handshakes::{By, Crowd, ServerKey, Site, Way, crowds};
use benches::timing::{Effort, slowest};
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};

type Work = fn(&mut Crowd, usize) -> Duration;

fn by_way(criterion: &mut Criterion) {
    for key in ServerKey::ALL {
        for way in Way::ALL {
            let site = Site::new(way.version(), key);
            let name = format!("handshakes: {}, {}", way.name(), key.name());
            let mut group = criterion.benchmark_group(name);
            for by in By::ALL {
                for (name, work) in [("full", Crowd::meet as Work), ("resumed", Crowd::come_back)] {
                    let name = format!("{name}, {}", by.name());
                    bench(&mut group, name, work, || {
                        crowds(&site, (way, by), 1_000, 1, effort())
                    });
                }
            }
        }
    }
}

fn by_cache(criterion: &mut Criterion) {
    for way in Way::ALL.into_iter().filter(|way| way.stateful()) {
        let site = Site::new(way.version(), ServerKey::P256);
        for threads in [1, 2] {
            let name = format!("handshakes: {}, {threads} thread(s)", way.name());
            let mut group = criterion.benchmark_group(name);
            group.throughput(Throughput::Elements(threads as u64));
            for sessions in [1_000, 100_000, 500_000] {
                for by in By::ALL {
                    let name = format!("{sessions} live sessions, {}", by.name());
                    bench(&mut group, name, Crowd::come_back, || {
                        crowds(&site, (way, by), sessions, threads, effort())
                    });
                }
            }
        }
    }
}

fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: String,
    work: Work,
    crowds: impl Fn() -> Vec<Crowd>,
) {
    group.sampling_mode(SamplingMode::Flat);
    // Fill no cache for a benchmark that is filtered out.
    let mut met = None;
    group.bench_function(name, |bencher| {
        let crowds = met.get_or_insert_with(&crowds);
        bencher.iter_custom(|iterations| slowest(crowds, |crowd| work(crowd, iterations as usize)));
    });
}

/// `cargo bench -- --test` runs everything once.
fn effort() -> Effort {
    Effort::new(env::args().any(|argument| argument == "--test"))
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = by_way, by_cache
}
criterion_main!(benches);
