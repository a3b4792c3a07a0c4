use std::time::Duration;

use crate::aead::Sealing;
use crate::error::Error;
use crate::fips;
use crate::rotation::Rotation;
use crate::ticket::DEFAULT_MAX_TICKET_LEN;

/// How long set-up waits for a STEK source that does not answer, by default: 5 seconds.
pub(crate) const DEFAULT_SOURCE_DEADLINE: Duration = Duration::from_secs(5);

/// How a ring is to work.
#[derive(Clone, Debug)]
pub(crate) struct RingSettings {
    pub(crate) rotation: Rotation,
    pub(crate) sealing: Sealing,
    pub(crate) max_ticket_len: usize,
    pub(crate) source_deadline: Duration,
}

impl Default for RingSettings {
    fn default() -> Self {
        Self {
            rotation: Rotation::new(),
            sealing: Sealing::default(),
            max_ticket_len: DEFAULT_MAX_TICKET_LEN,
            source_deadline: DEFAULT_SOURCE_DEADLINE,
        }
    }
}

impl RingSettings {
    /// Refuses what cannot work, naming it.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        fips::check(self.sealing)?;
        self.rotation.validate()?;
        if !(1024..=usize::from(u16::MAX)).contains(&self.max_ticket_len) {
            let len = self.max_ticket_len;
            let why =
                format!("{len} bytes: must be from 1,024 to 65,535, the most that TLS can carry");
            return Err(Error::config("max_ticket_len", why));
        }
        Ok(())
    }
}
