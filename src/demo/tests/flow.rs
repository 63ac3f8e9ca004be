//! What a browser and a client do: authorization, tokens, refresh, introspection, logout.

use axum::Router;
use axum::extract::Form;
use axum::routing::post;
use tokio::sync::mpsc;

use super::super::server::Server;
use super::*;

#[tokio::test]
async fn code_flow_through_the_form() {
    let party = Party::start().await;
    let page = party.get(&format!("/authorize?{}", a_request(&[]))).await;
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let html = page.text().await.unwrap();
    let request = between(&html, "name=\"request\" value=\"", "\"").replace("&amp;", "&");

    let wrong = [("request", request.as_str()), ("username", "ali<ce"), ("password", "alice")];
    let refused = party.post("/login", &wrong).await;
    assert_eq!(refused.status(), 403);
    let html = refused.text().await.unwrap();
    assert!(html.contains("do not belong together") && html.contains("value=\"ali&lt;ce\""), "{html}");

    let right = [("request", request.as_str()), ("username", "alice"), ("password", "alice")];
    let granted = party.post("/login", &right).await;
    assert_eq!(granted.status(), 303);
    let back = location(&granted);
    assert!(back.as_str().starts_with(REDIRECT_URI));
    assert_eq!(param(&back, "state").as_deref(), Some("the-state"));
    assert_eq!(param(&back, "iss").as_deref(), Some(party.provider.issuer()));

    let (status, tokens) = party.exchange(&param(&back, "code").unwrap()).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["expires_in"], 300);
    let claims = claims_of(tokens["id_token"].as_str().unwrap());
    assert_eq!(claims["nonce"], "the-nonce");
    assert_eq!(claims["aud"], "doorward");
    assert_eq!(claims["sub"], "alice");
    assert!(claims["sid"].is_string() && claims["auth_time"].is_i64());
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(header_of(access)["typ"], "at+jwt");
    assert_eq!(claims_of(access)["groups"], json!(["admins", "dev"]));

    let info = party.http.get(party.url("/userinfo")).bearer_auth(access).send().await.unwrap();
    let (_, info) = answer(info).await;
    let expected = json!({"sub": "alice", "name": "Alice Adams", "preferred_username": "alice",
        "email": "alice@example.com", "email_verified": true, "groups": ["admins", "dev"]});
    assert_eq!(info, expected);

    let again = party.authorize(&a_request(&[]), &cookie_set(&granted)).await;
    assert!(param(&location(&again), "code").is_some(), "signed in already");
}

#[tokio::test]
async fn authorization_requests_that_are_refused() {
    let party = Party::start().await;
    let cookie = party.provider.sign_in("alice");
    let told_to_the_client = [
        (("response_type", "token"), "unsupported_response_type"),
        (("scope", "profile"), "invalid_scope"),
        (("state", ""), "invalid_request"),
        (("nonce", ""), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("prompt", "none login"), "invalid_request"),
        (("request_uri", "http://localhost:1/"), "request_not_supported"),
    ];
    for (change, error) in told_to_the_client {
        let response = party.authorize(&a_request(&[change]), &cookie).await;
        assert_eq!(param(&location(&response), "error").as_deref(), Some(error), "{change:?}");
        assert!(param(&location(&response), "code").is_none());
    }
    let told_to_the_person = [
        ("client_id", "other"),
        ("client_id", ""),
        ("redirect_uri", "http://localhost:1/oauth2/callback/"),
        ("redirect_uri", ""),
        ("response_mode", "fragment"),
    ];
    for change in told_to_the_person {
        let response = party.authorize(&a_request(&[change]), &cookie).await;
        assert_eq!(response.status(), 400, "{change:?}");
        assert!(response.headers().get(LOCATION).is_none(), "{change:?}");
    }
    let silent = party.authorize(&a_request(&[("prompt", "none")]), "").await;
    assert_eq!(param(&location(&silent), "error").as_deref(), Some("login_required"));
    let asked_again = party.authorize(&a_request(&[("prompt", "login")]), &cookie).await;
    assert_eq!(asked_again.status(), 200);
    let too_old = party.authorize(&a_request(&[("max_age", "-1")]), &cookie).await;
    assert_eq!(too_old.status(), 200);
    let twice = party.authorize(&format!("{}&state=b", a_request(&[])), &cookie).await;
    assert_eq!(twice.status(), 400);
}

