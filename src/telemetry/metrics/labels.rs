//! The labels of the metrics. A label's values are an enum or a name from the configuration, so that clients cannot
//! create series.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)] // the variants are the documented label values
pub enum Outcome {
    forwarded,
    login,
    unauthorized,
    forbidden,
    rate_limited,
    unavailable,
    bad_request,
    no_route,
    own_page,
    upstream_error,
}

/// The kind of credential that a request was judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub enum Credential {
    none,
    bearer,
    session,
    api_key,
}

/// The caches, by their keys in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub enum Cache {
    verified_tokens,
    introspection,
    unknown_tokens,
    sessions,
    api_keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub enum Lookup {
    hit,
    miss,
}

/// The outcome of a session refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub enum Refresh {
    exchanged,
    joined,
    reused,
    denied,
    unavailable,
}

/// Who began a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub enum Logout {
    sign_out,
    backchannel,
    frontchannel,
    admin,
}

/// What became of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub enum SessionEvent {
    begun,
    ended,
    /// By `max_age` or `idle_timeout`.
    expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub enum Reload {
    ok,
    refused,
}

impl Refresh {
    pub(super) const ALL: [Refresh; 5] =
        [Refresh::exchanged, Refresh::joined, Refresh::reused, Refresh::denied, Refresh::unavailable];
}

impl Logout {
    pub(super) const ALL: [Logout; 4] = [Logout::sign_out, Logout::backchannel, Logout::frontchannel, Logout::admin];
}

impl SessionEvent {
    pub(super) const ALL: [SessionEvent; 3] = [SessionEvent::begun, SessionEvent::ended, SessionEvent::expired];
}

impl Outcome {
    pub const ALL: [Outcome; 10] = [
        Outcome::forwarded,
        Outcome::login,
        Outcome::unauthorized,
        Outcome::forbidden,
        Outcome::rate_limited,
        Outcome::unavailable,
        Outcome::bad_request,
        Outcome::no_route,
        Outcome::own_page,
        Outcome::upstream_error,
    ];
}

impl Outcome {
    pub fn word(self) -> &'static str {
        match self {
            Outcome::forwarded => "forwarded",
            Outcome::login => "login",
            Outcome::unauthorized => "unauthorized",
            Outcome::forbidden => "forbidden",
            Outcome::rate_limited => "rate_limited",
            Outcome::unavailable => "unavailable",
            Outcome::bad_request => "bad_request",
            Outcome::no_route => "no_route",
            Outcome::own_page => "own_page",
            Outcome::upstream_error => "upstream_error",
        }
    }
}

impl Credential {
    pub fn word(self) -> &'static str {
        match self {
            Credential::none => "none",
            Credential::bearer => "bearer",
            Credential::session => "session",
            Credential::api_key => "api_key",
        }
    }
}

/// The store's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub enum Operation {
    get,
    put,
    put_new,
    replace,
    delete,
    restore,
    extend,
    announce,
}

impl Operation {
    pub(super) const ALL: [Operation; 8] = [
        Operation::get,
        Operation::put,
        Operation::put_new,
        Operation::replace,
        Operation::delete,
        Operation::restore,
        Operation::extend,
        Operation::announce,
    ];

    pub(super) fn word(self) -> String {
        format!("{self:?}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) route: String,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabel {
    pub(super) route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AuthLabels {
    pub(super) route: String,
    pub(super) credential: Credential,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CacheLabels {
    pub(super) cache: Cache,
    pub(super) result: Lookup,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CacheLabel {
    pub(super) cache: Cache,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProviderLabel {
    pub(super) provider: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProviderResult {
    pub(super) provider: String,
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LogoutLabels {
    pub(super) provider: String,
    pub(super) kind: Logout,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SessionLabels {
    pub(super) provider: String,
    pub(super) event: SessionEvent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResponseLabels {
    pub(super) route: String,
    pub(super) class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ListenerLabel {
    pub(super) listener: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CertificateLabel {
    pub(super) certificate: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OperationLabel {
    pub(super) operation: Operation,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefreshLabels {
    pub(super) provider: String,
    pub(super) result: Refresh,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReloadLabel {
    pub(super) result: Reload,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabels {
    pub(super) version: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables are indexed by the number.
    #[test]
    fn all_outcomes_stand_in_order() {
        Outcome::ALL.iter().enumerate().for_each(|(at, one)| assert_eq!(*one as usize, at, "{one:?}"));
    }
}
