//! The identity headers for the app. Client headers that could be taken for the gateway's are removed, in every
//! spelling that an app might fold to the same name, and the identity's headers are added.

use crate::gate::encode::{encode, encode_list};
use crate::gate::group_filter::{GroupPattern, matches};
use crate::gate::outbound_headers::AssertionSettings;
use crate::gate::passed_tokens::{PassToken, Tokens};
use crate::gate::set_name::SetName;
use crate::gate::template::Template;
use crate::kit::digest::Fingerprint;
use crate::provider::identity::{Identity, Rendered};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which set of identity headers an app understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    #[default]
    Standard,
    Grafana,
    Authelia,
    None,
}

/// What the app is given of who is signed in.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Headers")]
pub struct Settings {
    /// The groups that the app is told of, `*` is any text; empty: all.
    pub groups: Vec<GroupPattern>,
    /// The names of the headers for user, e-mail, name and groups.
    pub preset: Preset,
    /// Name: "text with {user} {email} {name} {username} {groups} {access_token} {id_token} {claims.x.y}"; `{{` is a brace.
    pub set: BTreeMap<SetName, Template>,
    /// Pass the access token: `true`: as `Authorization: Bearer`; a name: alone in that header.
    pub access_token: PassToken,
    /// The same for the session's ID token.
    pub id_token: PassToken,
    /// A signed assertion of who is calling.
    pub assertion: Option<AssertionSettings>,
}

/// The identity headers of one route.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    preset: Preset,
    groups: Vec<GroupPattern>,
    set: Vec<(HeaderName, Template)>,
    /// Those that hold a token: they are rendered for each request.
    set_with_tokens: Vec<(HeaderName, Template)>,
    access_token: PassToken,
    id_token: PassToken,
    id: Fingerprint,
}

/// The names that no client may send, on any route.
#[derive(Clone, Debug)]
pub struct HeaderFilter {
    /// Sorted.
    folded: Vec<Box<str>>,
    /// For each first byte of a folded name, a bit for each length that one has, the last for all longer ones: few names
    /// need a closer look.
    lengths: [u64; 128],
}

const FAMILIES: [&str; 5] = ["x-forwarded-", "x-original-", "x-rewrite-", "x-auth-request-", "x-webauth-"];
const NAMES: [&str; 27] = [
    "forwarded",
    "x-forwarded",
    "forwarded-for",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-cluster-client-ip",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "x-request-id",
    "remote-user",
    "remote-email",
    "remote-name",
    "remote-group",
    "remote-groups",
    "remote-role",
    "remote-roles",
    "remote-addr",
    "http2-settings",
    // Variables of CGI and WSGI: gunicorn takes the first two for its own, libraries the last for a proxy's address.
    "script-name",
    "path-info",
    "x-script-name",
    "proxy",
    "x-http-forwarded-for",
];

