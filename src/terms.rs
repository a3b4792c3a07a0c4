use std::time::Duration;

/// The longest that any session may resume after its full handshake, by default: 24 hours.
pub(crate) const DEFAULT_MAX_SESSION_AGE: Duration = Duration::from_secs(24 * 60 * 60);
