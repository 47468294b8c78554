//! Publishing to a real Hub: licences asked for before training, cards left alone, pull requests opened once.

#[path = "../../hub/tests/common/mod.rs"]
mod common;
mod support;

use std::fs;
use std::process::Output;

use common::Hub;
use serde_json::{Value, json};
use slipway_hub::{Client, Operation, RepoId};
use support::Bench;

const MODEL: [&str; 4] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Puts the tiny decoder of `bench` on the Hub, with a card.
async fn base(bench: &Bench, client: &Client, repo: &str, card: &str) -> RepoId {
    let repo = RepoId::model(repo).unwrap();
    client.create_repo(&repo, false).await.unwrap();
    let mut operations = vec![Operation::add("README.md", card.to_owned())];
    operations.extend(MODEL.map(|name| Operation::add_file(name, bench.path("llama").join(name))));
    let operations = &operations;
    client
        .update(&repo, "main", "seed", false, |_| async { Ok(operations.clone()) })
        .await
        .unwrap();
    repo
}

/// A configuration that trains the base `repo` and publishes to `acme/tuned`.
fn config(bench: &Bench, run: &str, repo: &str, method: Value) -> Value {
    let mut config = bench.config(run, "llama", "train.jsonl");
    config["model"] = json!({ "hub": { "repo": repo } });
    config["method"] = method;
    config["hyperparameters"]["maxSteps"] = json!(4);
    config["output"]["hub"] = json!({ "repo": "acme/tuned" });
    config
}

fn train(bench: &Bench, hub: &Hub, run: &str, config: &Value) -> Output {
    bench
        .trainer(run, config)
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("HF_TOKEN", "hf_owner")
        .env("SLIPWAY_CACHE_DIR", bench.path("cache"))
        .output()
        .unwrap()
}

fn succeeds(bench: &Bench, hub: &Hub, run: &str, config: &Value) -> Value {
    let output = train(bench, hub, run, config);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    bench.report(run)["outcome"].clone()
}

fn refused(bench: &Bench, hub: &Hub, run: &str, config: &Value) -> String {
    let output = train(bench, hub, run, config);
    assert_eq!(
        output.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        !bench.path(&format!("{run}-checkpoints")).exists(),
        "it trained before it asked"
    );
    let failure = bench.report(run)["failure"].clone();
    assert_eq!(failure["reason"], "LicenseNotAccepted", "{failure}");
    failure["message"].as_str().unwrap().to_owned()
}

