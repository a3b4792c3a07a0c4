//! Where sessions are kept across configurations.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache};
use rustls_resumption::{
    Error, Reach, Resumption, ResumptionBuilder, Rotation, SessionCache, Stats,
};

use crate::flags::{Flags, Mode, StoreUrl};

/// Where sessions are kept.
pub(crate) enum Storage {
    Off,
    /// rustls's own, used as usual: each configuration gets a new one, so that a reload forgets all
    /// sessions.
    BuiltinTickets {
        cache_entries: usize,
    },
    BuiltinStateful {
        cache_entries: usize,
    },
    /// One for all configurations.
    Ours(Resumption),
}

impl Storage {
    /// # Errors
    ///
    /// A sentence that names the invalid flag.
    pub(crate) fn new(flags: &Flags) -> Result<Self, String> {
        let cache_entries = flags.cache_entries.unwrap_or(BUILTIN_ENTRIES);
        Ok(match flags.resumption {
            Mode::Off => Self::Off,
            Mode::BuiltinTickets => Self::BuiltinTickets { cache_entries },
            Mode::BuiltinStateful => Self::BuiltinStateful { cache_entries },
            Mode::Tickets | Mode::Stateful => Self::Ours(resumption(flags)?),
        })
    }

    /// Sets `session_storage` and `ticketer` of a configuration.
    pub(crate) fn install(
        &self,
        config: &mut ServerConfig,
        scope: &str,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<(), String> {
        match self {
            Self::Off => config.session_storage = Arc::new(NoServerSessionStorage {}),
            Self::BuiltinTickets { cache_entries } => {
                config.session_storage = ServerSessionMemoryCache::new(*cache_entries);
                config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
            }
            Self::BuiltinStateful { cache_entries } => {
                config.session_storage = ServerSessionMemoryCache::new(*cache_entries);
            }
            Self::Ours(resumption) => {
                resumption.install_with_client_verifier(config, scope, verifier);
            }
        }
        Ok(())
    }

    /// `None` for rustls's own storage, which counts nothing.
    pub(crate) fn stats(&self) -> Option<Stats> {
        match self {
            Self::Ours(resumption) => Some(resumption.stats()),
            Self::Off | Self::BuiltinTickets { .. } | Self::BuiltinStateful { .. } => None,
        }
    }

    /// Rotates the STEK.
    ///
    /// # Errors
    ///
    /// A sentence about why that fails.
    pub(crate) fn rotate(&self) -> Result<(), String> {
        self.ours()?.rotate_now().map_err(|error| error.to_string())
    }

    /// Drops every STEK and session.
    ///
    /// # Errors
    ///
    /// A sentence about why that fails, or why other processes do not follow.
    pub(crate) fn revoke_all(&self) -> Result<(), String> {
        let withdrawn = self.ours()?.revoke_all();
        match withdrawn.reach {
            Reach::NotYet(_) => Err(withdrawn.to_string()),
            _ => Ok(()),
        }
    }

    pub(crate) fn ours(&self) -> Result<&Resumption, String> {
        match self {
            Self::Ours(resumption) => Ok(resumption),
            Self::Off => Err("nothing resumes with --resumption off".to_owned()),
            Self::BuiltinTickets { .. } | Self::BuiltinStateful { .. } => {
                Err("rustls's own sessions cannot be rotated or revoked".to_owned())
            }
        }
    }
}

/// The size of rustls's default cache.
const BUILTIN_ENTRIES: usize = 256;

fn resumption(flags: &Flags) -> Result<Resumption, String> {
    let rotation = Rotation::new()
        .interval(flags.rotate_every)
        .ticket_lifetime(flags.ticket_lifetime);
    let mut builder = Resumption::builder()
        .session_ttl(flags.session_ttl)
        .max_session_age(flags.max_session_age);
    let entries = flags.cache_entries.unwrap_or(SessionCache::DEFAULT_ENTRIES);
    let is_stateful = flags.resumption == Mode::Stateful;
    builder = match is_stateful {
        true => builder.stateful(entries),
        false => builder.cache_entries(entries),
    };
    if !is_stateful || flags.store.is_some() {
        builder = builder.rotation(rotation); // else there are no STEKs
    }
    if let Some(bytes) = flags.cache_bytes {
        builder = builder.cache_bytes(bytes);
    }
    if let Some(source) = flags.stek.source(&flags.kek)? {
        builder = builder.stek_source(source);
    }
    if let Some(StoreUrl(url)) = &flags.store {
        builder = shared(builder, url)?.store_deadline(flags.store_deadline);
    }
    let resumption = builder.build().map_err(|error| explain(&error))?;
    if !resumption.ready() {
        eprintln!(
            "warning: the STEK source {} does not answer: sealing with local random keys, which no \
             other server has, until it does",
            resumption.stats().steks.source
        );
    }
    Ok(resumption)
}

#[cfg(all(feature = "redis", feature = "tokio"))]
fn shared(builder: ResumptionBuilder, url: &str) -> Result<ResumptionBuilder, String> {
    let store = rustls_resumption::store::RedisStore::new(url).map_err(|error| match error {
        Error::Config { why, .. } => format!("--store redis: {why}"),
        error => format!("--store redis: {error}"),
    })?;
    let store = store.lookup_runtime(tokio::runtime::Handle::current());
    Ok(builder.shared_store(store))
}

#[cfg(not(all(feature = "redis", feature = "tokio")))]
fn shared(_builder: ResumptionBuilder, _url: &str) -> Result<ResumptionBuilder, String> {
    Err("--store: this server was built without it: add --features redis,tokio".to_owned())
}

/// Names the flag instead of the setting.
fn explain(error: &Error) -> String {
    match error {
        Error::Duration { field, value, why } => {
            format!(
                "{} {}: {why}",
                flag(field),
                humantime::format_duration(*value)
            )
        }
        Error::Config { field, why } => format!("{} {why}", flag(field)),
        error => error.to_string(),
    }
}

fn flag(setting: &str) -> String {
    match setting {
        "interval" => "--rotate-every".to_owned(),
        setting => format!("--{}", setting.replace('_', "-")),
    }
}
