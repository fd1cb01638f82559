//! Live news: server-sent events.

use crate::app::aside;
use crate::guard::Stopping;
use crate::jobs::Job;
use crate::session::{Session, Told};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

type One = Result<Event, Infallible>;

/// A stream of these cannot fail; the type of streams asks for a result.
#[expect(clippy::unnecessary_wraps, reason = "the items of a stream of events are results")]
fn event(kind: &str, id: Option<u64>, data: &Value) -> One {
    let event = Event::default().event(kind).data(data.to_string());
    Ok(id.map_or(event.clone(), |id| event.id(id.to_string())))
}

/// Ends with the server.
fn sent(news: impl Stream<Item = One> + Send + 'static, stopping: Stopping) -> Sse<impl Stream<Item = One>> {
    let end = async move { stopping.wait().await };
    Sse::new(news.take_until(Box::pin(end))).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

/// News of a session: what it is, points missed since `last`, then everything new.
pub(crate) fn session(session: Arc<Session>, last: Option<u64>, stopping: Stopping) -> Sse<impl Stream<Item = One>> {
    let news = session.watch().1;
    let own = session.clone();
    let first = stream::once(async move {
        let found = aside(move || {
            let info = json!(own.info());
            let missed = last.map(|last| own.history(last, 2000)).transpose()?;
            Ok((info, missed))
        })
        .await;
        let Ok((info, missed)) = found else { return stream::iter(Vec::new()) };
        let mut all = vec![event("info", None, &info)];
        for point in missed.iter().filter_map(|missed| missed["points"].as_array()).flatten() {
            all.push(event("point", point["step"].as_u64(), point));
        }
        stream::iter(all)
    })
    .flatten();
    let rest = stream::unfold((session, news), |(session, mut news)| async move {
        let told = match news.recv().await {
            Ok(told) => told,
            Err(RecvError::Lagged(_)) => Told { kind: "info", step: 0, data: Value::Null },
            Err(RecvError::Closed) => return None,
        };
        let one = match told.kind {
            "info" => {
                let own = session.clone();
                let info = aside(move || Ok(json!(own.info()))).await.unwrap_or_default();
                event("info", None, &info)
            }
            kind => event(kind, (kind == "point").then_some(told.step), &told.data),
        };
        Some((one, (session, news)))
    });
    sent(first.chain(rest), stopping)
}

/// News of a job, a few times a second while something changes, until it ends.
pub(crate) fn job(job: Arc<Job>, stopping: Stopping) -> Sse<impl Stream<Item = One>> {
    let steps = stream::unfold((job, Value::Null, false), |(job, before, done)| async move {
        if done {
            return None;
        }
        loop {
            let own = job.clone();
            let info = aside(move || Ok(json!(own.info()))).await.unwrap_or_default();
            let done = !["queued", "running"].contains(&info["status"].as_str().unwrap_or_default());
            if info != before || done {
                let kind = if done { "done" } else { "progress" };
                return Some((event(kind, None, &info), (job, info, done)));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    });
    sent(steps, stopping)
}
