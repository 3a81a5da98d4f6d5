//! One seed → a plan. Everything that chance decides about people and upsets is drawn beforehand, so that a plan can be
//! cut down (`shrink`) without changing the rest; only the network's faults are drawn on the way, from a stream of
//! their own.

use super::companies::{self, Firms};
use super::departing::{self, OnDelete};
use super::people::{BREVO_VALUES, Edit, NAMES, PHONES, TAGS, TIERS};
use super::sifting::{self, Filter};
use super::{bounded, clashing, crossing, unswept, wide};
use std::fmt::Write as _;
use std::time::Duration;

/// Random numbers from a seed and the name of a stream.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, stream: &str) -> Self {
        let mut dice = Self(seed ^ 0x9e37_79b9_7f4a_7c15);
        for byte in stream.bytes() {
            dice.0 = dice.0.wrapping_add(u64::from(byte));
            dice.next();
        }
        dice
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    #[expect(clippy::cast_possible_truncation, reason = "below a length")]
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    pub fn hits(&mut self, chance: f64) -> bool {
        ((self.next() >> 11) as f64 / (1_u64 << 53) as f64) < chance
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.index(all.len())]
    }

    /// One of them, or none.
    pub fn perhaps<T>(&mut self, chance: f64, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.hits(chance).then(|| draw(self))
    }
}

/// What a rule reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Name,
    Phone,
    Role,
    ExternalId,
    Tier,
    Seats,
    Admin,
    Tags,
    /// The name of the contact's company.
    Company,
    OpenConversations,
    Conversations,
    LastRating,
}

impl Source {
    /// What narrow worlds map.
    pub const ALL: [Self; 8] =
        [Self::Name, Self::Phone, Self::Role, Self::ExternalId, Self::Tier, Self::Seats, Self::Admin, Self::Tags];

    pub fn path(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Phone => "phone",
            Self::Role => "role",
            Self::ExternalId => "external_id",
            Self::Tier => "custom_attributes.plan_tier",
            Self::Seats => "custom_attributes.seats",
            Self::Admin => "custom_attributes.is_admin",
            Self::Tags => "tags",
            Self::Company => "company.name",
            Self::OpenConversations => "conversations.open_count",
            Self::Conversations => "conversations.total",
            Self::LastRating => "conversations.last_rating",
        }
    }

    /// A figure of conversations.
    pub fn is_figure(self) -> bool {
        matches!(self, Self::OpenConversations | Self::Conversations | Self::LastRating)
    }

    /// The attributes that it becomes.
    pub fn attributes(self) -> &'static [&'static str] {
        match self {
            Self::Name => &["FIRSTNAME", "LASTNAME"],
            Self::Phone => &["SMS"],
            Self::Role => &["ROLE"],
            Self::ExternalId => &["INTERCOM_USER_ID"],
            Self::Tier => &["PLAN_TIER"],
            Self::Seats => &["SEATS"],
            Self::Admin => &["IS_ADMIN"],
            Self::Tags => &["INTERCOM_TAGS"],
            Self::Company => &["COMPANY_NAME"],
            Self::OpenConversations => &["CONVERSATIONS_OPEN"],
            Self::Conversations => &["CONVERSATIONS_TOTAL"],
            Self::LastRating => &["LAST_RATING"],
        }
    }
}

/// Which way something travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToBrevo,
    ToIntercom,
    Both,
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Self::ToBrevo => "intercom_to_brevo",
            Self::ToIntercom => "brevo_to_intercom",
            Self::Both => "both",
        }
    }
}

/// Whose value stands where both sides changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wins {
    /// The newest; of a tie, Brevo's (`true`) or Intercom's.
    Newest(bool),
    Intercom,
    Brevo,
}

/// One field of the mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub source: Source,
    /// `on_clear: propagate`; else `keep`.
    pub clears: bool,
    /// `on_drift: leave`; else `restore`.
    pub leaves: bool,
    /// `when: record.role == 'user'`: it says nothing about leads.
    pub users_only: bool,
    pub way: Way,
    pub wins: Wins,
}

