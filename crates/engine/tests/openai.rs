//! The OpenAI surface of the embedded engine, as a caller sees it.

mod common;

use cocoon_engine::batch::BatchOptions;
use cocoon_engine::{Backend, EmbeddedEngine};
use common::{Answer, ask, collect, engine, get, post};
use serde_json::{Value, json};
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const MODEL: &str = "cocoon-tiny";

fn chat(question: &str, more: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": question}], "temperature": 0});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

/// The tokens that the template and the tokenizer give for one user message.
fn prompt_tokens(engine: &EmbeddedEngine, question: &str) -> usize {
    let prompt = format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n");
    engine.text().encode(&prompt, false).unwrap().len()
}

#[tokio::test]
async fn a_chat_is_answered_and_counted_exactly() {
    let engine = engine();
    let question = "What is 7 + 8?";
    let answer = ask(&engine, CHAT, chat(question, json!({}))).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .headers
            .contains(&("content-type".into(), "application/json".into()))
    );
    let json = answer.json();
    assert!(content(&json).contains("15"), "{json}");
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    assert_eq!(json["choices"][0]["message"]["role"], "assistant");
    // What the model wrote, tokenized again, and the token that ended it.
    let completion = engine.text().encode(content(&json), false).unwrap().len() + 1;
    let prompt = prompt_tokens(&engine, question);
    assert_eq!(json["usage"]["prompt_tokens"], prompt);
    assert_eq!(json["usage"]["completion_tokens"], completion);
    assert_eq!(json["usage"]["total_tokens"], prompt + completion);
    assert_eq!(json["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let stats = engine.stats();
    assert_eq!(
        (stats.prompt_tokens, stats.generated_tokens),
        (prompt as u64, completion as u64)
    );
}

#[tokio::test]
async fn a_stream_is_framed_as_openai_does_and_says_the_same() {
    let engine = engine();
    let question = "What is Cocoon?";
    let whole = ask(&engine, CHAT, chat(question, json!({}))).await.json();
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = ask(&engine, CHAT, chat(question, more)).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .headers
            .iter()
            .any(|(n, v)| n == "content-type" && v.starts_with("text/event-stream"))
    );
    assert!(
        answer
            .pieces
            .iter()
            .all(|p| p.starts_with(b"data: ") && p.ends_with(b"\n\n"))
    );
    let events = answer.events();
    assert_eq!(
        events[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    let text: String = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, content(&whole));
    assert!(events.iter().all(|e| e["id"] == events[0]["id"]
        && e["object"] == "chat.completion.chunk"
        && e["model"] == MODEL));
    let [.., finish, usage] = &events[..] else {
        panic!()
    };
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    assert_eq!(finish["choices"][0]["delta"], json!({}));
    assert_eq!(finish["usage"], Value::Null);
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], whole["usage"]);

    let silent = ask(&engine, CHAT, chat(question, json!({"stream": true})))
        .await
        .events();
    assert!(silent.iter().all(|e| e.get("usage").is_none()));
}

