//! The dashboard and the alerts: each series, label and label value that they ask for is on the page that Prometheus
//! reads. Nothing is evaluated.

use crate::app::App;
use crate::gateway::{Folder, Gateway};
use crate::tls::Certificate;
use crate::wait::{free_port, until_so};
use crate::world::{provider, usual};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The labels of each series, and the values of each label.
type Series = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// A series by its name, and what is wanted of its labels.
struct Selector<'a> {
    name: &'a str,
    /// A label and its value, or the alternatives of a regular expression with `|` between.
    labels: Vec<(&'a str, &'a str)>,
}

/// Prometheus gives these to every series.
const TARGET: [&str; 2] = ["job", "instance"];

const TOKENS: &str = "auth: {accept: [bearer]}, upstream: {token: {provider: corp}}";

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/dashboard.json")).unwrap()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// What follows this key, on each of its lines.
fn lines_of<'a>(rules: &'a str, key: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.trim_start().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(':');
    rules.lines().filter_map(value).map(str::trim).collect()
}

/// The metrics of a gateway that has everything: TLS, tokens for apps, and Redis, whose failed operations count, too.
async fn page() -> Series {
    let (provider, app, folder) = (provider().await, App::start().await, Folder::new());
    let certificate = Certificate::of("app.test").write(&folder, "app");
    let store = format!("store: {{backend: redis, redis: {{urls: [\"redis://127.0.0.1:{}\"]}}}}", free_port());
    let config = usual(&provider, &app)
        .another_listener(&format!("tls: {certificate}"))
        .route("own", "http://app.test/own/", &app.origin, TOKENS)
        .more(&store);
    let gateway = Gateway::start_unready(&config).await;
    let metrics = async || gateway.admin("/metrics").await.text();
    until_so("a call to the store", async || metrics().await.contains("doorward_store_operation_seconds_count")).await;
    series(&metrics().await)
}

fn series(page: &str) -> Series {
    let mut all = Series::new();
    for Selector { name, labels } in page.lines().filter(|line| !line.starts_with('#')).flat_map(selectors) {
        let known = all.entry(name.to_owned()).or_default();
        for (label, value) in labels {
            known.entry(label.to_owned()).or_default().insert(value.to_owned());
        }
    }
    all
}

/// The gateway's series in a text: an expression, or a line of the page.
fn selectors(text: &str) -> Vec<Selector<'_>> {
    let is_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut rest, mut found) = (text, Vec::new());
    while let Some(begin) = rest.find(is_of_a_word) {
        rest = &rest[begin..];
        let name;
        (name, rest) = rest.split_at(rest.find(|c| !is_of_a_word(c)).unwrap_or(rest.len()));
        if name.starts_with("doorward_") || name.starts_with("process_") {
            let braces = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let inside;
            (inside, rest) = braces.unwrap_or(("", rest));
            found.push(Selector { name, labels: matchers(inside) });
        }
    }
    found
}

/// `route=~"$route", outcome!="login"`: the quotes tell label and value apart.
fn matchers(inside: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = inside.split('"').collect();
    parts.chunks_exact(2).map(|pair| (pair[0].trim_matches([',', ' ', '=', '!', '~']), pair[1])).collect()
}

/// The labels that an expression groups or joins by. All that it asks for must have them.
fn grouped(expression: &str) -> BTreeSet<&str> {
    let lists = [" by (", " on ("].into_iter().flat_map(|word| expression.split(word).skip(1));
    lists.flat_map(|list| list.split(')').next().unwrap().split(", ")).collect()
}

/// What an expression asks for in vain.
fn problems(expression: &str, known: &Series) -> Vec<String> {
    let mut problems = Vec::new();
    let used = selectors(expression);
    if used.is_empty() {
        problems.push("no series".to_owned());
    }
    for Selector { name, labels } in used {
        let Some(own) = known.get(name) else {
            problems.push(name.to_owned());
            continue;
        };
        let by = grouped(expression).into_iter().map(|label| (label, "$any"));
        for (label, wanted) in labels.into_iter().chain(by).filter(|(label, _)| !TARGET.contains(label)) {
            let Some(values) = own.get(label) else {
                problems.push(format!("{name}: {label}"));
                continue;
            };
            let missing = wanted.split('|').filter(|value| !value.starts_with('$') && !values.contains(*value));
            problems.extend(missing.map(|value| format!("{name}: {label}: {value}")));
        }
    }
    problems
}

