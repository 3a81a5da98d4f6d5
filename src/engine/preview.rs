//! What a person looks like to `mapping preview`: both sides' values, what would be written, and why.

use super::Ready;
use super::people::Person;
use crate::mapping::FieldRule;
use crate::model::{BrevoContact, BrevoContactId, ContactChange, SideName, Value};
use crate::reconcile::person::Notice;
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::facts::Channel;
use crate::store::links::LinkState;
use crate::store::{Result, Tx};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// What `mapping preview` shows about a person.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Preview {
    /// The person's link, if there is one.
    pub link: i64,
    /// Intercom's primary contact.
    pub intercom: String,
    /// Brevo's contact.
    pub brevo: Option<i64>,
    /// Brevo's contact was deleted there: nothing is written, and none is made again.
    pub brevo_gone: bool,
    /// Nobody of this address is there in Intercom any more: what became of them, and what that means.
    pub left: Option<String>,
    /// One row a rule.
    pub fields: Vec<PreviewField>,
    /// Lists to join and to leave.
    pub lists: Vec<String>,
    /// What is said about e-mail consent.
    pub consent: String,
    /// Notices, by kind.
    pub notices: Vec<String>,
}

/// One rule of a preview.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PreviewField {
    /// The rule.
    pub rule: String,
    /// Intercom's value; null: none.
    pub intercom: Json,
    /// Brevo's values, by attribute; null: none.
    pub brevo: BTreeMap<String, Json>,
    /// What would be written to Brevo, by attribute; null: cleared.
    pub write: BTreeMap<String, Json>,
    /// What would be written to Intercom, by path; null: cleared.
    pub write_intercom: BTreeMap<String, Json>,
    /// Why, or why not.
    pub why: String,
}

fn json_of(value: Option<&Value>) -> Json {
    value.map_or(Json::Null, Value::to_json)
}

/// What a rule's attributes hold in Brevo.
fn shown_in_brevo(rule: &FieldRule, contact: Option<&BrevoContact>) -> BTreeMap<String, Json> {
    let Some(contact) = contact else { return BTreeMap::new() };
    let cells = rule.observed(&contact.attributes);
    rule.targets.iter().zip(&cells).map(|(target, cell)| (target.attribute.clone(), json_of(cell.as_ref()))).collect()
}

/// A link whose people are not there any more in Intercom: nothing is planned for it, and that is what is shown.
pub(super) fn show_left(tx: &Tx<'_>, id: i64, ready: &Ready) -> Result<Option<Preview>> {
    let Some(link) = tx.link(id)? else { return Ok(None) };
    let members = tx.members(id)?;
    let fate = |row: &IntercomRow| {
        let fate = match row.state {
            ContactState::Live => "is there",
            ContactState::Archived => "was archived",
            ContactState::Missing => "was not found, and it is being looked for",
            // Intercom shows neither of them, and not always says which it was.
            ContactState::Deleted => "was deleted or archived",
            ContactState::Merged => "was merged into another contact",
        };
        format!("Intercom contact {} {fate}.", row.contact.id)
    };
    let mut left: Vec<String> = members.iter().map(fate).collect();
    if left.is_empty() {
        left.push("No Intercom contact has this address any more.".to_owned());
    }
    left.push(match link.brevo_id {
        Some(brevo) if tx.parting(link.id, SideName::Brevo)?.is_some() => {
            format!("What `contacts.on_delete` says is about to be done with Brevo contact {brevo}.")
        }
        Some(brevo) => format!("Brevo contact {brevo} is left alone: nothing is written, and it is not deleted."),
        None => "There is no Brevo contact of theirs, and none is made.".to_owned(),
    });
    let brevo = link.brevo_id.map(|brevo| tx.brevo_contact(brevo)).transpose()?.flatten();
    let fields = ready.mapping.rules.iter().map(|rule| PreviewField {
        rule: rule.key.clone(),
        intercom: Json::Null,
        brevo: shown_in_brevo(rule, brevo.as_ref()),
        write: BTreeMap::new(),
        write_intercom: BTreeMap::new(),
        why: "nothing is written: nobody of this address is left in Intercom".to_owned(),
    });
    let out = members.iter().any(|row| row.contact.consent.email_opted_out());
    Ok(Some(Preview {
        link: id,
        intercom: members.first().map_or_else(|| "–".to_owned(), |row| row.contact.id.to_string()),
        brevo: link.brevo_id.map(BrevoContactId::get),
        brevo_gone: link.brevo_id.is_some() && brevo.is_none(),
        left: Some(left.join(" ")),
        fields: fields.collect(),
        lists: Vec::new(),
        consent: if out { "had opted out in Intercom" } else { "no opt-out in Intercom when last seen" }.to_owned(),
        notices: Vec::new(),
    }))
}

