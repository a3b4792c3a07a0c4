use std::thread;
use std::time::Duration;

use crate::errands::guarded;
use crate::error::Error;
use crate::source::StekSource;
use crate::sync::mpsc::sync_channel;

/// A source, and what it says of itself for good.
pub(crate) struct Introduced {
    pub(super) source: Box<dyn StekSource>,
    pub(super) name: &'static str,
    pub(crate) is_shared: bool,
}

/// How long set-up waits for a source to tell its name, which takes no work.
const DEADLINE: Duration = Duration::from_secs(5);

impl Introduced {
    /// Asks a source for its name, and whether it is shared. Even these are foreign code, which may
    /// hang: then the thread that asks is left to itself. Where time does not pass by itself there
    /// is none.
    pub(crate) fn new(source: Box<dyn StekSource>, time_passes: bool) -> Result<Self, Error> {
        let failed = |why: String| Error::source("custom", why);
        let introduced = match time_passes {
            false => Self::ask(source),
            true => {
                let (sender, answer) = sync_channel(1);
                thread::Builder::new()
                    .name("resumption-source".into())
                    .spawn(move || drop(sender.try_send(Self::ask(source))))
                    .map_err(Error::Thread)?;
                answer.recv_timeout(DEADLINE).map_err(|_| {
                    failed(format!(
                        "it did not tell its name, and whether it is shared, within {DEADLINE:?}"
                    ))
                })?
            }
        };
        introduced.ok_or_else(|| failed("it panicked when asked for its name".into()))
    }

    fn ask(source: Box<dyn StekSource>) -> Option<Self> {
        let Some((name, is_shared)) = guarded(|| (source.name(), source.is_shared())) else {
            guarded(|| drop(source));
            return None;
        };
        Some(Self {
            source,
            name,
            is_shared,
        })
    }
}
