//! The tasks against an independent oracle: schoolbook arithmetic on decimal digits, brute force, and plain counting.

use curate_datasets::tasks::{
    Kind, Noise, NumberTasks, Op, Puzzles, Side, Style, Task, TaskRow, Truth, fact_book, numbers, puzzles, spoil,
    task_pool, task_rows,
};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Whole numbers of any length as digits, the first the highest; no zero in front, nothing for 0.
mod long {
    use std::cmp::Ordering;

    pub(super) fn read(text: &str) -> Vec<u8> {
        trim(text.bytes().map(|b| b - b'0').collect())
    }

    pub(super) fn show(digits: &[u8]) -> String {
        if digits.is_empty() { "0".into() } else { digits.iter().map(|d| char::from(b'0' + d)).collect() }
    }

    fn trim(digits: Vec<u8>) -> Vec<u8> {
        digits.into_iter().skip_while(|d| *d == 0).collect()
    }

    pub(super) fn cmp(a: &[u8], b: &[u8]) -> Ordering {
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    }

    pub(super) fn add(a: &[u8], b: &[u8]) -> Vec<u8> {
        let (mut out, mut carry) = (Vec::new(), 0);
        for place in 0..=a.len().max(b.len()) {
            let digit = |x: &[u8]| x.iter().rev().nth(place).copied().unwrap_or(0);
            let sum = digit(a) + digit(b) + carry;
            out.push(sum % 10);
            carry = sum / 10;
        }
        out.reverse();
        trim(out)
    }

    pub(super) fn sub(a: &[u8], b: &[u8]) -> Vec<u8> {
        assert!(cmp(a, b) != Ordering::Less);
        let (mut out, mut borrow) = (Vec::new(), 0i8);
        for place in 0..a.len() {
            let digit = |x: &[u8]| x.iter().rev().nth(place).map_or(0, |d| i8::try_from(*d).unwrap());
            let mut diff = digit(a) - digit(b) - borrow;
            borrow = i8::from(diff < 0);
            if diff < 0 {
                diff += 10;
            }
            out.push(u8::try_from(diff).unwrap());
        }
        out.reverse();
        trim(out)
    }

    pub(super) fn mul(a: &[u8], b: &[u8]) -> Vec<u8> {
        let mut sum = Vec::new();
        for digit in b {
            sum.push(0); // times ten
            sum = trim(sum);
            for _ in 0..*digit {
                sum = add(&sum, a);
            }
        }
        sum
    }

    pub(super) fn div(a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut quotient, mut rest) = (Vec::new(), Vec::new());
        for digit in a {
            rest.push(*digit);
            rest = trim(rest);
            let mut times = 0;
            while cmp(&rest, b) != Ordering::Less {
                rest = sub(&rest, b);
                times += 1;
            }
            quotient.push(times);
        }
        (trim(quotient), rest)
    }

    pub(super) fn gcd(a: Vec<u8>, b: Vec<u8>) -> Vec<u8> {
        if b.is_empty() {
            a
        } else {
            let rest = div(&a, &b).1;
            gcd(b, rest)
        }
    }

    pub(super) fn shifted(a: &[u8], zeros: usize) -> Vec<u8> {
        trim(a.iter().copied().chain(std::iter::repeat_n(0, zeros)).collect())
    }
}

/// A fraction of long numbers: what every operand is turned into.
type Fraction = (Vec<u8>, Vec<u8>);

fn power(zeros: usize) -> Vec<u8> {
    long::shifted(&[1], zeros)
}

fn value(text: &str) -> Fraction {
    if let Some((above, below)) = text.split_once('/') {
        return (long::read(above), long::read(below));
    }
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = long::read(&format!("{whole}{decimals}"));
    let exponent: i64 = exponent.parse().unwrap();
    let zeros = |n: i64| usize::try_from(n).unwrap();
    let below = power(decimals.len());
    if exponent < 0 {
        (digits, long::shifted(&below, zeros(-exponent)))
    } else {
        (long::shifted(&digits, zeros(exponent)), below)
    }
}

fn compare(a: &Fraction, b: &Fraction) -> Ordering {
    long::cmp(&long::mul(&a.0, &b.1), &long::mul(&b.0, &a.1))
}

/// The exact result of an arithmetic operation.
fn result(op: Op, a: &Fraction, b: &Fraction) -> Fraction {
    let below = long::mul(&a.1, &b.1);
    let (left, right) = (long::mul(&a.0, &b.1), long::mul(&b.0, &a.1));
    match op {
        Op::Add => (long::add(&left, &right), below),
        Op::Sub => (long::sub(&left, &right), below),
        Op::Multiply => (long::mul(&a.0, &b.0), below),
        Op::TrueDiv => (left, right),
        _ => unreachable!(),
    }
}

