//! The answers about maps and clusters, as they travel.

use super::drawn::Drawn;
use super::held;
use crate::session::one::Session;
use curate_api::serving::{Corpus, Survey, score_histogram};
use curate_api::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Example rows of a cluster: drawn ones, and others.
const EXAMPLES: usize = 4;

/// Characters of an example.
const CHARS: usize = 1500;

/// The map as it travels, one entry of each list a point.
#[derive(Default, Serialize)]
struct Columns<'a> {
    row: Vec<u64>,
    x: Vec<f32>,
    y: Vec<f32>,
    group: Vec<Option<u32>>,
    score: Vec<Option<f32>>,
    source: Vec<Option<u32>>,
    picked: Vec<bool>,
    #[serde(skip)]
    names: &'a [String],
}

impl Session {
    /// The corpus on a plane, as JSON.
    ///
    /// # Errors
    /// `map/*`, `session/*`, `store/*`.
    pub(crate) fn map(self: &Arc<Self>) -> Result<Vec<u8>> {
        let (corpus, survey) = self.survey()?;
        let drawn = self.drawn()?;
        let columns = columns(&corpus, &survey, &held(&drawn));
        let all = Whole { points: columns.row.len(), sources: columns.names, variance: survey.variance, columns };
        serde_json::to_vec(&all).map_err(|e| Error::io("json", e.to_string()))
    }

    /// One cluster: words, examples, scores of drawn rows and of the rest.
    ///
    /// # Errors
    /// `map/*`, `group/unknown`, `session/*`, `store/*`.
    pub(crate) fn group(self: &Arc<Self>, group: u32) -> Result<Value> {
        let (corpus, survey) = self.survey()?;
        let own = survey.groups.get(&group).ok_or_else(|| {
            Error::usage("group/unknown", format!("there is no cluster {group}")).hint("the session's state lists them")
        })?;
        let drawn = self.drawn()?;
        let drawn = held(&drawn);
        let members = || (0..corpus.ids.len()).filter(|&at| survey.group[at] == Some(group));
        let (kept, rest): (Vec<usize>, Vec<usize>) = members().partition(|&at| drawn.has(corpus.ids[at]));
        let known = |list: &[usize]| -> Vec<f64> {
            list.iter().filter_map(|&at| survey.score.get(at).copied().flatten()).map(f64::from).collect()
        };
        let (edges, kept_counts, rest_counts) = score_histogram(known(&kept), known(&rest));
        let example = |&at: &usize| {
            let row = corpus.ids[at];
            let text = text_of(&self.row(row)?["data"]);
            Ok(
                json!({"row": row, "text": text, "score": survey.score.get(at).copied().flatten(), "drawn": drawn.has(row)}),
            )
        };
        let shown = shown(&corpus, &survey, &drawn, (kept.clone(), rest.clone()));
        let examples = shown.iter().map(example).collect::<Result<Vec<Value>>>()?;
        Ok(
            json!({"group": group, "rows": own.rows, "drawn": kept.len(), "keywords": own.keywords, "examples": examples,
            "scores": {"edges": edges, "kept": kept_counts, "rest": rest_counts}}),
        )
    }

    /// The state with the clusters in words, and what was done by hand. `begin` makes the words where there are none yet.
    ///
    /// # Errors
    /// `session/*`, `store/*`.
    pub(crate) fn state_in_words(self: &Arc<Self>, begin: bool) -> Result<Value> {
        let mut state = self.state()?;
        if begin {
            // A map that cannot be made is told of where it is asked for.
            let _ = self.survey();
            state["steers"] = json!(held(&*self.drawn()?).steers());
        }
        let Some(survey) = self.shared.looks.ready(&self.look_name()) else { return Ok(state) };
        let counts = if begin || !survey.methods_own { self.counts(&survey)? } else { BTreeMap::new() };
        let Some(groups) = state["groups"].as_array_mut() else { return Ok(state) };
        for (number, own) in &survey.groups {
            let drawn = counts.get(number).copied().unwrap_or(0);
            let place = groups.iter().position(|known| known["group"] == json!(number)).unwrap_or_else(|| {
                groups.push(json!({"group": number, "rows": null, "drawn": drawn, "weight": null, "signal": null}));
                groups.len() - 1
            });
            let known = &mut groups[place];
            if known["rows"].is_null() {
                known["rows"] = json!(own.rows);
            }
            known["keywords"] = json!(own.keywords);
            if begin {
                known["left"] = json!(own.rows.saturating_sub(drawn));
            }
        }
        Ok(state)
    }

