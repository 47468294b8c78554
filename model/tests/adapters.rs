//! Adapters: written, read, mixed in one batch, merged.

mod common;

use std::path::Path;

use common::{assert_close, classes, decoder_config, directory, encoder_config, ids, load, random};
use slipway_contract::Lora;
use slipway_model::{AdapterId, Batch, Head, Mode, ModelError, Network, Rows};

/// Trains nothing, but fills a LoRA with numbers and writes it.
fn write_adapter(model: &Path, head: Head, lora: &Lora, seed: u64, out: &Path) -> Network {
    let mut network = load(model, head, Mode::Train);
    network.attach_lora(lora, seed).unwrap();
    for (index, (_, var)) in network.trainable().iter().enumerate() {
        var.set(&random(var.dims(), seed + index as u64)).unwrap();
    }
    network.save_adapter(out, "acme/base", Some("abc")).unwrap();
    network
}

fn rows(adapters: &[Option<AdapterId>]) -> Rows {
    Rows {
        adapters: Some(adapters.to_vec()),
    }
}

#[test]
fn rows_of_one_batch_go_through_different_adapters() {
    let model = directory(&decoder_config("llama"));
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let all = Lora {
        rank: 2,
        rs_lora: true,
        target_modules: vec!["all-linear".into()],
        ..Lora::default()
    };
    write_adapter(model.path(), Head::CausalLm, &Lora::default(), 10, first.path());
    write_adapter(model.path(), Head::CausalLm, &all, 20, second.path());
    let mut network = load(model.path(), Head::CausalLm, Mode::Serve);
    let a = network.add_adapter("a", first.path()).unwrap();
    let b = network.add_adapter("b", second.path()).unwrap();
    assert_eq!(network.adapter("b"), Some(b));

    let sequences = [ids(5, 1), ids(8, 2), ids(3, 3), ids(8, 4)];
    let chosen = [Some(b), None, Some(a), Some(b)];
    let together = network
        .hidden(&Batch::padded(&sequences), &rows(&chosen))
        .unwrap();
    for (row, (sequence, id)) in sequences.iter().zip(chosen).enumerate() {
        let alone = network
            .hidden(&Batch::padded(std::slice::from_ref(sequence)), &rows(&[id]))
            .unwrap();
        let alone = alone.squeeze(0).unwrap();
        assert_close(
            &together.get(row).unwrap().narrow(0, 0, sequence.len()).unwrap(),
            &alone,
            1e-3,
        );
    }
    // Decoding mixes them too.
    let mut caches: Vec<_> = sequences.iter().map(|_| network.kv_cache()).collect();
    for ((sequence, cache), id) in sequences.iter().zip(&mut caches).zip(chosen) {
        network.prefill(sequence, cache, id).unwrap();
    }
    let mut borrowed: Vec<_> = caches.iter_mut().collect();
    let scores = network.decode(&[1, 2, 3, 4], &mut borrowed, &chosen).unwrap();
    for (row, (sequence, id)) in sequences.iter().zip(chosen).enumerate() {
        let mut tokens = sequence.clone();
        tokens.push(row as u32 + 1);
        let mut cache = network.kv_cache();
        let expected = network.prefill(&tokens, &mut cache, id).unwrap();
        assert_close(&scores.get(row).unwrap(), &expected, 1e-3);
    }
    assert!(network.remove_adapter(a) && !network.remove_adapter(a));
    let gone = network.hidden(&Batch::padded(&sequences), &rows(&chosen));
    assert!(matches!(gone, Err(ModelError::UnknownAdapter)));
}

