//! Fitting the rule of `InstructMining` to runs of one's own: a table of one row a run, with the loss it ended with and the mean of
//! each indicator over what it was trained on. The rule goes into a file that `instructmining` reads.

use crate::host::Host;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use curate_core::{Column, Ctx, Error, Location, Result};
use curate_ingest::{Format, InputSpec, Source};
use curate_scorers::{Fit, Rule};
use serde::Serialize;

/// A variance inflated so many times makes a coefficient say little.
const INFLATED: f64 = 10.0;
/// Fewer runs than this for each coefficient fit noise.
const RUNS_EACH: usize = 10;

/// What to fit.
#[derive(Clone, Debug, Default)]
pub struct FitPlan {
    /// Files of runs.
    pub runs: Vec<String>,
    /// Rows to use, as a SQL predicate.
    pub where_: Option<String>,
    /// Column to predict.
    pub response: String,
    /// Whether its logarithm is predicted, as `InstructMining` does with a loss.
    pub log: bool,
    /// Columns to predict it from.
    pub indicators: Vec<String>,
}

/// A coefficient and how far to trust it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FitTerm {
    /// `constant`, or the indicator.
    pub name: String,
    /// Its coefficient.
    pub coefficient: f64,
    /// Standard error.
    pub standard_error: f64,
    /// Coefficient by standard error.
    pub t: f64,
    /// Two-sided p-value.
    pub p: f64,
    /// How many times the other indicators enlarge its variance.
    pub inflation: f64,
}

/// A fitted rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FitDone {
    /// The rule, as `instructmining` takes it.
    pub rule: String,
    /// What it predicts.
    pub response: String,
    /// Runs it was fitted to.
    pub runs: usize,
    /// Share of the variance explained.
    pub r2: f64,
    /// The same, corrected for the number of indicators.
    pub adjusted_r2: f64,
    /// Standard deviation of what is left over.
    pub residual_deviation: f64,
    /// Runs less coefficients.
    pub degrees_of_freedom: usize,
    /// What speaks against the fit.
    pub warnings: Vec<String>,
    /// The coefficients, the constant first.
    pub terms: Vec<FitTerm>,
}

/// Fit a rule to runs.
///
/// # Errors
/// `fit/*`, `column/*`; what reading gives.
pub fn fit_rule(plan: &FitPlan, host: &Host) -> Result<FitDone> {
    let columns = check(plan)?;
    host.install(|| {
        let ctx = host.ctx(0)?;
        let input = InputSpec {
            paths: plan.runs.clone(),
            where_: plan.where_.clone(),
            format: Format::Table,
            ..InputSpec::default()
        };
        let source = Source::open(&input, &host.scratch, &ctx)?;
        let table = Table::read(&source, plan, &ctx)?;
        let names: Vec<&str> = plan.indicators.iter().map(String::as_str).collect();
        let fit = curate_scorers::fit_rule(&names, &table.indicators, &table.response).map_err(|e| table.placed(e))?;
        Ok(done(plan, &columns, &fit))
    })
}

/// The columns of the rule for the indicators' names.
fn check(plan: &FitPlan) -> Result<Vec<Column>> {
    if plan.indicators.is_empty() || plan.indicators.contains(&plan.response) {
        return Err(Error::usage("fit/indicators", "a rule needs indicators other than the response")
            .hint("name them: --indicators reward,length,knn6"));
    }
    let twice = |name: &&String| plan.indicators.iter().filter(|other| other == name).count() > 1;
    if let Some(name) = plan.indicators.iter().find(twice) {
        return Err(Error::usage("fit/indicators", format!("'{name}' is named twice")).hint("name each indicator once"));
    }
    plan.indicators.iter().map(|name| rule_column(name)).collect()
}

/// The column that a rule's reader takes the name for.
fn rule_column(name: &str) -> Result<Column> {
    let columns = name.parse::<Rule>().map(|rule| rule.columns()).unwrap_or_default();
    match columns.as_slice() {
        [column] if column.as_str().ends_with(name) => Ok(column.clone()),
        _ => Err(Error::usage("fit/name", format!("a rule cannot name '{name}'"))
            .hint("rename the column: letters, digits, _ and dots, such as reward or score.reward")),
    }
}

/// The numbers of all runs.
#[derive(Default)]
struct Table {
    response: Vec<f64>,
    indicators: Vec<f64>,
    rows: Vec<u64>,
}

