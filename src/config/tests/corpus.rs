//! A corpus of files, good and bad. Each is a fragment that stands before a small configuration, in place of its keys of
//! the same names. Of the bad ones it is known where the problems are.

use super::*;

const PROVIDERS: &str =
    "providers: {corp: {issuer: 'https://id.test/', client_id: doorward, client_secret: a-secret-of-some-length}}\n";
const ROUTES: &str = "routes: [{name: main, from: 'https://app.test/', to: 'http://127.0.0.1:3000'}]\n";

fn whole(fragment: &str) -> String {
    let has = |key: &str| fragment.lines().any(|line| line.starts_with(key));
    let mut text = format!("{}\n", fragment.trim_end());
    if !has("providers:") {
        text.push_str(PROVIDERS);
    }
    if !has("routes:") {
        text.push_str(ROUTES);
    }
    text
}

#[test]
fn good_files_are_good() {
    let all: Vec<&str> = include_str!("../corpus/good.txt").split("\n----\n").collect();
    assert!(all.len() >= 60, "{}", all.len());
    for fragment in all {
        let told = read(&whole(fragment), &[]);
        assert!(told.is_ok(), "{fragment}: {:#?}", told.err());
    }
}

#[test]
fn bad_files_are_refused_at_their_places() {
    let all: Vec<&str> = include_str!("../corpus/bad.txt").split("\n----\n").collect();
    assert!(all.len() >= 150, "{}", all.len());
    for case in all {
        let (expected, fragment): (Vec<&str>, Vec<&str>) = case.lines().partition(|line| line.starts_with("=> "));
        let found = read(&whole(&fragment.join("\n")), &[]).err().unwrap_or_default();
        let place = |problem: &String| {
            let rest = problem.strip_prefix("c.yaml:").unwrap_or_default();
            let (position, rest) = rest.split_once(": ").unwrap_or_default();
            let (path, _) = rest.split_once(": ").unwrap_or_default();
            let is_path = !path.is_empty() && !path.contains(['`', ',']);
            format!("=> {position} {}", if is_path { path } else { "-" })
        };
        assert_eq!(found.iter().map(place).collect::<Vec<_>>(), expected, "{case}: {found:#?}");
    }
}

#[test]
fn every_mistake_of_many_routes_is_reported() {
    let route = |i: usize| {
        format!(
            "  - {{name: r{i}, from: 'https://h{i}.test/', to: 'http://127.0.0.1:1', colour: red, methods: [get]}}\n"
        )
    };
    let text = format!("{PROVIDERS}routes:\n{}", (0..300).map(route).collect::<String>());
    let found = read(&text, &[]).err().unwrap_or_default();
    assert_eq!(found.len(), 600);
    assert!(found[0].starts_with("c.yaml:3:68: routes.0.colour: unknown key; known here: name, from"), "{}", found[0]);
}

fn problems(text: &str) -> Vec<Problem> {
    check(&Sources { file: Path::new("c.yaml"), text, env: Vec::new() }).err().unwrap_or_default()
}

#[test]
fn a_suggestion_is_alike_and_fits() {
    let told = |route: &str| {
        let text = format!("{PROVIDERS}routes: [{{name: a, from: 'https://a.test/', {route}}}]\n");
        let found = problems(&text);
        let path = |problem: &Problem| format!("{}: {}", problem.path, problem.text);
        found.iter().map(path).collect::<Vec<_>>()
    };
    let both = told("tls: {a: b}");
    assert!(
        both.len() == 2
            && both[0].starts_with("routes.0.to: is required")
            && both[1].starts_with("routes.0.tls: unknown key; known here"),
        "{both:#?}"
    );
    let renamed = told("to: 'http://x', requre: {groups: a}");
    assert!(renamed.len() == 2 && renamed.iter().any(|p| p.contains("did you mean `require`")), "{renamed:#?}");
    assert!(renamed.iter().any(|p| p.contains("one value stands here")), "{renamed:#?}");
    let unfit = told("to: 'http://x', require: {}, metods: {a: b}");
    assert!(unfit.len() == 1 && unfit[0].contains("did you mean `methods`"), "{unfit:#?}");
}

