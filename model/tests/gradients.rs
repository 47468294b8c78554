//! Gradients of every trained weight against finite differences.
#![allow(
    clippy::float_cmp,
    reason = "what is said to be the same is the same to the bit"
)]

mod common;

use candle_core::{Tensor, Var};
use common::{classes, decoder_config, encoder_config, ids, network, random};
use slipway_contract::Lora;
use slipway_model::{Batch, Head, Mode, Network, Rows};

fn batch() -> Batch {
    Batch::packed(&[vec![ids(7, 1), ids(4, 2)], vec![ids(9, 3)]])
}

/// A loss that depends on every class or token.
fn loss(network: &Network) -> Tensor {
    let batch = batch();
    if *network.head() == Head::CausalLm {
        let labels: Vec<i64> = batch.ids().iter().map(|id| i64::from(*id)).collect();
        let hidden = network.hidden(&batch, &Rows::default()).unwrap();
        let loss = network.lm_loss(&hidden, &batch, &labels).unwrap();
        assert_eq!(loss.count, 6 + 3 + 8);
        loss.sum
    } else {
        let scores = network.classify(&batch, &Rows::default()).unwrap();
        let weights = random(&[2, 3], 99);
        ((scores * weights).unwrap() * 10.0).unwrap().sum_all().unwrap()
    }
}

fn scalar(tensor: &Tensor) -> f64 {
    f64::from(tensor.to_scalar::<f32>().unwrap())
}

/// The slope along `direction`, measured.
fn slope(network: &Network, var: &Var, direction: &Tensor) -> f64 {
    let start = var.as_tensor().copy().unwrap();
    let step = 1e-2;
    let at = |distance: f64| {
        var.set(&(&start + (direction * distance).unwrap()).unwrap())
            .unwrap();
        scalar(&loss(network))
    };
    // Five points: the error falls with the fourth power of the step.
    let slope = (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * step);
    var.set(&start).unwrap();
    slope
}

fn check(network: &mut Network) {
    let trainable = network.trainable();
    assert!(!trainable.is_empty());
    network.set_training(1, 1);
    let gradients = loss(network).backward().unwrap();
    network.set_evaluation();
    for (index, (name, var)) in trainable.iter().enumerate() {
        let gradient = gradients
            .get(var)
            .unwrap_or_else(|| panic!("{name} has no gradient"));
        let norm = scalar(&gradient.sqr().unwrap().sum_all().unwrap()).sqrt();
        // Softmax does not see what is added to all keys alike (rotation makes a decoder's differ).
        if name.ends_with("key.bias") || name.ends_with("k_lin.bias") {
            assert!(norm < 1e-3, "{name}: {norm}");
            continue;
        }
        assert!(norm > 1e-5, "{name} has a gradient of zero");
        let along = (gradient / norm).unwrap();
        let noise = random(var.dims(), 1000 + index as u64);
        let length = scalar(&noise.sqr().unwrap().sum_all().unwrap()).sqrt();
        let across = (noise / length).unwrap();
        for direction in [along, across] {
            let expected = scalar(&(gradient * &direction).unwrap().sum_all().unwrap());
            let found = slope(network, var, &direction);
            assert!(
                (found - expected).abs() < 0.02 * norm + 3e-3,
                "{name}: gradient {expected}, measured {found}, of norm {norm}"
            );
        }
    }
}

/// Moves B away from zero, for until then A has no gradient.
fn leave_zero(network: &Network) {
    for (index, (name, var)) in network.trainable().iter().enumerate() {
        if name.contains("lora_B") {
            var.set(&(random(var.dims(), index as u64) * 0.5).unwrap())
                .unwrap();
        }
    }
}

fn without_dropout(mut config: serde_json::Value) -> serde_json::Value {
    for key in [
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "classifier_dropout",
    ] {
        if config["model_type"] != "distilbert" {
            config[key] = 0.0.into();
        }
    }
    if config["model_type"] == "distilbert" {
        for key in ["dropout", "attention_dropout", "seq_classif_dropout"] {
            config[key] = 0.0.into();
        }
    }
    config
}

#[test]
fn decoders_full() {
    for kind in ["llama", "qwen2"] {
        let mut network = network(&decoder_config(kind), Head::CausalLm, Mode::Train);
        network.unfreeze().unwrap();
        check(&mut network);
    }
}

#[test]
fn tied_embeddings_learn_from_both_ends() {
    let mut config = decoder_config("llama");
    config["tie_word_embeddings"] = true.into();
    let mut network = network(&config, Head::CausalLm, Mode::Train);
    network.unfreeze().unwrap();
    check(&mut network);
}

#[test]
fn encoders_full() {
    for kind in ["bert", "roberta", "distilbert"] {
        let mut network = network(&without_dropout(encoder_config(kind)), classes(), Mode::Train);
        network.unfreeze().unwrap();
        // A vocabulary's rows that do not occur have no gradient, but their matrix has.
        check(&mut network);
    }
}

#[test]
fn lora_on_every_linear_layer() {
    let lora = Lora {
        rank: 3,
        alpha: 3.0,
        target_modules: vec!["all-linear".into()],
        ..Lora::default()
    };
    let configs = [
        (decoder_config("mistral"), Head::CausalLm),
        (decoder_config("llama"), classes()),
        (without_dropout(encoder_config("bert")), classes()),
        (without_dropout(encoder_config("distilbert")), classes()),
    ];
    for (config, head) in configs {
        let mut network = network(&config, head, Mode::Train);
        network.attach_lora(&lora, 5).unwrap();
        leave_zero(&network);
        check(&mut network);
    }
}

#[test]
fn the_base_is_untouched_by_lora() {
    let mut network = network(&decoder_config("llama"), Head::CausalLm, Mode::Train);
    let before = loss(&network);
    network.attach_lora(&Lora::default(), 5).unwrap();
    // B is zero, so nothing changes; and only the adapter trains.
    assert_eq!(scalar(&before), scalar(&loss(&network)));
    let names: Vec<_> = network.trainable().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2 * 2 * 2);
    assert!(names.contains(&"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".to_owned()));
    network.set_training(1, 1);
    let gradients = loss(&network).backward().unwrap();
    // Nor is a gradient computed for a frozen matrix, only to be thrown away.
    for id in gradients.get_ids() {
        let dims = gradients.get_id(*id).unwrap().dims();
        assert!(
            ![[61, 16], [24, 16], [16, 24]].iter().any(|shape| dims == shape),
            "{dims:?}"
        );
    }
}

#[test]
fn dropout_depends_on_seed_and_step_alone() {
    let lora = Lora {
        dropout: 0.5,
        ..Lora::default()
    };
    let mut network = network(&encoder_config("bert"), classes(), Mode::Train);
    network.attach_lora(&lora, 5).unwrap();
    leave_zero(&network);
    let mut at = |seed, step| {
        network.set_training(seed, step);
        scalar(&loss(&network))
    };
    let (first, other_step, other_seed, again) = (at(1, 1), at(1, 2), at(2, 1), at(1, 1));
    assert_eq!(first, again);
    assert_ne!(first, other_step);
    assert_ne!(first, other_seed);
    network.set_evaluation();
    assert_eq!(scalar(&loss(&network)), scalar(&loss(&network)));
}
