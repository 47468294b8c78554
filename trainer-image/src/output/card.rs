//! The model card of a training run. Pure.
//!
//! What is written here stands between two comments, so that a later run replaces it and leaves what people
//! wrote around it alone.

use std::fmt::Write as _;

use serde_json::{Value, json};
use slipway_contract::{Method, Scheduler, Task};
use slipway_hub::card::{Card, CardError, EvalResult};

use super::Facts;

const BEGIN: &str = "<!-- slipway: training, begin -->";
const END: &str = "<!-- slipway: training, end -->";

/// A card for a repository that has none.
pub(super) fn fresh(facts: &Facts, license: Option<&Value>) -> Result<String, CardError> {
    let mut card = Card::parse("")?;
    set_metadata(&mut card, facts, license)?;
    card.set_body(&format!("\n# {}\n\n{}\n", title(facts), section(facts)));
    Ok(card.to_string())
}

/// `existing` with the metadata of this run and its section: replaced where there is one, else added at the end.
pub(super) fn merged(existing: &str, fresh: &str, facts: &Facts) -> Result<String, CardError> {
    let license = Card::parse(fresh)?.get("license");
    let mut card = Card::parse(existing)?;
    set_metadata(&mut card, facts, license.as_ref())?;
    let body = card.body().to_owned();
    let crlf = body.contains("\r\n");
    let section = if crlf {
        section(facts).replace('\n', "\r\n")
    } else {
        section(facts)
    };
    let body = match (body.find(BEGIN), body.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{section}{}", &body[..begin], &body[end + END.len()..])
        }
        _ => {
            let newline = if crlf { "\r\n" } else { "\n" };
            format!(
                "{}{newline}{newline}{section}{newline}",
                body.trim_end_matches(['\r', '\n'])
            )
        }
    };
    card.set_body(&body);
    Ok(card.to_string())
}

fn pipeline_tag(task: Task) -> &'static str {
    match task {
        Task::CausalLM => "text-generation",
        Task::SequenceClassification => "text-classification",
        Task::Embedding => "feature-extraction",
    }
}

fn title(facts: &Facts) -> String {
    match &facts.config.output.hub {
        Some(hub) => hub.repo.rsplit('/').next().unwrap_or(&hub.repo).to_owned(),
        None => format!("{} fine-tuned on {}", facts.base_name(), facts.dataset_name()),
    }
}

fn set_metadata(card: &mut Card, facts: &Facts, license: Option<&Value>) -> Result<(), CardError> {
    let tag = pipeline_tag(facts.config.task);
    if let Some(license) = license
        && card.get("license").is_none()
    {
        card.set("license", license)?;
    }
    card.set(
        "library_name",
        &json!(if facts.is_adapter() {
            "peft"
        } else {
            "transformers"
        }),
    )?;
    card.set("pipeline_tag", &json!(tag))?;
    let mut tags = vec!["slipway".to_owned()];
    if let Some(base) = &facts.base {
        let relation = if facts.is_adapter() { "adapter" } else { "finetune" };
        card.set("base_model", &json!(base.repo))?;
        card.set("base_model_relation", &json!(relation))?;
        tags.push(format!("base_model:{relation}:{}", base.repo));
    }
    if matches!(facts.config.method, Method::Lora(_)) {
        tags.push("lora".into());
    }
    card.extend("tags", &tags.iter().map(String::as_str).collect::<Vec<_>>())?;
    if let Some(dataset) = &facts.dataset {
        card.extend("datasets", &[&dataset.repo])?;
    }
    let results = results(facts);
    if !results.is_empty() {
        card.merge_model_index(&title(facts), &results)?;
    }
    Ok(())
}

