//! Shared sources erase what they must: the process's own memory is searched for it.
#![cfg(target_os = "linux")]

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_resumption::source::{DerivedSource, KeyDirectory, KeyFiles};
use rustls_resumption::{FakeClock, Resumption};
use test_support::alone::alone;
use test_support::memory::Needle;
use zeroize::Zeroizing;

use crate::either::Either;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// All computed by another implementation, for the default origin and schedule and for the epoch
/// that begins when a fake clock does. With `d(s, label) = HKDF("rustls-resumption epochs", s,
/// label)`: seed = `d(secret, "seed")`, root = `d(seed, "origin and interval" ‖ both in ms)`, the
/// epoch's secret follows from the root by 48 steps `d(.., "left" or "right")` and `d(..,
/// "epoch")`, and the STEK from that. Byte `i` of the secret is `41 i + 3`.
const SECRET: &str = "a689f0db02755c87eed138634abde4cf361940ab92c52c177ea188f3da0d745f";
const SEED: &str = "63520cb80989c0e037dd5d7b9375dc691067147a1c88e3afc19aef40380134cf";
const ROOT: &str = "63a2818dbb47528d6c5ffa8dd61a0f859437b14b75f1777b20d4022e7c5fcb51";
const EPOCH: &str = "7df7aa37a11e324cfcc817421944b8404af9d481b19f663a2f4f8d9b39780eef";
const EPOCH_TICKET_KEY: Either = Either(
    "06ce327113ee06093012b9c9ce0466a89b2218180e98a4aeec39cb511b6f0c9a",
    "c26dcd05e6019836c8d04c84f141939729f45b378db96dfd2a471be92a2021bd",
);
const EPOCH_KEY_NAME: Either = Either(
    "14c2ba2037dbe81b7a1d2ff93a087b9c",
    "8c0e73571d03770e3a19d199ffa0b39c",
);

/// Secrets of the ratchet's nodes: of those above the epoch, the one below the root, the middle one
/// and the lowest; and of those that stay when it is forgotten, the next epoch's and the half of
/// the tree that is farthest ahead.
const NODES_ABOVE: [&str; 3] = [
    "cc18b50729b59d0d2ae1b853d8e2814b6d9fe24646a88d4a733a45b33204a4b5",
    "5ef29397d86366c6ef40a75467edd70d3ee450b513b28d37a09e55927daaaf8d",
    "e5ed98838facb7b10cbfd62211177903129108d11c814bda0d56c0fd887e5b26",
];
const NODE_OF_NEXT: &str = "8982395bb7abbdd5720e2780dbf64b2c9c4ae3e17cd7b22fe597eba110cc1951";
const NODE_AHEAD: &str = "9b2900905554c81c0382719bdca920f244a900a828639f3b389b13edb73eef18";

/// A key of 80 bytes, of which byte `i` is `53 i + 7`, its base64, and the keys of its STEK.
const FILE_KEY: &str = concat!(
    "a299d4037eb5e0df0a41bceb261d4887f22964538ec5306f5a91cc3b76ad98d70279b4e3de1540bf",
    "ea211c4b86fd28675289c4336ea590cf3a71ac9bd60d78b7e2d91443bef5201f4a81fc2b665d88c7",
);
const FILE_BASE64: &str = concat!(
    "e7dfddddd5d1d6f4f7fdd4d390e7c9eac292cfd1ecc9c0e8d2c3fcd7fceffdee8adff7d5cbd1e8ec",
    "f5fdeecb96e7e3e2c092e1c9e2ce8ee0d0c091cff2ec96e69cdcddcdc9d6d6e4ebf2d4c394e4ce8e",
    "c693cfc1e0cec19dd6c0fcc7f0ecf29392dcf7ffcfd6f591e9f2ec98",
);
const FILE_TICKET_KEY: Either = Either(
    "d9aea5ce08f657298c6d34a9b83d867d04169d4d9354f189f2f0245140f39dee",
    "8405b0a2387ba2523bbd934298f61cdde0392d5224f175d39ef0348bfb3f5e98",
);
const FILE_STORE_KEY: Either = Either(
    "b962bd7fd94c5d4f90c8698108807589ce225d4500b744459e7466339e4d4ebe",
    "6e6d2bd035c40655975227ed0afea14cebf312c6c37328a7fa0159537767948c",
);

