use super::*;

fn files(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn safetensors_come_before_gguf_and_pickles_stay_where_they_are() {
    let chosen = choose(
        &files(&[
            ".gitattributes",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model.safetensors",
            "model.Q4_0.gguf",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "original/model.safetensors",
            "1_Pooling/config.json",
            "tokenizer.json",
        ]),
        "m",
    )
    .unwrap();
    assert_eq!(chosen.kind, Kind::Directory);
    let mut names = chosen.files;
    names.sort();
    assert_eq!(
        names,
        [
            "1_Pooling/config.json",
            "README.md",
            "config.json",
            "model.safetensors",
            "tokenizer.json"
        ]
    );
}

#[test]
fn a_lone_gguf_is_the_model() {
    let chosen = choose(&files(&["README.md", "smol.Q4_1.gguf"]), "m").unwrap();
    assert_eq!(chosen.kind, Kind::Gguf("smol.Q4_1.gguf".into()));
}

#[test]
fn several_gguf_files_are_named() {
    let error = choose(&files(&["a.gguf", "b.gguf"]), "the model x/y")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the model x/y has several GGUF files (a.gguf, b.gguf)"),
        "{error}"
    );
}

#[test]
fn pickles_alone_are_refused_by_name() {
    let error = choose(
        &files(&["config.json", "pytorch_model.bin", "training_args.bin"]),
        "m",
    )
    .unwrap_err();
    assert!(
        matches!(&error, Error::UnsafeWeights { files, .. } if files == &["pytorch_model.bin"]),
        "{error}"
    );
    let adapter = choose(&files(&[ADAPTER_CONFIG, "adapter_model.bin"]), "m").unwrap_err();
    assert!(matches!(adapter, Error::UnsafeWeights { .. }), "{adapter}");
}

#[test]
fn no_weights_at_all_is_said() {
    let error = choose(&files(&["config.json"]), "m").unwrap_err().to_string();
    assert!(error.contains("no weights"), "{error}");
}

#[test]
fn an_adapter_leaves_merged_weights_behind() {
    let chosen = choose(
        &files(&[ADAPTER_CONFIG, "adapter_model.safetensors", "model.safetensors"]),
        "m",
    )
    .unwrap();
    assert_eq!(chosen.kind, Kind::Adapter);
    assert!(!chosen.files.contains(&"model.safetensors".to_owned()));
}

#[test]
fn an_adapter_from_a_hub_reads_no_local_path() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    let config = format!(r#"{{"base_model_name_or_path": {secret:?}}}"#);
    std::fs::write(folder.path().join(ADAPTER_CONFIG), config).unwrap();
    let error = base_of(folder.path(), "the model a/b", false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no repository"), "{error}");
    assert_eq!(
        base_of(folder.path(), "x", true).unwrap(),
        ModelSource::Path(secret)
    );
}

#[tokio::test]
async fn a_local_adapter_comes_with_its_local_base() {
    let folder = tempfile::tempdir().unwrap();
    let (base, adapter) = (folder.path().join("base"), folder.path().join("adapter"));
    for (directory, file, text) in [
        (&base, "config.json", "{}"),
        (&base, "model.safetensors", ""),
        (
            &adapter,
            ADAPTER_CONFIG,
            r#"{"base_model_name_or_path":"../base","revision":null}"#,
        ),
        (&adapter, "adapter_model.safetensors", ""),
    ] {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join(file), text).unwrap();
    }
    let client = Client::new("http://127.0.0.1:1", None).unwrap();
    let source = ModelSource::Path(adapter.clone());
    let model = fetch_model(&source, &client, folder.path(), |_| {})
        .await
        .unwrap();
    assert_eq!(model.adapter, Some(adapter));
    assert_eq!(model.base.canonicalize().unwrap(), base.canonicalize().unwrap());
    assert_eq!((model.identity, model.base_identity), (None, None));
}

#[tokio::test]
async fn a_path_without_a_model_is_named() {
    let client = Client::new("http://127.0.0.1:1", None).unwrap();
    let source = ModelSource::Path("/nonexistent/model".into());
    let error = fetch_model(&source, &client, Path::new("/tmp"), |_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nonexistent/model"), "{error}");
    assert!(matches!(error, Error::PathNotFound { .. }));
}
