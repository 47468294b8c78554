//! A collection for retrieval, in BEIR's layout: a corpus, queries, and which document answers which query.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use slipway_contract::{Dataset, Failure, FailureReason};

use crate::data::{Layout, Reading, Rejected, Row, Split, read_rows};

/// Queries over a corpus.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Collection {
    /// Those that have something to find.
    pub queries: Vec<String>,
    /// Documents: title and text.
    pub corpus: Vec<String>,
    /// For each query the places of the relevant documents.
    pub relevant: Vec<Vec<usize>>,
}

const ID: &[&str] = &["_id", "id"];
const QUERY_ID: &[&str] = &["query-id", "query_id", "qid"];
const DOCUMENT_ID: &[&str] = &["corpus-id", "corpus_id", "docid", "doc_id"];

/// Reads `corpus` and `queries` of `layout`, and the judgements of `split`: `query-id`, `corpus-id`, and `score`, where a
/// document with a score above 0 (or without any) is relevant. `dataset.max_examples` limits the queries.
pub(super) fn read(
    layout: &Layout,
    split: &Split,
    dataset: &Dataset,
) -> Result<(Collection, Reading), Failure> {
    let unlimited = Dataset {
        max_examples: None,
        ..dataset.clone()
    };
    let (ids, corpus) = texts(&layout.part("corpus")?, &unlimited)?;
    let places: HashMap<&str, usize> = ids.iter().map(String::as_str).zip(0..).collect();
    let (query_ids, query_texts) = texts(&layout.part("queries")?, &unlimited)?;
    let known: HashMap<&str, usize> = query_ids.iter().map(String::as_str).zip(0..).collect();
    // By the place of the query: the order does not depend on that of the judgements.
    let mut judged: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut reading = rows(split, &unlimited, |row| {
        if !relevant(row)? {
            return Ok(());
        }
        let (query, document) = (id(row, QUERY_ID)?, id(row, DOCUMENT_ID)?);
        let query = known
            .get(query.as_str())
            .ok_or_else(|| format!("query {query} is not among the queries"))?;
        let document = places
            .get(document.as_str())
            .ok_or_else(|| format!("document {document} is not in the corpus"))?;
        let found = judged.entry(*query).or_default();
        if !found.contains(document) {
            found.push(*document);
        }
        Ok(())
    })?;
    if judged.is_empty() {
        return Err(Failure::new(
            FailureReason::EmptyDataset,
            format!(
                "no row of split `{}` has a score above 0, so there is nothing to find; give judgements with query-id, corpus-id and score",
                split.name
            ),
        ));
    }
    let most = dataset.max_examples.map_or(usize::MAX, |most| most as usize);
    let (queries, relevant): (Vec<String>, Vec<Vec<usize>>) = judged
        .into_iter()
        .take(most)
        .map(|(query, documents)| (query_texts[query].clone(), documents))
        .unzip();
    reading.examples = queries.len() as u64;
    let collection = Collection {
        queries,
        corpus,
        relevant,
    };
    Ok((collection, reading))
}

/// Ids and texts; a title stands before its text, as in MTEB.
fn texts(split: &Split, dataset: &Dataset) -> Result<(Vec<String>, Vec<String>), Failure> {
    let (mut ids, mut texts) = (Vec::new(), Vec::new());
    rows(split, dataset, |row| {
        let text = match row.get("text") {
            Some(Value::String(text)) => text.as_str(),
            _ => return Err("no `text`".into()),
        };
        let title = row.get("title").and_then(Value::as_str).unwrap_or_default();
        let whole = format!("{title} {text}").trim().to_owned();
        if whole.is_empty() {
            return Err("`text` is empty".into());
        }
        ids.push(id(row, ID)?);
        texts.push(whole);
        Ok(())
    })?;
    Ok((ids, texts))
}

fn rows(
    split: &Split,
    dataset: &Dataset,
    mut visit: impl FnMut(&Row) -> Result<(), String>,
) -> Result<Reading, Failure> {
    read_rows(
        split,
        dataset,
        |_, _, available| Ok(((), available.to_vec())),
        |(), row| visit(&row).map_err(Rejected::Row),
    )
}

fn id(row: &Row, names: &[&str]) -> Result<String, String> {
    match names.iter().find_map(|name| row.get(*name)) {
        Some(Value::String(id)) => Ok(id.clone()),
        Some(Value::Number(id)) => Ok(id.to_string()),
        _ => Err(format!("no `{}`", names[0])),
    }
}

fn relevant(row: &Row) -> Result<bool, String> {
    match row.get("score") {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Number(score)) => Ok(score.as_f64().is_some_and(|score| score > 0.0)),
        Some(Value::String(score)) => {
            let score: Result<f64, _> = score.trim().parse();
            score
                .map(|score| score > 0.0)
                .map_err(|_| "`score` is no number".into())
        }
        Some(_) => Err("`score` is no number".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_from(files: &[(&str, &str)]) -> Result<Collection, String> {
        let directory = tempfile::TempDir::new().unwrap();
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let dataset: Dataset =
            serde_json::from_value(json!({ "source": { "path": directory.path() }, "maxExamples": 2 }))
                .unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        let split = layout.split("test").unwrap();
        read(&layout, &split, &dataset)
            .map(|(collection, _)| collection)
            .map_err(|failure| failure.message)
    }

    const CORPUS: (&str, &str) = (
        "corpus.jsonl",
        "{\"_id\": \"d1\", \"title\": \"T\", \"text\": \"one\"}\n{\"_id\": \"d2\", \"text\": \"two\"}\n",
    );
    const QUERIES: (&str, &str) = (
        "queries.jsonl",
        "{\"_id\": 1, \"text\": \"a\"}\n{\"_id\": 2, \"text\": \"b\"}\n{\"_id\": 3, \"text\": \"c\"}\n",
    );

    #[test]
    fn queries_with_something_to_find_are_asked_in_their_order() {
        let judgements = "{\"query-id\": 3, \"corpus-id\": \"d2\", \"score\": 1}\n\
            {\"query-id\": 1, \"corpus-id\": \"d2\", \"score\": 2}\n\
            {\"query-id\": 1, \"corpus-id\": \"d1\", \"score\": 1}\n\
            {\"query-id\": 2, \"corpus-id\": \"d1\", \"score\": 0}\n";
        let found = read_from(&[CORPUS, QUERIES, ("test.jsonl", judgements)]).unwrap();
        assert_eq!(found.corpus, ["T one", "two"]);
        assert_eq!(found.queries, ["a", "c"]);
        assert_eq!(found.relevant, [vec![1, 0], vec![1]]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let judgement = ("test.jsonl", "{\"query-id\": 1, \"corpus-id\": \"d9\"}\n");
        let without = read_from(&[QUERIES, judgement]).unwrap_err();
        assert!(without.contains("the dataset has no `corpus`"), "{without}");
        let unknown = read_from(&[CORPUS, QUERIES, judgement]).unwrap_err();
        assert!(unknown.contains("document d9 is not in the corpus"), "{unknown}");
        let nothing = (
            "test.jsonl",
            "{\"query-id\": 1, \"corpus-id\": \"d1\", \"score\": 0}\n",
        );
        assert!(
            read_from(&[CORPUS, QUERIES, nothing])
                .unwrap_err()
                .contains("nothing to find")
        );
    }
}
