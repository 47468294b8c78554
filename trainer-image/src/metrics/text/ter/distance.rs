//! Edit distance of two lists of words near the diagonal of its table. Pure.

/// Cells on each side of the diagonal, as in Tercom.
const BEAM: usize = 25;
/// The cost of a cell that was not computed.
const FAR: u32 = u32::MAX / 2;

/// How a cell is reached from a cell before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// Both words are the same.
    Keep,
    Substitute,
    /// The word of `found` goes.
    Delete,
    /// The word of `truth` comes in.
    Insert,
}

/// The computed cells of one row: `cells[0]` is in column `first`.
#[derive(Clone, Debug)]
struct Row {
    first: usize,
    cells: Vec<(u32, Step)>,
}

impl Row {
    fn cost(&self, column: usize) -> u32 {
        column
            .checked_sub(self.first)
            .and_then(|at| self.cells.get(at))
            .map_or(FAR, |cell| cell.0)
    }
}

/// The table of the distances between all prefixes of `found` (rows) and of `truth` (columns).
#[derive(Debug)]
pub(super) struct Distance<'a> {
    truth: &'a [u32],
    rows: Vec<Row>,
}

/// Which words of both sides belong together, and which are wrong.
#[derive(Debug)]
pub(super) struct Alignment {
    /// For each word of the reference how many words of the answer lie up to where it belongs, itself included.
    pub until: Vec<usize>,
    /// For each word of the reference whether an edit concerns it.
    pub truth_wrong: Vec<bool>,
    /// For each word of the answer whether an edit concerns it.
    pub found_wrong: Vec<bool>,
}

impl<'a> Distance<'a> {
    /// The distance from `found` to `truth`.
    pub fn new(found: &[u32], truth: &'a [u32]) -> Self {
        let start = Row {
            first: 0,
            cells: (0..=truth.len() as u32)
                .map(|cost| (cost, Step::Insert))
                .collect(),
        };
        let mut table = Self {
            truth,
            rows: vec![start],
        };
        for number in 1..=found.len() {
            let row = table.next(&table.rows[number - 1], number, found);
            table.rows.push(row);
        }
        table
    }

    /// Edits without shifts.
    pub fn edits(&self) -> usize {
        self.last(&self.rows[self.rows.len() - 1])
    }

    /// The edits from `found`, of as many words as this table's and with the first `same` of them the same.
    pub fn edits_of(&self, found: &[u32], same: usize) -> usize {
        let mut last: Option<Row> = None;
        for number in same + 1..=found.len() {
            last = Some(self.next(last.as_ref().unwrap_or(&self.rows[same]), number, found));
        }
        last.map_or_else(|| self.edits(), |row| self.last(&row))
    }

    fn last(&self, row: &Row) -> usize {
        row.cost(self.truth.len()) as usize
    }

    /// Row `number`, from the row before it.
    fn next(&self, before: &Row, number: usize, found: &[u32]) -> Row {
        let (rows, columns) = (found.len(), self.truth.len());
        let ratio = columns as f64 / rows as f64;
        // Where lengths differ much, the beams of neighbouring rows must still overlap.
        let beam = if (BEAM as f64) < ratio / 2.0 {
            (ratio / 2.0 + BEAM as f64).ceil() as usize
        } else {
            BEAM
        };
        let diagonal = (number as f64 * ratio).floor() as usize;
        let first = diagonal.saturating_sub(beam);
        let end = if number == rows {
            columns + 1
        } else {
            (columns + 1).min(diagonal + beam)
        };
        let mut row = Row {
            first,
            cells: Vec::with_capacity(end - first),
        };
        let mut left = FAR;
        for column in first..end {
            let above = before.cost(column);
            let cell = if column == 0 {
                (above + 1, Step::Delete)
            } else {
                let diagonal = before.cost(column - 1);
                let mut cell = if found[number - 1] == self.truth[column - 1] {
                    (diagonal, Step::Keep)
                } else {
                    (diagonal + 1, Step::Substitute)
                };
                // Of equal costs Tercom prefers the diagonal, then deletion, then insertion.
                for (cost, step) in [(above + 1, Step::Delete), (left + 1, Step::Insert)] {
                    if cost < cell.0 {
                        cell = (cost, step);
                    }
                }
                cell
            };
            left = cell.0;
            row.cells.push(cell);
        }
        row
    }

    /// The edits read out of the table.
    pub fn alignment(&self) -> Alignment {
        let mut steps = Vec::new();
        let (mut row, mut column) = (self.rows.len() - 1, self.truth.len());
        while row > 0 || column > 0 {
            let step = self.rows[row].cells[column - self.rows[row].first].1;
            steps.push(step);
            row -= usize::from(step != Step::Insert);
            column -= usize::from(step != Step::Delete);
        }
        let mut alignment = Alignment {
            until: Vec::with_capacity(self.truth.len()),
            truth_wrong: Vec::with_capacity(self.truth.len()),
            found_wrong: Vec::with_capacity(self.rows.len()),
        };
        for step in steps.into_iter().rev() {
            let wrong = step != Step::Keep;
            if step != Step::Insert {
                alignment.found_wrong.push(wrong);
            }
            if step != Step::Delete {
                alignment.truth_wrong.push(wrong);
                alignment.until.push(alignment.found_wrong.len());
            }
        }
        alignment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_beginning_is_not_computed_again() {
        let truth = [1, 2, 3, 4, 5];
        let base = Distance::new(&[1, 2, 5, 4, 3], &truth);
        for (found, same) in [([1, 2, 3, 4, 5], 2), ([1, 2, 5, 3, 4], 3), ([1, 2, 5, 4, 3], 5)] {
            assert_eq!(
                base.edits_of(&found, same),
                Distance::new(&found, &truth).edits(),
                "{found:?}"
            );
        }
    }

    #[test]
    fn words_belong_where_the_edits_leave_them() {
        let alignment = Distance::new(&[1, 9, 2], &[1, 2, 3]).alignment();
        assert_eq!(alignment.until, [1, 2, 3]);
        assert_eq!(alignment.found_wrong, [false, true, true]);
        let inserted = Distance::new(&[2], &[1, 2]).alignment();
        assert_eq!(
            (inserted.until, inserted.truth_wrong),
            (vec![0, 1], vec![true, false])
        );
    }

    // Expected values: sacrebleu.metrics.lib_ter.BeamEditDistance.
    #[test]
    fn very_different_lengths_have_a_distance() {
        let long: Vec<u32> = (0..400).collect();
        // The first word belongs to the eighth, outside of the beam.
        assert_eq!(Distance::new(&[7, 9], &long).edits(), 400);
        assert_eq!(Distance::new(&long, &[7, 9]).edits(), 398);
        assert_eq!(Distance::new(&[], &long).edits(), 400);
    }
}
