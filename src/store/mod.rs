//! Opaque bytes, and sets of names, with a time to live, behind one trait. Independent of sessions and tokens: callers seal the values.

#[cfg(test)]
mod conformance;
pub mod fallback;
#[cfg(test)]
pub(crate) mod faulty;
pub mod file;
pub mod kv;
pub mod lease;
pub mod memory;
pub mod redis;
pub mod settings;
