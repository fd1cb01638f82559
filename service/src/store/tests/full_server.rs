//! A disk that fills under a running server: it says so, goes on being read, and goes on where it stood once there is space.

use crate::guard::{Allow, Limits};
use crate::store::sqlite::Sqlite;
use crate::store::{Store, StoreOptions};
use crate::{ServeOptions, Server};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tower::ServiceExt;

fn serve(folder: &Path) -> (Arc<Sqlite>, Router) {
    let store = Arc::new(Sqlite::open(&folder.join("data"), &StoreOptions::default()).unwrap());
    let options = ServeOptions {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: folder.join("data"),
        database: None,
        fsync: false,
        allow: Allow { places: vec![folder.to_string_lossy().into_owned()], ..Allow::default() },
        public_hosts: Vec::new(),
        tls: None,
        insecure_http: false,
        limits: Limits::default(),
        host: curate_api::local(folder).unwrap(),
    };
    let server = Server::over(store.clone() as Arc<dyn Store>, &options).unwrap();
    (store, server.routes())
}

async fn ask(routes: &Router, line: &str, body: &Value) -> (u16, Value) {
    let (method, path) = line.split_once(' ').unwrap();
    let sent = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let mut request = request.header("content-type", "application/json").body(sent).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 9))));
    let answer = routes.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 1 << 24).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Draw a step and say what came of it; the answer to either that was refused.
async fn step(routes: &Router, number: u64) -> Result<Vec<u64>, (u16, Value)> {
    let (status, batch) = ask(routes, "POST /v1/sessions/s/propose", &json!({"step": number, "wait_s": 30})).await;
    if status != 200 {
        return Err((status, batch));
    }
    let rows: Vec<u64> = batch["rows"].as_array().unwrap().iter().map(|row| row["row"].as_u64().unwrap()).collect();
    let losses: Vec<f64> = rows.iter().map(|row| (row % 7) as f64).collect();
    let told = json!({"step": number, "rows": rows, "signals": {"loss": losses}});
    match ask(routes, "POST /v1/sessions/s/feedback", &told).await {
        (200, _) => Ok(rows),
        refused => Err(refused),
    }
}

async fn begin(folder: &Path, routes: &Router) {
    let line = |i: u32| {
        let row = json!({"instruction": format!("Tell of {} number {i}", ["sums", "poems"][i as usize % 2]), "output": "Well."});
        row.to_string() + "\n"
    };
    let rows = folder.join("rows.jsonl");
    std::fs::write(&rows, (0..4000).map(line).collect::<String>()).unwrap();
    let plan = json!({"input": {"paths": [rows]}, "seed": 1, "online": {"use": "kmeans-refine"}});
    let made = ask(routes, "POST /v1/sessions", &json!({"id": "s", "batch": 64, "plan": plan})).await;
    assert_eq!(made.0, 201, "{}", made.1);
}

#[test]
fn a_full_disk_makes_a_server_read_only() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (free, tight) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_store, routes) = serve(free.path());
        begin(free.path(), &routes).await;
        let mut wanted = Vec::new();
        for number in 1..=40 {
            wanted.push(step(&routes, number).await.unwrap());
        }

        let (store, routes) = serve(tight.path());
        begin(tight.path(), &routes).await;
        let mut found = vec![step(&routes, 1).await.unwrap()];
        store.limit_pages(1);
        let (status, problem) = loop {
            assert!(found.len() < 40, "the limit holds");
            match step(&routes, found.len() as u64 + 1).await {
                Ok(rows) => found.push(rows),
                Err(refused) => break refused,
            }
        };
        assert_eq!((status, problem["code"].as_str()), (507, Some("store/full")), "{problem}");
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("free space")), "{problem}");
        for read in ["", "/state", "/history", "/log"] {
            let (status, body) = ask(&routes, &format!("GET /v1/sessions/s{read}"), &Value::Null).await;
            assert_eq!(status, 200, "{read}: {body}");
        }
        let system = ask(&routes, "GET /v1/system", &Value::Null).await.1;
        assert_eq!(system["read_only"], true, "{system}");
        store.limit_pages(1_000_000);
        for number in found.len()..40 {
            found.push(step(&routes, number as u64 + 1).await.unwrap());
        }
        assert_eq!(found, wanted);
        assert_eq!(ask(&routes, "GET /v1/system", &Value::Null).await.1["read_only"], false);
    });
}
