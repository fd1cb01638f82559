//! Real connections: TLS, slow clients, too many of them, an orderly end.

use crate::support::House;
use curate_service::guard::{Door, Limits, Stopping};
use curate_service::tls::{Tls, TlsFiles};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

struct Live {
    address: SocketAddr,
    stopping: Stopping,
    now: Option<oneshot::Sender<()>>,
    served: JoinHandle<curate_api::Result<()>>,
    _house: House,
}

impl Live {
    fn start(limits: Limits, tls: Option<Tls>) -> Self {
        let house = House::new(&limits);
        let door = Door::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (address, stopping, routes) = (door.address(), house.guard.stopping().clone(), house.routes.clone());
        let (now, heard) = oneshot::channel();
        let end = stopping.clone();
        let served = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let now = async { drop(heard.await) };
            let result = runtime.block_on(door.serve(routes, tls, &limits, (end, now)));
            runtime.shutdown_background();
            result
        });
        Self { address, stopping, now: Some(now), served, _house: house }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    /// Ask for a path on a connection of its own; the first line of the answer, empty when there is none.
    fn get(&self, path: &str) -> String {
        first_line(&mut self.send(&get(path)))
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn first_line(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 4096];
    let len = stream.read(&mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..len]).lines().next().unwrap_or_default().to_owned()
}

/// Seconds until the server closes the connection.
fn closed_after(stream: &mut TcpStream) -> f64 {
    let start = Instant::now();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("still open"),
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    start.elapsed().as_secs_f64()
}

const OK: &str = "HTTP/1.1 200 OK";

#[test]
fn slow_heads_are_cut_off() {
    let live = Live::start(Limits { header_wait: Duration::from_secs(1), ..Limits::default() }, None);
    let mut silent = live.connect();
    let mut half = live.send("GET /open HTTP/1.1\r\nHost: local");
    let mut asked = live.send(&get("/open"));
    assert_eq!(first_line(&mut asked), OK);
    for stream in [&mut silent, &mut half] {
        let secs = closed_after(stream);
        assert!(secs < 3.0, "{secs}");
    }
    let mut dripping = live.connect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) && dripping.write_all(b"G").is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(start.elapsed() < Duration::from_secs(4), "a byte now and then does not keep a connection");
}

#[test]
fn slow_bodies_are_cut_off() {
    let live = Live::start(Limits { body_wait: Duration::from_millis(300), ..Limits::default() }, None);
    let head =
        "POST /feed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let start = Instant::now();
    assert_eq!(first_line(&mut live.send(head)), "HTTP/1.1 408 Request Timeout");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn connections_are_counted() {
    let live = Live::start(Limits { connections: 2, ..Limits::default() }, None);
    let (mut first, mut second) = (live.send(&get("/open")), live.send(&get("/open")));
    assert_eq!((first_line(&mut first), first_line(&mut second)), (OK.to_owned(), OK.to_owned()));
    assert!(closed_after(&mut live.connect()) < 2.0);
    drop(first);
    let again = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        live.get("/open") == OK
    });
    assert!(again, "a place that was given back is given on");
}

#[test]
fn what_is_under_way_is_finished() {
    let live = Live::start(Limits::default(), None);
    let (mut short, mut idle) = (live.send(&get("/short")), live.send(&get("/open")));
    assert_eq!(first_line(&mut idle), OK);
    std::thread::sleep(Duration::from_millis(100));
    live.stopping.begin();
    assert_eq!(first_line(&mut short), OK);
    assert!(closed_after(&mut idle) < 2.0, "idle connections end at once");
    let start = Instant::now();
    live.served.join().unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(TcpStream::connect(live.address).is_err());
}

#[test]
fn but_not_for_ever() {
    let live = Live::start(Limits { stop_wait: Duration::from_secs(1), ..Limits::default() }, None);
    let mut long = live.send(&get("/long"));
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    live.stopping.begin();
    assert_eq!(first_line(&mut long), "HTTP/1.1 503 Service Unavailable");
    live.served.join().unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_second_word_ends_at_once() {
    let mut live = Live::start(Limits::default(), None);
    let mut long = live.send(&get("/long"));
    std::thread::sleep(Duration::from_millis(100));
    live.stopping.begin();
    let start = Instant::now();
    live.now.take().unwrap().send(()).unwrap();
    live.served.join().unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1) && closed_after(&mut long) < 1.0);
}

#[test]
fn a_port_is_bound_once() {
    let door = Door::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let error = Door::bind(door.address()).map(|_| ()).unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("serve/port", 5));
    assert!(error.to_string().contains(&door.address().to_string()));
}

#[test]
fn tls_with_a_client_that_checks() {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.cert, cert.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let tls = Tls::read(&files, curate_service::guard::now()).unwrap();
    let live = Live::start(Limits { header_wait: Duration::from_secs(1), ..Limits::default() }, Some(tls));
    let trusted = ureq::tls::Certificate::from_pem(cert.pem().as_bytes()).unwrap();
    let roots = ureq::tls::RootCerts::new_with_certs(&[trusted]);
    let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
    let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
    let url = format!("https://localhost:{}/open", live.address.port());
    let text = agent.get(&url).call().unwrap().into_body().read_to_string().unwrap();
    assert_eq!(text, "open");
    let stranger: ureq::Agent = ureq::Agent::config_builder().build().into();
    assert!(stranger.get(&url).call().is_err(), "a client that does not know the certificate goes away");
    assert!(!live.get("/open").starts_with("HTTP/1.1 200"), "nothing is told in the clear");
    assert!(closed_after(&mut live.connect()) < 3.0, "a handshake that does not begin is cut off");
}
