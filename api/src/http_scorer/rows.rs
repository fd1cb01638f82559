//! From rows of the input to requests: what a row says, cut into batches of bounded size, each with the key of its answer.

use super::{HttpScorer, Sent};
use crate::cache::Key;
use curate_core::{Error, Location, Result};
use curate_ingest::{Conversation, Role, Source, Unit};
use serde::Serialize;

/// Rows asked about at once.
pub(super) struct Job {
    /// Positions in the pool.
    pub(super) positions: Vec<usize>,
    /// Their row ids.
    pub(super) ids: Vec<u64>,
    /// The request.
    pub(super) body: Vec<u8>,
    /// Names the answer: the content without ids, the URL, the version.
    pub(super) key: Key,
}

/// What is sent of a row besides its id.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Pair { prompt: String, response: &'a str },
    Messages { messages: Vec<Message<'a>> },
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

/// The requests for those rows of a unit that the pool (of ascending `ids`) holds.
pub(super) fn jobs(source: &Source, unit: &Unit, ids: &[u64], params: &HttpScorer) -> Result<Vec<Job>> {
    let data = source.read(unit, Some(&source.layout().columns()))?;
    let conversations = source.layout().conversations(&data.batch)?;
    let mut jobs = Vec::new();
    let mut batch = Batch::default();
    for (&id, conversation) in data.rows.iter().zip(&conversations) {
        let Ok(position) = ids.binary_search(&id) else { continue };
        let content = content(conversation, params.send)?;
        if content.len() + OVERHEAD_BYTES > params.batch_bytes {
            return Err(too_large(id, content.len(), params));
        }
        if batch.ids.len() == params.batch_rows || batch.bytes + content.len() + OVERHEAD_BYTES > params.batch_bytes {
            jobs.extend(std::mem::take(&mut batch).job(params));
        }
        batch.add(position, id, content);
    }
    jobs.extend(batch.job(params));
    Ok(jobs)
}

/// More than brackets, an id and its name take.
const OVERHEAD_BYTES: usize = 64;

fn too_large(id: u64, bytes: usize, params: &HttpScorer) -> Error {
    Error::data("http/row-too-large", format!("a row of {bytes} bytes does not fit a request"))
        .at(Location::default().row(id))
        .hint(format!("raise batch_bytes (now {}), or leave such rows out with --where", params.batch_bytes))
}

fn content(conversation: &Conversation, send: Sent) -> Result<String> {
    let turns = &conversation.turns;
    let content = match send {
        Sent::PromptResponse => {
            let last = turns.iter().rposition(|turn| turn.role == Role::Assistant);
            let before = last.map_or(turns.as_slice(), |last| &turns[..last]);
            let texts: Vec<&str> =
                before.iter().map(|turn| turn.text.as_str()).filter(|text| !text.is_empty()).collect();
            Content::Pair { prompt: texts.join("\n"), response: last.map_or("", |last| turns[last].text.as_str()) }
        }
        Sent::Messages => Content::Messages {
            messages: turns.iter().map(|turn| Message { role: turn.role.name(), content: &turn.text }).collect(),
        },
    };
    serde_json::to_string(&content).map_err(|e| Error::data("json", e.to_string()))
}

/// A batch that still grows.
#[derive(Default)]
struct Batch {
    positions: Vec<usize>,
    ids: Vec<u64>,
    contents: Vec<String>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, position: usize, id: u64, content: String) {
        self.positions.push(position);
        self.ids.push(id);
        self.bytes += content.len() + OVERHEAD_BYTES;
        self.contents.push(content);
    }

    fn job(self, params: &HttpScorer) -> Option<Job> {
        let Self { positions, ids, contents, .. } = self;
        let mut parts: Vec<&[u8]> = vec![b"http score", params.url.as_bytes(), params.version.as_bytes()];
        parts.extend(contents.iter().map(String::as_bytes));
        let key = Key::of(&parts);
        let rows = ids.iter().zip(&contents).map(|(id, content)| format!("{{\"id\":{id},{}", &content[1..]));
        let body = format!("{{\"rows\":[{}]}}", rows.collect::<Vec<_>>().join(",")).into_bytes();
        (!ids.is_empty()).then_some(Job { positions, ids, body, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curate_ingest::Turn;

    #[test]
    fn a_row_says_prompt_and_last_answer_or_all_turns() {
        let turn = |role, text: &str| Turn::new(role, text);
        let chat = Conversation {
            turns: vec![
                turn(Role::System, "Be brief."),
                turn(Role::User, "Hi"),
                turn(Role::Assistant, "Hello"),
                turn(Role::User, "2+2?"),
                turn(Role::Assistant, "4"),
            ],
            ..Conversation::default()
        };
        let pair = content(&chat, Sent::PromptResponse).unwrap();
        assert_eq!(pair, r#"{"prompt":"Be brief.\nHi\nHello\n2+2?","response":"4"}"#);
        let plain =
            Conversation { turns: vec![turn(Role::Assistant, "我喜欢")], plain: true, ..Conversation::default() };
        assert_eq!(content(&plain, Sent::PromptResponse).unwrap(), r#"{"prompt":"","response":"我喜欢"}"#);
        let messages = content(&plain, Sent::Messages).unwrap();
        assert_eq!(messages, r#"{"messages":[{"role":"assistant","content":"我喜欢"}]}"#);
    }

    #[test]
    fn the_key_knows_content_url_and_version_but_no_id() {
        let job = |id: u64, content: &str, version: &str| {
            let mut batch = Batch::default();
            batch.add(0, id, content.to_owned());
            batch.job(&HttpScorer { version: version.to_owned(), ..HttpScorer::default() }).unwrap()
        };
        let (first, moved) = (job(1, r#"{"a":1}"#, "1"), job(2, r#"{"a":1}"#, "1"));
        assert_eq!(first.body, br#"{"rows":[{"id":1,"a":1}]}"#);
        assert_eq!(first.key, moved.key);
        assert_ne!(first.key, job(1, r#"{"a":2}"#, "1").key);
        assert_ne!(first.key, job(1, r#"{"a":1}"#, "2").key);
    }
}
