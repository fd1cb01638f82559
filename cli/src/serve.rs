//! `curate serve`: the service, and the tokens it knows its clients by.

use crate::commands::{print, to_json, variable};
use crate::serve_args::{ServeAction, ServeArgs, TokenAction};
use curate_api::{Error, Host, Result};
use curate_service::Server;
use curate_service::guard::{issue, lasts, now};
use curate_service::meter::start_log;
use curate_service::store::{self, Store, StoreOptions, TokenRecord};
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Run the command.
pub(crate) fn run(args: &ServeArgs, host: &Host, as_json: bool) -> Result<ExitCode> {
    let data = data(args.place.data.as_ref())?;
    match &args.action {
        None => serve(args, &data, host, as_json),
        Some(ServeAction::Token(token)) => {
            let place = args.place.database.clone().unwrap_or_else(|| data.to_string_lossy().into_owned());
            std::fs::create_dir_all(&data)?;
            let store = store::open(&place, &StoreOptions { beside: true, ..StoreOptions::default() })?;
            tokens(&token.action, store.as_ref(), as_json)
        }
        Some(ServeAction::Openapi) => {
            print(curate_service::openapi::text().trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn data(given: Option<&PathBuf>) -> Result<PathBuf> {
    let base = || {
        let named = variable("XDG_DATA_HOME").map(PathBuf::from);
        named.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".local/share")))
    };
    given.cloned().or_else(|| base().map(|base| base.join("curate"))).ok_or_else(|| {
        Error::usage("serve/data", "there is no home folder for the server's data")
            .hint("name one with --data or CURATE_DATA")
    })
}

/// Ask the C library for few memory arenas. A server has many threads that each work now and then; with an arena for each of them it
/// keeps about twice the memory it uses. The library reads this once, when a process begins, so this one begins again.
#[cfg(target_os = "linux")]
fn few_arenas() {
    use std::os::unix::process::CommandExt;
    const NAME: &str = "MALLOC_ARENA_MAX";
    if variable(NAME).is_some() {
        return;
    }
    if let Ok(own) = std::env::current_exe() {
        // Where the system refuses, the server needs more memory, nothing else.
        let _ = std::process::Command::new(own).args(std::env::args_os().skip(1)).env(NAME, "2").exec();
    }
}

#[cfg(not(target_os = "linux"))]
fn few_arenas() {}

fn serve(args: &ServeArgs, data: &Path, host: &Host, as_json: bool) -> Result<ExitCode> {
    few_arenas();
    start_log(args.log.into(), &args.log_level)?;
    let server = Server::open(&args.options(data, host)?)?;
    let scheme = if server.encrypted() { "https" } else { "http" };
    let url = format!("{scheme}://{}", server.address());
    print(&if as_json { json!({"url": url, "data": data}).to_string() } else { format!("curate serves {url}") });
    if std::io::stderr().is_terminal() {
        eprintln!("{}", welcome(&url, data));
    }
    let stopping = server.stopping();
    let cut_short = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&cut_short);
    server.run(async move {
        stopping.interrupts().await;
        seen.store(true, Ordering::Relaxed);
    })?;
    Ok(if cut_short.load(Ordering::Relaxed) { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// How to begin.
fn welcome(url: &str, data: &Path) -> String {
    format!(
        "\n  dashboard   {url}/\n  calls       {url}/docs\n  data        {}\n\n  A first session:\n    \
         curl {url}/v1/sessions -H 'Content-Type: application/json' \\\n      \
         -d '{{\"id\": \"first\", \"batch\": 4, \"plan\": {{\"input\": {{\"paths\": [\"data.jsonl\"]}}, \"select\": {{\"budget\": \"5%\"}}}}}}'\n    \
         curl {url}/v1/sessions/first/propose -H 'Content-Type: application/json' -d '{{\"step\": 1}}'\n\n  \
         Ctrl-C ends the server when requests under way are answered, a second one at once.\n",
        data.display()
    )
}

fn tokens(action: &TokenAction, store: &dyn Store, as_json: bool) -> Result<ExitCode> {
    match action {
        TokenAction::Add { name, scope, expires } => add(store, (name, scope, expires.as_deref()), as_json),
        TokenAction::List => list(&store.tokens()?, as_json),
        TokenAction::Remove { name } => {
            if !store.remove_token(name)? {
                return Err(Error::usage("token/unknown", format!("there is no token '{name}'"))
                    .hint("'curate serve token list' names all"));
            }
            eprintln!("removed the token '{name}'");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn add(store: &dyn Store, (name, scopes, expires): (&str, &[String], Option<&str>), as_json: bool) -> Result<ExitCode> {
    let (token, record) = issue(name, scopes, expires.map(lasts).transpose()?)?;
    if !store.add_token(&record)? {
        return Err(Error::usage("token/exists", format!("there is a token '{name}' already"))
            .hint("take another name, or remove it first: curate serve token remove NAME"));
    }
    if as_json {
        print(&json!({"name": name, "token": token, "scopes": scopes, "expires": record.expires}).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("this is shown once; clients send it as 'Authorization: Bearer cur_...'");
    print(&token);
    Ok(ExitCode::SUCCESS)
}

fn list(tokens: &[TokenRecord], as_json: bool) -> Result<ExitCode> {
    if as_json {
        let shown =
            |t: &TokenRecord| json!({"name": t.name, "scopes": t.scopes, "created": t.created, "expires": t.expires});
        print(&to_json(&tokens.iter().map(shown).collect::<Vec<_>>())?);
        return Ok(ExitCode::SUCCESS);
    }
    let width = tokens.iter().map(|token| token.name.len()).max().unwrap_or_default();
    for token in tokens {
        let end = match token.expires.map(|end| end - now()) {
            None => "works without end".to_owned(),
            Some(left) if left <= 0.0 => "expired".to_owned(),
            Some(left) => format!("works for {}", span(left)),
        };
        let age = span(now() - token.created);
        print(&format!("{:width$}  {:12}  made {age} ago, {end}", token.name, token.scopes.join(",")));
    }
    Ok(ExitCode::SUCCESS)
}

/// A length of time in its largest fitting unit.
fn span(secs: f64) -> String {
    let units = [(86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")];
    let (size, name) = units.into_iter().find(|(size, _)| secs >= 2.0 * size).unwrap_or((1.0, "seconds"));
    format!("{:.0} {name}", (secs / size).max(0.0))
}
