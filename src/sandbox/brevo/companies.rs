//! Companies and their attributes. Nothing about them is unique, nothing fires webhooks.

use super::imports::Job;
use super::reply::{Call, Outcome, Reply, integers, text, texts};
use super::state::State;
use super::{BrevoSandbox, CompanyPages};
use chrono::TimeDelta;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
struct Company {
    id: String,
    attributes: Map<String, Value>,
    contacts: BTreeSet<i64>,
    deals: BTreeSet<String>,
    created: chrono::DateTime<chrono::Utc>,
    modified: chrono::DateTime<chrono::Utc>,
}

#[derive(Debug, Clone)]
struct Field {
    id: String,
    internal: String,
    label: String,
    kind: String,
    options: Vec<String>,
}

/// All companies, in order of creation.
#[derive(Debug)]
pub(super) struct Crm {
    companies: BTreeMap<u64, Company>,
    by_id: BTreeMap<String, u64>,
    fields: Vec<Field>,
    seed: u64,
    last: u64,
}

const DEFAULT_FIELDS: [(&str, &str); 8] = [
    ("name", "text"),
    ("domain", "text"),
    ("owner", "user"),
    ("phone_number", "text"),
    ("number_of_employees", "number"),
    ("revenue", "number"),
    ("industry", "text"),
    ("number_of_contacts", "number"),
];

impl Crm {
    pub(super) fn new(seed: u64) -> Self {
        let mut crm = Self { companies: BTreeMap::new(), by_id: BTreeMap::new(), fields: Vec::new(), seed, last: 0 };
        for (name, kind) in DEFAULT_FIELDS {
            let id = crm.next_id();
            let label = name.replace('_', " ");
            crm.fields.push(Field { id, internal: name.into(), label, kind: kind.into(), options: Vec::new() });
        }
        crm
    }

    /// Twenty-four hexadecimal digits, as MongoDB makes them.
    fn next_id(&mut self) -> String {
        self.last += 1;
        format!("{:08x}{:016x}", 0x6500_0000_u64 + (self.seed & 0xff_ffff), self.last)
    }

    fn get(&self, id: &str) -> Option<&Company> {
        self.companies.get(self.by_id.get(id)?)
    }

    fn get_mut(&mut self, id: &str) -> Option<&mut Company> {
        self.companies.get_mut(self.by_id.get(id)?)
    }

    pub(super) fn forget_contact(&mut self, contact: i64) {
        for company in self.companies.values_mut() {
            company.contacts.remove(&contact);
        }
    }
}

impl State {
    fn company_shown(&self, company: &Company) -> Value {
        let mut attributes = company.attributes.clone();
        attributes.insert("number_of_contacts".into(), json!(company.contacts.len()));
        attributes.insert("created_at".into(), json!(self.stamp(company.created)));
        attributes.insert("last_updated_at".into(), json!(self.stamp(company.modified)));
        json!({
            "id": company.id,
            "attributes": attributes,
            "linkedContactsIds": company.contacts,
            "linkedDealsIds": company.deals,
        })
    }

    /// Known attributes whose type fits; unknown ones are refused.
    fn company_attributes(&self, body: &Map<String, Value>) -> Result<Map<String, Value>, Reply> {
        let mut taken = Map::new();
        let Some(Value::Object(values)) = body.get("attributes") else { return Ok(taken) };
        for (name, value) in values {
            let Some(field) = self.crm.fields.iter().find(|field| field.internal == *name) else {
                return Err(Reply::invalid(&format!("Attribute {name} does not exist")));
            };
            if self.knobs.company_refuses.as_ref() == Some(name) {
                return Err(Reply::invalid(&format!("The value for {name} is not valid")));
            }
            let fits = match field.kind.as_str() {
                "number" => value.is_number(),
                "boolean" => value.is_boolean(),
                "multi-choice" => value.is_array(),
                _ => value.is_string(),
            };
            let is_empty = value.is_null() || value.as_str() == Some("");
            if !fits && !is_empty {
                // What does not fit is passed over without a word, as with contacts.
                continue;
            }
            taken.insert(name.clone(), if is_empty { Value::Null } else { value.clone() });
        }
        Ok(taken)
    }