#[tokio::test]
async fn completions_take_strings_lists_and_token_ids() {
    let engine = engine();
    let prompt = "<|im_start|>user\nCount to 5.<|im_end|>\n<|im_start|>assistant\n";
    let ids = engine.text().encode(prompt, true).unwrap();
    let mut texts = Vec::new();
    for form in [json!(prompt), json!([prompt]), json!(ids), json!([ids])] {
        let body = json!({"model": MODEL, "prompt": form, "temperature": 0, "max_tokens": 40});
        let json = ask(&engine, COMPLETIONS, body).await.json();
        assert_eq!(json["object"], "text_completion");
        assert_eq!(json["usage"]["prompt_tokens"], ids.len());
        texts.push(json["choices"][0]["text"].as_str().unwrap().to_owned());
    }
    assert!(
        texts
            .iter()
            .all(|t| t == &texts[0] && t.contains("1, 2, 3")),
        "{texts:?}"
    );
    let body = json!({"model": MODEL, "prompt": [prompt, "Once upon"], "n": 2, "max_tokens": 4, "temperature": 0});
    let json = ask(&engine, COMPLETIONS, body).await.json();
    let choices = json["choices"].as_array().unwrap();
    assert_eq!(
        choices
            .iter()
            .map(|c| c["index"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert_eq!(choices[0]["text"], choices[1]["text"]);
    assert_eq!(choices[2]["text"], choices[3]["text"]);
    assert_eq!(choices[0]["finish_reason"], "length");
    assert_eq!(json["usage"]["completion_tokens"], 16);
    let body = json!({"model": MODEL, "prompt": "", "max_tokens": 3, "stream": true});
    let events = ask(&engine, COMPLETIONS, body).await.events();
    assert!(events.iter().all(|e| e["object"] == "text_completion"));
}

#[tokio::test]
async fn limits_and_stop_strings_end_an_answer() {
    let engine = engine();
    let json = ask(
        &engine,
        CHAT,
        chat("Count to 10.", json!({"max_tokens": 3})),
    )
    .await
    .json();
    assert_eq!(json["choices"][0]["finish_reason"], "length");
    assert_eq!(json["usage"]["completion_tokens"], 3);
    for stop in [json!("4, 5"), json!(["nothing", "4, 5"])] {
        let json = ask(&engine, CHAT, chat("Count to 10.", json!({"stop": stop})))
            .await
            .json();
        assert_eq!(content(&json), "1, 2, 3, ");
        assert_eq!(json["choices"][0]["finish_reason"], "stop");
        // All tokens up to the one that completed the stop string.
        let tokens = engine.text().encode("1, 2, 3, 4, 5", false).unwrap().len();
        assert_eq!(json["usage"]["completion_tokens"], tokens);
    }
    let streamed = ask(
        &engine,
        CHAT,
        chat("Count to 10.", json!({"stop": "4, 5", "stream": true})),
    )
    .await;
    let text: String = streamed
        .events()
        .iter()
        .filter_map(|e| {
            e["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(text, "1, 2, 3, ");
    // More than the context leaves is cut, as local engines do.
    let json = ask(&engine, CHAT, chat("Hello", json!({"max_tokens": 100_000})))
        .await
        .json();
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    let json = ask(&engine, CHAT, chat("Hello", json!({"ignore_eos": true})))
        .await
        .json();
    assert_eq!(json["usage"]["total_tokens"], 1024);
}

#[tokio::test]
async fn seeds_fix_an_answer_and_choices_differ() {
    let engine = engine();
    let body = |seed: i64| {
        chat(
            "Tell me a story.",
            json!({"temperature": 1.5, "seed": seed, "n": 3, "max_tokens": 40}),
        )
    };
    let first = ask(&engine, CHAT, body(7)).await.json();
    assert_eq!(
        first["choices"],
        ask(&engine, CHAT, body(7)).await.json()["choices"]
    );
    assert_ne!(
        first["choices"],
        ask(&engine, CHAT, body(-8)).await.json()["choices"]
    );
    let texts: Vec<&Value> = (0..3)
        .map(|i| &first["choices"][i]["message"]["content"])
        .collect();
    assert!(texts[0] != texts[1] || texts[1] != texts[2]);
    assert_eq!(
        first["usage"]["prompt_tokens"],
        prompt_tokens(&engine, "Tell me a story."),
        "a prompt is billed once"
    );
}

#[tokio::test]
async fn log_probabilities_cover_every_token() {
    let engine = engine();
    let more = json!({"logprobs": true, "top_logprobs": 3});
    let json = ask(&engine, CHAT, chat("Hello", more.clone())).await.json();
    let tokens = json["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|t| {
            t["bytes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|b| b.as_u64().unwrap() as u8)
        })
        .collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), content(&json));
    for token in tokens {
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!(top[0]["token"], token["token"], "greedy takes the first");
    }
    let mut body = chat("Hello", more);
    body["stream"] = true.into();
    let events = ask(&engine, CHAT, body).await.events();
    let streamed: usize = events
        .iter()
        .filter_map(|e| e["choices"][0]["logprobs"]["content"].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(streamed, tokens.len());
    let body = json!({"model": MODEL, "prompt": "Once upon", "logprobs": 2, "max_tokens": 5, "temperature": 0});
    let json = ask(&engine, COMPLETIONS, body).await.json();
    let logprobs = &json["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 5);
    assert_eq!(logprobs["text_offset"][0], 0);
}

#[tokio::test]
async fn models_are_listed() {
    let engine = engine();
    let list = collect(engine.start(get("/v1/models"))).await.json();
    assert_eq!(list["data"][0]["id"], MODEL);
    assert_eq!(
        collect(engine.start(get("/v1/models/cocoon-tiny")))
            .await
            .json()["context_length"],
        1024
    );
    assert_eq!(engine.models()[0].id, MODEL);
    assert_eq!(engine.max_active(), 16);
    engine.healthy().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let engine = engine();
    let refused = async |request, status: u16, code: &str, word: &str| {
        let answer: Answer = collect(engine.start(request)).await;
        let error = &answer.json()["error"];
        assert_eq!(answer.status, status, "{error}");
        assert_eq!(error["code"].as_str().unwrap_or(""), code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
        assert!(error["type"].is_string());
    };
    refused(get("/v1/unknown"), 404, "", "Unknown request URL").await;
    refused(get(CHAT), 405, "", "POST").await;
    refused(get("/v1/models/other"), 404, "model_not_found", "other").await;
    let mut broken = post(CHAT, &json!({}));
    broken.body = "{\"model\": ".into();
    refused(broken, 400, "invalid_value", "JSON").await;
    let mut deep = post(CHAT, &json!({}));
    deep.body = "[".repeat(100_000).into();
    refused(deep, 400, "invalid_value", "JSON").await;
    refused(post(CHAT, &json!([])), 400, "invalid_value", "object").await;
    refused(
        post(CHAT, &json!({"messages": []})),
        400,
        "invalid_value",
        "model",
    )
    .await;
    refused(
        post(CHAT, &json!({"model": "gpt-9", "messages": []})),
        404,
        "model_not_found",
        "gpt-9",
    )
    .await;
    refused(
        post(CHAT, &chat("word ".repeat(3000).as_str(), json!({}))),
        400,
        "context_length_exceeded",
        "1024",
    )
    .await;
    for (member, value, code, word) in [
        ("messages", json!([]), "invalid_value", "1 to"),
        (
            "messages",
            json!([{"role": "robot", "content": "x"}]),
            "invalid_value",
            "messages[0].role",
        ),
        (
            "messages",
            json!([{"role": "user"}]),
            "invalid_value",
            "messages[0].content",
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "image_url"}]}]),
            "unsupported_parameter",
            "text only",
        ),
        ("temperature", json!(3), "invalid_value", "from 0 to 2"),
        ("temperature", json!("hot"), "invalid_value", "a string"),
        ("top_p", json!(-0.1), "invalid_value", "from 0 to 1"),
        ("max_tokens", json!(0), "invalid_value", "at least 1"),
        (
            "max_completion_tokens",
            json!(1.5),
            "invalid_value",
            "integer",
        ),
        ("n", json!(0), "invalid_value", "from 1"),
        ("n", json!(1000), "invalid_value", "to 128"),
        ("stop", json!([""]), "invalid_value", "1 to"),
        ("stop", json!(5), "invalid_value", "string"),
        ("seed", json!("x"), "invalid_value", "integer"),
        ("top_logprobs", json!(2), "invalid_value", "logprobs"),
        (
            "frequency_penalty",
            json!(9),
            "invalid_value",
            "from -2 to 2",
        ),
        (
            "logit_bias",
            json!({"99999": 1}),
            "invalid_value",
            "token ids",
        ),
        ("stream", json!("yes"), "invalid_value", "true or false"),
        (
            "stream_options",
            json!({"include_usage": true}),
            "invalid_value",
            "`stream`",
        ),
        (
            "response_format",
            json!({"type": "json_object"}),
            "unsupported_parameter",
            "text",
        ),
        (
            "tools",
            json!([{"type": "function"}]),
            "unsupported_parameter",
            "tools",
        ),
    ] {
        let mut body = chat("Hello", json!({}));
        body[member] = value;
        refused(post(CHAT, &body), 400, code, word).await;
    }
    for (prompt, word) in [
        (json!(7), "must be"),
        (json!([]), "must be"),
        (json!([9999]), "9999"),
        (json!([[1], "a", {}]), "must be"),
    ] {
        refused(
            post(COMPLETIONS, &json!({"model": MODEL, "prompt": prompt})),
            400,
            "invalid_value",
            word,
        )
        .await;
    }
    refused(
        post(
            COMPLETIONS,
            &json!({"model": MODEL, "prompt": "a", "echo": true}),
        ),
        400,
        "unsupported_parameter",
        "echo",
    )
    .await;
    assert_eq!(engine.stats().generated_tokens, 0);
}

#[tokio::test]
async fn null_members_and_text_parts_are_fine() {
    let engine = engine();
    let body = json!({
        "model": MODEL, "temperature": 0, "stop": null, "n": null, "stream": null, "tools": null, "user": "x",
        "response_format": {"type": "text"}, "tool_choice": "none",
        "messages": [
            {"role": "developer", "content": "Answer briefly."},
            {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 2?"}]},
        ],
    });
    let answer = ask(&engine, CHAT, body).await;
    assert_eq!(answer.status, 200);
    assert!(content(&answer.json()).contains('4'));
}

#[tokio::test]
async fn a_caller_who_leaves_stops_the_generation() {
    let engine = engine();
    for stream in [true, false] {
        let before = engine.stats();
        let receiver = engine.start(post(
            CHAT,
            &chat(
                "Hello",
                json!({"ignore_eos": true, "stream": stream, "n": 2}),
            ),
        ));
        while engine.stats().generated_tokens < before.generated_tokens + 8 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(receiver);
        while engine.stats().active > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let after = engine.stats();
        assert_eq!(after.cancelled, before.cancelled + 2);
        assert!(
            after.generated_tokens - before.generated_tokens < 1500,
            "{after:?}"
        );
    }
}

#[tokio::test]
async fn a_full_engine_says_so() {
    let engine = common::engine_with(BatchOptions {
        max_active: 1,
        max_waiting: 1,
        ..BatchOptions::default()
    });
    let answer = ask(
        &engine,
        CHAT,
        chat("Hello", json!({"n": 40, "ignore_eos": true})),
    )
    .await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["code"], "overloaded");
}
