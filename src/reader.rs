/// Reads an encoding front to back: the one reader of this crate. Whatever is cut short is `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes are left.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// `None` also for a byte that is neither 0 nor 1.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// What may be left out: a byte that is 0 or 1, and with 1 bytes preceded by their length.
    #[inline(always)]
    pub(crate) fn optional<const N: usize>(&mut self) -> Option<Option<&'a [u8]>> {
        match self.u8()? {
            0 => Some(None),
            1 => self.vector::<N>().map(Some),
            _ => None,
        }
    }

    /// Bytes preceded by their length, big-endian in `N` bytes.
    #[inline(always)]
    pub(crate) fn vector<const N: usize>(&mut self) -> Option<&'a [u8]> {
        let len = self
            .array::<N>()?
            .iter()
            .fold(0, |len, byte| (len << 8) | usize::from(*byte));
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_front_to_back_up_to_the_end() {
        let mut reader = Reader::new(&[7, 1, 2, 0, 1, 0, 0, 2, 8, 9, 4, 5]);
        assert_eq!((reader.u8(), reader.u16()), (Some(7), Some(0x0102)));
        assert_eq!((reader.flag(), reader.flag()), (Some(false), Some(true)));
        assert_eq!(reader.vector::<3>(), Some(&[8, 9][..]));
        assert_eq!((reader.take(1), reader.len()), (Some(&[4][..]), 1));
        assert_eq!(reader.array(), Some([5]));
        let mut reader_of_optional = Reader::new(&[0, 1, 1, 7]);
        assert_eq!(reader_of_optional.optional::<1>(), Some(None));
        assert_eq!(reader_of_optional.optional::<1>(), Some(Some(&[7][..])));
        assert!(reader.is_empty());
        assert_eq!((reader.u8(), reader.take(0)), (None, Some(&[][..])));
        let big = Reader::new(&[1, 2, 3, 4, 5, 6, 7, 8]).u64();
        assert_eq!(big, Some(0x0102_0304_0506_0708));
    }

    #[test]
    fn truncated_input_and_invalid_flags_are_not_read() {
        let mut reader = Reader::new(&[3, 1, 2]);
        assert_eq!(reader.vector::<1>(), None, "a byte is missing");
        assert_eq!(Reader::new(&[1]).u16(), None);
        assert_eq!(Reader::new(&[1; 7]).u64(), None);
        assert_eq!(Reader::new(&[1, 2]).array::<3>(), None);
        assert_eq!(Reader::new(&[1, 2]).take(3), None);
        assert_eq!(Reader::new(&[2]).flag(), None);
        assert_eq!(Reader::new(&[2, 0]).optional::<1>(), None);
        assert_eq!(Reader::new(&[1, 2, 0]).optional::<1>(), None);
        assert_eq!(Reader::new(&[0]).vector::<2>(), None);
    }
}
