use serde_json::json;

use super::*;

const CHATML: &str = "{% for message in messages %}\n    {{ '<|' + message['role'] + '|>' + message.content + '</s>\n' }}\n{% endfor %}\n{% if add_generation_prompt %}\n{{- '<|assistant|>' }}\n{%- endif %}\n";

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::with_clock(source, "<s>", "</s>", || {
        jiff::civil::datetime(2024, 7, 26, 12, 0, 0, 0)
    })
    .unwrap()
}

fn render(source: &str, messages: &[Message]) -> Result<String, ChatError> {
    template(source).render(messages, None, false)
}

fn turns() -> Vec<Message> {
    vec![
        Message::new("user", "a"),
        Message::new("assistant", "b"),
        Message::new("user", "c"),
        Message::new("assistant", "d"),
    ]
}

/// One token a letter; special tokens whole.
fn letters(directory: &std::path::Path) -> Tokenizer {
    let specials = ["</s>", "<|user|>", "<|assistant|>"];
    let added: Vec<_> = specials
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let document = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "\n",
                  "vocab": {"</s>": 0, "<|user|>": 1, "<|assistant|>": 2, "\n": 3, "a": 4, "b": 5, "c": 6, "d": 7}},
    });
    std::fs::write(directory.join("tokenizer.json"), document.to_string()).unwrap();
    std::fs::write(
        directory.join("tokenizer_config.json"),
        json!({"eos_token": "</s>"}).to_string(),
    )
    .unwrap();
    Tokenizer::open(directory).unwrap()
}

#[test]
fn blocks_are_trimmed_as_transformers_does() {
    let text = template(CHATML).render(&turns()[..1], None, true).unwrap();
    assert_eq!(text, "    <|user|>a</s>\n\n<|assistant|>");
}

#[test]
fn python_idioms_work() {
    let source = "{%- set ns = namespace(n=0) -%}
{%- for m in messages -%}{%- if m.content.strip().startswith('x') -%}{%- continue -%}{%- endif -%}
{%- set ns.n = ns.n + 1 -%}{{ m['content'].split(',')[-1] | trim }}{{ m.get('name', '?') }};{%- endfor -%}
{{ ns.n }} {{ true }} {{ none }} {{ bos_token }} {% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}";
    let messages = [Message::new("user", " x "), Message::new("user", "1, 2 ")];
    assert_eq!(render(source, &messages).unwrap(), "2?;1 True None <s> b1a2");
}

#[test]
fn json_is_written_as_python_writes_it() {
    let tools = [json!({"name": "get", "parameters": {"z": [1, 2.5, null], "a": "<\u{e9}\">"}, "e": {}})];
    let text =
        template("{{ tools[0] | tojson }}|{{ tools[0].parameters | tojson(indent=2, sort_keys=true) }}")
            .render(&[], Some(&tools), false)
            .unwrap();
    // json.dumps(tool, ensure_ascii=False) and json.dumps(tool["parameters"], ensure_ascii=False, indent=2, sort_keys=True)
    assert_eq!(
        text,
        "{\"name\": \"get\", \"parameters\": {\"z\": [1, 2.5, null], \"a\": \"<\u{e9}\\\">\"}, \"e\": {}}|\
         {\n  \"a\": \"<\u{e9}\\\">\",\n  \"z\": [\n    1,\n    2.5,\n    null\n  ]\n}"
    );
}

#[test]
fn the_clock_is_the_callers() {
    assert_eq!(
        render("{{ strftime_now('%d %b %Y') }}", &[]).unwrap(),
        "26 Jul 2024"
    );
}

#[test]
fn marks_of_generation_change_nothing() {
    let source =
        "{% for m in messages %}\n{% generation %}\n{{ m.content }}\n{% endgeneration %}\n{% endfor %}";
    assert_eq!(render(source, &turns()[..2]).unwrap(), "a\nb\n");
}

#[test]
fn a_refusal_is_in_the_templates_words() {
    let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the chat template refuses the conversation: roles must alternate"
    );
}

#[test]
fn errors_name_their_line() {
    let error = ChatTemplate::new("a\n{% if %}", "", "").unwrap_err();
    assert!(matches!(error, ChatError::Syntax { line: 2, .. }), "{error}");
    let error = render("a\n\n{{ messages[0].x.y.z }}", &turns()).unwrap_err();
    assert!(matches!(error, ChatError::Render { line: 3, .. }), "{error}");
}

#[test]
fn a_template_without_end_is_stopped() {
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro again() %}{{ again() }}{{ again() }}{% endmacro %}{{ again() }}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
    ] {
        let error = render(source, &[]).unwrap_err();
        assert!(
            matches!(error, ChatError::Endless { .. } | ChatError::Render { .. }),
            "{source}: {error}"
        );
    }
}

#[test]
fn templates_cannot_reach_files() {
    assert!(matches!(
        render("{% include '/etc/passwd' %}", &[]),
        Err(ChatError::Render { .. })
    ));
}

#[test]
fn answers_are_learned_with_the_token_that_ends_them() {
    let directory = tempfile::tempdir().unwrap();
    let tokenizer = letters(directory.path());
    let template = template(
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '</s>\n' }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    );
    let found = encode_conversation(&template, &tokenizer, &turns()).unwrap();
    assert_eq!(found.ids, [1, 4, 0, 3, 2, 5, 0, 3, 1, 6, 0, 3, 2, 7, 0, 3]);
    let learned: Vec<u32> = found
        .ids
        .iter()
        .zip(&found.learned)
        .filter(|(_, learned)| **learned)
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(learned, [5, 0, 7, 0]);
}

#[test]
fn a_conversation_that_cannot_be_masked_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let tokenizer = letters(directory.path());
    // Shows only the last message.
    let forgetful = template("{{ messages[-1].content if messages }}");
    let error = encode_conversation(&forgetful, &tokenizer, &turns()).unwrap_err();
    assert!(
        matches!(error, ChatError::NotIncremental { message: 2 }),
        "{error}"
    );
    let error = encode_conversation(&template(CHATML), &tokenizer, &turns()[..1]).unwrap_err();
    assert!(matches!(error, ChatError::NoAnswer), "{error}");
    assert!(matches!(ChatTemplate::of(&tokenizer), Err(ChatError::NoTemplate)));
}