/// A secret in a key directory, of which byte `i` is `37 i + 11`, and the keys of its STEK.
const SHARED_SECRET: &str = "ae95f0df3a614cab96fdd8076249b493fe25006f4ab19cfb260d6857b299c423";
const SHARED_TICKET_KEY: Either = Either(
    "67fefbc662e3ef5880a1ee0bc4dfc925b91182586046aea0945e443207bdd9d5",
    "7041f10335384addf522b06caee2bb08a2b9b217dccd7931ca17f2176c994f2a",
);
const SHARED_STORE_KEY: Either = Either(
    "ea5032aadbdc7daa89ee1ef2d30326e180ba32fda9423a483698beac4f235919",
    "840e54ddbd617cfdf1006dfd9d5094e01fbd0ce94ca254c72a22417a6e01c7a1",
);

fn count(masked: &str) -> usize {
    Needle::masked_hex("", masked).count()
}

fn reveal(masked: &str) -> Zeroizing<Vec<u8>> {
    let mut clear = Zeroizing::new(Vec::with_capacity(masked.len() / 2));
    Needle::masked_hex("", masked).reveal(&mut clear);
    clear
}

/// One test for all, in one process: what one test holds another would find.
#[test]
fn sources_keep_secrets_no_longer_than_documented() {
    alone(|| {
        the_shared_secret_is_never_kept_and_the_root_until_the_clocks_agree();
        a_source_that_is_dropped_leaves_no_root();
        a_revoked_epoch_is_out_of_memory_at_once();
        key_files_are_not_kept_and_their_steks_only_while_listed();
        a_key_directory_leaves_nothing_of_what_expired_or_was_revoked();
    });
}

fn derived(time: &FakeClock) -> Resumption {
    let source = DerivedSource::new(&reveal(SECRET)).unwrap();
    assert_eq!(count(SECRET), 0);
    let builder = Resumption::builder().stek_source(source);
    let resumption = builder.clock(time.clock()).build().unwrap();
    let active = resumption.stats().steks.active.unwrap();
    assert_eq!(
        active.to_string(),
        EPOCH_KEY_NAME.own(),
        "the computed keys are those in use"
    );
    resumption
}

fn the_shared_secret_is_never_kept_and_the_root_until_the_clocks_agree() {
    let time = FakeClock::new();
    let resumption = derived(&time);
    assert_eq!([SECRET, SEED, EPOCH].map(count), [0, 0, 0]);
    assert_eq!(NODES_ABOVE.map(count), [0, 0, 0], "passed on the way down");
    assert!(
        count(ROOT) > 0 && count(EPOCH_TICKET_KEY.own()) > 0,
        "so they can be found"
    );
    time.advance(13 * HOUR - Duration::from_millis(1));
    resumption.step();
    assert!(
        count(ROOT) > 0 && count(EPOCH_TICKET_KEY.own()) > 0,
        "to the last moment"
    );
    time.advance(Duration::from_millis(1));
    resumption.step();
    assert_eq!(
        [SECRET, SEED, ROOT, EPOCH, EPOCH_TICKET_KEY.own()].map(count),
        [0; 5]
    );
    assert_eq!(NODES_ABOVE.map(count), [0, 0, 0]);
    assert!(count(NODE_OF_NEXT) > 0 && count(NODE_AHEAD) > 0);
    assert!(resumption.ready(), "and it goes on");
    time.advance(HOUR);
    resumption.step();
    assert_eq!(count(NODE_OF_NEXT), 0);
    assert!(count(NODE_AHEAD) > 0);
    drop(resumption);
    assert_eq!(count(NODE_AHEAD), 0);
}

fn a_source_that_is_dropped_leaves_no_root() {
    let resumption = derived(&FakeClock::new());
    assert!(count(ROOT) > 0);
    drop(resumption);
    assert_eq!([ROOT, EPOCH_TICKET_KEY.own()].map(count), [0, 0]);
}

fn a_revoked_epoch_is_out_of_memory_at_once() {
    let time = FakeClock::new();
    let resumption = derived(&time);
    assert!(count(EPOCH_TICKET_KEY.own()) > 0);
    let active = resumption.stats().steks.active.unwrap();
    assert_eq!(resumption.revoke(&active).steks, 1);
    assert_eq!([ROOT, EPOCH, EPOCH_TICKET_KEY.own()].map(count), [0; 3]);
    time.advance(HOUR);
    resumption.step();
    assert!(!resumption.stats().steks.fallen_back);
}

