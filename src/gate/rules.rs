//! `require`: which authenticated identities may pass. All given rules must hold.

use crate::kit::setting::OneOrMany;
use crate::provider::claims::ClaimPath;
use crate::provider::identity::Identity;
use crate::telemetry::reason::Reason;
use crate::telemetry::record::{LONGEST_WORD, cut};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The rules of one route: all that are given must hold; an empty list is no rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Any of.
    pub groups: Vec<String>,
    /// Any of, without regard to case; the address must not be marked unverified.
    pub emails: Vec<LowerCase>,
    /// The same for what follows the `@`.
    pub email_domains: Vec<Domain>,
    /// All of; bearer tokens and API keys.
    pub scopes: Vec<String>,
    /// For each claim: any of its values; numbers and booleans compare as text.
    #[schemars(with = "BTreeMap<String, OneOrMany<serde_json::Value>>")]
    pub claims: BTreeMap<ClaimPath, OneOrMany<String>>,
}

/// One rule, judged for somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its key below `require`.
    pub rule: String,
    pub holds: bool,
    pub wanted: String,
    /// Empty: the claim is absent.
    pub has: Vec<String>,
}

impl Judged {
    /// What was wanted, and what was there.
    pub fn words(&self) -> String {
        let has = if self.has.is_empty() { "none".into() } else { cut(&self.has.join(", "), LONGEST_WORD) };
        format!("wanted {}, has {has}", cut(&self.wanted, LONGEST_WORD))
    }
}

/// A text that is compared without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(from = "String")]
pub struct LowerCase(String);

/// The domain of an address, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Domain(String);

impl LowerCase {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for LowerCase {
    fn from(text: String) -> Self {
        LowerCase(text.to_ascii_lowercase())
    }
}

impl TryFrom<String> for Domain {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.starts_with('.') || text.contains(['@', '*', ' ']) {
            return Err(format!("`{text}` can never match; write what follows the `@`, such as example.com"));
        }
        Ok(Domain(text.to_ascii_lowercase()))
    }
}

impl Rules {
    /// The reason for a refusal. A missing scope comes first: a client can fix that by requesting it.
    pub fn check(&self, identity: &Identity) -> Result<(), Reason> {
        let has = |scope: &String| identity.scopes.iter().any(|s| **s == **scope);
        if !self.scopes.iter().all(has) {
            return Err(Reason::InsufficientScope);
        }
        let any = |wanted: &[String], given: &[Box<str>]| {
            wanted.is_empty() || given.iter().any(|g| wanted.iter().any(|w| **w == **g))
        };
        let good = any(&self.groups, &identity.groups)
            && self.claims.iter().all(|(path, wanted)| any(wanted.as_slice(), identity.claim(path)))
            && self.check_email(identity);
        if good { Ok(()) } else { Err(Reason::Forbidden) }
    }

    /// Each rule that is given, and whether it holds, in the order in which they are told.
    pub fn each(&self, who: &Identity) -> Vec<Judged> {
        let texts = |list: &[Box<str>]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let any = |wanted: &[String], has: &[String]| has.iter().any(|has| wanted.contains(has));
        let mut all = Vec::new();
        if !self.scopes.is_empty() {
            let has = texts(&who.scopes);
            let holds = self.scopes.iter().all(|scope| has.contains(scope));
            all.push(Judged {
                rule: "scopes".into(),
                holds,
                wanted: format!("all of {}", self.scopes.join(", ")),
                has,
            });
        }
        if !self.groups.is_empty() {
            let has = texts(&who.groups);
            let holds = any(&self.groups, &has);
            let is_told = holds || !who.groups_left_out;
            let overage = || vec!["overage: the provider leaves the groups out, there are too many of them".into()];
            all.push(Judged {
                rule: "groups".into(),
                holds,
                wanted: format!("any of {}", self.groups.join(", ")),
                has: if is_told { has } else { overage() },
            });
        }
        for (path, wanted) in self.claims.iter().filter(|(_, wanted)| !wanted.as_slice().is_empty()) {
            let (rule, has) = (format!("claims.{}", path.as_str()), texts(who.claim(path)));
            let holds = any(wanted.as_slice(), &has);
            all.push(Judged { rule, holds, wanted: format!("any of {}", wanted.as_slice().join(", ")), has });
        }
        let address = who.email.as_deref().map(|email| {
            let unverified = if who.email_unverified { " (marked unverified)" } else { "" };
            format!("{email}{unverified}")
        });
        let emails: Vec<&str> = self.emails.iter().map(|email| email.0.as_str()).collect();
        let domains: Vec<&str> = self.email_domains.iter().map(|domain| domain.0.as_str()).collect();
        for (rule, wanted) in
            [("emails", emails), ("email_domains", domains)].into_iter().filter(|(_, w)| !w.is_empty())
        {
            let only = match rule {
                "emails" => Rules { emails: self.emails.clone(), ..Rules::default() },
                _ => Rules { email_domains: self.email_domains.clone(), ..Rules::default() },
            };
            let has = address.iter().cloned().collect();
            let wanted = format!("any of {}", wanted.join(", "));
            all.push(Judged { rule: rule.into(), holds: only.check_email(who), wanted, has });
        }
        all
    }

