//! What a training run has to say in a model card, as prose. Pure.

use std::fmt::Write as _;

use slipway_contract::{Method, Scheduler, Task};
use slipway_hub::license::License;
use slipway_hub::source::Pin;

use super::usage::usage;
use crate::output::{CURVE, Facts};

/// The section's text.
pub(super) fn section(facts: &Facts) -> String {
    let mut text = String::new();
    about(&mut text, facts);
    results(&mut text, facts);
    text.push_str(&usage(facts));
    training(&mut text, facts);
    limits(&mut text, facts);
    license(&mut text, facts);
    text
}

fn pinned(pin: Option<&Pin>, name: &str) -> String {
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
        _ if facts.chat => "answers in conversations and continues text".into(),
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

fn results(text: &mut String, facts: &Facts) {
    let Some(examples) = facts.evaluation_examples else {
        return;
    };
    let _ = writeln!(
        text,
        "## Results\n\nOn {examples} held-out examples (split `{}`) that took no part in training{}:\n\n| metric | value | 95 % interval | n |\n|---|---|---|---|",
        super::validation_split(facts),
        match facts.best_step {
            Some(_) => " other than choosing the step to stop at",
            None => "",
        }
    );
    for (name, label) in [
        ("evalAccuracy", "accuracy"),
        ("evalF1", "F1 (macro)"),
        ("evalLoss", "loss (nats)"),
    ] {
        if let Some(value) = facts.metric(name) {
            let interval = facts.intervals.get(name).map_or_else(
                || "not computed".to_owned(),
                |interval| format!("{:.4} to {:.4}", interval.low, interval.high),
            );
            let _ = writeln!(text, "| {label} | {value:.4} | {interval} | {examples} |");
        }
    }
    text.push_str(
        "\nIntervals: Wilson's for accuracy, else a percentile bootstrap (1,000 draws) over examples, for the loss over evaluation batches.\n\n",
    );
}

fn training(text: &mut String, facts: &Facts) {
    let hyper = &facts.config.hyperparameters;
    let workers = facts.config.workers.count.max(1);
    text.push_str("## Training\n\n| | |\n|---|---|\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    row("Method", method(facts));
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
        format!(
            "{} rows of at most {} tokens",
            hyper.batch_size * hyper.gradient_accumulation_steps * workers,
            hyper.max_sequence_length
        ),
    );
    row(
        "Optimizer",
        format!(
            "AdamW, weight decay {}, gradient norm at most {}",
            hyper.weight_decay, hyper.max_gradient_norm
        ),
    );
    let scheduler = match hyper.scheduler {
        Scheduler::Constant => "constant",
        Scheduler::Linear => "linear",
        Scheduler::Cosine => "cosine",
    };
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
    row("Hardware", facts.hardware.describe(workers));
    row(
        "Time",
        format!(
            "{} in all, {} of it in training steps: {} tokens, {:.0} tokens/s",
            duration(facts.elapsed),
            duration(facts.seconds),
            facts.tokens,
            facts.tokens as f64 / facts.seconds.max(1e-9)
        ),
    );
    if let Some(loss) = facts.metric("loss") {
        row("Training loss, last step", format!("{loss:.4}"));
    }
    let run = &facts.config.provenance;
    if !run.name.is_empty() {
        row("Run", format!("{} `{}`", run.kind, run.name));
    }
    text.push('\n');
    if facts.curve().is_some() {
        let _ = writeln!(
            text,
            "![Training and validation loss by optimizer step]({CURVE})\n"
        );
    }
    text.push_str("`training_config.yaml` holds the whole configuration, `training_log.jsonl` the course of the loss.\n\n");
}

fn method(facts: &Facts) -> String {
    match &facts.config.method {
        Method::Full(_) => "all weights".to_owned(),
        Method::Lora(lora) => format!(
            "LoRA, rank {}, alpha {}, dropout {}{}{}{}",
            lora.rank,
            lora.alpha,
            lora.dropout,
            if lora.rs_lora { ", rank-stabilised" } else { "" },
            if lora.target_modules.is_empty() {
                String::new()
            } else {
                format!(", on {}", lora.target_modules.join(", "))
            },
            if facts.config.output.merge {
                ", merged into the base's weights"
            } else {
                ""
            },
        ),
    }
}

/// `7.4 s`, `12 min 5 s`, `3 h 20 min`.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

fn limits(text: &mut String, facts: &Facts) {
    let _ = writeln!(
        text,
        "## Limits\n\nThe model knows what its base and {} examples taught it; texts of another kind or language, or longer than {} tokens, were not measured. Biases of the base and of the data remain.{}\n",
        facts.training_examples,
        facts.config.hyperparameters.max_sequence_length,
        match facts.evaluation_examples {
            Some(_) => "",
            None => " It was not evaluated on held-out examples.",
        }
    );
}

fn license(text: &mut String, facts: &Facts) {
    text.push_str("## Licence and attribution\n\n");
    let holds = if facts.is_adapter() {
        "The adapter holds none of the base's weights; whoever uses it needs the base and keeps to its licence."
    } else {
        "The weights here derive from the base's and stay under its licence."
    };
    let _ = writeln!(
        text,
        "- Base: {}. {holds}",
        under(&facts.base_name(), &facts.license, facts.license_link())
    );
    let _ = writeln!(
        text,
        "- Data: {}.",
        under(
            &facts.dataset_name(),
            &facts.dataset_license,
            facts.dataset_license_link()
        )
    );
}

fn under(name: &str, license: &License, link: Option<String>) -> String {
    // In a card, a bracket, a parenthesis or a space would end the link.
    let link = link.filter(|link| !link.contains(['(', ')', '<', '>', ' ', '\n']));
    match link {
        _ if !license.is_stated() => format!("`{name}`, which states no licence"),
        Some(link) => format!("`{name}`, under [{license}]({link})"),
        None => format!("`{name}`, under {license}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_what_a_person_says() {
        let said = [7.44, 59.9, 725.0, 12_000.0].map(duration);
        assert_eq!(said, ["7.4 s", "1 min 0 s", "12 min 5 s", "3 h 20 min"]);
    }

    #[test]
    fn licences_link_to_their_text_where_the_address_is_sound() {
        let named = License {
            ids: vec!["other".into()],
            name: Some("acme-research".into()),
            link: None,
        };
        let link = |text: &str| under("x", &named, Some(text.into()));
        assert_eq!(
            link("https://acme.example/licence"),
            "`x`, under [acme-research](https://acme.example/licence)"
        );
        assert_eq!(link("https://a) ![](b"), "`x`, under acme-research");
        assert_eq!(
            under("x", &License::default(), None),
            "`x`, which states no licence"
        );
    }
}
