//! What is asked: one request's head, as it came from the wire.

use http::{HeaderMap, Method, Version};
use std::net::IpAddr;

/// A request's body, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// It goes to the app, or there is none.
    Unread,
    Whole(&'a [u8]),
    TooLarge,
    /// It ended before its end, or did not come in time.
    Broken,
}

/// A request's head and the peer that sent it. Nothing in it has been changed or believed.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    pub method: &'a Method,
    /// The request target, byte for byte.
    pub target: &'a [u8],
    pub version: Version,
    /// HTTP/2's `:authority`; HTTP/1 has it in the target or not at all.
    pub authority: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// A `Content-Length` stood beside a `Transfer-Encoding` and was taken out before we saw the head.
    pub length_beside_encoding: bool,
    /// The request line held bytes that the parser has rewritten or dropped before we saw it.
    pub rewritten: bool,
    /// For the gateway's own pages alone: what was posted.
    pub body: Body<'a>,
    pub peer: IpAddr,
    /// The longest head that the listener reads, in bytes.
    pub max_head: usize,
    /// The listener sends everyone to https.
    pub redirect_to_https: bool,
}
