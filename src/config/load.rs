//! Reads the files, runs the steps, and builds the typed config from what they found.

use super::document::{self, MAX_BYTES, Node, Place};
use super::errors::{self, ConfigErrors, Diagnostic, Findings, SourceFile};
use super::interpolate::{Env, interpolate};
use super::keys::{self, Leaf, Walk};
use super::types::{
    Archived, BrevoConfig, BrevoLimits, BrevoWebhooks, Config, ConsentConfig, ConsentDirection, ContactsConfig,
    EventsConfig, Every, IntercomConfig, IntercomLimits, LimitsConfig, ListRef, ListsConfig, LogLevel, OnDelete, Plan,
    Region, ResourceSchedule, SafetyConfig, ScheduleConfig, ServerConfig, StateConfig, SyncSwitches, WebhookAuth,
    WithoutEmail,
};
use crate::mapping::{
    self, Defaults, Direction, Expression, ListName, ListRule, Mapping, MappingError, Membership, OnConflict, Options,
};
use crate::model::{Role, SideName, Sides};
use secrecy::SecretString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

const DEFAULT_API_VERSION: &str = "2.11";
const BREVO_HOST: &str = "api.brevo.com";

impl Config {
    /// Reads a config file, and the mapping files it names.
    pub fn load(path: &Path, env: &Env) -> Result<Self, ConfigErrors> {
        let text = read(path).map_err(|error| {
            let name = path.display().to_string();
            ConfigErrors::new(vec![cannot_be_read(&name, &error)])
        })?;
        Self::parse_with(&text, path, env, &read)
    }

    /// Reads a config from text. `source` names it in messages, and relative paths start at its folder. Mapping files
    /// are not read: a config that names any is refused.
    pub fn parse(text: &str, source: &Path, env: &Env) -> Result<Self, ConfigErrors> {
        let nothing = |_: &Path| Err(io::Error::new(io::ErrorKind::Unsupported, "files cannot be read from here"));
        Self::parse_with(text, source, env, &nothing)
    }

    /// The same with a way to read mapping files.
    pub fn parse_with(
        text: &str,
        source: &Path,
        env: &Env,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, ConfigErrors> {
        let mut loader = Loader { env, folder: folder_of(source), findings: Findings::default(), files: Vec::new() };
        let config = loader.config(text, source, read);
        let missing = config.as_ref().map(|(_, missing)| missing.clone()).unwrap_or_default();
        let (errors, warnings) = loader.findings.finish(&loader.files);
        match config {
            Some((mut config, _)) if errors.is_empty() => {
                config.warnings = warnings;
                config.missing_credentials = missing;
                Ok(config)
            }
            _ => Err(ConfigErrors::new(errors)),
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_BYTES as u64 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
    }
    String::from_utf8(std::fs::read(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..at).unwrap_or_default());
        let (line, column) = errors::line_and_column(&before, before.len());
        let wide = error.as_bytes().starts_with(&[0xFF, 0xFE]) || error.as_bytes().starts_with(&[0xFE, 0xFF]);
        io::Error::new(io::ErrorKind::InvalidData, NotText { line, column, wide })
    })
}

/// Bytes that are no text in UTF-8.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it is not text in UTF-8{} (line {line}, column {column})", if *.wide { ", but in UTF-16" } else { "" })]
struct NotText {
    line: usize,
    column: usize,
    /// It begins as UTF-16 does.
    wide: bool,
}

fn cannot_be_read(name: &str, error: &io::Error) -> Diagnostic {
    let diagnostic = Diagnostic::about_file(name, format!("cannot be read: {error}"));
    let not_text = error.get_ref().and_then(|inner| inner.downcast_ref::<NotText>());
    match (not_text, error.kind()) {
        (Some(NotText { line, column, .. }), _) => {
            diagnostic.at(*line, *column).with_help("Save it as UTF-8, as editors offer when saving.")
        }
        (None, io::ErrorKind::FileTooLarge) => diagnostic
            .with_help("A config has a few kilobytes: is it the right file? Mapping files can stand beside it."),
        (None, io::ErrorKind::PermissionDenied) => {
            diagnostic.with_help("Let the user that runs linkspan read it (chmod, chown).")
        }
        _ => diagnostic.with_help("Name another file with `-c`, or copy config.example.yaml to begin with."),
    }
}

fn folder_of(source: &Path) -> PathBuf {
    source.parent().map(Path::to_path_buf).unwrap_or_default()
}

