//! Finds `${env:NAME}`, `${env:NAME:-default}` and `${file:path}` in a text.

/// What a text refers to: `env:NAME`, `file:path`.
pub(crate) fn sources(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let _text = replace(text, |reference| {
        let is_env = reference.starts_with("env:");
        found.push(reference.split_once(":-").filter(|_| is_env).map_or(reference, |(name, _)| name).to_owned());
        String::new()
    });
    found
}

/// Puts something in place of each `${env:...}` and `${file:...}`; `$$` becomes a dollar.
pub(crate) fn replace(text: &str, mut with: impl FnMut(&str) -> String) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (dollar, after) = from.split_at(1);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let known = reference.filter(|(inner, _)| inner.starts_with("env:") || inner.starts_with("file:"));
        let Some((inner, after)) = known else {
            out.push_str(dollar); // a lone dollar is itself
            rest = after;
            continue;
        };
        out.push_str(&with(inner));
        rest = after;
    }
    out.push_str(rest);
    out
}
