/// What a configuration asks of its clients, the strictest last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Policy {
    /// No certificate is asked for.
    NotAsked,
    /// A certificate is asked for; clients without one are admitted.
    Optional,
    /// Clients without a certificate are turned away.
    Required,
}

impl Policy {
    /// Whether a client is asked for a certificate.
    pub(crate) fn asks(self) -> bool {
        self != Self::NotAsked
    }
}
