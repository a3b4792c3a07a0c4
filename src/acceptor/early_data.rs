use std::io::{self, Read};

/// What comes in after a ClientHello whose early data is refused.
///
/// rustls skips refused early data by trying to decrypt it ([RFC 8446 §4.2.10]), keeps what it could
/// not decrypt in its buffer, and charges it again at each read (0.23.46), so that the connection
/// ends if there was more than half of `max_early_data_size`. But until the server's flight leaves,
/// no record of application data can be anything else: the client has no other key to encrypt under.
/// Until then such records are dropped by their headers. What comes later rustls has to tell apart;
/// it is given whole records, as many as there are at a time, so that it reads as seldom as it can.
///
/// [RFC 8446 §4.2.10]: https://www.rfc-editor.org/rfc/rfc8446#section-4.2.10
pub(super) struct RefusedEarlyData {
    /// What was read and is neither dropped nor handed on.
    held: Vec<u8>,
    /// How much is still to come of a record that is dropped.
    to_drop: usize,
    /// How much early data may still be dropped.
    left: usize,
}

impl RefusedEarlyData {
    /// `rest` came with the ClientHello, behind it.
    pub(super) fn new(rest: Vec<u8>, max_early_data_size: u32) -> Self {
        let configured = usize::try_from(max_early_data_size).unwrap_or(usize::MAX);
        Self {
            held: rest,
            to_drop: 0,
            left: configured.max(LEAST_LIMIT),
        }
    }

    /// Reads once. `Ok(0)` is the end.
    pub(super) fn read(&mut self, io: &mut dyn Read) -> io::Result<usize> {
        let mut buffer = [0; 16_384];
        let len = io.read(&mut buffer)?;
        let read = buffer.get(..len).unwrap_or_default();
        self.held.extend_from_slice(read);
        Ok(len)
    }

    /// Before the server's flight leaves: drops early data, and returns the whole records of other
    /// kinds.
    pub(super) fn others(&mut self) -> Vec<u8> {
        let mut others = Vec::new();
        loop {
            let dropped = self.to_drop.min(self.held.len());
            self.held.drain(..dropped);
            self.to_drop = self.to_drop.saturating_sub(dropped);
            let Some(header) = Header::read(&self.held).filter(|_| self.to_drop == 0) else {
                return others;
            };
            match header.early_data() {
                Some(len) if len <= self.left => {
                    self.left = self.left.saturating_sub(len);
                    self.to_drop = header.record_len();
                }
                Some(_) | None if header.record_len() > self.held.len() => return others,
                Some(_) | None => others.append(&mut self.cut(header.record_len())),
            }
        }
    }

    /// Whether no record has begun to come in.
    pub(super) fn is_between_records(&self) -> bool {
        self.held.is_empty() && self.to_drop == 0
    }

    /// Once the server's flight has left: the records that came in whole.
    pub(super) fn whole_records(&mut self) -> Vec<u8> {
        let mut end = 0;
        while let Some(header) = self.held.get(end..).and_then(Header::read) {
            let next = end.saturating_add(header.record_len());
            if next > self.held.len() {
                break;
            }
            end = next;
        }
        self.cut(end)
    }

    /// Takes the first bytes of what is held, which are there.
    fn cut(&mut self, len: usize) -> Vec<u8> {
        let rest = self.held.split_off(len);
        std::mem::replace(&mut self.held, rest)
    }

    /// The beginning of a record that rustls has not seen.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.held
    }
}

/// Dropped although the configuration allows less, or none: a client's ticket may be of a time when
/// it allowed more. It is rustls's own limit where none is allowed.
const LEAST_LIMIT: usize = 16_384;

/// What heads a record ([RFC 8446 §5.1]).
///
/// [RFC 8446 §5.1]: https://www.rfc-editor.org/rfc/rfc8446#section-5.1
#[derive(Clone, Copy)]
pub(super) struct Header {
    content_type: u8,
    len: usize,
}

