use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong, to be read by whoever is woken up by it.
#[derive(Debug)]
pub(crate) enum Error {
    /// What was asked for makes no sense.
    Usage(String),
    /// The keys cannot be used.
    Keys(rustls_resumption::Error),
    /// What should be written would be refused.
    Wrong(String),
    /// A file cannot be read or written.
    File {
        path: PathBuf,
        doing: &'static str,
        cause: io::Error,
    },
    /// The same, after some of several files were replaced.
    Halfway {
        done: usize,
        left: usize,
        cause: Box<Self>,
    },
    Random,
}

impl Error {
    pub(crate) fn file(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::File { path, doing, cause }
    }

    /// What it is after so many of the files were replaced.
    pub(crate) fn after(self, done: usize, files: usize) -> Self {
        match done {
            0 => self,
            done => Self::Halfway {
                done,
                left: files.saturating_sub(done),
                cause: Box::new(self),
            },
        }
    }

    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Halfway { .. } => 3,
            Self::Keys(_) | Self::Wrong(_) | Self::File { .. } | Self::Random => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) | Self::Wrong(why) => f.write_str(why),
            Self::Keys(error) => write!(f, "the keys would be refused: {error}"),
            Self::File { path, doing, cause } => {
                write!(f, "{}: cannot {doing} it: {cause}", path.display())
            }
            Self::Halfway { left: 0, cause, .. } => write!(
                f,
                "{cause}\nstek: all is replaced, but a power failure may bring back what was there. \
                 No key is lost: mend the cause, and run `sync` before you ship the keys"
            ),
            Self::Halfway { done, cause, .. } => write!(
                f,
                "{cause}\nstek: the last {done} of the files are already replaced. No key is lost: \
                 mend the cause and rotate again with --now"
            ),
            Self::Random => f.write_str("the random generator failed: no key was made"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Keys(error) => Some(error),
            Self::File { cause, .. } => Some(cause),
            Self::Halfway { cause, .. } => Some(&**cause),
            Self::Usage(_) | Self::Wrong(_) | Self::Random => None,
        }
    }
}
