//! The state of a login under way. It is not stored on the server but in a sealed cookie, with a secret from which
//! `state`, `nonce` and the PKCE verifier are derived (RFC 6749, 10.12; OpenID Connect Core 1.0, 15.5.2; RFC 7636).

use crate::kit::clock::Timestamp;
use crate::kit::entropy::Entropy;
use crate::kit::seal::{NotOurs, Secrets, derive};
use crate::login::cookie::CookieSpec;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A login that was started.
#[derive(Serialize, Deserialize)]
pub struct Flow {
    secret: String,
    pub target: String,
    pub provider: String,
    pub redirect_uri: String,
    begun: i64,
}

/// Why a cookie is no login under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFlow {
    /// It is broken, or sealed with another secret.
    Sealed,
    TooLate,
}

/// A login that takes longer must start again.
pub const LIFE: Duration = Duration::from_secs(900);

impl Flow {
    pub fn new(entropy: &dyn Entropy, provider: &str, target: String, redirect_uri: String, now: Timestamp) -> Self {
        let mut secret = [0; 32];
        entropy.fill(&mut secret);
        Flow {
            secret: BASE64URL_NOPAD.encode(&secret),
            target,
            provider: provider.to_string(),
            redirect_uri,
            begun: now.millis(),
        }
    }

    pub fn is_of(&self, state: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.state().as_bytes(), state.as_bytes()).is_ok()
    }

    pub fn state(&self) -> String {
        self.derived(b"state")
    }

    pub fn nonce(&self) -> String {
        self.derived(b"nonce")
    }

    pub fn verifier(&self) -> String {
        self.derived(b"verifier")
    }

    /// `S256` of the verifier.
    pub fn challenge(&self) -> String {
        BASE64URL_NOPAD.encode(digest(&SHA256, self.verifier().as_bytes()).as_ref())
    }

    /// `<begun>.<sealed>`: the start, in ms since the Unix epoch, is also unsealed so that the oldest can be found.
    pub fn sealed(&self, secrets: &Secrets, cookie: &CookieSpec) -> Result<String, NotOurs> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(self).map_err(|_| NotOurs)?);
        let sealed = secrets.seal(b"", &[b"flow"], cookie.name.as_bytes(), &plain)?;
        Ok(format!("{}.{}", self.begun, BASE64URL_NOPAD.encode(&sealed)))
    }

    pub fn open(secrets: &Secrets, cookie: &CookieSpec, value: &str, now: Timestamp) -> Result<Flow, NoFlow> {
        let (_, sealed) = value.split_once('.').ok_or(NoFlow::Sealed)?;
        let sealed = BASE64URL_NOPAD.decode(sealed.as_bytes()).map_err(|_| NoFlow::Sealed)?;
        let opened = secrets.open(b"", &[b"flow"], cookie.name.as_bytes(), &sealed);
        let plain = opened.map_err(|NotOurs| NoFlow::Sealed)?;
        let flow: Flow = serde_json::from_slice(&plain).map_err(|_| NoFlow::Sealed)?;
        let ends = Timestamp::from_millis(flow.begun).plus(LIFE);
        if now < ends { Ok(flow) } else { Err(NoFlow::TooLate) }
    }

    fn derived(&self, purpose: &[u8]) -> String {
        BASE64URL_NOPAD.encode(&derive(self.secret.as_bytes(), purpose, &[]))
    }
}

/// Distinguishes the cookies of several logins without revealing the state.
pub fn id_of(state: &str) -> String {
    data_encoding::HEXLOWER.encode(derive(state.as_bytes(), b"flow id", &[]).split_at(6).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::entropy::test::Counted;
    use crate::login::cookie::SameSite;

    #[test]
    fn a_flow_opens_for_its_holder_in_its_time() {
        let (secrets, now) = (Secrets::new([b"x".repeat(32)]), Timestamp::from_seconds(1000));
        let cookie = CookieSpec::new("doorward", None, SameSite::Lax, false);
        let flow = Flow::new(&Counted::default(), "corp", "/x".into(), "http://a/cb".into(), now);
        let value = flow.sealed(&secrets, &cookie).unwrap();
        let opened = Flow::open(&secrets, &cookie, &value, now).ok().unwrap();
        assert_eq!((opened.state(), opened.target.as_str()), (flow.state(), "/x"));
        assert!(flow.state() != flow.nonce() && flow.nonce() != flow.verifier() && flow.challenge().len() == 43);
        assert!(Flow::open(&secrets, &cookie, &value, now.plus(LIFE)).is_err(), "its time is over");
        let other = CookieSpec::new("other", None, SameSite::Lax, false);
        assert!(Flow::open(&secrets, &other, &value, now).is_err(), "another cookie's");
        assert!(Flow::open(&Secrets::new([b"y".repeat(32)]), &cookie, &value, now).is_err());
        for bad in ["", ".", "1.x", "1.AAAA", &value[1..value.len() - 1]] {
            assert!(Flow::open(&secrets, &cookie, bad, now).is_err());
        }
    }
}