/// Whether a text has the form its kind demands.
fn well_formed(text: &str, kind: Kind) -> bool {
    let whole = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()) && (t == "0" || !t.starts_with('0'));
    let decimals = |t: &str| t == "0" || (!t.is_empty() && !t.ends_with('0') && t.bytes().all(|b| b.is_ascii_digit()));
    match kind {
        Kind::Integer => whole(text),
        Kind::Float => text.split_once('.').is_some_and(|(w, d)| whole(w) && decimals(d)),
        Kind::Fraction => text
            .split_once('/')
            .is_some_and(|(a, b)| whole(a) && whole(b) && b != "0" && long::gcd(long::read(a), long::read(b)) == [1]),
        Kind::Scientific => text.split_once('e').is_some_and(|(mantissa, e)| {
            let (w, d) = mantissa.split_once('.').unwrap_or(("", ""));
            w.len() == 1 && (w != "0" || text == "0.0e0") && decimals(d) && whole(e.trim_start_matches('-'))
        }),
    }
}

fn digit_wise(op: Op, a: &str, b: &str) -> String {
    let split = |t: &str| {
        let (w, d) = t.split_once('.').unwrap_or((t, ""));
        (w.to_owned(), d.to_owned())
    };
    let ((mut wa, mut da), (mut wb, mut db)) = (split(a), split(b));
    while wa.len() != wb.len() {
        let short = if wa.len() < wb.len() { &mut wa } else { &mut wb };
        short.insert(0, '0');
    }
    while da.len() != db.len() {
        let short = if da.len() < db.len() { &mut da } else { &mut db };
        short.push('0');
    }
    let point = |w: &str, d: &str| if d.is_empty() { w.to_owned() } else { format!("{w}.{d}") };
    let (a, b) = (point(&wa, &da), point(&wb, &db));
    let both = |(x, y): (char, char)| match (op, x.to_digit(10), y.to_digit(10)) {
        (Op::DigitMax, ..) => x.max(y),
        (Op::DigitMin, ..) => x.min(y),
        (_, Some(x), Some(y)) => char::from_digit((x + y) % 10, 10).unwrap(),
        _ => '.',
    };
    a.chars().zip(b.chars()).map(both).collect()
}

/// Whether `answer` is the answer; computed another way than the generator's.
fn holds(task: Task, operands: &[String], answer: &str) -> bool {
    let (a, b) = (operands[0].as_str(), operands.get(1).map_or("", String::as_str));
    let (va, vb) = (value(a), || value(b));
    let digits: Vec<char> = a.chars().filter(char::is_ascii_digit).collect();
    let exact =
        |kind: Kind, wanted: &Fraction| well_formed(answer, kind) && compare(&value(answer), wanted) == Ordering::Equal;
    match task.op {
        Op::Add | Op::Sub | Op::Multiply => exact(task.kind, &result(task.op, &va, &vb())),
        Op::TrueDiv => exact(Kind::Fraction, &result(task.op, &va, &vb())),
        Op::FloorDiv => answer == long::show(&long::div(&va.0, &vb().0).0),
        Op::Mod => answer == long::show(&long::div(&va.0, &vb().0).1),
        Op::Max => answer == if compare(&va, &vb()) == Ordering::Less { b } else { a },
        Op::Min => answer == if compare(&va, &vb()) == Ordering::Less { a } else { b },
        Op::DigitMax | Op::DigitMin | Op::DigitAdd => answer == digit_wise(task.op, a, b),
        Op::GetDigit => answer == digits[b.parse::<usize>().unwrap()].to_string(),
        Op::Length => answer == digits.len().to_string(),
        Op::Count => answer == a.matches(b).count().to_string(),
        Op::ToFloat => exact(Kind::Float, &va),
        Op::ToScient => exact(Kind::Scientific, &va),
        Op::Sig => rounded(&va, b.parse().unwrap(), answer),
    }
}

/// Whether `answer` has `figures` figures and is nearest to the value, halves upwards: answer - h <= value < answer + h.
fn rounded(exact: &Fraction, figures: usize, answer: &str) -> bool {
    let (mantissa, exponent) = answer.split_once('e').unwrap();
    let form = mantissa.len() == figures + 1 && (mantissa.as_bytes()[0] != b'0' || exact.0.is_empty());
    // half a unit of the last figure: 5 * 10^(exponent - figures)
    let half = value(&format!("5e{}", exponent.parse::<i64>().unwrap() - i64::try_from(figures).unwrap()));
    let near = value(answer);
    let above = result(Op::Add, &near, &half);
    let low_enough = compare(&near, &result(Op::Add, exact, &half)) != Ordering::Greater;
    form && low_enough && compare(exact, &above) == Ordering::Less
}

