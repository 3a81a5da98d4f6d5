//! `explain`: one person on both sides, what was agreed on, what waits, and what was done. Reads beside a running daemon
//! and calls nobody.

use super::printer::value_in_words;
use super::progress::notice_in_words;
use super::{CliError, Context};
use crate::engine::Settings;
use crate::engine::explain::shown::{
    ChangeShown, ConsentShown, EventShown, Explained, FieldShown, ListShown, OnOneSide, SeenInBrevo, SeenInIntercom,
    Waiting,
};
use crate::engine::explain::{Whom, explain};
use crate::model::{BrevoContactId, Email, IntercomContactId, OptOutReason, SideName, Sides};
use crate::store::Store;
use crate::store::about::ImportShown;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// The longest value that is shown whole in a table, and in a line of its own.
const IN_A_TABLE: usize = 28;
const IN_A_LINE: usize = 160;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// An address, an Intercom contact's id, a Brevo contact's id, or a link's number; to say which it is:
    /// `intercom:ID`, `brevo:ID`, `link:NUMBER`
    #[arg(value_name = "WHO")]
    who: String,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    let config = context.config()?;
    let path = &config.state.path;
    let readings = readings(&arguments.who)?;
    // Opened for reading first, so that no state is made or migrated here.
    drop(Store::open_read_only(path)?);
    let store = Store::open_beside(path)?;
    let (settings, now) = (Settings::from_config(config), context.doors.clock.now());
    let found = store
        .try_out(move |tx| {
            for whom in &readings {
                let found = explain(tx, &settings, whom, now)?;
                if !found.is_empty() {
                    return Ok(found);
                }
            }
            Ok(Vec::new())
        })
        .await?;
    if context.printer.is_json() {
        context.printer.json(&found);
    }
    if found.is_empty() {
        return Err(CliError::failed(
            "the state knows nobody like that; `linkspan mapping preview` with an address reads this one person on both \
             sides",
        ));
    }
    if !context.printer.is_json() {
        let people: Vec<String> = found.iter().map(in_words).collect();
        context.printer.data(people.join("\n"));
    }
    Ok(())
}

/// What an argument may mean, the likeliest first.
fn readings(who: &str) -> Result<Vec<Whom>, CliError> {
    let who = who.trim();
    let number = |text: &str| text.parse::<i64>().ok();
    let brevo = |text: &str| number(text).map(|id| Whom::Brevo(BrevoContactId::new(id)));
    let wrong = |what: &str| CliError::Usage(format!("{what} is a number"));
    if let Some(id) = who.strip_prefix("intercom:") {
        return Ok(vec![Whom::Intercom(IntercomContactId::new(id))]);
    }
    if let Some(id) = who.strip_prefix("brevo:") {
        return Ok(vec![brevo(id).ok_or_else(|| wrong("a Brevo contact's id"))?]);
    }
    if let Some(id) = who.strip_prefix("link:") {
        return Ok(vec![number(id).map(Whom::Link).ok_or_else(|| wrong("a link's number"))?]);
    }
    if who.contains('@') {
        let email =
            Email::parse(who).map_err(|error| CliError::failed(format!("the address cannot be used: {error}")))?;
        return Ok(vec![Whom::Email(email)]);
    }
    let mut readings = vec![Whom::Intercom(IntercomContactId::new(who))];
    if let Some(link) = number(who) {
        readings.insert(0, Whom::Brevo(BrevoContactId::new(link)));
        readings.push(Whom::Link(link));
    }
    Ok(readings)
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// On one line, and not longer than this.
fn cut(text: &str, longest: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= longest {
        return line;
    }
    let mut short: String = line.chars().take(longest.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short + "…"
}

fn value(json: &Json, longest: usize) -> String {
    cut(&value_in_words(json), longest)
}

fn values(all: &[Json], longest: usize) -> String {
    if all.is_empty() {
        "–".to_owned()
    } else {
        cut(&all.iter().map(value_in_words).collect::<Vec<_>>().join(" | "), longest)
    }
}

/// Lines of text under headings.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, text: impl AsRef<str>) {
        self.0.push_str(text.as_ref().trim_end());
        self.0.push('\n');
    }

    fn heading(&mut self, text: &str) {
        self.line("");
        self.line(text);
    }

    /// Aligned columns.
    fn columns(&mut self, rows: &[Vec<String>]) {
        let count = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..count).map(width).collect();
        for row in rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            self.line(format!("  {}", cells.collect::<Vec<_>>().join("  ")));
        }
    }
}

