//! Renders a conversation into the text that a model was trained on, by the model's own chat template.
//!
//! Templates come with models and are foreign input: they get no files and no network, a bounded amount of work,
//! and an error instead of a panic.

use crate::error::{EngineError, read_file};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;
use std::path::Path;

/// The largest published templates are about 30 kB.
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;
/// `tokenizer_config.json` lists added tokens and can be large.
const MAX_CONFIG_BYTES: u64 = 32 << 20;
/// Instructions of one rendering: a long conversation takes thousands, an endless loop ends here.
const FUEL: u64 = 20_000_000;
const NAME: &str = "chat";

/// A model's chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: Option<String>,
    eos: Option<String>,
    mentions_tools: bool,
}

/// What a template is given.
#[derive(Default)]
pub struct Conversation<'a> {
    /// Messages as OpenAI objects with string contents.
    pub messages: &'a [serde_json::Value],
    /// Function descriptions; templates distinguish absent from empty.
    pub tools: Option<&'a serde_json::Value>,
    /// The caller's `chat_template_kwargs`.
    pub extra: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

impl ChatTemplate {
    /// Reads `chat_template.jinja` or the `chat_template` of `tokenizer_config.json`; `None` if the model has none.
    pub fn load(dir: &Path) -> Result<Option<Self>, EngineError> {
        let config_path = dir.join("tokenizer_config.json");
        let config: serde_json::Value = if config_path.exists() {
            let bytes = read_file(
                &config_path,
                MAX_CONFIG_BYTES,
                "the tokenizer's configuration (JSON)",
            )?;
            serde_json::from_slice(&bytes)
                .map_err(|e| EngineError::invalid(&config_path, format!("expected JSON: {e}")))?
        } else {
            serde_json::Value::Null
        };
        let file = dir.join("chat_template.jinja");
        let (path, source) = if file.exists() {
            let bytes = read_file(&file, MAX_TEMPLATE_BYTES, "the chat template (Jinja)")?;
            let text = String::from_utf8(bytes)
                .map_err(|_| EngineError::invalid(&file, "expected UTF-8 text"))?;
            (file, Some(text))
        } else {
            (config_path, named_template(&config))
        };
        let token = |name: &str| {
            let value = config.get(name)?;
            value
                .as_str()
                .or_else(|| value.get("content")?.as_str())
                .map(str::to_owned)
        };
        source
            .map(|source| Self::new(source, token("bos_token"), token("eos_token")))
            .transpose()
            .map_err(|problem| EngineError::invalid(&path, problem))
    }

    /// Compiles a template.
    pub fn new(source: String, bos: Option<String>, eos: Option<String>) -> Result<Self, String> {
        let mentions_tools = source.contains("tools");
        let mut environment = Environment::new();
        // As Hugging Face renders: block lines leave no blank lines, Python's string methods work.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(|e| e.to_string())?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(NAME, source)
            .map_err(|e| format!("the chat template does not compile: {e}"))?;
        Ok(Self {
            environment,
            bos,
            eos,
            mentions_tools,
        })
    }

    /// Whether the template can present tools to the model.
    pub fn mentions_tools(&self) -> bool {
        self.mentions_tools
    }

    /// The prompt that asks for the assistant's next turn.
    pub fn render(&self, conversation: &Conversation<'_>) -> Result<String, String> {
        let mut context = serde_json::Map::new();
        if let Some(extra) = conversation.extra {
            context.extend(extra.clone());
        }
        context.insert("messages".into(), conversation.messages.into());
        context.insert("add_generation_prompt".into(), true.into());
        // Templates test `is defined`: what is absent must be undefined, not null.
        for (name, value) in [("bos_token", &self.bos), ("eos_token", &self.eos)] {
            if let Some(value) = value {
                context.insert(name.into(), value.clone().into());
            }
        }
        if let Some(tools) = conversation.tools {
            context.insert("tools".into(), tools.clone());
        }
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|e| e.to_string())?;
        template.render(Serde(context)).map_err(|e| match e.kind() {
            ErrorKind::InvalidOperation => {
                e.detail().unwrap_or("the chat template refused").to_owned()
            }
            _ => format!("the chat template failed: {e}"),
        })
    }
}

/// The only, or the default, template of a tokenizer configuration.
fn named_template(config: &serde_json::Value) -> Option<String> {
    match config.get("chat_template")? {
        serde_json::Value::String(source) => Some(source.clone()),
        serde_json::Value::Array(list) => {
            let default = list
                .iter()
                .find(|t| t.get("name").and_then(|n| n.as_str()) == Some("default"));
            default
                .or(list.first())?
                .get("template")?
                .as_str()
                .map(str::to_owned)
        }
        _ => None,
    }
}

/// JSON as Python writes it: models were trained on `{"a": 1}`, not on `{"a":1}`, and without HTML escapes.
fn tojson(value: Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut out = Vec::new();
    let written = match indent {
        Some(indent) => {
            let spaces = vec![b' '; indent.min(16)];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut serde_json::Serializer::with_formatter(
                &mut out, formatter,
            ))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(
            &mut out, Spaced,
        )),
    };
    written.map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    let text = String::from_utf8(out)
        .map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    Ok(Value::from_safe_string(text))
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(
        source: &str,
        messages: &[serde_json::Value],
        tools: Option<&serde_json::Value>,
    ) -> Result<String, String> {
        let template = ChatTemplate::new(source.to_owned(), Some("<s>".into()), None)?;
        template.render(&Conversation {
            messages,
            tools,
            extra: None,
        })
    }

    #[test]
    fn absent_things_are_undefined() {
        let source = "{{ bos_token }}{% if tools is defined %}T{% endif %}{% if eos_token is defined %}E{% endif %}";
        assert_eq!(render(source, &[], None).unwrap(), "<s>");
        assert_eq!(render(source, &[], Some(&json!([]))).unwrap(), "<s>T");
    }

    #[test]
    fn python_methods_and_json_work_as_in_hugging_face() {
        let messages = [json!({"role": "user", "content": " <b>&é "})];
        let source = "{{ messages[0].content.strip() }}{{ messages[0]['role'].startswith('us') }}|{{ tools | tojson }}";
        let tools = json!([{"a": 1, "b": "<é>"}]);
        assert_eq!(
            render(source, &messages, Some(&tools)).unwrap(),
            "<b>&éTrue|[{\"a\": 1, \"b\": \"<é>\"}]"
        );
    }

    #[test]
    fn a_template_can_refuse_and_cannot_run_for_ever() {
        assert_eq!(
            render("{{ raise_exception('roles must alternate') }}", &[], None).unwrap_err(),
            "roles must alternate"
        );
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{{ c }}{% endfor %}{% endfor %}{% endfor %}";
        assert!(render(endless, &[], None).unwrap_err().contains("fuel"));
        assert!(render("{% include '/etc/passwd' %}", &[], None).is_err());
        assert!(
            render("{% if %}", &[], None)
                .unwrap_err()
                .contains("does not compile")
        );
    }
}