#[test]
fn a_written_adapter_computes_as_the_trained_one() {
    for config in [
        encoder_config("bert"),
        encoder_config("roberta"),
        encoder_config("distilbert"),
    ] {
        // The base has no head at all: the adapter brings it.
        let model = directory(&config);
        let out = tempfile::tempdir().unwrap();
        let trained = write_adapter(model.path(), classes(), &Lora::default(), 30, out.path());
        let batch = Batch::padded(&[ids(9, 1), ids(4, 2)]);
        let expected = trained.classify(&batch, &Rows::default()).unwrap();

        let files = slipway_model::ModelFiles::open(model.path()).unwrap();
        let options = slipway_model::LoadOptions {
            head_from_adapter: true,
            ..common::options(Mode::Serve)
        };
        let head = Head::SequenceClassification {
            labels: vec!["LABEL_0".into(), "LABEL_1".into()],
        };
        let mut served = Network::load(&files, head, options).unwrap();
        let base = served.classify(&batch, &Rows::default());
        assert!(matches!(base, Err(ModelError::MissingHead { .. })), "{base:?}");
        let id = served.add_adapter("mood", out.path()).unwrap();
        assert_close(
            &served.classify(&batch, &rows(&[Some(id); 2])).unwrap(),
            &expected,
            1e-5,
        );
        assert_eq!(
            served.labels(Some(id)).unwrap(),
            ["negative", "neutral", "positive"]
        );

        served.merge_adapter(Some(id)).unwrap();
        assert_close(
            &served.classify(&batch, &Rows::default()).unwrap(),
            &expected,
            1e-4,
        );
        // Written whole and read again, it is a classifier of its own.
        let whole = tempfile::tempdir().unwrap();
        served.save_full(whole.path()).unwrap();
        let again = load(whole.path(), classes(), Mode::Serve);
        assert_close(
            &again.classify(&batch, &Rows::default()).unwrap(),
            &expected,
            1e-4,
        );
    }
}

#[test]
fn merging_what_was_trained_changes_nothing_but_speed() {
    let model = directory(&decoder_config("qwen2"));
    let out = tempfile::tempdir().unwrap();
    let mut network = write_adapter(model.path(), Head::CausalLm, &Lora::default(), 40, out.path());
    let batch = Batch::padded(&[ids(9, 1)]);
    let expected = network.hidden(&batch, &Rows::default()).unwrap();
    network.merge_adapter(None).unwrap();
    assert_close(
        &network.hidden(&batch, &Rows::default()).unwrap(),
        &expected,
        1e-3,
    );
    assert!(matches!(
        network.merge_adapter(None),
        Err(ModelError::UnknownAdapter)
    ));
}

#[test]
fn an_unknown_target_names_those_there_are() {
    let mut network = load(
        directory(&decoder_config("llama")).path(),
        Head::CausalLm,
        Mode::Train,
    );
    let lora = Lora {
        target_modules: vec!["q_proj".into(), "query".into()],
        ..Lora::default()
    };
    let message = network.attach_lora(&lora, 0).unwrap_err().to_string();
    assert!(
        message.contains("target query") && message.contains("down_proj, gate_proj"),
        "{message}"
    );
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let llama = directory(&decoder_config("llama"));
    let bert = directory(&encoder_config("bert"));
    let out = tempfile::tempdir().unwrap();
    write_adapter(llama.path(), Head::CausalLm, &Lora::default(), 50, out.path());
    let mut other = load(bert.path(), Head::Embedding, Mode::Serve);
    let message = other.add_adapter("x", out.path()).unwrap_err().to_string();
    assert!(
        message.contains("q_proj.lora_A") && message.contains("another base"),
        "{message}"
    );

    let mut network = load(llama.path(), Head::CausalLm, Mode::Serve);
    let config = out.path().join("adapter_config.json");
    let dora = std::fs::read_to_string(&config)
        .unwrap()
        .replace("\"use_dora\": false", "\"use_dora\": true");
    std::fs::write(&config, dora).unwrap();
    let message = network.add_adapter("x", out.path()).unwrap_err().to_string();
    assert!(message.contains("DoRA"), "{message}");

    std::fs::remove_file(out.path().join("adapter_model.safetensors")).unwrap();
    std::fs::write(&config, r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8}"#).unwrap();
    std::fs::write(out.path().join("adapter_model.bin"), b"x").unwrap();
    let error = network.add_adapter("x", out.path()).unwrap_err();
    assert!(matches!(error, ModelError::UnsafeWeights { .. }));
}
