//! Imports: accepted at once, landed later, "completed" with failed rows inside.

use super::attributes::{self, Reader};
use super::contacts::Change;
use super::directory::Key;
use super::reply::{Call, Kind, Outcome, Reply, flag, integers, text};
use super::state::{Hand, State};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Something that runs in the background.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    accepted: DateTime<Utc>,
    due: DateTime<Utc>,
    /// What it still has to do.
    work: Option<Job>,
    /// The failed rows, by the report's name, as CSV.
    reports: BTreeMap<&'static str, String>,
}

/// What a process does once it is due.
#[derive(Debug)]
pub(super) enum Job {
    Contacts(Work),
    /// Companies, a row each.
    Companies(Vec<BTreeMap<String, String>>),
}

#[derive(Debug)]
pub(super) struct Work {
    rows: Vec<Map<String, Value>>,
    lists: Vec<i64>,
    update_existing: bool,
    empty_erases: bool,
    email_blacklist: bool,
    sms_blacklist: bool,
}

const REPORTS: [&str; 7] = [
    "invalid_emails",
    "duplicate_contact_id",
    "duplicate_ext_id",
    "duplicate_email_id",
    "duplicate_phone_id",
    "duplicate_whatsapp_id",
    "duplicate_landline_number_id",
];

/// The report that a conflicting key is written to.
fn report_of(key: Key) -> &'static str {
    match key {
        Key::Email => "duplicate_email_id",
        Key::Sms => "duplicate_phone_id",
        Key::Whatsapp => "duplicate_whatsapp_id",
        Key::Landline => "duplicate_landline_number_id",
        Key::ExtId => "duplicate_ext_id",
    }
}

const LARGEST: usize = 10_000_000;

/// One import's rows: as upper-case columns, `EMAIL` among them.
fn json_rows(items: &[Value]) -> Result<Vec<Map<String, Value>>, Reply> {
    let read = |item: &Value| {
        let Value::Object(item) = item else { return Err(Reply::invalid("jsonBody should be an array of objects")) };
        let mut row = Map::new();
        match item.get("attributes") {
            Some(Value::Object(attributes)) => {
                row.extend(attributes.iter().map(|(name, value)| (name.to_uppercase(), value.clone())));
            }
            None | Some(Value::Null) => {}
            Some(_) => return Err(Reply::invalid("attributes should be an object")),
        }
        // A row has an address and attributes, and nothing else: no lists, no blocklisting of its own.
        if let Some(email) = item.get("email") {
            row.insert("EMAIL".into(), email.clone());
        }
        Ok(row)
    };
    items.iter().map(read).collect()
}

/// A CSV with a header, split by semicolons.
fn csv_rows(text: &str) -> Result<Vec<Map<String, Value>>, Reply> {
    let refusal = |_| Reply::invalid("fileBody is not a valid CSV");
    let mut reader = csv::ReaderBuilder::new().delimiter(b';').flexible(true).from_reader(text.as_bytes());
    let names: Vec<String> = reader.headers().map_err(refusal)?.iter().map(|name| name.trim().to_uppercase()).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(refusal)?;
        rows.push(names.iter().cloned().zip(record.iter().map(|cell| json!(cell))).collect());
    }
    Ok(rows)
}

pub(super) fn import(state: &mut State, call: &Call) -> Outcome {
    if call.body.len() > LARGEST {
        return Err(Reply::invalid("The import exceeds 10 MB; use fileUrl instead"));
    }
    let body = call.object()?;
    let rows = match (body.get("jsonBody"), text(&body, "fileBody")?) {
        (Some(Value::Array(items)), None) => json_rows(items)?,
        (None, Some(text)) => csv_rows(&text)?,
        (None, None) if body.contains_key("fileUrl") => {
            return Err(Reply::invalid("fileUrl is not reachable from this sandbox"));
        }
        (None, None) => return Err(Reply::missing("One of fileUrl, fileBody or jsonBody is required")),
        _ => return Err(Reply::invalid("Exactly one of fileUrl, fileBody or jsonBody is allowed")),
    };
    if !rows.iter().any(row_names_somebody) {
        return Err(Reply::invalid("could not find any valid email or SMS or Contact ID in the file"));
    }
    let mut lists = integers(&body, "listIds")?.unwrap_or_default();
    match body.get("newList") {
        Some(Value::Object(wanted)) => {
            let name = text(wanted, "listName")?.ok_or_else(|| Reply::missing("listName is missing"))?;
            let folder = wanted.get("folderId").and_then(Value::as_i64).unwrap_or(1);
            if !state.lists.has_folder(folder) {
                return Err(Reply::invalid("Folder does not exist"));
            }
            lists.push(state.lists.create(&name, folder, state.now));
        }
        None | Some(Value::Null) => {}
        Some(_) => return Err(Reply::invalid("newList should be an object")),
    }
    if lists.is_empty() {
        return Err(Reply::missing("listIds or newList is required"));
    }
    if lists.iter().any(|id| !state.lists.has(*id)) {
        return Err(Reply::invalid("List does not exist"));
    }
    let work = Work {
        rows,
        lists,
        update_existing: flag(&body, "updateExistingContacts")?.unwrap_or(true),
        empty_erases: flag(&body, "emptyContactsAttributes")?.unwrap_or(false),
        email_blacklist: flag(&body, "emailBlacklist")?.unwrap_or(false),
        sms_blacklist: flag(&body, "smsBlacklist")?.unwrap_or(false),
    };
    let id = state.queue_import("IMPORTUSER", Job::Contacts(work));
    Ok(Reply::json(202, &json!({"processId": id})))
}

