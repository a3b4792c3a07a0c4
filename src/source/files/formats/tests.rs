use base64ct::{Base64, Encoding};
use proptest::prelude::*;

use super::lines::decode;
use super::*;

mod h2o;

/// In 2027.
const NOW: Time = Time(1_800_000_000_000);

/// What is read of a file that is good.
#[derive(Debug)]
enum Keys {
    One(FileKey),
    /// With their lines' numbers.
    List(Vec<(usize, FileKey)>),
}

fn parse(content: &[u8]) -> Result<Keys, FormatError> {
    let mut content = Content::parse(content, NOW);
    if let Some(wrong) = content.wrong {
        return Err(wrong);
    }
    if !content.is_list {
        return Ok(Keys::One(content.keys.remove(0).1));
    }
    let keys = content.keys.into_iter().map(|(place, key)| match place {
        Place::Line(number) | Place::Key(number) => (number, key),
        Place::WholeFile => panic!("a list of whole files"),
    });
    Ok(Keys::List(keys.collect()))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = vec![0; Base64::encoded_len(bytes)];
    Base64::encode(bytes, &mut text).unwrap().into()
}

fn error(content: &[u8]) -> String {
    parse(content).unwrap_err().to_string()
}

#[test]
fn a_file_of_48_or_80_bytes_is_a_key_with_its_name_and_secret_apart() {
    for len in [48_u8, 80] {
        let bytes: Vec<u8> = (0..len).collect();
        let Ok(Keys::One(key)) = parse(&bytes) else {
            panic!("{len} bytes are a key");
        };
        assert_eq!((key.name(), key.secret()), bytes.split_at(16));
        assert_eq!(key.as_bytes(), bytes);
        assert_eq!(key.is_short(), len == 48);
        assert_eq!(key.weakness(), None);
    }
}

#[test]
fn a_list_with_a_byte_that_is_no_text_is_not_keys_of_48_bytes() {
    let list = [1, 2].map(|fill: u8| base64(&Vec::from_iter(fill..fill + 48)) + "\n");
    for (byte, shown, length) in [(0, "0x00", 144), (0x12, "0x12", 192), (0x7f, "0x7f", 144)] {
        let mut content = list.concat().into_bytes();
        content.resize(length, byte);
        let told = error(&content);
        assert!(
            told.starts_with(&format!("line 3 has a byte {shown}")),
            "{told}"
        );
    }
    let yaml = b"- name: 0\n\0".repeat(48);
    assert!(error(&yaml).starts_with("line 2 has a byte 0x00"));
}

#[test]
fn lines_of_base64_are_a_list_in_their_order() {
    // As `openssl rand 80 | openssl base64 -A | xargs echo` appends them.
    let keys: Vec<Vec<u8>> = [(0, 80), (100, 180), (7, 55)]
        .map(|(from, to)| (from..to).collect())
        .into();
    for (end, last) in [("\n", "\n"), ("\r\n", "\r\n"), ("\n\n", "")] {
        let lines: Vec<_> = keys.iter().map(|key| base64(key)).collect();
        let content = lines.join(end) + last;
        let Ok(Keys::List(list)) = parse(content.as_bytes()) else {
            panic!("{content}");
        };
        assert!(list.iter().map(|(_, key)| key.as_bytes()).eq(&keys));
        let number = if end == "\n\n" { 5 } else { 3 };
        assert_eq!(list[2].0, number, "a line's number counts blank ones");
    }
}

