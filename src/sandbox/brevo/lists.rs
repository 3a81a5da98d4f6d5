//! Lists, folders, segments.

use super::attributes;
use super::contacts::Change;
use super::directory::Key;
use super::reply::{Call, Outcome, Reply, flag, integers, text, texts};
use super::state::{Hand, State};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub(super) struct List {
    name: String,
    folder: i64,
    created: DateTime<Utc>,
    pub(super) members: BTreeSet<i64>,
}

/// Lists and folders.
#[derive(Debug)]
pub(super) struct Lists {
    all: BTreeMap<i64, List>,
    folders: BTreeMap<i64, String>,
    last_list: i64,
    last_folder: i64,
}

impl Lists {
    /// Every account starts with one list in one folder.
    pub(super) fn new(now: DateTime<Utc>) -> Self {
        let list = List { name: "Your first list".into(), folder: 1, created: now, members: BTreeSet::new() };
        Self {
            all: BTreeMap::from([(2, list)]),
            folders: BTreeMap::from([(1, "Your first folder".into())]),
            last_list: 2,
            last_folder: 1,
        }
    }

    pub(super) fn has(&self, id: i64) -> bool {
        self.all.contains_key(&id)
    }

    pub(super) fn get(&self, id: i64) -> Option<&List> {
        self.all.get(&id)
    }

    pub(super) fn join(&mut self, list: i64, contact: i64) {
        if let Some(list) = self.all.get_mut(&list) {
            list.members.insert(contact);
        }
    }

    pub(super) fn leave(&mut self, list: i64, contact: i64) {
        if let Some(list) = self.all.get_mut(&list) {
            list.members.remove(&contact);
        }
    }

    pub(super) fn has_folder(&self, id: i64) -> bool {
        self.folders.contains_key(&id)
    }

    pub(super) fn create(&mut self, name: &str, folder: i64, now: DateTime<Utc>) -> i64 {
        self.last_list += 1;
        let list = List { name: name.into(), folder, created: now, members: BTreeSet::new() };
        self.all.insert(self.last_list, list);
        self.last_list
    }

    pub(super) fn by_name(&self, name: &str) -> Option<i64> {
        self.all.iter().find(|(_, list)| list.name == name).map(|(id, _)| *id)
    }

    /// A list by an id that config files name, in the first folder.
    pub(super) fn insert(&mut self, id: i64, name: &str, now: DateTime<Utc>) {
        let list = List { name: name.into(), folder: 1, created: now, members: BTreeSet::new() };
        self.all.entry(id).or_insert(list);
        self.last_list = self.last_list.max(id);
    }
}

impl List {
    /// The totals are always 0 (since 2021); only `uniqueSubscribers` counts.
    fn shown(&self, id: i64, with_folder: bool) -> Value {
        let mut shown = json!({
            "id": id,
            "name": self.name,
            "totalSubscribers": 0,
            "totalBlacklisted": 0,
            "uniqueSubscribers": self.members.len(),
        });
        if with_folder && let Some(shown) = shown.as_object_mut() {
            shown.insert("folderId".into(), json!(self.folder));
        }
        shown
    }
}

/// A page of something with ids. The newest come first unless asked otherwise.
fn window<T>(mut items: Vec<T>, call: &Call) -> Result<(usize, Vec<T>), Reply> {
    let (limit, offset) = call.page(10, 50)?;
    if !call.ascending()? {
        items.reverse();
    }
    let count = items.len();
    Ok((count, items.into_iter().skip(offset).take(limit).collect()))
}

pub(super) fn all(state: &mut State, call: &Call) -> Outcome {
    let shown = state.lists.all.iter().map(|(id, list)| list.shown(*id, true)).collect();
    let (count, lists) = window(shown, call)?;
    Ok(Reply::json(200, &json!({"count": count, "lists": lists})))
}

pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    let body = call.object()?;
    let name = text(&body, "name")?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Reply::missing("List name is missing"))?;
    let folder = body.get("folderId").ok_or_else(|| Reply::missing("folderId is missing"))?;
    let folder = folder.as_i64().filter(|id| state.lists.has_folder(*id));
    let folder = folder.ok_or_else(|| Reply::invalid("Folder does not exist"))?;
    let id = state.lists.create(&name, folder, state.now);
    Ok(Reply::json(201, &json!({"id": id})))
}

/// The list that a path names.
fn named(state: &State, call: &Call) -> Result<i64, Reply> {
    let id = call.number(2, "List id")?;
    if state.lists.has(id) { Ok(id) } else { Err(Reply::not_found("List ID does not exist")) }
}