impl Table {
    fn read(source: &Source, plan: &FitPlan, ctx: &Ctx) -> Result<Self> {
        let mut wanted = vec![plan.response.clone()];
        wanted.extend(plan.indicators.iter().cloned());
        let mut table = Self::default();
        for unit in source.units() {
            let data = source.read(unit, Some(&wanted))?;
            let place = |row: usize| Location::file(&source.files()[unit.file].path).row(data.rows[row]);
            let columns = wanted.iter().map(|name| numbers(&data.batch, name, &place)).collect::<Result<Vec<_>>>()?;
            for (row, id) in data.rows.iter().enumerate() {
                let at = || place(row).column(&plan.response);
                table.response.push(if plan.log { logarithm(columns[0][row], at)? } else { columns[0][row] });
                table.indicators.extend(columns[1..].iter().map(|column| column[row]));
                table.rows.push(*id);
            }
            ctx.tick(data.rows.len() as u64)?;
        }
        Ok(table)
    }

    /// The error with the row's id in place of its position.
    fn placed(&self, error: Error) -> Error {
        let row =
            error.location().and_then(|at| at.row).and_then(|at| self.rows.get(usize::try_from(at).ok()?).copied());
        match row {
            Some(row) => error.at(Location::default().row(row)),
            None => error,
        }
    }
}

fn logarithm(value: f64, at: impl Fn() -> Location) -> Result<f64> {
    if value > 0.0 {
        return Ok(value.ln());
    }
    Err(Error::data("fit/logarithm", format!("{value} has no logarithm"))
        .at(at())
        .hint("a loss is above 0; leave out --log if the column is a logarithm already"))
}

/// A column as finite numbers.
fn numbers(batch: &arrow::array::RecordBatch, name: &str, place: &impl Fn(usize) -> Location) -> Result<Vec<f64>> {
    let missing = || Error::usage("column/missing", format!("the runs have no column '{name}'"));
    let column = batch.column_by_name(name).ok_or_else(missing)?;
    let readable = column.data_type().is_numeric() || matches!(column.data_type(), DataType::Utf8);
    if !readable {
        return Err(Error::data(
            "column/type",
            format!("the column '{name}' holds {}, not numbers", column.data_type()),
        )
        .hint("name columns of numbers with --response and --indicators"));
    }
    let values = arrow::compute::cast(column, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    match (0..values.len()).find(|&row| values.is_null(row) || !values.value(row).is_finite()) {
        None => Ok(values.values().to_vec()),
        Some(row) => Err(Error::data("fit/not-finite", "empty, NaN, infinite or no number")
            .at(place(row).column(name))
            .hint(format!("repair the run or leave it out: --where '\"{name}\" IS NOT NULL'"))),
    }
}

fn done(plan: &FitPlan, columns: &[Column], fit: &Fit) -> FitDone {
    let name = |i: usize| if i == 0 { "constant".to_owned() } else { plan.indicators[i - 1].clone() };
    let term = |i: usize| FitTerm {
        name: name(i),
        coefficient: fit.coefficients[i],
        standard_error: fit.standard_errors[i],
        t: fit.t[i],
        p: fit.p[i],
        inflation: fit.inflation[i],
    };
    let terms: Vec<FitTerm> = (0..fit.coefficients.len()).map(term).collect();
    let runs = fit.degrees_of_freedom + terms.len();
    FitDone {
        rule: fit.rule(columns).to_string(),
        response: if plan.log { format!("log({})", plan.response) } else { plan.response.clone() },
        runs,
        r2: fit.r2,
        adjusted_r2: fit.adjusted_r2,
        residual_deviation: (fit.sse / fit.degrees_of_freedom as f64).sqrt(),
        degrees_of_freedom: fit.degrees_of_freedom,
        warnings: warnings(&terms, runs),
        terms,
    }
}

fn warnings(terms: &[FitTerm], runs: usize) -> Vec<String> {
    let inflated = |term: &&FitTerm| term.inflation > INFLATED;
    let mut found: Vec<String> = terms
        .iter()
        .filter(inflated)
        .map(|t| {
            format!("{} nearly follows from the others (variance inflated {:.0} times): drop one", t.name, t.inflation)
        })
        .collect();
    if runs < RUNS_EACH * terms.len() {
        found.push(format!(
            "{runs} runs for {} coefficients: {} or more would be safer",
            terms.len(),
            RUNS_EACH * terms.len()
        ));
    }
    found
}

/// Write a fitted rule, as TOML or JSON by the extension, whole or not at all.
///
/// # Errors
/// `output/exists`, `output/extension`; what writing gives.
pub fn write_rule(path: &str, done: &FitDone, overwrite: bool) -> Result<()> {
    let text = match path.rsplit_once('.').map(|(_, ext)| ext) {
        Some("toml") => toml::to_string(done).map_err(|e| Error::io("toml", e.to_string()))?.into_bytes(),
        Some("json") => crate::pretty(done)?,
        _ => {
            return Err(Error::usage("output/extension", format!("a rule is written as .toml or .json, not {path}"))
                .hint("add -o rule.toml"));
        }
    };
    if !overwrite && std::path::Path::new(path).exists() {
        return Err(Error::usage("output/exists", format!("{path} exists")).hint("add --overwrite to replace it"));
    }
    curate_ingest::write_whole(path, &text)
}
