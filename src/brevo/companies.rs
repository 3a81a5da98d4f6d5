//! Companies: their attributes, pages, single ones, and the bulk write.
//!
//! Nothing about a company is unique and none has an external id, so that making one twice makes two. All of it shares a
//! hundred requests an hour with everything that is not about contacts and events.

mod pages;
#[cfg(test)]
mod tests;
mod upload;

pub(super) use pages::A_PAGE;

use super::client::{Ask, BrevoClient, OTHER, encode, unsupported};
use super::{errors, read, wire};
use crate::http::lean::{self, Tree};
use crate::http::{Effect, server_time};
use crate::model::{
    Answer, Attribute, AttributeKind, AttributeSpec, BrevoCompany, BrevoCompanyId, BrevoContactId, ErrorKind, Fetched,
    Fields, Gone, IntercomCompanyId, NewCompany, Observation, Priority, SideError, SideName, Value,
};
use chrono::NaiveDate;
use http::Method;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// An attribute as Brevo knows it.
#[derive(Debug, Clone)]
pub(super) struct CompanyAttribute {
    /// Its own name, which Brevo makes of the label it is given.
    internal: String,
    kind: AttributeKind,
    /// Label and key of each choice.
    options: Vec<(String, String)>,
}

/// Attributes by the UPPER-CASE name under which all else knows them.
pub(super) type CompanyAttributes = BTreeMap<String, CompanyAttribute>;

/// The request that makes a company, or changes this one, as the history names it.
pub fn company_request_for(company: Option<&BrevoCompanyId>) -> String {
    company.map_or_else(|| "POST /companies".to_owned(), |id| format!("PATCH /companies/{id}"))
}

/// The name that a label becomes: what Brevo makes of it is its own affair, and this is what a config says.
fn in_capitals(text: &str) -> String {
    let upper: String = text.trim().to_uppercase();
    upper.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect()
}

impl BrevoClient {
    pub(super) async fn read_company_attributes(&self) -> Result<Vec<Attribute>, Box<SideError>> {
        let answer = self.send(Ask::get("/crm/attributes/companies", OTHER, Priority::Live)).await?;
        let tree = read::json(&answer)?;
        let rows = Some(tree.root()).filter(|rows| rows.is_array()).ok_or_else(|| errors::malformed(&answer))?;
        let mut known = CompanyAttributes::new();
        let mut attributes = Vec::new();
        for row in rows.items() {
            let Some((attribute, own)) = attribute(row) else { continue };
            // Brevo makes the name of the label in a way of its own: one that we made is found under either.
            let labelled = wire::text(row, "label").map(in_capitals).filter(|label| *label != attribute.name);
            for name in std::iter::once(attribute.name.clone()).chain(labelled) {
                if !known.contains_key(&name) {
                    known.insert(name.clone(), own.clone());
                    attributes.push(Attribute { name, ..attribute.clone() });
                }
            }
        }
        self.remember_company_attributes(known);
        Ok(attributes)
    }

