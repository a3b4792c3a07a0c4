//! The page, the status that it polls, and its three buttons.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Html, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use rustls_resumption::Stats;
use rustls_resumption::stats::{CacheStats, Refused, TicketStats};
use serde_json::{Value, json};

use crate::demo::Demo;
use crate::visit::Visit;

pub(crate) fn routes(demo: Arc<Demo>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status", get(status))
        .route("/do/{what}", post(act))
        .layer(map_response(set_headers))
        .with_state(demo)
}

/// Closes the connection after each response, so that the next request makes a new handshake. A
/// server in production keeps connections open, of course.
async fn set_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  connect-src 'self'; img-src data:";
    for (name, value) in [
        (header::CONNECTION, "close"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn page(
    State(demo): State<Arc<Demo>>,
    Extension(visit): Extension<Visit>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Html<String> {
    let mut status = describe(&demo, &visit);
    status["buttons"] = peer.ip().is_loopback().into();
    let verdict = match visit.is_resumed() {
        true => "resumed",
        false => "full",
    };
    let page = include_str!("page.html").replace("{{verdict}}", verdict);
    Html(page.replace("{{status}}", &status.to_string()))
}

async fn status(State(demo): State<Arc<Demo>>, Extension(visit): Extension<Visit>) -> Json<Value> {
    Json(describe(&demo, &visit))
}

/// For users of this machine. The required header keeps other pages from sending it.
async fn act(
    State(demo): State<Arc<Demo>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path(what): Path<String>,
) -> Result<StatusCode, (StatusCode, String)> {
    if !peer.ip().is_loopback() || !headers.contains_key("x-axum-example") {
        return Err((StatusCode::FORBIDDEN, "from this machine only".into()));
    }
    let failed = |error: &dyn ToString| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    match what.as_str() {
        "rotate" => demo.resumption.rotate_now().map_err(|e| failed(&e))?,
        "renew" => demo.reload().map_err(|e| failed(&e))?,
        "revoke" => {
            let _ = demo.resumption.revoke_all();
            demo.note("revoked");
        }
        _ => return Err((StatusCode::NOT_FOUND, "rotate, renew or revoke".into())),
    }
    Ok(StatusCode::NO_CONTENT)
}

fn describe(demo: &Demo, visit: &Visit) -> Value {
    let stats = demo.resumption.stats();
    let [full, resumed, failed] = demo.handshakes.counts();
    let history = demo.history.lock();
    let events: Vec<_> = history
        .events
        .iter()
        .map(|(at, what)| json!({"ago": at.elapsed().as_secs_f64(), "what": what}))
        .collect();
    json!({
        "visit": {
            "number": visit.number,
            "resumed": visit.is_resumed(),
            "handshake": visit.handshake.to_string(),
            "version": visit.version.and_then(|v| Some(v.as_str()?.replace("TLSv", "TLS ").replace('_', "."))),
            "suite": visit.suite.and_then(|suite| suite.suite().as_str()),
            "micros": visit.took.as_micros() as u64,
        },
        "handshakes": {"full": full, "resumed": resumed, "failed": failed},
        "history": history.seconds,
        "events": events,
        "certificates": demo.certificates(),
        "ring": ring(&stats),
        "cache": cache(&stats.cache),
        "why": why_not(&stats),
    })
}

/// `null` in stateful mode.
fn ring(stats: &Stats) -> Value {
    let steks = &stats.steks;
    if steks.source.is_empty() {
        return Value::Null;
    }
    json!({
        "active": steks.active.map(|name| name.to_string()),
        "age": steks.active_age.map(|age| age.as_secs_f64()),
        "interval": steks.interval.map(|interval| interval.as_secs_f64()),
        "keys": steks.keys,
        "rotations": steks.rotations,
        "revocations": steks.revocations,
        "source": steks.source,
        "fallen_back": steks.fallen_back,
        "sealed": stats.tickets.sealed,
        "opened": stats.tickets.opened,
    })
}

fn cache(cache: &CacheStats) -> Value {
    json!({
        "entries": cache.entries,
        "max_entries": cache.max_entries,
        "bytes": cache.bytes,
        "stored": cache.stored,
        "hits": cache.hits,
    })
}

/// Why clients that offered a session did not resume.
fn why_not(stats: &Stats) -> Vec<(&'static str, u64)> {
    let TicketStats { refused, .. } = stats.tickets;
    let Refused {
        unknown_key_name,
        too_long,
        malformed,
        forged,
        wrong_scope,
        expired_key,
        too_old,
        revoked,
        ..
    } = refused;
    let misses = stats.cache.misses;
    let reasons = [
        ("ticket: unknown key name", unknown_key_name),
        ("ticket: its key has expired", expired_key),
        ("ticket: revoked", revoked),
        ("ticket: session too old", too_old),
        ("ticket: wrong scope", wrong_scope),
        ("ticket: forged", forged),
        ("ticket: malformed", malformed + too_long),
        ("session: unknown", misses.unknown),
        ("session: expired", misses.expired),
        ("session: other TLS version", misses.other_version),
        ("session: malformed ID", misses.malformed),
    ];
    reasons
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect()
}
