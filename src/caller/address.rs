//! The client's address. Only a peer inside `trusted_proxies` may say who the client is; forwarding headers from any
//! other peer are ignored. A chain is read from its right end, past trusted proxies, to the first address that is not
//! one: anybody may have written the entries left of it.

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Which proxies to trust, and which of their headers.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientIp {
    /// Networks (CIDR) or addresses of proxies; only these may say who the client is.
    pub trusted_proxies: Vec<Net>,
    /// The header in which they name the client.
    pub header: ForwardingHeader,
}

/// A network; an IPv4-mapped IPv6 network is converted to the IPv4 network, as peer addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Net(IpNet);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardingHeader {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
    XRealIp,
    CfConnectingIp,
    TrueClientIp,
}

/// The client of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub address: IpAddr,
    /// Whether the peer is a trusted proxy, whose request id and forwarded request are accepted.
    pub through_trusted: bool,
    /// The trusted proxies that the request came through, the peer last; empty if the client is the peer.
    pub hops: Vec<IpAddr>,
}

/// At most this many entries of a chain are read; the last one read then counts as the client.
const MAX_HOPS: usize = 32;

impl TryFrom<String> for Net {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match net.map(|net| as_v4(net.trunc())) {
            Ok(net) if net.prefix_len() == 0 => {
                Err("trusts everyone, so that every client may forge its address; name the proxies".into())
            }
            Ok(net) => Ok(Net(net)),
            Err(_) => Err(format!("`{text}` is not a network; write one such as 10.0.0.0/8 or fd00::/8")),
        }
    }
}

impl From<Net> for String {
    fn from(net: Net) -> Self {
        net.0.to_string()
    }
}

fn as_v4(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(v6) => v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(v4, prefix)| IpNet::new(v4.into(), prefix).ok()).unwrap_or(net)
}

impl ClientIp {
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> Caller {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return Caller { address: peer, through_trusted: false, hops: Vec::new() };
        }
        let mut hops = self.forwarded(headers).unwrap_or_default();
        hops.push(peer);
        let address = hops.remove(0);
        Caller { address, through_trusted: true, hops }
    }

    /// Whether an untrusted peer sent a forwarding header: perhaps a proxy that is missing in `trusted_proxies`.
    pub fn is_unheard(&self, caller: &Caller, headers: &HeaderMap) -> bool {
        let says = |header: ForwardingHeader| headers.contains_key(header.name());
        let usual = || says(ForwardingHeader::XForwardedFor) || says(ForwardingHeader::Forwarded);
        !caller.through_trusted && (usual() || !self.header.is_chain() && says(self.header))
    }

    /// The client and the trusted proxies behind it, left to right; `None` where the header is absent or unreadable.
    fn forwarded(&self, headers: &HeaderMap) -> Option<Vec<IpAddr>> {
        let mut values = headers.get_all(self.header.name()).iter().peekable();
        values.peek()?;
        let mut chain = Vec::new();
        for value in values.rev() {
            // A byte that is not UTF-8 invalidates its own element, not those that a proxy appended.
            let value = String::from_utf8_lossy(value.as_bytes());
            let elements = match self.header {
                ForwardingHeader::Forwarded => split(&value, ',')?,
                _ => value.split(',').collect(),
            };
            for element in elements.into_iter().rev() {
                let hop = match self.header {
                    ForwardingHeader::Forwarded => forwarded_for(element)?,
                    _ => address(element)?,
                };
                chain.push(hop);
                if !self.header.is_chain() || !self.trusts(hop) || chain.len() == MAX_HOPS {
                    chain.reverse();
                    return Some(chain);
                }
            }
        }
        chain.reverse();
        Some(chain)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.0.contains(&address))
    }
}

impl Caller {
    /// The value of `X-Forwarded-For` for the app: the client, then the trusted proxies behind it.
    pub fn chain(&self) -> String {
        let mut chain = String::with_capacity(LONGEST_ADDRESS);
        push(&mut chain, self.address);
        for hop in &self.hops {
            chain.push_str(", ");
            push(&mut chain, *hop);
        }
        chain
    }
}