    /// Different rows drawn of each cluster.
    fn counts(&self, survey: &Survey) -> Result<BTreeMap<u32, u64>> {
        let corpus = self.with(|ready| Ok(ready.ground.corpus.clone()))?;
        let (Some(corpus), drawn) = (corpus, self.drawn()?) else { return Ok(BTreeMap::new()) };
        let drawn = held(&drawn);
        let mut counts = BTreeMap::new();
        let groups = corpus.ids.iter().zip(&survey.group).filter(|own| drawn.has(*own.0)).filter_map(|own| *own.1);
        groups.for_each(|group| *counts.entry(group).or_default() += 1);
        Ok(counts)
    }

    /// The history; where the method has no clusters, those of the map are counted.
    ///
    /// # Errors
    /// `session/*`, `store/*`.
    pub(crate) fn history_in_groups(self: &Arc<Self>, after: u64, limit: usize) -> Result<Value> {
        let mut history = self.history(after, limit)?;
        let survey = self.shared.looks.ready(&self.look_name()).filter(|survey| !survey.methods_own);
        let Some((survey, corpus)) = survey.zip(self.with(|ready| Ok(ready.ground.corpus.clone()))?) else {
            return Ok(history);
        };
        let drawn = self.drawn()?;
        let drawn = held(&drawn);
        let bare = |point: &&mut Value| point["groups"].as_object().is_some_and(serde_json::Map::is_empty);
        for point in history["points"].as_array_mut().into_iter().flatten().filter(bare) {
            let Some(rows) = point["step"].as_u64().and_then(|step| drawn.of_step(step)) else { continue };
            let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
            let groups = rows.iter().filter_map(|row| survey.group.get(corpus.position(*row)?).copied().flatten());
            groups.for_each(|group| *counts.entry(group).or_default() += 1);
            let one = |(group, drawn): (u32, u64)| {
                (group.to_string(), json!({"drawn": drawn, "signal": null, "weight": null}))
            };
            point["groups"] = Value::Object(counts.into_iter().map(one).collect());
        }
        Ok(history)
    }
}

#[derive(Serialize)]
struct Whole<'a> {
    points: usize,
    sources: &'a [String],
    variance: [f64; 2],
    columns: Columns<'a>,
}

fn columns<'a>(corpus: &Corpus, survey: &'a Survey, drawn: &Drawn) -> Columns<'a> {
    let mut all = Columns { names: &survey.sources, ..Columns::default() };
    // Four digits place a point; more would only travel.
    let short = |v: f32| (v * 1e4).round() / 1e4;
    for (&at, point) in survey.placed.iter().zip(&survey.points) {
        all.row.push(corpus.ids[at]);
        all.x.push(short(point[0]));
        all.y.push(short(point[1]));
        all.group.push(survey.group[at]);
        all.score.push(survey.score.get(at).copied().flatten());
        all.source.push(survey.source.get(at).copied().flatten());
        all.picked.push(drawn.has(corpus.ids[at]));
    }
    all
}

/// Rows that show what a cluster is about: those drawn last, and the best of the others.
fn shown(
    corpus: &Corpus,
    survey: &Survey,
    drawn: &Drawn,
    (mut kept, mut rest): (Vec<usize>, Vec<usize>),
) -> Vec<usize> {
    let score = |at: usize| survey.score.get(at).copied().flatten().unwrap_or(f32::NEG_INFINITY);
    kept.sort_by_key(|&at| (std::cmp::Reverse(drawn.first(corpus.ids[at])), corpus.ids[at]));
    rest.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(corpus.ids[a].cmp(&corpus.ids[b])));
    kept.truncate(EXAMPLES);
    rest.truncate(EXAMPLES);
    kept.into_iter().chain(rest).collect()
}

/// A row's columns as text.
fn text_of(data: &Value) -> String {
    let one = |(name, value): (&String, &Value)| match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(format!("{name}: {text}")),
        other => Some(format!("{name}: {other}")),
    };
    let text =
        data.as_object().map(|all| all.iter().filter_map(one).collect::<Vec<_>>().join("\n")).unwrap_or_default();
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_in_words_is_bounded_and_leaves_out_what_is_empty() {
        let row = json!({"instruction": "Add 1 and 2", "input": "", "output": "3", "tags": ["sum"], "none": null});
        assert_eq!(text_of(&row), "instruction: Add 1 and 2\noutput: 3\ntags: [\"sum\"]");
        let long = text_of(&json!({"text": "é".repeat(4000)}));
        assert_eq!(long.chars().count(), CHARS + 1);
        assert_eq!(text_of(&Value::Null), "");
    }
}
