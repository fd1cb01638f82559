//! Tokens: drawn from the system's randomness, shown once, kept as SHA-256.

use crate::store::TokenRecord;
use curate_api::{Error, Result};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a token begins with, so that people and scanners recognise one.
const PREFIX: &str = "cur_";

/// What a caller may do; each scope includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Nothing secret: health, documentation, the dashboard's page.
    Open,
    /// Look.
    Read,
    /// Draw batches, send signals, steer, start jobs.
    Feed,
    /// Everything.
    Admin,
}

impl Scope {
    /// Its name in tokens and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Feed => "feed",
            Self::Admin => "admin",
        }
    }

    /// The scope of this name.
    ///
    /// # Errors
    /// `token/scope`.
    pub fn parse(name: &str) -> Result<Self> {
        [Self::Read, Self::Feed, Self::Admin].into_iter().find(|scope| scope.name() == name).ok_or_else(|| {
            Error::usage("token/scope", format!("there is no scope '{name}'")).hint("read, feed and admin are scopes")
        })
    }

    /// The widest scope of a token; `Open` when it names none that we know.
    #[must_use]
    pub fn of(token: &TokenRecord) -> Self {
        token.scopes.iter().filter_map(|name| Self::parse(name).ok()).max().unwrap_or(Self::Open)
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A new token and what is kept of it; it lasts so many seconds, or until it is removed.
///
/// # Errors
/// `token/name`, `token/scope`, `token/expires`, `token/random`.
pub fn issue(name: &str, scopes: &[String], lasts_secs: Option<f64>) -> Result<(String, TokenRecord)> {
    check_name(name)?;
    if scopes.is_empty() {
        return Err(Error::usage("token/scope", "a token needs a scope").hint("add --scope read, feed or admin"));
    }
    scopes.iter().try_for_each(|scope| Scope::parse(scope).map(drop))?;
    let token = draw()?;
    let created = now();
    let expires = lasts_secs.map(|secs| created + secs);
    let record = TokenRecord { name: name.to_owned(), hash: hash(&token), scopes: scopes.to_vec(), created, expires };
    Ok((token, record))
}

fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(plain) {
        return Ok(());
    }
    Err(Error::usage("token/name", format!("'{name}' cannot name a token")).hint("take up to 64 of A-Z a-z 0-9 . _ -"))
}

/// A length of time such as `30d`, `12h`, `90m` or `45s`, in seconds.
///
/// # Errors
/// `token/expires`.
pub fn lasts(text: &str) -> Result<f64> {
    let refuse = || {
        Error::usage("token/expires", format!("'{text}' is not a length of time"))
            .hint("write 30d, 12h, 90m or 45s, up to 36500d")
    };
    let unit = text.chars().last().ok_or_else(refuse)?;
    let factor = match unit {
        'd' => 86_400.0,
        'h' => 3600.0,
        'm' => 60.0,
        's' => 1.0,
        _ => return Err(refuse()),
    };
    let number: f64 = text[..text.len() - 1].parse().map_err(|_| refuse())?;
    let secs = number * factor;
    if secs > 0.0 && secs <= 36_500.0 * 86_400.0 { Ok(secs) } else { Err(refuse()) }
}

fn draw() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::io("token/random", format!("the system gives no random numbers: {e}")))?;
    Ok(format!("{PREFIX}{}", hex(&bytes)))
}

/// What is kept of a token.
fn hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether two texts are equal, in a time that does not tell where they differ.
fn same(left: &str, right: &str) -> bool {
    let differ = left.bytes().zip(right.bytes()).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    left.len() == right.len() && differ == 0
}

/// The record of this token, if there is one; all of them are looked at.
pub(super) fn find<'a>(token: &str, kept: &'a [TokenRecord]) -> Option<&'a TokenRecord> {
    let hash = hash(token);
    kept.iter().fold(None, |found, record| if same(&record.hash, &hash) { Some(record) } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_hash_alone() {
        let scopes = ["feed".to_owned()];
        let (token, record) = issue("ci", &scopes, Some(60.0)).unwrap();
        let (other, _) = issue("ci", &scopes, None).unwrap();
        assert!(token.starts_with("cur_") && token.len() == 68 && token != other);
        assert!(!format!("{record:?}").contains(&token[4..]));
        assert!((record.expires.unwrap() - record.created - 60.0).abs() < 1e-3);
        let kept = [TokenRecord { hash: "short".into(), ..TokenRecord::default() }, record];
        assert_eq!(find(&token, &kept).map(|r| r.name.as_str()), Some("ci"));
        assert!(find(&other, &kept).is_none() && find("", &kept).is_none());
        assert!(find(&kept[1].hash, &kept).is_none(), "the hash is not a token");
    }

    #[test]
    fn the_hash_is_sha_256() {
        // the test vector of FIPS 180-2
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    #[allow(clippy::float_cmp)] // reason: whole seconds
    fn names_scopes_and_times_are_checked() {
        let code = |name: &str, scope: &[&str]| {
            let scopes: Vec<String> = scope.iter().map(|s| (*s).to_owned()).collect();
            issue(name, &scopes, None).map_or_else(|e| e.code(), |_| "ok")
        };
        assert_eq!(code("a b", &["read"]), "token/name");
        assert_eq!(code("", &["read"]), "token/name");
        assert_eq!(code("a", &["open"]), "token/scope");
        assert_eq!(code("a", &[]), "token/scope");
        assert_eq!(code("a", &["read", "admin"]), "ok");
        assert_eq!(["30d", "1.5h", "90m", "45s"].map(|t| lasts(t).unwrap()), [2_592_000.0, 5400.0, 5400.0, 45.0]);
        for bad in ["", "d", "30", "-1d", "0s", "nand", "infd", "40000d", "1é"] {
            assert_eq!(lasts(bad).unwrap_err().code(), "token/expires", "{bad}");
        }
    }

    #[test]
    fn a_scope_includes_those_before_it() {
        assert!(Scope::Admin > Scope::Feed && Scope::Feed > Scope::Read && Scope::Read > Scope::Open);
        let of = |names: &[&str]| {
            Scope::of(&TokenRecord { scopes: names.iter().map(|s| (*s).into()).collect(), ..Default::default() })
        };
        assert_eq!((of(&["read", "feed"]), of(&["else"])), (Scope::Feed, Scope::Open));
    }
}
