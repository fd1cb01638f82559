//! `where`: an SQL predicate over one row, evaluated by polars on the columns it names.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, UInt64Type};
use curate_core::{Error, Location, Result, guarded};
use polars::lazy::dsl::{AggExpr, Expr};
use polars::prelude::{Column, DataFrame, IntoLazy, NamedFrom, Series};

/// A compiled predicate.
#[derive(Clone, Debug)]
pub(crate) struct Predicate {
    sql: String,
    expr: Expr,
    columns: Vec<String>,
}

/// Functions that look at one row only; any other could give another answer when the rows are read in other pieces.
const ROW_LOCAL: [&str; 24] = [
    "is_null",
    "is_not_null",
    "is_nan",
    "is_not_nan",
    "is_finite",
    "is_infinite",
    "is_in",
    "not",
    "is_between",
    "is_close",
    "any_horizontal",
    "all_horizontal",
    "min_horizontal",
    "max_horizontal",
    "coalesce",
    "fill_null",
    "negate",
    "abs",
    "pow",
    "sqrt",
    "cbrt",
    "floor",
    "ceil",
    "round",
];

impl Predicate {
    /// Compile `sql` against the columns of `schema`.
    pub(crate) fn compile(sql: &str, schema: &SchemaRef) -> Result<Self> {
        let known = schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        let bad = |why: String| {
            Error::usage("where/invalid", format!("cannot understand --where \"{sql}\": {why}")).hint(format!(
                "write an SQL predicate such as source = 'gsm8k' AND length(output) > 20; columns: {known}"
            ))
        };
        let parsed = guarded(|| polars::sql::sql_expr(sql)).ok_or_else(|| bad("the parser gave up".into()))?;
        let expr = parsed.map_err(|e| bad(e.to_string()))?;
        let mut columns = Vec::new();
        for node in &expr {
            if let Expr::Column(name) = node {
                columns.push(name.to_string());
            }
            refuse_if_not_local(node, sql)?;
        }
        columns.sort();
        columns.dedup();
        for name in &columns {
            let field = schema.field_with_name(name).map_err(|_| {
                Error::usage("where/unknown-column", format!("--where names the column '{name}', which is not there"))
                    .hint(format!("columns: {known}"))
            })?;
            check_type(name, field.data_type())?;
        }
        let this = Self { sql: sql.to_owned(), expr, columns };
        let empty = RecordBatch::new_empty(std::sync::Arc::clone(schema));
        this.mask(&empty)?;
        Ok(this)
    }

