//! The project itself: its table of contracts, its sources, its dashboards.

mod contracts;
mod dependencies;
mod imports;
mod logs;
mod manual;
mod observability;
mod readme;
mod rustls_line;
mod snippets;
mod tokens;