    pub(super) async fn create_company_attribute(
        &self,
        spec: &AttributeSpec,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let kind = match &spec.kind {
            AttributeKind::Text => "text",
            AttributeKind::Float => "number",
            AttributeKind::Boolean => "boolean",
            AttributeKind::Date => "date",
            AttributeKind::Category => "single-select",
            AttributeKind::MultipleChoice => "multi-choice",
            AttributeKind::Other(name) => return Err(unsupported(&format!("company attributes of type {name}"))),
        };
        let label = if spec.name == BrevoCompany::OURS { BrevoCompany::OURS_LABEL } else { &spec.name };
        let mut body = json!({ "objectType": "companies", "label": label, "attributeType": kind });
        if !spec.options.is_empty() {
            body["optionsLabels"] = json!(spec.options);
        }
        let ask = Ask::write(Method::POST, "/crm/attributes", body, Effect::Creates, priority).family(OTHER);
        match self.send(ask).await {
            Ok(_) => Ok(Answer::Done),
            // An earlier attempt's answer was lost, or a person was faster. The next look shows its type.
            Err(error) if is_taken(&error) => Ok(Answer::Done),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn fetch_company_by_id(
        &self,
        id: &BrevoCompanyId,
        priority: Priority,
    ) -> Result<Fetched, Box<SideError>> {
        let target = format!("/companies/{}", segment(id)?);
        let answer = match self.send(Ask::get(target, OTHER, priority)).await {
            Ok(answer) => answer,
            Err(error) if error.kind == ErrorKind::NotFound || says_not_found(&error) => {
                return Ok(Fetched::Gone(Gone::Deleted));
            }
            Err(error) => return Err(error),
        };
        let company = self.company_of(read::json(&answer)?.root()).ok_or_else(|| errors::malformed(&answer))?;
        Ok(Fetched::Found(Box::new(Observation::BrevoCompany(Box::new(company))), server_time(answer.headers())))
    }

    /// By the attribute that is ours. Brevo has been described with two ways to say it; one that it does not understand it
    /// may pass over, and show all companies: then nothing has been found out.
    pub(super) async fn find_companies_of(
        &self,
        id: &IntercomCompanyId,
        priority: Priority,
    ) -> Result<Vec<BrevoCompany>, Box<SideError>> {
        let name = self.internal_name(BrevoCompany::OURS);
        let filter = json!({ (format!("attributes.{name}")): id.as_str() }).to_string();
        let ways = [
            format!("filters={}", encode(&filter)),
            format!("{}={}", encode(&format!("filters[attributes.{name}]")), encode(id.as_str())),
        ];
        for way in ways {
            let answer = match self.send(Ask::get(format!("/companies?limit=50&{way}"), OTHER, priority)).await {
                Ok(answer) => answer,
                Err(error) if matches!(error.kind, ErrorKind::Rejected { .. }) => continue,
                Err(error) => return Err(error),
            };
            let tree = read::json(&answer)?;
            let (rows, _) = wire::rows(tree.root(), "items").ok_or_else(|| errors::malformed(&answer))?;
            let found: Vec<BrevoCompany> = rows.iter().filter_map(|row| self.company_of(*row)).collect();
            if found.len() == rows.len() && found.iter().all(|company| company.intercom().as_ref() == Some(id)) {
                return Ok(found);
            }
        }
        let words = "asked for the company with one id, Brevo shows others: it does not filter by the attribute";
        Err(SideError::new(SideName::Brevo, ErrorKind::Malformed, words))
    }

    pub(super) async fn create_company(
        &self,
        company: &NewCompany,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let Some(name) = company.attributes.get(BrevoCompany::NAME) else {
            let field = Some(BrevoCompany::NAME.to_owned());
            return Err(SideError::new(SideName::Brevo, ErrorKind::Rejected { field }, "a company needs a name"));
        };
        let mut body = json!({ "name": name.to_string() });
        let set = company.attributes.iter().map(|(name, value)| (name, Some(value)));
        let attributes = self.attributes_to_wire(set.filter(|(name, _)| *name != BrevoCompany::NAME));
        if !attributes.is_empty() {
            body["attributes"] = attributes.into();
        }
        if !company.contacts.is_empty() {
            body["linkedContactsIds"] = json!(company.contacts);
        }
        let ask = Ask::write(Method::POST, "/companies", body, Effect::Creates, priority).family(OTHER);
        let answer = self.send(ask).await?;
        let made = Tree::from_slice(answer.body()).ok();
        let id = made.as_ref().and_then(|made| wire::text(made.root(), "id"));
        id.map(|id| Answer::CompanyCreated(BrevoCompanyId::new(id))).ok_or_else(|| errors::unreadable_success(&answer))
    }

    /// Attributes only: `linkedContactsIds` in this request would replace whom people have linked themselves.
    pub(super) async fn update_company(
        &self,
        id: &BrevoCompanyId,
        change: &BTreeMap<String, Option<Value>>,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let mut body = json!({});
        if let Some(Some(name)) = change.get(BrevoCompany::NAME) {
            body["name"] = name.to_string().into();
        }
        let set = change.iter().map(|(name, value)| (name, value.as_ref()));
        let attributes = self.attributes_to_wire(set.filter(|(name, _)| *name != BrevoCompany::NAME));
        if !attributes.is_empty() {
            body["attributes"] = attributes.into();
        }
        let target = format!("/companies/{}", segment(id)?);
        let ask = Ask::write(Method::PATCH, target, body, Effect::Updates, priority).family(OTHER);
        let answer = self.send(ask).await?;
        // It is done, whether the answer shows the company or not.
        let shown = Tree::from_slice(answer.body()).ok().and_then(|tree| self.company_of(tree.root()));
        let at = server_time(answer.headers());
        Ok(shown
            .filter(|shown| shown.id == *id)
            .map_or(Answer::Done, |shown| Answer::BrevoCompany(Box::new(shown), at)))
    }

    pub(super) async fn link_company(
        &self,
        id: &BrevoCompanyId,
        link: &BTreeSet<BrevoContactId>,
        unlink: &BTreeSet<BrevoContactId>,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let mut body = json!({});
        if !link.is_empty() {
            body["linkContactIds"] = json!(link);
        }
        if !unlink.is_empty() {
            body["unlinkContactIds"] = json!(unlink);
        }
        let target = format!("/companies/link-unlink/{}", segment(id)?);
        self.send(Ask::write(Method::PATCH, target, body, Effect::Idempotent, priority).family(OTHER)).await?;
        Ok(Answer::Done)
    }

    /// The attributes of a request, under Brevo's own names for them.
    fn attributes_to_wire<'a>(&self, set: impl Iterator<Item = (&'a String, Option<&'a Value>)>) -> Map<String, Json> {
        self.with_company_attributes(|known| {
            let wired = set.map(|(name, value)| match known.get(name) {
                Some(own) => (own.internal.clone(), to_wire(value, Some(own))),
                None => (name.to_lowercase(), to_wire(value, None)),
            });
            wired.collect()
        })
    }

    fn internal_name(&self, name: &str) -> String {
        self.with_company_attributes(|known| known.get(name).map(|own| own.internal.clone()))
            .unwrap_or_else(|| name.to_lowercase())
    }

    /// A company; `None` if it has no id.
    fn company_of(&self, json: lean::Json<'_>) -> Option<BrevoCompany> {
        self.with_company_attributes(|known| company(json, known))
    }
}

/// An id as one segment of a path: one that would change the path names no company.
fn segment(id: &BrevoCompanyId) -> Result<String, Box<SideError>> {
    let text = id.as_str();
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        let kind = ErrorKind::Rejected { field: None };
        return Err(SideError::new(SideName::Brevo, kind, "an id that no company has"));
    }
    Ok(encode(text))
}