struct Loader<'a> {
    env: &'a Env,
    folder: PathBuf,
    findings: Findings,
    files: Vec<SourceFile>,
}

impl Loader<'_> {
    /// Takes a file in: its number, and its tree with the environment filled in.
    fn take_in(&mut self, name: &Path, text: &str) -> Option<Node> {
        let file = self.files.len();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.files.push(SourceFile { name: name.display().to_string(), text: text.to_owned() });
        let mut node = document::parse(file, text, &mut self.findings)?;
        interpolate(&mut node, text, self.env, &mut self.findings);
        Some(node)
    }

    /// The config and the credentials it lacks. What is wrong is in the findings; with an error in them, the config is
    /// only good for finding more.
    fn config(
        &mut self,
        text: &str,
        source: &Path,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Option<(Config, Vec<Diagnostic>)> {
        let root = self.take_in(source, text)?;
        let mut walk = keys::walk(&root, &mut self.findings);
        let mut trees = vec![root];
        // Two mappings: of contacts, and of company objects.
        let (of_companies, of_contacts): (Vec<_>, Vec<_>) = std::mem::take(&mut walk.sections)
            .into_iter()
            .partition(|section| section.path.first().is_some_and(|first| first == "companies"));
        let of_companies: Vec<mapping::Section> = of_companies
            .into_iter()
            .map(|section| mapping::Section { file: 0, path: section.path, value: section.value })
            .collect();
        let mut sections: Vec<mapping::Section> = of_contacts
            .into_iter()
            .map(|section| mapping::Section { file: 0, path: section.path, value: section.value })
            .collect();
        for (written, place) in std::mem::take(&mut walk.files) {
            let path = self.folder.join(&written);
            let file = self.files.len();
            match read(&path) {
                Ok(text) => {
                    // A file that is not YAML has been reported; the others are still read.
                    let place = Place { file, start: 0, end: 0 };
                    let tree = self.take_in(&path, &text);
                    if let Some(tree) = &tree {
                        sections.push(mapping::Section { file, path: Vec::new(), value: tree.to_value() });
                    }
                    trees.push(tree.unwrap_or_else(|| Node::scalar(place, String::new(), true)));
                }
                Err(error) => {
                    self.findings
                        .error(place, format!("the mapping file `{written}` cannot be read"))
                        .label(error.to_string())
                        .help(format!("It was looked for at {}.", path.display()));
                }
            }
        }
        let mut build = Build { walk, env: self.env, findings: &mut self.findings, files: &self.files };
        let contacts = build.contacts();
        let consent = build.consent();
        let intercom = build.intercom();
        build.check_filter(&contacts, intercom.sync);
        let defaults = intercom.defaults;
        let options = Options {
            default_phone_region: contacts.default_phone_region.clone(),
            api_version: intercom.api_version.clone(),
            defaults,
            of_companies: false,
        };
        let mapping = build.mapping(&sections, &options, &intercom.lists, &trees);
        let companies = build.companies(&of_companies, options, intercom.sync.companies, &trees);
        let config = Config {
            source: source.to_path_buf(),
            brevo: build.brevo(),
            server: build.server(),
            state: build.state(&self.folder),
            schedule: build.schedule(),
            limits: build.limits(),
            safety: build.safety(),
            events: build.events(),
            contacts,
            consent,
            intercom,
            mapping,
            companies,
            company_filter: build.company_filter(),
            conversation_filter: build.condition("conversations.filter", Expression::compile_of_conversation),
            warnings: Vec::new(),
            missing_credentials: Vec::new(),
        };
        #[cfg(test)]
        assert!(build.walk.leaves.is_empty(), "keys that are read but go nowhere: {:?}", build.walk.leaves.keys());
        let missing = missing_credentials(&config, &source.display().to_string());
        Some((config, missing))
    }
}

fn missing_credentials(config: &Config, name: &str) -> Vec<Diagnostic> {
    let lack = |missing: bool, path: &str, variable: &str, from: &str| {
        missing.then(|| {
            Diagnostic::about_file(name, format!("`{path}` is missing"))
                .with_help(format!("Set it in the file, or {variable} in the environment, on one line. {from}"))
        })
    };
    let token = config.intercom.enabled && config.intercom.access_token.is_none();
    let token = lack(
        token,
        "connectors.intercom.access_token",
        "INTERCOM_ACCESS_TOKEN",
        "The token is in Intercom's Developer Hub: your app, Configure, Authentication.",
    );
    let key = lack(
        config.brevo.api_key.is_none(),
        "connectors.brevo.api_key",
        "BREVO_API_KEY",
        "The key is in Brevo: your account, SMTP & API, API keys.",
    );
    token.into_iter().chain(key).collect()
}

