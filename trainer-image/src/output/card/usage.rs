//! How to use what a training run published: programs that run as they stand. Pure.

use serde_json::{Value, json};
use slipway_contract::Task;

use crate::output::Facts;

/// The part `How to use`: transformers (and PEFT), the server, curl.
pub(super) fn usage(facts: &Facts) -> String {
    format!(
        "## How to use\n\nWith {}{}:\n\n```python\n{}```\n\nOver HTTP, with Slipway's server:\n\n```sh\n{}```\n\n",
        if facts.is_adapter() {
            "transformers and PEFT"
        } else {
            "transformers"
        },
        if facts.config.output.hub.is_some() {
            ""
        } else {
            ", in this directory"
        },
        python(facts),
        shell(facts)
    )
}

/// Where the published files are: a repository, else the directory that the card stands in.
fn place(facts: &Facts) -> &str {
    facts
        .config
        .output
        .hub
        .as_ref()
        .map_or(".", |hub| hub.repo.as_str())
}

/// `value` as a Python expression; a JSON text is one, as long as there is no `null`, `true` or `false`.
fn quoted(value: impl Into<Value>) -> String {
    value.into().to_string()
}

fn python(facts: &Facts) -> String {
    let here = quoted(place(facts));
    let classifies = facts.config.task == Task::SequenceClassification;
    let class = if classifies {
        "AutoModelForSequenceClassification"
    } else {
        "AutoModelForCausalLM"
    };
    let mut lines = Vec::new();
    if classifies {
        lines.push("import torch".to_owned());
    }
    if facts.is_adapter() {
        lines.push("from peft import PeftModel".to_owned());
    }
    lines.push(format!("from transformers import {class}, AutoTokenizer\n"));
    if classifies && facts.is_adapter() {
        lines.push(format!("labels = {}", quoted(facts.labels.clone())));
    }
    lines.push(format!("tokenizer = AutoTokenizer.from_pretrained({here})"));
    if facts.is_adapter() {
        lines.push(format!(
            "base = {class}.from_pretrained({}{})",
            base(facts),
            if classifies {
                ", num_labels=len(labels)"
            } else {
                ""
            }
        ));
        lines.push(format!(
            "model = PeftModel.from_pretrained(base, {here}).eval()\n"
        ));
    } else {
        lines.push(format!("model = {class}.from_pretrained({here}).eval()\n"));
    }
    lines.extend(if classifies {
        classify(facts)
    } else {
        generate(facts)
    });
    lines.join("\n") + "\n"
}

/// The arguments that load the base at the commit it was trained from.
fn base(facts: &Facts) -> String {
    let file = facts.base_path.extension().is_some_and(|ending| ending == "gguf");
    let name = facts.base_path.file_name().unwrap_or_default().to_string_lossy();
    let gguf = if file {
        format!(", gguf_file={}", quoted(&*name))
    } else {
        String::new()
    };
    if let Some(pin) = &facts.base {
        return format!("{}, revision={}{gguf}", quoted(&*pin.repo), quoted(&*pin.commit));
    }
    let parent = facts.base_path.parent().filter(|_| file);
    let directory = parent.unwrap_or(&facts.base_path);
    format!("{}{gguf}", quoted(&*directory.to_string_lossy()))
}

fn classify(facts: &Facts) -> Vec<String> {
    let length = facts.config.hyperparameters.max_sequence_length;
    let label = if facts.is_adapter() {
        "labels[best]"
    } else {
        "model.config.id2label[best]"
    };
    vec![
        format!(
            "inputs = tokenizer(\"A text to classify\", truncation=True, max_length={length}, return_tensors=\"pt\")"
        ),
        "with torch.no_grad():".to_owned(),
        "    best = model(**inputs).logits.argmax(-1).item()".to_owned(),
        format!("print({label})"),
    ]
}

fn generate(facts: &Facts) -> Vec<String> {
    let inputs = if facts.chat {
        "messages = [{\"role\": \"user\", \"content\": \"A question\"}]\ninputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors=\"pt\", return_dict=True)"
    } else {
        "inputs = tokenizer(\"The beginning of a text\", return_tensors=\"pt\")"
    };
    vec![
        inputs.to_owned(),
        "output = model.generate(**inputs, max_new_tokens=64)".to_owned(),
        "print(tokenizer.decode(output[0, inputs[\"input_ids\"].shape[1]:], skip_special_tokens=True))"
            .to_owned(),
    ]
}

fn shell(facts: &Facts) -> String {
    let source = match &facts.config.output.hub {
        Some(hub) => format!("hf://{}", hub.repo),
        None => ".".to_owned(),
    };
    let name = place(facts).rsplit('/').next().filter(|name| *name != ".");
    let name = name.unwrap_or("tuned");
    let (path, body) = if facts.config.task == Task::SequenceClassification {
        ("/predict", json!({"inputs": "A text to classify"}))
    } else if facts.chat {
        (
            "/v1/chat/completions",
            json!({"model": name, "max_tokens": 64, "messages": [{"role": "user", "content": "A question"}]}),
        )
    } else {
        (
            "/v1/completions",
            json!({"model": name, "max_tokens": 64, "prompt": "The beginning of a text"}),
        )
    };
    format!(
        "slipway-server --model {source} --name {name} --listen 127.0.0.1:8080 &\ncurl -s --retry 30 --retry-connrefused --retry-delay 2 http://127.0.0.1:8080{path} \\\n  -H 'content-type: application/json' -d '{body}'\n"
    )
}
