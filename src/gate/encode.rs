//! Encodes text from users and providers as header values.

use std::fmt::Write;

/// Percent-encodes the UTF-8 bytes that a header value may not contain, `%` itself, and spaces at both ends.
pub fn encode(text: &str) -> String {
    encode_but(text, |_| false)
}

/// Joins a list with commas; commas inside an item are encoded. `None` for an empty list.
pub fn encode_list<'a>(texts: impl IntoIterator<Item = &'a Box<str>>) -> Option<String> {
    let encoded: Vec<String> = texts.into_iter().map(|text| encode_but(text, |b| b == b',')).collect();
    (!encoded.is_empty()).then(|| encoded.join(","))
}

fn encode_but(text: &str, also: impl Fn(u8) -> bool) -> String {
    let last = text.len().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (i, b) in text.bytes().enumerate() {
        let inner_blank = b == b' ' && i != 0 && i != last;
        if (b.is_ascii_graphic() || inner_blank) && b != b'%' && !also(b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}"); // writing into a string cannot fail
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_never_split() {
        for (text, expected) in [
            ("plain text", "plain text"),
            ("a\r\nX-Evil: 1", "a%0D%0AX-Evil: 1"),
            ("\0\x7f", "%00%7F"),
            ("ä", "%C3%A4"),
            (" a ", "%20a%20"),
            ("100%", "100%25"),
            ("a\tb", "a%09b"),
            (" ", "%20"),
            ("陳", "%E9%99%B3"),
        ] {
            assert_eq!(encode(text), expected);
        }
        assert_eq!(encode_list(&["a,b".into(), "c".into()]).as_deref(), Some("a%2Cb,c"));
    }
}
