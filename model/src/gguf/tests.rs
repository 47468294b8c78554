use std::io::Cursor;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::*;
use crate::tokenizer::Tokenizer;

const HIDDEN: usize = 32;
const HEADS: u32 = 2;

fn texts(values: &[&str]) -> Value {
    Value::Array(
        values
            .iter()
            .map(|text| Value::String((*text).to_owned()))
            .collect(),
    )
}

fn metadata() -> Vec<(&'static str, Value)> {
    let kinds = [3, 3, 1, 1, 1, 1, 1, 1].map(Value::I32).to_vec();
    vec![
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", Value::U32(1)),
        ("llama.context_length", Value::U32(64)),
        ("llama.embedding_length", Value::U32(HIDDEN as u32)),
        ("llama.feed_forward_length", Value::U32(64)),
        ("llama.attention.head_count", Value::U32(HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("smollm".into())),
        (
            "tokenizer.ggml.tokens",
            texts(&["<s>", "</s>", "1", "2", "a", "b", "ab", "12"]),
        ),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.merges", texts(&["a b", "1 2"])),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
        ("tokenizer.ggml.eos_token_id", Value::U32(1)),
        (
            "tokenizer.chat_template",
            Value::String("{{ messages[0].content }}".into()),
        ),
    ]
}

fn tensors() -> Vec<(String, QTensor)> {
    let weight = |rows: usize, columns: usize, dtype| {
        let values = Tensor::randn(0f32, 1., (rows, columns), &Device::Cpu).unwrap();
        QTensor::quantize(&values, dtype).unwrap()
    };
    let norm = || {
        QTensor::quantize(
            &Tensor::ones(HIDDEN, DType::F32, &Device::Cpu).unwrap(),
            GgmlDType::F32,
        )
        .unwrap()
    };
    let mut all = vec![
        ("token_embd.weight".to_owned(), weight(8, HIDDEN, GgmlDType::Q8_0)),
        ("output_norm.weight".to_owned(), norm()),
        ("blk.0.attn_norm.weight".to_owned(), norm()),
        ("blk.0.ffn_norm.weight".to_owned(), norm()),
        (
            "blk.0.ffn_gate.weight".to_owned(),
            weight(64, HIDDEN, GgmlDType::Q4_1),
        ),
        (
            "blk.0.ffn_up.weight".to_owned(),
            weight(64, HIDDEN, GgmlDType::Q4_0),
        ),
        (
            "blk.0.ffn_down.weight".to_owned(),
            weight(HIDDEN, 64, GgmlDType::F16),
        ),
    ];
    for module in ["attn_q", "attn_k", "attn_v", "attn_output"] {
        all.push((
            format!("blk.0.{module}.weight"),
            weight(HIDDEN, HIDDEN, GgmlDType::F32),
        ));
    }
    all
}

fn bytes(metadata: &[(&'static str, Value)], tensors: &[(String, QTensor)]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    file.into_inner()
}

fn open(content: &[u8]) -> Result<ModelFiles, ModelError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, content).unwrap();
    // The open file outlives its name.
    Gguf::open(&path)?.into_model_files()
}

fn refusal(metadata: &[(&'static str, Value)], tensors: &[(String, QTensor)]) -> String {
    open(&bytes(metadata, tensors)).unwrap_err().to_string()
}

fn set(key: &'static str, value: Value) -> Vec<(&'static str, Value)> {
    let mut all = metadata();
    all.retain(|(other, _)| *other != key);
    all.push((key, value));
    all
}

#[test]
fn a_model_is_read_with_its_tokenizer_and_its_template() {
    let files = open(&bytes(&metadata(), &tensors())).unwrap();
    assert_eq!(files.config()["rms_norm_eps"], 1e-5);
    assert_eq!(files.config()["tie_word_embeddings"], true);
    assert_eq!(files.config()["num_key_value_heads"], HEADS);
    assert_eq!(files.weights().names().len(), 11);
    let tokenizer = Tokenizer::of(&files).unwrap();
    // Digits stand alone although the vocabulary has a merge for them.
    assert_eq!(tokenizer.encode("ab12", false).unwrap(), [6, 2, 3]);
    assert_eq!(tokenizer.encode("ab</s>", false).unwrap(), [6, 1]);
    assert_eq!(tokenizer.eos().iter().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(tokenizer.chat_template(), Some("{{ messages[0].content }}"));
}

#[test]
fn a_converted_model_has_the_same_weights() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, bytes(&metadata(), &tensors())).unwrap();
    let out = directory.path().join("out");
    let mut seen = Vec::new();
    let converted = convert(&path, &out, DType::F32, |done, all| seen.push((done, all))).unwrap();
    assert_eq!((converted.tensors, seen.last()), (11, Some(&(11, 11))));
    let ours = ModelFiles::open(&path).unwrap();
    let theirs = ModelFiles::open(&out).unwrap();
    assert_eq!(ours.weights().names(), theirs.weights().names());
    for name in ours.weights().names() {
        let read = |files: &ModelFiles| {
            let weight = files.weights().tensor(&name, &Device::Cpu, DType::F32).unwrap();
            weight.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(read(&ours), read(&theirs), "{name}");
    }
    for file in ["tokenizer.json", "generation_config.json"] {
        assert_eq!(ours.json(file).unwrap(), theirs.json(file).unwrap(), "{file}");
    }
}

#[test]
fn weights_are_not_written_as_integers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, bytes(&metadata(), &tensors())).unwrap();
    let error = convert(&path, directory.path(), DType::U8, |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("choose F32, F16 or BF16"), "{error}");
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let whole = bytes(&metadata(), &tensors());
    for length in (0..whole.len()).step_by(7) {
        // Between the last tensor and the end of the file there is only padding.
        if let Err(error) = open(&whole[..length]) {
            assert!(matches!(error, ModelError::Invalid { .. }), "{length}: {error}");
        } else {
            assert!(
                whole.len() - length < 64,
                "cut at {length} of {} went unnoticed",
                whole.len()
            );
        }
    }
}

#[test]
fn a_file_with_a_changed_byte_never_panics() {
    let whole = bytes(&metadata(), &tensors());
    let header = 1500;
    for at in 0..header {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            if let Ok(files) = open(&changed) {
                for name in files.weights().names() {
                    let _ = files.weights().tensor(&name, &Device::Cpu, DType::F32);
                }
            }
        }
    }
}

