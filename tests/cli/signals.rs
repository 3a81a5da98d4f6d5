//! Commands that stay until they are asked to stop.

use crate::world::World;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Ended with the test, however that ends.
struct Staying {
    process: Child,
    lines: Receiver<String>,
}

impl Staying {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_linkspan"))
            .current_dir(folder)
            .env_clear()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(100)).unwrap()
    }

    /// Asks it to stop; its exit code, and what it said on standard error.
    fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.process.wait().unwrap().code(), said)
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn status_watch_looks_again_and_again_until_ctrl_c() {
    let world = World::new(20, "");
    assert_eq!(world.run(&["sync"]).code, 0);
    let once = world.run(&["status", "--json"]).json();
    let watch = Staying::start(world.folder.path(), &["status", "--watch", "--json"]);
    let look = || serde_json::from_str::<Value>(&watch.line()).unwrap();
    let first = look();
    assert_eq!(first["contactsSynced"], once["contactsSynced"]);
    assert!(first["contactsSynced"].as_u64().is_some_and(|people| people > 0), "{first}");
    assert_eq!(first["pending"], 0);
    // It looks at the file anew each time.
    let state = rusqlite::Connection::open(world.state()).unwrap();
    state.busy_timeout(Duration::from_secs(5)).unwrap();
    let gone = state.execute("DELETE FROM runs", []).unwrap();
    assert!(gone > 0);
    drop(state);
    // One may have been under way.
    let [_, later] = [look(), look()];
    assert_eq!((first["lastSync"].is_null(), later["lastSync"].is_null()), (false, true), "{later}");
    let (code, said) = watch.stop("-INT");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_demo_that_is_kept_stays_up_and_stops_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Staying::start(folder.path(), &["demo", "--contacts", "80", "--keep", "--json"]);
    let said: Vec<Value> = (0..2).map(|_| serde_json::from_str(&demo.line()).unwrap()).collect();
    let up = said.iter().find(|said| said["config"].is_string()).unwrap_or_else(|| panic!("{said:?}"));
    let config = up["config"].as_str().unwrap().to_owned();
    let status = crate::world::run(folder.path(), &["status", "--json", "-c", &config]);
    assert_eq!(status.code, 0, "{}", status.err);
    assert_eq!((status.json()["daemon"].as_bool(), status.json()["connected"].as_bool()), (Some(true), Some(true)));
    let (code, said) = demo.stop("-TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("a bug"), "{said}");
    assert!(!Path::new(&config).exists(), "what it made is gone with it");
}

#[test]
fn a_sandbox_listens_on_the_ports_that_it_is_given() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (one, other) = (free(), free());
    let ports = [&one, &other].map(|socket| socket.local_addr().unwrap().port().to_string());
    drop((one, other));
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["sandbox", "--contacts", "5", "--json", "--intercom-port", &ports[0], "--brevo-port", &ports[1]];
    let sandbox = Staying::start(folder.path(), &arguments);
    let said: Value = serde_json::from_str(&sandbox.line()).unwrap();
    for (vendor, port) in ["intercom", "brevo"].into_iter().zip(&ports) {
        let url = said[vendor]["base_url"].as_str().unwrap();
        assert!(url.contains(&format!("127.0.0.1:{port}")), "{vendor}: {url}");
        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    }
    // A port that somebody else has is said, and no guess is made.
    let taken = crate::world::run(folder.path(), &arguments);
    assert_eq!(taken.code, 1, "{}{}", taken.out, taken.err);
    assert!(taken.err.contains("serving the sandbox's Intercom"), "{}", taken.err);
    let (code, said) = sandbox.stop("-TERM");
    assert_eq!(code, Some(0), "{said}");
}
