//! Bad input gets one clear sentence and the right exit code.

mod support;

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use support::Bench;

fn config(bench: &Bench, change: impl FnOnce(&mut Value)) -> Value {
    let mut config = bench.config("out", "bert", "train.jsonl");
    change(&mut config);
    config
}

fn contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn configurations_that_cannot_work() {
    let bench = Bench::new();
    bench.sentiment("train.jsonl", 20);
    let refused = |change: fn(&mut Value)| bench.refused("out", &config(&bench, change), 2, "InvalidConfig");
    contains(
        &refused(|c| c["hyperparameters"]["lerningRate"] = json!(1)),
        &["lerningRate"],
    );
    contains(
        &refused(|c| c["task"] = json!("Embedding")),
        &["Embedding", "serving"],
    );
    contains(
        &refused(|c| c["hyperparameters"]["batchSize"] = json!(0)),
        &["batchSize is 0"],
    );
    contains(
        &refused(|c| c["dataset"]["validation"] = json!({ "fraction": 0.9 })),
        &["fraction is 0.9"],
    );
    contains(
        &refused(|c| c["objective"] = json!({ "sft": { "packing": true } })),
        &["packing"],
    );
    contains(
        &refused(|c| c["evaluation"] = json!({ "earlyStopping": { "metric": "loss" } })),
        &["dataset.validation"],
    );
    contains(
        &refused(|c| c["method"]["lora"]["targetModules"] = json!(["q_proj"])),
        &["q_proj", "query"],
    );
    contains(
        &refused(|c| c["workers"] = json!({ "count": 2 })),
        &["workers.coordinator"],
    );
    contains(&refused(|c| c["listen"] = json!("nowhere")), &["listen"]);
}

