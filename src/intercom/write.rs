//! What is changed at Intercom: contacts, their tags, tags, attributes. One request each: no stable version of the API has
//! a bulk write.

use super::client::{Ask, IntercomClient, unreadable, unsupported};
use super::wire;
use crate::http::{Effect, lean};
use crate::model::{
    Answer, AttributeKind, AttributeSpec, ErrorKind, IntercomChange, IntercomCompanyId, IntercomContactId,
    IntercomTagId, NewIntercomContact, Number, Priority, SideError, SideName, Tag, Value, Write,
};
use http::Method;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// The paths that the API lets us write, besides address, external id, consent and custom attributes.
const TEXTS: [&str; 3] = ["name", "phone", "avatar"];
/// The same, for times.
const TIMES: [&str; 2] = ["signed_up_at", "last_seen_at"];
/// How a custom attribute's path begins.
const CUSTOM: &str = "custom_attributes.";
/// How the path of a company's field begins.
const COMPANY: &str = "company.";

/// The request that changes a contact, as the history names it.
pub fn request_for(contact: &IntercomContactId) -> String {
    format!("PUT /contacts/{contact}")
}

/// The request that brings an archived contact back, for the history.
pub fn unarchive_request_for(contact: &IntercomContactId) -> String {
    format!("POST /contacts/{contact}/unarchive")
}

/// The request that makes a contact, as the history names it.
pub const CREATE_REQUEST: &str = "POST /contacts";

/// The request that changes a company, for the history.
pub fn company_request_for(company: &IntercomCompanyId) -> String {
    format!("PUT /companies/{company}")
}

/// The request that gives a contact a tag, or takes it away, for the history.
pub fn tag_request_for(id: &IntercomContactId, give: bool) -> String {
    if give { format!("POST /contacts/{id}/tags") } else { format!("DELETE /contacts/{id}/tags/…") }
}

/// The request that deletes a contact, or archives it, for the history.
pub fn departure_of(contact: &IntercomContactId, archive: bool) -> String {
    if archive { format!("POST /contacts/{contact}/archive") } else { format!("DELETE /contacts/{contact}") }
}

impl IntercomClient {
    pub(super) async fn write_one(&self, write: &Write, priority: Priority) -> Result<Answer, Box<SideError>> {
        match write {
            Write::CreateIntercomContact(new) => self.create_contact(new, priority).await,
            Write::UpdateIntercomContact(id, change) => self.update_contact(id, change, priority).await,
            Write::UnarchiveIntercomContact(id) => self.unarchive(id, priority).await,
            Write::TagContact(contact, tag) => self.tag_contact(contact, tag, priority).await,
            Write::UntagContact(contact, tag) => self.untag_contact(contact, tag, priority).await,
            Write::CreateTag(name) => self.create_tag(name, priority).await,
            Write::CreateAttribute(spec) => self.create_attribute(spec, priority).await,
            Write::DeleteIntercomContact(id) => {
                let path = ["contacts", id.as_str()];
                self.send(Ask::write(Method::DELETE, &path, None, priority), Effect::Updates, |_, _| Ok(())).await?;
                Ok(Answer::Done)
            }
            Write::ArchiveIntercomContact(id) => {
                let path = ["contacts", id.as_str(), "archive"];
                self.send(Ask::write(Method::POST, &path, None, priority), Effect::Updates, |_, _| Ok(())).await?;
                Ok(Answer::Done)
            }
            Write::CreateContact(_) | Write::UpdateContact(..) | Write::DeleteContact(_) | Write::Import(_) => {
                Err(unsupported("contacts of Brevo's"))
            }
            Write::AddToList(..) | Write::RemoveFromList(..) | Write::CreateList(_) => Err(unsupported("lists")),
            Write::UpdateIntercomCompany(id, change) => self.update_company(id, change, priority).await,
            Write::CreateCompanyAttribute(_)
            | Write::CreateCompany(_)
            | Write::ImportCompanies(_)
            | Write::UpdateCompany(..)
            | Write::LinkCompany(..) => Err(unsupported("companies of Brevo's")),
            Write::SendEvents(_) => Err(unsupported("events of Brevo's")),
            Write::SetAttributeOptions(_) => Err(unsupported("options that are changed")),
        }
    }

