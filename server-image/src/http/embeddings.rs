//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use slipway_contract::Task;

use super::{Body, Record, off_runtime, ok, with_model};
use crate::app::App;
use crate::error::ApiError;
use crate::openai::{Fields, Input};

/// Inputs one request may have, as many as OpenAI takes.
pub(super) const MAX_INPUTS: usize = 2048;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Encoding {
    Float,
    Base64,
}

struct EmbeddingRequest {
    model: String,
    inputs: Vec<Input>,
    encoding: Encoding,
    dimensions: Option<usize>,
}

impl EmbeddingRequest {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut body = Fields::parse(body)?;
        let model = body.required("model")?;
        let inputs = Input::parse("input", body.required("input")?)?;
        let encoding = match body.optional::<String>("encoding_format")?.as_deref() {
            None | Some("float") => Encoding::Float,
            Some("base64") => Encoding::Base64,
            Some(other) => {
                return Err(ApiError::invalid(
                    "encoding_format",
                    format!("encoding_format must be float or base64, not {other:?}"),
                ));
            }
        };
        let dimensions = body.optional("dimensions")?;
        body.finish()?;
        too_many("input", inputs.len())?;
        Ok(Self {
            model,
            inputs,
            encoding,
            dimensions,
        })
    }
}

pub(super) fn too_many(param: &str, inputs: usize) -> Result<(), ApiError> {
    if inputs > MAX_INPUTS {
        return Err(ApiError::invalid(
            param,
            format!("{param} has {inputs} texts; at most {MAX_INPUTS} are taken at once"),
        ));
    }
    Ok(())
}

pub(super) async fn handle(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let served = app.served()?;
    served.needs(Task::Embedding, "/v1/embeddings")?;
    let (request, texts) = off_runtime({
        let served = served.clone();
        move || {
            let request = EmbeddingRequest::parse(&body)?;
            served.name(&request.model)?;
            if let Some(asked) = request.dimensions.filter(|&asked| asked != served.width) {
                return Err(ApiError::invalid(
                    "dimensions",
                    format!(
                        "dimensions is {asked}, but this model's embeddings have {}; leave it out",
                        served.width
                    ),
                ));
            }
            let texts = request
                .inputs
                .iter()
                .enumerate()
                .map(|(place, input)| {
                    let param = if request.inputs.len() == 1 {
                        "input".into()
                    } else {
                        format!("input[{place}]")
                    };
                    served.tokens(&param, input, 0)
                })
                .collect::<Result<Vec<_>, _>>()?;
            Ok((request, texts))
        }
    })
    .await?;
    let name = served.name(&request.model)?;
    record.model(&name.name);
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let vectors = served
        .compute(name, texts, served.width, record.arrived())
        .await?;
    record.tokens(tokens, 0);
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            json!({"object": "embedding", "index": index, "embedding": encode(vector, request.encoding)})
        })
        .collect();
    let body = json!({
        "object": "list",
        "data": data,
        "model": &*name.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    Ok(with_model(ok(body), &name.name))
}

/// Numbers, or the base64 of little-endian 32-bit floats.
fn encode(vector: &[f32], encoding: Encoding) -> Value {
    match encoding {
        Encoding::Float => json!(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            json!(STANDARD.encode(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_little_endian() {
        assert_eq!(encode(&[1.0, -2.0], Encoding::Base64), json!("AACAPwAAAMA="));
    }

    #[test]
    fn mistakes_name_their_parameter() {
        for (body, param) in [
            (json!({"model": "m"}), "input"),
            (
                json!({"model": "m", "input": "a", "encoding_format": "hex"}),
                "encoding_format",
            ),
            (
                json!({"model": "m", "input": "a", "dimensions": "x"}),
                "dimensions",
            ),
            (json!({"model": "m", "input": vec!["a"; 2049]}), "input"),
            (json!({"model": "m", "input": "a", "truncate": true}), "truncate"),
        ] {
            let error = EmbeddingRequest::parse(body.to_string().as_bytes())
                .err()
                .unwrap();
            assert_eq!(error.param.as_deref(), Some(param), "{error}");
        }
    }
}
