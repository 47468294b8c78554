//! `GET /v1/models`: the base and its adapters.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::ok;
use crate::app::App;
use crate::error::ApiError;
use crate::served::{Name, Served};

pub(super) async fn list(State(app): State<App>) -> Result<Response, ApiError> {
    let served = app.served()?;
    let data: Vec<Value> = served.names.iter().map(|name| entry(&served, name)).collect();
    Ok(ok(json!({"object": "list", "data": data})))
}

pub(super) async fn one(State(app): State<App>, Path(asked): Path<String>) -> Result<Response, ApiError> {
    let served = app.served()?;
    Ok(ok(entry(&served, served.name(&asked)?)))
}

fn entry(served: &Served, name: &Name) -> Value {
    json!({
        "id": &*name.name,
        "object": "model",
        "created": served.created,
        "owned_by": "slipway",
        "root": name.root,
        "parent": name.parent,
        "max_model_len": served.max_tokens,
        "task": served.task,
    })
}

/// `GET /`: what a person sees who opens the address in a browser.
pub(super) async fn about(State(app): State<App>) -> Result<Response, ApiError> {
    let served = app.served()?;
    let names: Vec<&str> = served.names.iter().map(|name| &*name.name).collect();
    Ok(ok(json!({
        "server": concat!("slipway-server ", env!("CARGO_PKG_VERSION")),
        "models": names,
        "task": served.task,
    })))
}
