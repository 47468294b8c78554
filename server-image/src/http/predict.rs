//! `POST /predict` and `POST /`: the shapes of Hugging Face's Inference API. A classifier answers with labels
//! and scores (text-classification), an embedding model with vectors (feature-extraction).

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use serde_json::{Value, json};
use slipway_contract::Task;

use super::embeddings::too_many;
use super::{Body, Record, off_runtime, ok, with_model};
use crate::app::App;
use crate::error::ApiError;
use crate::openai::{Fields, kind};
use crate::served::Served;

/// How scores of the classes become numbers between 0 and 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Function {
    Softmax,
    Sigmoid,
    None,
}

#[derive(Debug)]
struct PredictRequest {
    // Beyond the Inference API, so that adapters can be chosen here as everywhere.
    model: Option<String>,
    inputs: Vec<String>,
    top_k: Option<usize>,
    function: Function,
}

impl PredictRequest {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut body = Fields::parse(body)?;
        let model = body.optional("model")?;
        let inputs = texts(body.required("inputs")?)?;
        let parameters: Value = body.or("parameters", json!({}))?;
        // The Hub's own servers take these about caching and waiting; nothing is cached or scaled to zero here.
        let _: Option<Value> = body.optional("options")?;
        body.finish()?;
        too_many("inputs", inputs.len())?;
        let mut parameters = Fields::parse(parameters.to_string().as_bytes())
            .map_err(|_| ApiError::invalid("parameters", "parameters must be an object"))?;
        let top_k = parameters.optional::<usize>("top_k")?;
        let function = match parameters.optional::<String>("function_to_apply")?.as_deref() {
            None | Some("softmax") => Function::Softmax,
            Some("sigmoid") => Function::Sigmoid,
            Some("none") => Function::None,
            Some(other) => {
                return Err(ApiError::invalid(
                    "function_to_apply",
                    format!("function_to_apply must be softmax, sigmoid or none, not {other:?}"),
                ));
            }
        };
        // What InferenceClient.feature_extraction sends beside null; vectors have unit length already.
        let normalize = parameters.or("normalize", true)?;
        parameters.finish()?;
        if !normalize {
            return Err(ApiError::invalid(
                "normalize",
                "normalize: false is not supported; vectors have unit length",
            ));
        }
        Ok(Self {
            model,
            inputs,
            top_k: top_k.filter(|&k| k > 0),
            function,
        })
    }
}

fn texts(inputs: Value) -> Result<Vec<String>, ApiError> {
    let wrong = |seen: &Value| {
        ApiError::invalid(
            "inputs",
            format!(
                "inputs must be a string or an array of strings, not {}",
                kind(seen)
            ),
        )
        .code("invalid_type")
    };
    let texts: Vec<String> = match inputs {
        Value::String(text) => vec![text],
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                other => Err(wrong(&other)),
            })
            .collect::<Result<_, _>>()?,
        other => return Err(wrong(&other)),
    };
    if texts.is_empty() {
        return Err(ApiError::invalid(
            "inputs",
            "inputs is empty; send at least one text",
        ));
    }
    Ok(texts)
}

pub(super) async fn handle(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let served = app.served()?;
    if served.task == Task::CausalLM {
        served.needs(Task::SequenceClassification, "/predict")?;
    }
    let (request, tokens) = off_runtime({
        let served = served.clone();
        move || {
            let request = PredictRequest::parse(&body)?;
            served.name_or_default(request.model.as_deref())?;
            let tokens = encode(&served, &request.inputs)?;
            Ok((request, tokens))
        }
    })
    .await?;
    let name = served.name_or_default(request.model.as_deref())?;
    record.model(&name.name);
    let read = tokens.iter().map(Vec::len).sum();
    let width = if served.task == Task::Embedding {
        served.width
    } else {
        name.labels.len()
    };
    let vectors = served.compute(name, tokens, width, record.arrived()).await?;
    record.tokens(read, 0);
    let body = if served.task == Task::Embedding {
        json!(vectors)
    } else {
        vectors
            .iter()
            .map(|logits| classes(logits, &name.labels, &request))
            .collect()
    };
    Ok(with_model(ok(body), &name.name))
}

fn encode(served: &Served, inputs: &[String]) -> Result<Vec<Vec<u32>>, ApiError> {
    inputs
        .iter()
        .enumerate()
        .map(|(place, text)| {
            let param = if inputs.len() == 1 {
                "inputs".into()
            } else {
                format!("inputs[{place}]")
            };
            let ids = served.encode(text, true)?;
            served.fits(&param, ids.len(), 0)?;
            Ok(ids)
        })
        .collect()
}

/// Labels with their scores, the best first.
fn classes(logits: &[f32], labels: &[String], request: &PredictRequest) -> Value {
    let mut scored: Vec<(&String, f64)> = labels.iter().zip(apply(logits, request.function)).collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored.truncate(request.top_k.unwrap_or(scored.len()));
    scored
        .into_iter()
        .map(|(label, score)| json!({"label": label, "score": score}))
        .collect()
}

fn apply(logits: &[f32], function: Function) -> Vec<f64> {
    let logits = logits.iter().copied().map(f64::from);
    match function {
        Function::None => logits.collect(),
        Function::Sigmoid => logits.map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
        Function::Softmax => {
            let peak = logits.clone().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = logits.map(|x| (x - peak).exp()).collect();
            let sum: f64 = weights.iter().sum();
            weights.into_iter().map(|weight| weight / sum).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &Value) -> Result<PredictRequest, ApiError> {
        PredictRequest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn labels_come_with_their_scores_best_first() {
        let request = parse(&json!({"inputs": "a", "parameters": {"top_k": 2}})).unwrap();
        let labels = ["neg".to_string(), "neu".to_string(), "pos".to_string()];
        let logits = [1.0f32.ln(), 3.0f32.ln(), 4.0f32.ln()];
        let scored = classes(&logits, &labels, &request);
        assert_eq!(scored.as_array().unwrap().len(), 2);
        assert_eq!(scored[0]["label"], "pos");
        assert!((scored[0]["score"].as_f64().unwrap() - 0.5).abs() < 1e-6);
        assert!((scored[1]["score"].as_f64().unwrap() - 0.375).abs() < 1e-6);
    }

    #[test]
    fn functions_are_transformers() {
        assert_eq!(apply(&[0.0, 2.0], Function::None), [0.0, 2.0]);
        assert!((apply(&[2.0], Function::Sigmoid)[0] - 0.880_797).abs() < 1e-6);
        assert!((apply(&[1000.0, 1000.0], Function::Softmax)[0] - 0.5).abs() < 1e-12);
    }

    #[test]
    fn mistakes_name_their_parameter() {
        for (body, param) in [
            (json!({}), "inputs"),
            (json!({"inputs": 1}), "inputs"),
            (json!({"inputs": ["a", 1]}), "inputs"),
            (json!({"inputs": []}), "inputs"),
            (json!({"inputs": "a", "parameters": 1}), "parameters"),
            (json!({"inputs": "a", "parameters": {"top_k": "x"}}), "top_k"),
            (
                json!({"inputs": "a", "parameters": {"truncation": true}}),
                "truncation",
            ),
            (
                json!({"inputs": "a", "parameters": {"function_to_apply": "relu"}}),
                "function_to_apply",
            ),
        ] {
            let error = parse(&body).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{error}");
        }
    }
}