/// Takes the values out of the walk, one by one, with their defaults.
struct Build<'a> {
    walk: Walk,
    env: &'a Env,
    findings: &'a mut Findings,
    files: &'a [SourceFile],
}

/// Takes one kind of value, if it is there.
macro_rules! take {
    ($build:expr, $path:expr, $variant:ident) => {
        match $build.walk.leaves.remove($path) {
            Some(Leaf::$variant(value)) => Some(value),
            _ => None,
        }
    };
}

impl Build<'_> {
    fn flag(&mut self, path: &str, default: bool) -> bool {
        take!(self, path, Flag).unwrap_or(default)
    }

    fn share(&mut self, path: &str, default: f64) -> f64 {
        take!(self, path, Share).unwrap_or(default)
    }

    /// From the file, else from the environment. One in the environment that cannot be a token is no token.
    fn secret(&mut self, path: &str, variable: &str) -> Option<SecretString> {
        take!(self, path, Secret).or_else(|| {
            let value = self.env.get(variable)?.trim();
            let token = !value.is_empty() && value.chars().all(|letter| letter.is_ascii_graphic());
            token.then(|| SecretString::from(value.to_owned()))
        })
    }

    fn list(&mut self, path: &str) -> Option<ListRef> {
        take!(self, path, List)
    }

    /// How fields travel that do not say it.
    fn defaults(&mut self) -> Defaults {
        let named = |word: &str| Direction::NAMES.iter().find(|(name, _)| *name == word).map(|(_, way)| *way);
        let direction = take!(self, "connectors.intercom.direction", Word).and_then(named).unwrap_or_default();
        let named = |word: &str| OnConflict::NAMES.iter().find(|(name, _)| *name == word).map(|(_, wins)| *wins);
        let on_conflict = take!(self, "connectors.intercom.on_conflict", Word).and_then(named).unwrap_or_default();
        let tie = take!(self, "connectors.intercom.tie", Word);
        let tie = tie.and_then(|word| SideName::BOTH.into_iter().find(|side| side.as_str() == word));
        Defaults { direction, on_conflict, tie }
    }

    fn intercom(&mut self) -> IntercomConfig {
        let region = match take!(self, "connectors.intercom.region", Word) {
            Some("eu") => Region::Eu,
            Some("au") => Region::Au,
            _ => Region::Us,
        };
        let log_level = take!(self, "connectors.intercom.log_level", Word).map(|word| match word {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "verbose" | "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        });
        let version_place = self.walk.places.get("connectors.intercom.api_version").copied();
        let api_version =
            take!(self, "connectors.intercom.api_version", Text).unwrap_or_else(|| DEFAULT_API_VERSION.to_owned());
        if let Some(place) = version_place
            && api_version != DEFAULT_API_VERSION
        {
            self.findings
                .warning(place, format!("only version {DEFAULT_API_VERSION} of Intercom's API is tested"))
                .label(format!("expected `\"{DEFAULT_API_VERSION}\"`"));
        }
        let sync = SyncSwitches {
            contacts: self.flag("connectors.intercom.sync.contacts", true),
            conversations: self.flag("connectors.intercom.sync.conversations", true),
            companies: self.flag("connectors.intercom.sync.companies", true),
            events: self.flag("connectors.intercom.sync.events", true),
            tags: self.flag("connectors.intercom.sync.tags", true),
        };
        let lists = ListsConfig {
            all_users: self.list("connectors.intercom.lists.all_users"),
            leads: self.list("connectors.intercom.lists.leads"),
            active_conversations: self.list("connectors.intercom.lists.active_conversations"),
        };
        if let Some(place) = self.walk.places.get("connectors.intercom.lists.active_conversations")
            && !sync.conversations
        {
            self.findings
                .warning(*place, "nobody will be on the list `active_conversations`")
                .label("needs `sync.conversations: true`");
        }
        let enabled = self.flag("connectors.intercom.enabled", true);
        if let Some(place) = self.walk.places.get("connectors.intercom.enabled")
            && !enabled
        {
            self.findings
                .warning(*place, "nothing will be synced: `connectors.intercom` is switched off")
                .label("expected `true`, unless that is meant");
        }
        let base_url = take!(self, "connectors.intercom.base_url", Url);
        let places = |key: &str| self.walk.places.get(&format!("connectors.intercom.{key}")).copied();
        if let (Some(url), Some(here), Some(named)) = (&base_url, places("base_url"), places("region"))
            && url.host_str() != Some(region.host())
        {
            let at = errors::spot(named, self.files).map(|spot| format!(" ({spot})")).unwrap_or_default();
            self.findings
                .warning(here, format!("with `base_url`, `region: {}`{at} has no effect", region.as_str()))
                .also(named, "this has no effect")
                .label(format!("the region's own is https://{}", region.host()))
                .help("Keep one of the two: all requests go to `base_url`.");
        }
        IntercomConfig {
            enabled,
            access_token: self.secret("connectors.intercom.access_token", "INTERCOM_ACCESS_TOKEN"),
            client_secret: self.secret("connectors.intercom.client_secret", "INTERCOM_CLIENT_SECRET"),
            base_url: base_url.unwrap_or_else(|| https(region.host(), "/")),
            region,
            api_version,
            sync,
            defaults: self.defaults(),
            lists,
            debug: self.flag("connectors.intercom.debug", false),
            log_level,
            log_webhooks: self.flag("connectors.intercom.log_webhooks", false),
        }
    }

    fn brevo(&mut self) -> BrevoConfig {
        BrevoConfig {
            api_key: self.secret("connectors.brevo.api_key", "BREVO_API_KEY"),
            base_url: take!(self, "connectors.brevo.base_url", Url).unwrap_or_else(|| https(BREVO_HOST, "/v3")),
            api_key_name: take!(self, "connectors.brevo.api_key_name", Text),
            webhooks: self.brevo_webhooks(),
        }
    }

    fn brevo_webhooks(&mut self) -> BrevoWebhooks {
        let secret = self.secret("connectors.brevo.webhooks.secret", "BREVO_WEBHOOK_SECRET");
        let user = take!(self, "connectors.brevo.webhooks.user", Text).unwrap_or_else(|| "linkspan".to_owned());
        let header = take!(self, "connectors.brevo.webhooks.header", Header)
            .unwrap_or(http::HeaderName::from_static("x-linkspan-secret"));
        let way = take!(self, "connectors.brevo.webhooks.auth", Word);
        let auth = secret.map(|secret| match way {
            Some("basic") => WebhookAuth::Basic(user, secret),
            Some("header") => WebhookAuth::Header(header, secret),
            _ => WebhookAuth::Bearer(secret),
        });
        BrevoWebhooks {
            auth,
            batched: self.flag("connectors.brevo.webhooks.batched", false),
            activity: self.flag("connectors.brevo.webhooks.activity", false),
        }
    }

    fn contacts(&mut self) -> ContactsConfig {
        let contacts = self.contacts_as_written();
        if let Some(place) = self.walk.places.get("contacts.on_unmatch")
            && contacts.unlist_unmatched
            && contacts.filter.brevo.is_none()
        {
            self.findings
                .warning(*place, "nobody will be taken off a list: no filter leaves anybody out in Brevo")
                .label("needs `contacts.filter.intercom_to_brevo`");
        }
        contacts
    }

    fn contacts_as_written(&mut self) -> ContactsConfig {
        ContactsConfig {
            filter: Sides {
                intercom: self.condition("contacts.filter.brevo_to_intercom", Expression::compile_of_brevo),
                brevo: self.condition("contacts.filter.intercom_to_brevo", Expression::compile),
            },
            unlist_unmatched: take!(self, "contacts.on_unmatch", Word) == Some("unlist"),
            without_email: match take!(self, "contacts.without_email", Word) {
                Some("by_phone") => WithoutEmail::ByPhone,
                _ => WithoutEmail::Skip,
            },
            default_phone_region: take!(self, "phone.default_region", Text),
            on_delete: Sides {
                intercom: self.on_delete("contacts.on_delete.intercom"),
                brevo: self.on_delete("contacts.on_delete.brevo"),
            },
            create_in_brevo: take!(self, "contacts.create.brevo", Word) != Some("never"),
            create_in_intercom: match take!(self, "contacts.create.intercom", Word) {
                Some("lead") => Some(Role::Lead),
                Some("user") => Some(Role::User),
                _ => None,
            },
            update_in_brevo: take!(self, "contacts.update.brevo", Word) != Some("never"),
            update_in_intercom: take!(self, "contacts.update.intercom", Word) != Some("never"),
            archived: match take!(self, "contacts.archived", Word) {
                Some("unarchive") => Archived::Unarchive,
                Some("skip") => Archived::Skip,
                _ => Archived::Link,
            },
        }
    }

    fn company_filter(&mut self) -> Sides<Option<Expression>> {
        Sides {
            intercom: self.condition("companies.filter.brevo_to_intercom", Expression::compile_of_brevo),
            brevo: self.condition("companies.filter.intercom_to_brevo", Expression::compile_of_company),
        }
    }

    /// What is wrong with a condition is said where it stands.
    fn condition(
        &mut self,
        path: &str,
        compile: impl Fn(&str) -> Result<Expression, (String, Option<String>)>,
    ) -> Option<Expression> {
        let text = take!(self, path, Text)?;
        let place = self.walk.places.get(path).copied()?;
        match compile(&text) {
            Ok(condition) => Some(condition),
            Err((message, help)) => {
                let finding = self.findings.error(place, format!("`{path}`: {message}"));
                finding.label("expected a condition such as `record.role == 'user'`");
                if let Some(help) = help {
                    finding.help(help);
                }
                None
            }
        }
    }

    /// A filter that reads what is switched off would leave everybody out.
    fn check_filter(&mut self, contacts: &ContactsConfig, sync: SyncSwitches) {
        const PATH: &str = "contacts.filter.intercom_to_brevo";
        let (Some(filter), Some(place)) = (&contacts.filter.brevo, self.walk.places.get(PATH).copied()) else { return };
        for (on, switch, paths) in [
            (sync.tags, "tags", mapping::paths::TAGS),
            (sync.companies, "companies", ["company"].as_slice()),
            (sync.conversations, "conversations", ["conversations"].as_slice()),
        ] {
            if !on && paths.iter().any(|path| filter.mentions(path)) {
                let switch = format!("connectors.intercom.sync.{switch}");
                self.findings
                    .error(place, format!("`{PATH}` reads what `{switch}: false` switches off"))
                    .label("it would hold for nobody")
                    .help(format!("Set `{switch}` to true, or ask for something else."));
            }
        }
    }

    fn on_delete(&mut self, path: &str) -> OnDelete {
        take!(self, path, Word).and_then(OnDelete::named).unwrap_or(OnDelete::Keep)
    }

    fn consent(&mut self) -> ConsentConfig {
        let direction = match take!(self, "consent.direction", Word) {
            Some("intercom_to_brevo") => ConsentDirection::IntercomToBrevo,
            _ => ConsentDirection::Both,
        };
        let resubscribe = take!(self, "consent.resubscribe", Word) == Some("propagate");
        if let Some(place) = self.walk.places.get("consent.resubscribe")
            && resubscribe
            && direction == ConsentDirection::IntercomToBrevo
        {
            self.findings
                .warning(
                    *place,
                    "opt-ins travel from Intercom to Brevo only: `consent.direction` keeps the others from it",
                )
                .label("both ways with `consent.direction: both`");
        }
        ConsentConfig { direction, resubscribe }
    }

    fn server(&mut self) -> ServerConfig {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 8484));
        ServerConfig {
            listen: take!(self, "server.listen", Address).unwrap_or(default),
            public_url: take!(self, "server.public_url", Url),
        }
    }

    fn state(&mut self, folder: &Path) -> StateConfig {
        let path = take!(self, "state.path", Path).unwrap_or_else(|| PathBuf::from("state/linkspan.db"));
        StateConfig { path: folder.join(path) }
    }

    fn events(&mut self) -> EventsConfig {
        let max_age = take!(self, "events.max_age", Duration).unwrap_or(hours(24));
        // Everything is older than that when it is first seen: each event would be dropped, and nobody told.
        if max_age.is_zero()
            && let Some(&place) = self.walk.places.get("events.max_age")
        {
            self.findings
                .error(place, "`events.max_age`: no event would ever be sent")
                .label("expected at least `1s`")
                .help("To send none, write `connectors.intercom.sync.events: false`.");
        }
        EventsConfig { max_age }
    }

    fn schedule(&mut self) -> ScheduleConfig {
        let zone = take!(self, "schedule.timezone", Timezone).unwrap_or(chrono_tz::UTC);
        let mut every = |path: &str, default: Duration| match self.walk.leaves.remove(path) {
            Some(Leaf::Duration(duration)) => Every::Interval(duration),
            Some(Leaf::Cron(cron)) => Every::Cron(cron, zone),
            Some(Leaf::Never) => Every::Never,
            _ => Every::Interval(default),
        };
        let contacts = ResourceSchedule {
            incremental: every("schedule.contacts.incremental", minutes(5)),
            full: every("schedule.contacts.full", hours(24)),
        };
        let companies =
            ResourceSchedule { incremental: Every::Never, full: every("schedule.companies.full", hours(6)) };
        let conversations = ResourceSchedule {
            incremental: every("schedule.conversations.incremental", minutes(5)),
            full: every("schedule.conversations.full", hours(24)),
        };
        let brevo_companies = ResourceSchedule {
            incremental: every("schedule.brevo_companies.incremental", minutes(30)),
            full: every("schedule.brevo_companies.full", hours(7 * 24)),
        };
        let brevo_contacts = ResourceSchedule {
            incremental: every("schedule.brevo_contacts.incremental", minutes(15)),
            full: every("schedule.brevo_contacts.full", hours(24)),
        };
        ScheduleConfig {
            contacts,
            companies,
            conversations,
            brevo_companies,
            brevo_contacts,
            jitter: self.share("schedule.jitter", 0.1),
        }
    }

    fn limits(&mut self) -> LimitsConfig {
        let plan = take!(self, "limits.intercom.plan", Word).map(|word| match word {
            "starter" => Plan::Starter,
            "pro" => Plan::Pro,
            _ => Plan::Premium,
        });
        let threshold = take!(self, "limits.brevo.import_threshold", Count).unwrap_or(300);
        LimitsConfig {
            intercom: IntercomLimits { plan, share: self.share("limits.intercom.share", 0.8) },
            brevo: BrevoLimits {
                share: self.share("limits.brevo.share", 0.8),
                import_threshold: usize::try_from(threshold).unwrap_or(usize::MAX),
            },
        }
    }

    fn safety(&mut self) -> SafetyConfig {
        let mut count = |path: &str, default: u64| take!(self, path, Count).unwrap_or(default);
        SafetyConfig {
            max_creates: count("safety.max_creates", 10_000),
            max_deletes: count("safety.max_deletes", 500),
            max_optouts: count("safety.max_optouts", 5_000),
            max_blanked: count("safety.max_blanked", 5_000),
            max_share: self.share("safety.max_share", 0.1),
        }
    }

    /// Which fields of company objects are kept in step, if they are.
    fn companies(
        &mut self,
        sections: &[mapping::Section],
        options: Options,
        read: bool,
        trees: &[Node],
    ) -> Option<Mapping> {
        let place = self.walk.places.get("companies.objects").copied();
        let on = self.flag("companies.objects", false);
        // Also where it is switched off: what is wrong there would be so tomorrow.
        let options = Options { of_companies: true, ..options };
        let mapping = self.compiled(sections, &options, trees);
        if let Some(place) = place.filter(|_| on && !read) {
            self.findings
                .warning(place, "company objects will be left alone")
                .label("needs `connectors.intercom.sync.companies: true`");
        }
        on.then_some(mapping)
    }

    /// The compiled mapping, with the lists of `connectors.intercom.lists` among its own.
    fn mapping(
        &mut self,
        sections: &[mapping::Section],
        options: &Options,
        lists: &ListsConfig,
        trees: &[Node],
    ) -> Mapping {
        let mut mapping = self.compiled(sections, options, trees);
        self.with_lists(&mut mapping, lists);
        mapping
    }

    /// What the sections say, with what is wrong in them among the findings.
    fn compiled(&mut self, sections: &[mapping::Section], options: &Options, trees: &[Node]) -> Mapping {
        let files = self.files;
        let locate =
            |file: usize, path: &[String], on_key: bool| errors::spot(trees.get(file)?.locate(path, on_key), files);
        let mapping = match mapping::parse(sections, options, &locate) {
            Ok(mapping) => mapping,
            Err(errors) => {
                for error in errors {
                    let place = place_of(&error, trees);
                    if self.findings.gave_up_on(place) {
                        continue;
                    }
                    let finding = self.findings.error(place, error.message);
                    if let Some(help) = error.help {
                        finding.help(help);
                    }
                }
                Mapping::default()
            }
        };
        for warning in &mapping.warnings {
            let finding = self.findings.warning(place_of(warning, trees), warning.message.clone());
            if let Some(help) = &warning.help {
                finding.help(help.clone());
            }
        }
        mapping
    }

    /// The lists of `connectors.intercom.lists`.
    fn with_lists(&mut self, mapping: &mut Mapping, lists: &ListsConfig) {
        let files = self.files;
        let named = [
            (Membership::AllUsers, &lists.all_users, "connectors.intercom.lists.all_users"),
            (Membership::Leads, &lists.leads, "connectors.intercom.lists.leads"),
            (
                Membership::ActiveConversations,
                &lists.active_conversations,
                "connectors.intercom.lists.active_conversations",
            ),
        ];
        for (membership, list, path) in named {
            let list = match list {
                Some(ListRef::Id(id)) => ListName::Id(*id),
                Some(ListRef::Name(name)) => ListName::Name(name.clone()),
                None => continue,
            };
            let place = self.walk.places.get(path).copied();
            let rule = ListRule::new(membership, list).at(place.and_then(|place| errors::spot(place, files)));
            if let Some(place) = place {
                self.warn_of_shared_list(&rule, place, &mapping.lists);
            }
            mapping.lists.push(rule);
        }
    }

    /// Of several tags, any may lead to a list. A list of everybody with a role is one of its own, or it does not say
    /// who has the role.
    fn warn_of_shared_list(&mut self, rule: &ListRule, place: Place, others: &[ListRule]) {
        let Some(other) = others.iter().find(|other| other.list == rule.list) else { return };
        let (who, list) = (rule.who(), &rule.list);
        let at = other.spot.as_ref().map(|spot| format!(" ({spot})")).unwrap_or_default();
        self.findings
            .warning(place, format!("`{who}` names the same list as `{}`{at}", other.who()))
            .label("expected a list of its own")
            .help(format!("Whoever either of them names will be on the list {list}, and leaves it once neither does."));
    }
}