#[test]
fn a_hundred_thousand_answers_are_right() {
    let all = Task::all();
    assert_eq!(all.len(), 41);
    let of = |kind: Kind| all.iter().filter(|task| task.kind == kind).count();
    assert_eq!([Kind::Integer, Kind::Float, Kind::Fraction, Kind::Scientific].map(of), [16, 12, 7, 6]);
    let sets = [(8, all.clone(), 70_000), (17, all.iter().copied().filter(|t| t.max_digits() >= 17).collect(), 25_000)];
    let long: Vec<Task> = all.iter().copied().filter(|task| task.max_digits() == 100).collect();
    let mut seen = BTreeSet::new();
    for (longest, tasks, rows) in sets.into_iter().chain([(100, long, 5_000)]) {
        let options = NumberTasks { tasks, digits: 1..=longest, ..NumberTasks::default() };
        for item in numbers(rows, &options, 42).unwrap() {
            let name = item.task.name();
            assert!(holds(item.task, &item.operands, &item.answer), "{name} {:?} {}", item.operands, item.answer);
            let numbers = if item.operands.len() == 2 && !matches!(item.task.op, Op::GetDigit | Op::Count | Op::Sig) {
                2
            } else {
                1
            };
            for operand in &item.operands[..numbers] {
                assert!(well_formed(operand, item.task.kind), "{name} {operand}");
            }
            seen.insert(name);
        }
    }
    assert_eq!(seen.len(), 41);
}

#[test]
fn the_oracle_refuses_wrong_answers() {
    let options = NumberTasks { tasks: Task::all(), ..NumberTasks::default() };
    let mut refused = 0;
    for (row, item) in numbers(2000, &options, 1).unwrap().into_iter().enumerate() {
        let mut wrong: Vec<u8> = item.answer.bytes().collect();
        let digits: Vec<usize> = (0..wrong.len()).filter(|&at| wrong[at].is_ascii_digit()).collect();
        let at = digits[row % digits.len()];
        wrong[at] = b'0' + (wrong[at] - b'0' + 1) % 10;
        refused += usize::from(!holds(item.task, &item.operands, &String::from_utf8(wrong).unwrap()));
    }
    assert_eq!(refused, 2000);
}

#[test]
fn training_and_test_never_meet() {
    let options = NumberTasks { digits: 1..=2, ..NumberTasks::default() };
    let of = |side: Side| {
        let options = NumberTasks { side, ..options.clone() };
        let key = |item: &curate_datasets::tasks::Item| {
            let mut key = item.operands.clone();
            if matches!(item.task.op, Op::GetDigit | Op::Count | Op::Length | Op::ToScient) {
                key.truncate(1);
            }
            key.sort_unstable();
            key
        };
        let tasks =
            options.tasks.iter().copied().filter(|t| t.op == Op::Add || t.op == Op::Max || t.op == Op::Sub).collect();
        let options = NumberTasks { tasks, ..options };
        numbers(5000, &options, 3).unwrap().iter().map(key).collect::<BTreeSet<_>>()
    };
    let (train, test) = (of(Side::Train), of(Side::Test));
    assert!(train.is_disjoint(&test));
    assert!(train.len() > 1000 && test.len() > 200, "{} {}", train.len(), test.len());
}

#[test]
fn items_repeat_and_longer_sets_begin_with_shorter() {
    let options = NumberTasks::default();
    let (short, long) = (numbers(50, &options, 9).unwrap(), numbers(200, &options, 9).unwrap());
    assert_eq!(short, long[..50]);
    assert_ne!(short, numbers(50, &options, 10).unwrap());
    let too_long = NumberTasks { digits: 1..=31, ..options.clone() };
    assert_eq!(numbers(1, &too_long, 0).unwrap_err().code(), "tasks/digits");
    let none = NumberTasks { tasks: Vec::new(), ..options.clone() };
    assert_eq!(numbers(1, &none, 0).unwrap_err().code(), "tasks/none");
    let one_side = NumberTasks { test_share: 0.0, side: Side::Test, ..options.clone() };
    assert_eq!(numbers(1, &one_side, 0).unwrap_err().code(), "tasks/side");
    let row = long[0].row(Style::Compact);
    assert!(row.prompt.ends_with('=') && row.completion == row.right);
    let easy =
        NumberTasks { easy: true, digits: 8..=8, tasks: vec![Task { op: Op::Add, kind: Kind::Integer }], ..options };
    assert!(numbers(100, &easy, 0).unwrap().iter().all(|item| item.operands.iter().any(|o| o.len() <= 3)));
}

fn rows(count: usize) -> Vec<TaskRow> {
    numbers(count, &NumberTasks::default(), 8).unwrap().iter().map(|item| item.row(Style::Words)).collect()
}

