//! Bytes with a time to live, behind one seam. Knows nothing of sessions or tokens: what it holds is sealed or a digest.

#[cfg(test)]
mod conformance;
pub mod fallback;
#[cfg(test)]
pub(crate) mod faulty;
pub mod file;
pub mod kv;
pub mod memory;
pub mod redis;
