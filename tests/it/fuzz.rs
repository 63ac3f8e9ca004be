//! The fuzz targets on every input of `fuzz/corpus`, and on seeded variations of them: on any toolchain, without libFuzzer.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Of each target.
const VARIATIONS: usize = 1_500;
const SEED: u64 = 0x5eed_d00e;

/// A xorshift generator: the same inputs at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// One of the inputs with some pieces changed, left out, doubled, or taken from a dictionary or another input.
    fn varied(&mut self, inputs: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.of(inputs).clone();
        for _ in 0..=self.below(4) {
            let from = self.below(input.len() + 1);
            let to = (from + self.below(12)).min(input.len());
            let piece = match self.below(5) {
                0 => vec![self.below(256) as u8],
                1 => Vec::new(),
                2 => input[from..to].repeat(2),
                3 => self.of(words).clone(),
                _ => {
                    let other = self.of(inputs);
                    let at = self.below(other.len() + 1);
                    other[at..(at + 24).min(other.len())].to_vec()
                }
            };
            input.splice(from..to, piece);
        }
        input
    }
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The words of a libFuzzer dictionary: a quoted text in each line, with `\\`, `\"` and `\x..`.
fn words(dictionary: &str) -> Vec<Vec<u8>> {
    let word = |line: &str| {
        let (mut out, mut rest) = (Vec::new(), line.strip_prefix('"').unwrap().strip_suffix('"').unwrap().as_bytes());
        while let Some((first, more)) = rest.split_first() {
            rest = more;
            match (*first, more.first()) {
                (b'\\', Some(b'x')) => {
                    let hex = std::str::from_utf8(&more[1..3]).unwrap();
                    out.push(u8::from_str_radix(hex, 16).unwrap());
                    rest = &more[3..];
                }
                (b'\\', Some(quoted)) => {
                    out.push(*quoted);
                    rest = &more[1..];
                }
                (plain, _) => out.push(plain),
            }
        }
        out
    };
    dictionary.lines().map(word).collect()
}

#[test]
fn every_input_of_the_corpora_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, _) in targets::TARGETS {
        let inputs = files(&root.join("corpus").join(name));
        assert!(inputs.len() >= 4, "{name} has no corpus");
        let words = words(&std::fs::read_to_string(root.join(format!("dictionaries/{name}.dict"))).unwrap());
        let mut random = Random(SEED);
        let varied = (0..VARIATIONS).map(|_| random.varied(&inputs, &words));
        for input in inputs.iter().cloned().chain(varied.collect::<Vec<_>>()) {
            let held = catch_unwind(AssertUnwindSafe(|| targets::run(name, &input)));
            assert!(held.is_ok(), "{name} fails on {:?}", String::from_utf8_lossy(&input));
        }
    }
}

/// The oracles can fail: readers apart from the gateway's own find what a prefix alone would let through.
#[test]
fn other_readers_see_through_a_naive_prefix() {
    for path in [
        "/public/../x",
        "/public/%2e%2e/x",
        "/public/..%2fx",
        "/public/..;/x",
        "/public/..%5cx",
        "/public/%252e%252e/x",
        "/public/a%2fb/%2e%2e/%2e%2e/x",
    ] {
        assert!(
            path.starts_with("/public/") && targets::readers::all_below(path.as_bytes(), "/public/").is_err(),
            "{path}"
        );
    }
    for path in [
        "/x/../private/y",
        "/%70rivate/y",
        "//private/y",
        "/x;/../private/y",
        "/x%2f..%2fprivate/y",
        "/a%2fb/%2e%2e/private/y",
        "//x/private/y",
    ] {
        assert!(targets::readers::none_below(path.as_bytes(), "/private/").is_err(), "{path}");
    }
    assert_eq!(targets::readers::all_below(b"/public/a/../b?x=/../", "/public/"), Ok(()));
}
