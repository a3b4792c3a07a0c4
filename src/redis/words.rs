/// The most characters of a server's words that are shown.
const MAX_CHARS: usize = 1_000;

/// A server's words as they may be logged: not too many, and none that begins another line or
/// controls a terminal.
pub(crate) fn harmless(words: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    words.chars().take(MAX_CHARS).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_words_are_cut_and_control_nothing() {
        let words = format!("ERR bad\nroot logged in \x1b[2J\0{}", "é".repeat(2_000));
        let shown = harmless(&words);
        assert_eq!(shown.chars().count(), 1_000);
        let begin = "ERR bad\u{fffd}root logged in \u{fffd}[2J\u{fffd}é";
        assert!(shown.starts_with(begin), "{shown}");
        assert_eq!(harmless("NOAUTH it's é"), "NOAUTH it's é");
    }
}