fn row_names_somebody(row: &Map<String, Value>) -> bool {
    ["EMAIL", "SMS", "EXT_ID", "CONTACT_ID", "ID"]
        .into_iter()
        .any(|name| row.get(name).is_some_and(|value| !value.is_null() && value.as_str() != Some("")))
}

/// One line of a report.
fn quoted(cell: &str) -> String {
    format!("\"{}\"\n", cell.replace('"', "\"\""))
}

/// How a row went.
enum Landing {
    Done,
    Failed(&'static str, String),
}

impl State {
    /// In the background, after as long as imports take.
    pub(super) fn queue_import(&mut self, name: &'static str, job: Job) -> i64 {
        let delay = TimeDelta::from_std(self.options.import_delay).unwrap_or(TimeDelta::zero());
        let id = self.new_process(name, self.now + delay, Some(job));
        self.land_imports(self.now);
        id
    }

    fn new_process(&mut self, name: &'static str, due: DateTime<Utc>, work: Option<Job>) -> i64 {
        let id = self.processes.last_key_value().map_or(self.no_process_yet, |(last, _)| *last) + 1;
        let process = Process { name, accepted: self.now, due, work, reports: BTreeMap::new() };
        self.processes.insert(id, process);
        id
    }

    /// A process that has nothing more to do.
    pub(super) fn instant_process(&mut self, name: &'static str) -> i64 {
        self.new_process(name, self.now, None)
    }

    /// Lands what is due by `now`. Each import lands at its own instant, so that `modifiedAt` does not depend on who
    /// looked when.
    pub(super) fn land_imports(&mut self, now: DateTime<Utc>) {
        let due: Vec<i64> = self
            .processes
            .iter()
            .rev()
            .take(10_000)
            .filter(|(_, process)| process.work.is_some() && process.due <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due.into_iter().rev() {
            let Some(process) = self.processes.get_mut(&id) else { continue };
            let Some(work) = process.work.take() else { continue };
            self.now = process.due;
            let reports = match work {
                Job::Contacts(work) => self.land(&work),
                Job::Companies(rows) => {
                    for row in rows {
                        self.land_company(&row);
                    }
                    BTreeMap::new()
                }
            };
            if let Some(process) = self.processes.get_mut(&id) {
                process.reports = reports;
            }
        }
    }

    fn land(&mut self, work: &Work) -> BTreeMap<&'static str, String> {
        let mut reports: BTreeMap<&'static str, String> = BTreeMap::new();
        for row in &work.rows {
            if let Landing::Failed(report, named) = self.land_row(row, work) {
                let csv = reports.entry(report).or_insert_with(|| "Identifier\n".to_owned());
                csv.push_str(&quoted(&named));
            }
        }
        reports
    }

