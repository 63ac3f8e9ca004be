//! Rules of a route that nobody can ever meet.

use crate::config::diagnostics::Problems;
use crate::config::validate::Seen;
use crate::kit::setting::OneOrMany;

pub(super) fn find(seen: &Seen<'_>, problems: &mut Problems) {
    let require = &seen.route.require;
    let mut words: Vec<(String, &str)> = Vec::new();
    for (key, list) in [("groups", &require.groups), ("scopes", &require.scopes)] {
        words.extend(list.iter().enumerate().map(|(i, word)| (format!("require.{key}.{i}"), word.as_str())));
    }
    for (claim, values) in &require.claims {
        let path = |i: usize| match values {
            OneOrMany::One(_) => format!("require.claims.{}", claim.as_str()),
            OneOrMany::Many(_) => format!("require.claims.{}.{i}", claim.as_str()),
        };
        words.extend(values.as_slice().iter().enumerate().map(|(i, word)| (path(i), word.as_str())));
    }
    for (path, word) in words {
        if word.is_empty() || word.contains('*') {
            let told =
                format!("`{word}` can never match: whole words are compared, `*` is no pattern; write the word itself");
            problems.add(&seen.path(&path), told);
        }
    }
    for (i, scope) in require.scopes.iter().enumerate().filter(|(_, scope)| scope.contains(char::is_whitespace)) {
        let told = format!("`{scope}` can never match: a scope has no blanks (RFC 6749, 3.3); write each as an item");
        problems.add(&seen.path(&format!("require.scopes.{i}")), told);
    }
    for (i, address) in require.emails.iter().enumerate() {
        let address = address.as_str();
        let parts = address.split_once('@').filter(|(name, domain)| !name.is_empty() && !domain.is_empty());
        if parts.is_none_or(|(_, domain)| domain.contains('@')) || address.contains('*') {
            let told = format!("`{address}` can never match: write a whole address, or its domain in `email_domains`");
            problems.add(&seen.path(&format!("require.emails.{i}")), told);
        }
    }
}