pub(super) fn get(state: &mut State, call: &Call) -> Outcome {
    let id = named(state, call)?;
    let Some(list) = state.lists.get(id) else { return Err(Reply::not_found("List ID does not exist")) };
    let mut shown = list.shown(id, true);
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("createdAt".into(), json!(state.stamp(list.created)));
        shown.insert("dynamicList".into(), json!(false));
        shown.insert("campaignStats".into(), json!([]));
    }
    Ok(Reply::json(200, &shown))
}

pub(super) fn update(state: &mut State, call: &Call) -> Outcome {
    let id = named(state, call)?;
    let body = call.object()?;
    let name = text(&body, "name")?;
    let folder = body.get("folderId").and_then(Value::as_i64);
    if folder.is_some_and(|id| !state.lists.has_folder(id)) {
        return Err(Reply::invalid("Folder does not exist"));
    }
    let Some(list) = state.lists.all.get_mut(&id) else { return Err(Reply::not_found("List ID does not exist")) };
    match (name, folder) {
        (Some(name), None) => list.name = name,
        (None, Some(folder)) => list.folder = folder,
        _ => return Err(Reply::invalid("Update either name or folderId")),
    }
    Ok(Reply::empty(204))
}

fn remove_list(state: &mut State, id: i64) {
    let Some(list) = state.lists.all.remove(&id) else { return };
    for member in list.members {
        state.contacts.change(member, state.now, |contact| {
            contact.list_ids.remove(&id);
        });
    }
}

pub(super) fn delete(state: &mut State, call: &Call) -> Outcome {
    let id = named(state, call)?;
    remove_list(state, id);
    Ok(Reply::empty(204))
}

pub(super) fn contacts(state: &mut State, call: &Call) -> Outcome {
    let id = named(state, call)?;
    // Half of what GET /contacts allows.
    let (limit, offset) = call.page(50, 500)?;
    let since = call.instant("modifiedSince")?;
    let members = state.lists.get(id).map(|list| list.members.clone()).unwrap_or_default();
    let fits = |id: &i64| {
        since.is_none_or(|since| state.contacts.get(*id).is_some_and(|contact| contact.modified_at >= since))
    };
    let mut found: Vec<i64> = members.into_iter().filter(fits).collect();
    if !call.ascending()? {
        found.reverse();
    }
    let page: Vec<i64> = found.iter().skip(offset).take(limit).copied().collect();
    Ok(state.page_of(&page, found.len()))
}

/// Somebody as a body names them, and who that is.
type Named = (Value, Option<i64>);

/// Those that a body names, each as it was named.
fn targets(state: &State, call: &Call) -> Result<Option<Vec<Named>>, Reply> {
    let body = call.object()?;
    let (emails, ids, ext_ids) = (texts(&body, "emails")?, integers(&body, "ids")?, texts(&body, "extIds")?);
    let all = flag(&body, "all")?.unwrap_or(false);
    let given = [emails.is_some(), ids.is_some(), ext_ids.is_some(), all].into_iter().filter(|given| *given).count();
    if given != 1 {
        return Err(Reply::invalid("Exactly one of emails, ids or extIds is required"));
    }
    if all {
        return Ok(None);
    }
    let by_email = |email: String| {
        let found = attributes::email(&email).and_then(|email| state.contacts.find(Key::Email, &email));
        (json!(email), found)
    };
    let by_id = |id: i64| (json!(id), state.contacts.get(id).map(|contact| contact.id));
    let by_ext_id = |ext_id: String| {
        let found = state.contacts.find(Key::ExtId, &ext_id);
        (json!(ext_id), found)
    };
    let named: Vec<Named> = emails
        .map(|emails| emails.into_iter().map(by_email).collect())
        .or_else(|| ids.map(|ids| ids.into_iter().map(by_id).collect()))
        .or_else(|| ext_ids.map(|ext_ids| ext_ids.into_iter().map(by_ext_id).collect()))
        .unwrap_or_default();
    if named.len() > 150 {
        return Err(Reply::error(400, "out_of_range", "At most 150 contacts can be passed"));
    }
    Ok(Some(named))
}