/// Everything about one person, as people read it.
fn in_words(person: &Explained) -> String {
    let mut page = Page::default();
    let who = person
        .email
        .clone()
        .or_else(|| person.intercom.first().map(|contact| format!("Intercom contact {}", contact.id)));
    page.line(who.unwrap_or_else(|| "somebody without an address".to_owned()));
    let link = person.link.map(|link| format!(" (link {link})")).unwrap_or_default();
    page.line(format!("  {}{link}", person.standing));
    page.line(format!("  as of {}", time(person.as_of)));
    who_it_is(&mut page, person);
    consent(&mut page, &person.consent);
    fields(&mut page, person);
    lists(&mut page, &person.lists, &person.lists_to_write);
    on_the_way(&mut page, person);
    problems(&mut page, person);
    if !person.conflicts.is_empty() {
        page.heading("Replaced values, the latest first");
        for lost in &person.conflicts {
            let (before, after) = (values(&lost.lost, IN_A_TABLE), values(&lost.kept, IN_A_TABLE));
            page.line(format!(
                "  {}  {}: in {}, {before} → {after} ({})",
                time(lost.at),
                lost.field,
                lost.side,
                lost.rule
            ));
        }
    }
    page.heading("What we wrote, the latest first");
    if person.changes.is_empty() {
        page.line("  nothing in the last 90 days, as far as the history goes");
    }
    for change in &person.changes {
        written(&mut page, change);
    }
    if !person.unknown.is_empty() {
        page.heading("Unknown");
        for what in &person.unknown {
            page.line(format!("  {what}"));
        }
    }
    page.0
}

fn who_it_is(page: &mut Page, person: &Explained) {
    page.heading("Who it is");
    let mut rows = Vec::new();
    for contact in &person.intercom {
        rows.push(vec!["Intercom".to_owned(), in_intercom(contact)]);
        rows.push(vec![String::new(), known_of(contact)]);
    }
    if person.intercom.is_empty() {
        rows.push(vec!["Intercom".to_owned(), "no contact".to_owned()]);
    }
    match &person.brevo {
        Some(contact) => rows.extend(in_brevo("Brevo", contact)),
        None => rows.push(vec!["Brevo".to_owned(), "no contact".to_owned()]),
    }
    for contact in &person.also_at_the_address {
        rows.extend(in_brevo("also there", contact));
    }
    if let Some(matched) = &person.matched {
        rows.push(vec!["matched".to_owned(), matched.clone()]);
    }
    for side in SideName::BOTH {
        let read = match person.read[side] {
            Some(read) => {
                let full =
                    read.in_full_at.map_or_else(|| "never in full".to_owned(), |at| format!("in full {}", time(at)));
                format!("{side}'s contacts: all changes until {}; {full}", time(read.changes_until))
            }
            None => format!("{side}'s contacts: not yet"),
        };
        rows.push(vec!["read".to_owned(), read]);
    }
    page.columns(&rows);
}

fn in_intercom(contact: &SeenInIntercom) -> String {
    let mut words = vec![format!("contact {} ({})", contact.id, contact.role)];
    if contact.primary {
        words.push("gives the fields".to_owned());
    }
    words.push(match (contact.state.as_str(), &contact.merged_into) {
        ("there", _) => "is there".to_owned(),
        ("merged", Some(into)) => format!("was merged into contact {into}"),
        ("missing", _) => "was not found, and is being looked for".to_owned(),
        (state, _) => format!("was {state}"),
    });
    words.join(", ")
}

fn known_of(contact: &SeenInIntercom) -> String {
    let mut words = vec![format!("as it was {}", time(contact.changed_at))];
    if let Some(email) = &contact.email {
        words.push(email.clone());
    }
    if let Some(id) = &contact.external_id {
        words.push(format!("external id {}", cut(id, IN_A_TABLE)));
    }
    if !contact.tags.is_empty() {
        words.push(format!("tags {}", cut(&contact.tags.join(", "), IN_A_LINE)));
    }
    if contact.conversations > 0 {
        words.push(super::printer::counted(contact.conversations as u64, "conversation"));
    }
    words.join("; ")
}