impl Settings {
    pub fn identity_headers(&self) -> IdentityHeaders {
        let name = |name: &SetName| name.as_str().parse::<HeaderName>().ok();
        let set = self.set.iter().filter_map(|(key, template)| Some((name(key)?, template.clone())));
        let (set_with_tokens, set): (Vec<_>, Vec<_>) =
            set.partition(|(_, template)| template.has_access_token() || template.has_id_token());
        let id = Fingerprint::of()
            .part(format!("{:?}", self.preset))
            .parts(self.groups.iter().map(|pattern| pattern.as_str()))
            .parts(set.iter().map(|rule| format!("{rule:?}")))
            .finish();
        IdentityHeaders {
            preset: self.preset,
            groups: self.groups.clone(),
            set,
            set_with_tokens,
            access_token: self.access_token.clone(),
            id_token: self.id_token.clone(),
            id,
        }
    }
}

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

    /// Their values, in the order of the names; `None` if a claim is absent.
    fn values(self, who: &Identity, groups: Option<String>) -> [Option<String>; 4] {
        let text = |text: &Option<Box<str>>| text.as_deref().map(encode);
        let (email, name, username) = (text(&who.email), text(&who.name), text(&who.username));
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
    /// The names in `headers.set`, and those of tokens.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.set.iter().map(|(name, _)| name).chain(self.names_with_tokens())
    }

    /// The headers that hold a token.
    pub fn names_with_tokens(&self) -> impl Iterator<Item = &HeaderName> {
        let set = self.set_with_tokens.iter().map(|(name, _)| name);
        set.chain(self.access_token.name()).chain(self.id_token.name())
    }

    /// Whether the access token and the ID token are passed.
    pub fn wants_tokens(&self) -> (bool, bool) {
        let in_set = |has: fn(&Template) -> bool| self.set_with_tokens.iter().any(|(_, template)| has(template));
        (
            self.access_token.is_on() || in_set(Template::has_access_token),
            self.id_token.is_on() || in_set(Template::has_id_token),
        )
    }

    /// Tells apart whatever gives an identity other headers.
    pub fn id(&self) -> Fingerprint {
        self.id
    }

    /// Whether the app gets a token of the caller's.
    pub fn gives_tokens(&self) -> bool {
        self.wants_tokens() != (false, false)
    }

    /// The groups that the app is told of.
    pub fn told_groups<'a>(&'a self, who: &'a Identity) -> impl Iterator<Item = &'a Box<str>> {
        let is_told = |group: &str| self.groups.is_empty() || self.groups.iter().any(|own| matches(own, group));
        who.groups.iter().filter(move |group| is_told(group))
    }

    /// The same, as one header value.
    pub fn groups(&self, who: &Identity) -> Option<String> {
        encode_list(self.told_groups(who))
    }

    /// The values of the preset's headers, in the order of its names; `None` if a claim is absent.
    pub fn preset_values(&self, who: &Identity) -> [Option<String>; 4] {
        self.preset.values(who, self.groups(who))
    }

    /// The headers that hold a token.
    pub fn with_tokens(&self, who: &Identity, tokens: &Tokens) -> Vec<(HeaderName, HeaderValue)> {
        let passed = [(&self.access_token, &tokens.access), (&self.id_token, &tokens.id)];
        let passed =
            passed.into_iter().filter_map(|(pass, token)| Some((pass.name()?.clone(), pass.value(token.as_ref()?)?)));
        if self.set_with_tokens.is_empty() {
            return passed.collect();
        }
        let groups = self.groups(who);
        let set = self.set_with_tokens.iter().filter_map(|(name, template)| {
            let mut value = template.render(who, groups.as_deref(), tokens)?;
            value.set_sensitive(true);
            Some((name.clone(), value))
        });
        passed.chain(set).collect()
    }

    pub fn passes_access_token(&self) -> bool {
        self.access_token.is_on()
    }

    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// Whether to remove the client's `Authorization`. Grafana takes a bearer token for one of its own credentials, so
    /// a token that was judged here must not reach it.
    pub fn takes_authorization(&self, was_judged: bool) -> bool {
        (self.preset == Preset::Grafana && was_judged) || self.names().any(|name| name == header::AUTHORIZATION)
    }

    /// The headers for an identity: rendered once for the first set of headers it is used with, else each time.
    pub fn headers(&self, who: &Identity) -> Rendered {
        let (id, rendered) = who.rendered.get_or_init(|| (self.id, self.render(who)));
        if *id == self.id { rendered.clone() } else { self.render(who) }
    }

    fn render(&self, who: &Identity) -> Rendered {
        let groups = self.groups(who);
        let values = self.preset.values(who, groups.clone());
        let preset = self.preset.names().into_iter().zip(values).filter_map(|(name, value)| {
            let value = HeaderValue::from_str(&value?).ok()?;
            Some((HeaderName::from_static(name), value))
        });
        // `headers.set` comes last: it replaces a preset's header of the same name.
        let set = self.set.iter().filter_map(|(name, template)| {
            Some((name.clone(), template.render(who, groups.as_deref(), &Tokens::default())?))
        });
        preset.chain(set).collect()
    }
}

