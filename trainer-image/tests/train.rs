//! Training runs as a person starts them, on tiny models.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};
use support::{Bench, numbers};

#[test]
fn a_classifier_learns_and_is_written_as_peft_reads_it() {
    let bench = Bench::new();
    bench.sentiment("data/train.jsonl", 120);
    bench.sentiment("data/validation.jsonl", 40);
    let mut config = bench.config("out", "bert", "data");
    config["hyperparameters"] = json!({ "epochs": 6.0, "batchSize": 8, "learningRate": 0.02, "maxSequenceLength": 32, "warmupSteps": 4 });
    let outcome = bench.trained("out", &config);
    assert_eq!(outcome["steps"], 90);
    let metrics = outcome["metrics"].as_array().unwrap();
    let accuracy = metrics
        .iter()
        .find(|metric| metric["name"] == "evalAccuracy")
        .unwrap();
    assert!(accuracy["value"].as_f64().unwrap() > 0.9, "{outcome}");
    let card = fs::read_to_string(bench.path("out").join("README.md")).unwrap();
    assert!(
        card.contains("library_name: peft") && card.contains("`negative`, `positive`"),
        "{card}"
    );
    let adapter = bench.tensors("out", "adapter_model.safetensors");
    assert!(
        adapter
            .keys()
            .any(|name| name.ends_with("attention.self.query.lora_A.weight")),
        "{:?}",
        adapter.keys()
    );
    for name in [
        "adapter_config.json",
        "tokenizer.json",
        "training_config.yaml",
        "training_log.jsonl",
    ] {
        assert!(bench.path("out").join(name).exists(), "{name}");
    }
}

#[test]
fn a_decoder_learns_answers_packed_or_not() {
    let bench = Bench::new();
    bench.instructions("train.jsonl", 40);
    for packing in [false, true] {
        let run = format!("packing-{packing}");
        let mut config = bench.config(&run, "llama", "train.jsonl");
        config["objective"] = json!({ "sft": { "packing": packing } });
        config["hyperparameters"]["maxSteps"] = json!(60);
        config["method"] = json!({ "lora": { "rank": 8, "alpha": 16.0, "targetModules": ["all-linear"] } });
        bench.trained(&run, &config);
        let losses = bench.losses(&run);
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(last < 0.7 * first, "packing {packing}: {first} to {last}");
    }
}

#[test]
fn all_weights_or_merged_ones_stand_alone() {
    let bench = Bench::new();
    bench.instructions("train.jsonl", 16);
    let mut config = bench.config("full", "llama", "train.jsonl");
    config["method"] = json!({ "full": {} });
    bench.trained("full", &config);
    let mut config = bench.config("merged", "llama", "train.jsonl");
    config["output"]["merge"] = json!(true);
    bench.trained("merged", &config);
    let base = bench.tensors("llama", "model.safetensors");
    for run in ["full", "merged"] {
        let tensors = bench.tensors(run, "model.safetensors");
        assert!(base.keys().eq(tensors.keys()), "{run}");
        assert!(base != tensors, "{run} learned nothing");
        // Its own result is a model to start from.
        let again = format!("{run}-again");
        let mut config = bench.config(&again, run, "train.jsonl");
        config["hyperparameters"]["maxSteps"] = json!(1);
        bench.trained(&again, &config);
    }
}

#[test]
fn two_workers_train_like_one_with_twice_the_accumulation() {
    let bench = Bench::new();
    bench.sentiment("train.jsonl", 60);
    let mut alone = bench.config("alone", "bert", "train.jsonl");
    alone["hyperparameters"]["gradientAccumulationSteps"] = json!(2);
    bench.trained("alone", &alone);
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = |run: &str| {
        let mut config = bench.config(run, "bert", "train.jsonl");
        config["workers"] = json!({ "count": 2, "coordinator": format!("127.0.0.1:{port}") });
        config
    };
    let mut member = bench
        .trainer("member", &config("member"))
        .env("JOB_COMPLETION_INDEX", "1")
        .spawn()
        .unwrap();
    bench.trained("together", &config("together"));
    assert!(member.wait().unwrap().success());
    assert!(
        !bench.path("member").exists() && !bench.path("member-checkpoints").exists(),
        "only rank 0 writes"
    );
    let (alone, together) = (
        bench.tensors("alone", "adapter_model.safetensors"),
        bench.tensors("together", "adapter_model.safetensors"),
    );
    for (name, bytes) in alone {
        for (one, other) in numbers(&bytes).into_iter().zip(numbers(&together[&name])) {
            assert!((one - other).abs() < 2e-4, "{name}: {one} and {other}");
        }
    }
}

