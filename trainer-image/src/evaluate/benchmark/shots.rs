//! Worked examples: which rows are shown before a question.

use slipway_contract::{Dataset, Failure, FewShot, Sampler};

use super::python::Random;
use super::{Reader, every_column};
use crate::data::{DataError, Layout, Row, Split};

/// Worked examples before each question, chosen question after question.
#[derive(Debug)]
pub(super) struct Shots {
    count: usize,
    /// The rows to choose from, each with what is shown of it.
    pool: Vec<(Row, String)>,
    /// Whether the questions are among them.
    same: bool,
    /// None where the first are taken.
    random: Option<Random>,
}

impl Shots {
    /// Reads the rows that are shown before questions of `split`.
    pub fn read(
        shots: &FewShot,
        reader: &Reader<'_>,
        layout: &Layout,
        split: &Split,
        dataset: &Dataset,
    ) -> Result<Self, Failure> {
        let same = shots.split == split.name;
        let from = if same {
            split.clone()
        } else {
            layout.other_split(&shots.split)?
        };
        let first = !same && shots.sampler == Sampler::FirstN;
        let limited = Dataset {
            // A question is no example of itself, so its own split has to offer more than are shown.
            max_examples: first.then_some(shots.count as u64),
            ..dataset.clone()
        };
        let mut pool = Vec::new();
        every_column(&from, &limited, |row| {
            let turn = reader.turn(&row)?;
            let delimiter = &reader.benchmark.target_delimiter;
            let text = format!("{}{delimiter}{}{}", turn.prompt, turn.answer, shots.delimiter);
            // Only rows that may be the question are compared with it.
            pool.push((if same { row } else { Row::new() }, text));
            Ok(())
        })?;
        // One more where a question may have to be left out.
        if pool.len() < shots.count + usize::from(same) {
            return Err(DataError::Empty {
                split: from.name,
                detail: format!(
                    ", or fewer than the {} that fewShot.count shows before each question",
                    shots.count
                ),
            }
            .into());
        }
        Ok(Self {
            count: shots.count,
            pool,
            same,
            random: (shots.sampler == Sampler::Random).then(|| Random::new(shots.seed)),
        })
    }

    /// The worked examples before the next question, which is `row`.
    pub fn before(&mut self, row: &Row) -> Result<String, String> {
        let others = |places: &mut dyn Iterator<Item = usize>| -> Vec<usize> {
            let fit = places.filter(|&place| !self.same || self.pool[place].0 != *row);
            fit.take(self.count).collect()
        };
        let all = 0..self.pool.len();
        let mut shown = match &mut self.random {
            None => others(&mut all.clone()),
            Some(random) => {
                // One more, should the question be among them.
                let drawn = random.sample(all.len(), self.count + usize::from(self.same));
                others(&mut drawn.into_iter())
            }
        };
        if let Some(random) = self.random.as_mut().filter(|_| shown.len() < self.count) {
            // Rows that are the question's doubles were drawn.
            let different: Vec<usize> = all.filter(|&place| self.pool[place].0 != *row).collect();
            if different.len() >= self.count {
                let drawn = random.sample(different.len(), self.count);
                shown = drawn.into_iter().map(|place| different[place]).collect();
            }
        }
        if shown.len() < self.count {
            return Err("too few other rows differ from it to show as worked examples".into());
        }
        Ok(shown
            .into_iter()
            .map(|place| self.pool[place].1.as_str())
            .collect())
    }
}
