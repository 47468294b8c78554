//! Metrics of texts against one reference each. Pure.

mod bleu;
mod chrf;
mod lcs;
mod meteor;
mod ngrams;
mod rouge;
mod squad;
mod strings;
mod ter;
mod tokenize;

use rayon::prelude::*;

use self::bleu::Bleu;
use self::chrf::Chrf;
pub use self::meteor::{Lexicon, LexiconError};
use self::ter::Ter;
use super::Undefined;

/// A metric of texts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TextMetric {
    /// See [`squad::exact_match`].
    ExactMatch,
    /// See [`squad::squad_f1`].
    SquadF1,
    /// See [`Bleu::bleu`].
    Bleu,
    /// See [`Bleu::sacrebleu`].
    SacreBleu,
    /// See [`Chrf`].
    Chrf,
    /// See [`Ter`].
    Ter,
    /// See [`rouge::rouge_n`].
    Rouge1,
    /// See [`rouge::rouge_n`].
    Rouge2,
    /// See [`rouge::rouge_l`].
    RougeL,
    /// See [`rouge::rouge_lsum`].
    RougeLsum,
    /// See [`meteor::meteor`].
    Meteor,
}

/// What each example contributes to a metric. A resample of a bootstrap is a sum of these: no text is read twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Contributions {
    /// The metric is the mean of these.
    Mean(Vec<f64>),
    /// [`TextMetric::Bleu`].
    Bleu(Vec<Bleu>),
    /// [`TextMetric::SacreBleu`].
    SacreBleu(Vec<Bleu>),
    /// [`TextMetric::Chrf`].
    Chrf(Vec<Chrf>),
    /// [`TextMetric::Ter`].
    Ter(Vec<Ter>),
}

impl TextMetric {
    /// Compares each answer in `found` with its reference in `truth`. `lexicon` is for METEOR only.
    pub fn contributions<F, T>(
        self,
        found: &[F],
        truth: &[T],
        lexicon: Option<&Lexicon>,
    ) -> Result<Contributions, Undefined>
    where
        F: AsRef<str> + Sync,
        T: AsRef<str> + Sync,
    {
        if found.len() != truth.len() {
            return Err(Undefined::Lengths {
                truth: truth.len(),
                found: found.len(),
            });
        }
        if found.is_empty() {
            return Err(Undefined::NoExamples);
        }
        let mean = |score: fn(&str, &str) -> f64| Contributions::Mean(each(found, truth, score));
        Ok(match self {
            Self::ExactMatch => mean(squad::exact_match),
            Self::SquadF1 => mean(squad::squad_f1),
            Self::Rouge1 => mean(|found, truth| rouge::rouge_n(found, truth, 1)),
            Self::Rouge2 => mean(|found, truth| rouge::rouge_n(found, truth, 2)),
            Self::RougeL => mean(rouge::rouge_l),
            Self::RougeLsum => mean(rouge::rouge_lsum),
            Self::Meteor => {
                let lexicon = lexicon.ok_or(Undefined::NoLexicon)?;
                Contributions::Mean(each(found, truth, |found, truth| {
                    meteor::meteor(found, truth, lexicon)
                }))
            }
            Self::Bleu => Contributions::Bleu(each(found, truth, Bleu::of)),
            Self::SacreBleu => Contributions::SacreBleu(each(found, truth, Bleu::of_sacrebleu)),
            Self::Chrf => Contributions::Chrf(each(found, truth, Chrf::of)),
            Self::Ter => Contributions::Ter(each(found, truth, Ter::of)),
        })
    }
}

fn each<C: Send>(
    found: &[impl AsRef<str> + Sync],
    truth: &[impl AsRef<str> + Sync],
    compare: impl Fn(&str, &str) -> C + Sync,
) -> Vec<C> {
    found
        .par_iter()
        .zip(truth)
        .map(|(found, truth)| compare(found.as_ref(), truth.as_ref()))
        .collect()
}

impl Contributions {
    /// Examples.
    pub fn len(&self) -> usize {
        match self {
            Self::Mean(each) => each.len(),
            Self::Bleu(each) | Self::SacreBleu(each) => each.len(),
            Self::Chrf(each) => each.len(),
            Self::Ter(each) => each.len(),
        }
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The metric over the examples at `indices`, of which there must be some.
    pub fn score(&self, indices: impl ExactSizeIterator<Item = usize>) -> Result<f64, Undefined> {
        if indices.len() == 0 {
            return Err(Undefined::NoExamples);
        }
        let examples = indices.len() as f64;
        Ok(match self {
            Self::Mean(each) => indices.map(|index| each[index]).sum::<f64>() / examples,
            Self::Bleu(each) => indices.map(|index| each[index]).sum::<Bleu>().bleu()?,
            Self::SacreBleu(each) => indices.map(|index| each[index]).sum::<Bleu>().sacrebleu(),
            Self::Chrf(each) => indices.map(|index| each[index]).sum::<Chrf>().score(),
            Self::Ter(each) => indices.map(|index| each[index]).sum::<Ter>().score(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [TextMetric; 11] = [
        TextMetric::ExactMatch,
        TextMetric::SquadF1,
        TextMetric::Bleu,
        TextMetric::SacreBleu,
        TextMetric::Chrf,
        TextMetric::Ter,
        TextMetric::Rouge1,
        TextMetric::Rouge2,
        TextMetric::RougeL,
        TextMetric::RougeLsum,
        TextMetric::Meteor,
    ];

    #[test]
    fn a_resample_is_the_corpus_written_out() {
        let found = [
            "the cat sat on a mat",
            "a b c d e",
            "nothing",
            "the same words are here",
        ];
        let truth = [
            "a cat sat on the mat",
            "c d a b e",
            "else",
            "the same words are here",
        ];
        let lexicon = Lexicon::of_synonyms(&["nothing", "else"]);
        let drawn = [0usize, 3, 3, 1, 0, 2, 2];
        let written = |texts: [&'static str; 4]| drawn.map(|index| texts[index]);
        for metric in ALL {
            let all = metric.contributions(&found, &truth, Some(&lexicon)).unwrap();
            let resample = metric
                .contributions(&written(found), &written(truth), Some(&lexicon))
                .unwrap();
            let (ours, theirs) = (
                all.score(drawn.iter().copied()).unwrap(),
                resample.score(0..drawn.len()).unwrap(),
            );
            assert!((ours - theirs).abs() < 1e-12, "{metric:?}: {ours} {theirs}");
            assert!(ours > 0.0, "{metric:?}");
        }
    }

    #[test]
    fn no_texts_and_uneven_lists_are_refused() {
        for metric in ALL {
            let none: [&str; 0] = [];
            assert_eq!(
                metric.contributions(&none, &none, None),
                Err(Undefined::NoExamples)
            );
            let uneven = Undefined::Lengths { truth: 2, found: 1 };
            assert_eq!(metric.contributions(&["a"], &["a", "b"], None), Err(uneven));
        }
        let one = TextMetric::Ter.contributions(&["a"], &["a"], None).unwrap();
        assert_eq!(one.score(0..0), Err(Undefined::NoExamples));
    }

    #[test]
    fn meteor_without_a_lexicon_is_refused() {
        let refused = TextMetric::Meteor.contributions(&["a"], &["a"], None);
        assert_eq!(refused, Err(Undefined::NoLexicon));
    }
}
