//! A server is started, asked over a plain connection, and told to end.

use crate::live::{Live, sent};
use crate::story::{Story, sample};
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn a_server_on_loopback_from_start_to_end() {
    let story = Story::new();
    let live = Live::start(&story, &["--allow", &sample(), "--log", "json"]);
    assert_eq!(live.ask("GET /health", "", ""), (200, json!({"status": "ok"})));
    assert_eq!(live.ask("GET /health", "Origin: http://evil.example\r\n", "").0, 403);
    let session = |input: &str| {
        let plan = json!({"input": {"paths": [input]}, "select": {"use": "random", "budget": 8}});
        live.ask("POST /v1/sessions", "", &json!({"id": "s", "plan": plan, "batch": 4}).to_string())
    };
    let refused = session("/etc/passwd");
    assert_eq!((refused.0, &refused.1["code"]), (403, &json!("input/not-allowed")));
    assert_eq!(session(&sample()).0, 201);
    let (status, batch) = live.ask("POST /v1/sessions/s/propose", "", r#"{"step": 1, "wait_s": 30}"#);
    assert_eq!((status, batch["rows"].as_array().map(Vec::len)), (200, Some(4)), "{batch}");
    let (status, page) = live.ask("GET /docs", "", "");
    assert!(status == 200 && page.as_str().is_some_and(|page| page.contains("/docs/page.js")));
    live.signal("-TERM");
    let (code, took) = live.ends();
    assert!(code == Some(0) && took < Duration::from_secs(5), "{code:?} after {took:?}");
    let log = std::fs::read_to_string(story.at("log")).expect("a log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let propose = lines.iter().find(|line| line["route"] == "/v1/sessions/{id}/propose").expect("a line a request");
    assert!(propose["status"] == 200 && propose["ms"].is_number() && propose["request_id"].is_string(), "{propose}");
}

#[test]
fn tokens_are_made_listed_heeded_and_removed() {
    let story = Story::new();
    let data = story.at("data");
    let token = |args: &[&str]| {
        let mut all = vec!["serve", "token"];
        all.extend(args);
        all.extend(["--data", &data]);
        story.curate(&all)
    };
    let made = token(&["add", "trainer", "--scope", "feed", "--expires", "30d"]).ok();
    let secret = made.stdout.trim().to_owned();
    assert!(secret.starts_with("cur_") && secret.len() == 68);
    token(&["add", "trainer", "--scope", "read"]).refused("the name is taken", &[2]);
    token(&["add", "x", "--scope", "write"]).refused("no such scope", &[2]);
    token(&["add", "x", "--scope", "read", "--expires", "soon"]).refused("no such time", &[2]);
    let listed = token(&["list"]).ok().stdout;
    assert!(listed.contains("trainer") && listed.contains("feed") && !listed.contains(&secret), "{listed}");
    let live = Live::start(&story, &[]);
    let ask = |path: &str, token: &str| live.ask(path, &format!("Authorization: Bearer {token}\r\n"), "").0;
    assert_eq!(live.ask("GET /v1/sessions", "", "").0, 401);
    assert_eq!((ask("GET /v1/sessions", &secret), ask("GET /v1/sessions", "cur_0")), (200, 401));
    assert_eq!(live.ask("GET /", "", "").0, 200, "the dashboard's page is open");
    token(&["remove", "trainer"]).ok();
    token(&["remove", "trainer"]).refused("it is gone", &[2]);
    let log = std::fs::read_to_string(story.at("log")).expect("a log");
    assert!(log.contains("trainer") && !log.contains(&secret), "the log names tokens and never shows one");
}

#[test]
fn a_server_that_others_reach_wants_tokens_and_tls() {
    let story = Story::new();
    let data = story.at("data");
    let serve = |more: &[&str]| {
        let mut args = vec!["serve", "--data", &data];
        args.extend(more);
        story.curate(&args)
    };
    serve(&["--bind", "0.0.0.0:0"]).refused("no tokens", &[2]);
    serve(&["--bind", "127.0.0.1:0", "--public-host", "x.example"]).refused("no tokens behind a proxy", &[2]);
    story.curate(&["serve", "token", "add", "a", "--scope", "read", "--data", &data]).ok();
    serve(&["--bind", "0.0.0.0:0"]).refused("no TLS", &[2]);
    serve(&["--bind", "somewhere"]).refused("no address", &[2]);
    serve(&["--bind", "127.0.0.1:0", "--allow", "/not/there"]).refused("nothing to allow", &[2]);
    serve(&["--bind", "127.0.0.1:0", "--log-level", "loud"]).refused("no such level", &[2]);
    let cert = story.file("cert.pem", "no certificate");
    serve(&["--bind", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &cert]).refused("no certificate", &[2]);
    let live = Live::start(&story, &[]);
    serve(&["--bind", "127.0.0.1:0"]).refused("another server has the folder", &[2]);
    let elsewhere = story.at("elsewhere");
    story.curate(&["serve", "--bind", &live.address, "--data", &elsewhere]).refused("the port is taken", &[5]);
}

/// A session of which step 1 is drawn: step 2 waits for its feedback, which never comes.
fn one_step(live: &Live) {
    let plan = json!({"input": {"paths": [sample()]}, "online": {"use": "kmeans-refine"}});
    let made = live.ask("POST /v1/sessions", "", &json!({"id": "s", "plan": plan, "batch": 4}).to_string());
    assert_eq!(made.0, 201, "{}", made.1);
    assert_eq!(live.ask("POST /v1/sessions/s/propose", "", r#"{"step": 1, "wait_s": 30}"#).0, 200);
}

#[test]
fn an_interrupt_ends_what_only_waits() {
    let story = Story::new();
    let live = Live::start(&story, &["--allow", &sample()]);
    one_step(&live);
    let body = r#"{"step": 2, "wait_s": 60}"#;
    let hand = |line: &str, body: (usize, &str)| sent(&live.address, line, "", body).expect("the server reads");
    let waiting = hand("POST /v1/sessions/s/propose", (body.len(), body));
    let watching = hand("GET /v1/sessions/s/events", (0, ""));
    std::thread::sleep(Duration::from_millis(500));
    live.signal("-INT");
    let (code, took) = live.ends();
    assert!(code == Some(0) && took < Duration::from_secs(3), "{code:?} after {took:?}");
    let read = |mut stream: TcpStream| {
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("an answer");
        all
    };
    let told = read(waiting);
    assert!(told.starts_with("HTTP/1.1 425") && told.contains("step/not-yet"), "{told}");
    let news = read(watching);
    assert!(news.starts_with("HTTP/1.1 200") && news.contains("event: info"), "{news}");
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let story = Story::new();
    let live = Live::start(&story, &["--allow", &sample()]);
    one_step(&live);
    // a body that never comes is waited for at the first interrupt
    let _slow = sent(&live.address, "POST /v1/sessions/s/propose", "", (100, "{")).expect("the server reads");
    std::thread::sleep(Duration::from_millis(500));
    live.signal("-INT");
    std::thread::sleep(Duration::from_millis(500));
    live.signal("-INT");
    let (code, took) = live.ends();
    assert!(code == Some(130) && took < Duration::from_secs(3), "{code:?} after {took:?}");
}

#[test]
fn a_new_session_of_an_old_name_has_its_own_map() {
    let story = Story::new();
    let live = Live::start(&story, &["--allow", &sample()]);
    let points = |method: Value| {
        let mut plan = json!({"input": {"paths": [sample()]}});
        plan.as_object_mut().expect("an object").extend(method.as_object().expect("an object").clone());
        let body = json!({"id": "s", "plan": plan, "batch": 4}).to_string();
        assert_eq!(live.ask("POST /v1/sessions", "", &body).0, 201);
        let made = (0..300).map(|_| live.ask("GET /v1/sessions/s/map", "", "")).find(|(status, _)| {
            std::thread::sleep(Duration::from_millis(200));
            *status != 425
        });
        let (status, map) = made.expect("the map is made within a minute");
        assert_eq!(status, 200, "{map}");
        assert_eq!(live.ask("DELETE /v1/sessions/s", "", "").0, 204);
        map["points"].as_u64().expect("a number")
    };
    let all = points(json!({"online": {"use": "kmeans-refine"}}));
    let half = points(json!({"select": {"use": "random", "budget": "50%"}}));
    assert_eq!(half, all / 2);
}
