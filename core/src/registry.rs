//! Algorithms by name: parameters declared once as a struct, entered in a table by one line of [`register!`].

use crate::{Error, Result};
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What `curate methods NAME` says about an algorithm besides its parameters.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Info {
    /// Name on the command line, lower-case with dashes.
    pub name: &'static str,
    /// One sentence: what it chooses and when to take it.
    pub summary: &'static str,
    /// Paper and section, or `own work`.
    pub source: &'static str,
    /// Cost in n (rows), d (dimension), k (picks or clusters), time and memory.
    pub cost: &'static str,
}

/// An algorithm: its parameters are its fields, with defaults, ranges and docs.
pub trait Algorithm: Default + Serialize + DeserializeOwned + JsonSchema {
    /// What to say about it.
    const INFO: Info;

    /// Checks across parameters that ranges cannot express.
    ///
    /// # Errors
    /// `params/*`.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// One line of a table of algorithms.
pub struct Entry<T: ?Sized> {
    /// What to say about it.
    pub info: Info,
    /// JSON schema of the parameters.
    pub schema: fn() -> Schema,
    /// All parameters at their defaults.
    pub defaults: fn() -> Value,
    /// Make it from checked parameters.
    #[doc(hidden)]
    pub make: fn(Value) -> Result<Box<T>>,
}

impl<T: ?Sized> Entry<T> {
    /// Build the algorithm from parameters, checked against the schema: unknown names and values out of range are refused.
    ///
    /// # Errors
    /// `params/unknown`, `params/range`, `params/type`.
    pub fn build(&self, params: &Map<String, Value>) -> Result<Box<T>> {
        for (key, value) in params {
            check_param(self.info.name, &params_table(&(self.schema)()), key, value)?;
        }
        (self.make)(Value::Object(params.clone()))
    }
}

/// The entry of this name.
///
/// # Errors
/// `method/unknown` with the nearest name and the whole list.
pub fn find<'a, T: ?Sized>(table: &'a [Entry<T>], name: &str, what: &str) -> Result<&'a Entry<T>> {
    table.iter().find(|entry| entry.info.name == name).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|e| e.info.name).collect();
        Error::usage("method/unknown", format!("there is no {what} '{name}'")).hint(suggest(name, &names))
    })
}

/// Deserialise checked parameters; used by [`register!`].
///
/// # Errors
/// `params/type` with serde's own words.
#[doc(hidden)]
pub fn make<A: Algorithm>(params: Value) -> Result<A> {
    let algorithm: A = serde_json::from_value(params).map_err(|e| {
        Error::usage("params/type", format!("{}: {e}", A::INFO.name))
            .hint(format!("see 'curate methods {}'", A::INFO.name))
    })?;
    algorithm.check()?;
    Ok(algorithm)
}