impl Rule {
    pub fn of(source: Source, clears: bool, leaves: bool) -> Self {
        Self { source, clears, leaves, users_only: false, way: Way::ToBrevo, wins: Wins::Newest(false) }
    }
}

/// The mapping and the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub fields: Vec<Rule>,
    pub users: bool,
    pub leads: bool,
    pub vip: bool,
    /// Everybody of one company on a list, by a condition.
    pub blue: bool,
    /// Which way the tag and its list go.
    pub vip_way: Way,
}

impl Rules {
    fn reads_companies(&self) -> bool {
        self.blue || self.fields.iter().any(|rule| rule.source == Source::Company)
    }

    fn draw(dice: &mut Dice) -> Self {
        let mut fields = Vec::new();
        for source in Source::ALL {
            if dice.hits(0.7) {
                fields.push(Rule::of(source, dice.hits(0.5), dice.hits(0.3)));
            }
        }
        if fields.is_empty() {
            fields.push(Rule::of(Source::Name, false, false));
        }
        Self {
            fields,
            users: dice.hits(0.7),
            leads: dice.hits(0.5),
            vip: dice.hits(0.5),
            blue: false,
            vip_way: Way::ToBrevo,
        }
    }

    fn changed(&self, dice: &mut Dice) -> Self {
        let mut new = self.clone();
        for rule in &mut new.fields {
            if dice.hits(0.3) {
                rule.clears = !rule.clears;
            }
            if dice.hits(0.3) {
                rule.leaves = !rule.leaves;
            }
        }
        if dice.hits(0.5) {
            let source = *dice.pick(&Source::ALL);
            if !new.fields.iter().any(|rule| rule.source == source) {
                new.fields.push(Rule::of(source, dice.hits(0.5), false));
            }
        }
        if new.fields.len() > 1 && dice.hits(0.3) {
            new.fields.remove(0);
        }
        new
    }
}

/// How often things go wrong on the network; zero switches a class off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    pub throttled: f64,
    pub server_error: f64,
    /// The server acted, and says 5xx.
    pub error_after: f64,
    pub refused: f64,
    /// It never arrives.
    pub lost_request: f64,
    /// It arrives, the answer does not.
    pub lost_answer: f64,
    /// It arrives after the client gave up.
    pub zombie: f64,
    pub cut_body: f64,
    pub html: f64,
    pub webhook_lost: f64,
    pub webhook_twice: f64,
    pub webhook_late: f64,
    /// Delivered before the answer of the request that caused it (or before anything else happens).
    pub webhook_first: f64,
    /// Intercom says that a write is not right (400). Drawn in crossing worlds only.
    pub rejected: f64,
}

impl Rates {
    pub const NONE: Self = Self {
        throttled: 0.0,
        server_error: 0.0,
        error_after: 0.0,
        refused: 0.0,
        lost_request: 0.0,
        lost_answer: 0.0,
        zombie: 0.0,
        cut_body: 0.0,
        html: 0.0,
        webhook_lost: 0.0,
        webhook_twice: 0.0,
        webhook_late: 0.0,
        webhook_first: 0.0,
        rejected: 0.0,
    };

