//! From a configuration to a loaded model: fetch, open, load, warm up, start the compute thread.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::DType;
use serde_json::Value;
use slipway_contract::{Failure, FailureReason, ModelSource, ServeConfig, Task};
use slipway_hub::source::{Pin, fetch_model};
use slipway_hub::{Client, RepoId, RepoType, SnapshotProgress};
use slipway_model::chat::ChatTemplate;
use slipway_model::tokenizer::Tokenizer;
use slipway_model::{AdapterId, Batch, Head, LoadOptions, Mode, ModelError, ModelFiles, Network, Rows};
use tokio::sync::mpsc::UnboundedSender;

use crate::app::App;
use crate::cli::Settings;
use crate::engine::encoding::{Encoder, Kind};
use crate::engine::generation::Generator;
use crate::engine::{self, Engine};
use crate::queue::Queue;
use crate::served::{Name, Served, unix_now};

/// Adapters need no base of their own here, nor anybody's training state.
const ADAPTER_FILES: [&str; 3] = ["adapter_config.json", "adapter_model.safetensors", "config.json"];

/// An adapter on disk.
#[derive(Debug)]
struct LocalAdapter {
    name: String,
    directory: PathBuf,
    root: String,
}

/// Everything on disk.
#[derive(Debug)]
struct Local {
    base: PathBuf,
    base_root: String,
    // The base's own name, where what was asked for is an adapter.
    base_name: Option<String>,
    adapters: Vec<LocalAdapter>,
}

/// Loads what `settings` ask for and starts its engine. `fatal` hears of it should the engine ever fail.
pub async fn load(settings: Settings, app: App, fatal: UnboundedSender<String>) -> Result<Served, Failure> {
    let local = fetch(&settings, &app).await?;
    app.loading("reading the weights");
    tokio::task::spawn_blocking(move || build(&settings.config, &local, &app, fatal))
        .await
        .map_err(|error| {
            Failure::new(
                FailureReason::Internal,
                format!("loading the model failed: {error}"),
            )
        })?
}

async fn fetch(settings: &Settings, app: &App) -> Result<Local, Failure> {
    let Settings {
        config, cache_dir, ..
    } = settings;
    let client = Client::from_access(&config.hub).map_err(|error| error.failure(RepoType::Model))?;
    let model = fetch_model(&config.model, &client, cache_dir, report(app, "the model"))
        .await
        .map_err(|error| error.failure(RepoType::Model))?;
    let mut adapters = Vec::new();
    let mut base_name = None;
    let base_root = root(model.base_identity.as_ref(), &model.base);
    if let Some(directory) = model.adapter {
        let root = root(model.identity.as_ref(), &directory);
        adapters.push(LocalAdapter {
            name: config.name.clone(),
            directory,
            root,
        });
        base_name = Some(match &model.base_identity {
            Some(pin) => pin.repo.clone(),
            None => model
                .base
                .file_name()
                .map_or_else(|| "base".into(), |name| name.to_string_lossy().into_owned()),
        });
    }
    for adapter in &config.adapters {
        let (directory, root) = match &adapter.model {
            ModelSource::Path(path) => (path.clone(), path.display().to_string()),
            ModelSource::Hub(hub) => {
                let fetched = fetch_adapter(&client, hub, cache_dir, report(app, &adapter.name)).await;
                fetched.map_err(|error| error.failure(RepoType::Model))?
            }
        };
        adapters.push(LocalAdapter {
            name: adapter.name.clone(),
            directory,
            root,
        });
    }
    Ok(Local {
        base: model.base,
        base_root,
        base_name,
        adapters,
    })
}

async fn fetch_adapter(
    client: &Client,
    hub: &slipway_contract::HubRef,
    cache: &Path,
    progress: impl FnMut(SnapshotProgress) + Send,
) -> Result<(PathBuf, String), slipway_hub::Error> {
    let repo = RepoId::new(RepoType::Model, &hub.repo)?;
    let info = client.resolve(&repo, &hub.revision).await?;
    let directory = client
        .snapshot(&repo, &info.commit, &ADAPTER_FILES, cache, progress)
        .await?;
    Ok((directory, format!("{}@{}", hub.repo, info.commit)))
}

