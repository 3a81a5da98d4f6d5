//! The account's attributes, and what becomes of a value that is written to one.

use super::AccountLanguage;
use super::directory::Key;
use super::reply::{Call, Outcome, Reply, text, texts};
use super::state::State;
use serde_json::{Map, Value, json};

/// An attribute's place and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) name: String,
    /// `normal`, `category`, `transactional`, `calculated`, `global`.
    pub(super) category: String,
    pub(super) kind: Option<String>,
    /// Value and label, for categories.
    pub(super) enumeration: Vec<(i64, String)>,
    /// For multiple choice.
    pub(super) options: Vec<String>,
    pub(super) formula: Option<String>,
}

/// What becomes of a written value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Taken {
    Set(Value),
    Clear,
    /// Dropped without a word: the trap of every write.
    Dropped,
}

/// Which parser reads the value: an import's takes texts for numbers, and ignores `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Api,
    Import,
}

impl Attribute {
    fn normal(name: &str, kind: &str) -> Self {
        Self {
            name: name.into(),
            category: "normal".into(),
            kind: Some(kind.into()),
            enumeration: Vec::new(),
            options: Vec::new(),
            formula: None,
        }
    }

    /// What a new account has.
    pub(super) fn defaults(language: AccountLanguage) -> Vec<Self> {
        let (first, last) = language.names();
        let mut all: Vec<Self> =
            [last, first, "SMS", "EXT_ID", "WHATSAPP", "LANDLINE_NUMBER", "JOB_TITLE", "LINKEDIN", "CONTACT_TIMEZONE"]
                .into_iter()
                .map(|name| Self::normal(name, "text"))
                .collect();
        all.push(Self {
            category: "category".into(),
            kind: Some("text".into()),
            enumeration: vec![(1, "Yes".into()), (2, "No".into())],
            ..Self::normal("DOUBLE_OPT-IN", "text")
        });
        all.push(Self::normal("OPT_IN", "boolean"));
        all.push(Self {
            category: "global".into(),
            kind: Some("float".into()),
            formula: Some("COUNT[BLACKLISTED,BLACKLISTED,<,NOW()]".into()),
            ..Self::normal("BLACKLIST", "float")
        });
        all
    }

    fn shown(&self) -> Value {
        let mut shown = Map::new();
        shown.insert("name".into(), json!(self.name));
        shown.insert("category".into(), json!(self.category));
        if let Some(kind) = &self.kind {
            shown.insert("type".into(), json!(kind));
        }
        if self.category == "category" {
            let show =
                |(value, label): &(i64, String)| json!({"value": value, "label": label, "valueStr": value.to_string()});
            shown.insert("enumeration".into(), self.enumeration.iter().map(show).collect());
        }
        if self.kind.as_deref() == Some("multiple-choice") {
            shown.insert("multiCategoryOptions".into(), json!(self.options));
        }
        if let Some(formula) = &self.formula {
            shown.insert("calculatedValue".into(), json!(formula));
        }
        Value::Object(shown)
    }

    /// Its type, `category` for categories.
    pub(super) fn shown_type(&self) -> &str {
        if self.category == "category" { "category" } else { self.kind.as_deref().unwrap_or("text") }
    }

    /// Whether a contact's write may name it.
    pub(super) fn is_writable(&self) -> bool {
        self.category == "normal" || self.category == "category"
    }

    /// What this attribute makes of `value`. Values of another type are dropped, and the answer is 2xx all the same.
    pub(super) fn take(&self, value: &Value, reader: Reader, text_limit: Option<usize>) -> Taken {
        if matches!(value, Value::String(text) if text.is_empty()) {
            return Taken::Clear;
        }
        if self.category == "category" {
            return self.take_category(value);
        }
        match (self.kind.as_deref().unwrap_or("text"), value) {
            ("text" | "user", Value::String(text)) => Taken::Set(Value::String(cut(text, text_limit))),
            ("text", Value::Number(number)) if reader == Reader::Import => Taken::Set(json!(number.to_string())),
            ("float", Value::String(text)) if reader == Reader::Import => match text.trim().parse::<f64>() {
                Ok(number) if number.is_finite() => Taken::Set(json!(number)),
                _ => Taken::Dropped,
            },
            // Reported for imports: an existing true stays true.
            ("boolean", Value::Bool(false)) if reader == Reader::Import => Taken::Dropped,
            ("float", Value::Number(_)) | ("boolean", Value::Bool(_)) => Taken::Set(value.clone()),
            ("boolean", Value::String(text)) if reader == Reader::Import => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => Taken::Set(json!(true)),
                _ => Taken::Dropped,
            },
            ("date", Value::String(text)) => take_date(text, reader),
            ("multiple-choice", Value::Array(items)) => self.take_choices(items.iter().filter_map(Value::as_str)),
            ("multiple-choice", Value::String(text)) if reader == Reader::Import => {
                self.take_choices(text.trim_matches(['[', ']']).split(',').map(str::trim))
            }
            _ => Taken::Dropped,
        }
    }

    fn take_category(&self, value: &Value) -> Taken {
        let found = self.enumeration.iter().find(|(id, label)| match value {
            Value::Number(number) => number.as_i64() == Some(*id),
            Value::String(text) => text == label || *text == id.to_string(),
            _ => false,
        });
        found.map_or(Taken::Dropped, |(id, _)| Taken::Set(json!(id)))
    }

    fn take_choices<'a>(&self, items: impl Iterator<Item = &'a str>) -> Taken {
        let known: Vec<&str> = items.filter(|item| self.options.iter().any(|option| option == item)).collect();
        if known.is_empty() { Taken::Dropped } else { Taken::Set(json!(known)) }
    }
}