    /// Each class by itself, for switching off.
    pub fn classes(&mut self) -> [(&'static str, &mut f64); 13] {
        [
            ("throttled", &mut self.throttled),
            ("server_error", &mut self.server_error),
            ("error_after", &mut self.error_after),
            ("refused", &mut self.refused),
            ("lost_request", &mut self.lost_request),
            ("lost_answer", &mut self.lost_answer),
            ("zombie", &mut self.zombie),
            ("cut_body", &mut self.cut_body),
            ("html", &mut self.html),
            ("webhook_lost", &mut self.webhook_lost),
            ("webhook_twice", &mut self.webhook_twice),
            ("webhook_late", &mut self.webhook_late),
            ("webhook_first", &mut self.webhook_first),
        ]
    }

    fn draw(dice: &mut Dice) -> Self {
        let mut rates = Self::NONE;
        for (name, rate) in rates.classes() {
            // Whole classes are switched off at random: what is rare among many faults comes up among few.
            if dice.hits(0.45) {
                let most = if name.starts_with("webhook") { 50 } else { 12 };
                *rate = dice.between(1, most) as f64 / 100.0;
            }
        }
        rates
    }
}

/// Something that befalls the program itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Upset {
    /// Power off now, at whatever await it is; back after so many seconds.
    PowerOff(u64),
    /// Power off the nth time that a named place is reached.
    CrashPoint(&'static str, u32, u64),
    /// Power off around the nth request from now: before it leaves (`false`) or after the vendor acted.
    InRequest(u32, bool, u64),
    /// Asked to stop, and started again.
    Restart(u64),
    /// A changed mapping, taken up without a restart.
    Reload,
}

/// The crash points that the engine has; a test compares them with its source. Narrow worlds know the first seven, wide
/// ones the first eleven, crossing ones the first thirteen, those in which contacts are made in Intercom two more, and all
/// where people's going leads to something.
pub const CRASH_POINTS: [&str; 19] = [
    "after_intent",
    "after_remote_write",
    "after_page",
    "after_inbox",
    "after_import_intent",
    "after_import_sent",
    "after_events_sent",
    "after_events_intent",
    "after_options_intent",
    "after_opt_out_intent",
    "after_opt_out_write",
    "after_write_back_intent",
    "after_write_back",
    "after_newcomer_intent",
    "after_newcomer_sent",
    "after_parting_intent",
    "after_parting",
    "after_opt_in_intent",
    "after_opt_in",
];

/// What the vendors and the daemon are set to.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub index_lag: u64,
    pub import_delay: u64,
    pub import_threshold: u64,
    pub import_resubscribes: bool,
    pub import_webhooks: bool,
    pub flat_list_answers: bool,
    pub described_lists: bool,
    pub duplicates_as_invalid: bool,
    /// Milliseconds that an answer takes at most.
    pub latency: u64,
    /// How far the daemon's clock is off, in seconds.
    pub skew: i64,
    pub incremental: u64,
    pub full: u64,
    pub brevo_incremental: u64,
    /// Nothing is read by schedule: what arrives comes by webhook.
    pub webhooks_only: bool,
    /// `contacts.without_email: by_phone`.
    pub by_phone: bool,
    /// `consent.direction: both`, the default; else `intercom_to_brevo`.
    pub both: bool,
    /// `contacts.filter.intercom_to_brevo`.
    pub filter: Filter,
    /// `contacts.on_unmatch: unlist`.
    pub unlists: bool,
    /// `consent.resubscribe: propagate`.
    pub resubscribes: bool,
    /// `contacts.on_delete`.
    pub on_delete: OnDelete,
    /// `contacts.create.intercom`: `lead` or `user`; else never.
    pub makes: Option<&'static str>,
    /// Vendors that give so many records a page, whatever is asked for.
    pub page: Option<u64>,
    /// Brevo's webhooks are received.
    pub hearing: Option<Hearing>,
    /// `safety`.
    pub limits: Option<Limits>,
    /// Everything is read again by schedule, and in the end.
    pub sweeps: bool,
    /// Seconds for which people have been there when the program is started for the first time.
    pub known_for: u64,
    /// `companies`: they have objects in Brevo.
    pub firms: Option<Firms>,
}

/// How Brevo's webhooks come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    pub batched: bool,
    /// The config names our key, so that what it changed is known by its webhooks.
    pub knows_our_key: bool,
}

/// How much may go in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub creates: u64,
    pub opt_outs: u64,
    pub blanked: u64,
    pub deletes: u64,
    /// Seconds between two looks of whoever lets go what is held.
    pub patience: u64,
}

/// Brevo sends it along.
pub const BREVO_SECRET: &str = "sandbox-brevo-webhook-secret";