    async fn create_contact(&self, new: &NewIntercomContact, priority: Priority) -> Result<Answer, Box<SideError>> {
        let mut body = body_of(&new.has)?;
        body.insert("role".to_owned(), new.role.as_str().into());
        let ask = Ask::write(Method::POST, &["contacts"], Some(body.into()), priority);
        self.changed(ask, Effect::CreatesPerson).await
    }

    async fn update_contact(
        &self,
        id: &IntercomContactId,
        change: &IntercomChange,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        if change.is_empty() {
            return Ok(Answer::Done);
        }
        let path = ["contacts", id.as_str()];
        let loosens = change.email_opted_in.is_some() && !change.email_opted_out;
        let effect = if loosens { Effect::Loosens } else { Effect::Updates };
        self.changed(Ask::write(Method::PUT, &path, Some(body_of(change)?.into()), priority), effect).await
    }

    /// The answer shows no more of it than its ids.
    async fn unarchive(&self, id: &IntercomContactId, priority: Priority) -> Result<Answer, Box<SideError>> {
        let path = ["contacts", id.as_str(), "unarchive"];
        self.send(Ask::write(Method::POST, &path, None, priority), Effect::Idempotent, |_, _| Ok(())).await?;
        Ok(Answer::Done)
    }

    /// `company_id` can never be changed, and what the API computes itself it does not take.
    async fn update_company(
        &self,
        id: &IntercomCompanyId,
        change: &BTreeMap<String, Option<Value>>,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let (mut body, mut custom) = (Map::new(), Map::new());
        for (path, value) in change {
            let path = path.strip_prefix(COMPANY).unwrap_or(path);
            let wired = wired_of_company(path, value.as_ref()).map_err(|why| {
                SideError::new(SideName::Intercom, ErrorKind::Rejected { field: Some(path.to_owned()) }, why)
            })?;
            match path.strip_prefix(CUSTOM) {
                Some(name) => custom.insert(name.to_owned(), wired),
                None => body.insert(path.to_owned(), wired),
            };
        }
        if !custom.is_empty() {
            body.insert("custom_attributes".to_owned(), custom.into());
        }
        let path = ["companies", id.as_str()];
        let ask = Ask::write(Method::PUT, &path, Some(body.into()), priority);
        self.send(ask, Effect::Updates, |json, server_time| {
            let company = wire::company(json).map_err(|error| unreadable(&error))?;
            Ok(Answer::IntercomCompany(Box::new(company), server_time))
        })
        .await
    }

    /// Sends a write whose answer is the contact.
    async fn changed(&self, ask: Ask<'_>, effect: Effect) -> Result<Answer, Box<SideError>> {
        self.send(ask, effect, |json, server_time| {
            let contact = wire::contact(json).map_err(|error| unreadable(&error))?;
            Ok(Answer::IntercomContact(Box::new(contact), server_time))
        })
        .await
    }

    async fn tag_contact(
        &self,
        contact: &IntercomContactId,
        tag: &IntercomTagId,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let path = ["contacts", contact.as_str(), "tags"];
        let ask = Ask::write(Method::POST, &path, Some(json!({ "id": tag.as_str() })), priority);
        let ((), again) = self.send_telling(ask, Effect::Updates, |_, _| Ok(())).await?;
        Ok(Answer::Done.after_another(again))
    }

    async fn untag_contact(
        &self,
        contact: &IntercomContactId,
        tag: &IntercomTagId,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let path = ["contacts", contact.as_str(), "tags", tag.as_str()];
        let ask = Ask::write(Method::DELETE, &path, None, priority);
        let ((), again) = self.send_telling(ask, Effect::Updates, |_, _| Ok(())).await?;
        Ok(Answer::Done.after_another(again))
    }