/// The figures of the validation split, where one was evaluated.
fn results(facts: &Facts) -> Vec<EvalResult> {
    let (Some(dataset), Some(_)) = (&facts.dataset, facts.evaluation_examples) else {
        return Vec::new();
    };
    [
        ("evalAccuracy", "accuracy", "Accuracy"),
        ("evalF1", "f1", "F1 (macro)"),
        ("evalLoss", "loss", "Loss"),
    ]
    .into_iter()
    .filter_map(|(name, kind, label)| {
        Some(EvalResult {
            task_type: pipeline_tag(facts.config.task).into(),
            dataset_type: dataset.repo.clone(),
            dataset_name: dataset.repo.clone(),
            dataset_split: Some(validation_split(facts)),
            dataset_revision: Some(dataset.commit.clone()),
            metric_type: kind.into(),
            metric_name: Some(label.into()),
            value: facts.metric(name)?,
            source: None,
        })
    })
    .collect()
}

fn validation_split(facts: &Facts) -> String {
    use slipway_contract::Validation;
    match &facts.config.dataset.validation {
        Some(Validation::Split(name)) => name.clone(),
        Some(Validation::Fraction(fraction)) => {
            format!(
                "{} ({} % held out)",
                facts.config.dataset.split.as_deref().unwrap_or("train"),
                100.0 * fraction
            )
        }
        None => "validation".into(),
    }
}

/// What this run has to say, between its two comments.
fn section(facts: &Facts) -> String {
    let mut text = format!("{BEGIN}\n");
    about(&mut text, facts);
    usage(&mut text, facts);
    training(&mut text, facts);
    limits(&mut text, facts);
    text.push_str(END);
    text
}

fn pinned(pin: Option<&slipway_hub::source::Pin>, name: &str) -> String {
    pin.map_or_else(
        || format!("`{name}` (local)"),
        |pin| format!("`{}` at commit `{}`", pin.repo, pin.commit),
    )
}

fn about(text: &mut String, facts: &Facts) {
    let what = if facts.is_adapter() {
        "A LoRA adapter for"
    } else {
        "A fine-tuned version of"
    };
    let does = match facts.config.task {
        Task::SequenceClassification => format!(
            "assigns one of {} labels to a text: {}",
            facts.labels.len(),
            labels(facts)
        ),
        _ => "continues text".into(),
    };
    let _ = writeln!(
        text,
        "{what} {}. It {does}.\n",
        pinned(facts.base.as_ref(), &facts.base_name())
    );
    let _ = writeln!(
        text,
        "Learned from {} examples of {} (split `{}`).\n",
        facts.training_examples,
        pinned(facts.dataset.as_ref(), &facts.dataset_name()),
        facts.config.dataset.split.as_deref().unwrap_or("train")
    );
}

