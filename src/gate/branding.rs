//! What operators add to the gateway's own pages: a name, a logo, whom to ask, more style.

use crate::kit::setting::{FilePath, Rule, Text, rule};
use data_encoding::BASE64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use url::Url;

const OWN_CSS: &str = include_str!("../../templates/page.css");
/// Of a logo or a style sheet: both stand in every page.
const MOST_BYTES: u64 = 64 * 1024;
const LONGEST_NAME: usize = 80;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Pages")]
pub struct Settings {
    /// The service's name: in the title and at the top of each page.
    pub name: Option<Text<NameRule>>,
    /// Whom users may ask: a mail address or a URL.
    pub contact: Option<Text<ContactRule>>,
    /// An SVG without scripts or a PNG, up to 64KiB.
    pub logo_file: Option<FilePath>,
    /// CSS that follows the gateway's own, up to 64KiB. It can load nothing.
    pub css_file: Option<FilePath>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRule;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactRule;

/// Ready for the pages.
pub struct Branding {
    pub(super) name: Option<String>,
    /// A text and its URL.
    pub(super) contact: Option<(String, String)>,
    /// A `data:` URL.
    pub(super) logo: Option<String>,
    pub(super) css: String,
}

impl Settings {
    /// # Errors
    /// The keys of the files that cannot be used, each with the reason.
    pub fn read(&self) -> Result<Branding, Vec<(&'static str, String)>> {
        let read = |file: &Option<FilePath>, parse: fn(Vec<u8>) -> Result<String, String>| {
            let file = file.as_ref().map(|file| {
                let told = |problem: String| format!("{}: {problem}", file.display());
                read_bounded(file).and_then(parse).map_err(told)
            });
            file.transpose()
        };
        let logo = read(&self.logo_file, data_url).map_err(|problem| ("logo_file", problem));
        let css = read(&self.css_file, style).map_err(|problem| ("css_file", problem));
        let (logo, css) = match (logo, css) {
            (Ok(logo), Ok(css)) => (logo, css),
            (logo, css) => return Err(logo.err().into_iter().chain(css.err()).collect()),
        };
        Ok(Branding {
            name: self.name.as_ref().map(|name| name.text().clone()),
            contact: self.contact.as_ref().map(|contact| (contact.text().clone(), link(contact.as_str()))),
            logo,
            css: [OWN_CSS, css.as_deref().unwrap_or_default()].concat(),
        })
    }
}

impl Default for Branding {
    fn default() -> Self {
        Branding { name: None, contact: None, logo: None, css: OWN_CSS.into() }
    }
}

fn read_bounded(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if !std::fs::metadata(file).map_err(|e| e.to_string())?.is_file() {
        return Err("is no regular file".into()); // reading a pipe would wait
    }
    let read = File::open(file).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|e| e.to_string())?;
    match bytes.len() as u64 > MOST_BYTES {
        true => Err("is larger than 64KiB; every page carries it".into()),
        false => Ok(bytes),
    }
}

/// A browser runs no script of an image; a logo that has one is refused nevertheless, as it can be opened by itself.
fn data_url(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(PNG) {
        return Ok(format!("data:image/png;base64,{}", BASE64.encode(&bytes)));
    }
    let text = std::str::from_utf8(&bytes).ok().filter(|text| elements(text).any(|name| name == "svg"));
    let text = text.ok_or("is neither an SVG nor a PNG")?;
    match elements(text).find(|name| ["script", "foreignobject", "!entity"].contains(&name.as_str())) {
        Some(name) => Err(format!("has a `{name}` element; export the SVG without it")),
        None => Ok(format!("data:image/svg+xml;base64,{}", BASE64.encode(&bytes))),
    }
}

/// The names of all elements, without prefix and in small letters.
fn elements(text: &str) -> impl Iterator<Item = String> {
    text.split('<').skip(1).map(|tag| {
        let name = tag.split(|c: char| c.is_whitespace() || "/>[".contains(c)).next().unwrap_or_default();
        name.rsplit(':').next().unwrap_or_default().to_ascii_lowercase()
    })
}

fn style(bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    // A browser reads line ends as `\n`, and takes the hash of what it has read.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    match text.contains(['<', '\0']) {
        true => Err("has a `<` or a NUL; a `<` could end the page's style element, and is `\\3c ` in CSS".into()),
        false => Ok(text),
    }
}

fn link(contact: &str) -> String {
    match Url::parse(contact) {
        Ok(_) => contact.into(),
        Err(_) => format!("mailto:{contact}"),
    }
}

impl Rule for NameRule {
    fn check(text: &str) -> Result<(), String> {
        let is_good = !text.trim().is_empty() && text.len() <= LONGEST_NAME && !text.chars().any(char::is_control);
        rule(is_good, || "is a name of 1 to 80 bytes on one line, such as Example Monitoring".into())
    }
}

impl Rule for ContactRule {
    fn check(text: &str) -> Result<(), String> {
        let is_plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
        let is_good = match Url::parse(text) {
            Ok(url) if url.scheme() == "mailto" => url.path().contains('@'),
            Ok(url) => {
                let is_whole = ["https://", "http://"].iter().any(|scheme| text.starts_with(scheme));
                is_whole && url.username().is_empty() && url.password().is_none()
            }
            Err(_) => text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.')),
        };
        rule(is_good && is_plain, || "is neither a mail address nor an http, https or mailto URL".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logo_is_an_image_without_scripts() {
        let svg = |body: &str| data_url(format!("<?xml version=\"1.0\"?><svg>{body}</svg>").into_bytes());
        assert!(svg("<path d=\"M0 0\"/>").unwrap().starts_with("data:image/svg+xml;base64,"));
        assert!(data_url([PNG, b"rest"].concat()).unwrap().starts_with("data:image/png;base64,"));
        for bad in ["<script>x</script>", "<s:SCRIPT/>", "<foreignObject/>", "<!ENTITY x 'y'>"] {
            assert!(svg(bad).unwrap_err().contains("element"), "{bad}");
        }
        assert!(data_url(b"GIF89a".to_vec()).is_err());
    }

    #[test]
    fn a_style_sheet_ends_no_element() {
        assert_eq!(style(b"a{}\r\nb{}\r".to_vec()).unwrap(), "a{}\nb{}\n", "as a browser reads it");
        for bad in [&b"</style><script>"[..], b"<!--", b"\xff"] {
            assert!(style(bad.to_vec()).is_err());
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let path = std::env::temp_dir().join(format!("doorward-branding-{}", std::process::id()));
        for (length, is_good) in [(MOST_BYTES, true), (MOST_BYTES + 1, false), (10_000_000, false)] {
            std::fs::write(&path, vec![b'a'; usize::try_from(length).unwrap()]).unwrap();
            assert_eq!(read_bounded(&path).is_ok(), is_good, "{length}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_contact_is_a_mail_address_or_a_url() {
        for (good, href) in [
            ("help@example.com", "mailto:help@example.com"),
            ("https://help.example.com/x", "https://help.example.com/x"),
            ("mailto:a@b.test", "mailto:a@b.test"),
        ] {
            assert!(ContactRule::check(good).is_ok(), "{good}");
            assert_eq!(link(good), href);
        }
        for bad in [
            "",
            "help",
            "javascript:alert(1)",
            "data:text/html,x",
            "http:x",
            "https://a:b@c.test",
            "mailto:",
            "a b@example.com",
            "@example.com",
        ] {
            assert!(ContactRule::check(bad).is_err(), "{bad}");
        }
    }
}
