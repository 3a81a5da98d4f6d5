//! `/companies`: upsert, the capped list, the scroll.

use super::answer::{Answer, Asked, Reply, error, ok};
use super::contacts::contact_page;
use super::state::{Company, Contact, Scroll, Slot, State};
use super::view::{company_value, members};
use super::{attributes, webhooks};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The list goes no further.
const LIST_CAP: usize = 10_000;
/// The scroll's page; nobody can choose it.
pub(super) const SCROLL_PAGE: usize = 100;
/// How long a scroll lives without a call.
const SCROLL_IDLE_MS: i64 = 60_000;

fn missing() -> Answer {
    error(404, "company_not_found", "Company Not Found")
}

fn one(state: &State, id: &str) -> Reply {
    state.companies.get(id).map(|company| ok(&company_value(state, company))).ok_or_else(missing)
}

const KNOWN_KEYS: [&str; 11] = [
    "name",
    "company_id",
    "plan",
    "size",
    "website",
    "industry",
    "custom_attributes",
    "remote_created_at",
    "monthly_spend",
    "update_last_request_at",
    "last_request_at",
];

/// Puts a body's fields on a company.
pub(super) fn apply(state: &mut State, company: &mut Company, body: &Value) -> Result<(), Answer> {
    let Some(map) = body.as_object() else { return Err(error(400, "bad_request", "bad request body")) };
    // Unlike contacts, companies refuse keys they do not know.
    if let Some(unknown) = map.keys().find(|key| !KNOWN_KEYS.contains(&key.as_str())) {
        return Err(error(400, "bad_request", &format!("bad '{unknown}' parameter")));
    }
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    for (key, value) in map {
        match key.as_str() {
            "name" => company.name = text(value),
            "plan" => {
                company.plan = text(value);
                if let Some(plan) = &company.plan {
                    let next = u32::try_from(state.plans.len()).unwrap_or(0) + 269_315;
                    state.plans.entry(plan.clone()).or_insert(next);
                }
            }
            "size" => company.size = value.as_i64(),
            "website" => company.website = text(value),
            "industry" => company.industry = text(value),
            "remote_created_at" => company.remote_created = value.as_i64(),
            "last_request_at" => company.last_request = value.as_i64(),
            "update_last_request_at" if value == &Value::Bool(true) => company.last_request = Some(state.now()),
            "monthly_spend" => {
                #[expect(clippy::cast_possible_truncation, reason = "floats are truncated, as documented")]
                let spend = value.as_f64().unwrap_or(0.0) as i64;
                if spend > i64::from(i32::MAX) {
                    return Err(error(400, "parameter_invalid", "monthly_spend is too large"));
                }
                company.monthly_spend = spend;
            }
            "custom_attributes" => {
                if let Some(values) = value.as_object() {
                    attributes::write_custom(state, "company", &mut company.custom, values)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn blank(state: &mut State, company_id: &str) -> Company {
    Company {
        id: state.object_id(state.now_ms),
        remote_id: company_id.to_owned(),
        name: None,
        plan: None,
        size: None,
        website: None,
        industry: None,
        monthly_spend: 0,
        session_count: 0,
        remote_created: None,
        created: state.now_ms,
        updated: state.now_ms,
        last_request: None,
        custom: serde_json::Map::new(),
        tags: Vec::new(),
        members: BTreeSet::new(),
    }
}

/// Creates or updates by the caller's own id.
pub(super) fn upsert(state: &mut State, body: &Value) -> Result<String, Answer> {
    let company_id = match body.get("company_id") {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => state.uuid(),
    };
    if let Some(id) = state.company_by_remote.get(&company_id).cloned() {
        edit(state, &id, body)?;
        return Ok(id);
    }
    let mut company = blank(state, &company_id);
    apply(state, &mut company, body)?;
    let id = company.id.clone();
    state.company_by_remote.insert(company_id, id.clone());
    state.companies.insert(id.clone(), company);
    webhooks::company(state, &id, "company.created");
    Ok(id)
}

pub(super) fn edit(state: &mut State, id: &str, body: &Value) -> Result<(), Answer> {
    let Some(mut company) = state.companies.get(id).cloned() else { return Err(missing()) };
    apply(state, &mut company, body)?;
    company.updated = state.now_ms.max(company.created);
    state.companies.insert(id.to_owned(), company);
    webhooks::company(state, id, "company.updated");
    Ok(())
}

pub(super) fn create(state: &mut State, asked: &Asked) -> Reply {
    let id = upsert(state, &asked.body)?;
    one(state, &id)
}

pub(super) fn update(state: &mut State, asked: &Asked, id: &str) -> Reply {
    edit(state, id, &asked.body)?;
    one(state, id)
}

pub(super) fn get(state: &State, id: &str) -> Reply {
    one(state, id)
}

/// By `company_id` or `name` one company, else a list.
pub(super) fn retrieve(state: &State, asked: &Asked) -> Reply {
    if let Some(remote) = asked.param("company_id") {
        return one(state, state.company_by_remote.get(remote).ok_or_else(missing)?);
    }
    if let Some(name) = asked.param("name") {
        let found = state.companies.values().find(|company| company.name.as_deref() == Some(name));
        return found.map(|company| ok(&company_value(state, company))).ok_or_else(missing);
    }
    let tag = asked.param("tag_id");
    let wanted = |company: &Company| match tag {
        Some(tag) => company.tags.iter().any(|own| own == tag),
        None => asked.param("segment_id").is_none(),
    };
    page_of(state, asked, &wanted, 15)
}

pub(super) fn list(state: &State, asked: &Asked) -> Reply {
    page_of(state, asked, &|_| true, 15)
}

fn page_of(state: &State, asked: &Asked, wanted: &dyn Fn(&Company) -> bool, default: usize) -> Reply {
    let (page, per_page) = (asked.page()?, asked.per_page(default, 60)?);
    if page.saturating_mul(per_page) > LIST_CAP {
        return Err(error(400, "bad_request", "page limit reached, please use scroll API"));
    }
    // A company without people is not visible.
    let mut all: Vec<&Company> = state.companies.values().filter(|c| members(state, c) > 0 && wanted(c)).collect();
    all.sort_by_key(|company| (company.last_request.unwrap_or(i64::MIN), company.id.as_str()));
    if asked.param("order") != Some("asc") {
        all.reverse();
    }
    let total = all.len();
    let pages = total.div_ceil(per_page);
    let data: Vec<Value> =
        all.into_iter().skip((page - 1) * per_page).take(per_page).map(|c| company_value(state, c)).collect();
    let mut info = json!({"type": "pages", "page": page, "per_page": per_page, "total_pages": pages});
    if page < pages
        && let Some(map) = info.as_object_mut()
    {
        map.insert("next".to_owned(), json!({"page": page + 1, "per_page": per_page}));
    }
    Ok(ok(&json!({"type": "list", "data": data, "pages": info, "total_count": total})))
}

pub(super) fn scroll(state: &mut State, asked: &Asked) -> Reply {
    let now = state.now_ms;
    let open = state.scroll.take().filter(|scroll| now - scroll.last_used < SCROLL_IDLE_MS);
    let given = asked.param("scroll_param").filter(|param| !param.is_empty());
    let mut scroll = match (given, open) {
        (None, None) => Scroll { param: state.uuid(), after: String::new(), last_used: now },
        (None, Some(open)) => {
            // There is no way to close it; asking does not keep it alive either.
            state.scroll = Some(open);
            return Err(error(400, "scroll_exists", "scroll already exists for this workspace"));
        }
        (Some(param), Some(open)) if open.param == param => open,
        (Some(_), open) => {
            state.scroll = open;
            return Err(error(404, "not_found", "scroll parameter not found"));
        }
    };
    let after = (std::ops::Bound::Excluded(scroll.after.clone()), std::ops::Bound::Unbounded);
    let page: Vec<&Company> = state
        .companies
        .range::<String, _>(after)
        .map(|(_, company)| company)
        .filter(|company| members(state, company) > 0)
        .take(SCROLL_PAGE)
        .collect();
    let data: Vec<Value> = page.iter().map(|company| company_value(state, company)).collect();
    if let Some(last) = page.last() {
        scroll.after.clone_from(&last.id);
    }
    scroll.last_used = now;
    let mut answer = json!({"type": "list", "data": data, "pages": null, "total_count": null});
    if !data.is_empty() {
        answer["scroll_param"] = scroll.param.clone().into();
        state.scroll = Some(scroll);
    } else if state.options.scroll_ends_with_404 {
        return Err(error(404, "not_found", "scroll parameter not found"));
    }
    // The empty page is the end and closes the scroll. It names no scroll: the vendor's Node SDK walks on while one does.
    Ok(ok(&answer))
}

pub(super) fn delete(state: &mut State, id: &str) -> Reply {
    let Some(company) = state.companies.remove(id) else { return Err(missing()) };
    state.company_by_remote.remove(&company.remote_id);
    for slot in &company.members {
        state.change(*slot, |contact| contact.companies.retain(|own| own != id));
    }
    let item = json!({"id": id, "type": "company", "company_id": company.remote_id, "deleted": true});
    webhooks::queue(state, "company.deleted", item);
    Ok(ok(&json!({"id": id, "object": "company", "deleted": true})))
}

pub(super) fn contacts(state: &State, asked: &Asked, id: &str) -> Reply {
    let company = state.companies.get(id).ok_or_else(missing)?;
    let (page, per_page) = (asked.page()?, asked.per_page(50, 150)?);
    let all: Vec<Slot> =
        company.members.iter().copied().filter(|slot| state.contact(*slot).is_some_and(Contact::is_live)).collect();
    let total = all.len();
    let pages = total.div_ceil(per_page);
    let slots: Vec<Slot> = all.into_iter().skip((page - 1) * per_page).take(per_page).collect();
    let next = (page < pages)
        .then(|| format!("https://api.intercom.io/companies/{id}/contacts?per_page={per_page}&page={}", page + 1));
    let info = json!({"type": "pages", "page": page, "per_page": per_page, "total_pages": pages, "next": next});
    Ok(contact_page(state, &slots, total, &info, asked.version))
}

pub(super) fn of_contact(state: &State, asked: &Asked, slot: Slot) -> Reply {
    let (page, per_page) = (asked.page()?, asked.per_page(50, 60)?);
    let Some(contact) = state.contact(slot) else { return Err(missing()) };
    let total = contact.companies.len();
    let pages = total.div_ceil(per_page);
    let data: Vec<Value> = contact
        .companies
        .iter()
        .skip((page - 1) * per_page)
        .take(per_page)
        .filter_map(|id| state.companies.get(id))
        .map(|company| company_value(state, company))
        .collect();
    let next = (page < pages).then(|| {
        format!("https://api.intercom.io/contacts/{}/companies?per_page={per_page}&page={}", contact.id, page + 1)
    });
    let info = json!({"type": "pages", "page": page, "per_page": per_page, "total_pages": pages, "next": next});
    // The description's examples have `data`, its schema and Intercom's own SDKs `companies`: whoever comes finds theirs.
    Ok(ok(&json!({"type": "list", "data": data, "companies": data, "pages": info, "total_count": total})))
}

/// Most companies of one contact.
const MOST_OF_CONTACT: usize = 1_000;

pub(super) fn attach(state: &mut State, slot: Slot, id: &str) -> Reply {
    if !state.companies.contains_key(id) {
        return Err(missing());
    }
    let own = state.contact(slot).map_or(&[][..], |contact| &contact.companies);
    let already = own.iter().any(|own| own == id);
    if !already {
        if own.len() >= MOST_OF_CONTACT {
            return Err(error(400, "contact_company_limit_exceeded", "A contact can have at most 1000 companies"));
        }
        state.change(slot, |contact| contact.companies.push(id.to_owned()));
        if let Some(company) = state.companies.get_mut(id) {
            company.members.insert(slot);
        }
        webhooks::attached(state, slot, id, true);
    }
    one(state, id)
}

pub(super) fn detach(state: &mut State, slot: Slot, id: &str) -> Reply {
    if !state.contact(slot).is_some_and(|contact| contact.companies.iter().any(|own| own == id)) {
        return Err(missing());
    }
    state.change(slot, |contact| contact.companies.retain(|own| own != id));
    if let Some(company) = state.companies.get_mut(id) {
        company.members.remove(&slot);
    }
    webhooks::attached(state, slot, id, false);
    one(state, id)
}
