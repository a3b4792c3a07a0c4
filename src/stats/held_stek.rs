use std::fmt;
use std::time::SystemTime;

use crate::clock::Time;
use crate::rotation::Window;
use crate::stek::KeyName;

/// A STEK that is held now, without anything secret: what
/// [`Resumption::steks`](crate::Resumption::steks) lists. HAProxy has `show tls-keys` for that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct HeldStek {
    /// Its name, which [`Resumption::revoke`](crate::Resumption::revoke) takes.
    pub name: KeyName,
    /// What it does now.
    pub state: StekState,
    /// Whether it is a local random one, which stands in for the source.
    pub is_local: bool,
    /// From when on it opens. Times are those of the schedule; where the operator decides, as with key
    /// files, they are the beginning or the end of time.
    pub published: SystemTime,
    /// From when on it seals, if no other does.
    pub activates: SystemTime,
    /// When it seals no longer.
    pub retires: SystemTime,
    /// When it opens no longer, and is wiped.
    pub expires: SystemTime,
}

/// What a STEK does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum StekState {
    /// It seals and opens.
    Current,
    /// It opens what nodes whose clocks are ahead seal with it, and will seal here.
    Next,
    /// It opens what it sealed.
    Previous,
}

impl HeldStek {
    pub(crate) fn new(
        name: KeyName,
        window: Window,
        is_active: bool,
        is_local: bool,
        now: Time,
    ) -> Self {
        let state = match is_active {
            true => StekState::Current,
            false if now < window.activates => StekState::Next,
            false => StekState::Previous,
        };
        Self {
            name,
            state,
            is_local,
            published: window.published.into(),
            activates: window.activates.into(),
            retires: window.retires.into(),
            expires: window.expires.into(),
        }
    }
}

impl fmt::Display for HeldStek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.state)?;
        if self.is_local {
            f.write_str(" (local)")?;
        }
        Ok(())
    }
}

impl fmt::Display for StekState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Previous => "previous",
        })
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for HeldStek {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;

        let mut stek = serializer.serialize_struct("HeldStek", 7)?;
        stek.serialize_field("name", &self.name)?;
        stek.serialize_field("state", &self.state)?;
        stek.serialize_field("is_local", &self.is_local)?;
        stek.serialize_field("published", &super::json::since_1970(&self.published))?;
        stek.serialize_field("activates", &super::json::since_1970(&self.activates))?;
        stek.serialize_field("retires", &super::json::since_1970(&self.retires))?;
        stek.serialize_field("expires", &super::json::since_1970(&self.expires))?;
        stek.end()
    }
}

#[cfg(feature = "serde")]
super::json::as_shown!(StekState);
