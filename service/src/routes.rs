//! The table of routes: the router, the scopes and the `OpenAPI` document are all made from it.

use crate::app::App;
use crate::guard::Scope;
use crate::http::{jobs, look, sessions};
use crate::problem::Problem;
use crate::wire::{
    Batch, FeedbackBody, FeedbackDone, JobBody, JobInfo, ProposeBody, SeekBody, SessionInfo, SessionSpec, SteerBody,
};
use axum::Router;
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Makes the schema of a body.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a body or an answer is made of.
#[derive(Clone, Copy)]
pub enum Content {
    /// Nothing.
    Empty,
    /// JSON of this schema.
    Json(SchemaOf),
    /// JSON of this schema, or an Arrow stream.
    JsonOrArrow(SchemaOf),
    /// JSON that `docs/http.md` describes.
    Free,
    /// Something else, of this type.
    Other(&'static str),
}

/// One route.
#[derive(Clone)]
pub struct Route {
    /// `GET`, `POST` or `DELETE`.
    pub method: Method,
    /// Path with `{names}`.
    pub path: &'static str,
    /// Who may call it.
    pub scope: Scope,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// Numbers in the query, with what they mean.
    pub query: &'static [(&'static str, &'static str)],
    /// The body it takes.
    pub body: Content,
    /// Status and content of the answer when all is well.
    pub answer: (u16, Content),
    /// Codes of errors that are its own.
    pub fails: &'static [u16],
    handler: MethodRouter<Arc<App>>,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The schema of errors.
pub fn problem(generator: &mut SchemaGenerator) -> Schema {
    of::<Problem>(generator)
}

const PLACE: &[(&str, &str)] = &[
    ("step", "step, with an Arrow body"),
    ("rank", "rank, with an Arrow body"),
    ("wait_s", "seconds to wait, with an Arrow body"),
];
const PAGE: &[(&str, &str)] = &[("after", "begin behind this number"), ("limit", "most entries")];

impl Route {
    fn new(method: Method, path: &'static str, about: &'static str, handler: MethodRouter<Arc<App>>) -> Self {
        let scope = if method == Method::GET { Scope::Read } else { Scope::Feed };
        let (query, body, answer, fails): (&'static [_], _, _, &'static [u16]) =
            (&[], Content::Empty, (200, Content::Free), &[]);
        Self { method, path, scope, about, query, body, answer, fails, handler }
    }

    fn get(path: &'static str, about: &'static str, handler: MethodRouter<Arc<App>>) -> Self {
        Self::new(Method::GET, path, about, handler)
    }

    fn post(path: &'static str, about: &'static str, handler: MethodRouter<Arc<App>>) -> Self {
        Self::new(Method::POST, path, about, handler)
    }

    fn delete(path: &'static str, about: &'static str, handler: MethodRouter<Arc<App>>) -> Self {
        Self { answer: (204, Content::Empty), ..Self::new(Method::DELETE, path, about, handler) }
    }

    fn takes(self, body: Content) -> Self {
        Self { body, ..self }
    }

    fn gives(self, status: u16, content: Content) -> Self {
        Self { answer: (status, content), ..self }
    }

    fn asks(self, query: &'static [(&'static str, &'static str)]) -> Self {
        Self { query, ..self }
    }

    fn fails(self, fails: &'static [u16]) -> Self {
        Self { fails, ..self }
    }

