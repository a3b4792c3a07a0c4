//! The manual.
//!
//! | page | answers |
//! | --- | --- |
//! | [`choosing`] | tickets or stateful, which source of keys, which store; what it costs; the lines for each framework |
//! | [`operating`] | why clients do not resume, what to watch, what to do in an incident, what is logged |
//! | [`security`] | what is promised, what each promise rests on, and which test keeps it |
//! | [`migrating`] | what corresponds to the settings of nginx, HAProxy and others |
//! | [`glossary`] | what the words mean |

#[doc = include_str!("docs/choosing.md")]
pub mod choosing {}

#[doc = include_str!("docs/operating.md")]
pub mod operating {}

#[doc = include_str!("docs/security.md")]
pub mod security {}

#[doc = include_str!("docs/migrating.md")]
pub mod migrating {}

#[doc = include_str!("docs/glossary.md")]
pub mod glossary {}
