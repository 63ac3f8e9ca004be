//! The admin API's sessions: lists and ends them. The store's index names nobody, so a list asks for a user.

use crate::admin::pages::{JSON, Page, not_found, only, problem, time, unavailable};
use crate::session::index::{Listed, Of};
use crate::session::realm::Realm;
use crate::session::sessions::Sessions;
use crate::store::kv::Unavailable;
use crate::telemetry::metrics::{Logout, SessionEvent};
use crate::telemetry::requester::Requester;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use url::form_urlencoded;

pub(super) const SESSIONS: &str = "/api/v1/sessions";

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Query {
    All,
    User { user: String, provider: Option<String> },
}

/// Characters of a session's id.
const ID: usize = 64;

/// All sessions, and who asks about them.
pub(super) struct All<'a> {
    pub sessions: &'a Sessions,
    pub realms: &'a [Arc<Realm>],
    pub requester: &'a Requester,
}

impl All<'_> {
    /// `rest`: the path behind [`SESSIONS`].
    pub(super) async fn page(&self, method: &Method, rest: &str, query: Option<&str>) -> Page {
        match (method, rest) {
            (&Method::DELETE, id) if id.starts_with('/') => self.end(id.trim_start_matches('/')).await,
            (_, id) if id.starts_with('/') => only("DELETE"),
            (&Method::GET | &Method::DELETE, "") => match (read(query.unwrap_or_default()), method) {
                (Err(wrong), _) => problem(StatusCode::BAD_REQUEST, wrong),
                (Ok(Query::User { user, provider }), &Method::GET) => {
                    list(self.sessions, self.realms, &user, provider.as_deref()).await
                }
                (Ok(Query::User { user, provider }), _) => self.end_user(user, provider.as_deref()).await,
                (Ok(Query::All), &Method::DELETE) => self.end_all().await,
                (Ok(Query::All), _) => problem(StatusCode::BAD_REQUEST, NO_USER),
            },
            (_, "") => only("GET, DELETE"),
            _ => not_found(),
        }
    }

    async fn end_all(&self) -> Page {
        let Requester { client, request_id } = self.requester;
        let mut count = 0;
        let count_one = |provider: &str| {
            count += 1;
            self.count(provider);
        };
        let result = self.sessions.end_all(remember(self.realms), count_one).await;
        if result.is_ok() {
            self.realms.iter().for_each(|realm| realm.metrics.logged_out(Logout::admin));
        }
        let how = if result.is_ok() { "all" } else { "some, before the store was unavailable" };
        tracing::info!(
            event = "logout", kind = "admin", all = true, count, request_id, %client, how,
            "an administrator ends all sessions"
        );
        ended(result)
    }

    /// A session of this provider has ended. One whose provider is no longer configured has no series.
    fn count(&self, provider: &str) {
        let realm = of_provider(self.realms, Some(provider)).into_iter().next();
        realm.inspect(|realm| realm.metrics.session(SessionEvent::ended));
    }

    async fn end_user(&self, user: String, provider: Option<&str>) -> Page {
        let Requester { client, request_id } = self.requester;
        let of = Of::User(user.clone());
        let (mut count, mut result) = (0, Ok(()));
        for realm in of_provider(self.realms, provider) {
            match self.sessions.end_all_of(&realm, &of).await {
                Ok(ended) => {
                    count += ended;
                    realm.metrics.logged_out(Logout::admin);
                }
                Err(unavailable) => result = Err(unavailable),
            }
        }
        let how = if result.is_ok() { "all" } else { "some, the store was unavailable" };
        tracing::info!(
            event = "logout", kind = "admin", count, request_id, provider, user, %client, how,
            "an administrator ends the sessions of a user"
        );
        ended(result)
    }

    async fn end(&self, id: &str) -> Page {
        if id.len() != ID || !id.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()) {
            return not_found();
        }
        match self.sessions.end_place(id, remember(self.realms)).await {
            Ok(None) => not_found(),
            Ok(Some(provider)) => {
                self.count(&provider);
                of_provider(self.realms, Some(&provider)).iter().for_each(|r| r.metrics.logged_out(Logout::admin));
                let Requester { client, request_id } = self.requester;
                tracing::info!(
                    event = "logout", kind = "admin", count = 1, request_id, provider, %client,
                    "an administrator has ended a session"
                );
                ended(Ok(()))
            }
            Err(Unavailable) => unavailable(),
        }
    }
}

const NO_USER: &str = "`user` is required: the index of sessions names nobody";

fn read(query: &str) -> Result<Query, &'static str> {
    let (mut user, mut provider, mut all) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let field = match name.as_ref() {
            "user" => &mut user,
            "provider" => &mut provider,
            "all" => &mut all,
            _ => return Err("a parameter is unknown: known are user, provider, all"),
        };
        if value.is_empty() || field.replace(value.into_owned()).is_some() {
            return Err("a parameter is empty, or there twice");
        }
    }
    match (user, provider, all.as_deref()) {
        (Some(user), provider, None) => Ok(Query::User { user, provider }),
        (None, None, Some("true")) => Ok(Query::All),
        (None, _, None) => Err(NO_USER),
        _ => Err("`all` must be `true`, and stands alone"),
    }
}

async fn list(sessions: &Sessions, realms: &[Arc<Realm>], user: &str, provider: Option<&str>) -> Page {
    let of = Of::User(user.to_string());
    let mut found: Vec<Listed> = Vec::new();
    for realm in of_provider(realms, provider) {
        match sessions.listed(&realm, &of).await {
            Ok(more) => found.extend(more),
            Err(Unavailable) => return unavailable(),
        }
    }
    found.sort_by(|a, b| (b.created, &b.place).cmp(&(a.created, &a.place)));
    found.dedup_by(|a, b| a.place == b.place);
    let shown = |session: &Listed| {
        let [created, seen] = [session.created, session.seen].map(|at| time(Some(at.seconds())));
        json!({
            "id": session.place, "user": user, "provider": session.provider, "created": created, "last_seen": seen,
        })
    };
    let body = Value::Array(found.iter().map(shown).collect());
    (StatusCode::OK, JSON, body.to_string())
}

fn ended(ended: Result<(), Unavailable>) -> Page {
    match ended {
        Ok(()) => (StatusCode::NO_CONTENT, JSON, String::new()),
        Err(Unavailable) => unavailable(),
    }
}

fn of_provider(realms: &[Arc<Realm>], provider: Option<&str>) -> Vec<Arc<Realm>> {
    let is_asked_for = |realm: &&Arc<Realm>| provider.is_none_or(|name| *realm.provider.settings().name == *name);
    realms.iter().filter(is_asked_for).cloned().collect()
}

/// For how long a refresh in flight must not write an ended session again.
fn remember(realms: &[Arc<Realm>]) -> Duration {
    realms.iter().map(|realm| realm.max_age).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_user_or_all() {
        let user = |user: &str, provider: Option<&str>| {
            Ok(Query::User { user: user.into(), provider: provider.map(str::to_owned) })
        };
        assert_eq!(read("user=alice"), user("alice", None));
        assert_eq!(read("user=a%2Bb%40corp.test&provider=corp"), user("a+b@corp.test", Some("corp")));
        assert_eq!(read("all=true"), Ok(Query::All));
        let wrong = [
            "",
            "user=",
            "provider=corp",
            "all=false",
            "all=1",
            "all=true&user=alice",
            "all=true&provider=corp",
            "user=alice&user=bob",
            "users=alice",
            "user=alice&provider=",
        ];
        for wrong in wrong {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