impl Header {
    const LEN: usize = 5;

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[content_type, _, _, a, b] = bytes.first_chunk::<{ Self::LEN }>()?;
        Some(Self {
            content_type,
            len: usize::from(u16::from_be_bytes([a, b])),
        })
    }

    pub(super) fn record_len(self) -> usize {
        Self::LEN.saturating_add(self.len)
    }

    /// How much early data is in it, if it may be such a record. An empty one counts too, so that
    /// their number is bounded.
    fn early_data(self) -> Option<usize> {
        const APPLICATION_DATA: u8 = 23;
        /// The inner content type, and the AEAD's tag.
        const OVERHEAD: usize = 1 + 16;
        const MAX_LEN: usize = 16_384 + 256;

        let is_meant = self.content_type == APPLICATION_DATA && self.len <= MAX_LEN;
        is_meant.then(|| self.len.saturating_sub(OVERHEAD).max(1))
    }
}

#[cfg(any(test, rustls_resumption_fuzzing))]
#[path = "../../fuzz/bodies/private/early_data.rs"]
pub(super) mod fuzzed;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content_type: u8, len: usize) -> Vec<u8> {
        let mut record = vec![content_type, 3, 3];
        record.extend((len as u16).to_be_bytes());
        record.resize(5 + len, 7);
        record
    }

    const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];

    #[test]
    fn early_data_is_dropped_and_all_else_handed_on_however_it_is_cut() {
        let flight = [
            &CHANGE_CIPHER_SPEC[..],
            &record(23, 1_017),
            &record(23, 17),
            &record(21, 2),
            &record(23, 16_000),
        ]
        .concat();
        for at_a_time in [1, 2, 5, 6, 7, 1_000, 100_000] {
            let mut early = RefusedEarlyData::new(Vec::new(), 20_000);
            let mut others = Vec::new();
            for mut bytes in flight.chunks(at_a_time) {
                while !bytes.is_empty() {
                    early.read(&mut bytes).unwrap();
                    others.extend(early.others());
                }
            }
            let expected = [&CHANGE_CIPHER_SPEC[..], &record(21, 2)].concat();
            assert_eq!(others, expected, "{at_a_time}");
            assert!(early.is_between_records());
            assert_eq!(early.left, 20_000 - 1_000 - 1 - 15_983);
        }
    }

    #[test]
    fn no_more_is_dropped_than_the_limit_and_never_less_than_a_full_record() {
        for (configured, limit) in [(0, 16_384), (100, 16_384), (40_000, 40_000)] {
            let mut early = RefusedEarlyData::new(record(23, 10_017), configured);
            assert!(early.others().is_empty());
            let fits = limit - 10_000;
            let mut next = Vec::new();
            for _ in 0..fits / 5_000 {
                next.extend(record(23, 5_017));
            }
            if fits % 5_000 > 0 {
                next.extend(record(23, fits % 5_000 + 17));
            }
            let beyond = record(23, 18);
            early.held.extend([next, beyond.clone()].concat());
            assert_eq!(early.others(), beyond, "{configured}");
        }
    }

    #[test]
    fn what_is_no_record_is_handed_on_for_rustls_to_refuse() {
        let too_long = [&[23, 3, 3, 0xff, 0xff][..], &[0; 65_535]].concat();
        let mut early = RefusedEarlyData::new(too_long.clone(), 1_000_000);
        assert_eq!(early.others(), too_long);
    }

    #[test]
    fn later_only_whole_records_are_handed_on() {
        let (one, other) = (record(23, 100), record(23, 50));
        let begun = [&one[..], &other, &[23, 3]].concat();
        let mut early = RefusedEarlyData::new(begun, 0);
        assert_eq!(early.whole_records(), [one, other].concat());
        assert!(early.whole_records().is_empty());
        assert_eq!(early.into_rest(), [23, 3]);
    }
}
