//! The command line of `slipway-server`.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderValue;
use clap::{Parser, ValueEnum};
use slipway_contract::{
    AdapterSource, Failure, FailureReason, HubAccess, HubRef, ModelSource, ServeConfig, ServeLimits, Task,
};

use crate::app::Identity;

const AFTER_HELP: &str = "\
Endpoints:
  /v1/models  /v1/chat/completions  /v1/completions  /v1/embeddings   OpenAI's API
  /predict, /                                                         Hugging Face's Inference API (classifiers)
  /tokenize  /detokenize  /tokenizer_info                             as vLLM
  /health (200 when ready)  /healthz (200 while alive)  /metrics  /stats?seconds=N (what was answered lately)

Exit codes:
  0    stopped by SIGTERM or SIGINT, every request answered
  2    the command line or the configuration is wrong
  3    the model is wrong (not there, refused, damaged, not supported)
  4    something outside failed (the Hub, the disk, the address to listen on); another try may help

Variables:
  HF_TOKEN, HF_ENDPOINT      token for private repositories; Hub to use instead of https://huggingface.co
  SLIPWAY_CACHE_DIR          as --cache-dir
  SLIPWAY_TERMINATION_LOG    file that receives the reason of a failed start as JSON (default /dev/termination-log,
                             where there is one)
  RAYON_NUM_THREADS          threads to compute with (default: all cores)
  CANDLE_NUM_THREADS         threads for element-wise operations (default: 1; more helps on idle cores only)
  SLIPWAY_LOG                what to log, for instance debug or slipway_server=debug (default info)

Examples:
  slipway-server --model ./SmolLM2-135M-Instruct.Q4_1.gguf --name smollm2
  slipway-server --model hf://acme/minilm@main --task SequenceClassification
  slipway-server --model ./base --adapter tone=./tone-lora --adapter legal=hf://acme/legal-lora";

/// Serves one model, with any number of LoRA adapters on it, over the OpenAI API.
// Clap shows these comments as help, where Markdown would only be noise.
#[allow(clippy::doc_markdown)]
#[derive(Clone, Debug, Parser)]
#[command(name = "slipway-server", version, after_help = AFTER_HELP, max_term_width = 110, args_override_self = true)]
pub struct Cli {
    /// Configuration file (YAML or JSON); other options override its fields
    #[arg(long, value_name = "FILE", required_unless_present = "model")]
    config: Option<PathBuf>,
    /// The model: a directory, a .gguf file, or hf://owner/name[@revision]. An adapter brings its base along
    #[arg(long, value_name = "MODEL", value_parser = source)]
    model: Option<ModelSource>,
    /// An adapter to serve under a name of its own; may be repeated
    #[arg(long = "adapter", value_name = "NAME=MODEL", value_parser = adapter)]
    adapters: Vec<AdapterSource>,
    /// The name clients put into `model` [default: the repository, or the file's or directory's name]
    #[arg(long)]
    name: Option<String>,
    /// What the model does [default: told from its files]
    #[arg(long, value_enum)]
    task: Option<TaskArg>,
    /// Address to listen on [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Requests that may wait; one more is answered 429 [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_queue: Option<u32>,
    /// Requests computed together [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_batch: Option<u32>,
    /// Tokens of prompt and answer together [default: what the model can attend to]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Seconds that requests under way may take after SIGTERM [default: 60]
    #[arg(long, value_name = "SECONDS")]
    drain_seconds: Option<u32>,
    /// Seconds in which requests are still taken after SIGTERM, while load balancers learn of it
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    lame_duck_seconds: f64,
    /// Largest request body
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20)]
    max_body_bytes: usize,
    /// Directory for downloaded models [default: slipway in the temporary directory]
    #[arg(long, value_name = "DIR", env = "SLIPWAY_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Hub to download from [default: HF_ENDPOINT, else https://huggingface.co]
    #[arg(long, value_name = "URL")]
    hub_endpoint: Option<String>,
    /// File that holds the Hub token [default: the variable HF_TOKEN]
    #[arg(long, value_name = "FILE")]
    hub_token_file: Option<PathBuf>,
    /// Arm that answers name in x-slipway-variant
    #[arg(long, value_name = "NAME", env = "SLIPWAY_VARIANT")]
    variant: Option<HeaderValue>,
    /// Revision that answers name in x-slipway-revision
    #[arg(long, value_name = "NAME", env = "SLIPWAY_REVISION")]
    revision: Option<HeaderValue>,
    /// How log lines look [default: text on a terminal, else json]
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// Log lines for people or for machines.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One object a line.
    Json,
    /// For people.
    Text,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum TaskArg {
    #[value(name = "CausalLM")]
    CausalLm,
    SequenceClassification,
    Embedding,
}

