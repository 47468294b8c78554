//! Rows of JSON as Parquet: types are those that the values have. Pure.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value};

const NULL: &Value = &Value::Null;

/// A Parquet file of `rows`; columns in the order of their first appearance, null where a row lacks one.
pub(super) fn parquet(rows: &[Map<String, Value>]) -> Result<Vec<u8>, ParquetError> {
    let rows: Vec<Option<&Map<String, Value>>> = rows.iter().map(Some).collect();
    let (fields, columns) = columns(&rows);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let settings = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(settings))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

fn columns(rows: &[Option<&Map<String, Value>>]) -> (Fields, Vec<ArrayRef>) {
    let mut names: Vec<&str> = Vec::new();
    for name in rows.iter().flatten().flat_map(|row| row.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let columns: Vec<ArrayRef> = names
        .iter()
        .map(|name| {
            let values: Vec<&Value> = rows
                .iter()
                .map(|row| row.and_then(|row| row.get(*name)).unwrap_or(NULL))
                .collect();
            column(&values)
        })
        .collect();
    let fields = names
        .iter()
        .zip(&columns)
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    (fields, columns)
}

/// One type for all values: that of the first that is not null. Whole numbers among others are numbers like them.
fn column(values: &[&Value]) -> ArrayRef {
    match values.iter().find(|value| !value.is_null()) {
        Some(Value::Number(_)) => {
            let whole = values
                .iter()
                .all(|value| value.is_null() || value.is_i64() || value.is_u64());
            if whole {
                Arc::new(values.iter().map(|value| value.as_i64()).collect::<Int64Array>())
            } else {
                Arc::new(
                    values
                        .iter()
                        .map(|value| value.as_f64())
                        .collect::<Float64Array>(),
                )
            }
        }
        Some(Value::Array(_)) => {
            let lists: Vec<&[Value]> = values
                .iter()
                .map(|value| value.as_array().map_or(&[][..], Vec::as_slice))
                .collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.len()));
            let items: Vec<&Value> = lists.into_iter().flatten().collect();
            // A list that is empty in every row still needs a type.
            let items: ArrayRef = if items.is_empty() {
                Arc::new(Float64Array::from(Vec::<f64>::new()))
            } else {
                column(&items)
            };
            let field = Field::new("item", items.data_type().clone(), true);
            Arc::new(ListArray::new(Arc::new(field), offsets, items, None))
        }
        Some(Value::Object(_)) => {
            let rows: Vec<Option<&Map<String, Value>>> =
                values.iter().map(|value| value.as_object()).collect();
            let (fields, columns) = columns(&rows);
            Arc::new(StructArray::new(fields, columns, None))
        }
        Some(Value::String(_) | Value::Bool(_) | Value::Null) | None => {
            let texts = values.iter().map(|value| match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            });
            Arc::new(texts.collect::<StringArray>())
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use serde_json::json;

    use super::*;

    #[test]
    fn types_are_those_of_the_values() {
        let rows: Vec<Map<String, Value>> = [
            json!({ "index": 0, "number": 1, "text": "a", "list": [1.0, 2.5], "scores": { "x": 0.5, "y": 0.5 } }),
            json!({ "index": 1, "number": 0.5, "text": null, "list": [], "scores": { "x": 1.0, "y": null }, "late": ["b"] }),
        ]
        .into_iter()
        .map(|row| row.as_object().unwrap().clone())
        .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), parquet(&rows).unwrap()).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.reopen().unwrap()).unwrap();
        let batch = reader.build().unwrap().next().unwrap().unwrap();
        let kinds: Vec<String> = batch
            .schema()
            .fields()
            .iter()
            .map(|field| format!("{} {}", field.name(), field.data_type()))
            .collect();
        assert_eq!(kinds[..3], ["index Int64", "number Float64", "text Utf8"]);
        assert!(
            kinds[3].starts_with("list List") && kinds[4].starts_with("scores Struct"),
            "{kinds:?}"
        );
        assert!(kinds[5].starts_with("late List"), "{kinds:?}");
        assert_eq!((batch.num_rows(), batch.column(2).null_count()), (2, 1));
    }
}