#[tokio::test]
async fn form_post_and_a_form_from_elsewhere() {
    let party = Party::start().await;
    let query = a_request(&[("response_mode", "form_post"), ("state", "\"><b>")]);
    let page = party.authorize(&query, &party.provider.sign_in("bob")).await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let html = page.text().await.unwrap();
    for (directive, element) in [("style-src", "style"), ("script-src", "script")] {
        let content = between(&html, &format!("<{element}>"), &format!("</{element}>"));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content.as_bytes());
        let allowed = format!("{directive} 'sha256-{}';", data_encoding::BASE64.encode(digest.as_ref()));
        assert!(policy.contains(&allowed), "{allowed} in {policy}");
    }
    assert!(html.contains(&format!("action=\"{REDIRECT_URI}\"")), "{html}");
    assert!(html.contains("name=\"code\"") && html.contains("value=\"&quot;&gt;&lt;b&gt;\""), "{html}");

    let fields = [("request", query.as_str()), ("username", "bob"), ("password", "bob")];
    let foreign = party.form("/login", &fields).header("origin", "http://evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    let own = party.form("/login", &fields).header("origin", party.provider.issuer()).send().await.unwrap();
    assert_eq!(own.status(), 200);
}

#[tokio::test]
async fn a_code_has_one_try() {
    let party = Party::start().await;
    let code = party.code().await;
    let (_, tokens) = party.exchange(&code).await;
    let access = tokens["access_token"].as_str().unwrap();
    assert!(party.is_active(access).await);
    let (status, error) = party.exchange(&code).await;
    assert_eq!((status.as_u16(), &error["error"]), (400, &json!("invalid_grant")));
    assert!(!party.is_active(access).await, "a second use ends what the first one brought");

    let wrong = [
        ("redirect_uri", "http://localhost:1/"),
        ("code_verifier", "another"),
        ("code_verifier", ""),
        ("code", "unknown"),
    ];
    for (name, value) in wrong {
        let code = party.code().await;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", VERIFIER),
        ];
        fields.retain(|(field, _)| *field != name);
        fields.push((name, value));
        let (_, error) = party.call("/token", &fields).await;
        assert_eq!(error["error"], "invalid_grant", "{name}={value}");
    }
}

#[tokio::test]
async fn client_authentication() {
    let party = Party::start().await;
    let odd = "a b:c+&=ü%";
    party.provider.set_client(Client { client_id: "odd".into(), client_secret: Some(odd.into()), ..Client::default() });
    party.provider.set_client(Client { client_id: "public".into(), ..Client::default() });
    let encoded: String = form_urlencoded::byte_serialize(odd.as_bytes()).collect();
    let grant = ("grant_type", "client_credentials");

    let basic = async |id: &str, secret: &str| {
        answer(party.form("/token", &[grant]).basic_auth(id, Some(secret)).send().await.unwrap()).await
    };
    assert_eq!(basic("odd", &encoded).await.0, 200);
    let (status, error) = basic("odd", "wrong").await;
    assert_eq!((status.as_u16(), &error["error"]), (401, &json!("invalid_client")));
    assert_eq!(basic("nobody", "").await.0, 401);
    assert_eq!(basic("public", "").await.0, 401);

    let assertion = party.provider.issue_access_token("doorward", &IssueOptions::default());
    let assertion_type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let cases: [(Fields, u16, &str); 6] = [
        (&[("client_id", "odd"), ("client_secret", odd)], 200, ""),
        (&[("client_id", "odd")], 401, "invalid_client"),
        (&[("client_id", "public")], 400, "unauthorized_client"),
        (&[], 401, "invalid_client"),
        (&[("client_assertion", &assertion), ("client_assertion_type", assertion_type)], 200, ""),
        (&[("client_assertion", &assertion), ("client_secret", odd)], 400, "invalid_request"),
    ];
    for (fields, status, error) in cases {
        let fields: Vec<_> = fields.iter().copied().chain([grant]).collect();
        let (got, body) = answer(party.post("/token", &fields).await).await;
        assert_eq!((got.as_u16(), body["error"].as_str().unwrap_or_default()), (status, error), "{fields:?}");
    }
    let (_, tokens) = party.call("/token", &[grant, ("scope", "read")]).await;
    let claims = claims_of(tokens["access_token"].as_str().unwrap());
    assert_eq!((&claims["sub"], &claims["scope"]), (&json!("doorward"), &json!("read")));
    assert!(tokens.get("refresh_token").is_none() && tokens.get("id_token").is_none());
}