/// Moves those for whom it makes a difference; when it makes none for anybody, that is a 400.
fn move_members(state: &mut State, list: i64, named: Vec<Named>, joins: bool) -> Outcome {
    let (mut success, mut failure) = (Vec::new(), Vec::new());
    for (name, id) in named {
        let is_member = |id: i64| state.lists.get(list).is_some_and(|list| list.members.contains(&id));
        match id.filter(|id| is_member(*id) != joins) {
            Some(id) => {
                let (link, unlink) = if joins { (vec![list], Vec::new()) } else { (Vec::new(), vec![list]) };
                state.apply(id, Change { link, unlink, ..Change::default() }, Hand::Api);
                success.push(name);
            }
            None => failure.push(name),
        }
    }
    if success.is_empty() {
        return Err(Reply::invalid(if joins {
            "Contact already in list and/or does not exist"
        } else {
            "Contact already removed from list and/or does not exist"
        }));
    }
    let moved = json!({"success": success, "failure": failure});
    let body = if state.knobs.flat_list_answers { moved } else { json!({"contacts": moved}) };
    Ok(Reply::json(201, &body))
}

pub(super) fn add(state: &mut State, call: &Call) -> Outcome {
    let id = named(state, call)?;
    let Some(named) = targets(state, call)? else {
        return Err(Reply::invalid("Exactly one of emails, ids or extIds is required"));
    };
    move_members(state, id, named, true)
}

pub(super) fn remove(state: &mut State, call: &Call) -> Outcome {
    let id = named(state, call)?;
    if let Some(named) = targets(state, call)? {
        return move_members(state, id, named, false);
    }
    let members = state.lists.get(id).map(|list| list.members.clone()).unwrap_or_default();
    for member in &members {
        state.apply(*member, Change { unlink: vec![id], ..Change::default() }, Hand::Api);
    }
    let process = state.instant_process("LIST_EXPORT");
    Ok(Reply::json(201, &json!({"contacts": {"processId": process, "total": members.len()}})))
}

fn folder_shown(state: &State, id: i64, name: &str) -> Value {
    let members: usize = state.lists.all.values().filter(|list| list.folder == id).map(|list| list.members.len()).sum();
    json!({"id": id, "name": name, "totalSubscribers": 0, "totalBlacklisted": 0, "uniqueSubscribers": members})
}

fn named_folder(state: &State, call: &Call) -> Result<i64, Reply> {
    let id = call.number(2, "Folder id")?;
    if state.lists.has_folder(id) { Ok(id) } else { Err(Reply::not_found("Folder ID does not exist")) }
}

pub(super) fn folders(state: &mut State, call: &Call) -> Outcome {
    let shown = state.lists.folders.iter().map(|(id, name)| folder_shown(state, *id, name)).collect();
    let (count, folders) = window(shown, call)?;
    Ok(Reply::json(200, &json!({"count": count, "folders": folders})))
}

pub(super) fn create_folder(state: &mut State, call: &Call) -> Outcome {
    let name = text(&call.object()?, "name")?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Reply::missing("Folder name is missing"))?;
    state.lists.last_folder += 1;
    let id = state.lists.last_folder;
    state.lists.folders.insert(id, name);
    Ok(Reply::json(201, &json!({"id": id})))
}

pub(super) fn get_folder(state: &mut State, call: &Call) -> Outcome {
    let id = named_folder(state, call)?;
    let name = state.lists.folders.get(&id).cloned().unwrap_or_default();
    Ok(Reply::json(200, &folder_shown(state, id, &name)))
}

pub(super) fn update_folder(state: &mut State, call: &Call) -> Outcome {
    let id = named_folder(state, call)?;
    let name = text(&call.object()?, "name")?.filter(|name| !name.is_empty());
    state.lists.folders.insert(id, name.ok_or_else(|| Reply::missing("Folder name is missing"))?);
    Ok(Reply::empty(204))
}

/// All its lists go with it.
pub(super) fn delete_folder(state: &mut State, call: &Call) -> Outcome {
    let id = named_folder(state, call)?;
    state.lists.folders.remove(&id);
    let inside: Vec<i64> =
        state.lists.all.iter().filter(|(_, list)| list.folder == id).map(|(list, _)| *list).collect();
    for list in inside {
        remove_list(state, list);
    }
    Ok(Reply::empty(204))
}

pub(super) fn folder_lists(state: &mut State, call: &Call) -> Outcome {
    let folder = named_folder(state, call)?;
    let inside = state.lists.all.iter().filter(|(_, list)| list.folder == folder);
    let (count, lists) = window(inside.map(|(id, list)| list.shown(*id, false)).collect(), call)?;
    Ok(Reply::json(200, &json!({"count": count, "lists": lists})))
}

/// There are none: the API can only read them.
pub(super) fn segments(_: &mut State, call: &Call) -> Outcome {
    call.page(10, 50)?;
    Ok(Reply::json(200, &json!({"count": 0, "segments": []})))
}