    /// A name that is there already, in any case, is answered with the tag that has it: asking again makes no second one.
    async fn create_tag(&self, name: &str, priority: Priority) -> Result<Answer, Box<SideError>> {
        let ask = Ask::write(Method::POST, &["tags"], Some(json!({ "name": name })), priority);
        self.send(ask, Effect::Idempotent, |json, _| {
            match (wire::id_of(json), json.get("name").and_then(lean::Json::as_str)) {
                (Some(id), Some(name)) => {
                    Ok(Answer::TagCreated(Tag { id: IntercomTagId::new(id), name: name.to_owned() }))
                }
                _ => Err(unreadable(&"no id and name of the tag")),
            }
        })
        .await
    }

    async fn create_attribute(&self, spec: &AttributeSpec, priority: Priority) -> Result<Answer, Box<SideError>> {
        let data_type = match &spec.kind {
            AttributeKind::Text | AttributeKind::Category => "string",
            AttributeKind::Float => "float",
            AttributeKind::Boolean => "boolean",
            AttributeKind::Date => "date",
            AttributeKind::Other(kind) if kind == "integer" => "integer",
            AttributeKind::MultipleChoice | AttributeKind::Other(_) => {
                return Err(unsupported(&format!("attributes of the type {}", spec.kind.name())));
            }
        };
        let (model, path) = match spec.name.strip_prefix(COMPANY) {
            Some(path) => ("company", path),
            None => ("contact", spec.name.as_str()),
        };
        let name = path.strip_prefix(CUSTOM).unwrap_or(path);
        let mut body = json!({ "name": name, "model": model, "data_type": data_type });
        if !spec.options.is_empty() {
            let options: Vec<Json> = spec.options.iter().map(|option| json!({ "value": option })).collect();
            body["options"] = options.into();
        }
        self.send(Ask::write(Method::POST, &["data_attributes"], Some(body), priority), Effect::Creates, |_, _| Ok(()))
            .await?;
        Ok(Answer::Done)
    }
}

/// A change as a request's body. An opt-out rides along; an opt-in is sent only with its proof.
fn body_of(change: &IntercomChange) -> Result<Map<String, Json>, Box<SideError>> {
    let (mut body, mut custom) = (Map::new(), Map::new());
    for (path, value) in &change.fields {
        let wired = wired(path, value.as_ref()).ok_or_else(|| {
            let field = Some(path.clone());
            SideError::new(SideName::Intercom, ErrorKind::Rejected { field }, UNTAKEN)
        })?;
        match path.strip_prefix(CUSTOM) {
            Some(name) => custom.insert(name.to_owned(), wired),
            None => body.insert(path.clone(), wired),
        };
    }
    if !custom.is_empty() {
        body.insert("custom_attributes".to_owned(), custom.into());
    }
    if let Some(email) = &change.email {
        body.insert("email".to_owned(), email.as_str().into());
    }
    if let Some(external_id) = &change.external_id {
        body.insert("external_id".to_owned(), external_id.as_str().into());
    }
    if change.email_opted_out || change.email_opted_in.is_some() {
        body.insert("unsubscribed_from_emails".to_owned(), change.email_opted_out.into());
    }
    Ok(body)
}

/// The same for companies. An error: why Intercom would not keep it as it is.
fn wired_of_company(path: &str, value: Option<&Value>) -> Result<Json, &'static str> {
    match (path, value) {
        (_, value) if path.starts_with(CUSTOM) => wired(path, value).ok_or(UNTAKEN),
        ("name" | "plan" | "website" | "industry", Some(Value::Text(text))) => Ok(text.as_str().into()),
        ("plan" | "website" | "industry", None) => Ok("".into()),
        ("size" | "monthly_spend", Some(Value::Number(Number::Whole(number)))) => Ok((*number).into()),
        // It would be cut off there, and come back as a value that neither side had.
        ("size" | "monthly_spend", Some(Value::Number(Number::Fraction(_)))) => {
            Err("Intercom keeps whole numbers there, and this one is not")
        }
        // The nearest that can be sent is 0, which nobody has said.
        ("size" | "monthly_spend", None) => Err("Intercom has no empty number there"),
        _ => Err(UNTAKEN),
    }
}

