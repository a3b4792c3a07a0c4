use crate::errands::Errands;
use crate::housekeeper::Alarm;
use crate::stats::metrics::Publisher;

/// Whom to tell what happens. Nobody waits for them.
#[derive(Clone)]
pub(crate) struct Outside {
    /// The log.
    pub(crate) log: Errands,
    /// Apart from the log, so that neither keeps the other back.
    pub(crate) metrics: Errands,
    /// `None` for a cache or a ring used alone.
    pub(crate) publisher: Option<Publisher>,
    /// Wakes the housekeeper.
    pub(crate) alarm: Alarm,
}

impl Outside {
    /// Where time does not pass by itself there are no threads.
    pub(crate) fn new(publisher: Option<Publisher>, time_passes: bool) -> Self {
        Self {
            log: Errands::new(time_passes),
            metrics: Errands::new(time_passes),
            publisher,
            alarm: Alarm::default(),
        }
    }
}
