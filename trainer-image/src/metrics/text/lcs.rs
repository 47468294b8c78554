//! Longest common subsequences, by rows of bits (Hyyrö, 2004): 64 cells of the table at a time. Pure.

use std::collections::HashMap;
use std::hash::Hash;

/// The table of the lengths of longest common subsequences of all prefixes of two sequences: a row for each item of the
/// first, with a bit for each item of the second that is 0 where the length is one more than without that item.
#[derive(Debug)]
struct Table {
    /// 64-bit words in a row.
    width: usize,
    rows: Vec<u64>,
}

impl Table {
    /// The length for the first `row` items of the first sequence and the first `column` of the second.
    fn length(&self, row: usize, column: usize) -> usize {
        if row == 0 {
            return 0;
        }
        let bits = &self.rows[(row - 1) * self.width..row * self.width];
        let (whole, rest) = (column / 64, column % 64);
        let zeros = bits[..whole].iter().map(|word| word.count_zeros()).sum::<u32>();
        let last = if rest == 0 {
            0
        } else {
            (!bits[whole] & ((1 << rest) - 1)).count_ones()
        };
        (zeros + last) as usize
    }
}

/// Calls `visit` with each row of the table.
fn rows<T: Eq + Hash>(first: &[T], second: &[T], mut visit: impl FnMut(&[u64])) {
    let width = second.len().div_ceil(64);
    let mut places: HashMap<&T, Vec<u64>> = HashMap::new();
    for (at, item) in second.iter().enumerate() {
        places.entry(item).or_insert_with(|| vec![0; width])[at / 64] |= 1 << (at % 64);
    }
    let nowhere = vec![0; width];
    let mut row = vec![u64::MAX; width];
    for item in first {
        let matches = places.get(item).unwrap_or(&nowhere);
        let mut carry = false;
        for (word, matches) in row.iter_mut().zip(matches) {
            let both = *word & matches;
            let (sum, over) = word.overflowing_add(both);
            let (sum, over_by_carry) = sum.overflowing_add(u64::from(carry));
            carry = over || over_by_carry;
            *word = sum | (*word - both);
        }
        visit(&row);
    }
}

/// The length of a longest common subsequence.
pub(super) fn length<T: Eq + Hash>(first: &[T], second: &[T]) -> usize {
    let mut last = Table {
        width: second.len().div_ceil(64),
        rows: Vec::new(),
    };
    rows(first, second, |row| {
        last.rows.clear();
        last.rows.extend_from_slice(row);
    });
    last.length(usize::from(!first.is_empty()), second.len())
}

/// The positions in `first` of the longest common subsequence that rouge_score reads out of its table, ascending.
pub(super) fn positions<T: Eq + Hash>(first: &[T], second: &[T]) -> Vec<usize> {
    let mut table = Table {
        width: second.len().div_ceil(64),
        rows: Vec::with_capacity(first.len() * second.len().div_ceil(64)),
    };
    rows(first, second, |row| table.rows.extend_from_slice(row));
    let (mut i, mut j) = (first.len(), second.len());
    let mut found = Vec::new();
    while i > 0 && j > 0 {
        if first[i - 1] == second[j - 1] {
            found.push(i - 1);
            (i, j) = (i - 1, j - 1);
        } else if table.length(i, j - 1) > table.length(i - 1, j) {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as textbooks fill it.
    fn textbook(first: &[u32], second: &[u32]) -> Vec<Vec<usize>> {
        let mut table = vec![vec![0; second.len() + 1]; first.len() + 1];
        for i in 1..=first.len() {
            for j in 1..=second.len() {
                table[i][j] = if first[i - 1] == second[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        table
    }

    #[test]
    fn bits_hold_the_textbooks_table() {
        let mut state = 1u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        for case in 0..60 {
            let items = next(6) + 1;
            let mut draw = |most| (0..next(most)).map(|_| next(items) as u32).collect::<Vec<u32>>();
            let (first, second) = (draw(90), draw(200));
            let expected = textbook(&first, &second);
            let mut at = 0;
            rows(&first, &second, |row| {
                at += 1;
                let table = Table {
                    width: row.len(),
                    rows: row.to_vec(),
                };
                let found: Vec<usize> = (0..=second.len()).map(|j| table.length(1, j)).collect();
                assert_eq!(found, expected[at], "case {case}, row {at}");
            });
            let longest = expected[first.len()][second.len()];
            assert_eq!(length(&first, &second), longest);
            let positions = positions(&first, &second);
            assert_eq!(positions.len(), longest);
            assert!(positions.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn nothing_is_common_with_nothing() {
        assert_eq!(
            (length::<u32>(&[], &[]), length(&[1], &[]), length(&[], &[1])),
            (0, 0, 0)
        );
        assert_eq!(positions(&[1, 2], &[]), [0usize; 0]);
    }
}
