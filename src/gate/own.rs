//! The gateway's own pages: their names under `auth_path` and the methods that each knows.

use http::Method;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPage {
    Start,
    Callback,
    SignOut,
    SignedOut,
    Userinfo,
    Auth,
    Forward,
    BackchannelLogout,
    FrontchannelLogout,
}

impl OwnPage {
    /// By its whole path; no prefix of it and nothing behind it.
    pub fn at(path: &[u8], auth_path: &str) -> Option<OwnPage> {
        let name = path.strip_prefix(auth_path.as_bytes())?.strip_prefix(b"/")?;
        Some(match name {
            b"start" => OwnPage::Start,
            b"callback" => OwnPage::Callback,
            b"sign_out" => OwnPage::SignOut,
            b"signed_out" => OwnPage::SignedOut,
            b"userinfo" => OwnPage::Userinfo,
            b"auth" => OwnPage::Auth,
            b"forward" => OwnPage::Forward,
            b"backchannel_logout" => OwnPage::BackchannelLogout,
            b"frontchannel_logout" => OwnPage::FrontchannelLogout,
            _ => return None,
        })
    }

    /// The methods for `Allow`; `None` where any will do.
    pub fn allow(self) -> Option<&'static str> {
        match self {
            OwnPage::Auth | OwnPage::Forward => None,
            OwnPage::Callback | OwnPage::SignOut => Some("GET, HEAD, POST"),
            OwnPage::BackchannelLogout => Some("POST"),
            _ => Some("GET, HEAD"),
        }
    }

    pub fn knows(self, method: &Method) -> bool {
        self.allow().is_none_or(|allow| allow.split(", ").any(|one| one == method.as_str()))
    }
}

/// The longest body that a page reads.
pub const MAX_BODY: usize = 64 * 1024;
