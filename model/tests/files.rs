//! What is refused, and in which words.

mod common;

use std::path::Path;

use common::{classes, decoder_config, directory, encoder_config, ids, load, options};
use serde_json::json;
use slipway_contract::FailureReason;
use slipway_model::{Batch, Head, Mode, ModelError, ModelFiles, Network, Rows};

fn refused(path: &Path, reason: FailureReason, words: &[&str]) {
    let failure = ModelFiles::open(path).unwrap_err().failure();
    assert_eq!(failure.reason, reason, "{failure}");
    for word in words {
        assert!(failure.message.contains(word), "{failure}");
    }
}

#[test]
fn pickle_is_refused_by_name() {
    for name in ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"] {
        let model = directory(&decoder_config("llama"));
        std::fs::rename(model.path().join("model.safetensors"), model.path().join(name)).unwrap();
        refused(
            model.path(),
            FailureReason::UnsafeWeights,
            &[name, "convert the weights to safetensors"],
        );
        refused(&model.path().join(name), FailureReason::UnsafeWeights, &[name]);
    }
    // Beside safetensors it is not read.
    let model = directory(&decoder_config("llama"));
    std::fs::write(model.path().join("training_args.bin"), b"x").unwrap();
    ModelFiles::open(model.path()).unwrap();
}

#[test]
fn an_unknown_architecture_is_named_with_those_known() {
    let model = directory(&decoder_config("llama"));
    let config = json!({"model_type": "mamba", "architectures": ["MambaForCausalLM"]});
    std::fs::write(model.path().join("config.json"), config.to_string()).unwrap();
    refused(
        model.path(),
        FailureReason::UnsupportedArchitecture,
        &["MambaForCausalLM", "Llama", "DistilBERT"],
    );
}

#[test]
fn missing_and_damaged_files_are_named() {
    refused(
        Path::new("/nowhere/model"),
        FailureReason::ModelNotFound,
        &["/nowhere/model", "config.json"],
    );
    let model = directory(&decoder_config("llama"));
    let weights = model.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 100]).unwrap();
    refused(
        model.path(),
        FailureReason::InvalidModel,
        &["model.safetensors", "cut short"],
    );
    std::fs::write(&weights, [255; 64]).unwrap();
    refused(model.path(), FailureReason::InvalidModel, &["header claims"]);
    std::fs::remove_file(&weights).unwrap();
    refused(model.path(), FailureReason::ModelNotFound, &["model.safetensors"]);
    std::fs::write(
        model.path().join("adapter_config.json"),
        r#"{"base_model_name_or_path": "acme/base"}"#,
    )
    .unwrap();
    refused(
        model.path(),
        FailureReason::InvalidModel,
        &["adapter", "acme/base"],
    );

    let model = directory(&decoder_config("llama"));
    std::fs::remove_file(model.path().join("config.json")).unwrap();
    refused(model.path(), FailureReason::ModelNotFound, &["config.json"]);
    std::fs::write(model.path().join("config.json"), "{").unwrap();
    refused(model.path(), FailureReason::InvalidModel, &["config.json"]);
}

#[test]
fn shards_stay_in_their_directory() {
    let model = directory(&decoder_config("llama"));
    std::fs::rename(
        model.path().join("model.safetensors"),
        model.path().join("a.safetensors"),
    )
    .unwrap();
    let index = model.path().join("model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map": {"x": "../secret.safetensors"}}"#).unwrap();
    refused(
        model.path(),
        FailureReason::InvalidModel,
        &["../secret.safetensors"],
    );
    std::fs::write(&index, r#"{"weight_map": {"x": "b.safetensors"}}"#).unwrap();
    refused(model.path(), FailureReason::ModelNotFound, &["b.safetensors"]);
}

fn open_with(config: serde_json::Value, change: impl Fn(&mut serde_json::Value)) -> ModelError {
    let model = directory(&config);
    let mut changed = config;
    change(&mut changed);
    std::fs::write(model.path().join("config.json"), changed.to_string()).unwrap();
    let files = ModelFiles::open(model.path()).unwrap();
    Network::load(&files, Head::CausalLm, options(Mode::Serve)).unwrap_err()
}

#[test]
fn weights_and_configuration_must_agree() {
    let error = open_with(decoder_config("llama"), |config| {
        config["intermediate_size"] = 20.into();
    });
    assert!(
        error
            .to_string()
            .contains("gate_proj.weight has the shape [24, 16]"),
        "{error}"
    );
    let error = open_with(decoder_config("llama"), |config| {
        config["num_hidden_layers"] = 3.into();
    });
    assert!(error.to_string().contains("model.layers.2."), "{error}");
    let error = open_with(decoder_config("llama"), |config| {
        config["num_key_value_heads"] = 3.into();
    });
    assert!(error.to_string().contains("4 attention heads for 3"), "{error}");
    let error = open_with(decoder_config("llama"), |config| {
        config["rope_scaling"] = json!({"rope_type": "yarn", "factor": 2.0});
    });
    assert!(
        error.to_string().contains("yarn") && error.to_string().contains("llama3"),
        "{error}"
    );
}

#[test]
fn tasks_must_fit_the_architecture_and_its_head() {
    let model = directory(&encoder_config("bert"));
    let files = ModelFiles::open(model.path()).unwrap();
    let error = Network::load(&files, Head::CausalLm, options(Mode::Serve)).unwrap_err();
    assert!(
        error.to_string().contains("BERT cannot be used for CausalLM"),
        "{error}"
    );
    let error = Network::load(&files, classes(), options(Mode::Serve)).unwrap_err();
    assert!(matches!(error, ModelError::MissingHead { .. }), "{error}");
    let head = Head::SequenceClassification {
        labels: vec!["one".into()],
    };
    let error = Network::load(&files, head, options(Mode::Train)).unwrap_err();
    assert!(error.to_string().contains("two classes"), "{error}");
}

#[test]
fn too_long_and_unknown_tokens_are_refused() {
    let network = load(
        directory(&encoder_config("roberta")).path(),
        Head::Embedding,
        Mode::Serve,
    );
    // 40 rows of positions, of which RoBERTa leaves two to padding.
    assert_eq!(network.max_sequence_length(), 38);
    network
        .embed(&Batch::padded(&[ids(38, 0)]), &Rows::default())
        .unwrap();
    let error = network
        .embed(&Batch::padded(&[ids(39, 0)]), &Rows::default())
        .unwrap_err();
    assert!(
        error.to_string().contains("39 tokens") && error.to_string().contains("38"),
        "{error}"
    );
    assert_eq!(error.failure().reason, FailureReason::SequenceTooLong);
    let error = network
        .embed(&Batch::padded(&[vec![61]]), &Rows::default())
        .unwrap_err();
    assert!(error.to_string().contains("61"), "{error}");
}

#[test]
fn the_seed_draws_the_same_head() {
    let model = directory(&encoder_config("distilbert"));
    let batch = Batch::padded(&[ids(5, 1)]);
    let scores = |seed| {
        let files = ModelFiles::open(model.path()).unwrap();
        let options = slipway_model::LoadOptions {
            seed,
            ..options(Mode::Train)
        };
        let network = Network::load(&files, classes(), options).unwrap();
        network
            .classify(&batch, &Rows::default())
            .unwrap()
            .to_vec2::<f32>()
            .unwrap()
    };
    assert_eq!(scores(1), scores(1));
    assert_ne!(scores(1), scores(2));
}