#[test]
fn planted_errors_are_as_many_as_asked_and_all_marked() {
    let clean = rows(1000);
    let others: Vec<TaskRow> =
        puzzles(50, &Puzzles::default(), 1).unwrap().iter().map(curate_datasets::tasks::Puzzle::row).collect();
    let noise = Noise { wrong: 0.5, duplicate: 0.1, off_task: 0.05 };
    let spoiled = spoil(&clean, &noise, &others, 4).unwrap();
    let count = |truth: Truth| spoiled.iter().filter(|row| row.truth == truth).count();
    assert_eq!([Truth::Wrong, Truth::Duplicate, Truth::OffTask, Truth::Clean].map(count), [500, 100, 50, 350]);
    for (before, after) in clean.iter().zip(&spoiled) {
        match after.truth {
            Truth::Clean => assert_eq!(before, after),
            Truth::Wrong => {
                assert!(
                    after.completion != after.right && after.right == before.right && after.prompt == before.prompt
                );
            }
            Truth::Duplicate => {
                let twins = spoiled.iter().filter(|r| r.prompt == after.prompt && r.truth == Truth::Clean);
                assert!(twins.count() > 0 && after.completion == after.right);
            }
            Truth::OffTask => assert_eq!(after.task, "countdown"),
        }
    }
    assert_eq!(spoiled, spoil(&clean, &noise, &others, 4).unwrap());
    assert_ne!(spoiled, spoil(&clean, &noise, &others, 5).unwrap());
    let bad = |noise: Noise| spoil(&clean, &noise, &[], 0).unwrap_err().code();
    assert_eq!(bad(Noise { wrong: 0.9, duplicate: 0.2, off_task: 0.0 }), "tasks/noise");
    assert_eq!(bad(Noise { wrong: f64::NAN, ..Noise::default() }), "tasks/noise");
    assert_eq!(bad(Noise { off_task: 0.1, ..Noise::default() }), "tasks/noise");
    let same = vec![TaskRow { right: "yes".into(), completion: "yes".into(), ..TaskRow::default() }; 4];
    assert_eq!(spoil(&same, &Noise { wrong: 0.5, ..Noise::default() }, &[], 0).unwrap_err().code(), "tasks/noise");
}

#[test]
fn rows_become_columns() {
    let batch = task_rows(&rows(20)).unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    let wanted = ["id", "prompt", "completion", "task", "band", "difficulty", "truth.kind", "truth.completion"];
    assert_eq!(names, wanted);
    assert_eq!(task_pool(&rows(20)).unwrap().rows(), 20);
    assert_eq!(task_rows(&[]).unwrap().num_rows(), 0);
}

#[test]
fn facts_are_asked_in_every_way() {
    let book = fact_book(20, 6).unwrap();
    assert_eq!((book.taught.len(), book.before.len()), (100, 100));
    let of = |band: &str| book.probes.iter().filter(|row| row.band == band).collect::<Vec<_>>();
    assert_eq!(["memorise", "rephrase", "reverse", "unrelated"].map(|band| of(band).len()), [100, 200, 20, 100]);
    assert_eq!(of("derive").len(), 40);
    let taught: BTreeSet<&str> = book.taught.iter().map(|row| row.prompt.as_str()).collect();
    assert!(of("memorise").iter().all(|row| taught.contains(row.prompt.as_str())));
    for band in ["rephrase", "reverse", "derive", "unrelated"] {
        assert!(of(band).iter().all(|row| !taught.contains(row.prompt.as_str())), "{band} is not in the training text");
    }
    let mut answers = std::collections::BTreeMap::new();
    for row in book.probes.iter().chain(&book.taught).chain(&book.before) {
        let known = answers.entry(row.prompt.as_str()).or_insert(row.right.as_str());
        assert_eq!(*known, row.right, "one answer to {}", row.prompt);
    }
    for row in of("derive").iter().filter(|row| row.task == "fact-years") {
        let years: Vec<i64> = book
            .taught
            .iter()
            .filter(|fact| fact.task == "fact-year")
            .filter(|fact| {
                let name = fact.prompt.strip_prefix("When was ").unwrap().strip_suffix(" born? Answer: ").unwrap();
                row.prompt.split([' ', '?']).any(|word| word == name)
            })
            .map(|fact| fact.right.parse().unwrap())
            .collect();
        assert_eq!((years[0] - years[1]).abs().to_string(), row.right, "{}", row.prompt);
    }
    assert_eq!(fact_book(20, 6).unwrap(), book);
    assert_eq!(fact_book(1, 0).unwrap_err().code(), "tasks/facts");
    assert!(fact_book(384, 0).is_ok());
    assert_eq!(fact_book(385, 0).unwrap_err().code(), "tasks/facts");
}