/// Declares the modules of a folder of algorithms and their table:
/// `register! { dyn Selector, SELECTORS: random::Random, top_score::TopScore }`. With `via start` after the table's name what
/// enters the table is `start(parameters)` instead of the parameters: for algorithms that keep a state beside them.
#[macro_export]
macro_rules! register {
    ($(#[$meta:meta])* dyn $Trait:path, $TABLE:ident: $($module:ident :: $Type:ident),* $(,)?) => {
        $crate::register! { $(#[$meta])* dyn $Trait, $TABLE via std::convert::identity: $($module::$Type),* }
    };
    ($(#[$meta:meta])* dyn $Trait:path, $TABLE:ident via $start:path: $($module:ident :: $Type:ident),* $(,)?) => {
        $(pub mod $module;)*
        $(#[$meta])*
        pub static $TABLE: &[$crate::Entry<dyn $Trait>] = &[$($crate::Entry {
            info: <$module::$Type as $crate::Algorithm>::INFO,
            schema: || $crate::schemars::schema_for!($module::$Type),
            defaults: || $crate::default_params::<$module::$Type>(),
            make: |params| Ok(Box::new($start($crate::make::<$module::$Type>(params)?))),
        }),*];
    };
}

/// All parameters at their defaults; used by [`register!`].
#[doc(hidden)]
#[must_use]
pub fn default_params<A: Algorithm>() -> Value {
    serde_json::to_value(A::default()).unwrap_or_default()
}

/// One parameter as documentation.
#[derive(Clone, Debug, Serialize)]
pub struct ParamDoc {
    /// Name, as in `--set name=value`.
    pub name: String,
    /// Type in words: `integer`, `number`, `text`, `true or false`, or the choices.
    pub kind: String,
    /// Default value.
    pub default: Value,
    /// Least value, if bounded.
    pub min: Option<f64>,
    /// Greatest value, if bounded.
    pub max: Option<f64>,
    /// Allowed words with their meaning, if it is a choice.
    pub choices: Vec<(String, String)>,
    /// Whether it may be left out (`auto`).
    pub optional: bool,
    /// What it does.
    pub doc: String,
}

/// The parameters declared by a schema, in order of declaration.
#[must_use]
pub fn params_table(schema: &Schema) -> Vec<ParamDoc> {
    let root = schema.as_value();
    let properties = root.get("properties").and_then(Value::as_object);
    properties.map(|p| p.iter().map(|(name, property)| param_doc(root, name, property)).collect()).unwrap_or_default()
}

fn param_doc(root: &Value, name: &str, property: &Value) -> ParamDoc {
    let (body, optional) = resolve(root, property);
    let number = |key: &str| body.get(key).or_else(|| property.get(key)).and_then(Value::as_f64);
    let choices = choices(body);
    let kind = if choices.is_empty() {
        type_word(body)
    } else {
        choices.iter().map(|c| c.0.as_str()).collect::<Vec<_>>().join(" | ")
    };
    let text = |v: &Value| v.get("description").and_then(Value::as_str).map(str::to_owned);
    ParamDoc {
        name: name.to_owned(),
        kind,
        default: property.get("default").cloned().unwrap_or(Value::Null),
        min: number("minimum").or_else(|| number("exclusiveMinimum")),
        max: number("maximum"),
        choices,
        optional,
        doc: text(property).or_else(|| text(body)).unwrap_or_default(),
    }
}

/// Follow `$ref` and `anyOf [T, null]`; says also whether null is allowed.
fn resolve<'a>(root: &'a Value, property: &'a Value) -> (&'a Value, bool) {
    if let Some(target) = property.get("$ref").and_then(Value::as_str) {
        let found = target.strip_prefix('#').and_then(|path| root.pointer(path));
        return (found.unwrap_or(property), false);
    }
    if let Some(options) = property.get("anyOf").and_then(Value::as_array) {
        let is_null = |v: &&Value| v.get("type").and_then(Value::as_str) == Some("null");
        let nullable = options.iter().any(|v| is_null(&v));
        if let Some(body) = options.iter().find(|v| !is_null(v)) {
            return (resolve(root, body).0, nullable);
        }
    }
    let nullable =
        property.get("type").and_then(Value::as_array).is_some_and(|types| types.iter().any(|t| t == "null"));
    (property, nullable)
}

fn choices(body: &Value) -> Vec<(String, String)> {
    let word = |v: &Value| v.as_str().map(str::to_owned);
    let documented = body.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let mut found: Vec<_> = documented
        .flat_map(|option| {
            let doc = option.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
            let listed = option.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(word);
            option
                .get("const")
                .and_then(word)
                .into_iter()
                .chain(listed)
                .map(move |name| (name, doc.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    found.extend(
        body.get("enum")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(word)
            .map(|name| (name, String::new())),
    );
    found
}

fn type_word(body: &Value) -> String {
    let first = match body.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|n| *n != "null"),
        _ => None,
    };
    match first {
        Some("boolean") => "true or false".to_owned(),
        Some("string") => "text".to_owned(),
        Some(other) => other.to_owned(),
        None => "value".to_owned(),
    }
}

fn check_param(method: &str, table: &[ParamDoc], key: &str, value: &Value) -> Result<()> {
    let Some(doc) = table.iter().find(|d| d.name == key) else {
        let names: Vec<&str> = table.iter().map(|d| d.name.as_str()).collect();
        return Err(
            Error::usage("params/unknown", format!("{method} has no parameter '{key}'")).hint(suggest(key, &names))
        );
    };
    if let (Some(number), min, max) = (value.as_f64(), doc.min, doc.max)
        && (min.is_some_and(|m| number < m) || max.is_some_and(|m| number > m))
    {
        let bound = |b: Option<f64>| b.map_or("...".to_owned(), |b| b.to_string());
        return Err(Error::usage(
            "params/range",
            format!("{method}: {key} = {number} is outside {} to {}", bound(min), bound(max)),
        )
        .hint(doc.doc.clone()));
    }
    if let Some(word) = value.as_str().filter(|w| !doc.choices.is_empty() && !doc.choices.iter().any(|c| c.0 == **w)) {
        let names: Vec<&str> = doc.choices.iter().map(|c| c.0.as_str()).collect();
        return Err(
            Error::usage("params/choice", format!("{method}: {key} cannot be '{word}'")).hint(suggest(word, &names))
        );
    }
    Ok(())
}

impl Error {
    /// The hint that names the nearest of the known names, where one is near, and all of them.
    #[must_use]
    pub fn did_you_mean(self, given: &str, names: &[&str]) -> Self {
        self.hint(suggest(given, names))
    }
}

/// A hint with the nearest name first.
fn suggest(given: &str, names: &[&str]) -> String {
    let list = if names.is_empty() { "it takes none".to_owned() } else { format!("known: {}", names.join(", ")) };
    nearest(given, names).map_or_else(|| list.clone(), |name| format!("did you mean '{name}'? {list}"))
}

/// The name that was probably meant: a few letters away, or begun and not ended.
fn nearest<'a>(given: &str, names: &[&'a str]) -> Option<&'a str> {
    let letters = |text: &str| text.chars().count();
    let near = |(distance, name): &(usize, &str)| {
        *distance <= 3.min(letters(name) / 2).max(1) && *distance < letters(given).max(letters(name))
    };
    let by_letters = names.iter().map(|name| (edit_distance(given, name), *name)).min().filter(near);
    let begun = || names.iter().copied().find(|name| letters(given) >= 3 && name.starts_with(given));
    by_letters.map(|(_, name)| name).or_else(begun)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    trait Named: Send {
        fn k(&self) -> Option<usize>;
    }

    mod demo {
        use super::*;

        /// How to draw.
        #[derive(Default, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub(crate) enum Draw {
            /// Best first.
            #[default]
            Greedy,
            /// At random.
            SoftMax,
        }

        #[derive(Default, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct Demo {
            /// Number of groups.
            #[schemars(range(min = 1, max = 10))]
            pub k: Option<usize>,
            /// The draw.
            pub draw: Draw,
        }

        impl Algorithm for Demo {
            const INFO: Info = Info { name: "demo", summary: "s", source: "own work", cost: "n" };
        }

        impl Named for Demo {
            fn k(&self) -> Option<usize> {
                self.k
            }
        }
    }

    static TABLE: &[Entry<dyn Named>] = &[Entry {
        info: demo::Demo::INFO,
        schema: || schemars::schema_for!(demo::Demo),
        defaults: default_params::<demo::Demo>,
        make: |params| Ok(Box::new(make::<demo::Demo>(params)?)),
    }];

    fn build(params: &Value) -> Result<Box<dyn Named>> {
        find(TABLE, "demo", "method")?.build(params.as_object().unwrap())
    }

    #[test]
    fn builds_and_refuses() {
        assert_eq!(build(&json!({"k": 3, "draw": "soft-max"})).unwrap().k(), Some(3));
        let code = |params: Value| build(&params).err().map(|e| e.code());
        assert_eq!(code(json!({"k": 11})), Some("params/range"));
        assert_eq!(code(json!({"kk": 1})), Some("params/unknown"));
        assert_eq!(code(json!({"draw": "greed"})), Some("params/choice"));
        assert_eq!(code(json!({"k": "three"})), Some("params/type"));
        assert!(find(TABLE, "dmo", "method").err().unwrap().hint_text().unwrap().contains("did you mean 'demo'"));
    }

    #[test]
    fn the_name_that_was_meant_is_named() {
        let names = ["k", "kmeans-quality", "k-center", "sharegpt", "facility-location"];
        let meant = |given| nearest(given, &names);
        assert_eq!(meant("kk"), Some("k"));
        assert_eq!(meant("kmean-quality"), Some("kmeans-quality"));
        assert_eq!(meant("kmean"), Some("kmeans-quality"));
        assert_eq!(meant("facility"), Some("facility-location"));
        assert_eq!(meant("sharegtp"), Some("sharegpt"));
        assert_eq!((meant("x"), meant(""), meant("abacus")), (None, None, None));
        assert_eq!(suggest("x", &[]), "it takes none");
    }

    #[test]
    fn documents_every_parameter() {
        let table = params_table(&(TABLE[0].schema)());
        let names: Vec<&str> = table.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["k", "draw"]);
        assert_eq!((table[0].min, table[0].max, table[0].optional), (Some(1.0), Some(10.0), true));
        assert_eq!(table[1].choices[0], ("greedy".to_owned(), "Best first.".to_owned()));
        assert!(table.iter().all(|p| !p.doc.is_empty()));
    }
}
