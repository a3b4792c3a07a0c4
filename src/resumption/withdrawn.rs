use std::fmt;

/// What [`revoke`](crate::Resumption::revoke), [`revoke_all`](crate::Resumption::revoke_all) or
/// [`forget`](crate::Resumption::forget) did in this process, and whether others follow.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "it says whether anything was concerned, and whether other processes follow"]
#[non_exhaustive]
pub struct Withdrawn {
    /// STEKs that were dropped and wiped.
    pub steks: u64,
    /// Sessions that were dropped from the cache and wiped.
    pub sessions: u64,
    /// Scopes, of those that are installed here or have sessions, whose tickets are refused.
    pub scopes: u64,
    /// Which other processes follow.
    pub reach: Reach,
}

/// Which other processes follow a call that withdrew something.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reach {
    /// The source of STEKs cannot tell the other processes that have them (key files, derived STEKs,
    /// a source of your own, or one that this process lost when it was forked), or this process was
    /// forked and has random ones of its parent: make the same call in each, or change what they are
    /// given.
    Each,
    /// The source has not taken it yet, for this reason. It is told again whenever it is asked, so
    /// that others follow as soon as it answers, if this process still runs then.
    NotYet(String),
    /// No other process has these STEKs, but those that were forked from this one, of which it knows
    /// nothing: there is nothing else to do.
    Nobody,
    /// The source has taken it. All that share it follow when they next ask, within seconds, and so
    /// does whoever starts later.
    Shared,
}

impl Withdrawn {
    /// Whether nothing was concerned: a wrong name, perhaps. It is remembered all the same.
    pub fn is_nothing(&self) -> bool {
        (self.steks, self.sessions, self.scopes) == (0, 0, 0)
    }
}

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            steks,
            sessions,
            scopes,
            reach,
        } = self;
        write!(
            f,
            "dropped {steks} STEKs and {sessions} sessions of {scopes} scopes; {reach}"
        )
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each => f.write_str("other processes with these STEKs must be told each"),
            Self::NotYet(why) => write!(f, "other processes do not follow yet: {why}"),
            Self::Nobody => f.write_str("no other process has these STEKs"),
            Self::Shared => {
                f.write_str("the processes that share the source follow within seconds")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_nothing_only_if_nothing_at_all_was_concerned() {
        for concerned in 0..4 {
            let withdrawn = Withdrawn {
                steks: (concerned == 1).into(),
                sessions: (concerned == 2).into(),
                scopes: (concerned == 3).into(),
                reach: Reach::Nobody,
            };
            assert_eq!(withdrawn.is_nothing(), concerned == 0);
        }
    }
}