const UNTAKEN: &str = "not a value that Intercom takes there";

/// A value as Intercom takes it at a path: times, and days as their midnight in UTC, in unix seconds. `None`: it takes no
/// such thing there.
fn wired(path: &str, value: Option<&Value>) -> Option<Json> {
    let custom = path.strip_prefix(CUSTOM).is_some_and(|name| !name.is_empty());
    let seconds = |value: &Value| match value {
        Value::Instant(instant) => Some(instant.timestamp()),
        Value::Date(day) => Some(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()),
        _ => None,
    };
    match value {
        None => (custom || TEXTS.contains(&path) || TIMES.contains(&path) || path == "owner_id").then_some(Json::Null),
        Some(Value::Text(text)) if custom || TEXTS.contains(&path) => Some(text.as_str().into()),
        Some(Value::Number(Number::Whole(owner))) if path == "owner_id" => Some((*owner).into()),
        Some(value @ (Value::Instant(_) | Value::Date(_))) if custom || TIMES.contains(&path) => {
            seconds(value).map(Json::from)
        }
        Some(value @ (Value::Number(_) | Value::Boolean(_))) if custom => Some(value.to_json()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_body_names_only_what_changes_and_never_says_that_somebody_may_be_mailed() {
        assert_eq!(Json::from(body_of(&IntercomChange::opt_out()).unwrap()), json!({"unsubscribed_from_emails": true}));
        let change = IntercomChange {
            fields: BTreeMap::from([
                ("name".to_owned(), Value::text("Ann Lee")),
                ("phone".to_owned(), None),
                ("signed_up_at".to_owned(), Some(Value::Instant("2026-01-02T03:04:05.600Z".parse().unwrap()))),
                ("custom_attributes.plan".to_owned(), Value::text("pro")),
                ("custom_attributes.born".to_owned(), Some(Value::Date("1970-01-02".parse().unwrap()))),
                ("custom_attributes.vip".to_owned(), Some(Value::Boolean(false))),
                ("custom_attributes.old".to_owned(), None),
            ]),
            ..IntercomChange::default()
        };
        let custom = json!({"plan": "pro", "born": 86400, "vip": false, "old": null});
        let body =
            json!({"name": "Ann Lee", "phone": null, "signed_up_at": 1_767_323_045, "custom_attributes": custom});
        assert_eq!(Json::from(body_of(&change).unwrap()), body, "what is not said stays as it is");
    }

    #[test]
    fn a_companys_figure_that_intercom_would_not_keep_is_not_sent() {
        let whole = Value::Number(Number::Whole(49));
        assert_eq!(wired_of_company("monthly_spend", Some(&whole)), Ok(json!(49)));
        let fraction = Value::Number(Number::from_f64(9.9).unwrap());
        assert!(wired_of_company("monthly_spend", Some(&fraction)).unwrap_err().contains("whole numbers"));
        assert!(wired_of_company("size", None).unwrap_err().contains("no empty number"));
        assert_eq!(wired_of_company("plan", None), Ok(json!("")));
    }

    #[test]
    fn what_intercom_does_not_take_never_leaves() {
        for (path, value) in [
            ("location.city", Value::text("Paris")),
            ("unsubscribed_from_emails", Some(Value::Boolean(false))),
            ("unsubscribed_from_emails", None),
            ("custom_attributes.", Value::text("x")),
            ("custom_attributes.list", Value::list(["a".to_owned()])),
            ("owner_id", Value::text("Ann")),
        ] {
            let change = IntercomChange { fields: BTreeMap::from([(path.to_owned(), value)]), ..Default::default() };
            let error = body_of(&change).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Rejected { field: Some(path.to_owned()) });
        }
    }
}
