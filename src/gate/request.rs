//! One request's head and body, as received.

use http::{HeaderMap, Method, Version};
use std::net::IpAddr;

/// A request's body, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// It is forwarded to the app, or there is none.
    Unread,
    Whole(&'a [u8]),
    TooLarge,
    /// It was truncated, or did not arrive in time.
    Broken,
}

/// A request's head and the peer that sent it, unchanged and not yet trusted.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    pub method: &'a Method,
    /// The request target, byte for byte.
    pub target: &'a [u8],
    pub version: Version,
    /// HTTP/2's `:authority`; HTTP/1 has it in the target or not at all.
    pub authority: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// A `Content-Length` was sent beside a `Transfer-Encoding` and has been removed from `headers`.
    pub length_beside_encoding: bool,
    /// The HTTP parser has rewritten or dropped bytes of the request line.
    pub rewritten: bool,
    /// Read for the gateway's own endpoints alone.
    pub body: Body<'a>,
    pub peer: IpAddr,
    /// The longest head that the listener reads, in bytes.
    pub max_head: usize,
    /// The listener redirects to https.
    pub redirect_to_https: bool,
}

impl<'a> RequestHead<'a> {
    /// A request over HTTP/1.1 in which nothing is unusual, without a body.
    pub fn plain(method: &'a Method, target: &'a [u8], headers: &'a HeaderMap, peer: IpAddr) -> Self {
        RequestHead {
            method,
            target,
            version: Version::HTTP_11,
            authority: None,
            headers,
            length_beside_encoding: false,
            rewritten: false,
            body: Body::Unread,
            peer,
            max_head: usize::MAX,
            redirect_to_https: false,
        }
    }
}
