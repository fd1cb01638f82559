//! What surrounds every answer: ids, headers, one shape of errors, figures, time.

use crate::support::{House, json, request};
use axum::body::Body;
use curate_service::guard::Limits;
use std::time::Duration;

#[tokio::test]
async fn a_request_has_an_id_everywhere() {
    let house = House::new(&Limits::default());
    let id = async |given: &str| {
        let answer = house.ask(request("GET /nowhere", &[("x-request-id", given)], Body::empty())).await;
        let header = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(json(answer).await["request_id"], header.as_str());
        header
    };
    assert_eq!(id("trainer-7.step_42").await, "trainer-7.step_42");
    for odd in ["", "a b", "<script>", "é", "a\"b", &"a".repeat(65)] {
        let drawn = id(odd).await;
        assert!(drawn.len() == 16 && drawn.bytes().all(|b| b.is_ascii_hexdigit()), "{drawn}");
    }
    assert_ne!(id("").await, id("").await);
}

#[tokio::test]
async fn errors_of_the_framework_have_the_same_shape() {
    let house = House::new(&Limits::default());
    assert_eq!(house.told("GET /nowhere", &[]).await, (404, "path/unknown".into()));
    assert_eq!(house.told("PATCH /open", &[]).await, (405, "method/not-allowed".into()));
    assert_eq!(house.told("TEAPOT /open", &[]).await, (405, "method/not-allowed".into()));
}

#[tokio::test]
async fn a_defect_is_a_500_that_tells_nothing() {
    let house = House::new(&Limits::default());
    let answer = house.ask(request("GET /panic", &[], Body::empty())).await;
    assert_eq!(answer.status(), 500);
    let body = json(answer).await;
    assert_eq!(body["code"], "server/defect");
    assert!(!body.to_string().contains("secret"));
    assert_eq!(house.told("GET /open", &[]).await.0, 200, "and the server goes on");
}

#[tokio::test]
async fn browsers_are_told_to_be_careful() {
    let house = House::new(&Limits::default());
    let answer = house.ask(request("GET /open", &[], Body::empty())).await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap();
    assert_eq!((header("x-content-type-options"), header("cache-control")), ("nosniff", "no-store"));
    assert!(header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
    assert_eq!(header("referrer-policy"), "no-referrer");
}

#[tokio::test]
async fn figures_count_routes_not_paths() {
    let house = House::new(&Limits::default());
    for path in ["/read/1", "/read/2", "/read/3", "/nowhere/1", "/nowhere/2"] {
        house.ask(request(&format!("GET {path}"), &[], Body::empty())).await;
    }
    house.ask(request("POST /feed", &[("content-type", "application/json")], Body::from("12345"))).await;
    house.ask(request("INVENTED /open", &[], Body::empty())).await;
    let text = house.meter.text(&[]);
    let count = |labels: &str| format!("curate_request_duration_seconds_count{{{labels}}}");
    for line in [
        format!("{} 3", count("route=\"/read/{id}\",method=\"GET\",status=\"200\"")),
        format!("{} 2", count("route=\"none\",method=\"GET\",status=\"404\"")),
        format!("{} 1", count("route=\"/open\",method=\"other\",status=\"405\"")),
        "curate_request_bytes_total 5".to_owned(),
        "curate_requests_in_flight 0".to_owned(),
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert_eq!(house.meter.requests(), 7);
}

#[tokio::test]
async fn an_answer_must_begin_in_time_and_places_are_few() {
    let limits = Limits { request_wait: Duration::from_millis(300), requests: 2, ..Limits::default() };
    let house = House::new(&limits);
    let long = || house.told("GET /long", &[]);
    let third = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        house.told("GET /open", &[]).await
    };
    let (first, second, third) = tokio::join!(long(), long(), third);
    assert_eq!((first.0, second.0), (503, 503));
    assert_eq!(third, (503, "server/busy".into()));
    assert_eq!(house.told("GET /open", &[]).await.0, 200, "the places are free again");
}
