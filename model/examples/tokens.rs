//! Tokenizes for comparison with other libraries: `tokens MODEL < REQUEST`. The request is a JSON object with `texts` (a
//! list) and `conversations` (a list of lists of messages); the answer has `ids`, `decoded`, `streamed` and `rendered`.

use std::path::Path;

use slipway_model::ModelFiles;
use slipway_model::chat::{ChatTemplate, Message};
use slipway_model::tokenizer::{StreamDecoder, Tokenizer};

#[derive(serde::Deserialize)]
struct Request {
    #[serde(default)]
    texts: Vec<String>,
    #[serde(default)]
    conversations: Vec<Vec<Message>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).ok_or("usage: tokens MODEL < REQUEST")?;
    let request: Request = serde_json::from_reader(std::io::stdin())?;
    let tokenizer = Tokenizer::of(&ModelFiles::open(Path::new(&model))?)?;
    let mut ids = Vec::new();
    let mut decoded = Vec::new();
    let mut streamed = Vec::new();
    for text in &request.texts {
        let tokens = tokenizer.encode(text, true)?;
        decoded.push(tokenizer.decode(&tokens, true)?);
        let mut stream = StreamDecoder::new(true);
        let mut out = String::new();
        for &token in &tokens {
            out.push_str(&stream.push(&tokenizer, token)?);
        }
        out.push_str(&stream.finish(&tokenizer)?);
        streamed.push(out);
        ids.push(tokens);
    }
    let mut rendered = Vec::new();
    if !request.conversations.is_empty() {
        let template = ChatTemplate::of(&tokenizer)?;
        for conversation in &request.conversations {
            rendered.push(template.render(conversation, None, true)?);
        }
    }
    let answer =
        serde_json::json!({"ids": ids, "decoded": decoded, "streamed": streamed, "rendered": rendered});
    println!("{answer}");
    Ok(())
}