const LONGEST_ADDRESS: usize = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".len();

/// As `Display` would write it, without what a formatter costs: every request has one.
fn push(text: &mut String, address: IpAddr) {
    let IpAddr::V4(address) = address else { return text.push_str(&address.to_string()) };
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        for unit in [100, 10, 1] {
            if octet >= unit || unit == 1 {
                text.push(char::from(b'0' + octet / unit % 10));
            }
        }
    }
}

impl ForwardingHeader {
    fn name(self) -> HeaderName {
        HeaderName::from_static(match self {
            ForwardingHeader::XForwardedFor => "x-forwarded-for",
            ForwardingHeader::Forwarded => "forwarded",
            ForwardingHeader::XRealIp => "x-real-ip",
            ForwardingHeader::CfConnectingIp => "cf-connecting-ip",
            ForwardingHeader::TrueClientIp => "true-client-ip",
        })
    }

    fn is_chain(self) -> bool {
        matches!(self, ForwardingHeader::XForwardedFor | ForwardingHeader::Forwarded)
    }
}

/// The `for` of one element of a `Forwarded` header: `for="[2001:db8::1]:4711";proto=https`.
/// `None` unless there is exactly one.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = split(element, ';')?;
    let named =
        |pair: &&str| pair.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("for")).is_some();
    let mut all = pairs.into_iter().filter(named);
    let (only, None) = (all.next()?, all.next()) else { return None };
    let value = only.split_once('=')?.1.trim();
    let node = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    // RFC 7239, 6: a port may be obfuscated as well.
    address(node.rsplit_once(":_").map_or(node, |(node, _)| node))
}

/// Parses an address, also with a port or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|a| a.ip())).ok(),
    };
    address.map(|a| a.to_canonical())
}