/// A 404 about companies is described without a code, only with words. (That of a wrong address says nothing of companies.)
fn says_not_found(error: &SideError) -> bool {
    let words = error.message.to_lowercase();
    error.status == Some(404) && ["company", "companies", "document"].iter().any(|word| words.contains(word))
}

fn is_taken(error: &SideError) -> bool {
    let words = error.message.to_lowercase();
    matches!(error.kind, ErrorKind::Conflict { .. })
        || error.status == Some(400) && (words.contains("already") || words.contains("unique"))
}

/// An attribute as Brevo lists it.
fn attribute(row: lean::Json<'_>) -> Option<(Attribute, CompanyAttribute)> {
    let internal = wire::text(row, "internalName")?;
    let kind = match wire::text(row, "attributeTypeName").unwrap_or("text") {
        // Takes a number only together with the code of its country.
        _ if internal == "phone_number" => AttributeKind::Other("phone number".to_owned()),
        "text" => AttributeKind::Text,
        "number" => AttributeKind::Float,
        "boolean" => AttributeKind::Boolean,
        "date" => AttributeKind::Date,
        "single-select" => AttributeKind::Category,
        "multi-choice" => AttributeKind::MultipleChoice,
        other => AttributeKind::Other(other.to_owned()),
    };
    let readonly = row.get("isValueReadonly").and_then(lean::Json::as_bool).unwrap_or(false);
    let options = row.get("attributeOptions").into_iter().flat_map(lean::Json::items).filter_map(|option| {
        let label = wire::text(option, "value")?.to_owned();
        Some((label.clone(), wire::text(option, "key").map_or(label, str::to_owned)))
    });
    let options: Vec<(String, String)> = options.collect();
    let own = CompanyAttribute { internal: internal.to_owned(), kind: kind.clone(), options: options.clone() };
    let writable = !readonly && !matches!(kind, AttributeKind::Other(_));
    Some((Attribute { name: in_capitals(internal), kind, writable, options }, own))
}