fn cut(text: &str, limit: Option<usize>) -> String {
    limit.map_or_else(|| text.to_owned(), |limit| text.chars().take(limit).collect())
}

/// Reads are always `YYYY-MM-DD`. Imports also take the account's display format, as the vendor's sample does.
fn take_date(text: &str, reader: Reader) -> Taken {
    let formats: &[&str] = if reader == Reader::Import { &["%Y-%m-%d", "%d/%m/%Y", "%d-%m-%Y"] } else { &["%Y-%m-%d"] };
    let date = formats.iter().find_map(|format| chrono::NaiveDate::parse_from_str(text, format).ok());
    date.map_or(Taken::Dropped, |date| Taken::Set(json!(date.format("%Y-%m-%d").to_string())))
}

/// An address that Brevo would take.
pub(super) fn email(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let (local, domain) = text.rsplit_once('@')?;
    let top = domain.rsplit_once('.')?.1;
    let domain_fits = domain.split('.').all(|label| {
        !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-') && !label.starts_with('-')
    });
    let fits = !local.is_empty()
        && local.len() <= 64
        && domain.len() <= 255
        && domain_fits
        && top.len() >= 2
        && !top.chars().all(|c| c.is_ascii_digit())
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"<>(),;:\\\"[]@".contains(c));
    fits.then_some(text)
}

/// A number with its country code, as Brevo keeps it: digits only. `91…`, `+91…` and `0091…` are taken.
pub(super) fn phone(text: &str) -> Option<String> {
    let text = text.trim();
    let digits = text.strip_prefix('+').or_else(|| text.strip_prefix("00")).unwrap_or(text);
    let fits = (8..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0');
    fits.then(|| digits.to_owned())
}

impl State {
    /// A normal attribute, unless its name is taken.
    pub(super) fn add_attribute(&mut self, name: &str, kind: &str, options: Vec<String>) -> bool {
        let name = name.to_uppercase();
        if self.attributes.iter().any(|known| known.name == name) {
            return false;
        }
        self.attributes.push(Attribute { options, ..Attribute::normal(&name, kind) });
        true
    }

    /// The attribute of that (upper-case) name that contacts carry.
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name && attribute.is_writable())
    }

    fn attribute_index(&self, call: &Call) -> Option<usize> {
        let (category, name) = (call.part(2), call.part(3).to_uppercase());
        self.attributes.iter().position(|attribute| attribute.category == category && attribute.name == name)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every handler has this shape")]
pub(super) fn list(state: &mut State, _: &Call) -> Outcome {
    let shown: Vec<Value> = state.attributes.iter().map(Attribute::shown).collect();
    Ok(Reply::json(200, &json!({"attributes": shown})))
}

fn enumeration(body: &Map<String, Value>) -> Result<Vec<(i64, String)>, Reply> {
    let Some(Value::Array(items)) = body.get("enumeration") else {
        return Err(Reply::missing("enumeration is missing"));
    };
    let refusal = || Reply::invalid("enumeration should hold value (integer) and label (string)");
    let read = |item: &Value| {
        let value = item.get("value").and_then(Value::as_i64).ok_or_else(refusal)?;
        let label = item.get("label").and_then(Value::as_str).ok_or_else(refusal)?;
        if label.chars().count() > 200 {
            return Err(Reply::invalid("label should be at most 200 characters"));
        }
        Ok((value, label.to_owned()))
    };
    items.iter().map(read).collect()
}

pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    let (category, name) = (call.part(2).to_owned(), call.part(3).to_uppercase());
    let body = call.object()?;
    if name.is_empty() || name.len() > 100 || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
        return Err(Reply::invalid("Attribute name is invalid"));
    }
    if name == "EMAIL" || state.attributes.iter().any(|known| known.name == name) {
        return Err(Reply::invalid("Attribute name must be unique"));
    }
    let kind = text(&body, "type")?;
    let mut made = Attribute { category: category.clone(), kind: kind.clone(), ..Attribute::normal(&name, "text") };
    let kinds: &[&str] = match category.as_str() {
        "normal" => &["text", "date", "float", "boolean", "multiple-choice", "user"],
        "transactional" => &["text", "date", "float", "boolean", "id"],
        "category" => &["category"],
        "calculated" | "global" => &[],
        _ => return Err(Reply::invalid("Attribute category is invalid")),
    };
    match (category.as_str(), kind.as_deref()) {
        ("category", None | Some("category")) => {
            made.enumeration = enumeration(&body)?;
            // The API answers "text" for categories when read.
            made.kind = Some("text".into());
        }
        ("calculated" | "global", _) => {
            made.formula = Some(text(&body, "value")?.ok_or_else(|| Reply::missing("value is missing"))?);
            made.kind = Some("float".into());
        }
        (_, None) => return Err(Reply::missing("Attribute type is missing")),
        (_, Some(kind)) if !kinds.contains(&kind) => return Err(Reply::invalid("Attribute type is invalid")),
        (_, Some("multiple-choice")) => made.options = texts(&body, "multiCategoryOptions")?.unwrap_or_default(),
        _ => {}
    }
    state.attributes.push(made);
    Ok(Reply::empty(201))
}

