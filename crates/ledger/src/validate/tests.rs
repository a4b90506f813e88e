use super::*;

const CHAT_URL: &str = "/v1/chat/completions";

fn open_ai(url: &str, body: &str, budget: Option<u64>) -> Result<ValidatedRequest, ValidateError> {
    validate(url, body.as_bytes(), "m", Rules::OpenAi, budget)
}

fn body_of(request: &ValidatedRequest) -> &str {
    std::str::from_utf8(&request.body).unwrap()
}

fn reference_error(url: &str, body: &str) -> String {
    validate(url, body.as_bytes(), "m", Rules::Reference, None)
        .unwrap_err()
        .to_string()
}

#[test]
fn reference_texts() {
    let chat = |members: &str| reference_error(CHAT_URL, &format!("{{{members}}}"));
    assert_eq!(reference_error(CHAT_URL, "[1]"), "expected json object");
    assert_eq!(reference_error(CHAT_URL, "{} x"), "expected json object");
    assert_eq!(
        chat(r#""temperature":"hot""#),
        "temperature must be a number"
    );
    assert_eq!(
        chat(r#""frequency_penalty":2.5"#),
        "frequency_penalty must be between -2.0 and 2.0"
    );
    assert_eq!(chat(r#""n":0"#), "n must be positive");
    assert_eq!(
        chat(r#""max_tokens":1.5"#),
        "max_completion_tokens must be a number"
    );
    assert_eq!(
        chat(r#""stream_options":{"x":1}"#),
        "unknown option 'x' in stream_options"
    );
    assert_eq!(
        chat(r#""stream_options":3"#),
        "stream_options must be an object"
    );
    assert_eq!(
        chat(r#""chat_template_kwargs":{"y":1}"#),
        "unknown suboption 'y' in chat_template_kwargs in request"
    );
    assert_eq!(
        chat(r#""messages":[],"seed":1"#),
        "unknown option 'seed' in request"
    );
    assert_eq!(chat(r#""messages":[]"#), "missing required field 'model'");
    assert_eq!(
        chat(r#""messages":[],"model":"other""#),
        "model name mismatch"
    );
    // The first violation in the order of the names.
    assert_eq!(
        chat(r#""zzz":1,"aaa":1"#),
        "unknown option 'aaa' in request"
    );
    assert_eq!(
        reference_error("/v1/completions", r#"{"prompt":7}"#),
        "prompt must be an array or a string"
    );
    assert_eq!(
        ValidateError::NotAnObject.reply(),
        "worker: invalid http request: expected json object"
    );
}

#[test]
fn open_ai_options_pass() {
    let body = r#"{"model":"m","messages":[],"tools":[],"tool_choice":"auto","parallel_tool_calls":true,
        "functions":[],"logit_bias":{},"logprobs":true,"top_logprobs":2,"metadata":{},"modalities":["text"],
        "prompt_cache_key":"k","safety_identifier":"s","service_tier":"auto","store":false,"user":"u",
        "web_search_options":{},"seed":-7,"prediction":{},"response_format":{},"audio":{},"temperature":null}"#;
    let request = open_ai(CHAT_URL, body, None).unwrap();
    assert!(!request.stream && request.n == 1 && request.max_tokens.is_none());
    assert!(!body_of(&request).contains("null"));
    let body = r#"{"model":"m","prompt":"x","suffix":"y","logprobs":3,"user":"u"}"#;
    assert!(open_ai("/v1/completions", body, None).is_ok());
    let request = open_ai(
        "host:1/v1/embeddings",
        r#"{"model":"m","input":["a"]}"#,
        Some(0),
    )
    .unwrap();
    assert_eq!(body_of(&request), r#"{"input":["a"],"model":"m"}"#);
    let missing = open_ai("/v1/embeddings", r#"{"model":"m"}"#, None);
    assert_eq!(missing, Err(ValidateError::Missing("input")));
    assert!(
        open_ai(
            CHAT_URL,
            r#"{"model":"m","messages":[],"logprobs":3}"#,
            None
        )
        .is_err()
    );
    assert!(open_ai("/v1/models", "{}", None).is_err());
}

#[test]
fn budget_is_shared_among_outputs() {
    let chat = |members: &str, budget| {
        open_ai(
            CHAT_URL,
            &format!(r#"{{"model":"m","messages":[]{members}}}"#),
            Some(budget),
        )
    };
    let request = chat("", 100).unwrap();
    assert_eq!(request.max_tokens, Some(100));
    assert!(body_of(&request).contains(r#""max_tokens":100"#));
    let request = chat(r#","max_completion_tokens":50"#, 100).unwrap();
    assert_eq!(request.max_tokens, Some(50));
    assert!(!body_of(&request).contains(r#""max_tokens""#));
    let request = chat(r#","max_completion_tokens":50,"max_tokens":500,"n":4"#, 100).unwrap();
    assert_eq!((request.max_tokens, request.n), (Some(25), 4));
    assert!(body_of(&request).contains(r#""max_completion_tokens":25,"max_tokens":25"#));
    assert_eq!(
        chat(r#","n":4"#, 3),
        Err(ValidateError::BudgetTooSmall {
            budget: 3,
            choices: 4
        })
    );
    assert_eq!(
        chat(r#","n":129"#, 1000),
        Err(ValidateError::TooManyChoices(129))
    );
    let lists = r#"{"model":"m","prompt":["a","b"],"n":2,"best_of":5}"#;
    let request = open_ai("/v1/completions", lists, Some(100)).unwrap();
    assert_eq!((request.n, request.max_tokens), (10, Some(10)));
    let tokens = r#"{"model":"m","prompt":[1,2,3]}"#;
    assert_eq!(open_ai("/v1/completions", tokens, Some(9)).unwrap().n, 1);
}

#[test]
fn foreign_names_in_errors_are_cut() {
    let body = format!(r#"{{"{}":1}}"#, "ä".repeat(10_000));
    assert!(
        open_ai(CHAT_URL, &body, None)
            .unwrap_err()
            .to_string()
            .len()
            < 400
    );
}

#[test]
fn base_names() {
    assert_eq!(base_model_name("org/model@abc"), "org/model");
    assert_eq!(base_model_name("plain"), "plain");
}
