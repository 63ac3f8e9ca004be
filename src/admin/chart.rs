//! The charts of the status page: SVG without scripts, of the last hour, a minute in each column.

use crate::telemetry::durations::quantile;
use crate::telemetry::history::{MINUTES, Tally};
use crate::telemetry::metrics::{Outcome, REQUEST_BUCKETS};
use std::fmt::Write;

const WIDTH: usize = 240;
const HEIGHT: f64 = 56.0;
const COLUMN: usize = WIDTH / MINUTES;

/// How a request ended, from below in a column, with the class that colours it.
const _: () = assert!(KINDS[0].1.len() + KINDS[1].1.len() + KINDS[2].1.len() + KINDS[3].1.len() == Outcome::ALL.len());
const KINDS: [(&str, &[Outcome]); 4] = [
    ("served", &[Outcome::forwarded]),
    ("own", &[Outcome::login, Outcome::own_page]),
    (
        "refused",
        &[Outcome::unauthorized, Outcome::forbidden, Outcome::rate_limited, Outcome::bad_request, Outcome::no_route],
    ),
    ("failed", &[Outcome::unavailable, Outcome::upstream_error]),
];

/// The most requests in a minute, and the longest p99: what the heights of the charts stand for.
pub(super) fn scale(minutes: &[Tally]) -> (u64, Option<f64>) {
    let slowest = minutes.iter().filter_map(|minute| quantile(&REQUEST_BUCKETS, &minute.durations, 0.99));
    (minutes.iter().map(Tally::requests).max().unwrap_or(0), slowest.reduce(f64::max))
}

/// Requests by what became of them.
pub(super) fn requests(name: &str, minutes: &[Tally]) -> String {
    let most = minutes.iter().map(Tally::requests).max().unwrap_or(0);
    let mut svg = begun(&format!("Requests of {name} in the last hour, by minutes; at most {most} in one"));
    for (minute, left) in minutes.iter().zip(columns(minutes.len())) {
        let mut top = HEIGHT;
        for (class, outcomes) in KINDS {
            let count: u64 = outcomes.iter().filter_map(|outcome| minute.outcomes.get(*outcome as usize)).sum();
            if count > 0 {
                let height = (count as f64 / most as f64 * HEIGHT).max(1.0);
                top = (top - height).max(0.0);
                // Writing into a string cannot fail.
                let _ = write!(
                    svg,
                    r#"<rect class="{class}" x="{left}" y="{top:.1}" width="{}" height="{height:.1}"/>"#,
                    COLUMN - 1
                );
            }
        }
    }
    svg + "</svg>"
}

/// The median and the slowest hundredth.
pub(super) fn durations(name: &str, minutes: &[Tally]) -> String {
    let longest = REQUEST_BUCKETS.last().copied().unwrap_or_default();
    let at =
        |minute: &Tally, share| quantile(&REQUEST_BUCKETS, &minute.durations, share).map(|value| value.min(longest));
    let of = |share| minutes.iter().map(|minute| at(minute, share)).collect();
    let (median, slowest): (Vec<_>, Vec<_>) = (of(0.5), of(0.99));
    let most = slowest.iter().flatten().copied().fold(0.0, f64::max);
    let mut svg = begun(&format!("Duration of requests of {name}, p50 and p99; at most {}", seconds(most)));
    for (class, line) in [("p99", slowest), ("p50", median)] {
        let mut path = String::new();
        let mut is_down = false;
        for (value, left) in line.iter().zip(columns(minutes.len())) {
            let Some(value) = value else {
                is_down = false;
                continue;
            };
            let height = if most > 0.0 { value / most * (HEIGHT - 2.0) } else { 0.0 };
            // A minute between idle ones is a short line, else nothing of it could be seen.
            let step = if is_down { "L" } else { "M" };
            let _ = write!(path, "{step}{left} {:.1}h{}", HEIGHT - 1.0 - height, COLUMN - 1);
            is_down = true;
        }
        let _ = write!(svg, r#"<path class="{class}" d="{path}"/>"#);
    }
    svg + "</svg>"
}

/// Where the columns of the last minutes begin: the latest is at the right.
fn columns(count: usize) -> impl Iterator<Item = usize> {
    (MINUTES.saturating_sub(count)..MINUTES).map(|column| column * COLUMN)
}

fn begun(label: &str) -> String {
    let label = askama::filters::escape(label, askama::filters::Html).map(|label| label.to_string());
    let label = label.unwrap_or_default();
    format!(r#"<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none">"#)
}

/// A duration for people.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        ..0.001 => format!("{:.0} µs", seconds * 1e6),
        ..0.01 => format!("{:.1} ms", seconds * 1e3),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        f64::INFINITY => "over 60 s".into(),
        _ => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(outcome: Outcome, count: u64, bucket: usize) -> Tally {
        let mut minute = Tally { durations: vec![0; REQUEST_BUCKETS.len() + 1], ..Tally::default() };
        minute.outcomes[outcome as usize] = count;
        minute.durations[bucket] = count;
        minute
    }

    #[test]
    fn a_column_a_minute() {
        let minutes = [minute(Outcome::forwarded, 4, 0), Tally::default(), minute(Outcome::forbidden, 2, 7)];
        let svg = requests("<a>", &minutes);
        assert!(svg.contains("at most 4 in one") && svg.contains("&#60;a&#62;"), "{svg}");
        assert!(svg.contains(r#"<rect class="served" x="228" y="0.0" width="3" height="56.0"/>"#), "{svg}");
        assert!(svg.contains(r#"<rect class="refused" x="236" y="28.0" width="3" height="28.0"/>"#), "{svg}");
        let svg = durations("a", &minutes);
        assert!(svg.contains("at most 100 ms"), "{svg}");
        assert_eq!(svg.matches('M').count(), 4, "two lines, each in two parts: {svg}");
        assert!(!durations("a", &[]).contains("NaN") && !requests("a", &[]).contains("NaN"));
    }
}