    /// Columns the predicate looks at.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Which rows satisfy the predicate; null counts as no.
    pub(crate) fn mask(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let rows = batch.num_rows();
        let column = |name: &String| {
            let array =
                batch.column_by_name(name).ok_or_else(|| self.failed(&format!("the column '{name}' was not read")))?;
            series(name, array).map(Column::from)
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        let frame = DataFrame::new(rows, columns).map_err(|e| self.failed(&e.to_string()))?;
        let query = frame.lazy().select([self.expr.clone().alias("keep")]);
        let result = guarded(|| query.collect()).ok_or_else(|| self.failed("the evaluation gave up"))?;
        let result = result.map_err(|e| self.failed(&e.to_string()))?;
        let keep = result.column("keep").map_err(|e| self.failed(&e.to_string()))?.as_materialized_series().clone();
        let keep = keep
            .bool()
            .map_err(|_| self.failed(&format!("it gives {} where true or false is needed", keep.dtype())))?;
        match keep.len() {
            n if n == rows => Ok(keep.iter().map(|k| Some(k == Some(true))).collect()),
            1 => Ok(BooleanArray::from(vec![keep.get(0) == Some(true); rows])),
            n => Err(self.failed(&format!("it gives {n} answers for {rows} rows"))),
        }
    }

    fn failed(&self, why: &str) -> Error {
        Error::usage("where/invalid", format!("cannot evaluate --where \"{}\": {why}", self.sql))
            .hint("compare numbers with numbers and text with text; the predicate must give true or false")
    }
}

fn refuse_if_not_local(node: &Expr, sql: &str) -> Result<()> {
    let local = match node {
        Expr::Alias(..)
        | Expr::Column(_)
        | Expr::Literal(_)
        | Expr::BinaryExpr { .. }
        | Expr::Cast { .. }
        | Expr::Ternary { .. }
        | Expr::KeepName(_) => true,
        // The list of `x IN (...)`.
        Expr::Agg(AggExpr::Implode { input, .. }) => matches!(input.as_ref(), Expr::Literal(_)),
        Expr::Function { function, .. } => {
            let name = function.to_string();
            ROW_LOCAL.contains(&name.as_str())
                || (name.starts_with("str.") && !name.contains("vertical") && !name.contains("join"))
        }
        _ => false,
    };
    if local {
        return Ok(());
    }
    Err(Error::usage("where/not-row-local", format!("--where \"{sql}\" looks at more than one row, or uses '{node:?}', which is not offered"))
        .hint("aggregates, window functions and sub-queries would depend on how the rows are read; filter on values of the row itself"))
}

fn check_type(name: &str, data_type: &DataType) -> Result<()> {
    if !data_type.is_nested() || matches!(data_type, DataType::Dictionary(_, value) if !value.is_nested()) {
        return Ok(());
    }
    Err(Error::usage("where/column-type", format!("--where cannot look into the column '{name}' of type {data_type}"))
        .hint("use text, number, date and true/false columns")
        .at(Location::default().column(name)))
}

/// Copy a column into polars; dates and the like become their text.
fn series(name: &str, array: &ArrayRef) -> Result<Series> {
    let data_type = match array.data_type() {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    let name = name.into();
    Ok(match data_type {
        DataType::Boolean => {
            Series::new(name, cast(array, &DataType::Boolean)?.as_boolean().iter().collect::<Vec<Option<bool>>>())
        }
        DataType::UInt64 => {
            Series::new(name, cast(array, data_type)?.as_primitive::<UInt64Type>().iter().collect::<Vec<_>>())
        }
        t if t.is_integer() => {
            Series::new(name, cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().iter().collect::<Vec<_>>())
        }
        t if t.is_numeric() => {
            Series::new(name, cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().iter().collect::<Vec<_>>())
        }
        _ => {
            let text = cast(array, &DataType::LargeUtf8)?;
            Series::new(name, text.as_string::<i64>().iter().collect::<Vec<Option<&str>>>())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, ListArray, StringArray};
    use arrow::datatypes::{Field, Int32Type, Schema};
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)]), None, None]);
        let schema = Schema::new(vec![
            Field::new("source", DataType::Utf8, true),
            Field::new("n", DataType::Int32, true),
            Field::new("l", list.data_type().clone(), true),
        ]);
        let text = StringArray::from(vec![Some("gsm8k"), Some("p3"), None]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![Arc::new(text), Arc::new(Int32Array::from(vec![Some(3), None, Some(5)])), Arc::new(list)],
        )
        .unwrap()
    }

    fn keep(sql: &str) -> Result<Vec<bool>> {
        let batch = batch();
        let mask = Predicate::compile(sql, &batch.schema())?.mask(&batch)?;
        Ok(mask.iter().map(|k| k == Some(true)).collect())
    }

    #[test]
    fn predicates_pick_rows() {
        assert_eq!(keep("source = 'gsm8k'").unwrap(), [true, false, false]);
        assert_eq!(keep("n > 3 OR source LIKE 'p%'").unwrap(), [false, true, true]);
        assert_eq!(keep("source IN ('p3', 'x') AND n IS NULL").unwrap(), [false, true, false]);
        assert_eq!(keep("length(source) = 5 AND n BETWEEN 1 AND 3").unwrap(), [true, false, false]);
        assert_eq!(keep("NOT (source = 'p3')").unwrap(), [true, false, false]);
        assert_eq!(keep("upper(source) = 'P3' AND source NOT IN ('a')").unwrap(), [false, true, false]);
        assert_eq!(keep("CASE WHEN n = 3 THEN 1 ELSE 0 END = 1").unwrap(), [true, false, false]);
        assert_eq!(keep("COALESCE(n, 7) = 7").unwrap(), [false, true, false]);
        assert_eq!(keep("1 = 1").unwrap(), [true; 3]);
    }

    #[test]
    fn what_depends_on_other_rows_is_refused() {
        for sql in [
            "n > AVG(n)",
            "n = MAX(n)",
            "COUNT(*) > 1",
            "SUM(n) > 2",
            "ROW_NUMBER() OVER (ORDER BY n) < 3",
            "n > LAG(n) OVER (ORDER BY n)",
            "FIRST(n) = 3",
            "n = (SELECT MAX(n) FROM self)",
            "SUM(n) OVER (PARTITION BY source) > 1",
            "n > (SELECT 1)",
            "MEDIAN(n) > 1",
        ] {
            let code = keep(sql).unwrap_err().code();
            assert!(code.starts_with("where/"), "{sql}: {code}");
        }
        assert_eq!(keep("n > AVG(n)").unwrap_err().code(), "where/not-row-local");
    }

    #[test]
    fn mistakes_are_named() {
        for (sql, code) in [
            ("nn > 1", "where/unknown-column"),
            ("l = 1", "where/column-type"),
            ("n >", "where/invalid"),
            ("", "where/invalid"),
            ("n + 1", "where/invalid"),
            ("SELECT 1", "where/invalid"),
            ("n = 1; DROP TABLE x", "where/invalid"),
        ] {
            assert_eq!(keep(sql).unwrap_err().code(), code, "{sql}");
        }
        assert!(keep("nn > 1").unwrap_err().hint_text().unwrap().contains("source, n, l"));
    }
}
