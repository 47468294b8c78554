//! Why a figure has no value. Pure.

/// The figure has no value for these inputs: the reference implementation raises, or answers NaN.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Undefined {
    /// Nothing was measured.
    #[error("there are no examples; give at least one")]
    NoExamples,
    /// Figures of spread need two values.
    #[error("there is one example; give at least two")]
    OneExample,
    /// The two sides do not pair up.
    #[error("there are {truth} true values and {found} found ones; give one of each for every example")]
    Lengths {
        /// True values.
        truth: usize,
        /// Values that the model found.
        found: usize,
    },
    /// NaN or infinite.
    #[error("value {index} is {value}; give finite numbers only")]
    NotFinite {
        /// Its position, from 0.
        index: usize,
        /// What it is.
        value: f64,
    },
    /// Beyond the range of a 64-bit float.
    #[error("the squares of these numbers are too large to add up; scale the numbers down")]
    Overflow,
    /// Nothing varies.
    #[error("all {side} values are equal, and a correlation needs some that differ; give examples that vary")]
    Constant {
        /// `true` or `found`.
        side: &'static str,
    },
    /// A ranking needs examples to tell apart.
    #[error(
        "class {class} has {}, and ROC AUC tells a class from the others; give examples of every class",
        if *.every { "every example" } else { "no example" }
    )]
    ClassMissing {
        /// The class's id.
        class: u32,
        /// Whether all examples are of it, instead of none.
        every: bool,
    },
    /// The average is one of two classes.
    #[error("average binary needs two classes, and there are {0}; choose macro, micro or weighted")]
    NotBinary(usize),
    /// A class outside of those declared.
    #[error("class {class} is not among the {classes} classes; number them from 0")]
    ClassUnknown {
        /// The class's id.
        class: u32,
        /// How many there are.
        classes: usize,
    },
    /// No token, byte or word to divide by.
    #[error("there is not one {unit} in {side}, and {metric} divides by their number; {fix}")]
    NothingToCount {
        /// What is counted.
        unit: &'static str,
        /// Where it is missing.
        side: &'static str,
        /// The metric's name.
        metric: &'static str,
        /// What helps.
        fix: &'static str,
    },
    /// METEOR without its data.
    #[error(
        "METEOR needs WordNet and Punkt; name a folder that holds nltk's data: python -m nltk.downloader -d FOLDER wordnet punkt_tab"
    )]
    NoLexicon,
    /// No query has an answer to find.
    #[error("no query has a relevant document; name at least one for some query")]
    NothingRelevant,
}