/// All that a run is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub seed: u64,
    pub rules: Rules,
    pub later: Rules,
    pub setting: Setting,
    /// Done before the daemon starts for the first time.
    pub before: Vec<Edit>,
    pub edits: Vec<(Duration, Edit)>,
    pub upsets: Vec<(Duration, Upset)>,
    pub rates: Rates,
}

impl Plan {
    /// The world of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut plan = Self::bounded(seed);
        departing::depart(&mut plan);
        sifting::sift(&mut plan);
        plan
    }

    /// One in which nobody's going leads to anything, and everybody takes part.
    pub fn bounded(seed: u64) -> Self {
        let mut plan = Self::crossing(seed);
        bounded::bound(&mut plan);
        plan
    }

    /// One in which companies have objects in Brevo, and people are simple.
    pub fn firms(seed: u64) -> Self {
        companies::world(seed)
    }

    /// A few people whose fields are edited on both sides, in pairs, and little else.
    pub fn clashing(seed: u64) -> Self {
        let mut plan = Self::bounded(seed);
        clashing::clash(&mut plan);
        plan
    }

    /// A few people, and no sweeps: what is lost of what the vendors tell is lost for good.
    pub fn unswept(seed: u64) -> Self {
        let mut plan = Self::bounded(seed);
        unswept::unsweep(&mut plan);
        plan
    }

    /// One without limits on harm, and in which nothing hears Brevo's webhooks.
    pub fn crossing(seed: u64) -> Self {
        let mut plan = Self::wide(seed);
        crossing::cross(&mut plan);
        plan
    }

    /// One in which nothing but opt-outs travels to Intercom.
    pub fn wide(seed: u64) -> Self {
        let mut plan = Self::narrow(seed);
        wide::widen(&mut plan);
        plan
    }

    /// Without what was added to worlds later: what a seed once found needs its world as it was.
    pub fn narrow(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let rules = Rules::draw(&mut dice);
        let later = rules.changed(&mut dice);
        let minutes = dice.between(10, 60);
        let people = dice.between(3, 14);
        let setting = Setting {
            index_lag: *dice.pick(&[1, 3, 30, 240]),
            import_delay: *dice.pick(&[1, 5, 40, 180]),
            import_threshold: *dice.pick(&[1, 3, 300, 300]),
            import_resubscribes: dice.hits(0.8),
            import_webhooks: dice.hits(0.5),
            flat_list_answers: dice.hits(0.3),
            described_lists: dice.hits(0.3),
            duplicates_as_invalid: dice.hits(0.3),
            latency: *dice.pick(&[20, 200, 2_000]),
            skew: *dice.pick(&[0, 0, 0, 40, -40, 400, -400]),
            incremental: *dice.pick(&[60, 300, 300, 900]),
            full: *dice.pick(&[900, 1_800, 7_200]),
            brevo_incremental: *dice.pick(&[120, 300, 900]),
            webhooks_only: dice.hits(0.15),
            by_phone: false,
            both: false,
            filter: Filter::Everybody,
            unlists: false,
            resubscribes: false,
            on_delete: OnDelete::KEEP,
            makes: None,
            page: None,
            hearing: None,
            limits: None,
            sweeps: true,
            known_for: 60,
            firms: None,
        };
        let mut before = Vec::new();
        for _ in 0..people {
            before.push(Edit::newcomer(&mut dice));
        }
        for _ in 0..dice.below(people) {
            before.push(Edit::stranger(&mut dice));
        }
        for _ in 0..dice.below(8) {
            before.push(Edit::draw(&mut dice));
        }
        let count = dice.between(3, 60);
        let mut edits: Vec<(Duration, Edit)> = Vec::new();
        while (edits.len() as u64) < count {
            let at = Duration::from_millis(dice.between(0, minutes * 60_000));
            // A burst in one second, now and then; more often upon the same person.
            let burst = if dice.hits(0.2) { dice.between(2, 5) } else { 1 };
            let who = dice.next();
            for nth in 0..burst {
                let edit = Edit::draw(&mut dice);
                let edit = if burst > 1 && dice.hits(0.7) { edit.about(who) } else { edit };
                edits.push((at + Duration::from_millis(nth * dice.between(1, 900)), edit));
            }
        }
        edits.sort_by_key(|(at, _)| *at);
        let mut upsets = Vec::new();
        if dice.hits(0.6) {
            for _ in 0..dice.between(1, 5) {
                let at = Duration::from_millis(dice.between(0, minutes * 60_000));
                let away = *dice.pick(&[1, 5, 30, 200]);
                upsets.push((
                    at,
                    match dice.below(10) {
                        0..=1 => Upset::PowerOff(away),
                        2..=4 => Upset::CrashPoint(
                            dice.pick::<&str>(&CRASH_POINTS[..7]),
                            u32::try_from(dice.between(1, 3)).unwrap(),
                            away,
                        ),
                        5..=7 => Upset::InRequest(u32::try_from(dice.between(1, 6)).unwrap(), dice.hits(0.6), away),
                        _ => Upset::Restart(away),
                    },
                ));
            }
        }
        if dice.hits(0.2) {
            upsets.push((Duration::from_millis(dice.between(0, minutes * 60_000)), Upset::Reload));
        }
        upsets.sort_by_key(|(at, _)| *at);
        let rates = if dice.hits(0.15) { Rates::NONE } else { Rates::draw(&mut dice) };
        Self { seed, rules, later, setting, before, edits, upsets, rates }
    }

    /// The mapping file of these rules, as a user writes it.
    pub fn mapping(rules: &Rules) -> String {
        let mut yaml = String::new();
        yaml.push_str("field_mapping:\n");
        for rule in &rules.fields {
            let more = match rule.source {
                Source::Name => ", transform: split_name",
                Source::Seats => ", type: number",
                Source::Admin => ", type: boolean",
                _ => "",
            };
            let when = if rule.users_only { ", when: record.role == 'user'" } else { "" };
            let to = rule.source.attributes().join(", ");
            let to = if rule.source.attributes().len() > 1 { format!("[{to}]") } else { to };
            let clear = if rule.clears { "propagate" } else { "keep" };
            let drift = if rule.leaves { "leave" } else { "restore" };
            let way = match (rule.way, rule.wins) {
                (Way::ToBrevo, _) => format!("on_drift: {drift}"),
                (Way::ToIntercom, _) => format!("direction: brevo_to_intercom, on_drift: {drift}"),
                (Way::Both, Wins::Newest(brevo)) => {
                    format!("direction: both, tie: {}", if brevo { "brevo" } else { "intercom" })
                }
                (Way::Both, Wins::Intercom) => "direction: both, on_conflict: intercom".to_owned(),
                (Way::Both, Wins::Brevo) => "direction: both, on_conflict: brevo".to_owned(),
            };
            writeln!(yaml, "  {}: {{to: {to}{more}{when}, on_clear: {clear}, {way}}}", rule.source.path()).ok();
        }
        if rules.vip {
            let way = match rules.vip_way {
                Way::ToBrevo => String::new(),
                way => format!(", direction: {}", way.word()),
            };
            writeln!(yaml, "tags:\n  VIP: {{list: VIPs{way}}}").ok();
        }
        if rules.blue {
            yaml.push_str("lists:\n  - {list: Blue, when: record.company.name == 'Blue Sun'}\n");
        }
        yaml
    }

    /// The config, as a user writes it.
    pub fn config(&self, rules: &Rules) -> String {
        let mut yaml = String::from("connectors:\n  intercom:\n    client_secret: sandbox-intercom-client-secret\n");
        if rules.users || rules.leads {
            yaml.push_str("    lists:\n");
            if rules.users {
                yaml.push_str("      all_users: Users\n");
            }
            if rules.leads {
                yaml.push_str("      leads: Leads\n");
            }
        }
        let Setting { incremental, full, brevo_incremental, import_threshold, webhooks_only, by_phone, both, .. } =
            &self.setting;
        let OnDelete { brevo: in_brevo, intercom: in_intercom } = self.setting.on_delete;
        let every = |seconds: &u64| if *webhooks_only { "never".to_owned() } else { format!("{seconds}s") };
        let (incremental, brevo) = (every(incremental), every(brevo_incremental));
        let full = if self.setting.sweeps { every(full) } else { "never".to_owned() };
        let firms = self.setting.firms.as_ref();
        let companies = match firms {
            Some(firms) => format!("{}s", firms.full),
            None => (if rules.reads_companies() { &full } else { "never" }).to_owned(),
        };
        if let Some(Hearing { batched, knows_our_key }) = self.setting.hearing {
            let key = if knows_our_key { "    api_key_name: linkspan\n" } else { "" };
            write!(yaml, "  brevo:\n{key}    webhooks: {{secret: {BREVO_SECRET}, batched: {batched}}}\n").ok();
        }
        if let Some(Limits { creates, opt_outs, blanked, deletes, .. }) = self.setting.limits {
            write!(yaml, "safety: {{max_creates: {creates}, max_optouts: {opt_outs}, max_blanked: {blanked}, ").ok();
            writeln!(yaml, "max_deletes: {deletes}}}").ok();
        }
        let direction = if *both { "both" } else { "intercom_to_brevo" };
        let resubscribe = if self.setting.resubscribes { "propagate" } else { "keep" };
        writeln!(yaml, "consent:\n  direction: {direction}\n  resubscribe: {resubscribe}").ok();
        let without_email = if *by_phone { "by_phone" } else { "skip" };
        let makes = self.setting.makes.unwrap_or("never");
        let on_delete = format!("{{brevo: {in_brevo}, intercom: {in_intercom}}}");
        let filter = self.setting.filter.words().unwrap_or_default();
        let unmatched = if self.setting.unlists { "unlist" } else { "keep" };
        writeln!(yaml, "contacts:\n  filter: {{intercom_to_brevo: \"{filter}\"}}\n  on_unmatch: {unmatched}").ok();
        writeln!(yaml, "  without_email: {without_email}\n  on_delete: {on_delete}\n  create: {{intercom: {makes}}}")
            .ok();
        let more = firms.map(Firms::schedule).unwrap_or_default();
        yaml.push_str(&firms.map(Firms::config).unwrap_or_default());
        write!(
            yaml,
            "mappings: [mapping.yaml]\nphone:\n  default_region: US\nschedule:\n  contacts: {{incremental: {incremental}, full: {full}}}\n  \
             companies: {{full: {companies}}}\n  conversations: {{incremental: {incremental}, full: {full}}}\n  \
             brevo_contacts: {{incremental: {brevo}, full: {full}}}\n{more}limits:\n  brevo:\n    import_threshold: {import_threshold}\n"
        )
        .ok();
        yaml
    }
}

impl Rules {
    /// Whether anything but opt-outs travels to Intercom.
    pub fn cross(&self) -> bool {
        self.fields.iter().any(|rule| rule.way != Way::ToBrevo) || (self.vip && self.vip_way != Way::ToBrevo)
    }
}

/// Values that people choose from; small, so that they go back to earlier ones.
pub fn some_name(dice: &mut Dice) -> Option<&'static str> {
    dice.perhaps(0.9, |dice| dice.pick(&NAMES).0)
}

pub fn some_phone(dice: &mut Dice) -> Option<&'static str> {
    dice.perhaps(0.8, |dice| dice.pick(&PHONES).0)
}

pub fn some_tier(dice: &mut Dice) -> Option<&'static str> {
    dice.perhaps(0.8, |dice| *dice.pick(&TIERS))
}

pub fn some_tag(dice: &mut Dice) -> &'static str {
    if dice.hits(0.4) { "VIP" } else { dice.pick::<&str>(&TAGS) }
}

pub fn some_value(dice: &mut Dice) -> usize {
    dice.index(BREVO_VALUES)
}
