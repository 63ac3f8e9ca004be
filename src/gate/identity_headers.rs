//! The headers that the app sees: everything that could pass for the gateway's word is taken out of what the client
//! sent, under every spelling that an app might fold to it, and what is known of the person is put in.

use crate::gate::encode::encode;
use crate::gate::encode::encode_list;
use crate::gate::template::Template;
use crate::kit::digest::Fingerprint;
use crate::provider::identity::{Identity, Rendered};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Which set of identity headers an app understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    Standard,
    Grafana,
    Authelia,
    None,
}

/// The identity headers of one route.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    preset: Preset,
    set: Vec<(HeaderName, Template)>,
    id: Fingerprint,
}

/// The names that no client may send, on any route.
#[derive(Clone, Debug)]
pub struct HeaderFilter {
    /// Sorted.
    folded: Vec<Box<str>>,
}

const FAMILIES: [&str; 4] = ["x-forwarded-", "x-original-", "x-rewrite-", "x-auth-request-"];
const NAMES: [&str; 15] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-request-id",
    "x-webauth-user",
    "x-webauth-email",
    "x-webauth-name",
    "x-webauth-groups",
    "remote-user",
    "remote-email",
    "remote-name",
    "remote-groups",
    "http2-settings",
];

impl Preset {
    /// The names of its headers.
    pub fn names(self) -> [&'static str; 4] {
        match self {
            Preset::Standard => {
                ["x-forwarded-user", "x-forwarded-email", "x-forwarded-preferred-username", "x-forwarded-groups"]
            }
            Preset::Grafana => ["x-webauth-user", "x-webauth-email", "x-webauth-name", "x-webauth-groups"],
            Preset::Authelia => ["remote-user", "remote-email", "remote-name", "remote-groups"],
            Preset::None => [""; 4],
        }
    }

    /// What they say, in the order of the names; nothing where a claim is absent.
    pub fn values(self, who: &Identity) -> [Option<String>; 4] {
        let text = |text: &Option<Box<str>>| text.as_deref().map(encode);
        let (email, name, username, groups) =
            (text(&who.email), text(&who.name), text(&who.username), encode_list(&who.groups));
        let user = Some(encode(&who.user));
        match self {
            Preset::Standard => [user, email, username, groups],
            Preset::Grafana => {
                let verified = email.clone().filter(|_| !who.email_unverified);
                [username.or(verified).or(user), email, name, groups]
            }
            Preset::Authelia => [user, email, name, groups],
            Preset::None => [const { None }; 4],
        }
    }
}

impl IdentityHeaders {
    pub fn new(preset: Preset, set: Vec<(HeaderName, Template)>) -> Self {
        let id =
            Fingerprint::of().part(format!("{preset:?}")).parts(set.iter().map(|rule| format!("{rule:?}"))).finish();
        IdentityHeaders { preset, set, id }
    }

    /// The names in `headers.set`.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.set.iter().map(|(name, _)| name)
    }

    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// Whether the client's own `Authorization` stays behind. Grafana has credentials of its own, and takes a token for one of
    /// them: one that was judged here is not for it.
    pub fn takes_authorization(&self, was_judged: bool) -> bool {
        (self.preset == Preset::Grafana && was_judged) || self.set.iter().any(|(name, _)| name == header::AUTHORIZATION)
    }

    /// The headers for a person. They are rendered once for an identity, as long as it is used with one set of
    /// headers; with a second set each time.
    pub fn headers(&self, who: &Identity) -> Rendered {
        let (id, rendered) = who.rendered.get_or_init(|| (self.id, self.render(who)));
        if *id == self.id { rendered.clone() } else { self.render(who) }
    }

    fn render(&self, who: &Identity) -> Rendered {
        let preset = self.preset.names().into_iter().zip(self.preset.values(who)).filter_map(|(name, value)| {
            let value = HeaderValue::from_str(&value?).ok()?;
            Some((HeaderName::from_static(name), value))
        });
        // What the operator wrote comes last: it replaces a preset's header of the same name.
        let set = self.set.iter().filter_map(|(name, template)| Some((name.clone(), template.render(who)?)));
        preset.chain(set).collect()
    }
}