impl Person {
    /// The opt-outs that notices carried, in words.
    fn told(&self, tx: &Tx<'_>) -> Result<String> {
        let text = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut words = Vec::new();
        for member in tx.members(self.link.id)? {
            for fact in tx.opt_outs(&member.contact.id)? {
                let of = if fact.channel == Channel::Sms { "SMS" } else { "e-mail" };
                words.push(format!("; {} told of an opt-out of {of} at {}", fact.source, text(fact.at)));
                if let Some(over) = fact.over_at {
                    words.push(format!(", and Intercom's record of {} shows it taken back", text(over)));
                }
            }
        }
        Ok(words.concat())
    }

    /// For `mapping preview`.
    pub(super) fn preview(&self, tx: &Tx<'_>, ready: &Ready) -> Result<Preview> {
        let gone = self.link.state == LinkState::BrevoGone;
        let mut plan = self.dry_plan(ready);
        if gone {
            // Without a Brevo contact the plan is to make one: that is just what does not happen here.
            plan.change = ContactChange::default();
            plan.intercom.clear();
            plan.tags.clear();
        }
        let fields = ready
            .mapping
            .rules
            .iter()
            .map(|rule| {
                let write = rule
                    .targets
                    .iter()
                    .filter_map(|target| {
                        let value = plan.change.attributes.get(&target.attribute)?;
                        Some((target.attribute.clone(), json_of(value.as_ref())))
                    })
                    .collect();
                let back = plan.intercom.get(&rule.source);
                let write_intercom =
                    back.map(|value| (rule.source.clone(), json_of(value.as_ref()))).into_iter().collect();
                let why = match (plan.problems.get(&rule.key), plan.causes.get(&rule.key)) {
                    _ if gone => "nothing is written: the Brevo contact is gone".to_owned(),
                    (Some(problem), _) => problem.message.clone(),
                    (None, Some(cause)) => (*cause).to_owned(),
                    (None, None) => "in step".to_owned(),
                };
                PreviewField {
                    rule: rule.key.clone(),
                    intercom: json_of(rule.source_value(&self.record).as_ref()),
                    brevo: shown_in_brevo(rule, self.brevo.as_ref()),
                    write,
                    write_intercom,
                    why,
                }
            })
            .collect();
        let names = tx.lists()?;
        let lists = (plan.change.join_lists.iter().map(|list| format!("join {}", ready.list_in_words(*list, &names))))
            .chain(plan.change.leave_lists.iter().map(|list| format!("leave {}", ready.list_in_words(*list, &names))))
            .chain(plan.tags.iter().map(|(tag, give)| {
                if *give {
                    format!("give the tag {tag} in Intercom")
                } else {
                    format!("take the tag {tag} away in Intercom")
                }
            }))
            .collect();
        let consent = match (self.consent.email_opted_out(), plan.change.email_opted_out) {
            (true, _) if gone => "opted out in Intercom".to_owned(),
            (_, true) if plan.opt_outs_in_intercom() > 0 => "opt-out is written, to Intercom too".to_owned(),
            (_, true) => "opt-out is written".to_owned(),
            (_, false) if plan.opt_outs_in_intercom() > 0 => {
                "opted out in Brevo: that is written to Intercom".to_owned()
            }
            (true, false) => "opted out on both sides".to_owned(),
            (false, false) => "no opt-out in Intercom".to_owned(),
        };
        let consent = consent + &self.told(tx)?;
        let notices = if gone {
            vec!["brevo_contact_gone".to_owned()]
        } else {
            let kinds: BTreeSet<&str> = plan.notices.iter().map(Notice::kind).collect();
            kinds.into_iter().map(str::to_owned).collect()
        };
        Ok(Preview {
            link: self.link.id,
            intercom: self.primary.to_string(),
            brevo: self.link.brevo_id.map(BrevoContactId::get),
            brevo_gone: gone,
            left: None,
            fields,
            lists,
            consent,
            notices,
        })
    }
}