    /// A row of an import: a company of its own, whatever is there already.
    pub(super) fn land_company(&mut self, row: &BTreeMap<String, String>) {
        let mut attributes = Map::new();
        for (name, cell) in row.iter().filter(|(_, cell)| !cell.trim().is_empty()) {
            let Some(field) = self.crm.fields.iter().find(|field| field.internal == *name) else { continue };
            let value = match field.kind.as_str() {
                "number" => cell.trim().parse::<f64>().ok().map(|number| json!(number)),
                "boolean" => cell.trim().parse::<bool>().ok().map(Value::Bool),
                "multi-choice" => Some(json!(cell.split(',').map(str::trim).collect::<Vec<_>>())),
                _ => Some(json!(cell)),
            };
            // As a whole number, where it is one.
            let whole = |value: Value| match value.as_f64() {
                #[expect(clippy::cast_possible_truncation, reason = "whole, and of a size that people write")]
                Some(number) if number.fract() == 0.0 && number.abs() < 1e15 => json!(number as i64),
                _ => value,
            };
            if let Some(value) = value.map(whole).filter(|_| self.knobs.company_imports_drop.as_ref() != Some(name)) {
                attributes.insert(name.clone(), value);
            }
        }
        let contacts = row.get("associated_contact").map(String::as_str).unwrap_or_default();
        let contacts = contacts.split(',').filter_map(|id| id.trim().parse().ok());
        let links = self.knobs.company_imports_link;
        let contacts: BTreeSet<i64> = contacts.filter(|id: &i64| links && self.contacts.get(*id).is_some()).collect();
        let known = row.get("company_id").filter(|id| !id.is_empty());
        match known {
            Some(id) => {
                let now = self.now;
                let Some(company) = self.crm.get_mut(id).filter(|_| !self.knobs.company_imports_change_nothing) else {
                    return;
                };
                company.attributes.extend(attributes);
                company.contacts.extend(contacts);
                company.modified = now;
            }
            None if attributes.contains_key("name") => drop(self.add_company(attributes, contacts, BTreeSet::new())),
            None => {}
        }
    }

    fn add_company(
        &mut self,
        mut attributes: Map<String, Value>,
        contacts: BTreeSet<i64>,
        deals: BTreeSet<String>,
    ) -> String {
        attributes.retain(|_, value| !value.is_null());
        let id = self.crm.next_id();
        let (place, now) = (self.crm.last, self.now);
        let company = Company { id: id.clone(), attributes, contacts, deals, created: now, modified: now };
        self.crm.companies.insert(place, company);
        self.crm.by_id.insert(id.clone(), place);
        id
    }

    fn links(&self, body: &Map<String, Value>, name: &str) -> Result<Option<BTreeSet<i64>>, Reply> {
        let Some(ids) = integers(body, name)? else { return Ok(None) };
        if ids.iter().any(|id| self.contacts.get(*id).is_none()) {
            return Err(Reply::invalid("Contact does not exist"));
        }
        Ok(Some(ids.into_iter().collect()))
    }
}

fn name_of(body: &Map<String, Value>) -> Result<Option<String>, Reply> {
    let name = text(body, "name")?;
    if name.as_deref() == Some("") { Err(Reply::invalid("name cannot be empty")) } else { Ok(name) }
}

/// Answers 200, not 201.
pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    let body = call.object()?;
    let name = name_of(&body)?.ok_or_else(|| Reply::missing("name is missing"))?;
    let mut attributes = state.company_attributes(&body)?;
    attributes.insert("name".into(), json!(name));
    let contacts = state.links(&body, "linkedContactsIds")?.unwrap_or_default();
    let deals = texts(&body, "linkedDealsIds")?.unwrap_or_default().into_iter().collect();
    let id = state.add_company(attributes, contacts, deals);
    Ok(Reply::json(200, &json!({"id": id})))
}

fn absent() -> Reply {
    Reply::not_found("Company not found")
}

