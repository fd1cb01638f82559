//! Interaction data as the pool holds it: a list of item ids for each row, in the order of time, and perhaps the item that followed.

use super::User;
use super::model::Sequence;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use curate_core::{Column, Ctx, Error, Location, Pool, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Items of a row that are looked at, the last ones; as in `SASRec`.
const LONGEST: usize = 51;

/// Whole numbers below this are exact as `f32`, which columns of numbers are read as.
const EXACT: i64 = 1 << 24;

/// The sequences of all rows, in rising order of row ids.
pub(crate) struct Histories {
    pub(super) users: Vec<User>,
    /// Different items.
    pub(super) items: usize,
    /// Longest sequence of inputs.
    pub(super) longest: usize,
}

impl Histories {
    /// Read the lists in column `items`, with the item in column `next` at their end.
    ///
    /// # Errors
    /// `column/type`, `items/null` with the row; what reading gives.
    pub(crate) fn read(pool: &Pool, items: &Column, next: Option<&Column>, ctx: &Ctx) -> Result<Self> {
        let ids = pool.ids()?;
        let mut lists = lists(&pool.column(items)?, items, &ids)?;
        ctx.tick(0)?;
        if let Some(next) = next {
            let following = integers(&pool.column(next)?, next, &ids)?;
            lists.iter_mut().zip(following).for_each(|(list, item)| list.push(item));
        }
        let mut rows: Vec<(u64, Vec<i64>)> = ids.into_iter().zip(lists).collect();
        rows.sort_by_key(|(id, _)| *id);
        Ok(Self::of(rows, ctx))
    }

    /// Sequences of these rows, which rise in their ids.
    pub(super) fn of(rows: Vec<(u64, Vec<i64>)>, ctx: &Ctx) -> Self {
        let lot = ctx.stream("half");
        let mut numbers: BTreeMap<i64, usize> = rows.iter().flat_map(|(_, list)| list).map(|&item| (item, 0)).collect();
        numbers.values_mut().zip(0..).for_each(|(number, at)| *number = at);
        let user = |(id, list): (u64, Vec<i64>)| {
            let tail = &list[list.len().saturating_sub(LONGEST)..];
            let known: Vec<usize> = tail.iter().map(|item| numbers[item]).collect();
            let inputs = known[..known.len().saturating_sub(1)].to_vec();
            let next = known.get(1..).unwrap_or_default().to_vec();
            User { sequence: Sequence { inputs, next }, id, half: lot(id).bits() & 1 == 1 }
        };
        let users: Vec<User> = rows.into_iter().map(user).collect();
        let longest = users.iter().map(|user| user.sequence.inputs.len()).max().unwrap_or(0);
        Self { users, items: numbers.len(), longest }
    }

    /// Sequences at these places with their row ids.
    pub(super) fn pick(&self, places: &[usize]) -> Vec<(u64, &Sequence)> {
        places.iter().map(|&at| (self.users[at].id, &self.users[at].sequence)).collect()
    }
}

fn wrong(column: &Column, found: &DataType, wanted: &str) -> Error {
    Error::data("column/type", format!("the column '{column}' holds {found}, not {wanted}"))
        .at(Location::default().column(column.as_str()))
        .hint("name a column of lists of item ids with items=COLUMN, and of the item that follows with next=COLUMN")
}

fn null(column: &Column, row: u64) -> Error {
    Error::data("items/null", "an item or a list of items is null")
        .at(Location::default().row(row).column(column.as_str()))
        .hint("leave such rows out with --where; a user without items has an empty list")
}

fn lists(array: &ArrayRef, column: &Column, ids: &[u64]) -> Result<Vec<Vec<i64>>> {
    let item = match array.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.data_type().clone(),
        other => return Err(wrong(column, other, "lists of item ids")),
    };
    if !(item.is_integer() || item.is_null()) {
        return Err(wrong(column, array.data_type(), "lists of whole numbers"));
    }
    let wanted = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let cast = arrow::compute::cast(array, &wanted)?;
    let list = cast.as_list::<i32>();
    (0..list.len())
        .map(|at| {
            let row = list.is_valid(at).then(|| list.value(at)).filter(|items| items.null_count() == 0);
            row.map(|items| items.as_primitive::<Int64Type>().values().to_vec()).ok_or_else(|| null(column, ids[at]))
        })
        .collect()
}

fn integers(array: &ArrayRef, column: &Column, ids: &[u64]) -> Result<Vec<i64>> {
    if !array.data_type().is_numeric() {
        return Err(wrong(column, array.data_type(), "item ids"));
    }
    let cast = arrow::compute::cast(array, &DataType::Int64)?;
    let items = cast.as_primitive::<Int64Type>();
    if let Some(at) = (0..items.len()).find(|&at| array.data_type().is_floating() && items.value(at).abs() >= EXACT) {
        return Err(Error::data(
            "items/too-large",
            format!("the item {} is no exact whole number here", items.value(at)),
        )
        .at(Location::default().row(ids[at]).column(column.as_str()))
        .hint("number items below 16777216, or put the item at the end of the list and leave out next"));
    }
    match (0..items.len()).find(|&at| items.is_null(at)) {
        None => Ok(items.values().to_vec()),
        Some(at) => Err(null(column, ids[at])),
    }
}
