//! Scores: which scorers a plan means, what they need, and their values as columns of the pool.

use crate::host::Host;
use crate::http_scorer::{Endpoint, USE};
use crate::plan::Plan;
use curate_core::{Column, Ctx, Error, Pool, Result, Scorer, find};
use curate_ingest::Source;
use curate_scorers::{Expression, SCORERS, names};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Scorers in the order in which they must run, and the expression that makes the quality of their scores.
#[derive(Default)]
pub(crate) struct Scores {
    scorers: Vec<(Column, Box<dyn Scorer>)>,
    quality: Option<Expression>,
    recipe: String,
}

impl Scores {
    /// What `--quality` and `[[score]]` ask for; `column:NAME` is no score and is left to the caller.
    ///
    /// # Errors
    /// `expression/*`, `method/unknown`, `params/*`, `http/*`.
    pub(crate) fn of(plan: &Plan, host: &Host, source: &Arc<Source>) -> Result<Self> {
        let mut this = Self::default();
        for wanted in plan.score.iter().filter(|wanted| wanted.name == USE) {
            this.ask(Endpoint::open(&wanted.params, source, host)?)?;
        }
        let asked: Vec<Column> = this.columns();
        for wanted in plan.score.iter().filter(|wanted| wanted.name != USE) {
            find(SCORERS, &wanted.name, "scorer")?;
            this.add(&Column::score(&wanted.name), plan)?;
        }
        if let Some(text) = plan.quality.as_deref().filter(|text| !text.starts_with("column:")) {
            let mut known = names();
            known.extend(asked.iter().filter_map(|column| column.as_str().strip_prefix("score.")));
            let expression = Expression::parse(text, Some(&known))?;
            for column in expression.columns() {
                this.add(&column, plan)?;
            }
            this.recipe += text;
            this.quality = Some(expression);
        }
        Ok(this)
    }

    /// A score that a server gives.
    fn ask(&mut self, endpoint: Endpoint) -> Result<()> {
        let column = Column::score(endpoint.name());
        if self.has(&column) || names().contains(&endpoint.name()) {
            return Err(Error::usage("http/name", format!("there is another scorer '{}'", endpoint.name()))
                .hint("give the server's score a name of its own: --score http:name=NAME,url=URL"));
        }
        self.recipe += &endpoint.recipe();
        self.scorers.push((column, Box::new(endpoint)));
        Ok(())
    }

    /// The scorer behind a column, after those that it reads itself. Other columns are left alone.
    pub(crate) fn add(&mut self, column: &Column, plan: &Plan) -> Result<()> {
        let Some(name) = column.as_str().strip_prefix("score.") else { return Ok(()) };
        if self.scorers.iter().any(|(known, _)| known == column) || !names().contains(&name) {
            return Ok(());
        }
        let params = plan.score.iter().find(|s| s.name == name).map_or_else(Map::new, |s| s.params.clone());
        let scorer = find(SCORERS, name, "scorer")?.build(&params)?;
        for need in scorer.needs().iter().filter(|need| *need != column) {
            self.add(need, plan)?;
        }
        self.recipe.extend([name, &Value::Object(params).to_string(), ";"]);
        self.scorers.push((column.clone(), scorer));
        Ok(())
    }

    /// Columns that somebody else must provide.
    pub(crate) fn needs(&self) -> Vec<Column> {
        let all = self.scorers.iter().flat_map(|(_, scorer)| scorer.needs());
        all.chain(self.quality.iter().flat_map(Expression::columns)).filter(|column| !self.has(column)).collect()
    }

    /// Whether this column is made here.
    pub(crate) fn has(&self, column: &Column) -> bool {
        (self.quality.is_some() && *column == Column::QUALITY) || self.scorers.iter().any(|(own, _)| own == column)
    }

    /// Everything that decides the scores besides the pool, for cache keys.
    pub(crate) fn recipe(&self) -> &str {
        &self.recipe
    }

    /// The columns made, in order.
    pub(crate) fn columns(&self) -> Vec<Column> {
        let own = self.scorers.iter().map(|(column, _)| column.clone());
        own.chain(self.quality.iter().map(|_| Column::QUALITY)).collect()
    }

    /// The pool with all scores.
    ///
    /// # Errors
    /// What the scorers give, with the row of a score that is no number; `cancelled`.
    pub(crate) fn apply(&self, pool: &Pool, ctx: &Ctx) -> Result<Pool> {
        let mut pool = pool.clone();
        if self.scorers.is_empty() && self.quality.is_none() {
            return Ok(pool);
        }
        let ctx = ctx.child("score");
        for (column, scorer) in &self.scorers {
            let values = scorer.score(&pool, &ctx).map_err(|e| named(e, column))?;
            pool = pool.with(column, Arc::new(values))?;
        }
        if let Some(expression) = &self.quality {
            pool = pool.with(&Column::QUALITY, Arc::new(expression.score(&pool, &ctx)?))?;
        }
        ctx.progress().finish();
        Ok(pool)
    }
}

fn named(error: Error, column: &Column) -> Error {
    if error.location().is_some() { error } else { error.at(curate_core::Location::default().column(column.as_str())) }
}