#[test]
fn merge_keys_and_extensions_work() {
    let text = format!(
        "x-common: &common {{to: 'http://127.0.0.1:1', methods: [GET]}}\nx-more: &more {{methods: [PUT], auth: public}}\n{PROVIDERS}routes:\n  - {{<<: [*common, *more], name: a, from: 'https://a.test/'}}\n  - {{<<: *common, name: b, from: 'https://b.test/', methods: [POST]}}\n"
    );
    let settings = read(&text, &[]).unwrap_or_else(|problems| panic!("{problems:#?}")).settings;
    let methods: Vec<String> = settings.routes.iter().map(|route| format!("{:?}", route.gate.place.methods)).collect();
    assert_eq!(methods, ["[GET]", "[POST]"]);
    assert!(matches!(settings.routes[0].gate.access, crate::gate::route::AccessSettings::Public));
    refused(&format!("{PROVIDERS}{ROUTES}<<: 1\n"), &[], &["c.yaml:3:5: `<<` merges a mapping"]);
    refused(&format!("{PROVIDERS}{ROUTES}\"<<\": {{}}\n"), &[], &["c.yaml:3:1: <<: unknown key"]);
}

#[test]
fn no_secret_is_printed() {
    let secrets = ["hunter2-hunter2-hunter2", "0123456789abcdef0123456789abcdef", "sentinel-secret"];
    let text = format!(
        "providers: {{corp: {{issuer: 'https://id.test/', client_id: doorward, client_secret: {}}}}}\nadmin: {{token: {}}}\nstore: {{backend: redis, secret: {}, redis: {{urls: ['redis://u:{}@127.0.0.1:1/0'], sentinel_password: {}}}}}\n{ROUTES}",
        secrets[0], secrets[1], secrets[1], secrets[0], secrets[2]
    );
    let settings = read(&text, &[]).unwrap_or_else(|problems| panic!("{problems:#?}")).settings;
    let printed = format!("{settings:?} {}", serde_json::to_string(&settings.file).unwrap());
    for secret in secrets {
        assert!(!printed.contains(secret), "{secret}");
    }
    let app = format!("{PROVIDERS}routes: [{{name: a, from: 'https://a.test/', to: 'http://u:hunter2@x'}}]\n");
    let told = read(&app, &[]).err().unwrap_or_default().join("\n");
    assert!(told.contains("routes.0.to: is not the address of an app") && !told.contains("hunter2"), "{told}");
}

/// YAML's plain scalars as JSON has them.
fn json_of(node: &Node) -> serde_json::Value {
    match &node.value {
        _ if node.is_null() => serde_json::Value::Null,
        Value::Scalar { text, plain: true } => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
        Value::Scalar { text, .. } => text.clone().into(),
        Value::List(items) => items.iter().map(json_of).collect(),
        // A key without a value is one that is left out.
        Value::Map(entries) => {
            let written = entries.iter().filter(|(_, node)| !node.is_null());
            written.map(|(key, node)| (key.name.clone(), json_of(node))).collect()
        }
    }
}

