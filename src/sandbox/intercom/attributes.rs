//! Data attributes: the standard ones, and people's own.

use super::answer::{Answer, Asked, Reply, error, ok};
use super::state::{Attribute, State};
use serde_json::{Map, Value, json};

/// (model, name, full name, label, type, writable).
const STANDARD: &[(&str, &str, &str, &str, &str, bool)] = &[
    ("contact", "name", "name", "Name", "string", true),
    ("contact", "id", "id", "ID", "string", false),
    ("contact", "external_id", "external_id", "User ID", "string", true),
    ("contact", "role", "role", "Contact role", "string", true),
    ("contact", "email", "email", "Email", "string", true),
    ("contact", "phone", "phone", "Phone", "string", true),
    ("contact", "owner_id", "owner_id", "Owner", "integer", true),
    ("contact", "created_at", "created_at", "Created at", "date", false),
    ("contact", "updated_at", "updated_at", "Updated at", "date", false),
    ("contact", "signed_up_at", "signed_up_at", "Signed up", "date", true),
    ("contact", "last_seen_at", "last_seen_at", "Last seen", "date", true),
    ("contact", "last_contacted_at", "last_contacted_at", "Last contacted", "date", false),
    ("contact", "last_replied_at", "last_replied_at", "Last heard from", "date", false),
    ("contact", "last_email_opened_at", "last_email_opened_at", "Last opened email", "date", false),
    ("contact", "last_email_clicked_at", "last_email_clicked_at", "Last clicked on link in email", "date", false),
    ("contact", "has_hard_bounced", "has_hard_bounced", "Has hard bounced", "boolean", false),
    ("contact", "marked_email_as_spam", "marked_email_as_spam", "Marked email as spam", "boolean", false),
    ("contact", "unsubscribed_from_emails", "unsubscribed_from_emails", "Unsubscribed from emails", "boolean", true),
    ("contact", "language_override", "language_override", "Language override", "string", false),
    ("contact", "browser", "browser", "Browser", "string", false),
    ("contact", "os", "os", "OS", "string", false),
    ("contact", "country", "location.country", "Country", "string", false),
    ("contact", "region", "location.region", "Region", "string", false),
    ("contact", "city", "location.city", "City", "string", false),
    ("company", "name", "name", "Company name", "string", true),
    ("company", "company_id", "company_id", "Company ID", "string", false),
    ("company", "last_request_at", "last_request_at", "Company last seen", "date", false),
    ("company", "remote_created_at", "remote_created_at", "Company created at", "date", true),
    ("company", "user_count", "user_count", "People", "integer", false),
    ("company", "session_count", "session_count", "Company web sessions", "integer", false),
    ("company", "name", "plan.name", "Plan", "string", true),
    ("company", "monthly_spend", "monthly_spend", "Monthly Spend", "integer", true),
    ("company", "size", "size", "Company size", "integer", true),
    ("company", "industry", "industry", "Company industry", "string", true),
    ("company", "website", "website", "Company website", "string", true),
];

pub(super) fn standard() -> Vec<Attribute> {
    STANDARD
        .iter()
        .map(|(model, name, full_name, label, data_type, writable)| Attribute {
            id: None,
            model: (*model).to_owned(),
            name: (*name).to_owned(),
            full_name: (*full_name).to_owned(),
            label: (*label).to_owned(),
            description: String::new(),
            data_type: (*data_type).to_owned(),
            options: Vec::new(),
            api_writable: *writable,
            messenger_writable: false,
            archived: false,
            created: 0,
            updated: 0,
        })
        .collect()
}

fn value_of(attribute: &Attribute) -> Value {
    let mut value = json!({
        "type": "data_attribute",
        "model": attribute.model,
        "name": attribute.name,
        "full_name": attribute.full_name,
        "label": attribute.label,
        "description": attribute.description,
        "data_type": attribute.data_type,
        "api_writable": attribute.api_writable,
        "messenger_writable": attribute.messenger_writable,
        "ui_writable": false,
        "custom": attribute.id.is_some(),
        "archived": attribute.archived,
    });
    if let Some(map) = value.as_object_mut() {
        if let Some(id) = attribute.id {
            map.insert("id".to_owned(), id.into());
            map.insert("admin_id".to_owned(), super::misc::FIRST_ADMIN.to_string().into());
            map.insert("created_at".to_owned(), attribute.created.into());
            map.insert("updated_at".to_owned(), attribute.updated.into());
        }
        if !attribute.options.is_empty() {
            map.insert("options".to_owned(), attribute.options.clone().into());
        }
    }
    value
}

pub(super) fn list(state: &State, asked: &Asked) -> Answer {
    let archived = asked.param("include_archived") == Some("true");
    let model = asked.param("model");
    let data: Vec<Value> = state
        .attributes
        .iter()
        .filter(|attribute| archived || !attribute.archived)
        .filter(|attribute| model.is_none_or(|model| attribute.model == model))
        .map(value_of)
        .collect();
    ok(&json!({"type": "list", "data": data}))
}

/// Custom attributes allowed in a workspace.
const MOST_CUSTOM: usize = 250;

