//! Worlds of their own in which companies have objects in Brevo: who is in which company, what people edit of them on both
//! sides, whom they link by hand. People themselves stay simple there; the checker is in `firms`.

use super::people::{COMPANIES, Edit};
use super::world::{Dice, Plan, Rates, Rule, Rules, Source as PersonSource, Upset, Way, Wins};
use linkspan::sandbox::brevo::{BrevoSandbox, CompanyPages, ShownCompany};
use linkspan::sandbox::intercom::IntercomSandbox;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// The attribute by which Brevo's companies say whose they are.
pub const OURS: &str = "linkspan_intercom_id";
/// Companies beyond this many go by import.
const MANY: u64 = 51;

/// The crash points of company objects.
pub const FIRM_CRASH_POINTS: [&str; 4] =
    ["after_firm_intent", "after_firm_write", "after_firms_import_intent", "after_firms_import"];

/// What a rule reads of a company.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Name,
    Industry,
    Size,
    Tier,
    Owner,
}

impl Source {
    pub const ALL: [Self; 5] = [Self::Name, Self::Industry, Self::Size, Self::Tier, Self::Owner];

    pub fn path(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Industry => "industry",
            Self::Size => "size",
            Self::Tier => "custom_attributes.tier",
            Self::Owner => "custom_attributes.owner",
        }
    }

    pub fn attribute(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Industry => "industry",
            Self::Size => "number_of_employees",
            Self::Tier => "tier",
            Self::Owner => "sales_owner",
        }
    }

    /// One of few values, so that people go back to earlier ones.
    fn value(self, nth: usize) -> Value {
        let words = |all: &[&str]| json!(all[nth % all.len()]);
        match self {
            Self::Name => words(&COMPANIES),
            Self::Industry => words(&["Tools", "Food, drink", "\"Services\""]),
            Self::Size => json!([7, 40, 1_000][nth % 3]),
            Self::Tier => words(&["Free", "Pro", "Größe L"]),
            Self::Owner => words(&["ann", "bob", "王 小明"]),
        }
    }

    /// As a body that sets it in Intercom.
    fn patch(self, value: &Value) -> Value {
        match self.path().strip_prefix("custom_attributes.") {
            Some(name) => json!({"custom_attributes": {name: value}}),
            None => json!({self.path(): value}),
        }
    }
}

/// One field of the companies' mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirmRule {
    pub source: Source,
    pub way: Way,
    pub wins: Wins,
    /// `on_clear: propagate`; else `keep`.
    pub clears: bool,
    /// `on_drift: leave`; else `restore`.
    pub leaves: bool,
}

/// How company objects are kept, and what Brevo is like.
#[derive(Debug, Clone, PartialEq)]
pub struct Firms {
    pub rules: Vec<FirmRule>,
    /// `companies.filter.intercom_to_brevo`: all but those of a segment.
    pub sifts: bool,
    /// `companies.filter.brevo_to_intercom`: all but those of a domain.
    pub sifts_back: bool,
    /// How often Brevo's companies are read, in seconds: what changed, and all.
    pub polls: (u64, u64),
    /// How often Intercom's are.
    pub full: u64,
    pub pages: CompanyPages,
    pub page: Option<usize>,
    pub ignores_filters: bool,
    pub listed_after: u64,
    pub imports_link: bool,
    /// So many companies that they go by import.
    pub many: bool,
}

/// What people do about companies. Which one is a number, modulo those that are there.
#[derive(Debug, Clone, PartialEq)]
pub enum FirmEdit {
    FirmCreate(u64, usize),
    FirmField(u64, Source, Option<usize>),
    FirmAttach(u64, u64),
    FirmDetach(u64, u64),
    FirmDelete(u64),
    FirmSegment(u64, bool),
    /// A script makes many, each with somebody in it.
    FirmMany(u64),
    /// A script edits many.
    FirmManyFields(Source, usize),
    BrevoFirmField(u64, Source, Option<usize>),
    BrevoFirmDelete(u64),
    BrevoFirmLink(u64, u64),
    BrevoFirmUnlink(u64, u64),
    BrevoFirmMake(usize),
    /// One that says whose it is, as when a state was lost, or somebody joins the two by hand.
    BrevoFirmJoin(u64, usize),
    BrevoFirmDomain(u64, bool),
}

