//! Documents in the order of their nearness to each query.

use candle_core::{D, Tensor};
use rayon::prelude::*;
use slipway_contract::{Failure, FailureReason};
use slipway_model::{Batch, Rows};

use super::Local;
use crate::evaluate::Progress;
use crate::evaluate::collection::Collection;
use crate::host::Host;
use crate::metrics::ranking::Retrieval;
use crate::train::compute_failure;

/// Ranks looked at; no metric asks for more.
const DEPTH: usize = 100;
/// Queries scored at once.
const QUERIES: usize = 64;

impl Local {
    /// The first [`DEPTH`] ranks of each query, by the cosine of embeddings pooled as the model says.
    pub fn retrieve(
        &self,
        collection: &Collection,
        host: &Host,
        progress: &mut Progress,
    ) -> Result<Vec<Retrieval>, Failure> {
        let corpus = self.embed(&collection.corpus, host)?;
        let turned = corpus.t().map_err(compute_failure)?;
        let mut rankings = Vec::with_capacity(collection.queries.len());
        let pairs = collection
            .queries
            .chunks(QUERIES)
            .zip(collection.relevant.chunks(QUERIES));
        for (queries, relevant) in pairs {
            let scores = self
                .embed(queries, host)?
                .matmul(&turned)
                .and_then(|scores| scores.to_vec2::<f32>())
                .map_err(compute_failure)?;
            let ranked: Result<Vec<Retrieval>, _> = scores
                .into_par_iter()
                .zip(relevant)
                .map(|(scores, relevant)| {
                    let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
                    Retrieval::of(&scores, relevant).map(|mut ranking| {
                        ranking.hits.truncate(DEPTH);
                        ranking
                    })
                })
                .collect();
            rankings.extend(ranked.map_err(|why| {
                Failure::new(
                    FailureReason::InvalidModel,
                    format!("an embedding is no vector of numbers: {why}"),
                )
            })?);
            progress.advance(queries.len(), host);
        }
        Ok(rankings)
    }

    /// One vector of length 1 for each text, [N, H], in their order.
    fn embed(&self, texts: &[String], host: &Host) -> Result<Tensor, Failure> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (mut parts, mut places) = (Vec::new(), vec![0u32; texts.len()]);
        let mut computed = 0;
        let embed = |batch: &Batch, rows: &Rows| self.network.embed(batch, rows);
        self.in_batches(&texts, host, embed, |batch, vectors| {
            for &index in batch {
                places[index] = computed;
                computed += 1;
            }
            parts.push(vectors);
            Ok(())
        })?;
        unit(&parts, places).map_err(compute_failure)
    }
}

/// The rows of `parts` in the order of `places`, scaled to length 1, which some models leave out.
fn unit(parts: &[Tensor], places: Vec<u32>) -> candle_core::Result<Tensor> {
    let all = Tensor::cat(parts, 0)?;
    let count = places.len();
    let vectors = all.index_select(&Tensor::from_vec(places, count, all.device())?, 0)?;
    let length = vectors.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
    vectors.broadcast_div(&length)
}