#[test]
fn base64_of_openssl_is_read() {
    let decoded = |text: &str| decode(text).map(|bytes| bytes.to_vec());
    assert_eq!(decoded("Zm9vYmFy").unwrap(), b"foobar");
    assert_eq!(decoded("Zm9vYmE=").unwrap(), b"fooba");
    assert_eq!(decoded("Zm9vYg==").unwrap(), b"foob");
    assert_eq!(decoded("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
    assert_eq!(decoded("").unwrap(), b"");
    for wrong in [
        "Zm9vYg", "Zm9vYh==", "Zm9v!mFy", "Zm=vYmFy", "====", "Z===", "-_-_", "Zm9v YmF",
    ] {
        assert_eq!(decoded(wrong), None, "{wrong}");
    }
}

#[test]
fn decoding_allocates_once_and_leaves_no_copies() {
    let decoded = decode(&base64(&[7; 80])).unwrap();
    assert_eq!((decoded.len(), decoded.capacity()), (80, 81));
}

#[test]
fn anything_else_is_refused_and_says_what_is_wrong() {
    let key = base64(&[1; 80]);
    assert_eq!(error(b""), "empty");
    assert_eq!(error(b"\n \n"), "empty");
    assert!(error(&[0xff; 79]).starts_with("79 bytes: a key of nginx"));
    assert!(error(&[0; 32]).starts_with("32 bytes: "));
    assert!(error(key.as_bytes()).starts_with("base64 of one key: "));
    let short = format!("{key}\n{}", base64(&[1; 47]));
    assert_eq!(
        error(short.as_bytes()),
        "line 2: 47 bytes in base64: a key has 48 or 80"
    );
    let cut = format!("{key}\n{}", &key[..50]);
    assert!(error(cut.as_bytes()).starts_with("line 2: not base64: "));
    assert!(error(b"-----BEGIN PRIVATE KEY-----").starts_with("line 1: not base64: "));
    let many = format!("{key}\n").repeat(65);
    assert_eq!(error(many.as_bytes()), "more than 64 keys");
}

#[test]
fn a_part_that_is_all_one_byte_is_weak() {
    for (len, weak) in [
        (48, 16..32),
        (48, 32..48),
        (80, 16..48),
        (80, 48..80),
        (80, 16..80),
    ] {
        let mut bytes: Vec<u8> = (0..len).collect();
        bytes[weak].fill(0xaa);
        let key = FileKey::new(Zeroizing::new(bytes)).unwrap();
        assert!(key.weakness().unwrap().starts_with("all bytes are equal"));
    }
    let mut bytes: Vec<u8> = (0..80).collect();
    bytes[..16].fill(0);
    let key = FileKey::new(Zeroizing::new(bytes)).unwrap();
    assert_eq!(key.weakness(), None, "a name is no secret");
}

#[test]
fn debug_of_a_key_shows_no_secret() {
    let key = FileKey::new(Zeroizing::new((0..80).collect())).unwrap();
    assert_eq!(format!("{key:?}"), "FileKey { .. }");
}

/// Text that is nearly a list.
fn nearly_a_list() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        proptest::collection::vec(any::<u8>(), 44..84).prop_map(|bytes| base64(&bytes)),
        "[A-Za-z0-9+/=]{0,120}",
        "\\PC{0,20}",
    ];
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just(" ")];
    proptest::collection::vec((line, end), 0..6)
        .prop_map(|lines| {
            lines
                .iter()
                .flat_map(|(line, end)| [line, *end])
                .collect::<String>()
        })
        .prop_map(String::into_bytes)
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        let is_key = matches!(content.len(), 48 | 80);
        prop_assert_eq!(matches!(parse(&content), Ok(Keys::One(_))), is_key);
    }

    #[test]
    fn no_text_makes_it_panic_and_what_it_takes_are_keys(content in nearly_a_list()) {
        match parse(&content) {
            Ok(Keys::List(keys)) => {
                prop_assert!(keys.len() >= 2);
                for (number, key) in keys {
                    prop_assert!(number >= 1 && matches!(key.as_bytes().len(), 48 | 80));
                }
            }
            Ok(Keys::One(key)) => prop_assert_eq!(key.as_bytes(), content),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn every_list_is_read_as_it_was_written(
        keys in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 48),
                proptest::collection::vec(any::<u8>(), 80),
            ],
            2..8,
        )
    ) {
        let content: String = keys.iter().map(|key| base64(key) + "\n").collect();
        let Ok(Keys::List(read)) = parse(content.as_bytes()) else {
            return Err(TestCaseError::fail(content));
        };
        prop_assert!(read.iter().map(|(_, key)| key.as_bytes()).eq(&keys));
    }

    #[test]
    fn base64_decodes_to_what_was_encoded(
        bytes in proptest::collection::vec(any::<u8>(), 0..100)
    ) {
        let decoded = decode(&base64(&bytes));
        prop_assert_eq!(decoded.map(|decoded| decoded.to_vec()), Some(bytes));
    }
}

