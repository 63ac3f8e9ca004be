//! The path that is judged is the path that is sent. Apps read paths in different ways: they decode once or twice,
//! take `\` for `/`, merge slashes, resolve dot segments, cut `;parameters`, take `//x` for a host. Nothing is rewritten here; instead the
//! path is read in all of these ways, and the caller refuses it if the readings lead to different places.

use memchr::{memchr, memchr_iter, memchr2, memmem};

/// A request target that passed the check, with its bytes unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    path: &'a str,
    /// From the question mark on; empty where there is none.
    query: &'a str,
    authority: Option<&'a str>,
    is_plain: bool,
}

/// Two parsers may read this target differently.
#[derive(Debug, PartialEq, Eq)]
pub struct Ambiguous;

impl<'a> CanonicalPath<'a> {
    /// Takes a target in origin form, or in absolute form (RFC 9112, 3.2).
    pub fn of(target: &'a [u8]) -> Result<Self, Ambiguous> {
        let target = std::str::from_utf8(target).map_err(|_| Ambiguous)?;
        let (authority, rest) = split_origin(target)?;
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let path = if path.is_empty() && authority.is_some() { "/" } else { path };
        let good_in_path = |b: u8| b.is_ascii_graphic() & (b != b'\\') & (b != b'#');
        let good_in_query = |b: u8| (b > b' ') & (b != 0x7f) & (b != b'#');
        if !path.starts_with('/') || !all(path, good_in_path) || !all(query, good_in_query) {
            return Err(Ambiguous);
        }
        let is_plain = is_plain(path);
        if path.len() > LONGEST_ODD && !is_plain {
            return Err(Ambiguous);
        }
        if path.contains('%') {
            check_escapes(path.as_bytes(), Invalid::Refused)?;
            if let Some(decoded) = decode(path.as_bytes()) {
                check_escapes(&decoded, Invalid::Literal)?;
            }
        }
        Ok(CanonicalPath { path, query, authority, is_plain })
    }

    pub fn as_str(&self) -> &'a str {
        self.path
    }

    /// The query with its question mark, or nothing.
    pub fn query(&self) -> &'a str {
        self.query
    }

    /// The authority of an absolute-form target.
    pub fn authority(&self) -> Option<&'a str> {
        self.authority
    }

    /// Whether the path has only one reading.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Calls `good` once for each way in which an app might read the path, the path as sent first; false as soon as one
    /// is not `good`. Apps apply any of the steps in any order, so the readings are closed under all of them, with at
    /// most two decodings.
    ///
    /// # Errors
    /// There are more readings than any legitimate path has.
    pub fn every_reading(&self, good: impl FnMut(&[u8]) -> bool) -> Result<bool, Ambiguous> {
        every_reading(self.path.as_bytes(), MOST_WORK, good)
    }
}

/// As [`CanonicalPath::every_reading`], for any path.
///
/// # Errors
/// There are too many readings, or more than `work` bytes in them.
pub fn every_reading(path: &[u8], work: usize, mut good: impl FnMut(&[u8]) -> bool) -> Result<bool, Ambiguous> {
    let mut readings = Readings { all: vec![(path.to_vec(), 0)], different: 1, most: MOST_READINGS, left: work };
    if !good(path) || !readings.close(&COMMON, &[decode], &mut good)? {
        return Ok(false);
    }
    let is_odd = |(reading, _): &(Vec<u8>, usize)| reading.starts_with(b"//") || memmem::find(reading, b"%2").is_some();
    if !readings.all.iter().any(is_odd) {
        return Ok(true);
    }
    readings.most += MOST_RARE;
    readings.left += work;
    readings.close(&ALL, &[decode, decode_but_slashes], &mut good)
}

/// The readings of a path, each with the decodings that led to it.
struct Readings {
    all: Vec<(Vec<u8>, usize)>,
    different: usize,
    /// How many different ones there may be.
    most: usize,
    /// The bytes that may still be looked at.
    left: usize,
}

