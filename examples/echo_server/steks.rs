//! Where the session ticket encryption keys (STEKs) come from.

use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustls_resumption::Error;
#[cfg(unix)]
use rustls_resumption::source::KeyDirectory;
#[cfg(feature = "redis")]
use rustls_resumption::source::RedisSource;
use rustls_resumption::source::{DerivedSource, KeyFiles, StekSource};
use zeroize::Zeroizing;

/// The value of `--stek`. Has no `Debug`, because a URL may contain a password.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Steks {
    Random,
    /// From the secret in an environment variable.
    Derived(String),
    Files(Vec<PathBuf>),
    Directory(PathBuf),
    /// At a URL.
    Redis(String),
}

impl FromStr for Steks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{why}; {FORMS}"));
        if let Some(url) = redis_url(text) {
            return Ok(Self::Redis(url));
        }
        match text.split_once(':') {
            None if text == "random" => Ok(Self::Random),
            Some((_, "")) => refuse("nothing behind the colon"),
            Some(("derived", variable)) => Ok(Self::Derived(variable.to_owned())),
            Some(("file", paths)) => Ok(Self::Files(paths.split(',').map(PathBuf::from).collect())),
            Some(("dir", path)) => Ok(Self::Directory(path.into())),
            _ => refuse("no such source"),
        }
    }
}

/// The URL of `redis:URL`, or a bare URL. One of an unknown scheme too: whoever reads it says what
/// is wrong without showing it, while a value refused here is shown with its password.
pub(crate) fn redis_url(text: &str) -> Option<String> {
    let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if text
        .split_once("://")
        .is_some_and(|(scheme, _)| is_scheme(scheme))
    {
        return Some(text.to_owned());
    }
    let url = text.strip_prefix("redis:").filter(|url| !url.is_empty());
    url.map(str::to_owned)
}

const FORMS: &str = "it is random, derived:ENVVAR, file:PATH[,PATH...], dir:PATH or redis:URL";

impl Steks {
    /// The source; `keks` are environment variables of key-encryption keys for Redis.
    ///
    /// # Errors
    ///
    /// A sentence that names the flag, and what is wrong.
    pub(crate) fn source(&self, keks: &[String]) -> Result<Option<Box<dyn StekSource>>, String> {
        Ok(Some(match self {
            Self::Random => return Ok(None),
            Self::Derived(variable) => {
                let secret = secret("--stek derived", variable)?;
                Box::new(DerivedSource::new(&secret).map_err(|error| weak(variable, &error))?)
            }
            Self::Files(paths) => {
                let files = KeyFiles::new(paths).map_err(wrong)?;
                files.check().map_err(wrong)?;
                Box::new(files)
            }
            Self::Directory(path) => directory(path)?,
            Self::Redis(url) => redis(url, keks)?,
        }))
    }
}

#[cfg(unix)]
fn directory(path: &Path) -> Result<Box<dyn StekSource>, String> {
    KeyDirectory::new(path)
        .map(|directory| Box::new(directory) as Box<dyn StekSource>)
        .map_err(wrong)
}

#[cfg(not(unix))]
fn directory(_path: &Path) -> Result<Box<dyn StekSource>, String> {
    Err("--stek dir: there are key directories on Unix only".to_owned())
}

#[cfg(not(feature = "redis"))]
fn redis(_url: &str, _keks: &[String]) -> Result<Box<dyn StekSource>, String> {
    Err("--stek redis: this server was built without Redis: add --features redis".to_owned())
}

#[cfg(feature = "redis")]
fn redis(url: &str, keks: &[String]) -> Result<Box<dyn StekSource>, String> {
    let mut keks = keks.iter();
    let first = keks.next().ok_or("--stek redis: needs --kek")?;
    let key = secret("--kek", first)?;
    let mut source = RedisSource::new(url, &key).map_err(|error| match error {
        Error::Config { why, .. } => format!("--stek redis: {why}"),
        error => weak(first, &error),
    })?;
    for other in keks {
        let key = secret("--kek", other)?;
        source = source.also_kek(&key).map_err(|error| weak(other, &error))?;
    }
    Ok(Box::new(source))
}

fn wrong(error: Error) -> String {
    format!("--stek: {error}")
}

/// A secret is the raw bytes of an environment variable.
fn secret(flag: &str, variable: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let value = env::var_os(variable).ok_or_else(|| {
        format!(
            "{flag}: the environment variable {variable} is not set; it must hold a secret, such \
             as `openssl rand -hex 32` prints, the same for every server"
        )
    })?;
    Ok(Zeroizing::new(value.into_encoded_bytes()))
}

/// Names the environment variable instead of the field.
fn weak(variable: &str, error: &Error) -> String {
    match error {
        Error::WeakKey { why, .. } => {
            format!("weak key in the environment variable {variable}: {why}")
        }
        error => format!("the environment variable {variable}: {error}"),
    }
}