fn place_of(error: &MappingError, trees: &[Node]) -> Place {
    let nowhere = Place { file: 0, start: 0, end: 0 };
    trees.get(error.file).map_or(nowhere, |tree| tree.locate(&error.path, error.on_key))
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

const fn hours(hours: u64) -> Duration {
    minutes(hours * 60)
}

/// An address made of constants; a test reads each, so that none can fail to parse.
fn https(host: &str, path: &str) -> Url {
    #[expect(clippy::expect_used, reason = "constants, each read by a test")]
    Url::parse(&format!("https://{host}{path}")).expect("a constant address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EXAMPLE;

    #[test]
    fn the_example_shows_every_key_that_works_and_each_goes_somewhere() {
        fn written(node: &Node, prefix: &str, out: &mut Vec<String>) {
            match &node.content {
                document::Content::Mapping(entries) => entries.iter().for_each(|entry| {
                    let path = if prefix.is_empty() { entry.key.clone() } else { format!("{prefix}.{}", entry.key) };
                    written(&entry.value, &path, out);
                }),
                _ => out.push(prefix.to_owned()),
            }
        }
        let root = document::parse(0, EXAMPLE, &mut Findings::default()).unwrap();
        let mut shown = Vec::new();
        written(&root, "", &mut shown);
        let missing: Vec<String> = keys::paths().into_iter().filter(|path| !shown.contains(path)).collect();
        assert!(missing.is_empty(), "not in config.example.yaml: {missing:?}");
        // Loading asserts that no leaf is left over: a key in the table that nobody takes would be ignored silently.
        let env = [
            ("INTERCOM_PLAN", "pro"),
            ("PHONE_REGION", "NO"),
            ("BREVO_API_KEY_NAME", "linkspan"),
            ("LINKSPAN_PUBLIC_URL", "https://linkspan.example.com"),
            ("BREVO_WEBHOOK_SECRET", "x"),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Config::parse(EXAMPLE, Path::new("config.example.yaml"), &env).unwrap();
    }

    #[test]
    fn the_addresses_that_are_constants_can_be_read() {
        for region in [Region::Us, Region::Eu, Region::Au] {
            https(region.host(), "/");
        }
        https(BREVO_HOST, "/v3");
    }
}
