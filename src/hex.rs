use std::fmt;

/// Shows bytes as lower-case hexadecimal digits. Of names and hashes alone: it takes no care to run
/// in constant time.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The bytes of a golden file, whose digits may be spaced and wrapped.
#[cfg(any(test, rustls_resumption_fuzzing))]
pub(crate) fn decode(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    base16ct::lower::decode_vec(digits).expect("hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_two_digits_and_is_read_back() {
        assert_eq!(Hex(&[0, 0x0a, 0xff]).to_string(), "000aff");
        assert_eq!(decode("00 0a\nff\n"), [0, 0x0a, 0xff]);
    }
}