impl Readings {
    /// Adds what the steps make of each, until they make nothing new; false where one is not good.
    fn close(
        &mut self,
        steps: &[Step],
        decodings: &[Step],
        good: &mut impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, Ambiguous> {
        let mut at = 0;
        while let Some((reading, decoded)) = self.all.get(at) {
            let decoded = *decoded;
            at += 1;
            self.left = self.left.checked_sub(reading.len()).ok_or(Ambiguous)?;
            let decodings = if decoded < DECODINGS { decodings } else { &[] };
            let again = decodings.iter().filter_map(|decode| Some((decode(reading)?, decoded + 1)));
            let next: Vec<_> = steps.iter().filter_map(|step| Some((step(reading)?, decoded))).chain(again).collect();
            for (next, decoded) in next {
                let mut known =
                    self.all.iter().filter(|(known, _)| *known == next).map(|(_, before)| *before).peekable();
                let is_new = known.peek().is_none();
                // The same bytes after fewer decodings can still be decoded further.
                if known.any(|before| before <= decoded) {
                    continue;
                }
                if is_new {
                    self.different += 1;
                    if self.different > self.most {
                        return Err(Ambiguous);
                    }
                    if !good(&next) {
                        return Ok(false);
                    }
                }
                self.all.push((next, decoded));
            }
        }
        Ok(true)
    }
}

/// One thing that apps do to a path; `None` if it changes nothing.
type Step = fn(&[u8]) -> Option<Vec<u8>>;

/// Those that many apps take; beside them, decodings.
const COMMON: [Step; 4] = [backslashes_as_slashes, without_parameters, merged_slashes, without_dots];
/// With those that few take.
const ALL: [Step; 6] =
    [backslashes_as_slashes, without_parameters, merged_slashes, without_dots, without_encoded_dots, without_authority];

/// Whether each byte is good. No early exit, so that the compiler can vectorise the loop.
fn all(text: &str, good: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(true, |all, b| all & good(b))
}

/// Chained proxies and apps decode up to twice; none is known to decode more often.
const DECODINGS: usize = 2;
/// Distinct readings, the path itself included. No legitimate path has more, and each costs work.
const MOST_READINGS: usize = 32;
/// How many more the rare steps may add.
const MOST_RARE: usize = 64;
/// Total bytes of all readings: four of the longest, or all of a path of usual length.
pub const MOST_WORK: usize = 16 * 1024;
/// The longest path that may have more than one reading, in bytes.
const LONGEST_ODD: usize = 4096;

/// `http://host/path` into `host` and `/path`.
fn split_origin(target: &str) -> Result<(Option<&str>, &str), Ambiguous> {
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let (scheme, rest) = target.split_once("://").ok_or(Ambiguous)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Ambiguous);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    Ok((Some(authority), path))
}

/// Whether no step changes the path.
fn is_plain(path: &str) -> bool {
    let path = path.as_bytes();
    memchr2(b'%', b';', path).is_none() && memmem::find(path, b"//").is_none() && !has_dots(path)
}

/// Whether some segment is `.` or `..`.
fn has_dots(path: &[u8]) -> bool {
    memchr_iter(b'.', path).any(|at| {
        let rest = path.get(at + 1..).unwrap_or_default();
        let rest = rest.strip_prefix(b".").unwrap_or(rest);
        at.checked_sub(1).is_some_and(|before| path.get(before) == Some(&b'/'))
            && (rest.is_empty() || rest.starts_with(b"/"))
    })
}

/// How to treat an invalid escape: refuse it in the path as sent, take it literally after one decoding.
#[derive(PartialEq)]
enum Invalid {
    Refused,
    Literal,
}

/// No `%00`, no overlong UTF-8 (`%c0%af` is a slash to a careless decoder), no broken escape.
fn check_escapes(path: &[u8], invalid: Invalid) -> Result<(), Ambiguous> {
    let mut rest = path;
    let mut lead = None;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            lead = None;
            continue;
        }
        let Some(byte) = escape(tail) else {
            match invalid {
                Invalid::Refused => return Err(Ambiguous),
                Invalid::Literal => continue,
            }
        };
        rest = tail.get(2..).unwrap_or_default();
        let overlong = matches!(byte, 0xc0 | 0xc1)
            || matches!((lead, byte), (Some(0xe0), 0x80..=0x9f) | (Some(0xf0), 0x80..=0x8f));
        if byte == 0 || overlong {
            return Err(Ambiguous);
        }
        lead = Some(byte);
    }
    Ok(())
}

fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let (high, low) = (digits.first().and_then(digit)?, digits.get(1).and_then(digit)?);
    u8::try_from(high * 16 + low).ok()
}

fn decode(path: &[u8]) -> Option<Vec<u8>> {
    memchr(b'%', path)?;
    let decoded: Vec<u8> = percent_encoding::percent_decode(path).collect();
    (decoded.len() != path.len()).then_some(decoded)
}

/// `%2f` stays: Apache and Tomcat can be told so, and resolve dots while it is part of a segment.
fn decode_but_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = memchr(b'%', rest) {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        let digits = from.get(1..).and_then(escape).filter(|byte| *byte != b'/');
        let (taken, kept) = from.split_at(if digits.is_some() { 3 } else { 1 });
        match digits {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(taken),
        }
        rest = kept;
    }
    out.extend_from_slice(rest);
    (out.len() != path.len()).then_some(out)
}

fn backslashes_as_slashes(path: &[u8]) -> Option<Vec<u8>> {
    memchr(b'\\', path)?;
    Some(path.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect())
}