async fn text(client: &Client, revision: &str, path: &str) -> String {
    let repo = RepoId::model("acme/tuned").unwrap();
    String::from_utf8(client.read(&repo, revision, path).await.unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_weights_under_a_licence_that_may_forbid_it_wait_for_a_persons_word() {
    let Some(hub) = Hub::start() else { return };
    let (bench, client) = (Bench::new(), hub.owner());
    bench.instructions("train.jsonl", 8);
    let full = json!({ "full": {} });
    base(&bench, &client, "acme/nd", "---\nlicense: cc-by-nd-4.0\n---\n").await;
    let message = refused(&bench, &hub, "nd", &config(&bench, "nd", "acme/nd", full.clone()));
    assert!(
        message.contains("acme/nd is under cc-by-nd-4.0")
            && message.contains("output.acceptLicense: cc-by-nd-4.0"),
        "{message}"
    );
    let mut merged = config(
        &bench,
        "merged",
        "acme/nd",
        json!({ "lora": { "rank": 2, "alpha": 4.0 } }),
    );
    merged["output"]["merge"] = json!(true);
    refused(&bench, &hub, "merged", &merged);
    // Named, it is published, and the licence is carried.
    merged["output"]["acceptLicense"] = json!("cc-by-nd-4.0");
    succeeds(&bench, &hub, "merged", &merged);
    let card = text(&client, "main", "README.md").await;
    assert!(
        card.contains("license: cc-by-nd-4.0") && card.contains("stay under its licence"),
        "{card}"
    );

    // A gated base: the weights wait, an adapter does not.
    let gated = base(&bench, &client, "acme/gated", "---\nlicense: mit\n---\n").await;
    hub.put("/api/models/acme/gated/settings", json!({"gated": "auto"}))
        .await;
    let message = refused(
        &bench,
        &hub,
        "gated",
        &config(&bench, "gated", "acme/gated", full.clone()),
    );
    assert!(message.contains("acme/gated is gated"), "{message}");
    let lora = json!({ "lora": { "rank": 2, "alpha": 4.0 } });
    succeeds(
        &bench,
        &hub,
        "adapter",
        &config(&bench, "adapter", "acme/gated", lora),
    );
    let card = text(&client, "main", "README.md").await;
    assert!(card.contains(&format!("`{}`", gated.id())), "{card}");

    // What stays here is nobody's business.
    let mut kept = config(&bench, "kept", "acme/nd", full);
    kept["output"].as_object_mut().unwrap().remove("hub");
    succeeds(&bench, &hub, "kept", &kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_cannot_be_edited_stays_and_the_weights_are_published() {
    let Some(hub) = Hub::start() else { return };
    let (bench, client) = (Bench::new(), hub.owner());
    bench.instructions("train.jsonl", 8);
    base(&bench, &client, "acme/base", "---\nlicense: mit\n---\n").await;
    let tuned = RepoId::model("acme/tuned").unwrap();
    client.create_repo(&tuned, false).await.unwrap();
    let latin = b"# Mod\xe8le\n".to_vec();
    let old = &latin;
    client
        .update(&tuned, "main", "card", false, |_| async {
            Ok(vec![Operation::add("README.md", old.clone())])
        })
        .await
        .unwrap();
    let lora = json!({ "lora": { "rank": 2, "alpha": 4.0 } });
    let outcome = succeeds(&bench, &hub, "run", &config(&bench, "run", "acme/base", lora));
    let note = outcome["notes"][0].as_str().unwrap();
    assert!(note.contains("not UTF-8") && note.contains("byte 5"), "{note}");
    let commit = outcome["published"]["commit"].as_str().unwrap();
    assert_eq!(client.read(&tuned, commit, "README.md").await.unwrap(), latin);
    client
        .read(&tuned, commit, "adapter_model.safetensors")
        .await
        .unwrap();
    assert!(
        text(&client, commit, "training/loss.svg")
            .await
            .starts_with("<svg")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_loses_its_answer_and_is_repeated_has_one_pull_request() {
    let Some(hub) = Hub::start() else { return };
    let (bench, client) = (Bench::new(), hub.owner());
    bench.instructions("train.jsonl", 8);
    base(&bench, &client, "acme/base", "---\nlicense: mit\n---\n").await;
    let lora = json!({ "lora": { "rank": 2, "alpha": 4.0 } });
    let mut config = config(&bench, "run", "acme/base", lora);
    config["output"]["hub"]["pullRequest"] = json!(true);
    config["provenance"] = json!({ "kind": "FineTuneJob", "name": "models/tuned", "uid": "0b6c-1" });
    hub.fault(json!({"match": "^POST .*/commit/main\\?create_pr=1", "dropAfterBytes": 5}))
        .await;
    let first = succeeds(&bench, &hub, "run", &config)["published"].clone();
    assert!(
        first["url"].as_str().unwrap().ends_with("/discussions/1"),
        "{first}"
    );
    // Another pod of the same job, from the checkpoint: the same card to the byte, so not even a commit.
    fs::remove_dir_all(bench.path("run")).unwrap();
    let second = succeeds(&bench, &hub, "run", &config)["published"].clone();
    let repo = RepoId::model("acme/tuned").unwrap();
    for name in [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "training/loss.svg",
        "training_config.yaml",
        "training_log.jsonl",
    ] {
        let at = async |published: &Value| {
            let commit = published["commit"].as_str().unwrap();
            client.read(&repo, commit, name).await.unwrap()
        };
        assert!(at(&first).await == at(&second).await, "{name} is another one");
    }
    assert_eq!(first, second);
    let card = text(&client, "refs/pr/1", "README.md").await;
    assert!(card.contains("| Run | FineTuneJob `models/tuned` |"), "{card}");
}