#[test]
fn a_file_that_is_no_configuration() {
    let bench = Bench::new();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_slipway-trainer"))
            .args(arguments)
            .output()
            .unwrap()
    };
    let missing = run(&["train", "--config", "nowhere.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
    contains(&String::from_utf8_lossy(&missing.stderr), &["nowhere.yaml"]);
    bench.file("broken.yaml", "model: [");
    assert_eq!(
        run(&["train", "--config", bench.path("broken.yaml").to_str().unwrap()])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(run(&["train"]).status.code(), Some(2));
    assert!(run(&["--help"]).status.success());
}

#[test]
fn models_that_cannot_be_trained() {
    let bench = Bench::new();
    bench.sentiment("train.jsonl", 20);
    let refused =
        |change: &dyn Fn(&mut Value), reason| bench.refused("out", &config(&bench, change), 3, reason);
    contains(
        &refused(
            &|c| c["model"]["path"] = json!(bench.path("nowhere")),
            "ModelNotFound",
        ),
        &["nowhere"],
    );
    let long = refused(
        &|c| c["hyperparameters"]["maxSequenceLength"] = json!(500),
        "SequenceTooLong",
    );
    contains(&long, &["500", "64"]);
    bench.file(
        "strange/config.json",
        r#"{"model_type": "mamba", "architectures": ["MambaModel"]}"#,
    );
    fs::copy(
        bench.path("bert/model.safetensors"),
        bench.path("strange/model.safetensors"),
    )
    .unwrap();
    let strange = refused(
        &|c| c["model"]["path"] = json!(bench.path("strange")),
        "UnsupportedArchitecture",
    );
    contains(&strange, &["Mamba", "BERT"]);
    bench.file(
        "pickled/config.json",
        &fs::read_to_string(bench.path("bert/config.json")).unwrap(),
    );
    bench.file("pickled/pytorch_model.bin", "x");
    contains(
        &refused(
            &|c| c["model"]["path"] = json!(bench.path("pickled")),
            "UnsafeWeights",
        ),
        &["pytorch_model.bin"],
    );
}

#[test]
fn data_that_cannot_be_learned() {
    let bench = Bench::new();
    let refused = |rows: &str, change: &dyn Fn(&mut Value), reason| {
        bench.file("train.jsonl", rows);
        bench.refused("out", &config(&bench, change), 3, reason)
    };
    let none: &dyn Fn(&mut Value) = &|_| {};
    let good =
        "{\"text\": \"good stock\", \"label\": \"up\"}\n{\"text\": \"bad stock\", \"label\": \"down\"}\n";
    let no_column = refused(
        good,
        &|c| c["dataset"]["columns"] = json!({ "label": "mood" }),
        "ColumnNotFound",
    );
    contains(&no_column, &["`mood`", "`text`, `label`", "train.jsonl"]);
    let broken = format!("{good}{{\"text\": \n");
    contains(
        &refused(&broken, none, "InvalidRow"),
        &["line 3 of", "train.jsonl", "maxInvalidRows"],
    );
    let nulls = format!("{good}{{\"text\": null, \"label\": \"up\"}}\n");
    contains(&refused(&nulls, none, "InvalidRow"), &["line 3 of", "no `text`"]);
    contains(&refused("\n", none, "EmptyDataset"), &["no example"]);
    let one = "{\"text\": \"good\", \"label\": \"up\"}\n".repeat(3);
    contains(&refused(&one, none, "EmptyDataset"), &["`up`", "two classes"]);
    let missing = refused(
        good,
        &|c| c["dataset"]["source"]["path"] = json!(bench.path("nowhere.jsonl")),
        "DatasetNotFound",
    );
    contains(&missing, &["nowhere.jsonl"]);
}

#[test]
fn as_many_malformed_rows_are_skipped_as_allowed() {
    let bench = Bench::new();
    bench.sentiment("good.jsonl", 20);
    let good = fs::read_to_string(bench.path("good.jsonl")).unwrap();
    bench.file("train.jsonl", &format!("not json\n{good}{{\"label\": 1}}\n"));
    let allowed = config(&bench, |c| c["dataset"]["maxInvalidRows"] = json!(2));
    let output = bench.train("out", &allowed);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stderr.contains("2 malformed rows"),
        "{stderr}"
    );
    let strict = config(&bench, |c| c["dataset"]["maxInvalidRows"] = json!(1));
    contains(
        &bench.refused("out", &strict, 3, "InvalidRow"),
        &["line 1 of", "2 rows are malformed"],
    );
}

#[test]
fn splits_that_disagree() {
    let bench = Bench::new();
    bench.sentiment("data/train.jsonl", 20);
    bench.file(
        "data/validation.jsonl",
        "{\"text\": \"good\", \"label\": \"neutral\"}\n",
    );
    let with = |change: fn(&mut Value)| {
        config(&bench, |c| {
            c["dataset"]["source"]["path"] = json!(bench.path("data"));
            change(c);
        })
    };
    let message = bench.refused("out", &with(|_| {}), 3, "LabelMismatch");
    contains(&message, &["`validation`", "`neutral`", "`negative`, `positive`"]);
    let missing = with(|c| c["dataset"]["validation"] = json!({ "split": "dev" }));
    contains(
        &bench.refused("out", &missing, 3, "DatasetNotFound"),
        &["`dev`", "`train`, `validation`"],
    );
}

#[test]
fn a_loss_that_explodes_keeps_the_last_good_checkpoint() {
    let bench = Bench::new();
    bench.instructions("train.jsonl", 16);
    let mut config = bench.config("out", "llama", "train.jsonl");
    config["method"] = json!({ "full": {} });
    config["hyperparameters"] = json!({
        "maxSteps": 1000, "batchSize": 4, "maxSequenceLength": 32, "learningRate": 1e30, "warmupSteps": 0,
        "scheduler": "Constant", "maxGradientNorm": 0.0,
    });
    config["checkpoint"]["everySteps"] = json!(1);
    let message = bench.refused("out", &config, 3, "LossNotFinite");
    contains(&message, &["checkpoint of step", "learningRate"]);
    assert!(fs::read_dir(bench.path("out-checkpoints")).unwrap().count() > 0);
}

#[test]
fn conversations_need_a_chat_template() {
    let bench = Bench::new();
    bench.file("train.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"good\"}, {\"role\": \"assistant\", \"content\": \"bad\"}]}\n");
    bench.file("llama/tokenizer_config.json", r#"{"eos_token": "[EOS]"}"#);
    let config = bench.config("out", "llama", "train.jsonl");
    contains(
        &bench.refused("out", &config, 3, "InvalidModel"),
        &["no chat template"],
    );
}
