//! What may come behind a ClientHello whose early data is refused: records of any kind and length, cut
//! anyhow.

use super::*;

/// Makes records of the bytes, and reads them: up to some read as long as early data is dropped.
pub fn run(data: &[u8]) {
    let Some((&[limit, first, cut, reads], records)) = data.split_first_chunk() else {
        return;
    };
    let limit = u32::from(limit) * 256;
    let sent: Vec<_> = records.chunks(3).take(12).map(record).collect();
    let sent = sent.concat();
    let at_a_time = match cut {
        0..128 => usize::from(cut) + 1,
        _ => usize::from(cut - 127) * 256,
    };
    // Each read has a buffer to blank: what is long is not cut into thousands.
    let at_a_time = at_a_time.max(sent.len() / 256);

    let mut came = usize::from(first).min(sent.len());
    let mut early = RefusedEarlyData::new(sent[..came].to_vec(), limit);
    let mut others = early.others();
    let mut left = reads;
    while came < sent.len() && (left > 0 || !early.is_between_records()) {
        came += read(&mut early, &sent[came..], at_a_time);
        others.extend(early.others());
        left = left.saturating_sub(1);
    }
    let (before, after) = sent.split_at(came);
    let expected = plain::others(before, limit);
    assert_eq!(others, expected.others, "as a plain reading");
    assert!(expected.dropped <= limit.max(16_384) as usize);
    let is_between_records = expected.rest == Some(&[]);
    assert_eq!(early.is_between_records(), is_between_records);
    if !is_between_records {
        assert_eq!(early.into_rest(), expected.rest.unwrap_or_default());
        return;
    }

    // The server's flight leaves.
    let (mut came, mut later) = (0, Vec::new());
    while came < after.len() {
        came += read(&mut early, &after[came..], at_a_time);
        later.extend(early.whole_records());
    }
    let rest = early.into_rest();
    assert!(plain::record(&rest).is_none(), "it is whole");
    later.extend(rest);
    assert_eq!(later, after, "all of it, as it came");
}

/// Of three bytes a record; of fewer the beginning of one.
fn record(bytes: &[u8]) -> Vec<u8> {
    let &[kind, shift, len] = bytes else {
        return bytes.to_vec();
    };
    let len = u16::from(len) << (shift % 9);
    let mut record = vec![[23, 23, 20, kind][usize::from(kind % 4)], 3, shift];
    record.extend(len.to_be_bytes());
    record.extend_from_slice(&PATTERN[usize::from(kind)..][..usize::from(len)]);
    record
}

/// Copied from, because a fuzzer's instrumentation makes a loop over so many bytes slow.
static PATTERN: [u8; 1 << 17] = {
    let mut pattern = [0; 1 << 17];
    let mut at = 0;
    while at < pattern.len() {
        pattern[at] = at as u8;
        at += 1;
    }
    pattern
};

fn read(early: &mut RefusedEarlyData, sent: &[u8], at_a_time: usize) -> usize {
    early.read(&mut &sent[..at_a_time.min(sent.len())]).unwrap()
}

/// By hand, as plainly as can be.
mod plain {
    #[derive(Default)]
    pub(super) struct Expected<'a> {
        pub(super) others: Vec<u8>,
        pub(super) dropped: usize,
        /// What is kept until more comes; `None` in the midst of what is dropped.
        pub(super) rest: Option<&'a [u8]>,
    }

    /// The content type and length of the record at the head, if that is whole.
    pub(super) fn record(bytes: &[u8]) -> Option<(u8, usize)> {
        let (kind, len) = header(bytes)?;
        (bytes.len() >= 5 + len).then_some((kind, len))
    }

    fn header(bytes: &[u8]) -> Option<(u8, usize)> {
        let len = usize::from(*bytes.get(3)?) * 256 + usize::from(*bytes.get(4)?);
        Some((bytes[0], len))
    }

    pub(super) fn others(mut bytes: &[u8], limit: u32) -> Expected<'_> {
        let limit = (limit as usize).max(16_384);
        let mut expected = Expected::default();
        while let Some((kind, len)) = header(bytes) {
            let early_data = if len > 17 { len - 17 } else { 1 };
            if kind == 23 && len <= 16_640 && expected.dropped + early_data <= limit {
                expected.dropped += early_data;
                let Some(rest) = bytes.get(5 + len..) else {
                    return expected;
                };
                bytes = rest;
                continue;
            }
            let Some((record, rest)) = bytes.split_at_checked(5 + len) else {
                break;
            };
            expected.others.extend(record);
            bytes = rest;
        }
        expected.rest = Some(bytes);
        expected
    }
}
