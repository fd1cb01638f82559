//! The walk from a plan to a selection: open the input, see who provides which column, make the pool, filter, select.
//! `select`, `explain` and `verify` all go this way, so that they cannot disagree.

use crate::cache::{Key, PoolMemo};
use crate::features::{Features, Taken, Want, build, missing_column};
use crate::host::Host;
use crate::plan::Plan;
use crate::scores::Scores;
use crate::signals::{REFERENCE, Signals, is_signal};
use curate_core::{Budget, Column, Ctx, Embedder, Error, Filter, Pool, Result, Selection, Selector, Verdict, find};
use curate_embed::{EmbedderChoice, OpenOptions};
use curate_ingest::{InputSpec, Source};
use curate_selectors::{FILTERS, SELECTORS};
use std::sync::Arc;

/// A plan whose names are resolved: nothing is read yet but the input's shape.
pub struct Prepared {
    /// The opened input.
    pub source: Arc<Source>,
    /// What the pool must have.
    pub want: Want,
    /// Scores to compute from it.
    pub(crate) scores: Scores,
    /// The target and what its pool must have, where the method takes one.
    pub(crate) target: Option<(Arc<Source>, Want)>,
    /// Filters by name.
    pub filters: Vec<(String, Box<dyn Filter>)>,
    /// The method.
    pub selector: Box<dyn Selector>,
    /// How much.
    pub budget: Budget,
}

/// A finished choice with all that led to it.
pub struct Chosen {
    /// The opened input.
    pub source: Arc<Source>,
    /// The pool and what became of the rows on the way to it.
    pub features: Features,
    /// What each filter said: name, ids judged, verdict.
    pub verdicts: Vec<(String, Vec<u64>, Verdict)>,
    /// The choice.
    pub selection: Selection,
    /// Digest of the embedder, if one was used.
    pub model: Option<String>,
    /// Digest of the target's files, if the method takes one.
    pub target_digest: Option<String>,
}

/// Resolve every name of the plan, open the input and check that each column wanted has a provider.
///
/// # Errors
/// Usage errors before any work starts; what opening the input gives.
pub fn prepare(plan: &Plan, host: &Host, ctx: &Ctx) -> Result<Prepared> {
    let select = plan.selection()?;
    let selector = find(SELECTORS, &select.name, "method")?.build(&select.params)?;
    let filters = plan
        .filter
        .iter()
        .map(|f| Ok((f.name.clone(), find(FILTERS, &f.name, "filter")?.build(&f.params)?)))
        .collect::<Result<Vec<_>>>()?;
    let source = open(plan, host, ctx)?;
    let mut needs = selector.needs();
    filters.iter().for_each(|f| needs.extend(f.1.needs()));
    if matches!(select.budget, Budget::Tokens(_)) {
        needs.push(Column::TOKENS);
    }
    if plan.output.report.is_some() {
        needs.extend(crate::report::needs());
    }
    let source = Arc::new(source);
    let (want, scores) = provide(plan, host, &source, (&needs, &select.name), ctx)?;
    let target = target(plan, host, selector.as_ref(), ctx)?;
    Ok(Prepared { source, want, scores, target, filters, selector, budget: select.budget })
}

/// The target of a method that takes one.
fn target(plan: &Plan, host: &Host, selector: &dyn Selector, ctx: &Ctx) -> Result<Option<(Arc<Source>, Want)>> {
    let needs = selector.target_needs();
    let method = &plan.selection()?.name;
    match (needs.is_empty(), plan.target.is_empty()) {
        (true, true) => Ok(None),
        (true, false) => Err(Error::usage("target/unused", format!("{method} takes no target"))
            .hint("leave out --target, or take a method that needs one, such as gotd")),
        (false, true) => Err(Error::usage("target/missing", format!("{method} needs a target"))
            .hint("name rows that the chosen ones shall resemble: --target FILE")),
        (false, false) => {
            let input = InputSpec { paths: plan.target.clone(), where_: None, ..plan.input.clone() };
            let plan = Plan { input, quality: None, score: Vec::new(), ..plan.clone() };
            let ctx = ctx.child("target");
            let source = Arc::new(open(&plan, host, &ctx)?);
            let (want, _) = provide(&plan, host, &source, (&needs, method), &ctx)?;
            Ok(Some((source, want)))
        }
    }
}