    fn open(self) -> Self {
        Self { scope: Scope::Open, ..self }
    }
}

/// All routes of the contract.
#[must_use]
pub fn table() -> Vec<Route> {
    let mut all = session_routes();
    all.extend(looking_routes());
    all.extend(job_routes());
    all.extend(server_routes());
    all
}

fn session_routes() -> Vec<Route> {
    use Content::{Json, JsonOrArrow};
    let info = Json(of::<SessionInfo>);
    vec![
        Route::post("/v1/sessions", "Make a session, or attach to the one of this name.", post(sessions::create))
            .takes(Json(of::<SessionSpec>))
            .gives(201, info)
            .fails(&[403, 409]),
        Route::get("/v1/sessions", "All sessions.", get(sessions::list)),
        Route::get("/v1/sessions/{id}", "A session at a glance.", get(sessions::info)).gives(200, info),
        Route::delete("/v1/sessions/{id}", "Remove a session.", delete(sessions::remove)),
        Route::post("/v1/sessions/{id}/propose", "Draw the batch of a step.", post(sessions::propose))
            .takes(JsonOrArrow(of::<ProposeBody>))
            .asks(PLACE)
            .gives(200, JsonOrArrow(of::<Batch>))
            .fails(&[409, 425]),
        Route::post("/v1/sessions/{id}/candidates", "The candidates of the next step.", post(sessions::candidates))
            .takes(Json(of::<ProposeBody>))
            .fails(&[409]),
        Route::post("/v1/sessions/{id}/feedback", "Say what was seen of the rows of a step.", post(sessions::feedback))
            .takes(JsonOrArrow(of::<FeedbackBody>))
            .asks(PLACE)
            .gives(200, Json(of::<FeedbackDone>))
            .fails(&[409, 425]),
        Route::post("/v1/sessions/{id}/seek", "Forget everything after a step.", post(sessions::seek))
            .takes(Json(of::<SeekBody>))
            .gives(200, info)
            .fails(&[409, 425]),
        Route::post("/v1/sessions/{id}/pause", "Withhold batches.", post(sessions::pause))
            .gives(200, info)
            .fails(&[409, 425]),
        Route::post("/v1/sessions/{id}/resume", "Hand out batches again.", post(sessions::resume))
            .gives(200, info)
            .fails(&[409, 425]),
        Route::post("/v1/sessions/{id}/steer", "Multiply the weight of a cluster.", post(sessions::steer))
            .takes(Json(of::<SteerBody>))
            .fails(&[404, 409, 425]),
    ]
}

fn looking_routes() -> Vec<Route> {
    vec![
        Route::get("/v1/sessions/{id}/state", "Clusters, posteriors and memory of the method.", get(look::state))
            .asks(&[(
                "words",
                "true: begin to find words of the clusters where there are none yet, and tell what was steered",
            )])
            .fails(&[409, 425]),
        Route::get("/v1/sessions/{id}/map", "The corpus on a plane.", get(look::map)).fails(&[409, 422, 425]),
        Route::get("/v1/sessions/{id}/groups/{group}", "A cluster: words, examples, scores.", get(look::group))
            .fails(&[404, 409, 422, 425]),
        Route::get("/v1/sessions/{id}/history", "One point a step.", get(look::history)).asks(PAGE),
        Route::get("/v1/sessions/{id}/events", "Live news.", get(look::events))
            .gives(200, Content::Other("text/event-stream")),
        Route::get("/v1/sessions/{id}/rows/{row}", "A row.", get(look::row)).fails(&[409, 425]),
        Route::get("/v1/sessions/{id}/log", "Every accepted call.", get(look::log))
            .asks(PAGE)
            .gives(200, Content::Other("application/x-ndjson")),
    ]
}

fn job_routes() -> Vec<Route> {
    use Content::Json;
    vec![
        Route::post("/v1/jobs", "Run a plan.", post(jobs::create))
            .takes(Json(of::<JobBody>))
            .gives(201, Json(of::<JobInfo>))
            .fails(&[403, 409]),
        Route::get("/v1/jobs", "All jobs.", get(jobs::list)),
        Route::get("/v1/jobs/{id}", "A job at a glance.", get(jobs::info)).gives(200, Json(of::<JobInfo>)),
        Route::delete("/v1/jobs/{id}", "Cancel a job that runs, remove one that ended.", delete(jobs::remove)),
        Route::get("/v1/jobs/{id}/events", "Live news.", get(jobs::events))
            .gives(200, Content::Other("text/event-stream")),
        Route::get("/v1/jobs/{id}/result", "The file that the job wrote.", get(jobs::result))
            .gives(200, Content::Other("application/octet-stream"))
            .fails(&[409, 416]),
        Route::get("/v1/jobs/{id}/manifest", "What the job did.", get(jobs::manifest)).fails(&[409]),
    ]
}

fn server_routes() -> Vec<Route> {
    vec![
        Route::get("/v1/algorithms", "Every method with its parameters.", get(look::algorithms)),
        Route::get("/v1/system", "Load of the server.", get(look::system)),
        Route::get("/health", "Whether the server works.", get(look::health)).open(),
        Route::get("/metrics", "Counters for Prometheus.", get(look::metrics)).gives(200, Content::Other("text/plain")),
        Route::get("/openapi.json", "This contract.", get(look::openapi)).open(),
    ]
}

/// The router of the table.
pub(crate) fn router(app: Arc<App>) -> Router {
    let router = table().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    router.fallback(look::nowhere).method_not_allowed_fallback(look::not_that_way).with_state(app)
}

/// The scope of a route.
#[must_use]
pub fn scope_of(method: &Method, path: &str) -> Option<Scope> {
    static SCOPES: OnceLock<BTreeMap<(String, &'static str), Scope>> = OnceLock::new();
    let scopes = SCOPES.get_or_init(|| table().iter().map(|r| ((r.method.to_string(), r.path), r.scope)).collect());
    scopes.iter().find(|((m, p), _)| m == method.as_str() && *p == path).map(|(_, scope)| *scope)
}
