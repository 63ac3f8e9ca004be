//! Which groups the app is told of.

use crate::kit::setting::{Rule, Text, rule};

/// A name of a group; `*` is any text.
pub type GroupPattern = Text<GroupPatternRule>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPatternRule;

impl Rule for GroupPatternRule {
    fn check(text: &str) -> Result<(), String> {
        rule(!text.is_empty(), || "is empty; write the name of a group, in which `*` is any text".into())
    }
}

/// Takes each part of the pattern where it comes first, the last one at the end: no step is taken back.
pub(super) fn matches(pattern: &GroupPattern, group: &str) -> bool {
    let Some((first, rest)) = pattern.as_str().split_once('*') else { return pattern.as_str() == group };
    let Some(mut left) = group.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        let check = |pattern: &str, good: &[&str], bad: &[&str]| {
            let pattern = GroupPattern::try_from(pattern.to_string()).unwrap();
            for (groups, expected) in [(good, true), (bad, false)] {
                for group in groups {
                    assert_eq!(matches(&pattern, group), expected, "{pattern:?} {group}");
                }
            }
        };
        check("dev", &["dev"], &["", "devs", "Dev", "adev"]);
        check("app-*", &["app-", "app-a", "app-*"], &["app", "an-app-a"]);
        check("*-admin", &["x-admin", "-admin"], &["admin", "x-admins"]);
        check("a*b*c", &["abc", "axbxc", "abbcc", "abcbc"], &["ac", "acb", "ab", "bc", "abcd"]);
        check("ab*ba", &["abba", "abxba"], &["aba", "ab", "ba"]);
        check("*", &["", "anything"], &[]);
        check("**", &["", "anything"], &[]);
        check("*a*", &["a", "xax"], &["", "x"]);
        assert!(GroupPattern::try_from(String::new()).is_err());
    }
}