/// Open the input of a plan.
///
/// # Errors
/// What opening gives.
pub(crate) fn open(plan: &Plan, host: &Host, ctx: &Ctx) -> Result<Source> {
    let ctx = ctx.child("scan");
    let source = Source::open(&plan.input, &host.scratch, &ctx)?;
    ctx.progress().finish();
    Ok(source)
}

/// The embedder a plan names.
///
/// # Errors
/// `embedder/*`, `hub/*`, `model/*`.
pub(crate) fn embedder(plan: &Plan, host: &Host) -> Result<Arc<dyn Embedder>> {
    if let Some(pooling) = plan.embed.name.strip_prefix("lm:") {
        return Ok(Arc::new(crate::signals::embedder(plan, pooling, host)?));
    }
    let choice: EmbedderChoice = plan.embed.name.parse()?;
    let device = host.device_for_models()?.to_owned();
    let options = OpenOptions { hub: host.hub.clone(), device, max_tokens: plan.embed.max_tokens };
    Ok(Arc::from(curate_embed::open(&choice, &options, &host.ctx(plan.seed)?)?))
}

/// Who provides which column: the embedder or a column gives vectors, the static tokenizer counts tokens, `--quality` and
/// scorers give scores, the model gives signals; any other column is taken from the input's column of the same name, which also goes
/// before a model's word. A need that nobody serves is an error here, before the work.
pub(crate) fn provide(
    plan: &Plan,
    host: &Host,
    source: &Arc<Source>,
    (needs, method): (&[Column], &str),
    ctx: &Ctx,
) -> Result<(Want, Scores)> {
    let mut scores = Scores::of(plan, host, source)?;
    let given = |need: &&Column| source.schema().field_with_name(need.as_str()).is_ok();
    needs.iter().filter(|need| !given(need)).try_for_each(|need| scores.add(need, plan))?;
    let mut want = Want { taken: quality_column(plan, source)?.into_iter().collect(), ..Want::default() };
    let mut signals: Vec<Column> = Vec::new();
    let all: Vec<Column> = needs.iter().cloned().chain(scores.needs()).collect();
    for need in &all {
        match need.as_str() {
            "embedding" => provide_vectors(plan, host, source, &mut want)?,
            "tokens" => want.tokens = Some(Arc::new(curate_embed::static_encoder()?)),
            "row" | "chars" => {}
            _ if scores.has(need) || signals.contains(need) || want.taken.iter().any(|t| t.column == *need) => {}
            "text" => want.text = true,
            name if source.schema().field_with_name(name).is_ok() => {
                want.taken.push(Taken { column: need.clone(), from: name.to_owned() });
            }
            REFERENCE => want.signals.push(Arc::new(Signals::reference(plan, host, source, ctx)?)),
            name if is_signal(name) => signals.push(need.clone()),
            name => return Err(nobody_provides(name, method)),
        }
    }
    if !signals.is_empty() {
        want.signals.push(Arc::new(Signals::open(plan, host, source, signals, ctx)?));
    }
    Ok((want, scores))
}

fn nobody_provides(name: &str, method: &str) -> Error {
    if name == Column::QUALITY.as_str() {
        return Error::usage("column/missing", format!("{method} ranks rows by quality, and the plan gives none"))
            .hint("name a scorer or a numeric column: --quality mtld, --quality column:NAME");
    }
    Error::usage("column/missing", format!("nobody provides the column '{name}'"))
        .hint(match name.strip_prefix("score.") {
            Some(score) => format!("give the input a column '{name}', or have a server say it: --score http:name={score},url=http://HOST/PATH"),
            None => format!("give the input a column '{name}', or see 'curate methods' for what each method needs"),
        })
}

