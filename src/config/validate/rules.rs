//! Rules of a route that nobody can ever meet.

use crate::config::diagnostics::Problems;
use crate::config::validate::Seen;
use crate::kit::setting::OneOrMany;

pub(super) fn find(seen: &Seen<'_>, problems: &mut Problems) {
    let require = &seen.route.require;
    let is_pattern = |word: &&str| word.is_empty() || word.contains('*');
    for (i, group) in require.groups.iter().enumerate().filter(|(_, group)| is_pattern(&group.as_str())) {
        let told =
            format!("`{group}` can never match: whole words are compared, `*` is no pattern; write the name itself");
        problems.add(&seen.path(&format!("require.groups.{i}")), told);
    }
    // A scope and a claim may hold the character itself.
    let scopes = require.scopes.iter().enumerate().map(|(i, word)| (format!("require.scopes.{i}"), word));
    let claims = require.claims.iter().flat_map(|(claim, values)| {
        let path = |i: usize| match values {
            OneOrMany::One(_) => format!("require.claims.{}", claim.as_str()),
            OneOrMany::Many(_) => format!("require.claims.{}.{i}", claim.as_str()),
        };
        values.as_slice().iter().enumerate().map(move |(i, word)| (path(i), word))
    });
    for (path, word) in scopes.chain(claims).filter(|(_, word)| word.contains('*')) {
        problems.warn(&seen.path(&path), &format!("`{word}` is compared as it stands: `*` is no pattern"));
    }
    let is_scope = |scope: &str| !scope.is_empty() && !scope.contains(char::is_whitespace);
    for (i, scope) in require.scopes.iter().enumerate().filter(|(_, scope)| !is_scope(scope)) {
        let told = format!("`{scope}` can never match: a scope has no blanks (RFC 6749, 3.3); write each as an item");
        problems.add(&seen.path(&format!("require.scopes.{i}")), told);
    }
    let is_address = |address: &str| !is_pattern(&address) && !address.starts_with('@');
    for (i, address) in require.emails.iter().enumerate().filter(|(_, address)| !is_address(address.as_str())) {
        let told =
            format!("`{}` can never match: write a whole address, or its domain in `email_domains`", address.as_str());
        problems.add(&seen.path(&format!("require.emails.{i}")), told);
    }
}