    /// The first rule that does not hold.
    pub fn broken(&self, who: &Identity) -> Option<Judged> {
        self.each(who).into_iter().find(|judged| !judged.holds)
    }

    pub fn is_empty(&self) -> bool {
        self.claims.values().all(|any| any.as_slice().is_empty())
            && *self == Rules { claims: self.claims.clone(), ..Rules::default() }
    }

    fn check_email(&self, identity: &Identity) -> bool {
        if self.emails.is_empty() && self.email_domains.is_empty() {
            return true;
        }
        let Some(email) = identity.email.as_deref().filter(|_| !identity.email_unverified).map(str::to_ascii_lowercase)
        else {
            return false;
        };
        // With two `@` it is ambiguous which part is the domain.
        let domain = email
            .split_once('@')
            .filter(|(name, rest)| !name.is_empty() && !rest.contains('@'))
            .map(|(_, domain)| domain);
        (self.emails.is_empty() || self.emails.iter().any(|ours| ours.0 == email))
            && (self.email_domains.is_empty() || self.email_domains.iter().any(|ours| Some(ours.0.as_str()) == domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::identity_headers::tests::an_identity;
    use serde_json::{Value, json};

    fn check(rules: &Rules, claims: Value, expected: Result<(), Reason>) {
        let kept: Vec<&str> = rules.claims.keys().map(ClaimPath::as_str).collect();
        let who = an_identity(claims.clone(), &kept);
        assert_eq!(rules.check(&who), expected, "{claims}");
        assert_eq!(rules.each(&who).iter().all(|judged| judged.holds), expected.is_ok(), "what is told: {claims}");
    }

    fn rules(written: Value) -> Rules {
        serde_json::from_value(written).unwrap()
    }

    const NO: Result<(), Reason> = Err(Reason::Forbidden);

    #[test]
    fn emails_are_matched_whole_and_verified() {
        let domain = rules(json!({"email_domains": ["Corp.test"]}));
        check(&domain, json!({"email": "a@Corp.TEST"}), Ok(()));
        check(&domain, json!({"email": "a@corp.test", "email_verified": true}), Ok(()));
        for bad in [
            json!({"email": "a@\u{212a}orp.test"}),
            json!({"email": "a@cor\u{ff50}.test"}),
            json!({"email": "a@evilcorp.test"}),
            json!({"email": "a@sub.corp.test"}),
            json!({"email": "a@x@corp.test"}),
            json!({"email": "@corp.test"}),
            json!({"email": ["a@corp.test"]}),
            json!({"email": null}),
            json!({"email": "a@corp.test", "email_verified": false}),
            json!({"email": "a@corp.test", "email_verified": "false"}),
            json!({"email": "a@corp.test", "email_verified": 0}),
        ] {
            check(&domain, bad, NO);
        }
        let both = rules(json!({"emails": ["a@corp.test"], "email_domains": ["other.test"]}));
        check(&both, json!({"email": "a@corp.test"}), NO);
    }

    #[test]
    fn groups_claims_and_scopes() {
        let groups = rules(json!({"groups": ["ops", "admins"]}));
        check(&groups, json!({"groups": ["dev", "ops"]}), Ok(()));
        check(&groups, json!({"groups": "ops"}), Ok(()));
        check(&groups, json!({"groups": ["opsx"]}), NO);
        check(&groups, json!({"groups": null}), NO);
        let claims = rules(json!({"claims": {"level": "7", "vip": ["true"]}}));
        check(&claims, json!({"level": 7, "vip": true}), Ok(()));
        check(&claims, json!({"level": "7", "vip": ["true"]}), Ok(()));
        check(&claims, json!({"level": 7}), NO);
        let scopes = rules(json!({"scopes": ["a", "b"], "groups": ["ops"]}));
        check(&scopes, json!({"scope": "b x a"}), Ok(()));
        check(&scopes, json!({"scope": "a"}), Err(Reason::InsufficientScope));
        check(&scopes, json!({"scope": null, "scp": ["a", "b"], "groups": []}), NO);
    }
}