fn provide_vectors(plan: &Plan, host: &Host, source: &Source, want: &mut Want) -> Result<()> {
    match plan.embed.name.strip_prefix("column:") {
        Some(name) if source.schema().field_with_name(name).is_err() => return Err(missing_column(source, name)),
        Some(name) => want.vectors = Some(name.to_owned()),
        None if want.embedder.is_none() => want.embedder = Some(embedder(plan, host)?),
        None => {}
    }
    Ok(())
}

fn quality_column(plan: &Plan, source: &Source) -> Result<Option<Taken>> {
    let Some(name) = plan.quality.as_deref().and_then(|text| text.strip_prefix("column:")) else { return Ok(None) };
    if source.schema().field_with_name(name).is_err() {
        return Err(missing_column(source, name));
    }
    Ok(Some(Taken { column: Column::QUALITY, from: name.to_owned() }))
}

/// Choose: make the pool, filter it, select from it.
///
/// # Errors
/// What the stages give; `cancelled`.
pub fn choose(prepared: Prepared, host: &Host, ctx: &Ctx) -> Result<Chosen> {
    let Prepared { source, want, scores, target, filters, selector, budget } = prepared;
    let mut features = build(&source, &want, &host.cache, ctx)?;
    let mut compares = selector.needs().into_iter().chain(filters.iter().flat_map(|(_, filter)| filter.needs()));
    if want.embedder.is_some() && compares.any(|need| need == Column::EMBEDDING) {
        refuse_textless(&features.pool)?;
    }
    features.pool = scores.apply(&features.pool, ctx)?;
    let mut pool = features.pool.clone();
    let mut digest = Key::of(&[features.digest.bytes(), scores.recipe().as_bytes()]);
    let mut verdicts = Vec::new();
    for (name, filter) in filters {
        let ctx = bound(host, ctx, digest).child(&name);
        let verdict = filter.judge(&pool, &ctx)?;
        let kept: Vec<usize> = (0..pool.rows()).filter(|&i| verdict.keep[i]).collect();
        verdicts.push((name, pool.ids()?, verdict));
        pool = pool.filter(&kept)?;
        digest = digest_of_rows(digest, &pool)?;
        ctx.progress().finish();
    }
    let mut ctx = bound(host, ctx, digest).child("select");
    let target_digest = target.as_ref().map(|(source, _)| crate::select::input_digest(source));
    if let Some((source, want)) = target {
        let target = build(&source, &want, &host.cache, &ctx)?;
        let digest = Key::of(&[digest.bytes(), target.digest.bytes()]);
        ctx = bound(host, &ctx, digest).with_target(target.pool);
    }
    refuse_empty(&pool, &source)?;
    let selection = selector.select(&pool, budget, &ctx)?;
    ctx.progress().finish();
    Ok(Chosen { source, features, verdicts, selection, model: want.embedder.map(|e| e.digest()), target_digest })
}

fn refuse_empty(pool: &Pool, source: &Source) -> Result<()> {
    if !pool.is_empty() {
        return Ok(());
    }
    Err(Error::data("input/no-rows", format!("none of the {} rows is left to choose from", source.rows()))
        .hint("check --where, the filters and the rows skipped; 'curate inspect' shows the input"))
}

/// Vectors of rows without any text are all the same, and a choice by them means nothing.
fn refuse_textless(pool: &Pool) -> Result<()> {
    if pool.is_empty() || pool.counts(&Column::CHARS)?.iter().any(|&chars| chars > 0) {
        return Ok(());
    }
    Err(Error::data("embedding/no-text", format!("none of the {} rows has a text to make a vector of", pool.rows())).hint(
        "say which column holds the text, as with --map prompt=COLUMN; take vectors of your own with --embedder column:NAME; or choose by numbers, as with --method top-score",
    ))
}

fn bound(host: &Host, ctx: &Ctx, digest: Key) -> Ctx {
    ctx.clone().with_memo(Arc::new(PoolMemo::new(host.cache.clone(), digest)))
}

fn digest_of_rows(before: Key, pool: &Pool) -> Result<Key> {
    let ids = pool.ids()?;
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    Ok(Key::of(&[before.bytes(), &bytes]))
}
