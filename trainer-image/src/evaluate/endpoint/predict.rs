//! Classes of texts: `/predict`.

use serde::Deserialize;
use serde_json::json;
use slipway_contract::Failure;

use super::{Endpoint, StatusCode, is_about_input};
use crate::evaluate::labels::Classes;
use crate::evaluate::{Answer, Progress};
use crate::host::Host;

const PATH: &str = "/predict";

/// A class with its score, as `/predict` answers.
#[derive(Debug, Deserialize)]
struct Scored {
    label: String,
    score: f64,
}

impl Endpoint {
    /// What the server says about each text, in their order, and the classes by name.
    pub fn classify(
        &self,
        texts: &[&str],
        batch_size: usize,
        host: &Host,
        progress: &mut Progress,
    ) -> Result<(Vec<Answer>, Classes), Failure> {
        let mut said = Vec::with_capacity(texts.len());
        let mut names = std::collections::BTreeSet::new();
        for (number, chunk) in texts.chunks(batch_size.max(1)).enumerate() {
            let first = number * batch_size.max(1);
            let answers = host.wait(self.batch(chunk, first))?;
            for classes in answers {
                names.extend(classes.iter().map(|scored| scored.label.clone()));
                said.push(classes);
            }
            progress.advance(chunk.len(), host);
        }
        let names: Vec<String> = names.into_iter().collect();
        let answers = said.into_iter().map(|classes| answer(classes, &names)).collect();
        let classes = Classes {
            names,
            ordered: false,
        };
        Ok((answers, classes))
    }

    /// Asks for a batch; where the server refuses it, one text after another, to name the one at fault.
    async fn batch(&self, texts: &[&str], first: usize) -> Result<Vec<Vec<Scored>>, Failure> {
        match self.predict(texts).await? {
            Ok(answers) => Ok(answers),
            Err((status, _)) if texts.len() > 1 && is_about_input(status) => {
                let mut answers = Vec::new();
                for (offset, text) in texts.iter().enumerate() {
                    let answer = self.predict(&[text]).await?;
                    answers.extend(answer.map_err(|refusal| self.refused(PATH, refusal, first + offset))?);
                }
                Ok(answers)
            }
            Err(refusal) => Err(self.refused(PATH, refusal, first)),
        }
    }

    async fn predict(
        &self,
        texts: &[&str],
    ) -> Result<Result<Vec<Vec<Scored>>, (StatusCode, String)>, Failure> {
        self.ask(PATH, Some(&json!({ "inputs": texts })), |bytes| {
            let answers: Vec<Vec<Scored>> = serde_json::from_slice(bytes)
                .map_err(|error| format!("an answer that is no list of classes ({error})"))?;
            if answers.len() == texts.len() && answers.iter().all(|classes| !classes.is_empty()) {
                return Ok(answers);
            }
            Err(format!(
                "{} answers to {} texts",
                answers.iter().filter(|classes| !classes.is_empty()).count(),
                texts.len()
            ))
        })
        .await
    }
}

/// One text's scores by class; `names` are sorted and hold every class.
fn answer(classes: Vec<Scored>, names: &[String]) -> Answer {
    let id = |label: &String| names.binary_search(label).unwrap_or_default();
    let best = classes.iter().max_by(|a, b| a.score.total_cmp(&b.score));
    let class = best.map_or(0, |scored| id(&scored.label)) as u32;
    let mut scores = vec![f64::NAN; names.len()];
    for scored in classes {
        scores[id(&scored.label)] = scored.score;
    }
    Answer { class, scores }
}
