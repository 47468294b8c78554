//! Metrics of retrieval, each equal to those of `InformationRetrievalEvaluator` of sentence-transformers: a document is
//! relevant to a query or it is not. Pure.

use super::Undefined;

/// The answer to one query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Retrieval {
    /// Whether each document found is relevant, best first.
    pub hits: Vec<bool>,
    /// Documents that are relevant, found or not.
    pub relevant: usize,
}

impl Retrieval {
    /// Ranks the documents `0..scores.len()` by descending score, equal ones by number, against the `relevant` ones.
    pub fn of(scores: &[f64], relevant: &[usize]) -> Result<Self, Undefined> {
        if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
            return Err(Undefined::NotFinite {
                index,
                value: scores[index],
            });
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        Ok(Self {
            hits: order.iter().map(|document| relevant.contains(document)).collect(),
            relevant: relevant.len(),
        })
    }

    /// Share of the relevant documents among the first `k`.
    pub fn recall(&self, k: usize) -> f64 {
        let hits = self.first(k).filter(|&hit| hit).count();
        hits as f64 / self.relevant as f64
    }

    /// Normalised discounted cumulative gain of the first `k` (Järvelin and Kekäläinen, 2002): each hit counts
    /// 1/log₂(rank + 1), as a share of what the best order would score.
    pub fn ndcg(&self, k: usize) -> f64 {
        let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
        let found: f64 = self
            .first(k)
            .enumerate()
            .filter(|&(_, hit)| hit)
            .map(|(rank, _)| gain(rank))
            .sum();
        let best: f64 = (0..self.relevant.min(k)).map(gain).sum();
        found / best
    }

    /// 1/rank of the first hit among the first `k`, 0 without one.
    pub fn reciprocal_rank(&self, k: usize) -> f64 {
        self.first(k)
            .position(|hit| hit)
            .map_or(0.0, |rank| 1.0 / (rank + 1) as f64)
    }

    fn first(&self, k: usize) -> impl Iterator<Item = bool> {
        self.hits.iter().copied().take(k)
    }
}

/// The mean of `figure` over the queries; those without a relevant document do not count.
pub fn mean(answers: &[Retrieval], figure: impl Fn(&Retrieval) -> f64) -> Result<f64, Undefined> {
    if answers.is_empty() {
        return Err(Undefined::NoExamples);
    }
    let (sum, count) = answers
        .iter()
        .filter(|answer| answer.relevant > 0)
        .fold((0.0, 0usize), |(sum, count), answer| {
            (sum + figure(answer), count + 1)
        });
    if count == 0 {
        return Err(Undefined::NothingRelevant);
    }
    Ok(sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_count_by_their_rank() {
        let answer = Retrieval::of(&[0.1, 0.9, 0.5, 0.5], &[2, 0]).unwrap();
        assert_eq!(answer.hits, [false, true, false, true]);
        assert_eq!(
            (answer.recall(1), answer.recall(2), answer.recall(9)),
            (0.0, 0.5, 1.0)
        );
        assert_eq!((answer.reciprocal_rank(1), answer.reciprocal_rank(9)), (0.0, 0.5));
        let best = 1.0 + 1.0 / 3f64.log2();
        assert!((answer.ndcg(4) - (1.0 / 3f64.log2() + 1.0 / 5f64.log2()) / best).abs() < 1e-12);
        assert!((answer.ndcg(2) - 1.0 / 3f64.log2() / best).abs() < 1e-12);
    }

    #[test]
    fn queries_that_nothing_answers_do_not_count() {
        let with = Retrieval::of(&[1.0, 0.0], &[0]).unwrap();
        let without = Retrieval::of(&[1.0, 0.0], &[]).unwrap();
        let recall = |answer: &Retrieval| answer.recall(1);
        assert_eq!(mean(&[with, without.clone()], recall), Ok(1.0));
        assert_eq!(mean(&[without], recall), Err(Undefined::NothingRelevant));
        assert_eq!(mean(&[], recall), Err(Undefined::NoExamples));
    }
}