pub(super) fn get(state: &mut State, call: &Call) -> Outcome {
    let company = state.crm.get(call.part(1)).ok_or_else(absent)?;
    Ok(Reply::json(200, &state.company_shown(company)))
}

/// `linkedContactsIds` replaces the whole set: the reason for link-unlink.
pub(super) fn update(state: &mut State, call: &Call) -> Outcome {
    let body = call.object()?;
    state.crm.get(call.part(1)).ok_or_else(absent)?;
    let name = name_of(&body)?;
    let attributes = state.company_attributes(&body)?;
    let contacts = state.links(&body, "linkedContactsIds")?;
    let deals = texts(&body, "linkedDealsIds")?;
    let now = state.now;
    let company = state.crm.get_mut(call.part(1)).ok_or_else(absent)?;
    for (name, value) in attributes {
        if value.is_null() {
            company.attributes.remove(&name);
        } else {
            company.attributes.insert(name, value);
        }
    }
    if let Some(name) = name {
        company.attributes.insert("name".into(), json!(name));
    }
    if let Some(contacts) = contacts {
        company.contacts = contacts;
    }
    if let Some(deals) = deals {
        company.deals = deals.into_iter().collect();
    }
    company.modified = now;
    let company = company.clone();
    Ok(Reply::json(200, &state.company_shown(&company)))
}

pub(super) fn link(state: &mut State, call: &Call) -> Outcome {
    let body = call.object()?;
    let link = state.links(&body, "linkContactIds")?.unwrap_or_default();
    let unlink = integers(&body, "unlinkContactIds")?.unwrap_or_default();
    let (link_deals, unlink_deals) = (texts(&body, "linkDealsIds")?, texts(&body, "unlinkDealsIds")?);
    let now = state.now;
    let link = if state.knobs.company_links_do_not_stick { BTreeSet::new() } else { link };
    let company = state.crm.get_mut(call.part(2)).ok_or_else(|| Reply::invalid("Company not found"))?;
    company.contacts.extend(link);
    company.contacts.retain(|id| !unlink.contains(id));
    company.deals.extend(link_deals.unwrap_or_default());
    let gone = unlink_deals.unwrap_or_default();
    company.deals.retain(|id| !gone.contains(id));
    company.modified = now;
    Ok(Reply::empty(204))
}

pub(super) fn delete(state: &mut State, call: &Call) -> Outcome {
    let place = state.crm.by_id.remove(call.part(1)).ok_or_else(absent)?;
    state.crm.companies.remove(&place);
    Ok(Reply::empty(204))
}

/// The parts of a multipart body, by name. What separates them is its first line.
fn parts(body: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let text = std::str::from_utf8(body).ok()?;
    let boundary = text.lines().next()?.trim_end();
    let mut parts = BTreeMap::new();
    for part in text.split(boundary).skip(1).filter(|part| !part.starts_with("--")) {
        let (head, content) = part.trim_start_matches("\r\n").split_once("\r\n\r\n")?;
        let name = head.split("name=\"").nth(1)?.split('"').next()?;
        let content = content.strip_suffix("\r\n").unwrap_or(content);
        parts.insert(name.to_owned(), content.as_bytes().to_vec());
    }
    Some(parts)
}

/// `POST /companies/import`: a CSV file, a row a company. It lands later, and tells no ids.
pub(super) fn import(state: &mut State, call: &Call) -> Outcome {
    let refusal = |why: &str| Reply::json(400, &json!({"message": format!("Bad request : {why}")}));
    let parts = parts(&call.body).ok_or_else(|| refusal("not a multipart form"))?;
    let file = parts.get("file").ok_or_else(|| refusal("file is missing"))?;
    let options: Value = match parts.get("mapping") {
        Some(mapping) => serde_json::from_slice(mapping).map_err(|_| refusal("mapping is not valid JSON"))?,
        None => json!({}),
    };
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file.as_slice());
    let heads: Vec<String> =
        reader.headers().map_err(|_| refusal("no header"))?.iter().map(|head| head.trim().to_owned()).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|_| refusal("not a CSV file"))?;
        let mut row: BTreeMap<String, String> = heads.iter().cloned().zip(record.iter().map(str::to_owned)).collect();
        if options["update_existing_records"] != json!(true) {
            // Then every row is a new company.
            row.remove("company_id");
        }
        rows.push(row);
    }
    let id = state.queue_import("COMPANIES_IMPORT", Job::Companies(rows));
    Ok(Reply::json(200, &json!({"processId": id})))
}