fn in_brevo(name: &str, contact: &SeenInBrevo) -> Vec<Vec<String>> {
    if contact.gone {
        return vec![vec![
            name.to_owned(),
            format!("contact {}, was deleted there or cannot be seen any more", contact.id),
        ]];
    }
    let mut words = vec![match contact.changed_at {
        _ if contact.not_read_yet => "as we made it: not read back yet".to_owned(),
        Some(at) => format!("as it was {}", time(at)),
        None => "as we made it".to_owned(),
    }];
    words.extend(contact.email.clone());
    if let Some(id) = &contact.ext_id {
        words.push(format!("external id {}", cut(id, IN_A_TABLE)));
    }
    vec![vec![name.to_owned(), format!("contact {}, is there", contact.id)], vec![String::new(), words.join("; ")]]
}

fn reason(reason: OptOutReason) -> &'static str {
    match reason {
        OptOutReason::Unsubscribed => "unsubscribed",
        OptOutReason::HardBounced => "a mail came back for good",
        OptOutReason::Spam => "marked a mail as spam",
        OptOutReason::Blocklisted => "blocklisted",
    }
}

fn may(side: Option<&OnOneSide>) -> String {
    let Some(side) = side else { return "no contact".to_owned() };
    let mut words = if side.email.is_empty() {
        "may be e-mailed".to_owned()
    } else {
        let reasons: Vec<&str> = side.email.iter().map(|why| reason(*why)).collect();
        format!("may not be e-mailed: {}", reasons.join(", "))
    };
    if side.sms_opted_out {
        words += "; no SMS";
    }
    words
}

fn consent(page: &mut Page, consent: &ConsentShown) {
    page.heading("Consent");
    let out = |out: bool| if out { "opted out" } else { "no opt-out" };
    let agreed = |agreed: &Option<Sides<bool>>| match agreed {
        Some(agreed) => format!("{} in Intercom, {} in Brevo", out(agreed.intercom), out(agreed.brevo)),
        None => "nothing yet".to_owned(),
    };
    let mut rows = vec![
        vec!["Intercom".to_owned(), may(consent.intercom.as_ref())],
        vec!["Brevo".to_owned(), may(consent.brevo.as_ref())],
        vec!["agreed".to_owned(), agreed(&consent.agreed)],
    ];
    if consent.agreed_sms.is_some() {
        rows.push(vec!["agreed, SMS".to_owned(), agreed(&consent.agreed_sms)]);
    }
    if let Some(words) = &consent.words {
        rows.push(vec!["so".to_owned(), words.split(';').next().unwrap_or(words).to_owned()]);
    }
    for fact in &consent.told {
        let why = fact.reason.map(|why| format!(" ({})", reason(why))).unwrap_or_default();
        let of = if fact.channel == "sms" { "SMS" } else { "e-mail" };
        let back =
            fact.taken_back_at.map_or_else(String::new, |at| format!("; a record of {} shows it taken back", time(at)));
        rows.push(vec![
            "told".to_owned(),
            format!("{}: {}'s {} told of an opt-out of {of}{why}{back}", time(fact.at), fact.side, fact.notice),
        ]);
    }
    for row in &consent.carried {
        let how = match (row.due, row.may_land_until, row.told) {
            _ if row.held => "is to be told of Brevo's opt-out, held until `linkspan approve` lets it go".to_owned(),
            (Some(at), _, _) => format!("is to be told of Brevo's opt-out, from {} on", time(at)),
            (None, Some(until), _) => {
                format!("was told of Brevo's opt-out, without an answer yet: may land until {}", time(until))
            }
            (None, None, true) => "knows of Brevo's opt-out".to_owned(),
            (None, None, false) => "has not been told of Brevo's opt-out".to_owned(),
        };
        let ours = if row.ours { "; that it is opted out there is our doing" } else { "" };
        let tries = if row.tries > 0 { format!("; refusals so far: {}", row.tries) } else { String::new() };
        rows.push(vec!["carried".to_owned(), format!("Intercom contact {} {how}{ours}{tries}", row.contact)]);
    }
    page.columns(&rows);
}

