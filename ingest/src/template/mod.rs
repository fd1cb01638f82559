//! Chat templates: Jinja as Hugging Face renders it, and which bytes of the text a model is trained on.

mod generation;
mod mask;
mod python;

use crate::detect::{Conversation, Turn};
use crate::errors::io_at;
use curate_core::{Error, Location, Result};
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The template used where none is named.
const CHATML: &str = "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}\
{%- if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}\
{%- else %}{{ message['content'] + '<|im_end|>\n' }}{%- endif %}{%- endfor %}\
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}";

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    name: String,
    source: String,
    marked: bool,
    tokens: BTreeMap<String, Value>,
}

/// A conversation as the model reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderedChat {
    /// The text.
    pub text: String,
    /// Byte ranges of the text that a model is trained on, in order.
    pub trained: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// The built-in `ChatML` template.
    ///
    /// # Errors
    /// None in practice: the template is part of the program.
    pub fn chatml() -> Result<Self> {
        Self::compile("chatml", CHATML, BTreeMap::new())
    }

    /// Load a template from a `.jinja` file, a `tokenizer_config.json`, or a model folder that holds one.
    ///
    /// # Errors
    /// `input/not-found`, `template/missing` when the file holds no template, `template/syntax`.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.to_string_lossy().into_owned();
        if path.is_dir() {
            return Self::load_folder(path, &name);
        }
        if path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("json")) {
            let config = json(path)?;
            let source = source_of(&config).ok_or_else(|| missing(&name))?;
            return Self::compile(&name, &source, tokens_of(&config));
        }
        Self::compile(&name, &text(path)?, BTreeMap::new())
    }

    fn load_folder(path: &Path, name: &str) -> Result<Self> {
        let file = |name: &str| Some(path.join(name)).filter(|p: &PathBuf| p.is_file());
        let config = file("tokenizer_config.json").map(|p| json(&p)).transpose()?.unwrap_or_default();
        let source = match (file("chat_template.jinja"), file("chat_template.json")) {
            (Some(jinja), _) => Some(text(&jinja)?),
            (None, Some(other)) => source_of(&json(&other)?),
            (None, None) => source_of(&config),
        };
        Self::compile(name, &source.ok_or_else(|| missing(name))?, tokens_of(&config))
    }

    /// Compile a template from its text; `name` is for error messages.
    ///
    /// # Errors
    /// `template/syntax`.
    pub fn parse(name: &str, source: &str) -> Result<Self> {
        Self::compile(name, source, BTreeMap::new())
    }

    fn compile(name: &str, source: &str, tokens: BTreeMap<String, Value>) -> Result<Self> {
        let (rewritten, marked) = generation::rewrite(source);
        let mut env = Environment::new();
        let syntax = env.syntax().to_builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|e| Error::usage("template/syntax", e.to_string()))?);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_recursion_limit(64);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function("raise_exception", raise_exception);
        env.add_function("strftime_now", |format: &str| python::strftime(format));
        env.add_filter("tojson", python::tojson);
        env.add_template_owned("chat", rewritten).map_err(|e| {
            Error::usage("template/syntax", format!("the chat template cannot be read: {e}"))
                .hint("check the Jinja syntax; --chat-template takes a .jinja file, a tokenizer_config.json or a model folder")
                .at(Location::file(name).line(e.line().unwrap_or(1) as u64))
                .because(e)
        })?;
        Ok(Self { env, name: name.to_owned(), source: source.to_owned(), marked, tokens })
    }

    /// The template's text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Render a conversation, and find the bytes a model is trained on: what the template marks with `{% generation %}`, or else
    /// what each assistant turn adds to the text after the generation prompt.
    ///
    /// # Errors
    /// `template/render` when the template refuses the conversation, `template/mask` when the trained bytes cannot be found.
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<RenderedChat> {
        if conversation.plain {
            let text: String = conversation.turns.iter().map(|turn| turn.text.as_str()).collect();
            return Ok(RenderedChat {
                trained: std::iter::once(0..text.len()).filter(|r| !r.is_empty()).collect(),
                text,
            });
        }
        let raw = self.text_of(&conversation.turns, conversation.tools.as_deref(), add_generation_prompt)?;
        let (text, spans) = generation::split(&raw);
        let trained = if self.marked {
            mask::of_marks(spans, &conversation.turns)
        } else {
            mask::of_growth(self, conversation, &text)
        };
        let trained = trained.ok_or_else(|| {
            Error::data("template/mask", "cannot tell which bytes of the rendered text are the assistant's")
                .hint("use a template with {% generation %} marks, or one that renders turns one after another")
                .at(Location::file(&self.name))
        })?;
        Ok(RenderedChat { text, trained })
    }

    /// The text of some turns, marks included.
    fn text_of(&self, turns: &[Turn], tools: Option<&str>, add_generation_prompt: bool) -> Result<String> {
        let mut context = self.tokens.clone();
        let message = |turn: &Turn| {
            Value::from_pairs([("role", Value::from(turn.role.name())), ("content", Value::from(turn.text.as_str()))])
        };
        context.insert("messages".into(), Value::from(turns.iter().map(message).collect::<Vec<_>>()));
        context.insert("add_generation_prompt".into(), Value::from(add_generation_prompt));
        let tools = tools
            .map(|tools| serde_json::from_str(tools).map_or_else(|_| Value::from(tools), |json| python::value(&json)));
        context.insert("tools".into(), tools.unwrap_or(Value::from(())));
        context.insert("documents".into(), Value::from(()));
        let fail = |e: minijinja::Error| {
            let why = e.detail().map_or_else(|| e.to_string(), str::to_owned);
            Error::data("template/render", format!("the chat template refuses the conversation: {why}"))
                .hint("look at the row's roles and their order, or choose another template")
                .at(Location::file(&self.name).line(e.line().unwrap_or(1) as u64))
                .because(e)
        };
        self.env.get_template("chat").and_then(|t| t.render(Value::from_pairs(context))).map_err(fail)
    }
}

fn raise_exception(message: &str) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

fn missing(name: &str) -> Error {
    Error::usage("template/missing", "there is no chat template here")
        .hint("name a .jinja file, a tokenizer_config.json with chat_template, or a model folder that has one")
        .at(Location::file(name))
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| io_at(e, &path.to_string_lossy()))
}

fn json(path: &Path) -> Result<serde_json::Value> {
    serde_json::from_str(&text(path)?).map_err(|e| {
        Error::data("template/config", format!("not a JSON file: {e}")).at(Location::file(path.to_string_lossy()))
    })
}

/// The template of a tokenizer configuration: its text, or the one named `default` of several.
fn source_of(config: &serde_json::Value) -> Option<String> {
    match config.get("chat_template")? {
        serde_json::Value::String(source) => Some(source.clone()),
        serde_json::Value::Array(several) => {
            let named = |name: &str| several.iter().find(|t| t.get("name").and_then(|n| n.as_str()) == Some(name));
            named("default").or(several.first())?.get("template")?.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// The special tokens of a tokenizer configuration that templates use.
fn tokens_of(config: &serde_json::Value) -> BTreeMap<String, Value> {
    let token = |name: &str| {
        let token = config.get(name)?;
        let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
        Some((name.to_owned(), Value::from(text)))
    };
    ["bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token"]
        .into_iter()
        .filter_map(token)
        .collect()
}

#[cfg(test)]
mod tests;