#[tokio::test]
async fn refresh_rotates_and_reuse_ends_the_family() {
    let party = Party::start().await;
    let first = party.tokens().await;
    let (status, second) = party.refresh(&first["refresh_token"]).await;
    assert_eq!(status, 200, "{second}");
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    let claims = claims_of(second["id_token"].as_str().unwrap());
    assert!(claims.get("nonce").is_none());
    assert_eq!(claims["sid"], claims_of(first["id_token"].as_str().unwrap())["sid"]);

    let bystander = party.tokens().await;
    let (status, error) = party.refresh(&first["refresh_token"]).await;
    assert_eq!((status.as_u16(), &error["error"]), (400, &json!("invalid_grant")));
    assert_eq!(party.refresh(&second["refresh_token"]).await.0, 400, "the whole family is gone");
    assert!(!party.is_active(second["access_token"].as_str().unwrap()).await);
    assert_eq!(party.refresh(&bystander["refresh_token"]).await.0, 200, "another login is not touched");
}

#[tokio::test]
async fn refresh_as_other_providers_do_it() {
    let party = Party::start().await;
    let first = party.tokens().await;
    party.provider.faults().reuse_revokes_family = false;
    let (_, second) = party.refresh(&first["refresh_token"]).await;
    assert_eq!(party.refresh(&first["refresh_token"]).await.0, 400);
    assert_eq!(party.refresh(&second["refresh_token"]).await.0, 200, "only the reused one is refused");

    let kept = party.tokens().await;
    {
        let mut faults = party.provider.faults();
        faults.rotate_refresh_tokens = false;
        faults.refresh_without_id_token = true;
        faults.expires_in = ExpiresIn::Text;
    }
    for _ in 0..2 {
        let (status, tokens) = party.refresh(&kept["refresh_token"]).await;
        assert_eq!(status, 200);
        assert!(tokens.get("refresh_token").is_none() && tokens.get("id_token").is_none());
        assert_eq!(tokens["expires_in"], "300");
    }
    party.provider.faults().refresh_error = Some("invalid_request".to_owned());
    let (status, error) = party.refresh(&kept["refresh_token"]).await;
    assert_eq!((status.as_u16(), &error["error"]), (400, &json!("invalid_request")));

    let fields = [("grant_type", "refresh_token"), ("refresh_token", kept["refresh_token"].as_str().unwrap())];
    party.provider.faults().refresh_error = None;
    party.provider.set_client(Client {
        client_id: "thief".into(),
        client_secret: Some("s".into()),
        ..Client::default()
    });
    let stolen = party.form("/token", &fields).basic_auth("thief", Some("s")).send().await.unwrap();
    assert_eq!(stolen.status(), 400);
    let (_, wider) = party.call("/token", &[fields[0], fields[1], ("scope", "openid admin")]).await;
    assert_eq!(wider["error"], "invalid_scope");
}

