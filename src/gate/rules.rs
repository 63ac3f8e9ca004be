//! `require`: who of those whom the provider vouches for may pass. All that is given must hold.

use crate::provider::claims::ClaimPath;
use crate::provider::identity::Identity;
use crate::telemetry::reason::Reason;

/// The rules of one route; an empty list is no rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Any of.
    pub groups: Vec<String>,
    /// Any of; lower case.
    pub emails: Vec<String>,
    /// Any of; lower case.
    pub email_domains: Vec<String>,
    /// All of.
    pub scopes: Vec<String>,
    /// Each: any of its texts.
    pub claims: Vec<(ClaimPath, Vec<String>)>,
}

impl Rules {
    /// The reason why not. A missing scope is told first: a client can mend that by asking for it.
    pub fn check(&self, identity: &Identity) -> Result<(), Reason> {
        let has = |scope: &String| identity.scopes.iter().any(|s| **s == **scope);
        if !self.scopes.iter().all(has) {
            return Err(Reason::InsufficientScope);
        }
        let any = |wanted: &[String], given: &[Box<str>]| {
            wanted.is_empty() || given.iter().any(|g| wanted.iter().any(|w| **w == **g))
        };
        let good = any(&self.groups, &identity.groups)
            && self.claims.iter().all(|(path, wanted)| any(wanted, identity.claim(path)))
            && self.check_email(identity);
        if good { Ok(()) } else { Err(Reason::Forbidden) }
    }

    pub fn is_empty(&self) -> bool {
        *self == Rules::default()
    }

    fn check_email(&self, identity: &Identity) -> bool {
        if self.emails.is_empty() && self.email_domains.is_empty() {
            return true;
        }
        let Some(email) = identity.email.as_deref().filter(|_| !identity.email_unverified).map(str::to_ascii_lowercase)
        else {
            return false;
        };
        // With two `@` no reader knows which part is the domain.
        let domain = email
            .split_once('@')
            .filter(|(name, rest)| !name.is_empty() && !rest.contains('@'))
            .map(|(_, domain)| domain);
        (self.emails.is_empty() || self.emails.contains(&email))
            && (self.email_domains.is_empty() || self.email_domains.iter().any(|ours| Some(ours.as_str()) == domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::identity_headers::tests::an_identity;
    use serde_json::{Value, json};

    fn check(rules: &Rules, claims: Value, expected: Result<(), Reason>) {
        let kept: Vec<&str> = rules.claims.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(rules.check(&an_identity(claims.clone(), &kept)), expected, "{claims}");
    }

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    const NO: Result<(), Reason> = Err(Reason::Forbidden);

    #[test]
    fn emails_are_matched_whole_and_verified() {
        let rules = Rules { email_domains: list(&["corp.test"]), ..Rules::default() };
        check(&rules, json!({"email": "a@Corp.TEST"}), Ok(()));
        check(&rules, json!({"email": "a@corp.test", "email_verified": true}), Ok(()));
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
            check(&rules, bad, NO);
        }
        let both = Rules { emails: list(&["a@corp.test"]), email_domains: list(&["other.test"]), ..Rules::default() };
        check(&both, json!({"email": "a@corp.test"}), NO);
    }

    #[test]
    fn groups_claims_and_scopes() {
        let rules = Rules { groups: list(&["ops", "admins"]), ..Rules::default() };
        check(&rules, json!({"groups": ["dev", "ops"]}), Ok(()));
        check(&rules, json!({"groups": "ops"}), Ok(()));
        check(&rules, json!({"groups": ["opsx"]}), NO);
        check(&rules, json!({"groups": null}), NO);
        let rules = Rules {
            claims: vec![(ClaimPath::new("level"), list(&["7"])), (ClaimPath::new("vip"), list(&["true"]))],
            ..Rules::default()
        };
        check(&rules, json!({"level": 7, "vip": true}), Ok(()));
        check(&rules, json!({"level": "7", "vip": ["true"]}), Ok(()));
        check(&rules, json!({"level": 7}), NO);
        let rules = Rules { scopes: list(&["a", "b"]), groups: list(&["ops"]), ..Rules::default() };
        check(&rules, json!({"scope": "b x a"}), Ok(()));
        check(&rules, json!({"scope": "a"}), Err(Reason::InsufficientScope));
        check(&rules, json!({"scope": null, "scp": ["a", "b"], "groups": []}), NO);
    }
}
