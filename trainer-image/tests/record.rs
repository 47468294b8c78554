//! Results of an evaluation in a model card, on a real Hub.

#[path = "../../hub/tests/common/mod.rs"]
mod common;
mod support;

use common::Hub;
use serde_json::{Value, json};
use slipway_hub::{Commit, Operation, RepoId, RepoType};
use support::Bench;

const PROSE: &str = "# Sentiment\r\n\r\nWritten by a person.\r\n";

fn commit(operations: Vec<Operation>) -> Commit {
    Commit {
        summary: "Add files".into(),
        description: String::new(),
        parent: None,
        operations,
        pull_request: false,
    }
}

fn outcome(bench: &Bench, hub: &Hub, run: &str, config: &Value) -> Value {
    let output = bench
        .run("evaluate", run, config)
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("HF_TOKEN", "hf_owner")
        .env("SLIPWAY_CACHE_DIR", bench.path("cache"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    bench.report(run)["outcome"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_merged_into_the_card_once() {
    let Some(hub) = Hub::start() else { return };
    let client = hub.owner();
    let model = RepoId::new(RepoType::Model, "acme/sentiment").unwrap();
    let dataset = RepoId::new(RepoType::Dataset, "acme/sentences").unwrap();
    let bench = Bench::new();
    bench.sentiment("data/train.jsonl", 40);
    bench.sentiment("data/test.jsonl", 30);
    for repo in [&model, &dataset] {
        client.create_repo(repo, false).await.unwrap();
    }
    let rows = std::fs::read(bench.path("data/test.jsonl")).unwrap();
    let pushed = client
        .commit(&dataset, "main", commit(vec![Operation::add("test.jsonl", rows)]))
        .await
        .unwrap();
    let card = format!("---\r\nlicense: mit # ours\r\n---\r\n{PROSE}");
    client
        .commit(&model, "main", commit(vec![Operation::add("README.md", card)]))
        .await
        .unwrap();
    let mut training = bench.config("good", "bert", "data");
    training["hyperparameters"]["maxSteps"] = json!(20);
    bench.trained("good", &training);

    let mut config = json!({
        "target": { "model": { "path": bench.path("good") } },
        "task": "SequenceClassification",
        "dataset": { "source": { "hub": { "repo": "acme/sentences", "revision": "main" } } },
        "metrics": [{ "name": "accuracy" }, { "name": "f1" }],
        "record": { "modelCard": { "repo": "acme/sentiment" } },
    });
    let first = outcome(&bench, &hub, "first", &config);
    let head = client.resolve(&model, "main").await.unwrap().commit;
    assert_eq!(first["record"]["commit"], *head, "{first}");

    let read = async |revision: &str, path: &str| {
        String::from_utf8(client.read(&model, revision, path).await.unwrap().to_vec()).unwrap()
    };
    let card = read("main", "README.md").await;
    assert!(
        card.starts_with("---\r\nlicense: mit # ours\r\n") && card.ends_with(PROSE),
        "{card}"
    );
    let index = slipway_hub::card::Card::parse(&card)
        .unwrap()
        .get("model-index")
        .unwrap();
    let result = &index[0]["results"][0];
    assert_eq!(result["dataset"]["revision"], *pushed.commit, "{index}");
    assert_eq!(result["dataset"]["split"], "test");
    let recorded = result["metrics"][0]["value"].as_f64().unwrap();
    assert!(
        (recorded - first["results"][0]["value"].as_f64().unwrap()).abs() < 1e-6,
        "{index}"
    );
    let entries = read("main", ".eval_results/acme--sentences.yaml").await;
    assert!(
        entries.contains("test/f1_macro") && entries.contains("30 examples"),
        "{entries}"
    );

    // The same results again: no commit.
    let again = outcome(&bench, &hub, "again", &config);
    assert_eq!(again["record"]["commit"], first["record"]["commit"]);
    assert_eq!(client.resolve(&model, "main").await.unwrap().commit, head);

    // One metric more, by pull request: the main branch stays.
    config["metrics"] = json!([{ "name": "accuracy" }, { "name": "f1" }, { "name": "recall" }]);
    config["record"]["modelCard"]["pullRequest"] = json!(true);
    let proposed = outcome(&bench, &hub, "proposed", &config);
    assert!(
        proposed["record"]["url"]
            .as_str()
            .unwrap()
            .contains("/discussions/"),
        "{proposed}"
    );
    assert_eq!(client.resolve(&model, "main").await.unwrap().commit, head);

    // A repository that is not there is the user's mistake, told after the measuring.
    config["record"]["modelCard"]["repo"] = json!("acme/nowhere");
    let output = bench
        .run("evaluate", "nowhere", &config)
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("HF_TOKEN", "hf_owner")
        .env("SLIPWAY_CACHE_DIR", bench.path("cache"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(bench.report("nowhere")["failure"]["reason"], "ModelNotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn predictions_are_committed_to_a_dataset_repository_once() {
    let Some(hub) = Hub::start() else { return };
    let client = hub.owner();
    let bench = Bench::new();
    bench.instructions("data/test.jsonl", 12);
    bench.file(
        "benchmark.yaml",
        "{name: own, prompt: prompt, choices: [good, the market is], target: 1, metrics: [{name: acc}]}",
    );
    let config = json!({
        "target": { "model": { "path": bench.path("llama") } },
        "task": "MultipleChoice",
        "dataset": { "source": { "path": bench.path("data") } },
        "benchmark": { "path": bench.path("benchmark.yaml") },
        "predictionsHub": { "repo": "acme/answers" },
        "provenance": { "kind": "EvalRun", "name": "models/school" },
    });
    let first = outcome(&bench, &hub, "first", &config);
    let repo = RepoId::new(RepoType::Dataset, "acme/answers").unwrap();
    let head = client.resolve(&repo, "main").await.unwrap().commit;
    assert_eq!(first["predictions"]["commit"], *head, "{first}");
    let file = client
        .read(&repo, "main", "school/test-00000-of-00001.parquet")
        .await
        .unwrap();
    assert!(file.starts_with(b"PAR1"));
    let card = String::from_utf8(client.read(&repo, "main", "README.md").await.unwrap().to_vec()).unwrap();
    let parsed = slipway_hub::card::Card::parse(&card).unwrap();
    let configs = parsed.get("configs").unwrap();
    assert_eq!(configs[0]["config_name"], "school", "{card}");
    assert_eq!(
        configs[0]["data_files"][0]["path"],
        "school/test-00000-of-00001.parquet"
    );
    assert!(
        card.contains("`logLikelihoods`") && card.contains("a model that is on no Hub"),
        "{card}"
    );

    // The same again: no commit. Another run: its own configuration beside the first, prose untouched.
    let again = outcome(&bench, &hub, "again", &config);
    assert_eq!(again["predictions"]["commit"], first["predictions"]["commit"]);
    let mut other = config.clone();
    other["provenance"]["name"] = json!("models/later");
    outcome(&bench, &hub, "other", &other);
    let card = String::from_utf8(client.read(&repo, "main", "README.md").await.unwrap().to_vec()).unwrap();
    let later = slipway_hub::card::Card::parse(&card).unwrap();
    let names: Vec<Value> = later
        .get("configs")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["config_name"].clone())
        .collect();
    assert_eq!(names, ["later", "school"]);
    assert_eq!(later.body(), parsed.body());
}