impl HeaderFilter {
    /// `set`: every name in any route's `headers.set`; `Authorization` is left to the route that sets it.
    pub fn new<'a>(set: impl Iterator<Item = &'a HeaderName>) -> Self {
        let set = set.filter(|name| **name != header::AUTHORIZATION).map(|name| fold(name.as_str()));
        let mut folded: Vec<Box<str>> = NAMES.iter().map(|name| Box::from(*name)).chain(set.map(Into::into)).collect();
        folded.sort();
        let mut lengths = [0; 128];
        for name in &folded {
            mark(&mut lengths, name, 1 << name.len().min(63));
        }
        FAMILIES.iter().for_each(|family| mark(&mut lengths, family, u64::MAX));
        HeaderFilter { folded, lengths }
    }

    /// The fields of a request that are to be removed, each name once.
    pub fn of(&self, headers: &HeaderMap) -> Vec<HeaderName> {
        headers.keys().filter(|name| self.covers(name.as_str())).cloned().collect()
    }

    fn covers(&self, name: &str) -> bool {
        let first = name.bytes().next().map_or(b'-', |b| if b.is_ascii_alphanumeric() { b } else { b'-' });
        let lengths = self.lengths.get(usize::from(first)).copied().unwrap_or_default();
        if lengths >> name.len().min(63) & 1 == 0 {
            return false;
        }
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

fn mark(lengths: &mut [u64; 128], name: &str, bits: u64) {
    if let Some(known) = name.bytes().next().and_then(|first| lengths.get_mut(usize::from(first))) {
        *known |= bits;
    }
}

/// Whether apps may take a field's value for the request's method.
pub fn overrides_method(name: &HeaderName) -> bool {
    const NAMES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
    name.as_str().starts_with('x') && NAMES.contains(&fold(name.as_str()).as_str())
}

/// Lower case, all but letters and digits replaced by `-`: CGI, WSGI and the like treat such names as equal.
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
        let verified = Unverified::read(&token).unwrap().verify_bearer(&keys, &settings, &[], now).unwrap();
        Identity::of_token(&verified, &settings).unwrap()
    }

    pub(crate) fn of_preset(preset: Preset) -> IdentityHeaders {
        Settings { preset, ..Settings::default() }.identity_headers()
    }

    fn rendered(preset: Preset, changes: Value) -> Vec<String> {
        let injection = of_preset(preset);
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
        let (standard, authelia) = (of_preset(Preset::Standard), of_preset(Preset::Authelia));
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
        for name in ["authorization", "accept", "x-teams", "user", "remote", "x-webauth", "clients-ip"] {
            assert!(!stripping.covers(name), "{name}");
        }
    }

    /// The quick look at first byte and length decides nothing: every name is found in every spelling.
    #[test]
    fn the_quick_look_hides_no_name() {
        let long = ["-team", "1-team", "r", "zeta"].map(str::to_owned).into_iter();
        let long = long.chain((60..70).map(|length| format!("t{}", "e".repeat(length))));
        let set: Vec<HeaderName> = long.map(|name| name.parse().unwrap()).collect();
        let filter = HeaderFilter::new(set.iter());
        let known = NAMES.iter().map(|name| (*name).to_owned()).chain(set.iter().map(|name| name.as_str().to_owned()));
        let known: Vec<String> = known.chain(FAMILIES.iter().map(|family| format!("{family}a"))).collect();
        for name in &known {
            for mark in ['-', '_', '.', '!', '~', '|', '$', '`', '^'] {
                let spelt = name.replace('-', &mark.to_string());
                assert!(filter.covers(&spelt), "{spelt}");
                for other in [
                    format!("{spelt}x"),
                    format!("x{spelt}"),
                    spelt[1..].to_owned(),
                    spelt[..spelt.len() - 1].to_owned(),
                ] {
                    assert_eq!(filter.covers(&other), filter.covers_folded(&fold(&other)), "{other}");
                }
            }
        }
    }
}
