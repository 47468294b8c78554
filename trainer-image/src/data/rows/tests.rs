use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;
use serde_json::json;

use super::*;

fn all(path: &Path, wanted: &[&str]) -> Vec<Numbered> {
    let mut rows = Vec::new();
    read(path, None, wanted, &mut |row| {
        rows.push(row);
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    rows
}

fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, content).unwrap();
    (directory, path)
}

fn parquet_file(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn json_lines_are_counted_with_blank_and_broken_ones() {
    let (_directory, path) = file("a.jsonl", b"{\"a\": 1}\n\n{\"a\": \n[1]\n{\"b\": \"\xc3\xa9\"}");
    assert_eq!(columns_of(&path, None).unwrap(), ["a", "b"]);
    let rows = all(&path, &["a"]);
    assert_eq!(
        rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
        [1, 3, 4, 5]
    );
    assert_eq!(rows[0].1.as_ref().unwrap()["a"], 1);
    assert!(
        rows[1].1.as_ref().unwrap_err().starts_with("no valid JSON"),
        "{rows:?}"
    );
    assert_eq!(rows[2].1, Err("no JSON object".into()));
    assert_eq!(rows[3].1.as_ref().unwrap()["b"], "é");
}

#[test]
fn an_array_of_objects_is_read_too() {
    let (_directory, path) = file("a.json", b" [{\"a\": 1}, {\"a\": 2}]");
    assert_eq!(all(&path, &["a"]).len(), 2);
    let (_directory, path) = file("a.json", b"[{\"a\": 1},");
    assert!(matches!(columns_of(&path, None), Err(DataError::Damaged { .. })));
}

#[test]
fn csv_lines_are_those_of_an_editor() {
    let (_directory, path) = file("a.csv", b"text,label\n\"two\nlines\",1\nshort\nx,2\n\xff,3\n");
    assert_eq!(columns_of(&path, None).unwrap(), ["text", "label"]);
    let rows = all(&path, &[]);
    assert_eq!(rows[0].1.as_ref().unwrap()["text"], "two\nlines");
    assert_eq!(rows[1].0, 4);
    assert_eq!(rows[1].1, Err("1 fields instead of the header's 2".into()));
    assert_eq!(
        (rows[2].0, rows[2].1.as_ref().unwrap()["label"].clone()),
        (5, json!("2"))
    );
    assert_eq!(rows[3].1, Err("text that is not UTF-8".into()));
}

#[test]
fn parquet_gives_texts_numbers_and_conversations() {
    let role: ArrayRef = Arc::new(StringArray::from(vec!["user", "assistant"]));
    let content: ArrayRef = Arc::new(StringArray::from(vec!["hi", "ho"]));
    let message = StructArray::from(vec![
        (Arc::new(Field::new("role", DataType::Utf8, true)), role),
        (Arc::new(Field::new("content", DataType::Utf8, true)), content),
    ]);
    let offsets = arrow::buffer::OffsetBuffer::new(vec![0, 2, 2].into());
    let item = Arc::new(Field::new("item", message.data_type().clone(), true));
    let messages: ArrayRef = Arc::new(arrow::array::ListArray::new(
        item,
        offsets,
        Arc::new(message),
        None,
    ));
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("a"), None]);
    tags.append_null();
    let batch = RecordBatch::try_from_iter([
        ("messages", messages),
        (
            "label",
            Arc::new(Int64Array::from(vec![Some(3), None])) as ArrayRef,
        ),
        ("tags", Arc::new(tags.finish())),
        ("unread", Arc::new(StringArray::from(vec!["x", "y"]))),
    ])
    .unwrap();
    let (_directory, path) = file("a.parquet", &parquet_file(&batch));
    assert_eq!(
        columns_of(&path, None).unwrap(),
        ["messages", "label", "tags", "unread"]
    );
    let rows = all(&path, &["messages", "label", "tags"]);
    let first = rows[0].1.as_ref().unwrap();
    assert_eq!(
        first["messages"],
        json!([{ "role": "user", "content": "hi" }, { "role": "assistant", "content": "ho" }])
    );
    assert_eq!(
        (&first["label"], &first["tags"]),
        (&json!(3), &json!(["a", null]))
    );
    assert!(!first.contains_key("unread"));
    let second = rows[1].1.as_ref().unwrap();
    assert_eq!(
        (&second["messages"], &second["label"], &second["tags"]),
        (&json!([]), &Value::Null, &Value::Null)
    );
}

#[test]
fn a_damaged_parquet_file_is_an_error() {
    let batch =
        RecordBatch::try_from_iter([("a", Arc::new(StringArray::from(vec!["x"; 100])) as ArrayRef)]).unwrap();
    let bytes = parquet_file(&batch);
    for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        let (_directory, path) = file("a.parquet", &bytes[..cut]);
        assert!(
            matches!(columns_of(&path, None), Err(DataError::Damaged { .. })),
            "{cut}"
        );
    }
}

#[test]
fn an_unknown_ending_needs_a_format() {
    let (_directory, path) = file("rows.data", b"{\"a\": 1}\n");
    assert!(matches!(
        columns_of(&path, None),
        Err(DataError::UnknownFormat { .. })
    ));
    assert_eq!(columns_of(&path, Some(DataFormat::Jsonl)).unwrap(), ["a"]);
}
