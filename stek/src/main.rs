//! Makes, rotates, checks and converts files of session ticket keys: see the README.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand, ValueEnum};
use rustls_resumption::Sealing;

/// Writes a line to standard output, whose reader, such as `head`, may be gone.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}

/// Writes a line to standard error, likewise.
macro_rules! warn {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "stek: warning: {}", format_args!($($line)*));
    }};
}

mod convert;
mod error;
mod file;
mod format;
mod key;
mod rotate;
mod set;
mod show;

use error::Error;
use format::Format;
use set::KeySet;

/// Makes, rotates, checks and converts files of session ticket keys (STEKs).
///
/// Several FILEs are one set: one key each, as nginx and Apache read them, the newest first. A list
/// of keys, of HAProxy, H2O or Traffic Server, is one FILE.
#[derive(Parser)]
#[command(name = "stek", version, after_help = EXIT_STATUS)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "\
Exit status:
  0  done, or there was nothing to do; `check` and `show`: the keys are good
  1  the keys are refused, or a file cannot be read or written; the message says which and why,
     and no file has been changed
  2  bad usage
  3  stopped halfway, with files changed: the message says what to do";

#[derive(Subcommand)]
enum Command {
    /// Make new files, which must not exist yet, with keys of their own
    New {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// How to write them; one FILE is for HAProxy unless told otherwise, several are for nginx
        #[arg(long)]
        format: Option<Format>,
        #[command(flatten)]
        schedule: Schedule,
    },
    /// Add a new key, if it is time for one, and drop those whose tickets have expired
    ///
    /// To be run as often as one likes, by cron or a systemd timer: it does nothing until the last
    /// rotation is an interval ago. Then ship the files to every node within the publish-ahead.
    Rotate {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Rotate even if it is not yet time, as after an incident: it warns if a key may be dropped
        /// too early
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        schedule: Schedule,
    },
    /// Say what a server with rustls-resumption would say about these files
    Check {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show the keys' names, ages and places, and which one seals: no secrets
    Show {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The algorithm that the server seals tickets with, which its key names depend on
        #[arg(long, default_value = "gcm-siv")]
        sealing: SealingArg,
    },
    /// Write the same keys in another format, to new files
    Convert {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[arg(long)]
        to: Format,
        /// The new files: one for a list, one for each key for nginx
        #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
        out: Vec<PathBuf>,
        #[command(flatten)]
        schedule: Schedule,
    },
}

/// When keys are made and dropped.
#[derive(Args, Clone, Copy)]
struct Schedule {
    /// How often there is a new key
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = duration)]
    interval: Duration,
    /// How long tickets must open after they were sealed
    #[arg(long, default_value = "12h", value_name = "TIME", value_parser = duration)]
    lifetime: Duration,
    /// How long a new key waits before it seals, so that every node has it
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = duration)]
    publish_ahead: Duration,
    /// Instead of the clock, in seconds since 1970
    #[arg(long, hide = true)]
    clock: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum SealingArg {
    /// AES-256-GCM-SIV, the default
    GcmSiv,
    /// AES-256-GCM, as with the feature `fips`
    Gcm,
}

impl Schedule {
    fn time(&self) -> SystemTime {
        let set = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        self.clock.and_then(set).unwrap_or_else(SystemTime::now)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time < Duration::from_secs(1) {
        true => Err("at least 1s".to_owned()),
        false => Ok(time),
    }
}

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // The reader may be gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(flags.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stek: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::New {
            files,
            format,
            schedule,
        } => rotate::new(&files, format, &schedule),
        Command::Rotate {
            files,
            now,
            schedule,
        } => rotate::rotate(&files, now, &schedule),
        Command::Check { files } => show::check(&KeySet::read(&files)?),
        Command::Show { files, sealing } => {
            let sealing = match sealing {
                SealingArg::GcmSiv => Sealing::Aes256GcmSiv,
                SealingArg::Gcm => Sealing::Aes256Gcm,
            };
            show::show(&files, sealing)
        }
        Command::Convert {
            files,
            to,
            out,
            schedule,
        } => convert::convert(&files, to, &out, &schedule),
    }
}
