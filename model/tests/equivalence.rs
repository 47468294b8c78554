//! The same tokens give the same numbers, however they are run.

mod common;

use candle_core::Tensor;
use common::{assert_close, classes, decoder_config, directory, encoder_config, ids, load, network};
use serde_json::Value;
use slipway_contract::Lora;
use slipway_model::{Batch, Head, Mode, Network, Rows};

fn decoders() -> Vec<Value> {
    let mut sliding = decoder_config("mistral");
    sliding["sliding_window"] = 5.into();
    let mut tied = decoder_config("llama");
    tied["tie_word_embeddings"] = true.into();
    vec![decoder_config("llama"), decoder_config("qwen2"), sliding, tied]
}

/// Scores of every token: [T, V].
fn scores(network: &Network, tokens: &[u32]) -> Tensor {
    let hidden = network
        .hidden(&Batch::padded(&[tokens.to_vec()]), &Rows::default())
        .unwrap();
    network.lm_logits(&hidden).unwrap().squeeze(0).unwrap()
}

#[test]
fn token_by_token_is_all_at_once() {
    for config in decoders() {
        let network = network(&config, Head::CausalLm, Mode::Serve);
        let tokens = ids(20, 4);
        let expected = scores(&network, &tokens);
        let mut cache = network.kv_cache();
        // In two chunks, then one by one.
        network.prefill(&tokens[..6], &mut cache, None).unwrap();
        let found = network.prefill(&tokens[6..12], &mut cache, None).unwrap();
        assert_close(&found, &expected.get(11).unwrap(), 1e-4);
        for place in 12..20 {
            let found = network
                .decode(&tokens[place..=place], &mut [&mut cache], &[None])
                .unwrap();
            assert_close(&found.squeeze(0).unwrap(), &expected.get(place).unwrap(), 1e-4);
        }
        assert_eq!(cache.len(), 20);
    }
}

#[test]
fn sequences_of_different_lengths_decode_together() {
    for config in decoders() {
        let network = network(&config, Head::CausalLm, Mode::Serve);
        let prompts = [ids(3, 1), ids(11, 2), ids(1, 3)];
        let mut caches: Vec<_> = prompts.iter().map(|_| network.kv_cache()).collect();
        for (prompt, cache) in prompts.iter().zip(&mut caches) {
            network.prefill(prompt, cache, None).unwrap();
        }
        let next = [5, 6, 7];
        let mut borrowed: Vec<_> = caches.iter_mut().collect();
        let found = network.decode(&next, &mut borrowed, &[None; 3]).unwrap();
        for (row, prompt) in prompts.iter().enumerate() {
            let mut tokens = prompt.clone();
            tokens.push(next[row]);
            let expected = scores(&network, &tokens).get(tokens.len() - 1).unwrap();
            assert_close(&found.get(row).unwrap(), &expected, 1e-4);
        }
    }
}

#[test]
fn a_cache_grows_beyond_its_block() {
    let mut config = decoder_config("llama");
    config["max_position_embeddings"] = 600.into();
    let network = network(&config, Head::CausalLm, Mode::Serve);
    let tokens = ids(300, 1);
    let mut cache = network.kv_cache();
    network.prefill(&tokens[..255], &mut cache, None).unwrap();
    for token in &tokens[255..299] {
        network.decode(&[*token], &mut [&mut cache], &[None]).unwrap();
    }
    let found = network.prefill(&tokens[299..], &mut cache, None).unwrap();
    assert_close(&found, &scores(&network, &tokens).get(299).unwrap(), 1e-3);
}

#[test]
fn packing_and_padding_change_nothing() {
    let configs = decoders().into_iter().map(|config| (config, Head::CausalLm));
    for (config, head) in configs {
        let network = network(&config, head, Mode::Serve);
        let (first, second) = (ids(6, 1), ids(9, 2));
        let packed = Batch::packed(&[vec![first.clone(), second.clone()], vec![ids(3, 3)]]);
        let hidden = network.hidden(&packed, &Rows::default()).unwrap();
        let alone = |tokens: &[u32]| {
            let batch = Batch::padded(&[tokens.to_vec()]);
            network
                .hidden(&batch, &Rows::default())
                .unwrap()
                .squeeze(0)
                .unwrap()
        };
        let row = hidden.get(0).unwrap();
        assert_close(&row.narrow(0, 0, 6).unwrap(), &alone(&first), 1e-4);
        assert_close(&row.narrow(0, 6, 9).unwrap(), &alone(&second), 1e-4);
        assert_close(
            &hidden.get(1).unwrap().narrow(0, 0, 3).unwrap(),
            &alone(&ids(3, 3)),
            1e-4,
        );
    }
}