/// Only options and formulas can change: no call changes a type or a name.
pub(super) fn update(state: &mut State, call: &Call) -> Outcome {
    let index = state.attribute_index(call).ok_or_else(|| Reply::not_found("Attribute not found"))?;
    let body = call.object()?;
    let Some(attribute) = state.attributes.get_mut(index) else {
        return Err(Reply::not_found("Attribute not found"));
    };
    match (attribute.category.as_str(), attribute.kind.as_deref()) {
        ("category", _) => attribute.enumeration = enumeration(&body)?,
        ("calculated" | "global", _) => attribute.formula = text(&body, "value")?,
        ("normal", Some("multiple-choice")) => {
            let options = texts(&body, "multiCategoryOptions")?;
            attribute.options = options.ok_or_else(|| Reply::missing("multiCategoryOptions is missing"))?;
        }
        _ => return Err(Reply::invalid("This attribute cannot be updated")),
    }
    Ok(Reply::empty(204))
}

pub(super) fn delete(state: &mut State, call: &Call) -> Outcome {
    let index = state.attribute_index(call).ok_or_else(|| Reply::not_found("Attribute not found"))?;
    let name = state.attributes.remove(index).name;
    if Key::of_attribute(&name).is_none() {
        let holders: Vec<i64> =
            state.contacts.all().filter(|contact| contact.attributes.contains_key(&name)).map(|c| c.id).collect();
        for id in holders {
            state.contacts.change(id, state.now, |contact| {
                contact.attributes.remove(&name);
            });
        }
    }
    Ok(Reply::empty(204))
}

pub(super) fn delete_option(state: &mut State, call: &Call) -> Outcome {
    let (name, option) = (call.part(3).to_uppercase(), call.part(4));
    let found = state
        .attributes
        .iter_mut()
        .find(|attribute| attribute.name == name && attribute.kind.as_deref() == Some("multiple-choice"));
    let Some(attribute) = found.filter(|attribute| attribute.options.iter().any(|known| known == option)) else {
        return Err(Reply::not_found("Attribute or option not found"));
    };
    attribute.options.retain(|known| known != option);
    Ok(Reply::empty(204))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_phones_are_taken_as_brevo_takes_them() {
        assert_eq!(email(" Élise.O'Neil+x@Exämple.CO ").as_deref(), Some("élise.o'neil+x@exämple.co"));
        for bad in
            ["", "a", "a@", "@b.co", "a@b", "a b@c.co", "a@b.com_old", "a@b..co", ".a@b.co", "a@b@c.co", "a@b.c1_"]
        {
            assert_eq!(email(bad), None, "{bad}");
        }
        for good in ["+33612345678", "0033612345678", "33612345678"] {
            assert_eq!(phone(good).as_deref(), Some("33612345678"));
        }
        for bad in ["", "0612345678", "+33 6 12", "+1", "call me", "+1234567890123456"] {
            assert_eq!(phone(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_import_reads_texts_and_displayed_dates() {
        let read = |kind, value: Value| Attribute::normal("X", kind).take(&value, Reader::Import, None);
        assert_eq!(read("float", json!("3.5")), Taken::Set(json!(3.5)));
        assert_eq!(read("date", json!("11/02/1989")), Taken::Set(json!("1989-02-11")));
        assert_eq!(read("boolean", json!("Yes")), Taken::Set(json!(true)));
        assert_eq!(read("boolean", json!(false)), Taken::Dropped);
        assert_eq!(read("text", json!("")), Taken::Clear);
    }
}
