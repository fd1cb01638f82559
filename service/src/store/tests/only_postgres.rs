//! What only a server can do to us: be away, say no, be shared.

use super::server::Server;
use super::{Desk, Kind, StoreOptions, add, code, event, open, with_session};
use crate::store::Table;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

#[test]
fn postgres_comes_and_goes() {
    let Some(mut server) = Server::start() else { return };
    goes_on_after_the_server_was_away(&mut server);
    many_servers_make_the_tables_at_once(&server);
    says_why_it_is_not_let_in(&server);
    reads_where_it_may_not_write(&server);
    waits_no_longer_than_it_should(&server);
    refuses_newer_tables(&server);
}

fn options() -> StoreOptions {
    let millis = Duration::from_millis;
    StoreOptions { statement_timeout: millis(300), patience: millis(200), ..StoreOptions::default() }
}

fn goes_on_after_the_server_was_away(server: &mut Server) {
    let desk = Desk { place: server.database("away") };
    let store = with_session(&desk);
    let last = add(&*store, 0, Kind::Propose, 1);
    server.stop();
    for _ in 0..3 {
        let error = store.append("s", last, &event(Kind::Feedback, 1), &[]).expect_err("it is away");
        assert_eq!(error.code(), "store/unavailable");
        let said = format!("{error} {} {error:?}", error.hint_text().unwrap_or_default());
        assert!(!said.contains("s3cret"), "{said}");
        assert_eq!(code(store.list(Table::Sessions)), "store/unavailable");
    }
    assert_eq!(code(open(&desk.place, &options()).map(|_| ())), "store/unavailable");
    server.run();
    let begun = Instant::now();
    while store.last("s").is_err() {
        assert!(begun.elapsed() < Duration::from_secs(8), "it is back, and was not found");
        sleep(Duration::from_millis(20));
    }
    assert_eq!(store.last("s").unwrap(), last);
    add(&*store, last, Kind::Feedback, 1);
}

fn many_servers_make_the_tables_at_once(server: &Server) {
    let desk = Desk { place: server.database("together") };
    scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| desk.open().tokens().unwrap().len())).collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() == 0));
    });
}

fn says_why_it_is_not_let_in(server: &Server) {
    for url in [server.url("keeper", "nowhere"), server.url("nobody", "postgres")] {
        let error = open(&url, &options()).map(|_| ()).expect_err("must be refused");
        assert_eq!(error.code(), "store/refused");
        assert!(!error.to_string().contains("s3cret"));
    }
    for url in ["postgres://u:s3cret@[", "postgres://u:s3cret@h/d?port=many", "postgres://u:s3cret@h/d?sslmode=require"]
    {
        let error = open(url, &options()).map(|_| ()).expect_err("must be refused");
        assert_eq!(error.code(), "store/url");
        assert!(!format!("{error:?}").contains("s3cret"));
    }
}

fn reads_where_it_may_not_write(server: &Server) {
    let desk = Desk { place: server.database("full") };
    let last = add(&*with_session(&desk), 0, Kind::Propose, 1);
    server.command("postgres", "ALTER DATABASE \"full\" SET default_transaction_read_only = on");
    let store = desk.open();
    assert_eq!(code(store.append("s", last, &event(Kind::Feedback, 1), &[])), "store/full");
    assert_eq!((store.last("s").unwrap(), store.events("s", 0, 9).unwrap().len()), (1, 1));
}

fn waits_no_longer_than_it_should(server: &Server) {
    let desk = Desk { place: server.database("slow") };
    drop(with_session(&desk));
    let store = open(&desk.place, &options()).unwrap();
    let mut other = server.client("slow");
    let mut holding = other.transaction().unwrap();
    holding.batch_execute("LOCK TABLE curate.events").unwrap();
    let begun = Instant::now();
    assert_eq!(code(store.append("s", 0, &event(Kind::Propose, 1), &[])), "store/unavailable");
    assert!(begun.elapsed() < Duration::from_secs(5));
    holding.rollback().unwrap();
    add(&*store, 0, Kind::Propose, 1);
}

fn refuses_newer_tables(server: &Server) {
    let desk = Desk { place: server.database("newer") };
    drop(desk.open());
    server.command("newer", "UPDATE curate.about SET version = 99");
    assert_eq!(code(open(&desk.place, &options()).map(|_| ())), "store/newer");
}
