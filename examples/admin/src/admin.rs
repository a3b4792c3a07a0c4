//! What an operator asks for: is it ready, what has it done, which keys are there; and the end of a
//! key, or of all.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use rustls_resumption::stats::HeldStek;
use rustls_resumption::{KeyName, Resumption, Stats};
use serde_json::{Value, json};

#[derive(Clone)]
struct Admin {
    resumption: Resumption,
    token: Arc<str>,
}

pub(crate) fn routes(resumption: Resumption, token: String) -> Router {
    let token = token.into();
    Router::new()
        .route("/ready", get(ready))
        .route("/stats", get(stats))
        .route("/steks", get(steks))
        .route("/revoke/{name}", post(revoke))
        .with_state(Admin { resumption, token })
}

/// For a probe that waits until the server has its keys.
async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    match admin.resumption.ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "no STEK yet\n"),
    }
}

async fn stats(State(admin): State<Admin>) -> Json<Stats> {
    Json(admin.resumption.stats())
}

async fn steks(State(admin): State<Admin>) -> Json<Vec<HeldStek>> {
    Json(admin.resumption.steks())
}

/// Ends one STEK by its name, or everything by the name `all`.
async fn revoke(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, (StatusCode, String)> {
    let given = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes());
    let given = given
        .and_then(|value| value.strip_prefix(b"Bearer "))
        .unwrap_or_default();
    verify_slices_are_equal(given, admin.token.as_bytes()).map_err(|_| {
        (
            StatusCode::UNAUTHORIZED,
            "a bearer token is needed\n".to_owned(),
        )
    })?;
    let key: Option<KeyName> = match &*name {
        "all" => None,
        name => Some(
            name.parse()
                .map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?,
        ),
    };
    // It waits for the STEK source.
    let revoking = tokio::task::spawn_blocking(move || match key {
        Some(key) => admin.resumption.revoke(&key),
        None => admin.resumption.revoke_all(),
    });
    let withdrawn = revoking
        .await
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Json(json!({
        "steks": withdrawn.steks,
        "sessions": withdrawn.sessions,
        "reach": format!("{:?}", withdrawn.reach),
    })))
}
