//! ClientHellos that no library would send.

/// A record, or several, with a TLS 1.3 ClientHello that offers these PSK identities, with binders
/// of one byte each.
pub fn offering(identities: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let list: Vec<u8> = identities
        .iter()
        .flat_map(|id| [&with_len(id.as_ref())[..], &[0; 4]].concat())
        .collect();
    let binders: Vec<u8> = identities.iter().flat_map(|_| [1, 0xbb]).collect();
    let pre_shared_key = [with_len(&list), with_len(&binders)].concat();
    let mut key_share = vec![0, 36, 0, 29, 0, 32];
    key_share.extend([9; 32]);
    let extensions: [(u16, &[u8]); 7] = [
        (0, b"\x00\x0c\x00\x00\x09localhost"),
        (10, &[0, 2, 0, 29]),
        (13, &[0, 2, 4, 3]),
        (43, &[4, 3, 4, 3, 3]),
        (45, &[1, 1]),
        (51, &key_share),
        (41, &pre_shared_key),
    ];
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, body)| [&kind.to_be_bytes()[..], &with_len(body)].concat())
        .collect();
    let mut body = vec![3, 3];
    body.extend([8; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(with_len(&extensions));
    records(&message(1, &body))
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_be_bytes();
    [&[kind], &len[1..], body].concat()
}

pub fn records(message: &[u8]) -> Vec<u8> {
    let record = |fragment: &[u8]| [&[22, 3, 1][..], &with_len(fragment)].concat();
    message.chunks(16_384).flat_map(record).collect()
}

fn with_len(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}
