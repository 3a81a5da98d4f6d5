//! The binary, and a world for it: both doubles over sockets, and a folder with a config for them.

use assert_cmd::Command;
use linkspan::doors::SystemClock;
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox};
use linkspan::sandbox::intercom::{IntercomOptions, IntercomSandbox};
use linkspan::sandbox::{Serving, serve};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The binary in a folder of its own, with an environment of its own.
pub fn linkspan(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
    command.current_dir(folder).env_clear().timeout(Duration::from_secs(120));
    command
}

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {:?}; {}", self.out, self.err))
    }
}

pub fn run(folder: &Path, arguments: &[&str]) -> Ran {
    let output = linkspan(folder).args(arguments).output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn folder_with(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    folder
}

pub const TOKEN: &str = "dG9rOnNlY3JldC10b2tlbi1vZi10aGUtdGVzdA==";

pub const KEY: &str = "xkeysib-secret-key-of-the-test";

/// Both doubles over sockets, on a runtime of their own, and a folder with a config for them.
pub struct World {
    pub runtime: tokio::runtime::Runtime,
    pub intercom: IntercomSandbox,
    pub brevo: BrevoSandbox,
    pub folder: TempDir,
    pub serving: (Serving, Serving),
}

impl World {
    pub fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state/linkspan.db")
    }

    /// All rows of all tables of the state.
    pub fn tables(&self) -> BTreeMap<String, Vec<String>> {
        let state = rusqlite::Connection::open(self.state()).unwrap();
        let mut names = state.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
        let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(names.len() > 10, "{names:?}");
        let rows = |name: &String| {
            let mut statement = state.prepare(&format!("SELECT * FROM {name}")).unwrap();
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                Ok((0..columns).map(|at| format!("{:?}", row.get_ref(at).unwrap())).collect::<Vec<_>>().join("|"))
            };
            statement.query_map([], row).unwrap().map(Result::unwrap).collect()
        };
        names.iter().map(|name| (name.clone(), rows(name))).collect()
    }

    /// The address of somebody in Intercom.
    pub fn somebody(&self) -> String {
        let ids = self.intercom.contact_ids();
        let emails: Vec<String> =
            ids.iter().filter_map(|id| Some(self.intercom.contact(id)?["email"].as_str()?.to_lowercase())).collect();
        let alone = |email: &&String| emails.iter().filter(|other| other == email).count() == 1;
        emails.iter().find(alone).unwrap().clone()
    }

    pub fn new(contacts: usize, more: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let intercom = IntercomSandbox::new(IntercomOptions {
            access_token: TOKEN.to_owned(),
            // Nobody waits in real time for a search to show who is new.
            index_lag: Duration::ZERO,
            ..IntercomOptions::default()
        });
        let brevo = BrevoSandbox::new(BrevoOptions {
            api_key: KEY.to_owned(),
            import_delay: Duration::from_millis(100),
            ..BrevoOptions::new(1, Arc::new(SystemClock))
        });
        intercom.world(3, contacts);
        intercom.webhooks_on(false);
        let serving = runtime
            .block_on(async { (serve(intercom.router(), 0).await.unwrap(), serve(brevo.router(), 0).await.unwrap()) });
        let config = format!(
            "connectors:\n  intercom:\n    base_url: {}\n    access_token: {TOKEN}\n    lists: {{all_users: Users}}\n  \
             brevo:\n    base_url: {}/v3\n    api_key: {KEY}\nlimits:\n  brevo:\n    import_threshold: 5\nserver:\n  \
             listen: 127.0.0.1:0\n{more}",
            serving.0.base_url(),
            serving.1.base_url(),
        );
        Self { runtime, intercom, brevo, folder: folder_with(&config), serving }
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(self.folder.path(), arguments)
    }

    pub fn writes(&self) -> usize {
        self.brevo.log().writes().len() + self.intercom.log().writes().len()
    }

    /// Every secret, address, name and number of this world.
    pub fn private(&self) -> Vec<String> {
        let ids = self.intercom.contact_ids();
        let contacts = ids.iter().filter_map(|id| self.intercom.contact(id));
        let of_contacts = contacts.flat_map(|contact| {
            let text = |key: &str| contact[key].as_str().map(|text| text.trim().to_owned()).unwrap_or_default();
            let digits: String = text("phone").chars().filter(char::is_ascii_digit).collect();
            // A single short word may be part of any other.
            let name = if text("name").contains(' ') { text("name") } else { String::new() };
            [text("email"), name, text("phone"), digits]
        });
        let secrets = [TOKEN, KEY, self.intercom.client_secret()].map(str::to_owned);
        of_contacts.chain(secrets).filter(|text| text.len() > 5).collect()
    }

    pub fn assert_tells_nothing(&self, ran: &Ran) {
        for text in self.private() {
            assert!(!ran.out.contains(&text), "{text} was printed");
            assert!(!ran.err.contains(&text), "{text} was printed to standard error");
        }
    }
}

/// Without white space that nobody sees.
pub fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A daemon in the background. Its log is read as it is written.
#[cfg(unix)]
pub struct Background {
    pub process: std::process::Child,
    pub lines: std::sync::mpsc::Receiver<String>,
    pub log: String,
}

#[cfg(unix)]
impl Background {
    pub fn start(folder: &Path) -> Self {
        use std::io::{BufRead as _, BufReader};
        let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_linkspan"))
            .current_dir(folder)
            .env_clear()
            .arg("run")
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines, log: String::new() }
    }

    /// Waits for a line of the log.
    pub fn says(&mut self, words: &str) {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => {
                    let found = line.contains(words);
                    self.log += &line;
                    self.log.push('\n');
                    if found {
                        return;
                    }
                }
                Err(error) => panic!("never said {words:?} ({error}):\n{}", self.log),
            }
        }
    }

    pub fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

#[cfg(unix)]
impl Drop for Background {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The config with Intercom's client secret, so that webhooks are received.
#[cfg(unix)]
pub fn with_secret(world: &World) -> String {
    let config = std::fs::read_to_string(world.folder.path().join("config.yaml")).unwrap();
    let secret = world.intercom.client_secret();
    config.replace("    lists:", &format!("    client_secret: {secret}\n    log_webhooks: true\n    lists:"))
}