fn report(app: &App, what: &str) -> impl FnMut(SnapshotProgress) + Send + use<> {
    let (app, what) = (app.clone(), what.to_owned());
    move |progress| {
        let percent = (progress.bytes_done * 100)
            .checked_div(progress.bytes_total)
            .unwrap_or(100);
        app.loading(format!(
            "downloading {what}: {percent} % of {} MB",
            progress.bytes_total / 1_000_000
        ));
    }
}

fn root(pin: Option<&Pin>, path: &Path) -> String {
    pin.map_or_else(
        || path.display().to_string(),
        |pin| format!("{}@{}", pin.repo, pin.commit),
    )
}

fn build(
    config: &ServeConfig,
    local: &Local,
    app: &App,
    fatal: UnboundedSender<String>,
) -> Result<Served, Failure> {
    let failure = |error: ModelError| error.failure();
    let files = ModelFiles::open(&local.base).map_err(failure)?;
    let tokenizer = Arc::new(Tokenizer::of(&files).map_err(|error| {
        Failure::new(
            FailureReason::InvalidModel,
            format!("the model's tokenizer cannot be used: {error}"),
        )
    })?);
    let hints = local
        .adapters
        .iter()
        .map(|adapter| task_type(&adapter.directory))
        .collect::<Vec<_>>();
    let task = match config.task {
        Some(task) => task,
        None => detect(&files, &hints).map_err(failure)?,
    };
    let bare = has_head(&files, task);
    let head = match task {
        Task::CausalLM => Head::CausalLm,
        Task::Embedding => Head::Embedding,
        Task::SequenceClassification => Head::SequenceClassification {
            labels: labels(&files, &local.adapters),
        },
    };
    let options = LoadOptions {
        device: slipway_model::device().map_err(failure)?,
        dtype: DType::F32,
        mode: Mode::Serve,
        seed: 0,
        head_from_adapter: !bare && !local.adapters.is_empty(),
    };
    let mut network = Network::load(&files, head, options).map_err(failure)?;
    let names = names(config, local, &mut network, bare).map_err(failure)?;
    let possible = network.max_sequence_length();
    let max_tokens = match config.limits.max_tokens.map(|limit| limit as usize) {
        Some(limit) if limit > possible => {
            return Err(Failure::new(
                FailureReason::InvalidConfig,
                format!(
                    "limits.maxTokens is {limit}, but the model can attend to {possible}; lower it or leave it out"
                ),
            ));
        }
        limit => limit.unwrap_or(possible),
    };
    app.loading("warming up");
    warm_up(&network, task, names.first().and_then(|name| name.adapter)).map_err(failure)?;

    let chat = ChatTemplate::of(&tokenizer).map_err(|error| error.to_string());
    let served = Served {
        task,
        chat,
        max_tokens,
        vocabulary: network.vocab_size(),
        width: network.hidden_size(),
        fingerprint: fingerprint(local),
        created: unix_now(),
        max_batch: config.limits.max_batch as usize,
        engine: start(config, task, network, tokenizer.clone(), app, fatal)?,
        tokenizer,
        names,
    };
    Ok(served)
}

/// What `adapter_config.json` says an adapter is for; problems with the file are told when it is loaded.
fn task_type(directory: &Path) -> Option<Task> {
    let text = std::fs::read_to_string(directory.join("adapter_config.json")).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    match config["task_type"].as_str()? {
        "CAUSAL_LM" => Some(Task::CausalLM),
        "SEQ_CLS" => Some(Task::SequenceClassification),
        "FEATURE_EXTRACTION" => Some(Task::Embedding),
        _ => None,
    }
}

/// Names of the classes: the base's, else those an adapter brings, else what transformers calls two classes.
fn labels(files: &ModelFiles, adapters: &[LocalAdapter]) -> Vec<String> {
    let of_adapter = |adapter: &LocalAdapter| -> Option<Vec<String>> {
        let text = std::fs::read_to_string(adapter.directory.join("config.json")).ok()?;
        let config: Value = serde_json::from_str(&text).ok()?;
        let map = config["id2label"].as_object()?;
        (0..map.len())
            .map(|id| Some(map.get(&id.to_string())?.as_str()?.to_owned()))
            .collect()
    };
    files
        .labels()
        .or_else(|| adapters.iter().find_map(of_adapter))
        .unwrap_or_else(|| vec!["LABEL_0".into(), "LABEL_1".into()])
}

