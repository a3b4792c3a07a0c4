//! The manual: [`choosing`] a mode and a key source, [`operating`] a server, [`security`], and
//! [`migrating`] from other servers.

#[doc = include_str!("docs/choosing.md")]
pub mod choosing {}

#[doc = include_str!("docs/operating.md")]
pub mod operating {}

#[doc = include_str!("docs/security.md")]
pub mod security {}

#[doc = include_str!("docs/migrating.md")]
pub mod migrating {}