/// What stands in Brevo, without the names of attributes where there is one only.
fn by_attribute(all: &BTreeMap<String, Json>, longest: usize) -> String {
    let words: Vec<String> = match all.len() {
        0 => return "–".to_owned(),
        1 => all.values().map(value_in_words).collect(),
        _ => all
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| format!("{name} {}", value_in_words(value)))
            .collect(),
    };
    if words.is_empty() { "–".to_owned() } else { cut(&words.join(", "), longest) }
}

fn fields(page: &mut Page, person: &Explained) {
    page.heading("Fields");
    if person.fields.is_empty() {
        page.line("  none: nobody on the other side, or no field is mapped");
        return;
    }
    let head = ["rule", "in Intercom", "in Brevo", "agreed in Brevo", ""].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    for field in &person.fields {
        let agreed =
            field.agreed.as_ref().map_or_else(|| "nothing yet".to_owned(), |agreed| values(&agreed.brevo, IN_A_TABLE));
        rows.push(vec![
            field.rule.clone(),
            value(&field.intercom, IN_A_TABLE),
            by_attribute(&field.brevo, IN_A_TABLE),
            agreed,
            field.status.clone(),
        ]);
    }
    page.columns(&rows);
    for field in person.fields.iter().filter(|field| !matches!(field.status.as_str(), "in step" | "nothing yet")) {
        more_of(page, field);
    }
}

/// Why a field is not in step.
fn more_of(page: &mut Page, field: &FieldShown) {
    let mut words = Vec::new();
    for (side, write) in [(SideName::Brevo, &field.write), (SideName::Intercom, &field.write_intercom)] {
        let written = write.iter().map(|(name, value)| match value {
            Json::Null => format!("{name} cleared"),
            value => format!("{name} = {}", value_in_words(value)),
        });
        let written: Vec<String> = written.collect();
        if !written.is_empty() {
            words.push(format!("would be written to {side}: {}", cut(&written.join(", "), IN_A_LINE)));
        }
    }
    for side in SideName::BOTH {
        if let Some(write) = &field.in_flight[side] {
            let (sent, before) = (values(&write.sent, IN_A_LINE), values(&write.before, IN_A_LINE));
            words.push(format!("sent to {side}, not seen there yet: {sent} (before: {before})"));
        }
        if let Some(refused) = field.refused.as_ref().and_then(|refused| refused[side].as_ref()) {
            words.push(format!("{side} did not take {}", values(refused, IN_A_LINE)));
        }
    }
    if let Some(held) = &field.held_back {
        words.push(format!("not sent again as it is: {}", values(held, IN_A_LINE)));
    }
    if field.why != "in step" {
        words.push(field.why.clone());
    }
    words.extend(field.failure.iter().filter(|failure| **failure != field.why).map(|text| cut(text, IN_A_LINE)));
    page.line(format!("  {}", field.rule));
    for words in words {
        page.line(format!("    {words}"));
    }
}

fn lists(page: &mut Page, lists: &[ListShown], to_write: &[String]) {
    if lists.is_empty() {
        return;
    }
    page.heading("Lists");
    let rows = lists.iter().map(|list| {
        let name = list.name.as_ref().map_or_else(
            || format!("list {}", list.list),
            |name| format!("{} (list {})", cut(name, IN_A_TABLE), list.list),
        );
        let now = match (list.unsubscribed, list.member) {
            (true, _) => "unsubscribed from it",
            (false, Some(true)) => "is on it",
            (false, Some(false)) => "is not on it",
            (false, None) => "no contact in Brevo",
        };
        let agreed = match (list.agreed_member, list.wanted_then) {
            (Some(true), Some(true)) => "agreed: on it, as a rule wants",
            (Some(true), _) => "agreed: on it, as no rule of ours wants",
            (Some(false), Some(true)) => "agreed: not on it, though a rule wants it",
            (Some(false), _) => "agreed: not on it",
            (None, _) => "nothing agreed",
        };
        let flight = match list.in_flight {
            Some(true) => "joining is on its way",
            Some(false) => "leaving is on its way",
            None => "",
        };
        let rules = if list.rules.is_empty() { "no rule of ours".to_owned() } else { list.rules.join(", ") };
        vec![name, now.to_owned(), agreed.to_owned(), rules, flight.to_owned()]
    });
    page.columns(&rows.collect::<Vec<_>>());
    for words in to_write {
        page.line(format!("  would {words}"));
    }
}