fn detect(files: &ModelFiles, hints: &[Option<Task>]) -> Result<Task, ModelError> {
    if let Some(task) = hints.iter().flatten().next() {
        return Ok(*task);
    }
    let class = files.config()["architectures"][0].as_str().unwrap_or_default();
    Ok(if class.ends_with("ForSequenceClassification") {
        Task::SequenceClassification
    } else if files.architecture()?.is_decoder() {
        Task::CausalLM
    } else {
        Task::Embedding
    })
}

/// Whether the base alone can do the task. Only classifiers have a head that may be left out of the weights.
fn has_head(files: &ModelFiles, task: Task) -> bool {
    task != Task::SequenceClassification
        || files
            .weights()
            .names()
            .iter()
            .any(|name| name.starts_with("classifier.") || name.starts_with("score."))
}

fn names(
    config: &ServeConfig,
    local: &Local,
    network: &mut Network,
    bare: bool,
) -> Result<Vec<Name>, ModelError> {
    let labels = |network: &Network, adapter: Option<AdapterId>| -> Arc<[String]> {
        network.labels(adapter).unwrap_or_default().into()
    };
    let base = local.base_name.as_ref().unwrap_or(&config.name);
    let mut names = Vec::new();
    for adapter in &local.adapters {
        let id = network.add_adapter(&adapter.name, &adapter.directory)?;
        names.push(Name {
            name: adapter.name.as_str().into(),
            adapter: Some(id),
            parent: Some(base.clone()),
            root: adapter.root.clone(),
            labels: labels(network, Some(id)),
        });
    }
    // A base without the head it needs serves nothing alone; one whose name an adapter has cannot be asked for.
    if bare && names.iter().all(|name| *name.name != **base) {
        let own = Name {
            name: base.as_str().into(),
            adapter: None,
            parent: None,
            root: local.base_root.clone(),
            labels: labels(network, None),
        };
        // The configured name comes first: it is what a request without a name means.
        let place = usize::from(local.base_name.is_some());
        names.insert(place, own);
    }
    Ok(names)
}

/// One small pass: what cannot compute must not become ready, and the first request should not pay for it.
fn warm_up(network: &Network, task: Task, adapter: Option<AdapterId>) -> Result<(), ModelError> {
    let rows = Rows {
        adapters: Some(vec![adapter]),
    };
    let batch = Batch::padded(&[vec![0]]);
    match task {
        Task::CausalLM => network.prefill(&[0], &mut network.kv_cache(), adapter)?,
        Task::SequenceClassification => network.classify(&batch, &rows)?,
        Task::Embedding => network.embed(&batch, &rows)?,
    };
    Ok(())
}

fn start(
    config: &ServeConfig,
    task: Task,
    network: Network,
    tokenizer: Arc<Tokenizer>,
    app: &App,
    fatal: UnboundedSender<String>,
) -> Result<Engine, Failure> {
    let max_batch = config.limits.max_batch as usize;
    let capacity = config.limits.max_queue as usize;
    let metrics = app.metrics().clone();
    let started = match task {
        Task::CausalLM => {
            let queue = Arc::new(Queue::new(capacity));
            let generator = Generator::new(network, tokenizer, queue.clone(), metrics, max_batch);
            engine::spawn(fatal, move || generator.run()).map(|()| Engine::Generation(queue))
        }
        Task::SequenceClassification | Task::Embedding => {
            let kind = if task == Task::Embedding {
                Kind::Embed
            } else {
                Kind::Classify
            };
            let queue = Arc::new(Queue::new(capacity));
            let encoder = Encoder::new(network, kind, queue.clone(), metrics, max_batch);
            engine::spawn(fatal, move || encoder.run()).map(|()| Engine::Encoding(queue))
        }
    };
    started.map_err(|error| {
        Failure::new(
            FailureReason::Internal,
            format!("failed to start the compute thread: {error}"),
        )
    })
}

/// The same for the same weights and the same version of this server.
fn fingerprint(local: &Local) -> String {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    local.base_root.hash(&mut hasher);
    let directories = local.adapters.iter().map(|adapter| &adapter.directory);
    local
        .adapters
        .iter()
        .for_each(|adapter| adapter.root.hash(&mut hasher));
    // A local path may hold other weights tomorrow.
    let files = directories.map(|directory| directory.join("adapter_model.safetensors"));
    for path in files.chain([local.base.clone(), local.base.join("model.safetensors")]) {
        if let Ok(metadata) = path.metadata() {
            (metadata.len(), metadata.modified().ok()).hash(&mut hasher);
        }
    }
    format!("fp_{:016x}", hasher.finish())
}