#[test]
fn base64_of_a_single_key_is_refused_with_advice() {
    let key = base64(&[1; 80]);
    let said = error(key.as_bytes());
    for part in [
        "base64 of one key: a file holds either the 80 bytes themselves (`base64 -d`)",
        "at least two keys",
        "`stringData`",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // In lines of 76 characters, as `base64` writes it.
    let wrapped = format!("{}\n{}\n", &key[..76], &key[76..]);
    assert_eq!(error(wrapped.as_bytes()), said);
    let twice = base64(key.as_bytes());
    assert!(error(twice.as_bytes()).starts_with("base64 of base64 of one key: "));
    let short = base64(&[1; 48]);
    assert!(error(short.as_bytes()).contains("the 48 bytes themselves"));
    let list = base64(format!("{key}\n{}\n", base64(&[2; 80])).as_bytes());
    assert!(error(list.as_bytes()).starts_with("base64 of a whole list of keys: "));
}

#[test]
fn formats_of_other_programs_are_recognised() {
    let utf16 = |text: &str, mark: &[u8]| {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        mark.iter().copied().chain(units).collect::<Vec<u8>>()
    };
    let key = base64(&[1; 80]);
    let list = format!("{key}\r\n{key}\r\n");
    let lighttpd = [&[0; 4][..], &[0x99; 88]].concat();
    let hexadecimal = "0a".repeat(80);
    for (content, said) in [
        (&[0x99; 64][..], "64 bytes, the length of a GnuTLS key"),
        (&lighttpd, "92 bytes, as lighttpd's `ssl.stek-file` has"),
        (&[0x99; 160], "2 keys of 80 bytes, as dnsdist lists them"),
        (
            &[&[0x99; 80][..], b"\n"].concat(),
            "a key of 80 bytes and a newline",
        ),
        (
            &[&[0x99; 48][..], b"\r\n"].concat(),
            "a key of 48 bytes and a newline",
        ),
        (&utf16(&list, b"\xff\xfe"), "text in UTF-16, as PowerShell"),
        (&utf16(&list, b""), "text in UTF-16, as PowerShell"),
        (
            &[b"\xef\xbb\xbf", list.as_bytes()].concat(),
            "text that begins with a byte order",
        ),
        (
            hexadecimal.as_bytes(),
            "hexadecimal digits of one key: a file holds the 80 bytes",
        ),
        (&[0x99; 92], "92 bytes: a key of"),
        (b"\xff\xfe", "2 bytes"),
        (&[&utf16(&list, b"")[..], b"x"].concat(), "441 bytes"),
    ] {
        let error = error(content);
        assert!(error.starts_with(said), "{error}");
    }
}

#[test]
fn traffic_servers_keys_follow_each_other_and_the_first_seals() {
    let bytes: Vec<u8> = (0..144).collect();
    let content = Content::parse(&bytes, NOW);
    assert_eq!(
        (content.wrong, content.sealing, content.is_list),
        (None, 0, true)
    );
    let keys = content.keys.iter().map(|(_, key)| key.as_bytes());
    assert!(keys.eq(bytes.chunks(48)));
    assert_eq!(content.keys[2].0.to_string(), " key 3");
    assert!(content.advice.is_empty());
    let five: Vec<u8> = (0..240).collect();
    let content = Content::parse(&five, NOW);
    assert_eq!((content.wrong, content.keys.len()), (None, 5));
    assert!(content.advice[0].contains("if these are 3 keys of dnsdist"));
    let many: Vec<u8> = (0..66 * 48).map(|i| i as u8).collect();
    assert_eq!(error(&many), "more than 64 keys");
    let most = Content::parse(&many[..64 * 48], NOW);
    assert_eq!((most.wrong, most.keys.len()), (None, 64));
}
