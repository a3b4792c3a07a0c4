use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::Time;
use crate::error::Error;
use crate::rotation::Window;
use crate::stek::Stek;

/// A STEK and the window in which it may be used.
#[derive(Clone, Debug)]
pub struct SourceKey {
    pub(crate) stek: Arc<Stek>,
    pub(crate) window: Window,
}

impl SourceKey {
    /// The window of a key that may be used for as long as it is listed.
    pub(crate) const ALWAYS: Window = Window {
        published: Time(0),
        activates: Time(0),
        retires: Time(u64::MAX),
        expires: Time(u64::MAX),
    };

    /// A STEK that seals and opens for as long as the source lists it. Of several that may seal,
    /// the first listed one does. It seals at once, also where no other node has it yet: list it as
    /// [`SourceKey::opening`] on all of them before.
    pub fn sealing(stek: impl Into<Arc<Stek>>) -> Self {
        Self::with_window(stek, Self::ALWAYS)
    }

    /// A STEK that only opens, for as long as the source lists it.
    pub fn opening(stek: impl Into<Arc<Stek>>) -> Self {
        let never = Window {
            activates: Time(u64::MAX),
            ..Self::ALWAYS
        };
        Self::with_window(stek, never)
    }

    /// A STEK that opens from `published`, seals from `activates` until `retires`, and opens until
    /// `expires`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the four are not in this order.
    pub fn scheduled(
        stek: impl Into<Arc<Stek>>,
        published: SystemTime,
        activates: SystemTime,
        retires: SystemTime,
        expires: SystemTime,
    ) -> Result<Self, Error> {
        if published <= activates && activates <= retires && retires <= expires {
            let window = Window {
                published: published.into(),
                activates: activates.into(),
                retires: retires.into(),
                expires: expires.into(),
            };
            return Ok(Self::with_window(stek, window));
        }
        Err(Error::config(
            "window",
            "out of order: a STEK is published, activates, retires, then expires",
        ))
    }

    pub(crate) fn with_window(stek: impl Into<Arc<Stek>>, window: Window) -> Self {
        Self {
            stek: stek.into(),
            window,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_window_must_be_in_order_and_may_be_empty() {
        let secret = b"0123456789abcdef0123456789abcdef";
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let made = |[a, b, c, d]: [u64; 4]| {
            let stek = Stek::from_bytes(secret).unwrap();
            SourceKey::scheduled(stek, time(a), time(b), time(c), time(d))
        };
        let window = made([1, 2, 3, 4]).unwrap().window;
        let times = [
            window.published,
            window.activates,
            window.retires,
            window.expires,
        ];
        assert_eq!(times, [1_000, 2_000, 3_000, 4_000].map(Time));
        assert!(made([1, 1, 1, 1]).is_ok());
        for wrong in [[2, 1, 3, 4], [1, 3, 2, 4], [1, 2, 4, 3]] {
            let error = made(wrong).unwrap_err().to_string();
            assert!(error.starts_with("window: out of order"), "{error}");
        }
    }
}