fn key_files_are_not_kept_and_their_steks_only_while_listed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let write = |content: &[u8]| {
        let temporary = directory.path().join("temporary");
        let mut options = File::options();
        let options = options.write(true).create(true).mode(0o600);
        options
            .open(&temporary)
            .unwrap()
            .write_all(content)
            .unwrap();
        fs::rename(temporary, &path).unwrap();
    };
    let list = |first: &[u8]| {
        let last: &[u8] = b"\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v\n";
        Zeroizing::new([first, last].concat())
    };
    type Write<'a> = (&'a str, &'a dyn Fn());
    let formats: [Write<'_>; 2] = [
        ("bytes", &|| write(&reveal(FILE_KEY))),
        ("base64", &|| write(&list(&reveal(FILE_BASE64)))),
    ];
    for (format, write_key) in formats {
        write_key();
        let time = FakeClock::new();
        let source = KeyFiles::new([&path]).unwrap();
        let builder = Resumption::builder().stek_source(source);
        let resumption = builder.clock(time.clock()).build().unwrap();
        for _ in 0..3 {
            assert_eq!([FILE_KEY, FILE_BASE64].map(count), [0, 0], "{format}");
            let kept = [FILE_TICKET_KEY.own(), FILE_STORE_KEY.own()].map(count);
            assert!(
                kept.iter().all(|count| *count > 0),
                "{format}: so they can be found"
            );
            time.advance(Duration::from_secs(1));
            resumption.step();
        }
        let other: Vec<u8> = (0..80).collect();
        write(&other);
        time.advance(Duration::from_secs(1));
        resumption.step();
        let all = [
            FILE_KEY,
            FILE_BASE64,
            FILE_TICKET_KEY.own(),
            FILE_STORE_KEY.own(),
        ];
        assert_eq!(all.map(count), [0; 4], "{format}");
        assert!(resumption.ready());
    }
}

fn a_key_directory_leaves_nothing_of_what_expired_or_was_revoked() {
    let start = FakeClock::START * 1_000;
    let hour = 60 * 60 * 1_000_u64;
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("steks");
    let all = || {
        [
            SHARED_SECRET,
            SHARED_TICKET_KEY.own(),
            SHARED_STORE_KEY.own(),
        ]
        .map(count)
    };
    let resumption = |time: &FakeClock| {
        let source = KeyDirectory::new(&path).unwrap();
        {
            // As `src/source/shared/directory/files.rs` draws it, and
            // `src/source/shared/record/encoding.rs` what is in it.
            let mut file = Zeroizing::new(Vec::with_capacity(4096));
            file.extend_from_slice(&136_u32.to_be_bytes());
            file.push(2);
            for number in [5, hour, 12 * hour, hour / 12] {
                file.extend_from_slice(&number.to_be_bytes());
            }
            file.extend_from_slice(&[1, 0, 0, 0, 64]);
            for time in [start, start, start + hour, start + 13 * hour] {
                file.extend_from_slice(&time.to_be_bytes());
            }
            Needle::masked_hex("", SHARED_SECRET).reveal(&mut file);
            file.extend_from_slice(&[2, 0, 0, 0, 8]);
            file.extend_from_slice(&[0; 8]);
            file.extend_from_slice(&[3, 0, 0, 0, 16]);
            file.extend_from_slice(&[0; 16]);
            file.resize(4096 - 32, 0);
            let sum = digest(&SHA256, &file);
            file.extend_from_slice(sum.as_ref());
            let mut options = File::options();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let record = path.join("steks.2");
            options.open(record).unwrap().write_all(&file).unwrap();
        }
        let builder = Resumption::builder().stek_source(source);
        builder.clock(time.clock()).build().unwrap()
    };

    let time = FakeClock::new();
    let ours = resumption(&time);
    assert!(all().iter().all(|count| *count > 0), "so they can be found");
    time.advance(13 * HOUR - Duration::from_millis(1));
    ours.step();
    assert!(all().iter().all(|count| *count > 0), "to the last moment");
    time.advance(Duration::from_secs(2)); // the directory is looked at so often
    ours.step();
    assert_eq!(all(), [0; 3]);
    assert!(ours.ready(), "and it goes on");

    let ours = resumption(&FakeClock::new());
    assert!(all().iter().all(|count| *count > 0));
    let _ = ours.revoke_all();
    assert_eq!(all(), [0; 3]);

    let time = FakeClock::new();
    let ours = resumption(&time);
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    time.advance(13 * HOUR);
    ours.step();
    assert_eq!(ours.stats().steks.source_failures, 1);
    assert_eq!(all(), [0; 3], "even if the directory cannot be used");
}