/// Both filter syntaxes: `filters={"attributes.name":"v"}` and `filters[attributes.name]=v`.
fn filters(call: &Call) -> Result<Vec<(String, String)>, Reply> {
    let mut wanted = Vec::new();
    for (key, value) in &call.query {
        if key == "filters" {
            let Ok(Value::Object(object)) = serde_json::from_str(value) else {
                return Err(Reply::invalid("filters is not valid JSON"));
            };
            for (name, value) in object {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                wanted.push((name.trim_start_matches("attributes.").to_owned(), value));
            }
        } else if let Some(name) = key.strip_prefix("filters[attributes.").and_then(|name| name.strip_suffix(']')) {
            wanted.push((name.to_owned(), value.clone()));
        }
    }
    Ok(wanted)
}

/// Without a count. What the numbers of pages count is a knob: nobody knows.
pub(super) fn list(state: &mut State, call: &Call) -> Outcome {
    let (limit, _) = call.page(50, state.knobs.most_companies_a_page.unwrap_or(1_000))?;
    let limit = limit.min(state.knobs.companies_a_page.unwrap_or(limit));
    let page = match call.first("page") {
        None => None,
        Some(text) => Some(text.parse::<usize>().map_err(|_| Reply::invalid("page should be an integer"))?),
    };
    let skipped = match (state.knobs.company_pages, page) {
        (CompanyPages::FromOne, page) => (page.unwrap_or(1).max(1) - 1).saturating_mul(limit),
        (CompanyPages::FromZero, page) => page.unwrap_or(0).saturating_mul(limit),
        (CompanyPages::Offset, page) => page.unwrap_or(0),
    };
    let (modified, created) = (call.instant("modifiedSince")?, call.instant("createdSince")?);
    let (linked, mut wanted) = (call.numbers("linkedContactsIds")?, filters(call)?);
    if state.knobs.companies_ignore_filters {
        wanted.clear();
    }
    let has = |company: &Company, (name, value): &(String, String)| match company.attributes.get(name) {
        Some(Value::String(text)) => text == value,
        Some(other) => other.to_string().as_str() == value,
        None => false,
    };
    let lag = TimeDelta::from_std(state.knobs.companies_listed_after).unwrap_or_default();
    let mut found: Vec<&Company> = state
        .crm
        .companies
        .values()
        .filter(|company| {
            company.created + lag <= state.now
                && modified.is_none_or(|since| company.modified >= since)
                && created.is_none_or(|since| company.created >= since)
                && linked.iter().all(|id| company.contacts.contains(id))
                && wanted.iter().all(|filter| has(company, filter))
        })
        .collect();
    if !call.ascending()? {
        found.reverse();
    }
    let items: Vec<Value> =
        found.into_iter().skip(skipped).take(limit).map(|company| state.company_shown(company)).collect();
    Ok(Reply::json(200, &json!({"items": items})))
}

const KINDS: [&str; 7] = ["text", "user", "number", "single-select", "date", "boolean", "multi-choice"];

pub(super) fn create_attribute(state: &mut State, call: &Call) -> Outcome {
    let body = call.object()?;
    let label = text(&body, "label")?.filter(|label| !label.is_empty());
    let label = label.ok_or_else(|| Reply::missing("label is missing"))?;
    let kind = text(&body, "attributeType")?.ok_or_else(|| Reply::missing("attributeType is missing"))?;
    if text(&body, "objectType")?.as_deref() != Some("companies") {
        return Err(Reply::invalid("objectType is invalid"));
    }
    if label.chars().count() > 50 {
        return Err(Reply::invalid("label should be at most 50 characters"));
    }
    if !KINDS.contains(&kind.as_str()) {
        return Err(Reply::invalid("attributeType is invalid"));
    }
    // Brevo derives the internal name, and it must be read back.
    let internal: String =
        label.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if state.crm.fields.iter().any(|field| field.internal == internal || field.label == label) {
        return Err(Reply::invalid("label must be unique"));
    }
    let options = texts(&body, "optionsLabels")?.unwrap_or_default();
    let id = state.crm.next_id();
    state.crm.fields.push(Field { id: id.clone(), internal, label, kind, options });
    Ok(Reply::json(200, &json!({"id": id})))
}

