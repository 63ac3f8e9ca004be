//! What refusals say to people and programs.

use crate::gate::refusal::Refusal;
use crate::login::no_state::NoState;
use crate::telemetry::reason::Reason;
use http::StatusCode;

/// A title, what happened, and what to do next.
type Words = (&'static str, &'static str, &'static str);

pub(super) fn of(refusal: &Refusal) -> Words {
    match refusal.reason {
        Reason::BadRequest => of_form(refusal.status),
        Reason::LoginFailed => of_login(refusal.status),
        Reason::StateMismatch => of_state(refusal.cause),
        Reason::RateLimited if refusal.status == StatusCode::SERVICE_UNAVAILABLE => {
            ("Too many requests at once", "As many requests as may be are being served.", "Try again in a moment.")
        }
        reason => of_credential(reason).unwrap_or_else(|| of_service(reason)),
    }
}

fn of_form(status: StatusCode) -> Words {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            ("Method not allowed", "This address does not know the method of the request.", "")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            ("Request too large", "The body of the request is larger than this address reads.", "")
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "Request head too large",
            "The head of the request is larger than is read here.",
            "Clearing the cookies of this site may help.",
        ),
        StatusCode::FORBIDDEN => (
            "Not allowed",
            "This address is only for the pages of this site, or for a proxy that asks about another request.",
            "",
        ),
        _ => ("Bad request", "The request can be read in more than one way, or not at all.", "Check the address."),
    }
}

fn of_state(cause: Option<NoState>) -> Words {
    const TITLE: &str = "Sign-in not recognised";
    match cause {
        Some(NoState::NoCookie) => (
            TITLE,
            "The cookie of this sign-in did not come back: it is blocked in this browser, or the sign-in was begun under another address.",
            "Allow cookies for this site, and begin again at its own address.",
        ),
        Some(NoState::OtherSecret) => (
            TITLE,
            "This sign-in was begun with another key of the service than the one that is in use now.",
            "Sign in again. If it stays so, tell the people who run this service: its replicas may differ in their secret.",
        ),
        Some(NoState::TooLate) => (TITLE, "This sign-in took longer than 15 minutes.", "Sign in again."),
        Some(NoState::Used) => (TITLE, "This answer to a sign-in was used before.", "Sign in again."),
        Some(NoState::SessionNotKept) => (
            "Sign-in does not last",
            "You were signed in three times in a row, and this browser did not send the cookie of your session back.",
            "Allow cookies for this site, wait half a minute, and sign in again.",
        ),
        Some(NoState::SessionUnknown) => (
            "Sign-in does not last",
            "You were signed in three times in a row, and each time this service did not find your session again.",
            "Wait half a minute, and sign in again. If it stays so, tell the people who run this service: its replicas may not share their sessions.",
        ),
        Some(NoState::Absent) | None => {
            (TITLE, "This answer to a sign-in does not belong to one that was begun in this browser.", "Sign in again.")
        }
    }
}

fn of_login(status: StatusCode) -> Words {
    match status {
        StatusCode::FORBIDDEN => (
            "Sign-in declined",
            "The identity provider did not let you in, or the sign-in was cancelled.",
            "If you should have access, ask the people who run this service.",
        ),
        StatusCode::BAD_REQUEST => (
            "Sign-in failed",
            "The identity provider did not accept the answer to this sign-in; it may have taken too long.",
            "",
        ),
        _ => (
            "Sign-in failed",
            "The identity provider answered in a way that cannot be trusted.",
            "If it stays so, tell the people who run this service and name the request below.",
        ),
    }
}

fn of_credential(reason: Reason) -> Option<Words> {
    const NEW_TOKEN: &str = "Get a new token from your identity provider.";
    Some(match reason {
        Reason::LoginRequired => (
            "Sign-in required",
            "This address needs a credential, and the request had none that counts here.",
            "Sign in, or send a bearer token.",
        ),
        Reason::SessionEnded => (
            "Session ended",
            "You were signed in here; that session is over.",
            "Sign in again, or send a bearer token.",
        ),
        Reason::InvalidToken => ("Token not accepted", "The bearer token is not valid here.", NEW_TOKEN),
        Reason::UnknownToken => ("Token not known", "Nobody vouches for this bearer token.", NEW_TOKEN),
        Reason::TokenExpired => ("Token expired", "The bearer token was good once; its time is over.", NEW_TOKEN),
        Reason::WrongAudience => (
            "Token for another service",
            "The bearer token was made for another audience.",
            "Ask your identity provider for a token for this service.",
        ),
        Reason::InsufficientScope => (
            "Scope missing",
            "The token is good, but lacks a scope that this address needs.",
            "Ask for a token with more scopes.",
        ),
        Reason::Forbidden => (
            "No access",
            "You are known here, but this address is not open to you.",
            "If you need access, ask the people who run this service and name the request below.",
        ),
        Reason::RateLimited => (
            "Too many refused credentials",
            "Too many credentials from this network address were refused.",
            "Wait a moment, then try again with a good one.",
        ),
        _ => return None,
    })
}

fn of_service(reason: Reason) -> Words {
    const IN_A_MOMENT: &str = "Try again in a moment.";
    match reason {
        Reason::ProviderUnavailable => (
            "Identity provider unavailable",
            "Your credential cannot be checked right now, because the identity provider does not answer.",
            "Nothing is wrong with it. Try again in a moment.",
        ),
        Reason::StoreUnavailable => (
            "Sessions unavailable",
            "Your session cannot be looked up right now, because the session store does not answer.",
            "You are still signed in. Try again in a moment.",
        ),
        Reason::UpstreamUnreachable => {
            ("Service not reachable", "The service behind this address does not answer.", IN_A_MOMENT)
        }
        Reason::UpstreamTimeout => {
            ("Service too slow", "The service behind this address did not answer in time.", IN_A_MOMENT)
        }
        _ => ("Nothing here", "No service is known under this address.", "Check the address."),
    }
}
