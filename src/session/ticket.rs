//! The value of a session cookie: a random id, whose digest is the record's key in the store, and a random key, without
//! which the record cannot be opened. A dump of the store gives access to no session.

use crate::kit::digest::TokenDigest;
use crate::kit::entropy::Entropy;
use crate::kit::secret::Secret;
use data_encoding::BASE64URL_NOPAD;

#[derive(Clone)]
pub struct Ticket {
    id: [u8; ID],
    key: Secret<[u8; KEY]>,
}

const ID: usize = 16;
const KEY: usize = 32;
/// 48 bytes in base64url.
const LENGTH: usize = 64;

impl Ticket {
    pub fn new(entropy: &dyn Entropy) -> Self {
        let (mut id, mut key) = ([0; ID], [0; KEY]);
        entropy.fill(&mut id);
        entropy.fill(&mut key);
        Ticket { id, key: Secret::new(key) }
    }

    /// None unless the value has exactly the form of a ticket.
    pub fn parse(cookie: &str) -> Option<Self> {
        if cookie.len() != LENGTH {
            return None;
        }
        let bytes = BASE64URL_NOPAD.decode(cookie.as_bytes()).ok()?;
        let (id, key) = bytes.split_first_chunk()?;
        Some(Ticket { id: *id, key: Secret::new(key.try_into().ok()?) })
    }

    /// Whether a cookie's value has the form of a ticket.
    pub fn is_like(cookie: &str) -> bool {
        // No early exit, so that the loop can be vectorised.
        let is_good = |b: u8| b.is_ascii_alphanumeric() | (b == b'-') | (b == b'_');
        cookie.len() == LENGTH && cookie.bytes().fold(true, |all, b| all & is_good(b))
    }

    pub fn cookie(&self) -> Secret {
        BASE64URL_NOPAD.encode(&[&self.id[..], &self.key.expose()[..]].concat()).into()
    }

    /// The record's key in the store: a digest of the id alone, which tells nothing about the ticket's key.
    pub fn place(&self) -> String {
        data_encoding::HEXLOWER.encode(TokenDigest::of(&self.id).bytes())
    }

    pub fn key(&self) -> &[u8] {
        self.key.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::entropy::test::Counted;

    #[test]
    fn a_cookie_is_exactly_a_ticket_or_none() {
        let ticket = Ticket::new(&Counted::default());
        let cookie = ticket.cookie().expose().clone();
        assert_eq!(Ticket::parse(&cookie).map(|t| t.place()), Some(ticket.place()));
        for bad in [
            "",
            "x",
            &cookie[1..],
            &format!("{cookie}A"),
            &cookie.replace('A', "!"),
            &"é".repeat(32),
            &format!("{}=", &cookie[1..]),
        ] {
            assert!(Ticket::parse(bad).is_none(), "{bad}");
        }
    }
}