/// `/a;x=1/b;y` is `/a/b`.
fn without_parameters(path: &[u8]) -> Option<Vec<u8>> {
    let mut rest = path;
    let mut out = Vec::with_capacity(path.len());
    while let Some(at) = memchr(b';', rest) {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        rest = from.get(memchr(b'/', from).unwrap_or(from.len())..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    (out.len() != path.len()).then_some(out)
}

fn merged_slashes(path: &[u8]) -> Option<Vec<u8>> {
    memmem::find(path, b"//")?;
    let mut out = Vec::with_capacity(path.len());
    for b in path {
        if *b != b'/' || out.last() != Some(&b'/') {
            out.push(*b);
        }
    }
    Some(out)
}

/// `//host/path` is `/path` to who takes it for a reference (RFC 3986, 4.2), with any more slashes before the host, too
/// (WHATWG URL, 4.4).
fn without_authority(path: &[u8]) -> Option<Vec<u8>> {
    let mut rest = path.strip_prefix(b"//")?;
    while let Some(less) = rest.strip_prefix(b"/") {
        rest = less;
    }
    let at = memchr(b'/', rest).unwrap_or(rest.len());
    Some(rest.get(at..).filter(|path| !path.is_empty()).unwrap_or(b"/").to_vec())
}

/// RFC 3986, 5.2.4.
fn without_dots(path: &[u8]) -> Option<Vec<u8>> {
    has_dots(path).then(|| {
        resolved(path, |segment| match segment {
            b"." => 1,
            b".." => 2,
            _ => 0,
        })
    })
}

/// The same where `%2e` is a dot, too, and nothing else is decoded (WHATWG URL, 4.1).
fn without_encoded_dots(path: &[u8]) -> Option<Vec<u8>> {
    memmem::find_iter(path, b"%2")
        .any(|at| path.get(at + 2).is_some_and(|b| b.eq_ignore_ascii_case(&b'e')))
        .then_some(())?;
    let dots = |segment: &[u8]| {
        let (mut count, mut rest) = (0, segment);
        while let [first, tail @ ..] = rest {
            rest = match (first, tail) {
                (b'.', tail) => tail,
                (b'%', [b'2', b'e' | b'E', tail @ ..]) => tail,
                _ => return 0,
            };
            count += 1;
        }
        count
    };
    let found = resolved(path, dots);
    (found != path).then_some(found)
}

/// `dots` counts those of a segment that has nothing else.
fn resolved(path: &[u8], dots: impl Fn(&[u8]) -> usize) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|b| *b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match dots(segment) {
            1 => {}
            2 => drop(out.pop()),
            _ => {
                out.push(segment);
                continue;
            }
        }
        if last {
            out.push(b"");
        }
    }
    let mut joined = Vec::with_capacity(path.len());
    for segment in out {
        joined.push(b'/');
        joined.extend_from_slice(segment);
    }
    if joined.is_empty() { vec![b'/'] } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn readings(path: &CanonicalPath<'_>) -> Result<Vec<String>, Ambiguous> {
        let mut all = Vec::new();
        path.every_reading(|reading| {
            all.push(String::from_utf8_lossy(reading).into_owned());
            true
        })?;
        Ok(all)
    }

    fn check(path: &str, expected: &[&str]) {
        let canonical = CanonicalPath::of(path.as_bytes()).unwrap();
        let mut readings = readings(&canonical).unwrap();
        assert_eq!(readings[0], path);
        assert_eq!(canonical.is_plain(), expected.is_empty(), "{path}");
        readings.sort();
        readings.dedup();
        let mut expected: Vec<&str> = expected.to_vec();
        expected.push(path);
        expected.sort();
        expected.dedup();
        assert_eq!(readings, expected);
    }

    #[test]
    fn a_path_is_read_in_every_way() {
        check("/", &[]);
        check("/a-._~!$&'()*+,=:@b", &[]);
        check("/.hidden", &[]);
        check("/a/../b", &["/b"]);
        check("/a//b/", &["/a/b/"]);
        check("/a/./", &["/a/"]);
        check("/a/..", &["/"]);
        check("/../..", &["/"]);
        check("/a%2fb", &["/a/b"]);
        check("/%61", &["/a"]);
        check("/a%5cb", &["/a\\b", "/a/b"]);
        check("/%2e%2e/b", &["/../b", "/b"]);
        check("/%252e%252e/b", &["/%2e%2e/b", "/../b", "/b"]);
        check("/p/..;x/a", &["/p/../a", "/a"]);
        check("/a;v=1/b", &["/a/b"]);
        check("/.well-known/x", &[]);
        check("/a%3bv/b", &["/a;v/b", "/a/b"]);
        check("/%2525", &["/%25", "/%"]);
        check("/a...b/..c/.d.", &[]);
        check(
            "/p/a%2fb/%2E./../x",
            &["/x", "/p/a/b/x", "/p/a%2fb/%2E./../x", "/p/a%2fb/x", "/p/x", "/p/a/b/../../x", "/p/a%2fb/../../x"],
        );
        check("//h/a", &["/h/a", "/a"]);
        check("//h", &["/h", "/"]);
        check("///h/a", &["/h/a", "/a"]);
        check("/%2fh/a", &["//h/a", "/h/a", "/a"]);
    }

    #[test]
    fn a_path_of_many_readings_has_none() {
        let many = "/public/%252e/.%5c/..%3b%5ca;//%252f";
        assert_eq!(readings(&CanonicalPath::of(many.as_bytes()).unwrap()), Err(Ambiguous));
        let long = |unit: &str| format!("/{}", unit.repeat(LONGEST_ODD));
        for odd in ["%41", ";", "a/./", "//", "a/../"] {
            assert_eq!(CanonicalPath::of(long(odd).as_bytes()), Err(Ambiguous), "{odd}");
        }
        for plain in ["a/", ".a", "/..."] {
            assert!(
                CanonicalPath::of(format!("/{}", format!("x{plain}").repeat(LONGEST_ODD)).as_bytes()).is_ok(),
                "{plain}"
            );
        }
    }

    /// The total length of the readings is bounded, however long the path is.
    #[test]
    fn a_long_path_is_read_in_few_ways() {
        let few = format!("/{}%20a", "b".repeat(3_500));
        assert_eq!(readings(&CanonicalPath::of(few.as_bytes()).unwrap()).map(|all| all.len()), Ok(2));
        let ordinary = "//img/https%3A%2F%2Fexample.com%2Fa%252Fb%2520c%253Bd.jpg";
        assert!(readings(&CanonicalPath::of(ordinary.as_bytes()).unwrap()).is_ok());
        for odd in [format!("/{}%2525//.;/", "q".repeat(3_700)), format!("/{}%2525;/./", "/".repeat(3_900))] {
            assert_eq!(readings(&CanonicalPath::of(odd.as_bytes()).unwrap()), Err(Ambiguous));
        }
    }

    #[test]
    fn reading_ends_where_one_is_not_good() {
        let path = CanonicalPath::of(b"/public/%2e%2e/admin").unwrap();
        let mut seen = 0;
        let good = path.every_reading(|reading| {
            seen += 1;
            reading.starts_with(b"/public/%")
        });
        assert_eq!((good, seen), (Ok(false), 2));
    }

    #[test]
    fn what_nobody_need_agree_on_is_refused() {
        for bad in [
            &b"admin"[..],
            b"",
            b"*",
            b"?q",
            b"/a\\b",
            b"/a#b",
            b"/a?b#c",
            b"/a b",
            b"/\0",
            b"/\x7f",
            b"/\xc3\xa4",
            b"/%",
            b"/%2",
            b"/%zz",
            b"/%00",
            b"/%2500",
            b"/%c0%af",
            b"/%C1%81",
            b"/%e0%80%af",
            b"/%f0%80%80%af",
            b"/%25c0%25af",
            b"ftp://h/a",
            b"//h\\a",
            b"http:/h/a",
        ] {
            assert_eq!(CanonicalPath::of(bad), Err(Ambiguous), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn the_absolute_form_is_taken_apart() {
        let check = |target: &str, authority: Option<&str>, path: &str, query: &str| {
            let canonical = CanonicalPath::of(target.as_bytes()).unwrap();
            assert_eq!((canonical.authority(), canonical.as_str(), canonical.query()), (authority, path, query));
        };
        check("http://h:1/a?b=/c", Some("h:1"), "/a", "?b=/c");
        check("HTTPS://h", Some("h"), "/", "");
        check("http://h?x", Some("h"), "/", "?x");
        check("//h/a", None, "//h/a", "");
        check("/a?q=\\&r=%zz", None, "/a", "?q=\\&r=%zz");
    }

    proptest! {
        /// The first reading is the path as sent, and every reading begins with a slash.
        #[test]
        fn readings_keep_the_bytes_and_the_slash(path in "/([a-z./;%\\\\]|%2[ef5]|%5c|%25){0,40}") {
            if let Ok(canonical) = CanonicalPath::of(path.as_bytes())
                && let Ok(readings) = readings(&canonical)
            {
                prop_assert_eq!(&*readings[0], &*path);
                prop_assert!(readings.iter().all(|r| r.starts_with('/')));
                prop_assert!(readings.len() <= MOST_READINGS + MOST_RARE);
                prop_assert!(readings.len() == 1 || !canonical.is_plain());
                let mut different = readings.clone();
                different.sort();
                different.dedup();
                prop_assert_eq!(different.len(), readings.len(), "each once");
            }
        }
    }
}