fn import_in_words(import: &ImportShown) -> String {
    let state = match import.state.as_str() {
        "filling" => "is being filled",
        "sending" => "is being sent, or was without an answer",
        "running" => "is at work in Brevo",
        "reading_back" => "is over in Brevo, and read back",
        "given_up" => "did not end in time, and is read back",
        _ => "is over",
    };
    let process = import.process.map(|id| format!(", process {id} in Brevo")).unwrap_or_default();
    format!("import {}{process} ({}, {} rows, {}) {state}", import.id, import.kind, import.rows, time(import.sent_at))
}

fn on_the_way(page: &mut Page, person: &Explained) {
    page.heading("On the way");
    let unsent: Vec<&EventShown> = person.events.iter().filter(|event| event.state != "sent").collect();
    if person.waiting.is_empty() && unsent.is_empty() && person.import.is_none() {
        page.line("  nothing");
    }
    if let Some(import) = &person.import {
        page.line(format!("  {}", import_in_words(import)));
        if let Some(by) = import.landed_by.filter(|_| import.state == "sending") {
            page.line(format!("    without an answer; may land until {}", time(by)));
        }
    }
    for Waiting { what, not_before, tries } in &person.waiting {
        let when = not_before.map(|at| format!("; not before {}", time(at))).unwrap_or_default();
        let tries = tries.map(|tries| format!("; failed tries so far: {tries}")).unwrap_or_default();
        page.line(format!("  {what}{when}{tries}"));
    }
    for event in &unsent {
        let when = event.not_before.map(|at| format!("; not before {}", time(at))).unwrap_or_default();
        let state = match event.state.as_str() {
            "sending" => "left without an answer yet",
            "dead" => "given up",
            state => state,
        };
        let name = event.name.as_deref().unwrap_or("unnamed");
        page.line(format!(
            "  event {name}: {state}, since {}{when}; failed tries: {}",
            time(event.queued_at),
            event.tries
        ));
    }
    let sent: Vec<&EventShown> = person.events.iter().filter(|event| event.state == "sent").collect();
    if let Some(last) = sent.first() {
        let name = last.name.as_deref().unwrap_or("unnamed");
        let at = last.sent_at.unwrap_or(last.queued_at);
        page.line(format!("  events sent: {} of late, the last {name}, {}", sent.len(), time(at)));
    }
}

fn problems(page: &mut Page, person: &Explained) {
    if person.failures.is_empty() && person.notices.is_empty() {
        return;
    }
    page.heading("Problems");
    for failure in &person.failures {
        let field = if failure.field.is_empty() { "the whole record" } else { &failure.field };
        let who = failure.refused_by.map_or_else(|| "left out by us".to_owned(), |side| format!("refused by {side}"));
        let status = failure.status.map(|status| format!(" ({status})")).unwrap_or_default();
        let again = if failure.dead { "not tried again by itself" } else { "tried again by itself" };
        page.line(format!("  #{} {field}: {who}: {}{status}", failure.id, cut(&failure.message, IN_A_LINE)));
        let (first, last) = (time(failure.first_at), time(failure.last_at));
        page.line(format!("    first {first}, last {last}, tries: {}; {again}", failure.tries));
    }
    for notice in &person.notices {
        let detail = notice.detail.as_ref().map(|text| format!(": {}", cut(text, IN_A_LINE))).unwrap_or_default();
        page.line(format!("  {}{detail} (since {})", notice_in_words(&notice.kind), time(notice.since)));
    }
}

fn written(page: &mut Page, change: &ChangeShown) {
    page.line(format!("  {}  {}: {}", time(change.at), change.what, cut(&change.answer, IN_A_LINE)));
    match (&change.request, &change.import) {
        (Some(request), _) => page.line(format!("    request: {request}")),
        (None, Some(import)) => page.line(format!("    request: {}", import_in_words(import))),
        (None, None) => page.line("    request: not known any more"),
    }
    let causes: Vec<Vec<String>> =
        change.causes.iter().map(|(rule, why)| vec![format!("  {rule}"), cut(why, IN_A_LINE)]).collect();
    page.columns(&causes);
}

#[cfg(test)]
mod tests;
