use std::sync::OnceLock;

use super::Resumption;
use crate::error::Error;

/// Never dropped.
static PROCESS: OnceLock<Resumption> = OnceLock::new();

impl Resumption {
    /// The process's own handle, made by [`tickets`](Resumption::tickets) when it is first asked
    /// for: for a function that builds a configuration and is called again at each reload.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use rustls::ServerConfig;
    /// use rustls_resumption::Resumption;
    /// # type Error = Box<dyn std::error::Error + Send + Sync>;
    /// # fn read() -> Result<ServerConfig, Error> { Err("no files".into()) }
    ///
    /// fn load() -> Result<Arc<ServerConfig>, Error> {
    ///     let mut config = read()?; // certificates and keys, as they are now
    ///     Resumption::process()?.install(&mut config, "api.example.com");
    ///     Ok(Arc::new(config))
    /// }
    /// ```
    ///
    /// It lives as long as the process, whether a configuration uses it or not. End it by
    /// [`shutdown`](Resumption::shutdown), which wipes its STEKs and sessions; it stays shut down.
    ///
    /// # Errors
    ///
    /// As [`tickets`](Resumption::tickets). The next call tries again.
    pub fn process() -> Result<Self, Error> {
        Self::process_with(Self::tickets)
    }

    /// The same, with settings of your own. Whoever comes first decides: `make` is not called where
    /// the handle is there already, and what it makes is dropped if another thread was faster.
    ///
    /// ```
    /// # use rustls_resumption::Resumption;
    /// # fn f(mut config: rustls::ServerConfig) -> Result<(), rustls_resumption::Error> {
    /// let resumption = Resumption::process_with(|| Resumption::stateful(100_000))?;
    /// resumption.install(&mut config, "api.example.com");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// What `make` returns. The next call tries again.
    pub fn process_with(make: impl FnOnce() -> Result<Self, Error>) -> Result<Self, Error> {
        if let Some(resumption) = PROCESS.get() {
            return Ok(resumption.clone());
        }
        let made = make()?;
        Ok(PROCESS.get_or_init(|| made).clone())
    }
}
