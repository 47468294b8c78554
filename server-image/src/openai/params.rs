//! The parameters that completions and chat completions have in common.

use serde_json::{Map, Value};

use super::fields::Fields;
use crate::error::ApiError;
use crate::sampling::Sampling;

/// Choices one prompt may ask for.
const MAX_CHOICES: u32 = 16;
/// Stop strings a request may name.
const MAX_STOPS: usize = 16;

/// How answers are generated and delivered.
#[derive(Debug)]
pub struct Params {
    /// Base or adapter.
    pub model: String,
    /// How each token is chosen. Choice `i` of a prompt is drawn with `seed + i`.
    pub sampling: Sampling,
    /// Answers for each prompt.
    pub n: u32,
    /// Strings that end an answer.
    pub stop: Vec<String>,
    /// Goes on after an end-of-text token (for benchmarks).
    pub ignore_eos: bool,
    /// Sends tokens as they come.
    pub stream: bool,
    /// Ends a stream with a chunk that has the token counts.
    pub include_usage: bool,
}

impl Params {
    /// Takes the common parameters out of a body.
    pub fn take(body: &mut Fields) -> Result<Self, ApiError> {
        let model = body.required("model")?;
        let n = body.within("n", 1..=MAX_CHOICES, 1)?;
        let sampling = sampling(body)?;
        let stop = stop(body.optional("stop")?)?;
        let ignore_eos = body.or("ignore_eos", false)?;
        let stream = body.or("stream", false)?;
        let include_usage = stream_options(stream, body.optional("stream_options")?)?;
        Ok(Self {
            model,
            sampling,
            n,
            stop,
            ignore_eos,
            stream,
            include_usage,
        })
    }
}

fn sampling(body: &mut Fields) -> Result<Sampling, ApiError> {
    let temperature = body.within("temperature", 0.0..=2.0, 1.0)?;
    let top_p = body.within("top_p", 0.0..=1.0, 1.0)?;
    // vLLM's -1, like 0, keeps them all.
    let top_k = body.within("top_k", -1..=i64::from(i32::MAX), -1)?;
    let min_p = body.within("min_p", 0.0..=1.0, 0.0)?;
    let frequency_penalty = body.within("frequency_penalty", -2.0..=2.0, 0.0)?;
    let presence_penalty = body.within("presence_penalty", -2.0..=2.0, 0.0)?;
    let logit_bias = logit_bias(&body.or("logit_bias", Map::new())?)?;
    // OpenAI's clients may send any 64-bit integer.
    let seed = match body.optional::<i128>("seed")? {
        Some(seed) => seed as u64,
        None => rand::random(),
    };
    Ok(Sampling {
        temperature,
        top_p,
        top_k: usize::try_from(top_k).ok().filter(|&k| k > 0),
        min_p,
        frequency_penalty,
        presence_penalty,
        logit_bias,
        seed,
    })
}

fn logit_bias(map: &Map<String, Value>) -> Result<Vec<(u32, f32)>, ApiError> {
    map.iter()
        .map(|(token, bias)| {
            let path = format!("logit_bias.{token}");
            let id = token.parse().map_err(|_| {
                ApiError::invalid(
                    &path,
                    format!("logit_bias: {token:?} is no token id; keys are ids as /tokenize gives them"),
                )
            })?;
            match bias.as_f64() {
                Some(bias) if (-100.0..=100.0).contains(&bias) => Ok((id, bias as f32)),
                _ => Err(ApiError::invalid(
                    &path,
                    format!("{path} must be between -100 and 100, not {bias}"),
                )),
            }
        })
        .collect()
}

fn stop(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let wrong =
        || ApiError::invalid("stop", "stop must be a string or an array of strings").code("invalid_type");
    let stops = match value {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many
            .into_iter()
            .map(|one| match one {
                Value::String(text) => Ok(text),
                _ => Err(wrong()),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong()),
    };
    if stops.len() > MAX_STOPS {
        return Err(ApiError::invalid(
            "stop",
            format!("stop has {} strings; at most {MAX_STOPS} are taken", stops.len()),
        ));
    }
    Ok(stops)
}

fn stream_options(stream: bool, options: Option<Map<String, Value>>) -> Result<bool, ApiError> {
    let Some(mut options) = options else {
        return Ok(false);
    };
    if !stream {
        return Err(ApiError::invalid(
            "stream_options",
            "stream_options needs stream: true",
        ));
    }
    let include_usage = match options.shift_remove("include_usage") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(include)) => include,
        Some(_) => {
            let path = "stream_options.include_usage";
            return Err(ApiError::invalid(path, format!("{path} must be true or false")));
        }
    };
    // Obfuscation only pads chunks against an eavesdropper who counts bytes; not padding is its `false`.
    options.retain(|name, value| {
        let off = value.is_null() || *value == false;
        !(off && matches!(name.as_str(), "include_obfuscation" | "continuous_usage_stats"))
    });
    match options.keys().next() {
        Some(name) => {
            let path = format!("stream_options.{name}");
            Err(
                ApiError::invalid(&path, format!("unsupported parameter {path}; leave it out"))
                    .code("unsupported_parameter"),
            )
        }
        None => Ok(include_usage),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(value: &Value) -> Result<Params, ApiError> {
        Params::take(&mut Fields::parse(value.to_string().as_bytes())?)
    }

    #[test]
    fn defaults_are_openais() {
        let params = take(&json!({"model": "m", "temperature": null})).unwrap();
        assert_eq!(
            params.sampling,
            Sampling {
                seed: params.sampling.seed,
                ..Sampling::default()
            }
        );
        assert_eq!((params.n, params.stream, params.stop.len()), (1, false, 0));
    }

    #[test]
    fn every_parameter_arrives() {
        let params = take(
            &json!({"model": "m", "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1,
            "frequency_penalty": 1, "presence_penalty": -1, "logit_bias": {"5": -100}, "seed": -1, "n": 2,
            "stop": ["a"], "stream": true, "stream_options": {"include_usage": true}}),
        )
        .unwrap();
        assert_eq!(
            params.sampling,
            Sampling {
                temperature: 0.5,
                top_p: 0.9,
                top_k: Some(40),
                min_p: 0.1,
                frequency_penalty: 1.0,
                presence_penalty: -1.0,
                logit_bias: vec![(5, -100.0)],
                seed: u64::MAX,
            }
        );
        assert!(params.stream && params.include_usage && params.n == 2 && params.stop == ["a"]);
    }

    #[test]
    fn mistakes_name_their_parameter() {
        for (name, value, param) in [
            ("temperature", json!(-1), "temperature"),
            ("top_p", json!(1.5), "top_p"),
            ("n", json!(0), "n"),
            ("stop", json!(["a", 1]), "stop"),
            ("stop", json!(vec!["a"; 17]), "stop"),
            ("logit_bias", json!({"x": 1}), "logit_bias.x"),
            ("logit_bias", json!({"1": 1000}), "logit_bias.1"),
            ("stream_options", json!({"include_usage": true}), "stream_options"),
        ] {
            let error = take(&json!({"model": "m", name: value})).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{error}");
        }
        let error = take(&json!({"model": "m", "stream": true, "stream_options": {"x": 1}})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("stream_options.x"));
    }
}
