//! Rows out of files, streamed: Parquet by batches of a row group, JSON lines and CSV by lines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};
use slipway_contract::DataFormat;

use super::DataError;

mod arrow_value;

/// Column name → value.
pub type Row = Map<String, Value>;

/// What the visitor of [`read`] gets: the row's number (line number, header and blank lines counted, from 1;
/// row number for Parquet), and the row or why it is malformed.
pub(super) type Numbered = (u64, Result<Row, String>);

/// Lines of JSON looked at to learn the columns.
const SAMPLE: usize = 100;

/// The format of `path`: the one told, else by its ending.
pub(super) fn format_of(path: &Path, told: Option<DataFormat>) -> Result<DataFormat, DataError> {
    if let Some(format) = told {
        return Ok(format);
    }
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    match ending.as_deref() {
        Some("parquet") => Ok(DataFormat::Parquet),
        Some("jsonl" | "ndjson" | "json") => Ok(DataFormat::Jsonl),
        Some("csv") => Ok(DataFormat::Csv),
        _ => Err(DataError::UnknownFormat {
            path: path.to_owned(),
        }),
    }
}

/// The word for what [`Numbered`] counts.
pub(super) fn unit(format: DataFormat) -> &'static str {
    match format {
        DataFormat::Parquet => "row",
        DataFormat::Jsonl | DataFormat::Csv => "line",
    }
}

fn open(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(|source| DataError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn damaged(path: &Path, format: &'static str, error: impl std::fmt::Display) -> DataError {
    DataError::Damaged {
        path: path.to_owned(),
        format,
        message: error.to_string(),
    }
}

/// The columns of a file, in its order: its schema, its header, or the keys of its first hundred objects.
pub fn columns_of(path: &Path, told: Option<DataFormat>) -> Result<Vec<String>, DataError> {
    match format_of(path, told)? {
        DataFormat::Parquet => {
            let reader = parquet(path)?;
            Ok(reader
                .schema()
                .fields()
                .iter()
                .map(|field| field.name().clone())
                .collect())
        }
        DataFormat::Csv => {
            let mut reader = csv(path)?;
            let headers = reader.headers().map_err(|error| damaged(path, "CSV", error))?;
            Ok(headers.iter().map(str::to_owned).collect())
        }
        DataFormat::Jsonl => {
            let mut columns: Vec<String> = Vec::new();
            let mut seen = 0;
            json(path, &mut |(_, row)| {
                for name in row.unwrap_or_default().into_iter().map(|(name, _)| name) {
                    if !columns.contains(&name) {
                        columns.push(name);
                    }
                }
                seen += 1;
                Ok(if seen < SAMPLE {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
            Ok(columns)
        }
    }
}

/// Class names that the file itself gives for `column` (the `huggingface` key of a Parquet schema).
pub(super) fn class_names(path: &Path, told: Option<DataFormat>, column: &str) -> Option<Vec<String>> {
    if format_of(path, told).ok()? != DataFormat::Parquet {
        return None;
    }
    let reader = parquet(path).ok()?;
    let metadata: Value = serde_json::from_str(reader.schema().metadata().get("huggingface")?).ok()?;
    super::card::names(&metadata["info"]["features"][column]["names"])
}

/// Hands each row to `visit`, until it breaks. Only `wanted` columns are decoded where the format permits.
pub(super) fn read(
    path: &Path,
    told: Option<DataFormat>,
    wanted: &[&str],
    visit: &mut dyn FnMut(Numbered) -> Result<ControlFlow<()>, DataError>,
) -> Result<(), DataError> {
    match format_of(path, told)? {
        DataFormat::Parquet => read_parquet(path, wanted, visit),
        DataFormat::Csv => read_csv(path, visit),
        DataFormat::Jsonl => json(path, visit),
    }
}

fn parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, DataError> {
    ParquetRecordBatchReaderBuilder::try_new(open(path)?).map_err(|error| damaged(path, "Parquet", error))
}

fn read_parquet(
    path: &Path,
    wanted: &[&str],
    visit: &mut dyn FnMut(Numbered) -> Result<ControlFlow<()>, DataError>,
) -> Result<(), DataError> {
    let builder = parquet(path)?;
    let roots = builder
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| wanted.contains(&field.name().as_str()))
        .map(|(index, _)| index);
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots.collect::<Vec<_>>());
    let reader = builder
        .with_projection(mask)
        .with_batch_size(256)
        .build()
        .map_err(|error| damaged(path, "Parquet", error))?;
    let mut number = 0;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(path, "Parquet", error))?;
        for index in 0..batch.num_rows() {
            number += 1;
            let mut row = Row::new();
            let mut bad = None;
            for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                match arrow_value::at(column, index) {
                    Ok(value) => {
                        row.insert(field.name().clone(), value);
                    }
                    Err(kind) => {
                        bad = Some(format!(
                            "column `{}` has the unreadable type {kind}",
                            field.name()
                        ));
                    }
                }
            }
            if visit((number, bad.map_or(Ok(row), Err)))?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn csv(path: &Path) -> Result<csv::Reader<File>, DataError> {
    Ok(csv::ReaderBuilder::new().from_reader(open(path)?))
}

fn read_csv(
    path: &Path,
    visit: &mut dyn FnMut(Numbered) -> Result<ControlFlow<()>, DataError>,
) -> Result<(), DataError> {
    let mut reader = csv(path)?;
    let headers = reader
        .headers()
        .map_err(|error| damaged(path, "CSV", error))?
        .clone();
    let mut record = csv::StringRecord::new();
    loop {
        let (line, row) = match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let pairs = headers.iter().zip(record.iter());
                let row = pairs
                    .map(|(name, value)| (name.to_owned(), Value::from(value)))
                    .collect();
                (record.position().map_or(0, csv::Position::line), Ok(row))
            }
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                match error.kind() {
                    csv::ErrorKind::UnequalLengths {
                        expected_len, len, ..
                    } => (
                        line,
                        Err(format!("{len} fields instead of the header's {expected_len}")),
                    ),
                    csv::ErrorKind::Utf8 { .. } => (line, Err("text that is not UTF-8".to_owned())),
                    _ => return Err(damaged(path, "CSV", error)),
                }
            }
        };
        if visit((line, row))?.is_break() {
            return Ok(());
        }
    }
}

/// JSON lines, or (told from the first byte) one array of objects, which is read whole.
fn json(
    path: &Path,
    visit: &mut dyn FnMut(Numbered) -> Result<ControlFlow<()>, DataError>,
) -> Result<(), DataError> {
    let unreadable = |source| DataError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut reader = BufReader::new(open(path)?);
    if reader
        .fill_buf()
        .map_err(unreadable)?
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        == Some(&b'[')
    {
        let rows: Vec<Value> =
            serde_json::from_reader(reader).map_err(|error| damaged(path, "JSON", error))?;
        for (number, value) in (1..).zip(rows) {
            if visit((number, object(value)))?.is_break() {
                return Ok(());
            }
        }
        return Ok(());
    }
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        // serde_json counts lines within the one it is given, which would contradict ours.
        let row = serde_json::from_slice(&line)
            .map_err(|error| format!("no valid JSON ({error})").replace(" at line 1 column ", " at column "))
            .and_then(object);
        if visit((number, row))?.is_break() {
            break;
        }
    }
    Ok(())
}

fn object(value: Value) -> Result<Row, String> {
    match value {
        Value::Object(row) => Ok(row),
        _ => Err("no JSON object".into()),
    }
}

#[cfg(test)]
mod tests;