#[test]
fn what_is_asked_for_in_vain_is_found() {
    let known = series(
        r#"# TYPE doorward_a counter
doorward_a_total{route="x",outcome="ok"} 0
doorward_a_total{route="y",outcome="no"} 1
doorward_b_bucket{le="0.1",route="x"} 0
doorward_b_sum{route="x"} 0.0
process_c 1.5"#,
    );
    for (expression, expected) in [
        ("rate(doorward_a_total{route=~\"$route\", outcome=~\"ok|no\", job=\"j\"}[5m])", &[][..]),
        ("histogram_quantile(0.5, sum by (route, le) (rate(doorward_b_bucket[5m])))", &[]),
        ("process_c > 1 and on (job, instance) doorward_b_sum", &[]),
        ("time() > 3", &["no series"]),
        ("doorward_a", &["doorward_a"]),
        ("process_c + doorward_d{route=\"x\"}", &["doorward_d"]),
        ("doorward_a_total{outcome!~\"ok|yes\"}", &["doorward_a_total: outcome: yes"]),
        ("doorward_a_total{result=\"ok\"}", &["doorward_a_total: result"]),
        ("sum by (le) (doorward_b_sum)", &["doorward_b_sum: le"]),
        ("doorward_a_total / on (route, outcome) doorward_b_sum", &["doorward_b_sum: outcome"]),
    ] {
        assert_eq!(problems(expression, &known), expected, "{expression}");
    }
}

#[tokio::test]
async fn every_expression_asks_for_series_that_exist() {
    let (known, rules, dashboard) = (page().await, read("deploy/prometheus/rules.yaml"), dashboard());
    let alerts = lines_of(&rules, "alert").into_iter().zip(lines_of(&rules, "expr"));
    let mut asked: Vec<(&str, &str)> = alerts.collect();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().unwrap() {
            let (title, expression) = (panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap());
            asked.push((title, expression));
            for label in target["legendFormat"].as_str().unwrap().split("{{").skip(1) {
                let label = label.split("}}").next().unwrap();
                assert!(grouped(expression).contains(label), "{title}: the legend has {label}, {expression} has not");
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().unwrap();
            asked.push((variable["name"].as_str().unwrap(), query));
            let label = query.rsplit(", ").next().unwrap().trim_end_matches(')');
            let has_it = selectors(query).iter().all(|selector| known[selector.name].contains_key(label));
            assert!(has_it || TARGET.contains(&label), "{query}");
        }
    }
    for (place, expression) in asked {
        assert_eq!(problems(expression, &known), [""; 0], "{place}: {expression}");
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let (rules, dashboard) = (read("deploy/prometheus/rules.yaml"), dashboard());
    let alerts = lines_of(&rules, "alert");
    assert!(!alerts.is_empty());
    for key in ["expr", "for", "severity", "summary", "description"] {
        assert_eq!(lines_of(&rules, key).len(), alerts.len(), "{key}");
    }
    for expression in lines_of(&rules, "expr") {
        assert!(!expression.starts_with(['|', '>', '"', '\'']), "not a plain line: {expression}");
    }
    for severity in lines_of(&rules, "severity") {
        assert!(["critical", "warning"].contains(&severity), "{severity}");
    }
    let words = |text: &str| text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect::<Vec<_>>();
    let texts = panels(&dashboard).map(|panel| panel["description"].as_str().unwrap());
    for word in texts.chain(rules.lines()).flat_map(words) {
        let is_one = word.strip_prefix("Doorward").is_some_and(|rest| rest.starts_with(char::is_uppercase));
        assert!(!is_one || alerts.contains(&word.as_str()), "{word} is no alert");
    }
}

#[test]
fn every_panel_says_what_it_shows() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["id"]);
    }
    for panel in panels(&dashboard) {
        let (unit, legend) = (&panel["fieldConfig"]["defaults"]["unit"], &panel["options"]["legend"]["showLegend"]);
        for text in [&panel["title"], &panel["description"], unit] {
            assert!(!text.as_str().unwrap_or_default().is_empty(), "{panel}");
        }
        assert_eq!(legend, true, "{panel}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert!(!target["legendFormat"].as_str().unwrap_or_default().is_empty(), "{panel}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel}");
        }
    }
}

/// The table of the documentation and the page name the same families with the same labels. Those of the process have a
/// line of their own.
#[tokio::test]
async fn the_table_of_metrics_is_the_page() {
    let document = read("docs/operations.md");
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in document.lines().filter(|line| line.starts_with("| `doorward_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        // The values of the last label follow it after a colon: `result`: `ok`, `refused`.
        let labels = cells[2].split("`: ").next().unwrap().split('`').skip(1).step_by(2);
        let labels: BTreeSet<String> = labels.map(str::to_owned).collect();
        for name in cells[1].split('`').skip(1).step_by(2) {
            told.insert(name.to_owned(), labels.clone());
        }
    }
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, labels) in page().await.iter().filter(|(name, _)| name.starts_with("doorward_")) {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let labels = labels.keys().filter(|label| *label != "le").cloned();
        found.entry(family.to_owned()).or_default().extend(labels);
    }
    assert_eq!(told, found);
}
