//! Why a login cannot be completed, or would be in vain: the causes of `state_mismatch`.

/// What is wrong with the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoState {
    /// The answer has none.
    Absent,
    NoCookie,
    OtherSecret,
    TooLate,
    Used,
    /// Logins succeeded, one after another, and the session's cookie does not come back.
    SessionNotKept,
    /// The same, but the session's cookie comes back and no session is found for it.
    SessionUnknown,
}

impl NoState {
    pub fn words(self) -> &'static str {
        match self {
            NoState::Absent => "the answer has no state",
            NoState::NoCookie => {
                "no cookie of this login came back: the browser blocks it, or the login began on another host, or over http and ended over https, or took longer than 15 minutes, or the cookies are too large"
            }
            NoState::OtherSecret => {
                "the login's cookie was sealed with another secret: the replicas' store.secret or client_secret differ, or it was changed; with `store.backend: memory` and no secret each start makes its own"
            }
            NoState::TooLate => "the login took longer than 15 minutes",
            NoState::Used => "the answer was used before",
            NoState::SessionNotKept => {
                "a login loop: three logins succeeded within 30 s, and the session's cookie does not come back: the browser drops it, or a proxy removes it"
            }
            NoState::SessionUnknown => {
                "a login loop: three logins succeeded within 30 s, and the session's cookie comes back, but no session is found for it: the replicas do not share a store, or `max_age` or `idle_timeout` of the route ends it at once"
            }
        }
    }
}