    fn land_row(&mut self, row: &Map<String, Value>, work: &Work) -> Landing {
        let cell = |name: &str| match row.get(name) {
            Some(Value::String(text)) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let (email, contact_id) = (cell("EMAIL"), cell("CONTACT_ID").or_else(|| cell("ID")));
        let address = email.as_deref().map(attributes::email);
        if let Some(None) = address {
            return Landing::Failed("invalid_emails", email.unwrap_or_default());
        }
        let mut change = Change { email: address.flatten(), link: work.lists.clone(), ..Change::default() };
        let mut values = Map::new();
        for (name, value) in row.iter().filter(|(name, _)| !matches!(name.as_str(), "EMAIL" | "CONTACT_ID" | "ID")) {
            // Empty cells erase only where the import asks for it.
            let is_empty = value.is_null() || value.as_str().is_some_and(str::is_empty);
            if is_empty && !work.empty_erases {
                continue;
            }
            values.insert(name.clone(), if is_empty { json!("") } else { value.clone() });
        }
        if self.read_attributes(&values, Reader::Import, &mut change).is_err() {
            return Landing::Failed("invalid_emails", email.unwrap_or_default());
        }
        let by_keys = || {
            change
                .keys()
                .filter(|(key, _)| matches!(key, Key::ExtId | Key::Sms))
                .find_map(|(key, value)| self.contacts.find(key, value))
        };
        let by_id = |text: &String| text.parse().ok().filter(|id| self.contacts.get(*id).is_some());
        let existing = match &change.email {
            Some(email) => self.contacts.find(Key::Email, email),
            None => contact_id.as_ref().and_then(by_id).or_else(by_keys),
        };
        let named = email.or(contact_id).or_else(|| cell("EXT_ID")).or_else(|| cell("SMS")).unwrap_or_default();
        let can_create = change.keys().any(|(key, _)| matches!(key, Key::Email | Key::Sms | Key::ExtId));
        match existing {
            None if !can_create => Landing::Failed("invalid_emails", named),
            Some(id) if !work.update_existing => {
                // Left as it is, but put on the lists all the same.
                let change = Change { link: work.lists.clone(), ..Change::default() };
                self.apply(id, change, Hand::Import);
                Landing::Done
            }
            existing => {
                if let Some(key) = self.conflicts(&change, existing).first() {
                    return Landing::Failed(report_of(*key), named);
                }
                change.sms_blacklisted = work.sms_blacklist.then_some(true);
                change.email_blacklisted = match existing {
                    _ if work.email_blacklist => Some(true),
                    // Nobody knows what `emailBlacklist: false`, the default, does to people who opted out.
                    Some(_) if self.knobs.import_resubscribes => Some(false),
                    _ => None,
                };
                match existing {
                    Some(id) => self.apply(id, change, Hand::Import),
                    None => _ = self.create_contact(change, Hand::Import),
                }
                Landing::Done
            }
        }
    }

    fn process_shown(&self, id: i64, process: &Process, origin: &str) -> Value {
        let halfway = process.accepted + (process.due - process.accepted) / 2;
        let status = match &process.work {
            None => "completed",
            Some(_) if self.now < halfway => "queued",
            Some(_) => "processing",
        };
        let mut shown = json!({"id": id, "name": process.name, "status": status});
        let is_done = process.work.is_none();
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("created_at".into(), json!(self.stamp(process.accepted)));
            if is_done {
                shown.insert("completed_at".into(), json!(self.stamp(process.due)));
            }
            if is_done && process.name == "IMPORTUSER" {
                let url = |report: &str| {
                    let link = format!("{origin}/import-reports/{id}/{report}.csv");
                    process.reports.contains_key(report).then_some(link)
                };
                let reports: Map<String, Value> =
                    REPORTS.into_iter().map(|report| (report.to_owned(), json!(url(report)))).collect();
                shown.insert("info".into(), json!({"import": reports}));
            }
        }
        shown
    }
}

pub(super) fn list(state: &mut State, call: &Call) -> Outcome {
    let (limit, offset) = call.page(10, 50)?;
    let mut ids: Vec<i64> = state.processes.keys().copied().collect();
    if !call.ascending()? {
        ids.reverse();
    }
    let shown: Vec<Value> = ids
        .iter()
        .skip(offset)
        .take(limit)
        .filter_map(|id| Some(state.process_shown(*id, state.processes.get(id)?, &call.origin)))
        .collect();
    Ok(Reply::json(200, &json!({"processes": shown, "count": ids.len()})))
}

pub(super) fn get(state: &mut State, call: &Call) -> Outcome {
    let id = call.number(1, "processId")?;
    let refusal = || Reply::error(404, "invalid_parameter", "processId is invalid");
    let process = state.processes.get(&id).ok_or_else(refusal)?;
    Ok(Reply::json(200, &state.process_shown(id, process, &call.origin)))
}

/// The CSV of failed rows behind a link of a process. It lies beside the API and needs no key.
pub(super) fn report(state: &State, id: &str, file: &str) -> Reply {
    let csv = id.parse::<i64>().ok().and_then(|id| state.processes.get(&id)).and_then(|process| {
        let name = file.strip_suffix(".csv")?;
        process.reports.get(name).cloned()
    });
    csv.map_or_else(
        || Reply::not_found("No such report"),
        |csv| Reply { status: 200, kind: Kind::Csv, body: Bytes::from(csv) },
    )
}