/// Defines a custom attribute.
pub(super) fn define(
    state: &mut State,
    model: &str,
    name: &str,
    data_type: &str,
    options: Vec<String>,
) -> Result<i64, Answer> {
    let invalid = |message: &str| error(400, "parameter_invalid", message);
    if !matches!(model, "contact" | "company") {
        return Err(invalid("The Data Attribute model field must be either contact or company"));
    }
    let data_type = match data_type {
        "datetime" | "date" => "date",
        "string" | "integer" | "float" | "boolean" => data_type,
        _ => return Err(invalid("Data Type isn't an option")),
    };
    if name.is_empty() || name.contains(['.', '$']) {
        return Err(invalid(
            "Your name for this attribute must only contain alphanumeric characters, currency symbols, and hyphens",
        ));
    }
    // One name serves one model only: what companies use, contacts cannot.
    if let Some(taken) = state.attributes.iter().find(|attribute| attribute.id.is_some() && attribute.name == name) {
        let message = format!(
            "You already have '{name}' in your {} data. To save this as new people data, use a different name.",
            taken.model
        );
        return Err(invalid(&message));
    }
    if state.attributes.iter().filter(|attribute| attribute.id.is_some() && !attribute.archived).count() >= MOST_CUSTOM
    {
        return Err(invalid("You have reached the limit of 250 custom data attributes"));
    }
    let id = i64::try_from(state.next()).unwrap_or(0);
    let now = state.now();
    state.attributes.push(Attribute {
        id: Some(id),
        model: model.to_owned(),
        name: name.to_owned(),
        full_name: format!("custom_attributes.{name}"),
        label: name.to_owned(),
        description: String::new(),
        data_type: data_type.to_owned(),
        options,
        api_writable: true,
        messenger_writable: false,
        archived: false,
        created: now,
        updated: now,
    });
    Ok(id)
}

fn options_of(body: &Value) -> Result<Option<Vec<String>>, Answer> {
    let Some(options) = body.get("options").and_then(Value::as_array) else { return Ok(None) };
    let options: Vec<String> =
        options.iter().filter_map(|option| option.get("value").or(Some(option))?.as_str().map(str::to_owned)).collect();
    if options.len() < 2 {
        return Err(error(400, "parameter_invalid", "The Data Attribute model options must have at least 2 values"));
    }
    Ok(Some(options))
}

pub(super) fn create(state: &mut State, asked: &Asked) -> Reply {
    let options = options_of(&asked.body)?.unwrap_or_default();
    let (model, name) = (asked.text("model").unwrap_or(""), asked.text("name").unwrap_or(""));
    let id = define(state, model, name, asked.text("data_type").unwrap_or(""), options)?;
    apply(state, id, &asked.body)
}

pub(super) fn update(state: &mut State, asked: &Asked, id: &str) -> Reply {
    let options = options_of(&asked.body)?;
    let id = id.parse().unwrap_or(-1);
    if let (Some(options), Some(attribute)) = (options, state.attributes.iter_mut().find(|a| a.id == Some(id))) {
        attribute.options = options;
    }
    apply(state, id, &asked.body)
}

fn apply(state: &mut State, id: i64, body: &Value) -> Reply {
    let now = state.now();
    let Some(attribute) = state.attributes.iter_mut().find(|attribute| attribute.id == Some(id)) else {
        return Err(error(404, "field_not_found", "We couldn't find that data attribute to update"));
    };
    if let Some(archived) = body.get("archived").and_then(Value::as_bool) {
        attribute.archived = archived;
    }
    if let Some(description) = body.get("description").and_then(Value::as_str) {
        description.clone_into(&mut attribute.description);
    }
    if let Some(writable) = body.get("messenger_writable").and_then(Value::as_bool) {
        attribute.messenger_writable = writable;
    }
    attribute.updated = now;
    Ok(ok(&value_of(attribute)))
}

/// Writes `values` over `custom`: attributes must be defined, `null` clears, and types must fit.
pub(super) fn write_custom(
    state: &State,
    model: &str,
    custom: &mut Map<String, Value>,
    values: &Map<String, Value>,
) -> Result<(), Answer> {
    let invalid = |message: String| Err(error(400, "parameter_invalid", &message));
    for (name, value) in values {
        let Some(attribute) =
            state.attributes.iter().find(|a| a.id.is_some() && !a.archived && a.model == model && &a.name == name)
        else {
            return invalid(format!("Custom attribute '{name}' does not exist"));
        };
        if value.is_null() {
            custom.remove(name);
            continue;
        }
        let fits = match attribute.data_type.as_str() {
            "integer" | "date" => value.is_i64(),
            "float" => value.is_number(),
            "boolean" => value.is_boolean(),
            _ => value.is_string() || value.is_number(),
        };
        if !fits {
            return invalid(format!("Custom attribute '{name}' is not of type {}", attribute.data_type));
        }
        if !attribute.options.is_empty() && !value.as_str().is_some_and(|v| attribute.options.iter().any(|o| o == v)) {
            return invalid(format!("Custom attribute '{name}' must be one of its options"));
        }
        custom.insert(name.clone(), value.clone());
    }
    Ok(())
}