#[test]
fn a_length_beyond_the_file_is_refused_before_it_is_allocated() {
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.extend(1u64.to_le_bytes());
    file.extend(u64::MAX.to_le_bytes());
    file.extend([0; 64]);
    let error = open(&file).unwrap_err().to_string();
    assert!(
        error.contains("more than the 64 bytes after it can hold"),
        "{error}"
    );
}

#[test]
fn other_files_are_told_from_gguf() {
    let error = open(b"PK\x03\x04 and so on").unwrap_err().to_string();
    assert!(error.contains("its first four bytes are not GGUF"), "{error}");
}

#[test]
fn what_is_not_supported_is_named() {
    let found = refusal(
        &set("general.architecture", Value::String("gemma3".into())),
        &tensors(),
    );
    assert!(
        found.contains("gemma3") && found.contains("llama, qwen2"),
        "{found}"
    );
    let found = refusal(
        &set("tokenizer.ggml.pre", Value::String("tekken".into())),
        &tensors(),
    );
    assert!(
        found.contains("the pre-tokenizer tekken") && found.contains("smollm"),
        "{found}"
    );
    let found = refusal(
        &set("tokenizer.ggml.model", Value::String("t5".into())),
        &tensors(),
    );
    assert!(found.contains("the tokenizer t5"), "{found}");
    let found = refusal(&set("llama.expert_count", Value::U32(8)), &tensors());
    assert!(found.contains("a mixture of experts"), "{found}");
    let found = refusal(
        &set("llama.rope.scaling.type", Value::String("yarn".into())),
        &tensors(),
    );
    assert!(found.contains("the rope scaling yarn"), "{found}");
    let mut more = tensors();
    let extra = Tensor::ones(HIDDEN, DType::F32, &Device::Cpu).unwrap();
    more.push((
        "blk.0.attn_q_norm.weight".into(),
        QTensor::quantize(&extra, GgmlDType::F32).unwrap(),
    ));
    let found = refusal(&metadata(), &more);
    assert!(found.contains("the tensor blk.0.attn_q_norm.weight"), "{found}");
}

#[test]
fn metadata_that_contradicts_itself_is_named() {
    let found = refusal(&set("tokenizer.ggml.eos_token_id", Value::U32(99)), &tensors());
    assert!(
        found.contains("its eos token is number 99, but the vocabulary has 8 tokens"),
        "{found}"
    );
    let found = refusal(&set("llama.attention.head_count", Value::U32(3)), &tensors());
    assert!(found.contains("3 attention heads do not divide"), "{found}");
    let found = refusal(&set("general.alignment", Value::U32(0)), &tensors());
    assert!(found.contains("general.alignment"), "{found}");
    let found = refusal(&set("tokenizer.ggml.merges", texts(&["ab"])), &tensors());
    assert!(found.contains("its merge 0"), "{found}");
}

#[test]
fn sentence_pieces_keep_spaces_and_fall_back_to_bytes() {
    let mut all = metadata();
    all.retain(|(key, _)| {
        !matches!(
            *key,
            "tokenizer.ggml.model" | "tokenizer.ggml.tokens" | "tokenizer.ggml.token_type"
        )
    });
    let tokens = [
        "<unk>",
        "<s>",
        "</s>",
        "<0xC3>",
        "<0xA9>",
        "\u{2581}",
        "a",
        "b",
        "\u{2581}a",
        "\u{2581}ab",
    ];
    let kinds = [2, 3, 3, 6, 6, 1, 1, 1, 1, 1].map(Value::I32).to_vec();
    let scores = [0., 0., 0., 0., 0., -5., -6., -7., -1., -2.]
        .map(Value::F32)
        .to_vec();
    all.push(("tokenizer.ggml.model", Value::String("llama".into())));
    all.push(("tokenizer.ggml.tokens", texts(&tokens)));
    all.push(("tokenizer.ggml.token_type", Value::Array(kinds)));
    all.push(("tokenizer.ggml.scores", Value::Array(scores)));
    all.push(("tokenizer.ggml.unknown_token_id", Value::U32(0)));
    let tokenizer = Tokenizer::of(&open(&bytes(&all, &tensors())).unwrap()).unwrap();
    assert_eq!(tokenizer.encode("ab a\u{e9}", false).unwrap(), [9, 8, 3, 4]);
    assert_eq!(tokenizer.decode(&[9, 8, 3, 4], true).unwrap(), "ab a\u{e9}");
    // Without a word of the file, SentencePiece models begin with their first token: bos is number 0 here.
    assert_eq!(tokenizer.encode("a", true).unwrap(), [0, 8]);
}
