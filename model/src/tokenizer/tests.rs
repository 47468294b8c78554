use serde_json::json;

use super::*;

/// Words of a BERT-like vocabulary between [CLS] and [SEP].
fn words() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let document = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0, "[PAD]"), special(1, "[CLS]"), special(2, "[SEP]")],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "model": {"type": "WordLevel", "unk_token": "[PAD]",
                  "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5, "d": 6}},
    });
    std::fs::write(directory.path().join("tokenizer.json"), document.to_string()).unwrap();
    directory
}

/// One token a byte, with GPT-2's alphabet (256 entries) or with `<0x..>` tokens.
fn bytes(fallback: bool) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (vocab, decoder): (serde_json::Map<_, _>, _) = if fallback {
        let names = (0..256u32).map(|byte| (format!("<0x{byte:02X}>"), json!(byte)));
        (
            names.collect(),
            json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}),
        )
    } else {
        let plain = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let mut next = 256;
        let names = (0..256u32).map(|byte| {
            let code = if plain(byte) {
                byte
            } else {
                next += 1;
                next - 1
            };
            (char::from_u32(code).unwrap().to_string(), json!(byte))
        });
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        (names.collect(), byte_level)
    };
    let document = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": fallback, "ignore_merges": false,
                  "vocab": vocab, "merges": []},
    });
    std::fs::write(directory.path().join("tokenizer.json"), document.to_string()).unwrap();
    directory
}

#[test]
fn lengths_are_the_callers_and_not_the_files() {
    let directory = words();
    let tokenizer = Tokenizer::open(directory.path()).unwrap();
    assert_eq!(tokenizer.encode("a b c d", true).unwrap(), [1, 3, 4, 5, 6, 2]);
    assert_eq!(tokenizer.encode("a", false).unwrap(), [3]);
    assert_eq!(tokenizer.encode_pair("a", "b", true).unwrap(), [1, 3, 2, 4, 2]);
}

#[test]
fn a_cut_text_keeps_its_special_tokens() {
    let directory = words();
    let tokenizer = Tokenizer::open(directory.path()).unwrap();
    let cut = (vec![1, 3, 4, 2], true);
    assert_eq!(tokenizer.encode_within("a b c d", true, 4).unwrap(), cut);
    assert_eq!(
        tokenizer.encode_within("a b", true, 4).unwrap(),
        (vec![1, 3, 4, 2], false)
    );
    assert_eq!(
        tokenizer.encode_batch(&["a b c d", "a"], true, 4).unwrap(),
        [cut, (vec![1, 3, 2], false)]
    );
    let error = tokenizer.encode_within("a", true, 2).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("2 tokens leaves no room beside the 2 special"),
        "{error}"
    );
}

#[test]
fn special_tokens_come_from_every_document() {
    let directory = words();
    let write = |name: &str, content: serde_json::Value| {
        std::fs::write(directory.path().join(name), content.to_string()).unwrap();
    };
    write(
        "tokenizer_config.json",
        json!({"eos_token": {"content": "[SEP]"}, "bos_token": "[CLS]", "model_max_length": 1e30}),
    );
    write("generation_config.json", json!({"eos_token_id": [5, 6]}));
    write("config.json", json!({"eos_token_id": 2, "pad_token_id": 0}));
    std::fs::write(directory.path().join("chat_template.jinja"), "hello").unwrap();
    let tokenizer = Tokenizer::open(directory.path()).unwrap();
    assert_eq!(tokenizer.eos().iter().copied().collect::<Vec<_>>(), [2, 5, 6]);
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos_token(), tokenizer.pad()),
        (Some(1), Some(2), Some(0))
    );
    assert_eq!(
        (tokenizer.max_length(), tokenizer.chat_template()),
        (None, Some("hello"))
    );
}

#[test]
fn streamed_text_is_the_whole_text_in_complete_characters() {
    let text = "h\u{e9}llo \u{4f60}\u{597d}, \u{1f600}\u{1f468}\u{200d}\u{1f469}!";
    for fallback in [false, true] {
        let directory = bytes(fallback);
        let tokenizer = Tokenizer::open(directory.path()).unwrap();
        let mut stream = StreamDecoder::new(true);
        let mut out = String::new();
        for byte in text.bytes() {
            let piece = stream.push(&tokenizer, u32::from(byte)).unwrap();
            assert!(!piece.contains('\u{fffd}'), "{piece:?} (fallback {fallback})");
            out.push_str(&piece);
        }
        out.push_str(&stream.finish(&tokenizer).unwrap());
        assert_eq!(out, text, "fallback {fallback}");
    }
}

#[test]
fn a_character_that_is_never_completed_comes_out_at_the_end() {
    let directory = bytes(false);
    let tokenizer = Tokenizer::open(directory.path()).unwrap();
    let mut stream = StreamDecoder::new(true);
    assert_eq!(stream.push(&tokenizer, u32::from(b'a')).unwrap(), "a");
    assert_eq!(stream.push(&tokenizer, 0xf0).unwrap(), "");
    assert_eq!(stream.finish(&tokenizer).unwrap(), "\u{fffd}");
}

#[test]
fn a_missing_or_damaged_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let error = Tokenizer::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json is not there"), "{error}");
    std::fs::write(directory.path().join("tokenizer.json"), "{").unwrap();
    let error = Tokenizer::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("failed to read") && error.contains("tokenizer.json"),
        "{error}"
    );
}
