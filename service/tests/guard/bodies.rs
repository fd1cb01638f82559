//! Bodies: type, size, time.

use crate::support::{House, problem, request};
use axum::body::Body;
use bytes::Bytes;
use curate_service::guard::{ARROW, JSON, Limits};
use futures::{StreamExt, stream};
use std::convert::Infallible;
use std::time::Duration;

const KIB: usize = 1024;

fn small() -> Limits {
    Limits { body_bytes: 16 * KIB as u64, bodies_bytes: 40 * KIB as u64, ..Limits::default() }
}

async fn send(house: &House, headers: &[(&str, &str)], body: Body) -> (u16, String) {
    problem(house.ask(request("POST /feed", headers, body)).await).await
}

/// A body whose length is not told beforehand.
fn pieces(count: usize, pause: Duration) -> Body {
    let piece = move |_| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, Infallible>(Bytes::from(vec![b' '; KIB]))
    };
    Body::from_stream(stream::iter(0..count).then(piece))
}

#[tokio::test]
async fn only_types_that_are_read() {
    let house = House::new(&small());
    let code = async |kind: &str| send(&house, &[("content-type", kind)], Body::from("{}")).await.1;
    assert_eq!(code(JSON).await, "ok");
    assert_eq!(code("Application/JSON; charset=utf-8").await, "ok");
    assert_eq!(code(ARROW).await, "arrow/malformed", "its heads are looked at");
    let nothing = request("POST /feed", &[("content-type", ARROW)], Body::empty());
    assert_eq!(problem(house.ask(nothing).await).await.0, 200);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""] {
        assert_eq!(code(kind).await, "body/type", "{kind}");
    }
    assert_eq!(send(&house, &[], Body::from("{}")).await, (415, "body/type".into()));
    assert_eq!(send(&house, &[], Body::empty()).await.0, 200, "no body needs no type");
    let zipped = [("content-type", JSON), ("content-encoding", "gzip")];
    assert_eq!(send(&house, &zipped, Body::from("{}")).await, (415, "body/type".into()));
}

#[tokio::test]
async fn a_body_has_a_largest_size_told_or_not() {
    let house = House::new(&small());
    let json = [("content-type", JSON)];
    assert_eq!(send(&house, &json, Body::from(vec![b' '; 16 * KIB])).await.0, 200);
    assert_eq!(send(&house, &json, Body::from(vec![b' '; 16 * KIB + 1])).await, (413, "body/too-large".into()));
    assert_eq!(send(&house, &json, pieces(16, Duration::ZERO)).await.0, 200);
    assert_eq!(send(&house, &json, pieces(17, Duration::ZERO)).await, (413, "body/too-large".into()));
}

#[tokio::test]
async fn all_bodies_together_have_one_too() {
    let house = House::new(&small());
    let json = [("content-type", JSON)];
    let slow = |_| send(&house, &json, pieces(15, Duration::from_millis(20)));
    let answers = futures::future::join_all((0..4).map(slow)).await;
    let refused = answers.iter().filter(|answer| **answer == (503, "server/busy".into())).count();
    let taken = answers.iter().filter(|answer| answer.0 == 200).count();
    assert!(refused > 0 && taken > 0 && refused + taken == 4, "{answers:?}");
    assert_eq!(send(&house, &json, pieces(15, Duration::ZERO)).await.0, 200, "the memory is free again");
}

#[tokio::test]
async fn a_body_must_come_in_time() {
    let house = House::new(&Limits { body_wait: Duration::from_millis(200), ..small() });
    let json = [("content-type", JSON)];
    assert_eq!(send(&house, &json, pieces(10, Duration::from_millis(60))).await, (408, "body/slow".into()));
    assert_eq!(send(&house, &json, pieces(10, Duration::from_millis(1))).await.0, 200);
}
