use rustls_resumption::Sealing;

/// What is derived for AES-256-GCM-SIV, and for AES-256-GCM, which the feature `fips` makes the
/// default.
pub(crate) struct Either(pub(crate) &'static str, pub(crate) &'static str);

impl Either {
    /// What is derived for the default of this build.
    pub(crate) fn own(&self) -> &'static str {
        match Sealing::default() {
            Sealing::Aes256GcmSiv => self.0,
            _ => self.1,
        }
    }
}