fn labels(facts: &Facts) -> String {
    facts
        .labels
        .iter()
        .map(|label| format!("`{label}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn usage(text: &mut String, facts: &Facts) {
    let name = facts
        .config
        .output
        .hub
        .as_ref()
        .map_or_else(|| "path/to/this/directory".to_owned(), |hub| hub.repo.clone());
    let base = facts.base_name();
    let (class, count) = match facts.config.task {
        Task::SequenceClassification => (
            "AutoModelForSequenceClassification",
            format!(", num_labels={}", facts.labels.len()),
        ),
        _ => ("AutoModelForCausalLM", String::new()),
    };
    text.push_str("## How to use\n\n```python\n");
    let _ = if facts.is_adapter() {
        writeln!(
            text,
            "from peft import PeftModel\nfrom transformers import AutoTokenizer, {class}\n\ntokenizer = AutoTokenizer.from_pretrained(\"{name}\")\nbase = {class}.from_pretrained(\"{base}\"{count})\nmodel = PeftModel.from_pretrained(base, \"{name}\")"
        )
    } else {
        writeln!(
            text,
            "from transformers import AutoTokenizer, {class}\n\ntokenizer = AutoTokenizer.from_pretrained(\"{name}\")\nmodel = {class}.from_pretrained(\"{name}\")"
        )
    };
    let source = if facts.config.output.hub.is_some() {
        format!("hf://{name}")
    } else {
        name
    };
    let (path, body) = match facts.config.task {
        Task::SequenceClassification => ("/predict", r#"{"inputs": "…"}"#.to_owned()),
        _ => (
            "/v1/completions",
            r#"{"prompt": "…", "max_tokens": 64}"#.to_owned(),
        ),
    };
    let _ = writeln!(
        text,
        "```\n\n```sh\nslipway-server --model {source} --listen 127.0.0.1:8080 &\ncurl -s http://127.0.0.1:8080{path} -H 'content-type: application/json' -d '{body}'\n```\n"
    );
}

fn training(text: &mut String, facts: &Facts) {
    let hyper = &facts.config.hyperparameters;
    let scheduler = match hyper.scheduler {
        Scheduler::Constant => "constant",
        Scheduler::Linear => "linear",
        Scheduler::Cosine => "cosine",
    };
    let method = match &facts.config.method {
        Method::Full(_) => "all weights".to_owned(),
        Method::Lora(lora) => format!(
            "LoRA, rank {}, alpha {}, dropout {}{}{}",
            lora.rank,
            lora.alpha,
            lora.dropout,
            if lora.rs_lora { ", rank-stabilised" } else { "" },
            if lora.target_modules.is_empty() {
                String::new()
            } else {
                format!(", on {}", lora.target_modules.join(", "))
            },
        ),
    };
    let batch = hyper.batch_size * hyper.gradient_accumulation_steps * facts.config.workers.count.max(1);
    text.push_str("## Training\n\n| | |\n|---|---|\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    row("Method", method);
    row("Numbers trained", facts.trainable.to_string());
    row(
        "Steps",
        format!("{} ({:.2} passes over the data)", facts.steps, facts.epochs),
    );
    if let Some(step) = facts.best_step {
        row("Weights of step", format!("{step}, the best evaluation"));
    }
    row(
        "Batch",
        format!("{batch} rows of at most {} tokens", hyper.max_sequence_length),
    );
    row(
        "Optimizer",
        format!(
            "AdamW, weight decay {}, gradient norm at most {}",
            hyper.weight_decay, hyper.max_gradient_norm
        ),
    );
    row(
        "Learning rate",
        format!(
            "{:e}, {scheduler}, {} warm-up steps",
            hyper.learning_rate, hyper.warmup_steps
        ),
    );
    row(
        "Precision and seed",
        format!("{:?}, {}", hyper.precision, hyper.seed),
    );
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    row(
        "Time",
        format!(
            "{:.0} s on {arch} {os}, {} tokens, {:.0} tokens/s",
            facts.seconds,
            facts.tokens,
            facts.tokens as f64 / facts.seconds.max(1e-9)
        ),
    );
    if let Some(loss) = facts.metric("loss") {
        row("Training loss, last step", format!("{loss:.4}"));
    }
    if let Some(examples) = facts.evaluation_examples {
        for (name, label) in [
            ("evalLoss", "loss"),
            ("evalAccuracy", "accuracy"),
            ("evalF1", "F1 (macro)"),
        ] {
            if let Some(value) = facts.metric(name) {
                row(
                    &format!("Validation {label}"),
                    format!("{value:.4} on {examples} examples"),
                );
            }
        }
    }
    text.push_str("\n`training_config.yaml` holds the whole configuration, `training_log.jsonl` the course of the loss.\n\n");
}

fn limits(text: &mut String, facts: &Facts) {
    let _ = writeln!(
        text,
        "## Limits\n\nThe model knows what its base and {} examples taught it; texts of another kind or language, or longer than {} tokens, were not measured. Biases of the base and of the data remain.",
        facts.training_examples, facts.config.hyperparameters.max_sequence_length
    );
    if facts.evaluation_examples.is_none() {
        text.push_str("It was not evaluated on held-out examples.\n");
    }
}

#[cfg(test)]
mod tests;
