//! The account, and the attributes that exist in it.

use super::client::{Ask, IntercomClient, unreadable};
use super::wire;
use crate::http::lean::Json;
use crate::model::{AccountInfo, Attribute, AttributeKind, Priority, SideError};

impl IntercomClient {
    /// `GET /me`: the workspace behind the token, whose timezone contact searches count days in.
    pub(super) async fn read_account(&self) -> Result<AccountInfo, Box<SideError>> {
        self.ask(Ask::get(&["me"], Priority::Live), |json, server_time| {
            let app = json.get("app");
            let part = |key: &str| app.and_then(|app| app.get(key)).and_then(wire::text);
            let id = part("id_code").ok_or_else(|| unreadable(&"no app.id_code: the token belongs to no workspace"))?;
            Ok(AccountInfo { id, name: part("name"), timezone: part("timezone"), region: part("region"), server_time })
        })
        .await
    }

    /// `GET /data_attributes?model=contact`: standard and custom ones, without the archived.
    pub(super) async fn read_attributes(&self) -> Result<Vec<Attribute>, Box<SideError>> {
        self.read_attributes_of("contact").await
    }

    /// Data attributes of companies, under the paths that a contact's record has them under (`company.…`).
    pub(super) async fn read_company_attributes(&self) -> Result<Vec<Attribute>, Box<SideError>> {
        let own = self.read_attributes_of("company").await?;
        let below = |attribute: Attribute| Attribute { name: format!("company.{}", attribute.name), ..attribute };
        Ok(own.into_iter().map(below).collect())
    }

    async fn read_attributes_of(&self, model: &str) -> Result<Vec<Attribute>, Box<SideError>> {
        let query = [("model", model.to_owned())];
        let ask = Ask { query: &query, ..Ask::get(&["data_attributes"], Priority::Live) };
        self.ask(ask, |json, _| {
            let list = wire::list(json, &["data"], "attributes").map_err(|error| unreadable(&error))?;
            Ok(list.items.items().filter_map(attribute).collect())
        })
        .await
    }
}

fn attribute(json: Json<'_>) -> Option<Attribute> {
    let text = |key: &str| json.get(key).and_then(Json::as_str).filter(|text| !text.is_empty());
    let flag = |key: &str| json.get(key).and_then(Json::as_bool);
    if flag("archived") == Some(true) {
        return None;
    }
    // Standard attributes have no id; only the full name tells a custom `name` from the standard one.
    let name = text("full_name").or_else(|| text("name"))?.to_owned();
    let options: Vec<(String, String)> = json
        .get("options")
        .into_iter()
        .flat_map(Json::items)
        .filter_map(|option| option.as_str().or_else(|| option.get("value").and_then(Json::as_str)))
        .map(|option| (option.to_owned(), option.to_owned()))
        .collect();
    let kind = match text("data_type").unwrap_or("string") {
        "string" if options.is_empty() => AttributeKind::Text,
        "string" => AttributeKind::Category,
        "integer" | "float" => AttributeKind::Float,
        "boolean" => AttributeKind::Boolean,
        // From version 2.17 on, standard instants are `datetime`, custom ones stay `date`.
        "date" | "datetime" => AttributeKind::Date,
        other => AttributeKind::Other(other.to_owned()),
    };
    Some(Attribute { name, kind, writable: flag("api_writable").unwrap_or(true), options })
}
