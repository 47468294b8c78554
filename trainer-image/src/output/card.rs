//! The model card of a training run. Pure.
//!
//! What is written here stands between two comments, so that a later run replaces it and leaves what people
//! wrote around it alone.

mod section;
mod usage;

use serde_json::json;
use slipway_contract::{Method, Task};
use slipway_hub::card::{Card, CardError, EvalResult};

use super::Facts;
use section::section;

/// The section of a card that is ours.
const SECTION: &str = "training";

/// A card for a repository that has none.
pub(super) fn fresh(facts: &Facts) -> Result<String, CardError> {
    let mut card = Card::parse("")?;
    set_metadata(&mut card, facts)?;
    card.set_body(&format!("\n# {}\n\n", title(facts)));
    card.set_section(SECTION, &section(facts));
    Ok(card.to_string())
}

/// `existing` with the metadata of this run and its section: replaced where there is one, else added at the end.
pub(super) fn merged(existing: &[u8], facts: &Facts) -> Result<String, CardError> {
    let mut card = Card::from_bytes(existing)?;
    set_metadata(&mut card, facts)?;
    card.set_section(SECTION, &section(facts));
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

fn set_metadata(card: &mut Card, facts: &Facts) -> Result<(), CardError> {
    let tag = pipeline_tag(facts.config.task);
    if card.get("license").is_none() {
        set_license(card, facts)?;
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

/// The base's licence: what derives from it stays under it.
fn set_license(card: &mut Card, facts: &Facts) -> Result<(), CardError> {
    let license = &facts.license;
    match license.ids.as_slice() {
        [] => return Ok(()),
        [one] => card.set("license", &json!(one))?,
        several => card.set("license", &json!(several))?,
    };
    if let Some(name) = &license.name {
        card.set("license_name", &json!(name))?;
    }
    if let Some(link) = facts.license_link() {
        card.set("license_link", &json!(link))?;
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

#[cfg(test)]
mod tests;
