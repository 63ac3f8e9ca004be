//! Values of oauth2-proxy in the forms that are read here.

use crate::kit::setting::Span;
use std::time::Duration;

/// `:4180`, `http://127.0.0.1:4180` and `localhost:4180` as an address.
pub(super) fn address(text: &str) -> String {
    let bare = text.rsplit("://").next().unwrap_or(text);
    match bare.rsplit_once(':') {
        Some(("", port)) => format!("[::]:{port}"),
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        _ => bare.to_owned(),
    }
}

/// A text in which a `$` begins no reference.
pub(super) fn literal(text: String) -> String {
    text.replace('$', "$$")
}

pub(super) fn path_of(path: &str) -> String {
    if path.is_empty() { "/".into() } else { path.to_owned() }
}

/// Letters, digits, `.`, `-` and `_`.
pub(super) fn name(id: &str, n: usize) -> String {
    let kept: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    if kept.trim_matches('-').is_empty() { format!("route-{}", n + 1) } else { kept }
}

/// Go's `168h0m0s` as the largest unit that holds it.
pub(super) fn duration(text: &str) -> Option<String> {
    let (mut millis, mut number) = (0_u64, String::new());
    let mut rest = text.trim();
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_digit() {
            number.push(c);
            rest = rest.get(1..)?;
            continue;
        }
        let (unit, length) = match rest {
            _ if rest.starts_with("ms") => (1, 2),
            _ if rest.starts_with('s') => (1000, 1),
            _ if rest.starts_with('m') => (60_000, 1),
            _ if rest.starts_with('h') => (3_600_000, 1),
            _ => return None,
        };
        millis = millis.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
        rest = rest.get(length..)?;
    }
    // `try_from` refuses what is longer than the longest.
    let text: String = Span::from(Duration::from_millis(millis)).into();
    Some(text).filter(|text| number.is_empty() && millis > 0 && Span::try_from(text.clone()).is_ok())
}
