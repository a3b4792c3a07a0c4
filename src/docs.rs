//! The manual, in four pages.

#[doc = include_str!("docs/choosing.md")]
pub mod choosing {}

#[doc = include_str!("docs/operating.md")]
pub mod operating {}

#[doc = include_str!("docs/security.md")]
pub mod security {}

#[doc = include_str!("docs/migrating.md")]
pub mod migrating {}