impl HeaderFilter {
    /// `set`: every name in any route's `headers.set`; `Authorization` is the business of the route that sets it.
    pub fn new<'a>(set: impl Iterator<Item = &'a HeaderName>) -> Self {
        let set = set.filter(|name| **name != header::AUTHORIZATION).map(|name| fold(name.as_str()));
        let mut folded: Vec<Box<str>> = NAMES.iter().map(|name| Box::from(*name)).chain(set.map(Into::into)).collect();
        folded.sort();
        HeaderFilter { folded }
    }

    /// The fields of a request that are to be removed, each name once.
    pub fn of(&self, headers: &HeaderMap) -> Vec<HeaderName> {
        headers.keys().filter(|name| self.covers(name.as_str())).cloned().collect()
    }

    fn covers(&self, name: &str) -> bool {
        if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return self.covers_folded(name); // header names are lower case already
        }
        self.covers_folded(&fold(name))
    }

    fn covers_folded(&self, name: &str) -> bool {
        FAMILIES.iter().any(|family| name.starts_with(family))
            || self.folded.binary_search_by(|known| (**known).cmp(name)).is_ok()
    }
}

/// Whether apps may take the value of a field for the method of its request.
pub fn overrides_method(name: &HeaderName) -> bool {
    const NAMES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
    name.as_str().starts_with('x') && NAMES.contains(&fold(name.as_str()).as_str())
}

/// Lower case, and every other character than a letter or digit as `-`: what CGI, WSGI and their kin make equal.
fn fold(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::provider::claims::ClaimPath;
    use crate::provider::fake::{NOW, key_set, settings, token};
    use crate::provider::jwt::Unverified;
    use serde_json::{Value, json};

    /// Alice, with these changes to her claims.
    pub(crate) fn an_identity(changes: Value, kept: &[&str]) -> Identity {
        let mut settings = settings("https://id.test");
        settings.kept = kept.iter().map(|path| ClaimPath::new(*path)).collect();
        let (token, keys) = (token(changes), key_set(&["rs"], None));
        let now = crate::kit::clock::Timestamp::from_seconds(NOW);
        let verified = Unverified::read(&token).unwrap().verify_bearer(&keys, &settings, now).unwrap();
        Identity::of_token(&verified, &settings).unwrap()
    }

    fn rendered(preset: Preset, changes: Value) -> Vec<String> {
        let injection = IdentityHeaders::new(preset, Vec::new());
        injection
            .headers(&an_identity(changes, &[]))
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn presets_say_what_is_known_and_no_more() {
        assert_eq!(
            rendered(Preset::Standard, json!({})),
            [
                "x-forwarded-user: alice-1",
                "x-forwarded-email: alice@corp.test",
                "x-forwarded-preferred-username: alice",
                "x-forwarded-groups: dev,ops"
            ]
        );
        let bare = json!({"email": null, "name": "", "preferred_username": null, "groups": []});
        assert_eq!(rendered(Preset::Standard, bare.clone()), ["x-forwarded-user: alice-1"]);
        assert_eq!(rendered(Preset::Authelia, bare.clone()), ["remote-user: alice-1"]);
        assert_eq!(rendered(Preset::Grafana, bare), ["x-webauth-user: alice-1"]);
        assert_eq!(rendered(Preset::None, json!({})), [""; 0]);
    }

    #[test]
    fn grafana_falls_back_to_a_verified_address() {
        let first = |changes| rendered(Preset::Grafana, changes).remove(0);
        assert_eq!(first(json!({})), "x-webauth-user: alice");
        assert_eq!(first(json!({"preferred_username": null})), "x-webauth-user: alice@corp.test");
        assert_eq!(first(json!({"preferred_username": null, "email_verified": false})), "x-webauth-user: alice-1");
    }

    #[test]
    fn an_identity_with_two_sets_of_headers_gets_each() {
        let who = an_identity(json!({}), &[]);
        let (standard, authelia) =
            (IdentityHeaders::new(Preset::Standard, vec![]), IdentityHeaders::new(Preset::Authelia, vec![]));
        for _ in 0..2 {
            assert_eq!(standard.headers(&who)[0].0, "x-forwarded-user");
            assert_eq!(authelia.headers(&who)[0].0, "remote-user");
        }
    }

    #[test]
    fn every_spelling_of_a_protected_name_is_removed() {
        let stripping = HeaderFilter::new([HeaderName::from_static("x-team"), header::AUTHORIZATION].iter());
        for name in [
            "x-forwarded-user",
            "x_forwarded_user",
            "x.forwarded-user",
            "x-forwarded-anything",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "remote_user",
            "remote-groups",
            "x-webauth-user",
            "x-auth-request-email",
            "x-original-url",
            "x-rewrite-url",
            "x-team",
            "x_team",
            "x!team",
            "cf-connecting-ip",
            "true-client-ip",
            "x-client-ip",
            "x-request-id",
        ] {
            assert!(stripping.covers(name), "{name}");
        }
        for name in ["authorization", "accept", "x-forwarded", "x-teams", "user", "remote"] {
            assert!(!stripping.covers(name), "{name}");
        }
    }
}
