use super::super::h2o::TOO_LATE;
use super::*;
use crate::hex::Hex;

/// An entry of H2O's YAML, whose key is `cipher` and 64 bytes for HMAC.
fn entry(number: u8, cipher: usize, hmac: [u8; 64], times: [u64; 2]) -> String {
    let cipher_key: Vec<u8> = (0..cipher as u8).map(|i| i.wrapping_mul(number)).collect();
    let [not_before, not_after] = times;
    format!(
        "- name: {}\n  cipher: aes-{}-cbc # a comment\n  hash: \"sha256\"\n  key: {}{}\n  \
         not_before: {not_before}\n  not_after: {not_after}\n",
        Hex(&[number; 16]),
        cipher * 8,
        Hex(&cipher_key),
        Hex(&hmac).to_string().to_uppercase(),
    )
}

fn hmac(number: u8, len: usize) -> [u8; 64] {
    std::array::from_fn(|i| if i < len { number + i as u8 } else { 0 })
}

#[test]
fn the_newest_key_of_h2o_that_has_begun_seals() {
    let seconds = NOW.0 / 1_000;
    let [past, future] = [[seconds - 900, seconds + 60], [seconds + 60, seconds + 900]];
    let long_past = [seconds - 1_800, seconds - 900];
    let yaml = |times: &[[u64; 2]]| {
        let entries = (1..).zip(times);
        let entries = entries.map(|(i, times)| entry(i, 32, hmac(i, 64), *times));
        format!("---\n# H2O\n\n{}", entries.collect::<String>())
    };
    for (times, sealing, advice) in [
        (&[long_past, past, future][..], 1, 0),
        (&[future, past, long_past], 1, 0),
        (&[long_past, future], 0, 1),
        (&[future, [seconds + 1, seconds + 2]], 1, 0),
        (&[[0, u64::MAX]], 0, 0),
        (&[past, [seconds * 1_000, seconds * 1_000]], 0, 1),
        (&[past, [TOO_LATE, TOO_LATE]], 0, 0),
        (&[[seconds - 900, seconds]], 0, 0),
    ] {
        let content = Content::parse(yaml(times).as_bytes(), NOW);
        assert_eq!(content.wrong, None);
        assert!(content.is_list);
        assert_eq!(
            (content.sealing, content.advice.len()),
            (sealing, advice),
            "{times:?}"
        );
        assert_eq!(content.keys.len(), times.len());
    }
    let content = Content::parse(yaml(&[past, future]).as_bytes(), NOW);
    let (place, key) = &content.keys[1];
    assert_eq!((place, key.name()), (&Place::Line(10), &[2; 16][..]));
    assert_eq!(key.secret()[..64], hmac(2, 64));
    assert_eq!(key.secret().len(), 96);
    assert_eq!(key.h2o_times(), Some((future[0], future[1])));
}

#[test]
fn an_nginx_key_in_h2os_yaml_is_the_same_key() {
    let yaml = entry(3, 32, hmac(3, 32), [0, 1]);
    let content = Content::parse(yaml.as_bytes(), NOW);
    let cipher = content.keys[0].1.as_bytes()[48..].to_vec();
    assert_eq!(cipher.len(), 32);
    let nginx = [&[3; 16][..], &hmac(3, 64)[..32], &cipher].concat();
    assert_eq!(content.keys[0].1.as_bytes(), nginx);
    assert_eq!(content.keys[0].1.weakness(), None);
    // AES-128 has no such twin.
    let short = Content::parse(entry(3, 16, hmac(3, 32), [0, 1]).as_bytes(), NOW);
    assert_eq!(short.keys[0].1.as_bytes().len(), 96);
    let weak = Content::parse(entry(3, 16, [7; 64], [0, 1]).as_bytes(), NOW);
    assert!(weak.keys[0].1.weakness().is_some());
}

#[test]
fn errors_in_yaml_name_the_line_and_the_problem() {
    let good = entry(1, 32, hmac(1, 64), [5, 6]);
    for (old, new, said) in [
        (
            "  hash: \"sha256\"\n",
            "",
            "line 7: the entry has no `hash`",
        ),
        ("sha256", "md5", "line 7: `hash` must be"),
        ("aes-256-cbc", "aes-256-gcm", "line 7: `cipher` must be"),
        (
            "aes-256-cbc",
            "aes-128-cbc",
            "line 7: `key` must be 160 hexadecimal digits",
        ),
        (
            "name: 01",
            "name: 0",
            "line 7: `name` must be 32 hexadecimal digits",
        ),
        (
            "name: 01",
            "name: 0g",
            "line 7: `name` must be 32 hexadecimal digits",
        ),
        (
            "not_before: 5",
            "not_before: soon",
            "line 7: `not_before` must be a number",
        ),
        (
            "not_before: 5",
            "not_before: 7",
            "line 7: `not_after` is before",
        ),
        (
            "not_before: 5",
            "name: x",
            "line 7: the entry has `name` twice",
        ),
        (
            "  not_before",
            "not_before",
            "line 7: neither base64 nor YAML",
        ),
        ("- name", "name", "line 1: neither base64 nor YAML"),
    ] {
        let bad = good.replacen(old, new, 1);
        assert_ne!(bad, good);
        let (first, line) = match said.starts_with("line 7") {
            true => (entry(2, 32, hmac(2, 64), [5, 6]), 1),
            false => (String::new(), 0),
        };
        let content = Content::parse((first + &bad).as_bytes(), NOW);
        let wrong = content.wrong.unwrap().to_string();
        assert!(wrong.starts_with(said), "{wrong}");
        assert_eq!(content.keys.len(), line, "the good one is told of");
    }
    assert!(error(b"a: b").starts_with("line 1: neither base64 nor YAML"));
    assert_eq!(error(b"---\n# keys: none yet\n"), "empty");
    let many = |n| -> String { (0..n).map(|i| entry(i, 32, hmac(i, 64), [5, 6])).collect() };
    assert_eq!(error(many(65).as_bytes()), "more than 64 keys");
    let most = Content::parse(many(64).as_bytes(), NOW);
    assert_eq!((most.wrong, most.keys.len()), (None, 64));
}
