//! Reading the command line, and the program's one-line complaints about it.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

/// The exit status for a bad flag or an unreadable file.
const USAGE: u8 = 2;

/// Parses the command line. A bad flag is explained in one line on standard error.
///
/// # Errors
///
/// The status to exit with: [`USAGE`], or success after `--help` and `--version`.
pub(crate) fn parse<T: Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| match error.use_stderr() {
        true => {
            let text = error.render().to_string();
            eprintln!("{}", text.split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::from(USAGE)
        }
        false => {
            // The reader of standard output may be gone.
            let _ = error.print();
            ExitCode::SUCCESS
        }
    })
}

/// Explains in one line on standard error what the user has to correct.
pub(crate) fn refuse(what: impl Display) -> ExitCode {
    eprintln!("error: {what}");
    ExitCode::from(USAGE)
}

/// Writes a line to standard output. A reader that is gone, such as `head`, is not an error.
pub(crate) fn show(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