fn company(json: lean::Json<'_>, known: &CompanyAttributes) -> Option<BrevoCompany> {
    let id = BrevoCompanyId::new(wire::text(json, "id")?);
    let shown = json.get("attributes");
    let modified_at = ["last_updated_at", "created_at"].into_iter().find_map(|name| wire::instant(shown?.get(name)?));
    let contacts = json.get("linkedContactsIds").into_iter().flat_map(lean::Json::items);
    let mut attributes = Fields::new();
    for (name, value) in known {
        if let Some(value) = shown.and_then(|shown| shown.get(&value.internal)).and_then(|json| from_wire(json, value))
        {
            attributes.insert(name.clone(), value);
        }
    }
    for (internal, value) in shown.into_iter().flat_map(lean::Json::members) {
        let name = in_capitals(internal);
        if !known.contains_key(&name)
            && let Some(value) = value.to_value()
        {
            attributes.insert(name, value);
        }
    }
    Some(BrevoCompany {
        id,
        modified_at,
        contacts: contacts.filter_map(wire::whole).map(BrevoContactId::new).collect(),
        attributes,
    })
}

fn from_wire(json: lean::Json<'_>, attribute: &CompanyAttribute) -> Option<Value> {
    let value = json.to_value()?;
    match (&attribute.kind, &value) {
        // With a time in the account's zone: the day is the one that is written, not the one that it is in London.
        (AttributeKind::Date, Value::Text(text)) => {
            let day = text.trim().get(..10).and_then(|day| NaiveDate::parse_from_str(day, "%Y-%m-%d").ok());
            Some(day.map_or(value, Value::Date))
        }
        _ => Some(value),
    }
}

/// A value as Brevo takes it. What empties an attribute is blank text: null is not described for any.
fn to_wire(value: Option<&Value>, attribute: Option<&CompanyAttribute>) -> Json {
    let key = |label: &str| {
        let options = attribute.map(|attribute| attribute.options.as_slice()).unwrap_or_default();
        let found = options.iter().find(|(known, _)| known == label);
        found.map_or_else(|| label.to_owned(), |(_, key)| key.clone())
    };
    match (value, attribute.map(|attribute| &attribute.kind)) {
        (None, Some(AttributeKind::Boolean)) => false.into(),
        (None, Some(AttributeKind::Float | AttributeKind::Date)) => Json::Null,
        (None, Some(AttributeKind::MultipleChoice)) => json!([]),
        (None, _) => "".into(),
        // Noon in UTC is that day in nearly every zone that an account can have.
        (Some(Value::Date(day)), Some(AttributeKind::Date)) => day.format("%Y-%m-%dT12:00:00.000Z").to_string().into(),
        (Some(value), Some(AttributeKind::Category)) => key(&value.to_string()).into(),
        (Some(Value::List(items)), Some(AttributeKind::MultipleChoice)) => {
            items.iter().map(|item| Json::from(key(item))).collect()
        }
        (
            Some(value @ (Value::Number(_) | Value::Boolean(_))),
            None | Some(AttributeKind::Float | AttributeKind::Boolean),
        ) => value.to_json(),
        (Some(value), _) => value.to_string().into(),
    }
}