#[test]
fn a_lost_worker_stops_the_others() {
    let bench = Bench::new();
    bench.sentiment("train.jsonl", 60);
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = |run: &str| {
        let mut config = bench.config(run, "bert", "train.jsonl");
        config["hyperparameters"]["maxSteps"] = json!(100_000);
        config["workers"] = json!({ "count": 2, "coordinator": format!("127.0.0.1:{port}") });
        config
    };
    let mut member = bench
        .trainer("member", &config("member"))
        .env("JOB_COMPLETION_INDEX", "1")
        .spawn()
        .unwrap();
    let leader = bench.spawn("leader", &config("leader"));
    wait_for(&bench.path("leader-checkpoints").join("step-00000004"));
    member.kill().unwrap();
    member.wait().unwrap();
    let output = leader.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(4),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(bench.report("leader")["failure"]["reason"], "WorkerLost");
}

#[test]
fn early_stopping_publishes_the_best_weights() {
    let bench = Bench::new();
    bench.sentiment("train.jsonl", 60);
    let mut config = bench.config("out", "bert", "train.jsonl");
    config["dataset"]["validation"] = json!({ "fraction": 0.2 });
    config["hyperparameters"]["maxSteps"] = json!(200);
    // A rate that soon makes things worse.
    config["hyperparameters"]["learningRate"] = json!(0.2);
    config["hyperparameters"]["scheduler"] = json!("Constant");
    config["evaluation"] = json!({ "everySteps": 2, "earlyStopping": { "metric": "loss", "patience": 2 } });
    let outcome = bench.trained("out", &config);
    assert_eq!(outcome["stoppedEarly"], true, "{outcome}");
    let log = fs::read_to_string(bench.path("out").join("training_log.jsonl")).unwrap();
    let evaluations: Vec<f64> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["evaluation"]["loss"].as_f64())
        .collect();
    let best = evaluations.iter().copied().fold(f64::INFINITY, f64::min);
    let metrics = outcome["metrics"].as_array().unwrap();
    let reported = metrics
        .iter()
        .find(|metric| metric["name"] == "evalLoss")
        .unwrap()["value"]
        .as_f64()
        .unwrap();
    assert!(
        (reported - best).abs() < 1e-12,
        "{reported} is not the best of {evaluations:?}"
    );
}

#[test]
fn progress_and_metrics_are_served_while_it_runs() {
    let bench = Bench::new();
    bench.sentiment("train.jsonl", 60);
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut config = bench.config("out", "bert", "train.jsonl");
    config["hyperparameters"]["maxSteps"] = json!(100_000);
    config["listen"] = json!(format!("127.0.0.1:{port}"));
    let mut child = bench.spawn("out", &config);
    wait_for(&bench.path("out-checkpoints").join("step-00000008"));
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let progress: Value = serde_json::from_str(&get("/progress")).unwrap();
    assert_eq!(
        (&progress["phase"], &progress["totalSteps"]),
        (&json!("Training"), &json!(100_000))
    );
    assert!(
        progress["step"].as_u64().unwrap() >= 8 && progress["loss"].is_f64(),
        "{progress}"
    );
    assert!(
        progress["lastCheckpoint"]["step"].as_u64().unwrap() >= 8 && progress["tokensPerSecond"].is_f64(),
        "{progress}"
    );
    let metrics = get("/metrics");
    assert!(
        metrics.contains("slipway_trainer_loss ") && metrics.contains("process_resident_memory_bytes "),
        "{metrics}"
    );
    assert_eq!(get("/healthz"), "ok\n");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Waits for the checkpoint `path` or a later one: on a fast machine it may be pruned before it is seen.
fn wait_for(path: &std::path::Path) {
    for _ in 0..600 {
        let written = fs::read_dir(path.parent().unwrap())
            .into_iter()
            .flatten()
            .flatten();
        if written
            .map(|entry| entry.path())
            .any(|found| found.as_path() >= path && found.is_dir())
        {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{} did not appear", path.display());
}
