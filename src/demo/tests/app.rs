//! The sample app, and the demo as a whole.

use super::*;

#[tokio::test]
async fn programs_get_json() {
    let app = SampleApp::start(0).await.unwrap();
    let request = http_client()
        .post(format!("http://{}/a%2Fb?c=d", app.address()))
        .header("x-forwarded-user", "alice")
        .header("authorization", "Bearer a-long-secret-token")
        .header("x-twice", "1")
        .header("x-twice", "2");
    let (status, body) = answer(request.send().await.unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&body["method"], &body["path"], &body["user"]),
        (&json!("POST"), &json!("/a%2Fb?c=d"), &json!("alice"))
    );
    let headers = body["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["authorization", "Bearer a-long-secret-token"])));
    assert!(headers.contains(&json!(["x-twice", "1"])) && headers.contains(&json!(["x-twice", "2"])));

    let (_, body) = answer(http_client().get(format!("http://{}/", app.address())).send().await.unwrap()).await;
    assert_eq!(body["user"], Value::Null);
    let address = app.address();
    app.stop().await;
    assert!(http_client().get(format!("http://{address}/")).send().await.is_err());
}

#[tokio::test]
async fn people_get_a_page() {
    let app = SampleApp::start(0).await.unwrap();
    let get = || http_client().get(format!("http://{}/", app.address())).header("accept", "text/html,*/*;q=0.8");
    let anonymous = get().send().await.unwrap().text().await.unwrap();
    assert!(anonymous.contains("No identity") && !anonymous.contains("sign_out"));

    let page = get()
        .header("x-forwarded-user", "f81d4fae")
        .header("x-forwarded-preferred-username", "J%C3%BCrgen + <b>")
        .header("x-forwarded-groups", "admins,a%2Cb")
        .header("cookie", "doorward=0123456789")
        .header("authorization", "Basic")
        .send()
        .await
        .unwrap();
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    let html = page.text().await.unwrap();
    let parts = [
        "Hello, Jürgen + &lt;b&gt;",
        "<li>admins</li><li>a,b</li>",
        "href=\"/oauth2/sign_out\"",
        "<td>doorward=012…</td>",
        "<td>Basic</td>",
        "<td>f81d4fae</td>",
    ];
    for part in parts {
        assert!(html.contains(part), "{part} in {html}");
    }
    assert!(!html.contains("0123456789") && !html.contains("<script"));
}

#[tokio::test]
async fn the_demo_fits_together() {
    let demo = Demo::start(8080).await.unwrap();
    let config = demo.config_yaml(9080);
    let parts = [
        "address: 127.0.0.1:8080".to_owned(),
        "address: 127.0.0.1:9080".to_owned(),
        format!("issuer: {}", demo.provider.issuer()),
        format!("to: http://{}", demo.app.address()),
        "from: http://localhost:8080/public/".to_owned(),
    ];
    for part in parts {
        assert!(config.contains(&part), "{part} in {config}");
    }
    let banner = demo.banner();
    assert!(banner.contains("http://localhost:8080/\n") && banner.contains("user name: alice"), "{banner}");
    let claims = claims_of(&demo.sample_token());
    assert_eq!(
        (&claims["aud"], &claims["groups"], &claims["preferred_username"]),
        (&json!("doorward"), &json!(["admins", "dev"]), &json!("alice"))
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    let names: Vec<_> = demo.users().iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["alice", "bob"]);

    let secret = config.split("client_secret: \"").nth(1).unwrap().split('"').next().unwrap();
    let introspect = http_client()
        .post(format!("{}/introspect", demo.provider.issuer()))
        .basic_auth("doorward", Some(secret))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={}", demo.sample_token()));
    let (status, told) = answer(introspect.send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &told["active"]), (200, &json!(true)));
}
