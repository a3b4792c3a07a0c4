use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What last went wrong with a STEK source or a shared store, as the log has it. It stays when it is
/// over, so that whoever comes later sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Trouble {
    /// What went wrong, in words. Without secrets.
    pub what: Arc<str>,
    /// How long ago that was seen last.
    pub ago: Duration,
    /// Whether all is well again.
    pub is_over: bool,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:.1} s ago", self.what, self.ago.as_secs_f64())?;
        if self.is_over {
            f.write_str(", over")?;
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Trouble {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;

        let mut trouble = serializer.serialize_struct("Trouble", 3)?;
        trouble.serialize_field("what", &*self.what)?;
        trouble.serialize_field("ago", &self.ago.as_secs_f64())?;
        trouble.serialize_field("is_over", &self.is_over)?;
        trouble.end()
    }
}

#[cfg(feature = "serde")]
super::json::as_it_is!(Option<Trouble>);