#[test]
fn the_schema_takes_what_is_good() {
    let schema = schema::json();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let check = |text: &str| {
        let value = json_of(&tree::parse(text).unwrap());
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:#?} in\n{text}");
    };
    for fragment in include_str!("../corpus/good.txt").split("\n----\n") {
        check(&whole(fragment));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["config.yaml", "deploy/doorward.yaml"] {
        check(&std::fs::read_to_string(root.join(file)).unwrap());
    }
    let reference =
        "workers: ${env:WORKERS}\nshutdown_grace: ${env:GRACE:-5s}\nlogging: {level: '${env:LEVEL}'}\nx-own: 1\n";
    check(&whole(reference));
    let bad = json_of(&tree::parse(&whole("workers: many\nnothing: 1\n")).unwrap());
    assert!(validator.iter_errors(&bad).count() >= 2);
}

/// Each key, with its definition.
fn keys(schema: &serde_json::Value) -> Vec<(String, serde_json::Value, bool)> {
    let structures = schema["$defs"].as_object().unwrap().iter().map(|(name, of)| (name.as_str(), of));
    let mut all = Vec::new();
    for (name, of) in structures.chain([("", schema)]) {
        let required = of["required"].as_array().cloned().unwrap_or_default();
        for (key, value) in of["properties"].as_object().into_iter().flatten() {
            all.push((format!("{name}.{key}"), value.clone(), required.contains(&key.as_str().into())));
        }
    }
    all
}

#[test]
fn the_schema_says_what_each_key_means() {
    let schema = schema::json();
    let all = keys(&schema);
    assert!(all.len() > 100, "{}", all.len());
    for (key, value, is_required) in all {
        let referred = |value: &serde_json::Value| {
            value["$ref"].as_str().map(|r| schema.pointer(r.trim_start_matches('#')).unwrap().clone())
        };
        let mut forms = vec![value.clone()];
        forms.extend(value["anyOf"].as_array().into_iter().flatten().cloned());
        let described = |form: &serde_json::Value| {
            form["description"].is_string() || referred(form).is_some_and(|to| to["description"].is_string())
        };
        assert!(forms.iter().any(described), "{key} has no description");
        assert!(is_required || value.get("default").is_some(), "{key} has no default");
    }
}

/// The path of each key, without indices and names, with its own schema.
fn paths(schema: &serde_json::Value) -> Vec<(String, serde_json::Value)> {
    fn walk(
        root: &serde_json::Value,
        at: &serde_json::Value,
        path: &str,
        found: &mut Vec<(String, serde_json::Value)>,
    ) {
        if let Some(to) = at["$ref"].as_str() {
            walk(root, root.pointer(to.trim_start_matches('#')).unwrap(), path, found);
        }
        let forms = ["anyOf", "oneOf"].iter().filter_map(|name| at[*name].as_array()).flatten();
        for below in forms.chain([&at["items"], &at["additionalProperties"]]).filter(|below| below.is_object()) {
            walk(root, below, path, found);
        }
        for (key, value) in at["properties"].as_object().into_iter().flatten() {
            let path = join(path, key);
            found.push((path.clone(), value.clone()));
            walk(root, value, &path, found);
        }
    }
    let mut found = Vec::new();
    walk(schema, schema, "", &mut found);
    found
}

#[test]
fn the_reference_describes_the_keys_that_there_are() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let all = paths(&schema::plain());
    let is_of = |path: &str, key: &str| path == key || path.ends_with(&format!(".{key}"));
    let rows: Vec<(Vec<&str>, &str)> = text
        .lines()
        .filter_map(|line| {
            let (first, _) = line.strip_prefix("| `")?.split_once(" |")?;
            Some((first.split('`').step_by(2).collect(), line))
        })
        .collect();
    for (path, schema) in &all {
        let name = path.rsplit('.').next().unwrap();
        let described = text
            .split('`')
            .skip(1)
            .step_by(2)
            .any(|code| code.split([',', ' ', '{', '}', '.']).any(|word| word == name));
        assert!(described, "{path} is not in docs/configuration.md");
        let default = match &schema["default"] {
            serde_json::Value::String(text) if !text.is_empty() => text.clone(),
            serde_json::Value::Bool(flag) => flag.to_string(),
            serde_json::Value::Number(number) => number.to_string(),
            _ => continue,
        };
        let own: Vec<&str> =
            rows.iter().filter(|(keys, _)| keys.iter().any(|k| is_of(path, k))).map(|(_, line)| *line).collect();
        let told = own.is_empty() || own.iter().any(|line| line.contains(&format!("`{default}`")));
        assert!(told, "the default of {path} is {default}: {own:#?}");
    }
}