impl From<TaskArg> for Task {
    fn from(task: TaskArg) -> Self {
        match task {
            TaskArg::CausalLm => Self::CausalLM,
            TaskArg::SequenceClassification => Self::SequenceClassification,
            TaskArg::Embedding => Self::Embedding,
        }
    }
}

/// What to serve, and how the process behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What to serve.
    pub config: ServeConfig,
    /// How long requests are still taken after SIGTERM.
    pub lame_duck: Duration,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Where downloads go.
    pub cache_dir: PathBuf,
    /// As which part of a split it answers.
    pub identity: Identity,
}

impl Cli {
    /// Puts file and options together.
    pub fn settings(self) -> Result<Settings, Failure> {
        let wrong = |message: String| Failure::new(FailureReason::InvalidConfig, message);
        let mut config = match (&self.config, &self.model) {
            (Some(path), _) => {
                slipway_contract::parse::<ServeConfig>(path).map_err(|error| wrong(error.to_string()))?
            }
            (None, Some(model)) => ServeConfig {
                name: default_name(model),
                model: model.clone(),
                adapters: Vec::new(),
                task: None,
                listen: "0.0.0.0:8080".into(),
                limits: ServeLimits::default(),
                hub: HubAccess::default(),
            },
            (None, None) => return Err(wrong("pass --model or --config".into())),
        };
        set(&mut config.model, self.model);
        set(&mut config.name, self.name);
        set(&mut config.listen, self.listen);
        set(&mut config.limits.max_queue, self.max_queue);
        set(&mut config.limits.max_batch, self.max_batch);
        set(&mut config.limits.drain_seconds, self.drain_seconds);
        config.limits.max_tokens = self.max_tokens.or(config.limits.max_tokens);
        config.task = self.task.map(Into::into).or(config.task);
        config.hub.endpoint = self.hub_endpoint.or(config.hub.endpoint);
        config.hub.token_file = self.hub_token_file.or(config.hub.token_file);
        config.adapters.extend(self.adapters);
        check(&config).map_err(wrong)?;
        Ok(Settings {
            config,
            lame_duck: Duration::from_secs_f64(self.lame_duck_seconds),
            max_body_bytes: self.max_body_bytes,
            cache_dir: self
                .cache_dir
                .unwrap_or_else(|| std::env::temp_dir().join("slipway")),
            identity: Identity {
                variant: self.variant,
                revision: self.revision,
            },
        })
    }
}

fn set<T>(field: &mut T, option: Option<T>) {
    if let Some(value) = option {
        *field = value;
    }
}

fn check(config: &ServeConfig) -> Result<(), String> {
    if config.name.is_empty() {
        return Err("the model's name is empty; set name (--name) to what clients put into `model`".into());
    }
    let mut seen = vec![&config.name];
    for adapter in &config.adapters {
        if seen.contains(&&adapter.name) {
            return Err(format!(
                "the name {:?} is used twice; give the model and each adapter a name of its own",
                adapter.name
            ));
        }
        seen.push(&adapter.name);
    }
    let limits = &config.limits;
    if limits.max_queue == 0 || limits.max_batch == 0 || limits.max_tokens == Some(0) {
        return Err("limits.maxQueue, maxBatch and maxTokens must be at least 1".into());
    }
    Ok(())
}

