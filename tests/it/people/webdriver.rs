//! A browser by the WebDriver protocol (W3C WebDriver 2), as much of it as the tests need: Debian's Chromium, driven by
//! its chromedriver. It ends with its handle, with every process that it began.

use crate::gateway::Folder;
use crate::oidc::http;
use crate::wait::{free_port, until};
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub struct Browser {
    http: reqwest::Client,
    /// Where the session's commands go.
    session: String,
    driver: Child,
    _profile: Folder,
}

const FLAGS: &str = "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync";
/// How WebDriver marks an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    pub async fn start() -> Self {
        let (http, profile, port) = (http(), Folder::new(), free_port());
        let driver = Command::new("/usr/bin/chromedriver")
            .args([format!("--port={port}"), "--log-level=OFF".to_owned()])
            .env("HOME", profile.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver is missing: run ./test.sh once");
        let origin = format!("http://127.0.0.1:{port}");
        let mut browser = Browser { http, session: origin.clone(), driver, _profile: profile };
        until("chromedriver", async || browser.http.get(format!("{origin}/status")).send().await.ok()).await;
        let folder = format!("--user-data-dir={}", browser._profile.path("profile").display());
        let flags: Vec<&str> = FLAGS.split_whitespace().chain([folder.as_str()]).collect();
        let options = json!({"binary": "/usr/bin/chromium", "args": flags});
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}});
        let opened = browser.post("/session", wanted).await;
        browser.session = format!("{origin}/session/{}", opened["sessionId"].as_str().unwrap());
        browser
    }

    pub async fn go(&self, url: &str) {
        self.post("/url", json!({"url": url})).await;
    }

    pub async fn url(&self) -> String {
        text_of(&self.get("/url").await)
    }

    /// The text that a person sees.
    pub async fn text(&self) -> String {
        text_of(&self.script("return document.body ? document.body.innerText : ''").await)
    }

    pub async fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Nobody is kept out of the page in front: no rule of axe-core, of WCAG or good practice, is broken.
    pub async fn assert_accessible(&self, name: &str) {
        let axe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/axe/node_modules/axe-core/axe.min.js");
        let axe = std::fs::read_to_string(axe).expect("axe-core is missing: run ./test.sh once");
        self.script(&axe).await;
        let run = "return axe.run({preload: false}).then(found => ({
            passed: found.passes.length,
            broken: found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.failureSummary).join('; '))
        }))";
        let found = self.script(run).await;
        assert!(found["passed"].as_u64().unwrap() >= 10, "{name}: {found}");
        assert_eq!(found["broken"], json!([]), "{name}");
    }

    /// Types into the one element of a selector.
    pub async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.post(&format!("/element/{element}/value"), json!({"text": text})).await;
    }

    pub async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Waits until the page says this.
    pub async fn until_it_says(&self, words: &str) -> String {
        let what = format!("a page that says {words:?}");
        until(&what, async || Some(self.text().await).filter(|text| text.contains(words))).await
    }

    /// Opens another tab and goes on there; its handle.
    pub async fn new_tab(&self) -> String {
        let handle = text_of(&self.post("/window/new", json!({"type": "tab"})).await["handle"]);
        self.switch_to(&handle).await;
        handle
    }

    pub async fn switch_to(&self, handle: &str) {
        self.post("/window", json!({"handle": handle})).await;
    }

    /// The cookies of the page in front, HttpOnly ones among them.
    pub async fn cookies(&self) -> Vec<Value> {
        self.get("/cookie").await.as_array().unwrap().clone()
    }

    /// The page in front as PNG, as wide as this, with this preference.
    pub async fn picture(&self, width: u32, dark: bool) -> Vec<u8> {
        let size = json!({"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }});
        self.devtools("Emulation.setEmulatedMedia", json!({"features": [scheme]})).await;
        BASE64.decode(self.get("/screenshot").await.as_str().unwrap().as_bytes()).unwrap()
    }

    async fn devtools(&self, command: &str, params: Value) {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": params})).await;
    }

    async fn find(&self, selector: &str) -> String {
        let wanted = json!({"using": "css selector", "value": selector});
        let found = until(selector, async || self.try_post("/element", &wanted).await.ok()).await;
        text_of(&found[ELEMENT])
    }

    async fn get(&self, command: &str) -> Value {
        let reply = self.http.get(format!("{}{command}", self.session)).send().await.unwrap();
        reply.json::<Value>().await.unwrap()["value"].take()
    }

    async fn post(&self, command: &str, body: Value) -> Value {
        self.try_post(command, &body).await.unwrap_or_else(|problem| panic!("{command} {body}: {problem}"))
    }

    async fn try_post(&self, command: &str, body: &Value) -> Result<Value, Value> {
        let reply = self.http.post(format!("{}{command}", self.session)).json(body).send().await.unwrap();
        let good = reply.status().is_success();
        let mut value = reply.json::<Value>().await.unwrap()["value"].take();
        if good { Ok(value) } else { Err(value["message"].take()) }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver leads the group of the browser that it began.
        let group = format!("kill -KILL -{}", self.driver.id());
        let _ = Command::new("sh").args(["-c", &group]).status();
        let _ = self.driver.wait();
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
