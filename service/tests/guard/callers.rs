//! Tokens, scopes, names, rates.

use crate::support::{House, problem, request};
use axum::body::Body;
use curate_service::guard::Limits;
use std::time::Duration;

fn told(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("authorization", format!("Bearer {token}"))]
}

async fn with(house: &House, line: &str, token: &str) -> (u16, String) {
    let headers = bearer(token);
    house.told(line, &[(headers[0].0, &headers[0].1)]).await
}

#[tokio::test]
async fn every_scope_opens_what_it_says() {
    let house = House::new(&Limits::default());
    let [read, feed, admin] = ["read", "feed", "admin"].map(|scope| house.token(scope, &[scope], None));
    for (token, good) in [(&read, [true, false, false]), (&feed, [true, true, false]), (&admin, [true, true, true])] {
        for (line, good) in ["GET /read/1", "POST /feed", "DELETE /admin"].into_iter().zip(good) {
            let (status, code) = with(&house, line, token).await;
            assert_eq!(status < 400, good, "{line}");
            assert_eq!(code, if good { "ok" } else { "auth/scope" }, "{line}");
        }
    }
    assert_eq!(with(&house, "HEAD /read/1", &read).await.0, 200);
    let refused = house.ask(request("HEAD /read/1", &[], Body::empty())).await;
    let status = refused.status().as_u16();
    let body = axum::body::to_bytes(refused.into_body(), 1000).await.unwrap();
    assert_eq!((status, body.len()), (401, 0));
}

#[tokio::test]
async fn without_a_good_token_nobody_comes_in() {
    let house = House::new(&Limits::default());
    house.token("good", &["admin"], None);
    let old = house.token("old", &["admin"], Some(-1.0));
    for (value, code) in [
        (None, "auth/missing"),
        (Some("Basic YTpi"), "auth/missing"),
        (Some("Bearer"), "auth/missing"),
        (Some("Bearer "), "auth/missing"),
        (Some("Bearer cur_0000"), "auth/invalid"),
    ] {
        let headers: Vec<(&str, &str)> = value.iter().map(|value| ("authorization", *value)).collect();
        assert_eq!(house.told("GET /read/1", &headers).await, told(401, code), "{value:?}");
    }
    assert_eq!(with(&house, "GET /read/1", &old).await, told(401, "auth/expired"));
    assert_eq!(house.told("GET /open", &[]).await, told(200, "ok"));
    let refused = house.ask(request("GET /read/1", &[], Body::empty())).await;
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn a_removed_token_is_forgotten_soon() {
    let house = House::new(&Limits::default());
    house.token("stays", &["read"], None);
    let token = house.token("goes", &["read"], None);
    assert_eq!(with(&house, "GET /read/1", &token).await.0, 200);
    assert!(house.store.remove_token("goes").unwrap());
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(with(&house, "GET /read/1", &token).await, told(401, "auth/invalid"));
}

#[tokio::test]
async fn loopback_is_open_until_there_is_a_token() {
    let house = House::new(&Limits::default());
    assert_eq!(house.told("DELETE /admin", &[]).await, told(204, "ok"));
    house.token("first", &["read"], None);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(house.told("DELETE /admin", &[]).await, told(401, "auth/missing"));
    let elsewhere = House::with_open(&Limits::default(), false);
    assert_eq!(elsewhere.told("GET /read/1", &[]).await, told(401, "auth/missing"));
}

#[tokio::test]
async fn pages_of_other_sites_get_nothing() {
    let house = House::new(&Limits::default());
    assert_eq!(house.told("GET /read/1", &[("host", "rebound.example")]).await, told(403, "auth/host"));
    let foreign = [("origin", "http://evil.example")];
    assert_eq!(house.told("POST /feed", &foreign).await, told(403, "auth/origin"));
    assert_eq!(house.told("GET /open", &foreign).await, told(403, "auth/origin"));
    assert_eq!(house.told("POST /feed", &[("origin", "http://localhost:7878")]).await, told(200, "ok"));
    let plain = request("GET /open", &[], Body::empty());
    let answer = house.ask(plain).await;
    assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let house = House::new(&Limits { rate: 2.0, ..Limits::default() });
    let [eager, calm] = ["eager", "calm"].map(|name| house.token(name, &["read"], None));
    for _ in 0..4 {
        assert_eq!(with(&house, "GET /read/1", &eager).await.0, 200);
    }
    let headers = bearer(&eager);
    let refused = house.ask(request("GET /read/1", &[(headers[0].0, &headers[0].1)], Body::empty())).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(problem(refused).await, told(429, "rate/limited"));
    assert_eq!(with(&house, "GET /read/1", &calm).await.0, 200, "another token has its own rate");
    for _ in 0..4 {
        assert_eq!(house.told("GET /read/1", &[]).await.0, 401, "an address is not a token");
    }
    assert_eq!(house.told("GET /read/1", &[]).await.0, 429, "guessing is bounded, too");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(with(&house, "GET /read/1", &eager).await.0, 200);
}
