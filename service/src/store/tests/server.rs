//! A real `PostgreSQL` server for the tests, on a free port and in a temporary folder.

use postgres::{Client, NoTls};
use std::fs::{Permissions, create_dir, set_permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The server; it ends when this is dropped.
pub(super) struct Server {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    running: Option<Child>,
}

impl Server {
    /// Start one, or say loudly that there is none. In CI that is a failure.
    pub(super) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            #[expect(clippy::disallowed_methods, reason = "whether a test may be skipped is no result")]
            let must = ["CI", "CURATE_CI"].iter().any(|name| std::env::var_os(name).is_some());
            assert!(!must, "PostgreSQL is not installed, and CI must not skip its tests");
            eprintln!("SKIPPED: PostgreSQL is not installed (Debian: apt-get install postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let mut server = Self { programs, folder, port, running: None };
        server.lay_out();
        server.run();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn lay_out(&self) {
        let all = |mode| Permissions::from_mode(mode);
        set_permissions(self.folder.path(), all(0o755)).expect("opened");
        create_dir(self.data()).expect("a folder");
        set_permissions(self.data(), all(0o777)).expect("opened");
        if is_root() {
            let owner = Command::new("chown").arg("postgres").arg(self.data()).status();
            assert!(owner.expect("chown").success());
        }
        let mut command = self.program("initdb");
        command.args(["--no-sync", "-A", "trust", "-U", "keeper", "-E", "UTF8", "-D"]).arg(self.data());
        assert!(command.stdout(Stdio::null()).status().expect("initdb").success());
    }

    /// A program of `PostgreSQL`, which root may not run.
    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        if !is_root() {
            return Command::new(path);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--pdeathsig", "INT"]).arg(path);
        command.current_dir("/");
        command
    }

    /// Start it, after it was stopped.
    pub(super) fn run(&mut self) {
        let mut command = self.program("postgres");
        command.args(["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        command.arg("-p").arg(self.port.to_string()).arg("-D").arg(self.data());
        self.running = Some(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("postgres"));
        let begun = Instant::now();
        while Client::connect(&self.url("keeper", "postgres"), NoTls).is_err() {
            assert!(begun.elapsed() < Duration::from_mins(1), "the server does not answer");
            sleep(Duration::from_millis(50));
        }
    }

    /// Stop it, as a machine does that goes down.
    pub(super) fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let id = running.id().to_string();
            let _ = Command::new("kill").args(["-QUIT", &id]).status();
            let _ = running.wait();
        }
    }

    pub(super) fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}:s3cret-word@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL of a new database.
    pub(super) fn database(&self, name: &str) -> String {
        self.command("postgres", &format!("CREATE DATABASE \"{name}\""));
        self.url("keeper", name)
    }

    /// A connection beside the store's.
    pub(super) fn client(&self, database: &str) -> Client {
        Client::connect(&self.url("keeper", database), NoTls).expect("a connection")
    }

    pub(super) fn command(&self, database: &str, sql: &str) {
        self.client(database).batch_execute(sql).expect("done");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.starts_with(b"0\n")
}

/// The folder of the programs: where Debian keeps the newest, or one on the path.
fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).filter(|bin| whole(bin)).collect();
    found.sort();
    let usual = ["/usr/local/bin", "/usr/bin", "/usr/local/pgsql/bin", "/opt/homebrew/bin"].map(PathBuf::from);
    found.pop().or_else(|| usual.into_iter().find(|bin| whole(bin)))
}

fn whole(bin: &Path) -> bool {
    bin.join("initdb").exists() && bin.join("postgres").exists()
}