impl Firms {
    fn draw(dice: &mut Dice) -> Self {
        let overall = *dice.pick(&[Way::ToBrevo, Way::ToIntercom, Way::Both, Way::Both, Way::Both]);
        let mut rules = Vec::new();
        for source in Source::ALL {
            if source != Source::Name && dice.hits(0.25) {
                continue;
            }
            let way = if dice.hits(0.7) { overall } else { *dice.pick(&[Way::ToBrevo, Way::ToIntercom, Way::Both]) };
            // Without a name from Intercom none is made.
            let way = if source == Source::Name && way == Way::ToIntercom { Way::ToBrevo } else { way };
            let wins = *dice.pick(&[Wins::Newest(false), Wins::Newest(true), Wins::Intercom, Wins::Brevo]);
            rules.push(FirmRule { source, way, wins, clears: dice.hits(0.5), leaves: dice.hits(0.3) });
        }
        Self {
            rules,
            sifts: dice.hits(0.3),
            sifts_back: dice.hits(0.2),
            polls: (*dice.pick(&[300, 600, 1_200]), *dice.pick(&[3_600, 7_200])),
            full: *dice.pick(&[600, 1_200, 3_600]),
            pages: *dice.pick(&[CompanyPages::FromOne, CompanyPages::FromZero, CompanyPages::Offset]),
            page: None,
            ignores_filters: dice.hits(0.3),
            listed_after: *dice.pick(&[0, 0, 20]),
            imports_link: dice.hits(0.7),
            many: false,
        }
    }

    pub fn rule(&self, source: Source) -> Option<&FirmRule> {
        self.rules.iter().find(|rule| rule.source == source)
    }

    /// Seconds after the last edit by which all is done: what the hourly budget leaves over goes in the next hours, and an
    /// import without an answer may land for one.
    pub fn takes(&self) -> u64 {
        if self.many { 4 * 3_600 } else { 2 * 3_600 }
    }

    /// The section of the config.
    pub fn config(&self) -> String {
        let mut yaml = String::from("companies:\n  objects: true\n  field_mapping:\n");
        for FirmRule { source, way, wins, clears, leaves } in &self.rules {
            let clear = if *clears { "propagate" } else { "keep" };
            let drift = if *leaves { "leave" } else { "restore" };
            let way = match (way, wins) {
                (Way::ToBrevo, _) => format!("on_drift: {drift}"),
                (Way::ToIntercom, _) => format!("direction: brevo_to_intercom, on_drift: {drift}"),
                (Way::Both, Wins::Newest(brevo)) => {
                    format!("direction: both, tie: {}", if *brevo { "brevo" } else { "intercom" })
                }
                (Way::Both, Wins::Intercom) => "direction: both, on_conflict: intercom".to_owned(),
                (Way::Both, Wins::Brevo) => "direction: both, on_conflict: brevo".to_owned(),
            };
            let (path, to) = (source.path(), source.attribute());
            writeln!(yaml, "    {path}: {{to: {to}, on_clear: {clear}, {way}}}").ok();
        }
        yaml.push_str("  filter:\n");
        let sift = if self.sifts { "record.company.custom_attributes.segment != 'out'" } else { "" };
        let back = if self.sifts_back { "record.DOMAIN != 'out.example'" } else { "" };
        writeln!(yaml, "    intercom_to_brevo: \"{sift}\"\n    brevo_to_intercom: \"{back}\"").ok();
        yaml
    }

    pub fn schedule(&self) -> String {
        let (changed, all) = self.polls;
        format!("  brevo_companies: {{incremental: {changed}s, full: {all}s}}\n")
    }

    /// What must be there before the first edit, and what Brevo is like.
    pub fn prepare(&self, intercom: &IntercomSandbox, brevo: &BrevoSandbox) {
        for name in ["tier", "owner", "segment"] {
            intercom.define_attribute("company", name, "string", &[]).unwrap();
        }
        brevo.knobs(|knobs| {
            knobs.company_pages = self.pages;
            knobs.companies_a_page = self.page;
            knobs.companies_ignore_filters = self.ignores_filters;
            knobs.companies_listed_after = Duration::from_secs(self.listed_after);
            knobs.company_imports_link = self.imports_link;
        });
    }
}