/// `owner/name` of a repository, else the last part of the path without its ending.
fn default_name(model: &ModelSource) -> String {
    match model {
        ModelSource::Hub(hub) => hub.repo.clone(),
        ModelSource::Path(path) => {
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let gguf = whole
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
            let name = if gguf {
                whole.file_stem()
            } else {
                whole.file_name()
            };
            name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
        }
    }
}

fn source(text: &str) -> Result<ModelSource, String> {
    let Some(rest) = text.strip_prefix("hf://") else {
        if text.is_empty() || text.contains("://") {
            return Err("a model is a directory, a .gguf file, or hf://owner/name[@revision]".into());
        }
        return Ok(ModelSource::Path(text.into()));
    };
    let (repo, revision) = rest.split_once('@').unwrap_or((rest, "main"));
    let parts: Vec<&str> = repo.split('/').collect();
    if parts.len() != 2 || parts.iter().any(|part| part.is_empty()) || revision.is_empty() {
        return Err("a repository is written hf://owner/name or hf://owner/name@revision".into());
    }
    Ok(ModelSource::Hub(HubRef {
        repo: repo.into(),
        revision: revision.into(),
    }))
}

fn adapter(text: &str) -> Result<AdapterSource, String> {
    match text.split_once('=') {
        Some((name, model)) if !name.is_empty() => Ok(AdapterSource {
            name: name.into(),
            model: source(model)?,
        }),
        _ => Err("an adapter is written NAME=DIRECTORY or NAME=hf://owner/name[@revision]".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds are a number from 0 to 3600".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings, Failure> {
        Cli::try_parse_from([&["slipway-server"], arguments].concat())
            .unwrap()
            .settings()
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sources_are_told_apart() {
        let hub = HubRef {
            repo: "acme/m".into(),
            revision: "v1".into(),
        };
        assert_eq!(source("hf://acme/m@v1"), Ok(ModelSource::Hub(hub)));
        assert!(matches!(source("hf://acme/m"), Ok(ModelSource::Hub(hub)) if hub.revision == "main"));
        assert_eq!(source("./m"), Ok(ModelSource::Path("./m".into())));
        for wrong in ["hf://acme", "hf://acme/m@", "hf://a/b/c", "s3://b/m", ""] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
        assert!(adapter("tone").is_err());
        assert!(adapter("=dir").is_err());
    }

    #[test]
    fn names_come_from_the_source() {
        assert_eq!(
            settings(&["--model", "/m/Smol.Q4_1.gguf"]).unwrap().config.name,
            "Smol.Q4_1"
        );
        assert_eq!(
            settings(&["--model", "/m/smol-1.7"]).unwrap().config.name,
            "smol-1.7"
        );
        assert_eq!(
            settings(&["--model", "hf://acme/m@v1"]).unwrap().config.name,
            "acme/m"
        );
    }

    #[test]
    fn options_override_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "name: a\nmodel: {path: /m}\nlimits: {maxQueue: 5}\n").unwrap();
        let path = file.path().to_str().unwrap();
        let settings = settings(&[
            "--config",
            path,
            "--name",
            "b",
            "--max-batch",
            "3",
            "--task",
            "Embedding",
        ])
        .unwrap();
        let config = settings.config;
        assert_eq!(
            (
                config.name.as_str(),
                config.limits.max_queue,
                config.limits.max_batch
            ),
            ("b", 5, 3)
        );
        assert_eq!(config.task, Some(Task::Embedding));
    }

    #[test]
    fn mistakes_are_explained() {
        let error = settings(&["--model", "/m/a", "--adapter", "a=/x"]).unwrap_err();
        assert!(error.message.contains("\"a\" is used twice"), "{error}");
        let error = settings(&["--config", "/nowhere.yaml"]).unwrap_err();
        assert_eq!(error.reason, FailureReason::InvalidConfig);
        assert!(error.message.contains("/nowhere.yaml"), "{error}");
    }
}
