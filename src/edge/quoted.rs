//! `"`, `<` and `>` in a query, as people and PromQL write them. Pingora's type for a request target accepts them
//! neither from the client nor for the app. On reading, they are replaced before Pingora parses the head and restored
//! before the gate judges it. On sending, Pingora holds them with the highest bit set, which no accepted target
//! contains, and the upstream stream clears that bit. Offsets and lengths do not change: the gate and the app get the
//! client's own bytes.

use async_trait::async_trait;
use memchr::{memchr, memchr3};
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, OrErr, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

const HIGH: u8 = 0x80;

/// The bytes replaced in a query, by their offset from the question mark.
#[derive(Debug, Default)]
pub(super) struct Taken {
    read: usize,
    bytes: Vec<(usize, u8)>,
}

impl Taken {
    /// Replaces the three characters in the next piece of a query; the first piece starts with the question mark.
    pub(super) fn take(&mut self, piece: &mut [u8]) {
        if memchr3(b'"', b'<', b'>', piece).is_some() {
            for (at, b) in piece.iter_mut().enumerate().filter(|(_, b)| is_one(**b)) {
                self.bytes.push((self.read + at, *b));
                *b = b'_';
            }
        }
        self.read += piece.len();
    }

    /// The target as the client wrote it; `None` if nothing was replaced.
    pub(super) fn put_back(&self, target: &[u8]) -> Option<Vec<u8>> {
        let query = memchr(b'?', target).filter(|_| !self.bytes.is_empty())?;
        let mut target = target.to_vec();
        for (at, b) in &self.bytes {
            *target.get_mut(query + at)? = *b;
        }
        Some(target)
    }
}

fn is_one(b: u8) -> bool {
    matches!(b, b'"' | b'<' | b'>')
}

/// The target in a form that Pingora accepts: marked for [`carry`], or percent-encoded if the upstream is not carried.
pub(super) fn for_upstream(target: &[u8], is_carried: bool) -> Vec<u8> {
    let mut sent = target.to_vec();
    let query = memchr(b'?', &sent).unwrap_or(sent.len());
    if is_carried {
        sent.iter_mut().skip(query).filter(|b| is_one(**b)).for_each(|b| *b |= HIGH);
        return sent;
    }
    let rest = sent.split_off(query);
    for b in rest {
        match is_one(b) {
            true => sent.extend_from_slice(format!("%{b:02X}").as_bytes()),
            false => sent.push(b),
        }
    }
    sent
}

/// Makes `peer` connect through a stream that writes marked bytes of the request line in their original form.
pub(super) fn carry(peer: &mut HttpPeer) {
    peer.options.custom_l4 = Some(Arc::new(Unmarking));
}

#[derive(Debug)]
struct Unmarking;

#[async_trait]
impl L4Connect for Unmarking {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let socket: Box<dyn VirtualSocket> = match address {
            SocketAddr::Inet(address) => {
                let tcp = TcpStream::connect(address).await.or_err(ErrorType::ConnectError, "no connection")?;
                tcp.set_nodelay(true).or_err(ErrorType::SocketError, "no delay")?;
                Box::new(Unmarked { inner: tcp, is_in_line: true })
            }
            SocketAddr::Unix(address) => {
                let path = address.as_pathname().ok_or_else(|| Error::new_up(ErrorType::ConnectNoRoute))?;
                let unix = UnixStream::connect(path).await.or_err(ErrorType::ConnectError, "no connection")?;
                Box::new(Unmarked { inner: unix, is_in_line: true })
            }
        };
        Ok(VirtualSocketStream::new(socket).into())
    }
}

#[derive(Debug)]
struct Unmarked<S> {
    inner: S,
    /// The request line is not completely written yet.
    is_in_line: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Unmarked<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unmarked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        if !self.is_in_line {
            return Pin::new(&mut self.inner).poll_write(cx, buf);
        }
        let end = memchr(b'\n', buf);
        let line = buf.get(..end.map_or(buf.len(), |at| at + 1)).unwrap_or(buf);
        let unmarked: Vec<u8> = line.iter().map(|b| b & !HIGH).collect();
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &unmarked))?;
        self.is_in_line = end.is_none() || written < line.len();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug> VirtualSocket for Unmarked<S> {
    fn set_socket_option(&self, _option: VirtualSockOpt) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_http::RequestHeader;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn only_three_bytes_of_a_query_are_marked_and_come_back() {
        let check = |target: &[u8], encoded: &[u8]| {
            let marked = for_upstream(target, true);
            assert_eq!(marked.len(), target.len());
            let head = RequestHeader::build("GET", &marked, None).unwrap();
            assert_eq!(head.raw_path(), marked);
            let query = memchr(b'?', target).unwrap_or(target.len());
            for split in query..=target.len() {
                let (mut read, mut taken) = (target.to_vec(), Taken::default());
                let (first, rest) = read.split_at_mut(split);
                taken.take(&mut first[query..]);
                taken.take(rest);
                assert!(RequestHeader::build("GET", &read, None).is_ok());
                let put_back = taken.put_back(&read);
                assert_eq!(put_back.is_some(), marked != target);
                assert_eq!(put_back.as_deref().unwrap_or(&read), target);
            }
            assert_eq!(for_upstream(target, false), encoded);
        };
        check(b"/a?q=up{job=\"node\"}|<x>", b"/a?q=up{job=%22node%22}|%3Cx%3E");
        check(b"/a\"b?q=1", b"/a\"b?q=1");
        check(b"/a?b?\"", b"/a?b?%22");
        check(b"/a", b"/a");
    }

    #[tokio::test]
    async fn only_the_first_line_is_unmarked() {
        for split in 1..20 {
            let mut stream = Unmarked { inner: Vec::new(), is_in_line: true };
            let wire = [&b"GET /?\xa2\xbc\xbe HTTP/1.1\r\n"[..], b"X: \xa2\r\n\r\n"].concat();
            let (first, rest) = wire.split_at(split);
            stream.write_all(first).await.unwrap();
            stream.write_all(rest).await.unwrap();
            assert_eq!(stream.inner, b"GET /?\"<> HTTP/1.1\r\nX: \xa2\r\n\r\n");
        }
    }
}