#[test]
fn encoders_ignore_padding() {
    for kind in ["bert", "roberta", "distilbert"] {
        let files = directory(&encoder_config(kind));
        let network = load(files.path(), Head::Embedding, Mode::Serve);
        let sequences = [ids(12, 1), ids(2, 2), ids(5, 3)];
        let together = network
            .embed(&Batch::padded(&sequences), &Rows::default())
            .unwrap();
        for (row, sequence) in sequences.iter().enumerate() {
            let alone = network
                .embed(&Batch::padded(std::slice::from_ref(sequence)), &Rows::default())
                .unwrap();
            assert_close(&together.narrow(0, row, 1).unwrap(), &alone, 1e-5);
        }
    }
}

#[test]
fn a_sliding_window_hides_what_is_behind_it() {
    let mut config = decoder_config("mistral");
    config["sliding_window"] = 4.into();
    config["num_hidden_layers"] = 1.into();
    let network = network(&config, Head::CausalLm, Mode::Serve);
    let mut tokens = ids(10, 1);
    let before = scores(&network, &tokens);
    tokens[2] = (tokens[2] + 1) % 61;
    let after = scores(&network, &tokens);
    let same = |place: usize| {
        let (a, b): (Vec<f32>, Vec<f32>) = (
            before.get(place).unwrap().to_vec1().unwrap(),
            after.get(place).unwrap().to_vec1().unwrap(),
        );
        a == b
    };
    // Token 2 is seen by tokens 2 to 5.
    assert_eq!(
        (0..10).map(same).collect::<Vec<_>>(),
        [true, true, false, false, false, false, true, true, true, true]
    );
}

#[test]
fn the_loss_in_chunks_is_the_plain_loss() {
    let mut config = decoder_config("llama");
    config["max_position_embeddings"] = 400.into();
    let network = network(&config, Head::CausalLm, Mode::Serve);
    let tokens = ids(300, 1);
    let batch = Batch::padded(&[tokens.clone(), ids(7, 2)]);
    let mut labels: Vec<i64> = batch.ids().iter().map(|id| i64::from(*id)).collect();
    labels[10] = -100;
    let hidden = network.hidden(&batch, &Rows::default()).unwrap();
    let loss = network.lm_loss(&hidden, &batch, &labels).unwrap();
    assert_eq!(loss.count, 299 - 1 + 6);
    let mut expected = 0.0;
    for (row, sequence) in [tokens, ids(7, 2)].iter().enumerate() {
        let logits = scores(&network, sequence).to_vec2::<f32>().unwrap();
        for place in 1..sequence.len() {
            if row == 0 && place == 10 {
                continue;
            }
            let line = &logits[place - 1];
            let sum: f64 = line.iter().map(|score| f64::from(*score).exp()).sum();
            expected += sum.ln() - f64::from(line[sequence[place] as usize]);
        }
    }
    let found = f64::from(loss.sum.to_scalar::<f32>().unwrap());
    assert!((found - expected).abs() < 1e-4 * expected, "{found} {expected}");
}

#[test]
fn training_and_serving_agree() {
    for (config, head) in [
        (decoder_config("llama"), Head::CausalLm),
        (decoder_config("qwen2"), Head::CausalLm),
    ] {
        let files = directory(&config);
        let batch = Batch::padded(&[ids(9, 1), ids(4, 2)]);
        let served = load(files.path(), head.clone(), Mode::Serve)
            .hidden(&batch, &Rows::default())
            .unwrap();
        let mut trained = load(files.path(), head, Mode::Train);
        trained.unfreeze().unwrap();
        trained.set_training(0, 0);
        assert_close(&served, &trained.hidden(&batch, &Rows::default()).unwrap(), 1e-6);
    }
}

#[test]
fn evaluation_between_steps_keeps_no_graph() {
    let mut network = network(&encoder_config("bert"), classes(), Mode::Train);
    network.attach_lora(&Lora::default(), 1).unwrap();
    let batch = Batch::padded(&[ids(4, 1)]);
    assert!(!network.classify(&batch, &Rows::default()).unwrap().track_op());
    network.set_training(0, 0);
    assert!(network.classify(&batch, &Rows::default()).unwrap().track_op());
}
