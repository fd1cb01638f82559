//! Who calls: the bearer token of a request, looked up among those the store keeps.

use super::token::{Scope, find, now};
use crate::store::{Store, TokenRecord};
use axum::http::{HeaderMap, header};
use curate_api::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long tokens are taken from memory: a removed one works at most so long.
const FRESH: Duration = Duration::from_secs(2);
/// How long they are when the store does not answer.
const STALE: Duration = Duration::from_mins(1);

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token; none where no token is needed.
    pub token: Option<Arc<str>>,
    /// What the caller may do.
    pub scope: Scope,
}

/// The tokens, read from the store now and then.
pub struct Keyring {
    store: Arc<dyn Store>,
    open: bool,
    kept: Mutex<Option<(Instant, Arc<Vec<TokenRecord>>)>>,
}

impl Keyring {
    /// Tokens of this store; `open` lets everybody in while there are none.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, open: bool) -> Self {
        Self { store, open, kept: Mutex::new(None) }
    }

    /// Who sent these headers.
    ///
    /// # Errors
    /// `auth/missing`, `auth/invalid`, `auth/expired`, `store/*`.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller> {
        let tokens = self.tokens().await?;
        if self.open && tokens.is_empty() {
            return Ok(Caller { token: None, scope: Scope::Admin });
        }
        let token = find(bearer(headers)?, &tokens).ok_or_else(|| {
            Error::usage("auth/invalid", "this token is not known")
                .hint("ask for a new one: 'curate serve token add NAME --scope feed'")
        })?;
        if token.expires.is_some_and(|end| end <= now()) {
            return Err(Error::usage("auth/expired", format!("the token '{}' has expired", token.name))
                .hint("ask for a new one: 'curate serve token add NAME --scope feed'"));
        }
        Ok(Caller { token: Some(token.name.as_str().into()), scope: Scope::of(token) })
    }

    async fn tokens(&self) -> Result<Arc<Vec<TokenRecord>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, tokens)) = &kept
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(tokens));
        }
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || store.tokens()).await;
        let read = read.unwrap_or_else(|_| Err(Error::io("store/unavailable", "reading the tokens failed")));
        match (read, kept) {
            (Ok(tokens), _) => {
                let tokens = Arc::new(tokens);
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = Some((Instant::now(), Arc::clone(&tokens)));
                Ok(tokens)
            }
            (Err(_), Some((at, tokens))) if at.elapsed() < STALE => Ok(tokens),
            (Err(error), _) => Err(error),
        }
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|text| text.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    token.map(|(_, token)| token.trim()).filter(|token| !token.is_empty()).ok_or_else(|| {
        Error::usage("auth/missing", "this call needs a token").hint(
            "send the header 'Authorization: Bearer cur_...'; 'curate serve token add NAME --scope feed' makes one",
        )
    })
}

/// Refuse a caller whose scope is too narrow.
///
/// # Errors
/// `auth/scope`.
pub(super) fn demand(caller: &Caller, scope: Scope) -> Result<()> {
    if caller.scope >= scope {
        return Ok(());
    }
    let name = caller.token.as_deref().unwrap_or("none");
    let (has, needs) = (caller.scope.name(), scope.name());
    Err(Error::usage("auth/scope", format!("the token '{name}' may {has}, and this call needs {needs}"))
        .hint("use a token of a wider scope"))
}