#[expect(clippy::unnecessary_wraps, reason = "every handler has this shape")]
pub(super) fn attributes(state: &mut State, _: &Call) -> Outcome {
    let shown: Vec<Value> = state
        .crm
        .fields
        .iter()
        .map(|field| {
            let options: Vec<Value> =
                field.options.iter().map(|option| json!({"key": option, "value": option})).collect();
            json!({
                "internalName": field.internal,
                "label": field.label,
                "attributeTypeName": field.kind,
                "attributeOptions": options,
                "isRequired": field.internal == "name",
                "isValueReadonly": field.internal == "number_of_contacts",
            })
        })
        .collect();
    Ok(Reply::json(200, &Value::Array(shown)))
}

pub(super) fn delete_attribute(state: &mut State, call: &Call) -> Outcome {
    let index = state.crm.fields.iter().position(|field| field.id == call.part(2));
    let index = index.filter(|index| *index >= DEFAULT_FIELDS.len());
    state.crm.fields.remove(index.ok_or_else(|| Reply::not_found("Attribute not found"))?);
    Ok(Reply::empty(204))
}

/// A company, as it is really there.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownCompany {
    /// Brevo's id.
    pub id: String,
    /// Values by internal name.
    pub attributes: BTreeMap<String, Value>,
    /// The contacts that are linked with it.
    pub contacts: BTreeSet<i64>,
}

impl BrevoSandbox {
    /// All companies, in order of creation.
    pub fn companies(&self) -> Vec<ShownCompany> {
        let shown = |company: &Company| ShownCompany {
            id: company.id.clone(),
            attributes: company.attributes.clone().into_iter().collect(),
            contacts: company.contacts.clone(),
        };
        self.with(|state| state.crm.companies.values().map(shown).collect())
    }

    /// Somebody makes a company in Brevo's screens; its id.
    pub fn create_company(&self, name: &str) -> String {
        let attributes = Map::from_iter([("name".to_owned(), json!(name))]);
        self.with(|state| state.add_company(attributes, BTreeSet::new(), BTreeSet::new()))
    }

    /// Somebody edits a value there (`null` clears it); false where there is no such company.
    pub fn edit_company(&self, id: &str, name: &str, value: Value) -> bool {
        self.change_company(id, |company| match value {
            Value::Null => drop(company.attributes.remove(name)),
            value => drop(company.attributes.insert(name.to_owned(), value)),
        })
    }

    /// Somebody links a contact with it there (`true`), or takes one off.
    pub fn link_company(&self, id: &str, contact: i64, linked: bool) -> bool {
        self.change_company(id, |company| {
            if linked {
                company.contacts.insert(contact);
            } else {
                company.contacts.remove(&contact);
            }
        })
    }

    /// Somebody deletes it there.
    pub fn delete_company(&self, id: &str) -> bool {
        self.with(|state| {
            let place = state.crm.by_id.remove(id);
            place.is_some_and(|place| state.crm.companies.remove(&place).is_some())
        })
    }

    /// An attribute of companies is of another type from now on.
    pub fn retype_company_attribute(&self, name: &str, kind: &str) {
        self.with(|state| {
            for field in state.crm.fields.iter_mut().filter(|field| field.internal == name) {
                kind.clone_into(&mut field.kind);
            }
        });
    }

    fn change_company(&self, id: &str, change: impl FnOnce(&mut Company)) -> bool {
        self.with(|state| {
            let now = state.now;
            let Some(company) = state.crm.get_mut(id) else { return false };
            change(company);
            company.modified = now;
            true
        })
    }
}
