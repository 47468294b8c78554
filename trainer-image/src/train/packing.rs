//! Several short sequences in one row.

/// Rows that are still filled; looking at more would cost time for little gain.
const OPEN: usize = 256;

/// Puts sequences of the given lengths into rows of at most `limit` tokens: each into the first of the open rows
/// that has room, in order (first fit). Returns the sequences of each row. A length above `limit` gets a row of
/// its own.
pub(super) fn pack(lengths: &[usize], limit: usize) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (index, &length) in lengths.iter().enumerate() {
        if let Some(place) = open.iter().position(|&(_, room)| length <= room) {
            let (row, room) = &mut open[place];
            rows[*row].push(index);
            *room -= length;
            if *room == 0 {
                open.remove(place);
            }
            continue;
        }
        if length < limit {
            if open.len() == OPEN {
                open.remove(0);
            }
            open.push((rows.len(), limit - length));
        }
        rows.push(vec![index]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sequence_goes_into_the_first_row_with_room() {
        assert_eq!(
            pack(&[6, 5, 4, 3, 10, 2], 10),
            [vec![0, 2], vec![1, 3, 5], vec![4]]
        );
    }

    #[test]
    fn no_row_is_too_long_and_no_sequence_is_lost() {
        let lengths: Vec<usize> = (0..2000).map(|n| 1 + (n * 7919) % 97).collect();
        let rows = pack(&lengths, 128);
        assert!(
            rows.iter()
                .all(|row| row.iter().map(|&index| lengths[index]).sum::<usize>() <= 128)
        );
        let mut all: Vec<usize> = rows.concat();
        all.sort_unstable();
        assert_eq!(all, (0..2000).collect::<Vec<_>>());
        let least = lengths.iter().sum::<usize>().div_ceil(128);
        assert!(
            rows.len() <= least * 11 / 10,
            "{} rows where {least} could do",
            rows.len()
        );
    }

    #[test]
    fn a_sequence_that_is_too_long_stands_alone() {
        assert_eq!(pack(&[3, 12, 3], 10), [vec![0, 2], vec![1]]);
    }
}
