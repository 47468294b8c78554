//! Rows of a split one after another, with limits on how many and on how many may be malformed.

use std::ops::ControlFlow;
use std::path::Path;

use slipway_contract::{DataFormat, Dataset, Failure};

use super::rows::{self, Row};
use super::{DataError, LabelSet, Split};

/// Why a visitor does not take an example.
#[derive(Debug)]
pub enum Rejected {
    /// The row is at fault: it counts against `maxInvalidRows`. Says what is wrong with it.
    Row(String),
    /// Nothing can be read on.
    Fatal(Failure),
}

/// What [`read_rows`] found, beside the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Examples handed on.
    pub examples: u64,
    /// Malformed rows skipped.
    pub skipped: u64,
    /// Classes that the card or the file declares for the label column.
    pub declared: Option<LabelSet>,
}

/// Reads `split`, at most `dataset.max_examples` rows of it. For each file with columns `prepare` gets its path, format and
/// columns, and says which columns to decode, with a value of its own that `visit` gets along with each row. Malformed rows
/// are skipped as far as `dataset.max_invalid_rows` permits.
pub fn read_rows<P>(
    split: &Split,
    dataset: &Dataset,
    mut prepare: impl FnMut(&Path, DataFormat, &[String]) -> Result<(P, Vec<String>), DataError>,
    mut visit: impl FnMut(&P, Row) -> Result<(), Rejected>,
) -> Result<Reading, Failure> {
    let mut reading = Reading::default();
    let mut first_bad: Option<String> = None;
    let limit = dataset.max_examples.unwrap_or(u64::MAX);
    for file in &split.files {
        let format = rows::format_of(file, dataset.format)?;
        let available = rows::columns_of(file, Some(format))?;
        if available.is_empty() {
            continue;
        }
        let (prepared, wanted) = prepare(file, format, &available)?;
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        // A visitor's own failure has to pass through the reader, whose errors are about data only.
        let mut fatal = None;
        rows::read(file, Some(format), &wanted, &mut |(number, row)| {
            if reading.examples >= limit {
                return Ok(ControlFlow::Break(()));
            }
            let bad = match row.map(|row| visit(&prepared, row)) {
                Ok(Ok(())) => {
                    reading.examples += 1;
                    return Ok(ControlFlow::Continue(()));
                }
                Ok(Err(Rejected::Fatal(failure))) => {
                    fatal = Some(failure);
                    return Ok(ControlFlow::Break(()));
                }
                Ok(Err(Rejected::Row(bad))) | Err(bad) => bad,
            };
            reading.skipped += 1;
            let first = first_bad.get_or_insert_with(|| {
                format!(
                    "{} {number} of {} is malformed: {bad}",
                    rows::unit(format),
                    file.display()
                )
            });
            if reading.skipped > dataset.max_invalid_rows {
                return Err(DataError::InvalidRows {
                    first: first.clone(),
                    found: reading.skipped,
                    allowed: dataset.max_invalid_rows,
                });
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(failure) = fatal {
            return Err(failure);
        }
    }
    if reading.examples == 0 {
        return Err(DataError::Empty {
            split: split.name.clone(),
            detail: first_bad.map_or(String::new(), |first| format!(" that is well-formed ({first})")),
        }
        .into());
    }
    Ok(reading)
}
