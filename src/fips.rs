//! The feature `fips`: aws-lc's FIPS module does all of this crate's cryptography, and set-up
//! refuses algorithms that are not approved.

use crate::aead::Sealing;
use crate::error::Error;

/// Refuses an algorithm that this build must not use.
pub(crate) fn check(sealing: Sealing) -> Result<(), Error> {
    allow(sealing, cfg!(feature = "fips"))?;
    #[cfg(feature = "fips")]
    aws_lc_rs::try_fips_mode().map_err(|why| Error::config("fips", why))?;
    Ok(())
}

/// Whether the module does all of this crate's cryptography. What seals was [checked](check).
pub(crate) fn is_on() -> bool {
    #[cfg(feature = "fips")]
    let is_on = aws_lc_rs::try_fips_mode().is_ok();
    #[cfg(not(feature = "fips"))]
    let is_on = false;
    is_on
}

/// Separate from [`check`], so that it can be tested where the FIPS module cannot be built.
fn allow(sealing: Sealing, fips: bool) -> Result<(), Error> {
    if fips && !sealing.is_approved() {
        let why = format!(
            "{sealing:?} is not approved by FIPS 140-3: with the feature `fips` it must be {:?}",
            Sealing::Aes256Gcm
        );
        return Err(Error::config("sealing", why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resumption, StekRing};

    #[test]
    fn unapproved_settings_are_refused_only_with_the_feature() {
        assert!(allow(Sealing::Aes256GcmSiv, false).is_ok());
        assert!(allow(Sealing::Aes256Gcm, false).is_ok());
        assert!(allow(Sealing::Aes256Gcm, true).is_ok());
        let error = allow(Sealing::Aes256GcmSiv, true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sealing: Aes256GcmSiv is not approved by FIPS 140-3: \
             with the feature `fips` it must be Aes256Gcm"
        );
    }

    #[test]
    fn defaults_work_in_this_build_and_approval_decides_over_the_other() {
        assert_eq!(Sealing::default().is_approved(), cfg!(feature = "fips"));
        StekRing::new().unwrap();
        Resumption::tickets().unwrap();
        let siv = Resumption::builder().sealing(Sealing::Aes256GcmSiv);
        assert_eq!(siv.build().is_err(), cfg!(feature = "fips"));
        let gcm = Resumption::builder().sealing(Sealing::Aes256Gcm);
        for resumption in [gcm.build().unwrap(), Resumption::stateful(10).unwrap()] {
            assert_eq!(resumption.fips(), cfg!(feature = "fips"));
            assert_eq!(resumption.stats().steks.fips, resumption.fips());
        }
    }
}
