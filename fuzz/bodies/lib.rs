//! What the fuzz targets run: each body takes any bytes, and panics if a promise is broken. Those
//! of what is private, in the folder of that name, are modules of the files that they try, and come
//! out of the crate's module `fuzzed`.

pub mod cache;
mod changed;
pub mod ring;
pub mod sessions;
pub mod ticket;