/// Splits at separators outside of quoted strings (RFC 9110, 5.6.4). `None` for an unclosed quote: what the client
/// wrote would absorb what a proxy has appended.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text
        .split(|c| {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ => {}
            }
            c == separator && !quoted
        })
        .collect();
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn check(header: ForwardingHeader, peer: &str, sent: &[&str], client: &str, chain: &[&str]) {
        let rule = ClientIp {
            trusted_proxies: ["10.0.0.0/8", "fd00::/8"].map(|n| Net::try_from(n.to_string()).unwrap()).to_vec(),
            header,
        };
        let mut headers = HeaderMap::new();
        for value in sent {
            headers.append(header.name(), HeaderValue::from_bytes(&latin1(value)).unwrap());
        }
        let caller = rule.caller(peer.parse().unwrap(), &headers);
        assert_eq!(caller.address.to_string(), client, "{sent:?} from {peer}");
        assert_eq!(caller.chain(), chain.join(", "), "{sent:?} from {peer}");
    }

    /// Lets tests write non-UTF-8 bytes as characters.
    fn latin1(text: &str) -> Vec<u8> {
        text.chars().map(|c| u8::try_from(c).unwrap()).collect()
    }

    #[test]
    fn an_address_is_written_as_usual() {
        for octet in 0..=255 {
            let address = IpAddr::from([octet, 0, 255 - octet, 10]);
            let caller = Caller { address, ..ClientIp::default().caller(address, &HeaderMap::new()) };
            assert_eq!(caller.chain(), address.to_string());
        }
    }

    #[test]
    fn a_chain_is_read_from_its_right_end() {
        use ForwardingHeader::XForwardedFor as X;
        check(X, "192.0.2.1", &["1.1.1.1"], "192.0.2.1", &["192.0.2.1"]);
        check(X, "10.0.0.1", &[], "10.0.0.1", &["10.0.0.1"]);
        check(X, "10.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1", &["1.1.1.1", "10.0.0.1"]);
        check(X, "10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1", &["1.1.1.1", "10.0.0.2", "10.0.0.1"]);
        check(X, "10.0.0.1", &["6.6.6.6", "1.1.1.1,10.0.0.2"], "1.1.1.1", &["1.1.1.1", "10.0.0.2", "10.0.0.1"]);
        check(X, "10.0.0.1", &["10.0.0.3"], "10.0.0.3", &["10.0.0.3", "10.0.0.1"]);
        check(X, "10.0.0.1", &["garbage, 1.1.1.1"], "1.1.1.1", &["1.1.1.1", "10.0.0.1"]);
        check(X, "10.0.0.1", &["\u{e9}, 1.1.1.1"], "1.1.1.1", &["1.1.1.1", "10.0.0.1"]);
        check(X, "10.0.0.1", &["1.1.1.1\u{e9}"], "10.0.0.1", &["10.0.0.1"]);
        check(X, "10.0.0.1", &["1.1.1.1, garbage"], "10.0.0.1", &["10.0.0.1"]);
        check(X, "10.0.0.1", &["1.1.1.1:1234"], "1.1.1.1", &["1.1.1.1", "10.0.0.1"]);
        check(X, "10.0.0.1", &["::ffff:1.1.1.1"], "1.1.1.1", &["1.1.1.1", "10.0.0.1"]);
        check(X, "::ffff:10.0.0.1", &["2001:db8::7"], "2001:db8::7", &["2001:db8::7", "10.0.0.1"]);
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_says() {
        use ForwardingHeader::Forwarded as F;
        check(F, "10.0.0.1", &["for=1.1.1.1;proto=http"], "1.1.1.1", &["1.1.1.1", "10.0.0.1"]);
        check(F, "10.0.0.1", &["For=\"[2001:db8::1]:4711\""], "2001:db8::1", &["2001:db8::1", "10.0.0.1"]);
        check(
            F,
            "10.0.0.1",
            &["for=6.6.6.6, proto=\"a,b;c\";for=1.1.1.1, for=10.0.0.9"],
            "1.1.1.1",
            &["1.1.1.1", "10.0.0.9", "10.0.0.1"],
        );
        check(F, "10.0.0.1", &["for=\"1.1.1.1:_port\""], "1.1.1.1", &["1.1.1.1", "10.0.0.1"]);
        check(F, "10.0.0.1", &["for=\"[2001:db8::1]:_port\""], "2001:db8::1", &["2001:db8::1", "10.0.0.1"]);
        check(F, "10.0.0.1", &["for=\"\u{ff}\", for=1.1.1.1"], "1.1.1.1", &["1.1.1.1", "10.0.0.1"]);
        check(F, "10.0.0.1", &["for=_hidden"], "10.0.0.1", &["10.0.0.1"]);
        check(F, "10.0.0.1", &["by=1.1.1.1"], "10.0.0.1", &["10.0.0.1"]);
        // A quote that a client leaves open invalidates the header.
        for left_open in ["for=6.6.6.6;x=\"", "for=6.6.6.6;x=\"\\", "for=6.6.6.6;x=\"a\\\"", "\""] {
            for added in ["for=1.1.1.1", "for=\"[2001:db8::1]:99\""] {
                check(F, "10.0.0.1", &[&format!("{left_open}, {added}")], "10.0.0.1", &["10.0.0.1"]);
            }
        }
        check(F, "10.0.0.1", &["for=6.6.6.6;x=\"\\\",\", for=1.1.1.1"], "1.1.1.1", &["1.1.1.1", "10.0.0.1"]);
        check(F, "10.0.0.1", &["for=g;for=1.1.1.1"], "10.0.0.1", &["10.0.0.1"]);
        check(F, "10.0.0.1", &["for=\"[1.1.1.1]\""], "10.0.0.1", &["10.0.0.1"]);
    }

    #[test]
    fn single_addresses_are_single() {
        use ForwardingHeader::*;
        for header in [XRealIp, CfConnectingIp, TrueClientIp] {
            check(header, "10.0.0.1", &["1.1.1.1"], "1.1.1.1", &["1.1.1.1", "10.0.0.1"]);
            check(header, "10.0.0.1", &["x"], "10.0.0.1", &["10.0.0.1"]);
            check(header, "192.0.2.1", &["1.1.1.1"], "192.0.2.1", &["192.0.2.1"]);
        }
    }
}