/// The world of a seed in which companies are kept in step.
pub fn world(seed: u64) -> Plan {
    let mut plan = Plan::narrow(seed);
    let mut dice = Dice::new(seed, "firms");
    let rules = Rules {
        fields: vec![Rule::of(PersonSource::Name, false, false)],
        users: false,
        leads: false,
        vip: false,
        blue: false,
        vip_way: Way::ToBrevo,
    };
    (plan.rules, plan.later) = (rules.clone(), rules);
    plan.setting.webhooks_only = false;
    plan.setting.incremental = plan.setting.incremental.max(300);
    let mut firms = Firms::draw(&mut dice);
    let rules = firms.rules.clone();
    let source = |dice: &mut Dice| dice.pick(&rules).source;
    let nth = |dice: &mut Dice| dice.index(12);
    let or_blank = |dice: &mut Dice| dice.perhaps(0.85, nth);
    let people = dice.between(2, 9);
    let mut before: Vec<Edit> = (0..people).map(|address| newcomer(&mut dice, address)).collect();
    for number in 0..dice.between(1, 5) {
        before.push(Edit::Firm(FirmEdit::FirmCreate(number, nth(&mut dice))));
        for _ in 0..dice.below(4) {
            let source = source(&mut dice);
            before.push(Edit::Firm(FirmEdit::FirmField(dice.next() >> 1, source, or_blank(&mut dice))));
        }
    }
    for _ in 0..dice.between(1, people + 3) {
        before.push(Edit::Firm(FirmEdit::FirmAttach(dice.next() >> 1, dice.next() >> 1)));
    }
    for _ in 0..dice.below(3) {
        before.push(Edit::Firm(FirmEdit::BrevoFirmMake(nth(&mut dice))));
    }
    let many = dice.hits(0.12);
    firms.many = many;
    if many && dice.hits(0.5) {
        before.push(Edit::Firm(FirmEdit::FirmMany(dice.between(MANY, MANY + 4))));
    }
    let most = dice.between(30, 150) * 60_000;
    let mut edits: Vec<(Duration, Edit)> = Vec::new();
    let mut put = |at: u64, edit: FirmEdit| edits.push((Duration::from_millis(at), Edit::Firm(edit)));
    for _ in 0..dice.between(3, 45) {
        let (at, who, other) = (dice.between(0, most), dice.next() >> 1, dice.next() >> 1);
        match dice.below(100) {
            0..=5 => put(at, FirmEdit::FirmCreate(dice.below(9), nth(&mut dice))),
            6..=31 => put(at, FirmEdit::FirmField(who, source(&mut dice), or_blank(&mut dice))),
            32..=43 => put(at, FirmEdit::FirmAttach(who, other)),
            44..=49 => put(at, FirmEdit::FirmDetach(who, other)),
            50 => put(at, FirmEdit::FirmDelete(who)),
            51..=53 => put(at, FirmEdit::FirmSegment(who, dice.hits(0.5))),
            54..=75 => put(at, FirmEdit::BrevoFirmField(who, source(&mut dice), or_blank(&mut dice))),
            76..=77 => put(at, FirmEdit::BrevoFirmDelete(who)),
            78..=84 => put(at, FirmEdit::BrevoFirmLink(who, other)),
            85..=90 => put(at, FirmEdit::BrevoFirmUnlink(who, other)),
            91..=94 => put(at, FirmEdit::BrevoFirmMake(nth(&mut dice))),
            95..=97 => put(at, FirmEdit::BrevoFirmDomain(who, dice.hits(0.5))),
            _ => {}
        }
        // The same field of the same company once more: at the same time, or before or after it was carried.
        if dice.hits(0.35) {
            let wait = *dice.pick(&[0, 200, 3_000, 40_000, 400_000, 1_500_000]);
            let (at, source) = (at + dice.below(wait + 1), source(&mut dice));
            put(at, FirmEdit::FirmField(who, source, or_blank(&mut dice)));
            put(at + dice.below(wait + 1), FirmEdit::BrevoFirmField(who, source, or_blank(&mut dice)));
        }
    }
    if many {
        let at = dice.between(0, most);
        put(at, FirmEdit::FirmMany(dice.between(MANY, MANY + 4)));
        put(at + dice.between(600_000, 5_000_000), FirmEdit::FirmManyFields(source(&mut dice), nth(&mut dice)));
    }
    // Contacts come and go, too: each has its own address.
    for address in people..people + dice.below(3) {
        edits.push((Duration::from_millis(dice.between(0, most)), newcomer(&mut dice, address)));
    }
    for _ in 0..dice.below(4) {
        let (at, who) = (Duration::from_millis(dice.between(0, most)), dice.next() >> 1);
        edits.push((
            at,
            match dice.below(6) {
                0 => Edit::Delete(who),
                1 => Edit::BrevoDelete(who),
                2 => Edit::Archive(who),
                3 => Edit::Unarchive(who),
                _ => Edit::Seen(who),
            },
        ));
    }
    edits.sort_by_key(|(at, _)| *at);
    for (_, upset) in &mut plan.upsets {
        match upset {
            Upset::CrashPoint(name, _, _) if dice.hits(0.7) => *name = dice.pick::<&str>(&FIRM_CRASH_POINTS),
            Upset::Reload => *upset = Upset::Restart(5),
            _ => {}
        }
    }
    if dice.hits(0.3) {
        let at = Duration::from_millis(dice.between(0, most));
        let name = dice.pick::<&str>(&FIRM_CRASH_POINTS[if many { 0 } else { 2 }..]);
        let name = if many { name } else { FIRM_CRASH_POINTS[dice.index(2)] };
        plan.upsets.push((at, Upset::CrashPoint(name, 1, *dice.pick(&[1, 5, 30, 200]))));
        plan.upsets.sort_by_key(|(at, _)| *at);
    }
    if dice.hits(0.2) {
        plan.rates = Rates::NONE;
    }
    // By dice of their own, so that the rest stays as it is.
    let mut dice = Dice::new(seed, "joining");
    if dice.hits(0.2) {
        before.push(Edit::Firm(FirmEdit::BrevoFirmJoin(dice.next() >> 1, dice.index(12))));
    }
    if plan.rates != Rates::NONE && dice.hits(0.15) {
        plan.rates.rejected = dice.between(2, 15) as f64 / 100.0;
    }
    (plan.before, plan.edits) = (before, edits);
    plan.setting.firms = Some(firms);
    plan
}

