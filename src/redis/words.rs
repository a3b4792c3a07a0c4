use redis::{ErrorKind, RedisError};

/// The most characters of a server's words that are shown.
const MAX_CHARS: usize = 1_000;

/// After this a server repeats what it was sent: passwords, keys, values.
const ARGUMENTS: &str = "with args beginning with";

/// A server's words as they may be logged: not too many, none that it was sent itself, and none that
/// begins another line or controls a terminal.
pub(crate) fn harmless(words: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let words = without_arguments(words);
    words.chars().take(MAX_CHARS).map(shown).collect()
}

/// An error as it may be passed on by whoever sent this password. Replies that
/// [`harmless`] does not know may repeat it, too: such a one is not shown at all, because what is left
/// of it could still tell.
pub(super) fn without_password(error: RedisError, password: Option<&str>) -> RedisError {
    let words = error.to_string();
    let has_it = |password: &str| without_arguments(&words).contains(password);
    let has_it = password.is_some_and(|password| !password.is_empty() && has_it(password));
    if !has_it || error.is_io_error() {
        return error; // that one is the system's
    }
    let kind = match error.code() {
        Some("NOAUTH" | "WRONGPASS") => ErrorKind::AuthenticationFailed,
        _ => error.kind(),
    };
    (kind, "the reply has the password in it, so it is not shown").into()
}

fn without_arguments(words: &str) -> &str {
    let told = words.split_once(ARGUMENTS).map_or(words, |(told, _)| told);
    told.trim_end_matches([' ', ','])
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::ServerErrorKind;

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

    #[test]
    fn what_a_server_was_sent_is_not_repeated_whatever_the_quotes() {
        for quote in ["'", "`", "\""] {
            let quoted = |word: &str| format!("{quote}{word}{quote}");
            let (command, password) = (quoted("HELLO"), quoted("hunter2"));
            let told = format!("ERR unknown command {command}");
            let words = format!("{told}, with args beginning with: {password} ");
            assert_eq!(harmless(&words), told);
        }
    }

    fn replied(reply: &str) -> RedisError {
        let reply = format!("-{reply}\r\n");
        let parsed = redis::parse_redis_value(reply.as_bytes()).unwrap();
        parsed.extract_error().unwrap_err()
    }

    #[test]
    fn a_reply_with_the_password_in_it_is_not_passed_on() {
        for (reply, kind) in [
            (
                "WRONGPASS hunter2 is wrong",
                ErrorKind::AuthenticationFailed,
            ),
            (
                "ERR cannot AUTH user:hunter2",
                ServerErrorKind::ResponseError.into(),
            ),
            ("hunter2 is wrong", ErrorKind::Extension),
        ] {
            let error = without_password(replied(reply), Some("hunter2"));
            assert_eq!(error.kind(), kind);
            let told = error.to_string();
            assert!(
                told.contains("not shown") && !told.contains("hunter2"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_reply_without_the_password_is_passed_on_as_it_is() {
        let unknown = "ERR unknown command 'HELLO', with args beginning with: 'hunter2'";
        for reply in [unknown, "WRONGPASS invalid username-password pair"] {
            for password in [Some("hunter2"), Some(""), None] {
                let error = without_password(replied(reply), password);
                assert_eq!(error, replied(reply));
            }
        }
        let refused: RedisError = io::Error::from(io::ErrorKind::ConnectionRefused).into();
        let told = refused.to_string();
        let error = without_password(refused, Some("refused"));
        assert!(error.is_connection_refusal() && error.to_string() == told);
    }
}
