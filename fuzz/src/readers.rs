//! Other readers of a path: what servers and frameworks make of it. Written apart from the gateway's own, so that the two
//! can disagree.

use percent_encoding::percent_decode;

/// How one server reads a path.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// How often percent-encoding is undone.
    decodes: u8,
    /// `\` separates, as on Windows and in WHATWG URLs.
    backslash: bool,
    /// `;x` of a segment is left out, as in Java.
    parameters: bool,
    /// Empty segments are left out.
    merges: bool,
    /// Dots are resolved before the decoding, too.
    resolves_first: bool,
    /// `%2f` stays what it is, and `%2e` is a dot before any decoding.
    keeps_slashes: bool,
    /// `//x` at the beginning is a host.
    host: bool,
}

impl Reader {
    pub fn all() -> impl Iterator<Item = Reader> {
        (0..192_u8).map(|n| Reader {
            decodes: n % 3,
            backslash: n / 3 % 2 == 1,
            parameters: n / 6 % 2 == 1,
            merges: n / 12 % 2 == 1,
            resolves_first: n / 24 % 2 == 1,
            keeps_slashes: n / 48 % 2 == 1,
            host: n / 96 % 2 == 1,
        })
    }

    /// The path of a target as this reader serves it.
    pub fn path(self, target: &[u8]) -> Vec<u8> {
        let path = target.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or_default();
        let mut path = path.to_vec();
        if path.starts_with(b"//") && self.host {
            let rest = &path[path.iter().take_while(|b| **b == b'/').count()..];
            let at = rest.iter().position(|b| *b == b'/');
            path = at.map_or(&b"/"[..], |at| &rest[at..]).to_vec();
        }
        if self.resolves_first {
            path = self.resolved(&path);
        }
        for _ in 0..self.decodes {
            path = self.decoded(&path);
        }
        self.resolved(&path)
    }

    fn decoded(self, path: &[u8]) -> Vec<u8> {
        if !self.keeps_slashes {
            return percent_decode(path).collect();
        }
        let text = String::from_utf8_lossy(path).replace("%2F", "%2f");
        let pieces: Vec<Vec<u8>> = text.split("%2f").map(|piece| percent_decode(piece.as_bytes()).collect()).collect();
        pieces.join(&b"%2f"[..])
    }

    fn resolved(self, path: &[u8]) -> Vec<u8> {
        let mut kept: Vec<&[u8]> = Vec::new();
        for segment in path.split(|b| *b == b'/' || self.backslash && *b == b'\\').skip(1) {
            let segment = match self.parameters {
                true => segment.split(|b| *b == b';').next().unwrap_or_default(),
                false => segment,
            };
            let dots = segment.to_ascii_lowercase();
            let segment = match &dots[..] {
                b"%2e" if self.keeps_slashes => &b"."[..],
                b"%2e%2e" | b".%2e" | b"%2e." if self.keeps_slashes => b"..",
                _ => segment,
            };
            match segment {
                b"." => {}
                b".." => _ = kept.pop(),
                b"" if self.merges => {}
                segment => kept.push(segment),
            }
        }
        let ends_in_slash = path.ends_with(b"/") || path.ends_with(b"/.") || path.ends_with(b"/..");
        let mut out: Vec<u8> = kept.iter().flat_map(|segment| [b"/", *segment].concat()).collect();
        if ends_in_slash && !out.ends_with(b"/") {
            out.push(b'/');
        }
        out
    }
}

/// Whether every reader finds the target below this prefix, which ends in a slash.
pub fn all_below(target: &[u8], prefix: &str) -> Result<(), String> {
    every(target, |path| path.starts_with(prefix.as_bytes()) || path == prefix.trim_end_matches('/').as_bytes())
}

/// Whether no reader finds the target below this prefix.
pub fn none_below(target: &[u8], prefix: &str) -> Result<(), String> {
    every(target, |path| !path.starts_with(prefix.as_bytes()))
}

fn every(target: &[u8], holds: impl Fn(&[u8]) -> bool) -> Result<(), String> {
    for reader in Reader::all() {
        let path = reader.path(target);
        if !holds(&path) {
            let text = String::from_utf8_lossy;
            return Err(format!("{:?} is read as {:?} by {reader:?}", text(target), text(&path)));
        }
    }
    Ok(())
}