#[tokio::test]
async fn introspection_and_revocation() {
    let party = Party::start().await;
    let opaque = party.provider.issue_opaque_token("alice", &IssueOptions::default());
    assert!(!opaque.contains('.'));
    let (_, told) = party.call("/introspect", &[("token", &opaque)]).await;
    assert_eq!(
        (&told["active"], &told["sub"], &told["client_id"]),
        (&json!(true), &json!("alice"), &json!("doorward"))
    );
    assert_eq!(told["username"], "alice");

    let expired = IssueOptions { lifetime_s: -1, ..IssueOptions::default() };
    assert!(!party.is_active(&party.provider.issue_opaque_token("alice", &expired)).await);
    assert!(!party.is_active("made-up").await);
    let anonymous = party.post("/introspect", &[("token", &opaque)]).await;
    assert_eq!(anonymous.status(), 401);

    let tokens = party.tokens().await;
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let (_, told) = party.call("/introspect", &[("token", refresh)]).await;
    assert_eq!((&told["active"], &told["token_use"]), (&json!(true), &json!("refresh_token")));

    assert_eq!(party.call("/revoke", &[("token", "made-up")]).await.0, 200);
    assert_eq!(party.call("/revoke", &[("token", refresh)]).await.0, 200);
    assert!(!party.is_active(tokens["access_token"].as_str().unwrap()).await, "revoked with its refresh token");
    party.provider.revoke_token(&opaque);
    assert!(!party.is_active(&opaque).await);
    let info = party.http.get(party.url("/userinfo")).bearer_auth(&opaque).send().await.unwrap();
    assert_eq!(info.status(), 401);
    assert!(info.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));
}

#[tokio::test]
async fn sign_out_ends_the_session_and_tells_the_client() {
    let party = Party::start().await;
    let (told, mut logout_tokens) = mpsc::channel::<String>(4);
    let receiver = move |Form(fields): Form<std::collections::HashMap<String, String>>| {
        let told = told.clone();
        async move { told.send(fields["logout_token"].clone()).await.unwrap() }
    };
    let listener = Server::start(0, |_| Router::new().route("/logout", post(receiver))).await.unwrap();
    let uri = format!("http://{}/logout", listener.address());
    party.provider.set_client(Client { backchannel_logout_uri: Some(uri.clone()), ..a_client() });

    let cookie = party.provider.sign_in("alice");
    let code = param(&location(&party.authorize(&a_request(&[]), &cookie).await), "code").unwrap();
    let (_, tokens) = party.exchange(&code).await;
    let id_token = tokens["id_token"].as_str().unwrap();
    let query = |uri: &str| {
        let pairs = [("id_token_hint", id_token), ("post_logout_redirect_uri", uri), ("state", "s 1")];
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    };
    let foreign = party.get(&format!("/end_session?{}", query("http://evil.example/"))).await;
    assert_eq!(foreign.status(), 400);
    assert!(logout_tokens.try_recv().is_err());

    let back = party.get(&format!("/end_session?{}", query("http://localhost:1/oauth2/signed_out"))).await;
    assert_eq!(location(&back).as_str(), "http://localhost:1/oauth2/signed_out?state=s+1");
    let logout_token = logout_tokens.try_recv().unwrap();
    assert_eq!(header_of(&logout_token)["typ"], "logout+jwt");
    let claims = claims_of(&logout_token);
    assert_eq!((&claims["sub"], &claims["aud"]), (&json!("alice"), &json!("doorward")));
    assert_eq!(claims["sid"], claims_of(id_token)["sid"]);
    assert_eq!(claims["events"], json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
    assert!(claims.get("nonce").is_none());

    assert_eq!(party.authorize(&a_request(&[]), &cookie).await.status(), 200, "the form again");
    assert_eq!(party.refresh(&tokens["refresh_token"]).await.0, 400);

    let delivered = party.provider.backchannel_logout("bob").await;
    let expected = LogoutDelivery { client_id: "doorward".into(), uri: uri.clone(), status: Some(200) };
    assert_eq!(delivered, [expected]);
    assert!(claims_of(&logout_tokens.try_recv().unwrap()).get("sid").is_none());
    listener.stop().await;
    let lost = party.provider.backchannel_logout("bob").await;
    assert_eq!(lost, [LogoutDelivery { client_id: "doorward".into(), uri, status: None }]);
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}
