use super::*;

fn urls() -> ReturnUrls {
    let pattern = |https, host: &str, port| Pattern {
        https,
        host: match host.strip_prefix('*') {
            Some(suffix) => HostPattern::Below(suffix.into()),
            None => HostPattern::One(host.into()),
        },
        port,
    };
    ReturnUrls {
        origins: vec![
            pattern(true, "app.test", 443),
            pattern(true, "*.wild.test", 443),
            pattern(true, "port.test", 8443),
            pattern(false, "plain.test", 80),
        ],
        auth_path: "/oauth2".into(),
    }
}

fn check(target: &str, expected: &str) {
    assert_eq!(urls().checked(target, "https://app.test"), expected, "{target:?}");
}

#[test]
fn targets_on_our_origins_are_kept() {
    for path in ["/", "/x?y=1#z", "/a/b%2Fc", "/?next=//evil.test", "/oauth2x", "/a?rd=/oauth2/sign_out", "/%20x"] {
        check(path, path);
    }
    check("/compare/main...dev", "/compare/main...dev");
    check("/a..b/..c", "/a..b/..c");
    let quotes = |count: usize| format!("/x?q={}", "\"".repeat(count));
    check(&quotes(2_000), &quotes(2_000).replace('"', "%22"));
    // Too long once percent-encoded.
    check(&quotes(2_100), "/");
    check("x", "/x");
    check("?a=b", "/?a=b");
    check("https://app.test/x", "/x");
    check("https://APP.test:443/x", "/x");
    for url in ["https://a.wild.test/x", "https://a.b.wild.test/", "https://port.test:8443/x", "http://plain.test/x"] {
        check(url, url);
    }
}

const HOSTS: &[&str] = &[
    "evil.test",
    "evil.test:443",
    "app.test.evil.test",
    "app.test@evil.test",
    "user:pw@evil.test",
    "evil.test#app.test",
    "evil.test?app.test",
    "evil.test\\@app.test",
    "wild.test",
    "awild.test",
    "xwild.test",
    "app.test:8443",
    "port.test",
    "127.0.0.1",
    "[::1]",
    "0x7f.1",
    "evil%2etest",
    "app.test.",
    "app。test.evil.test",
    "ⓔvil.test",
];
const LEADS: &[&str] = &[
    "//",
    "///",
    "////",
    "/\\",
    "\\\\",
    "\\/",
    "https://",
    "https:",
    "https:/",
    "https:///",
    "https:\\\\",
    "http://",
    "HTTPS://",
    "//\\",
    "/\t/",
    "/\n/",
    "\t//",
    " //",
    "ht\ttps://",
    "/%09/",
    "ftp://",
    "https:\t//",
    "https://app.test@",
    "//app.test@",
    "/\r\n/",
    "\u{0}//",
    "\u{a0}//x@",
];
const SCRIPTS: &[&str] = &[
    "javascript:alert(1)",
    "data:text/html,x",
    "JaVaScRiPt:x",
    "vbscript:x",
    "file:///etc/passwd",
    "about:blank",
    "blob:https://app.test/x",
    "view-source:x",
    "mailto:a@b",
];
const OWN: &[&str] = &[
    "/oauth2",
    "/oauth2/",
    "/oauth2/sign_out",
    "/oauth2/callback?code=x",
    "/./oauth2/sign_out",
    "/x/../oauth2/sign_out",
    "//oauth2",
    "/%6fauth2/sign_out",
    "/oauth2%2fsign_out",
    "/%256fauth2/sign_out",
    "/oauth2;x/sign_out",
    "https://app.test/oauth2/sign_out",
    "https://a.wild.test/oauth2/start",
];

/// Hostile targets: every prefix with every authority.
fn hostile() -> Vec<String> {
    let dressed = LEADS.iter().flat_map(|lead| HOSTS.iter().map(move |host| format!("{lead}{host}/x")));
    let plain = SCRIPTS.iter().chain(OWN).map(|target| (*target).to_owned());
    dressed.chain(plain).collect()
}

#[test]
fn hostile_targets_lead_home() {
    let all = hostile();
    assert!(all.len() >= 300, "{}", all.len());
    for target in all {
        let checked = urls().checked(&target, "https://app.test");
        // As a browser resolves it, the target must be on an allowed origin and not a gateway endpoint.
        let url = Url::parse("https://app.test").unwrap().join(&checked).unwrap();
        let ours = url.origin() == Url::parse("https://app.test").unwrap().origin()
            || urls().origins.iter().any(|pattern| pattern.covers(&url));
        assert!(
            ours && !url.path().starts_with("/oauth2") && !checked.starts_with("//"),
            "{target:?} became {checked:?}"
        );
    }
    for target in [
        "",
        "//evil.test",
        "/\\evil.test",
        "https://evil.test",
        "https://wild.test/",
        "https://port.test/",
        "http://app.test/",
        "https://a.wild.test:444/",
        &"/x".repeat(2000),
    ] {
        let checked = urls().checked(target, "https://app.test");
        assert!(checked == "/" || !checked.contains("test"), "{target:?} became {checked:?}");
    }
}
