//! Escapes client-supplied text in log lines that people read in a terminal: invisible characters, and those that a
//! terminal interprets, are written as code points. Printable ASCII and Unicode letters, marks, numbers and punctuation
//! are kept.

use std::fmt::Write;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// How an escaped character is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As in a JSON string: `\u202e`, beyond the first plane as a surrogate pair.
    Json,
    /// `\u{202e}`.
    Text,
}

/// Escapes a whole line, except the newline at its end.
pub fn escape(line: &str, form: Form, out: &mut String) {
    let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
    for c in body.chars() {
        match (is_shown(c), form) {
            (true, _) => out.push(c),
            (false, Form::Json) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}"); // writing into a string cannot fail
                }
            }
            (false, Form::Text) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    out.push_str(end);
}

/// Whether nothing needs escaping, so that no copy is needed.
pub fn is_plain(line: &[u8]) -> bool {
    line.strip_suffix(b"\n").unwrap_or(line).iter().all(|b| matches!(b, b' '..=b'~'))
}

fn is_shown(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    !is_ignorable(c)
        && matches!(
            c.general_category_group(),
            GeneralCategoryGroup::Letter
                | GeneralCategoryGroup::Mark
                | GeneralCategoryGroup::Number
                | GeneralCategoryGroup::Punctuation
        )
}

/// Letters and marks that are rendered invisibly (Unicode, Default_Ignorable_Code_Point).
fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, json: &str, plain: &str) {
        for (form, expected) in [(Form::Json, json), (Form::Text, plain)] {
            let mut out = String::new();
            escape(text, form, &mut out);
            assert_eq!(out, expected);
        }
        assert!(!is_plain(text.as_bytes()) || text == json);
    }

    #[test]
    fn what_a_terminal_obeys_or_nobody_sees_is_written_as_its_number() {
        check("GET /a?b \"c\"\n", "GET /a?b \"c\"\n", "GET /a?b \"c\"\n");
        check("Jürgen 王 नमस्ते ١٢ «x»", "Jürgen 王 नमस्ते ١٢ «x»", "Jürgen 王 नमस्ते ١٢ «x»");
        check("a\u{1b}[2Jb", "a\\u001b[2Jb", "a\\u{1b}[2Jb");
        check("\u{85}\u{9b}", "\\u0085\\u009b", "\\u{85}\\u{9b}");
        check("\u{202e}\u{200b}\u{2028}", "\\u202e\\u200b\\u2028", "\\u{202e}\\u{200b}\\u{2028}");
        check("\u{e0041}\u{1f600}", "\\udb40\\udc41\\ud83d\\ude00", "\\u{e0041}\\u{1f600}");
        check("\u{e000}\u{fdd0}\u{a0}", "\\ue000\\ufdd0\\u00a0", "\\u{e000}\\u{fdd0}\\u{a0}");
        check("\u{3164}\u{fe0f}\u{34f}", "\\u3164\\ufe0f\\u034f", "\\u{3164}\\u{fe0f}\\u{34f}");
        check("a\nb\n", "a\\u000ab\n", "a\\u{a}b\n");
    }
}