fn newcomer(dice: &mut Dice, address: u64) -> Edit {
    Edit::Create { lead: false, address: Some(address), named: dice.hits(0.8), id: Some(address), out: dice.hits(0.1) }
}

#[expect(clippy::cast_possible_truncation, reason = "modulo a length")]
fn one_of<T: Clone>(all: &[T], who: u64) -> Option<T> {
    (!all.is_empty()).then(|| all[(who % all.len() as u64) as usize].clone())
}

/// Does it. What was done in words, or `None` if it could not be done.
pub fn act(edit: &FirmEdit, intercom: &IntercomSandbox, brevo: &BrevoSandbox) -> Option<String> {
    let all = intercom.company_ids();
    let company = |which: u64| one_of(&all, which);
    let cards = brevo.companies();
    // Brevo's of one of Intercom's, if there is one.
    let card = |which: u64| -> Option<ShownCompany> {
        let id = company(which)?;
        cards.iter().find(|card| card.attributes.get(OURS).and_then(Value::as_str) == Some(id.as_str())).cloned()
    };
    let contacts = brevo.contacts();
    let people = intercom.contact_ids();
    let edited = |id: &str, patch: &Value| {
        intercom.edit_company(id, patch).ok()?;
        Some(format!("Intercom company {id}: {patch}"))
    };
    Some(match edit {
        FirmEdit::FirmCreate(number, name) => {
            let fields = json!({"company_id": format!("firm-{number}"), "name": Source::Name.value(*name)});
            let id = intercom.create_company(&fields).ok()?;
            format!("Intercom company {id}: {fields}")
        }
        FirmEdit::FirmField(which, source, value) => {
            if value.is_none() && *source == Source::Name {
                return None;
            }
            let value = value.map_or(Value::Null, |nth| source.value(nth));
            edited(&company(*which)?, &source.patch(&value))?
        }
        FirmEdit::FirmAttach(who, which) => {
            let (id, company) = (one_of(&people, *who)?, company(*which)?);
            intercom.attach_company(&id, &company).ok()?;
            format!("Intercom {id}: in company {company}")
        }
        FirmEdit::FirmDetach(who, which) => {
            let id = one_of(&people, *who)?;
            let company = one_of(&intercom.contact_companies(&id), *which)?;
            intercom.detach_company(&id, &company).ok()?;
            format!("Intercom {id}: no longer in company {company}")
        }
        FirmEdit::FirmDelete(which) => {
            let id = company(*which)?;
            intercom.delete_company(&id).ok()?;
            format!("Intercom company {id}: deleted")
        }
        FirmEdit::FirmSegment(which, out) => {
            let segment = if *out { "out" } else { "in" };
            edited(&company(*which)?, &json!({"custom_attributes": {"segment": segment}}))?
        }
        FirmEdit::FirmMany(count) => {
            let who = one_of(&people, 0)?;
            for nth in 0..*count {
                let name = format!("Many {nth}");
                let fields = json!({"company_id": format!("many-{nth}"), "name": name, "industry": "Tools"});
                let id = intercom.create_company(&fields).ok()?;
                intercom.attach_company(&who, &id).ok()?;
            }
            format!("Intercom: {count} companies of {who}")
        }
        FirmEdit::FirmManyFields(source, nth) => {
            let patch = source.patch(&source.value(*nth));
            for id in &all {
                intercom.edit_company(id, &patch).ok()?;
            }
            format!("Intercom: {} companies: {patch}", all.len())
        }
        FirmEdit::BrevoFirmField(which, source, value) => {
            if value.is_none() && *source == Source::Name {
                return None;
            }
            let (id, name) = (card(*which)?.id, source.attribute());
            let value = value.map_or(Value::Null, |nth| source.value(nth));
            brevo.edit_company(&id, name, value.clone()).then(|| format!("Brevo company {id}: {name} = {value}"))?
        }
        FirmEdit::BrevoFirmDelete(which) => {
            let id = card(*which)?.id;
            brevo.delete_company(&id).then(|| format!("Brevo company {id}: deleted"))?
        }
        FirmEdit::BrevoFirmLink(which, who) => {
            let (id, contact) = (card(*which)?.id, one_of(&contacts, *who)?.id);
            brevo.link_company(&id, contact, true).then(|| format!("Brevo company {id}: {contact} linked"))?
        }
        FirmEdit::BrevoFirmUnlink(which, who) => {
            let card = card(*which)?;
            let linked: Vec<i64> = card.contacts.iter().copied().collect();
            let (id, contact) = (card.id, one_of(&linked, *who)?);
            brevo.link_company(&id, contact, false).then(|| format!("Brevo company {id}: {contact} taken off"))?
        }
        FirmEdit::BrevoFirmMake(name) => {
            let name = COMPANIES[name % COMPANIES.len()];
            let id = brevo.create_company(name);
            format!("Brevo company {id} made by hand: {name}")
        }
        FirmEdit::BrevoFirmJoin(which, name) => {
            if card(*which).is_some() {
                return None;
            }
            let (company, name) = (company(*which)?, COMPANIES[name % COMPANIES.len()]);
            let id = brevo.create_company(name);
            brevo.edit_company(&id, OURS, json!(company));
            brevo.edit_company(&id, Source::Industry.attribute(), Source::Industry.value(name.len()));
            format!("Brevo company {id} made by hand for {company}: {name}")
        }
        FirmEdit::BrevoFirmDomain(which, out) => {
            let (id, domain) = (card(*which)?.id, if *out { "out.example" } else { "in.example" });
            brevo.edit_company(&id, "domain", json!(domain)).then(|| format!("Brevo company {id}: domain {domain}"))?
        }
    })
}
