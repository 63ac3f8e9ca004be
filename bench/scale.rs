//! What the number of routes, hosts and wildcards costs: to check a configuration, to build it, and to find the route of a
//! request. Run it with `cargo run --profile dist --example scale`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::use_debug)] // a tool for those who build it

use doorward::app::explain::alone;
use doorward::config::{Sources, check};
use doorward::gate::request::RequestHead;
use http::{HeaderMap, HeaderValue, Method};
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

const ROUNDS: u32 = 20_000;

/// `{}` is a route's number.
const LAYOUTS: [(&str, &str, &str, &str); 3] = [
    ("paths of one host", "http://app.test/part-{}/", "app.test", "/part-{}/x"),
    ("hosts", "http://app-{}.test/", "app-{}.test", "/x"),
    ("wildcard hosts", "http://*.app-{}.test/", "a.app-{}.test", "/x"),
];

fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    println!("| routes | layout | check ms | build ms | a request's route, us | one that has none, us |");
    println!("|---:|---|---:|---:|---:|---:|");
    for (name, from, host, path) in LAYOUTS {
        for count in [1, 100, 2_000, 10_000] {
            measure(name, count, from, host, path);
        }
    }
}

fn measure(name: &str, count: usize, from: &str, host: &str, path: &str) {
    let numbered = |text: &str, n: usize| text.replace("{}", &n.to_string());
    let mut text = String::from("store: {backend: memory}\nroutes:\n");
    for n in 0..count {
        let from = numbered(from, n);
        writeln!(text, "  - {{name: r{n}, from: \"{from}\", to: \"http://127.0.0.1:1\", auth: public}}").unwrap();
    }
    let begun = Instant::now();
    let checked = check(&Sources { file: Path::new("scale.yaml"), text: &text, env: Vec::new() });
    let checked = checked.unwrap_or_else(|problems| panic!("{problems:?}"));
    let check = begun.elapsed();
    let begun = Instant::now();
    let gate = alone(checked.settings).unwrap();
    let build = begun.elapsed();
    let look_up = |n: usize| {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(&numbered(host, n)).unwrap());
        let target = numbered(path, n);
        let head = RequestHead::plain(&Method::GET, target.as_bytes(), &headers, [192, 0, 2, 1].into());
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(gate.open(&head));
        }
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)
    };
    let (found, none) = (look_up(count / 2), look_up(count + 1));
    let ms = |took: std::time::Duration| took.as_secs_f64() * 1e3;
    println!("| {count} | {name} | {:.0} | {:.0} | {found:.2} | {none:.2} |", ms(check), ms(build));
}
