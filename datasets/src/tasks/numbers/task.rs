//! The operations, the representations, and which of them go together.

use super::Style;

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `120`.
    Integer,
    /// `12.5`.
    Float,
    /// `3/4`.
    Fraction,
    /// `1.25e12`.
    Scientific,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Sum.
    Add,
    /// Difference, the larger first.
    Sub,
    /// Product.
    Multiply,
    /// Exact quotient, a fraction.
    TrueDiv,
    /// Whole quotient, the larger first.
    FloorDiv,
    /// Remainder, the larger first.
    Mod,
    /// The larger.
    Max,
    /// The smaller.
    Min,
    /// The larger digit at every place.
    DigitMax,
    /// The smaller digit at every place.
    DigitMin,
    /// The sum modulo 10 at every place, nothing carried.
    DigitAdd,
    /// The digit at a position from the left, from 0, the point ignored.
    GetDigit,
    /// How many digits there are, the point ignored.
    Length,
    /// How often a digit occurs.
    Count,
    /// As a decimal.
    ToFloat,
    /// As a power of ten.
    ToScient,
    /// Rounded to some significant figures, as a power of ten.
    Sig,
}

/// An operation on a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    /// What is done.
    pub op: Op,
    /// How the numbers are written.
    pub kind: Kind,
}

use Kind::{Float, Fraction, Integer, Scientific};

const OPS: [Op; 17] = [
    Op::Add,
    Op::Sub,
    Op::Multiply,
    Op::TrueDiv,
    Op::FloorDiv,
    Op::Mod,
    Op::Max,
    Op::Min,
    Op::DigitMax,
    Op::DigitMin,
    Op::DigitAdd,
    Op::GetDigit,
    Op::Length,
    Op::Count,
    Op::ToFloat,
    Op::ToScient,
    Op::Sig,
];

impl Op {
    /// How many of the operands are numbers.
    pub(super) const fn numbers(self) -> usize {
        match self {
            Self::GetDigit | Self::Length | Self::Count | Self::ToFloat | Self::ToScient | Self::Sig => 1,
            _ => 2,
        }
    }

    /// The name in tasks and compact prompts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Multiply => "multiply",
            Self::TrueDiv => "truediv",
            Self::FloorDiv => "floordiv",
            Self::Mod => "mod",
            Self::Max => "max",
            Self::Min => "min",
            Self::DigitMax => "digit_max",
            Self::DigitMin => "digit_min",
            Self::DigitAdd => "digit_add",
            Self::GetDigit => "get_digit",
            Self::Length => "length",
            Self::Count => "count",
            Self::ToFloat => "to_float",
            Self::ToScient => "to_scient",
            Self::Sig => "sig",
        }
    }

    /// The question.
    pub(super) fn prompt(self, style: Style, operands: &[String]) -> String {
        if style == Style::Compact {
            return format!("{} {}=", self.name(), operands.join(" "));
        }
        let (a, b) = (operands[0].as_str(), operands.get(1).map_or("", String::as_str));
        let question = match self {
            Self::Add => format!("What is {a} + {b}?"),
            Self::Sub => format!("What is {a} - {b}?"),
            Self::Multiply => format!("What is {a} times {b}?"),
            Self::TrueDiv => format!("What is {a} divided by {b}, as a fraction in lowest terms?"),
            Self::FloorDiv => format!("What is the whole part of {a} divided by {b}?"),
            Self::Mod => format!("What is the remainder of {a} divided by {b}?"),
            Self::Max => format!("Which is larger, {a} or {b}?"),
            Self::Min => format!("Which is smaller, {a} or {b}?"),
            Self::DigitMax => format!("Take the larger digit of {a} and {b} at every place."),
            Self::DigitMin => format!("Take the smaller digit of {a} and {b} at every place."),
            Self::DigitAdd => format!("Add {a} and {b} place by place without carrying."),
            Self::GetDigit => format!("Which digit of {a} stands at position {b}, counted from 0 at the left?"),
            Self::Length => format!("How many digits has {a}?"),
            Self::Count => format!("How often does the digit {b} occur in {a}?"),
            Self::ToFloat => format!("Write {a} as a decimal."),
            Self::ToScient => format!("Write {a} in scientific notation."),
            Self::Sig => format!("Round {a} to {b} significant figures."),
        };
        format!("{question} Answer: ")
    }
}

impl Task {
    /// Every pair there is: 16 on integers, 12 on decimals, 7 on fractions, 6 on powers of ten.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let pairs = [Integer, Float, Fraction, Scientific].into_iter().flat_map(|kind| OPS.map(|op| Self { op, kind }));
        pairs.filter(|task| task.exists()).collect()
    }

    /// The pairs to begin with.
    #[must_use]
    pub fn first_set() -> Vec<Self> {
        let integer = [
            Op::Add,
            Op::Sub,
            Op::Max,
            Op::DigitMax,
            Op::DigitAdd,
            Op::GetDigit,
            Op::Length,
            Op::Count,
            Op::Mod,
            Op::ToScient,
        ];
        let both = [Float, Fraction].into_iter().flat_map(|kind| [Op::Add, Op::Max].map(|op| Self { op, kind }));
        integer.into_iter().map(|op| Self { op, kind: Integer }).chain(both).collect()
    }

    const fn exists(self) -> bool {
        match self.kind {
            Integer => !matches!(self.op, Op::ToFloat),
            Float => !matches!(self.op, Op::TrueDiv | Op::FloorDiv | Op::Mod | Op::Count | Op::ToFloat),
            Fraction => {
                matches!(self.op, Op::Add | Op::Sub | Op::Multiply | Op::TrueDiv | Op::Max | Op::Min | Op::ToFloat)
            }
            Scientific => matches!(self.op, Op::Add | Op::Sub | Op::Multiply | Op::Max | Op::Min | Op::ToFloat),
        }
    }

    /// The task's name, such as `add-integer`.
    #[must_use]
    pub fn name(&self) -> String {
        let kind = match self.kind {
            Integer => "integer",
            Float => "float",
            Fraction => "fraction",
            Scientific => "scientific",
        };
        format!("{}-{kind}", self.op.name())
    }

    /// The task of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|task| task.name() == name)
    }

    /// Most digits with which the answer is exact: 128 bits hold 38.
    #[must_use]
    pub const fn max_digits(&self) -> usize {
        match (self.op, self.kind) {
            (Op::Multiply, Float) => 9,
            (Op::Add | Op::Sub, Float) | (_, Fraction) | (Op::Multiply, _) => 17,
            (Op::Add | Op::Sub | Op::TrueDiv | Op::FloorDiv | Op::Mod | Op::ToFloat, _) => 30,
            _ => 100,
        }
    }
}
