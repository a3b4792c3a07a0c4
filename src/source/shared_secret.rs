//! Checks of a secret that a fleet shares, beyond those of any key: operators and orchestrators
//! handle it, and may alter it.

use tracing::warn;

use super::text::is_text;
use crate::error::Error;
use crate::stek::{Stek, weakness};

/// The longest repeated block that is looked for.
const MAX_BLOCK: usize = 256;

/// As many characters of base64 as hold 32 random bytes.
const SHORTEST_TEXT: usize = 43;

/// As many hexadecimal digits as hold 32 random bytes.
const SHORTEST_HEXADECIMAL: usize = 64;

/// Refuses a secret that is weak, or that another node is likely to get with another ending. Warns
/// about one that can be guessed.
pub(super) fn check(field: &'static str, secret: &[u8]) -> Result<(), Error> {
    let is_all_text = secret.iter().all(is_text);
    let ends_in_space = secret.last().is_some_and(u8::is_ascii_whitespace);
    let why = match weakness(secret, Stek::MIN_SECRET_LEN) {
        Some(why) => Some(why),
        None if repeats(secret) => {
            Some("it is one block, repeated: generate it at random (`openssl rand -base64 32`)")
        }
        None if is_all_text && ends_in_space => Some(
            "text that ends in a newline or a space, which another node may get without it: remove \
             it (`printf %s`, `tr -d '\\n'`, or `trim_ascii_end` on all nodes)",
        ),
        None => None,
    };
    if let Some(why) = why {
        return Err(Error::weak_key(field, why));
    }
    let is_hexadecimal = secret.iter().all(u8::is_ascii_hexdigit);
    if is_all_text && secret.len() < SHORTEST_TEXT
        || is_hexadecimal && secret.len() < SHORTEST_HEXADECIMAL
    {
        warn!(
            secret = field,
            characters = secret.len(),
            "secret is text, and too short to encode 32 random bytes: with one ticket it can be \
             guessed offline; generate it with `openssl rand -base64 32`"
        );
    } else if !is_all_text
        && secret.ends_with(b"\n")
        && !secret.chunks_exact(8).remainder().is_empty()
    {
        warn!(
            secret = field,
            bytes = secret.len(),
            "secret ends in a newline, which another node may get without it; remove it unless it \
             is one of the random bytes"
        );
    }
    Ok(())
}

/// Whether it consists of a block that is repeated, the last time perhaps in part.
fn repeats(secret: &[u8]) -> bool {
    let longest = MAX_BLOCK.min(secret.len() / 2);
    (1..=longest).any(|block| {
        let (start, end) = (secret.len().checked_sub(block), secret.get(block..));
        start.and_then(|len| secret.get(..len)) == end
    })
}

#[cfg(test)]
mod tests {
    use test_support::log::Log;

    use super::*;

    fn refused(secret: &[u8]) -> String {
        check("secret", secret).unwrap_err().to_string()
    }

    /// The warnings about a secret that is accepted.
    fn warnings(secret: &[u8]) -> Vec<String> {
        let (log, outcome) = Log::of(|| check("kek", secret));
        outcome.unwrap();
        log.warnings()
    }

    const BASE64: &[u8; 44] = b"q7U2mH0cYvXk1nZr8sDgWfLp3bTeJaCy5xQoKiNuM4E=";
    const RANDOM: [u8; 32] = *b"\x8a\x11\xf0\x93\x02\xc4q7U2mH0cYvXk1nZr8sDgWfLp\xff\0";

    #[test]
    fn a_secret_that_repeats_itself_is_refused() {
        for secret in [
            &b"changeme".repeat(4)[..],
            &b"changeme".repeat(5)[..39],
            &b"0123456789abcdef".repeat(2),
            &RANDOM.repeat(2),
            &b"ab".repeat(4_000),
        ] {
            let said = refused(secret);
            assert!(
                said.starts_with("weak key in secret: it is one block, repeated"),
                "{said}"
            );
        }
        assert!(refused(&[7; 32]).contains("all bytes are equal"));
        assert!(refused(&RANDOM[..31]).contains("too few bytes"));
        // Not twice the whole.
        assert!(check("secret", &[&RANDOM[..], &RANDOM[..31]].concat()).is_ok());
    }

    #[test]
    fn text_that_ends_in_a_newline_is_refused() {
        for end in ["\n", "\r\n", " ", "\n\n"] {
            let said = refused(&[BASE64, end.as_bytes()].concat());
            assert!(said.contains("ends in a newline or a space"), "{said}");
        }
        assert!(warnings(BASE64).is_empty());
    }

    #[test]
    fn random_bytes_may_end_in_a_newline_but_an_extra_one_is_warned_about() {
        let mut random = RANDOM;
        random[31] = b'\n';
        assert!(warnings(&random).is_empty());
        let warnings = warnings(&[&RANDOM[..], b"\n"].concat());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("secret=\"kek\"") && warnings[0].contains("a newline"));
    }

    #[test]
    fn text_too_short_for_32_random_bytes_is_warned_about() {
        let too_short = |secret: &[u8]| warnings(secret).len() == 1;
        assert!(too_short(b"correct horse battery staple, twice"));
        assert!(too_short(b"8c7d1a90f3b24e65a1c2d3e4f5061728"));
        assert!(!too_short(&BASE64[..43]));
        let digits = b"8c7d1a90f3b24e65a1c2d3e4f506172899aabbccddeeff010203a5b6c7d8e9f0";
        assert!(!too_short(digits));
        assert!(too_short(&digits[..63]));
    }
}
