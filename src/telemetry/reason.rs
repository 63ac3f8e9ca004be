//! The closed list of reasons why a request is refused. They are labels in metrics, fields in logs, and what clients
//! see in `X-Doorward-Reason`.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    LoginRequired,
    InvalidToken,
    UnknownToken,
    TokenExpired,
    WrongAudience,
    InsufficientScope,
    Forbidden,
    RateLimited,
    ProviderUnavailable,
    StoreUnavailable,
    BadRequest,
    StateMismatch,
    LoginFailed,
    SessionEnded,
    UpstreamUnreachable,
    UpstreamTimeout,
    NoRoute,
}

impl Reason {
    /// In the order of their numbers.
    pub const ALL: [Reason; 17] = [
        Reason::LoginRequired,
        Reason::InvalidToken,
        Reason::UnknownToken,
        Reason::TokenExpired,
        Reason::WrongAudience,
        Reason::InsufficientScope,
        Reason::Forbidden,
        Reason::RateLimited,
        Reason::ProviderUnavailable,
        Reason::StoreUnavailable,
        Reason::BadRequest,
        Reason::StateMismatch,
        Reason::LoginFailed,
        Reason::SessionEnded,
        Reason::UpstreamUnreachable,
        Reason::UpstreamTimeout,
        Reason::NoRoute,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Reason::LoginRequired => "login_required",
            Reason::InvalidToken => "invalid_token",
            Reason::UnknownToken => "unknown_token",
            Reason::TokenExpired => "token_expired",
            Reason::WrongAudience => "wrong_audience",
            Reason::InsufficientScope => "insufficient_scope",
            Reason::Forbidden => "forbidden",
            Reason::RateLimited => "rate_limited",
            Reason::ProviderUnavailable => "provider_unavailable",
            Reason::StoreUnavailable => "store_unavailable",
            Reason::BadRequest => "bad_request",
            Reason::LoginFailed => "login_failed",
            Reason::SessionEnded => "session_ended",
            Reason::StateMismatch => "state_mismatch",
            Reason::UpstreamUnreachable => "upstream_unreachable",
            Reason::UpstreamTimeout => "upstream_timeout",
            Reason::NoRoute => "no_route",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables are indexed by the number.
    #[test]
    fn all_reasons_stand_in_order() {
        Reason::ALL.iter().enumerate().for_each(|(at, one)| assert_eq!(*one as usize, at, "{one:?}"));
    }
}
