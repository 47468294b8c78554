//! What a dataset card's front matter says about files and labels. Source: the Hub's dataset card
//! specification (`configs`, `dataset_info`).

use std::path::Path;

use serde_json::Value;

/// The parts of a dataset card that reading needs.
#[derive(Clone, Debug, Default)]
pub(super) struct DatasetCard {
    /// Split and path pattern, in the card's order, of the default configuration.
    pub files: Vec<(String, String)>,
    /// Class names by column.
    pub classes: Vec<(String, Vec<String>)>,
}

impl DatasetCard {
    /// Reads `README.md` in `root`; a missing or unreadable card says nothing.
    pub fn read(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join("README.md")).unwrap_or_default();
        front_matter(&text)
            .and_then(|yaml| serde_saphyr::from_str::<Value>(&yaml).ok())
            .map(|data| Self {
                files: data_files(&data),
                classes: classes(&data["dataset_info"]),
            })
            .unwrap_or_default()
    }
}

/// The YAML between the first two `---` lines.
fn front_matter(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| line.trim().is_empty());
    (lines.next()?.trim() == "---").then_some(())?;
    let mut yaml = String::new();
    for line in lines {
        if line.trim_end() == "---" {
            return Some(yaml);
        }
        yaml.push_str(line);
        yaml.push('\n');
    }
    None
}

fn data_files(data: &Value) -> Vec<(String, String)> {
    let Some(configs) = data["configs"].as_array() else {
        return Vec::new();
    };
    let chosen = configs
        .iter()
        .find(|config| config["default"] == true || config["config_name"] == "default")
        .or_else(|| configs.first());
    let Some(files) = chosen.map(|config| &config["data_files"]) else {
        return Vec::new();
    };
    let strings = |value: &Value| -> Vec<String> {
        match value {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    };
    let mut found = Vec::new();
    match files {
        Value::Array(entries) if entries.iter().any(Value::is_object) => {
            for entry in entries {
                let split = entry["split"].as_str().unwrap_or("train");
                found.extend(
                    strings(&entry["path"])
                        .into_iter()
                        .map(|path| (split.to_owned(), path)),
                );
            }
        }
        Value::Object(splits) => {
            for (split, paths) in splits {
                found.extend(strings(paths).into_iter().map(|path| (split.clone(), path)));
            }
        }
        other => found.extend(strings(other).into_iter().map(|path| ("train".to_owned(), path))),
    }
    found
}

/// Class names of every `class_label` feature. `dataset_info` is one object or a list of them.
pub(super) fn classes(info: &Value) -> Vec<(String, Vec<String>)> {
    let features = match info {
        Value::Array(infos) => infos.first().map_or(&Value::Null, |first| &first["features"]),
        one => &one["features"],
    };
    let Some(features) = features.as_array() else {
        return Vec::new();
    };
    features
        .iter()
        .filter_map(|feature| {
            let names = names(&feature["dtype"]["class_label"]["names"])?;
            Some((feature["name"].as_str()?.to_owned(), names))
        })
        .collect()
}

/// `["neg", "pos"]`, or `{"0": "neg", "1": "pos"}` as the Hub writes it.
pub(super) fn names(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Array(list) => Some(list.iter().map(text).collect()),
        Value::Object(map) => {
            let mut numbered: Vec<(usize, String)> = map
                .iter()
                .map(|(id, name)| Some((id.parse().ok()?, text(name))))
                .collect::<Option<_>>()?;
            numbered.sort_unstable();
            Some(numbered.into_iter().map(|(_, name)| name).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_files_and_classes() {
        let directory = tempfile::tempdir().unwrap();
        let card = "---\nlicense: mit\nconfigs:\n- config_name: extra\n  data_files: other.csv\n- config_name: default\n  data_files:\n  - split: train\n    path: a/*.parquet\n  - split: test\n    path: [b.parquet, c.parquet]\ndataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names:\n          '1': pos\n          '0': neg\n---\n# Prose\n";
        std::fs::write(directory.path().join("README.md"), card).unwrap();
        let read = DatasetCard::read(directory.path());
        let pairs: Vec<(&str, &str)> = read.files.iter().map(|(s, p)| (s.as_str(), p.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("train", "a/*.parquet"),
                ("test", "b.parquet"),
                ("test", "c.parquet")
            ]
        );
        assert_eq!(
            read.classes,
            [("label".to_owned(), vec!["neg".to_owned(), "pos".to_owned()])]
        );
    }

    #[test]
    fn a_card_without_front_matter_says_nothing() {
        assert!(front_matter("# Title\n---\nnot: front matter\n---\n").is_none());
    }
}
