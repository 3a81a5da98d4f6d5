//! Notifications: is one Intercom's, what is it about, and what follows from it.
//!
//! Pure: no server, no clock. A notification is a hint that arrives twice, late, out of order or never; so what it shows
//! is an observation with its own time, and wherever the payload cannot settle a matter (deletion, merging, consent,
//! tags, a record shown in part) the record is to be read instead.

mod topic;

pub use topic::Topic;

use super::wire;
use crate::http::lean::Tree;
use crate::model::{
    ConversationId, ConversationState, Gone, IntercomCompanyId, IntercomContactId, IntercomWorkspaceId, Observation,
    Tag,
};
use chrono::{DateTime, Utc};
use hmac::{KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;

/// The longest body that is parsed. A conversation with its parts is far below.
pub const LONGEST_BODY: usize = 8 * 1024 * 1024;

/// Whether `header` (`X-Hub-Signature: sha1=…`) signs `body`: HMAC-SHA1 over the raw bytes with the app's client secret,
/// compared in constant time.
pub fn verify(secret: &SecretString, body: &[u8], header: &str) -> bool {
    let Some(signature) = header.trim().strip_prefix("sha1=").and_then(unhex) else { return false };
    // An empty secret would let anybody sign.
    if secret.expose_secret().is_empty() {
        return false;
    }
    let Ok(mut mac) = hmac::Hmac::<sha1::Sha1>::new_from_slice(secret.expose_secret().as_bytes()) else { return false };
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

fn unhex(text: &str) -> Option<[u8; 20]> {
    let text = text.as_bytes();
    let mut bytes = [0; 20];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?;
    }
    Some(bytes)
}

/// Why a body is no notification. The body is not repeated: it is personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Longer than anything that Intercom sends.
    #[error("longer than {LONGEST_BODY} bytes")]
    TooLong,
    /// Not JSON, cut, or nested deeper than any payload.
    #[error("not JSON (line {line}, column {column})")]
    NotJson {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("not an object")]
    NotAnObject,
    /// No topic says what it is about.
    #[error("without a topic")]
    NoTopic,
    /// The topic is longer than any name.
    #[error("with a topic that is no name")]
    BadTopic,
}

/// A notification.
#[derive(Clone, PartialEq)]
pub struct Notification {
    /// Names this notification; a repeat carries the same. A ping has none.
    pub id: Option<String>,
    /// The workspace it is about: the app behind the URL may be installed in several.
    pub app_id: Option<IntercomWorkspaceId>,
    /// What it is about.
    pub topic: Topic,
    /// When it happened.
    pub created_at: Option<DateTime<Utc>>,
    item: Map<String, Json>,
}

/// Without the item, which is personal data.
impl std::fmt::Debug for Notification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notification")
            .field("id", &self.id)
            .field("app_id", &self.app_id)
            .field("topic", &self.topic)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

/// A record to read, because the payload does not settle the matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToFetch {
    /// A contact.
    Contact(IntercomContactId),
    /// A company.
    Company(IntercomCompanyId),
    /// A conversation.
    Conversation(ConversationId),
}

/// Something that happened to a conversation, with what a poll shows of the same happening: that is its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// It began.
    Created {
        /// `created_at`.
        at: Option<DateTime<Utc>>,
    },
    /// It was closed.
    Closed {
        /// `statistics.last_close_at`, in whole seconds; `None` where the payload shows no statistics.
        at: Option<DateTime<Utc>>,
    },
    /// It was put off.
    Snoozed {
        /// `snoozed_until`.
        until: Option<DateTime<Utc>>,
    },
    /// It was rated.
    Rated {
        /// 1 to 5; `None` where the payload does not show it.
        score: Option<u8>,
        /// The contact's words.
        remark: Option<String>,
    },
}

/// An opt-out that a notification carries. It is a fact with a time, whatever a later read shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptOut {
    /// From all e-mails.
    Email,
    /// From SMS.
    Sms,
}

/// What follows from a notification.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The payload shows a whole record as it was at its record time.
    Observed {
        /// The record.
        observation: Observation,
        /// Its record time (`updated_at`): state that is not newer than what is known is not applied.
        at: DateTime<Utc>,
    },
    /// The payload says that a record is no longer there. A [`Effect::NeedsFetch`] comes with it, and that read decides:
    /// notifications come out of order, and the record may be back.
    Gone(Observation),
    /// This record is to be read.
    NeedsFetch(ToFetch),
    /// A person opted out.
    OptedOut {
        /// Who.
        contact: IntercomContactId,
        /// Of what.
        from: OptOut,
        /// When.
        at: Option<DateTime<Utc>>,
    },
    /// Something happened to a conversation. It counts even if the payload's state is old.
    Transition {
        /// Which.
        conversation: ConversationId,
        /// Whose.
        contacts: BTreeSet<IntercomContactId>,
        /// What.
        transition: Transition,
        /// When, by the notification.
        at: Option<DateTime<Utc>>,
    },
}

impl Notification {
    /// Parses a body. Nesting beyond what `serde_json` allows (128 levels) is refused, as is a body beyond
    /// [`LONGEST_BODY`].
    ///
    /// # Errors
    /// Says why `body` is no notification, without repeating any of it.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        const LONGEST_NAME: usize = 200;
        if body.len() > LONGEST_BODY {
            return Err(ParseError::TooLong);
        }
        let json: Json = serde_json::from_slice(body)
            .map_err(|error| ParseError::NotJson { line: error.line(), column: error.column() })?;
        let Json::Object(mut envelope) = json else { return Err(ParseError::NotAnObject) };
        let topic = match envelope.remove("topic") {
            Some(Json::String(topic)) if topic.trim().is_empty() => return Err(ParseError::NoTopic),
            Some(Json::String(topic)) if topic.len() > LONGEST_NAME => return Err(ParseError::BadTopic),
            Some(Json::String(topic)) => Topic::parse(topic.trim()),
            None | Some(Json::Null) => return Err(ParseError::NoTopic),
            Some(_) => return Err(ParseError::BadTopic),
        };
        let short = |json: &Json| text(json).filter(|text| text.len() <= LONGEST_NAME);
        let item = match envelope.remove("data") {
            Some(Json::Object(mut data)) => match data.remove("item") {
                Some(Json::Object(item)) => item,
                _ => Map::new(),
            },
            _ => Map::new(),
        };
        Ok(Self {
            id: envelope.get("id").and_then(short),
            app_id: envelope.get("app_id").and_then(short).map(IntercomWorkspaceId::new),
            created_at: envelope.get("created_at").and_then(instant),
            topic,
            item,
        })
    }

    /// What follows from it, in the order in which it is to be applied.
    pub fn effects(&self) -> Vec<Effect> {
        use Topic as T;
        match &self.topic {
            // Bodies are not kept, so a redaction changes nothing here.
            T::Ping | T::Unknown(_) | T::ConversationPartRedacted => Vec::new(),
            T::ContactUserCreated
            | T::ContactUserUpdated
            | T::ContactLeadCreated
            | T::ContactLeadUpdated
            | T::ContactLeadAddedEmail
            | T::ContactLeadSignedUp
            | T::ContactEmailUpdated
            | T::VisitorSignedUp => contact(&self.contact()),
            T::ContactArchived => self.contact_gone(&Gone::Archived),
            T::ContactDeleted => self.contact_gone(&Gone::Deleted),
            T::ContactUnarchived
            | T::ContactSubscribed
            | T::GranularSubscribe
            | T::GranularUnsubscribe
            | T::ContactUserTagCreated
            | T::ContactUserTagDeleted
            | T::ContactLeadTagCreated
            | T::ContactLeadTagDeleted => fetch_contact(&self.contact()),
            T::ContactMerged => self.merged(),
            T::ContactUnsubscribed => self.unsubscribed(),
            T::ContactUnsubscribedFromSms => self.opted_out(OptOut::Sms),
            T::CompanyCreated | T::CompanyUpdated => company(self.company()),
            T::CompanyDeleted => self.company_gone(),
            T::CompanyContactAttached | T::CompanyContactDetached => {
                // The contact's set of companies changed; of the company, the payload shows a shape of its own.
                let mut effects = fetch_contact(&self.contact());
                effects.extend(
                    id(self.company()).map(|id| Effect::NeedsFetch(ToFetch::Company(IntercomCompanyId::new(id)))),
                );
                effects
            }
            T::ConversationDeleted => self.conversation_gone(),
            T::ConversationPartTagCreated | T::ConversationContactAttached | T::ConversationContactDetached => {
                self.conversation_id().map(|id| Effect::NeedsFetch(ToFetch::Conversation(id))).into_iter().collect()
            }
            T::ConversationUserCreated
            | T::ConversationUserReplied
            | T::ConversationAdminSingleCreated
            | T::ConversationAdminReplied
            | T::ConversationAdminNoted
            | T::ConversationAdminAssigned
            | T::ConversationAdminOpenAssigned
            | T::ConversationAdminOpened
            | T::ConversationAdminClosed
            | T::ConversationAdminSnoozed
            | T::ConversationAdminUnsnoozed
            | T::ConversationOperatorReplied
            | T::ConversationPriorityUpdated
            | T::ConversationRatingAdded
            | T::ConversationRead
            | T::ConversationCompanyUpdated
            | T::ConversationAdminRepliedTranslated => self.conversation(),
        }
    }

    /// The tag that a tag topic names. It may be a new one, whose name no read has shown yet; a contact shows ids only.
    pub fn tag(&self) -> Option<Tag> {
        let tag = self.item.get("tag").filter(|tag| tag.get("name").is_some_and(Json::is_string))?;
        wire::tag(Tree::from(tag).root()).ok()
    }

    /// The contact of the item, which is the item itself or within it.
    fn contact(&self) -> Json {
        self.inner("contact")
    }

    fn company(&self) -> &Map<String, Json> {
        match self.item.get("company") {
            Some(Json::Object(company)) => company,
            _ => &self.item,
        }
    }

    fn inner(&self, key: &str) -> Json {
        match self.item.get(key) {
            Some(inner @ Json::Object(_)) => inner.clone(),
            _ => Json::Object(self.item.clone()),
        }
    }

    /// The time of the happening: the item's own, else the notification's.
    fn happened_at(&self) -> Option<DateTime<Utc>> {
        self.item.get("created_at").and_then(instant).or(self.created_at)
    }

    fn contact_gone(&self, how: &Gone) -> Vec<Effect> {
        let Some(id) = json_id(&self.contact()).map(IntercomContactId::new) else { return Vec::new() };
        vec![
            Effect::Gone(Observation::IntercomContactGone(id.clone(), how.clone())),
            Effect::NeedsFetch(ToFetch::Contact(id)),
        ]
    }

    fn company_gone(&self) -> Vec<Effect> {
        let Some(id) = id(self.company()).map(IntercomCompanyId::new) else { return Vec::new() };
        vec![Effect::Gone(Observation::CompanyGone(id.clone())), Effect::NeedsFetch(ToFetch::Company(id))]
    }

    fn conversation_gone(&self) -> Vec<Effect> {
        let Some(id) = self.conversation_id() else { return Vec::new() };
        vec![Effect::Gone(Observation::ConversationGone(id.clone())), Effect::NeedsFetch(ToFetch::Conversation(id))]
    }

    /// A merge's survivor and, where the payload names it, the one that went. Captures exist that do not name it.
    fn merged(&self) -> Vec<Effect> {
        let contact = self.contact();
        let mut effects = Vec::new();
        for lost in [self.item.get("merged_from"), contact.get("merged_from")].into_iter().flatten() {
            if let Some(lost) = json_id(lost).map(IntercomContactId::new) {
                let effect = Effect::NeedsFetch(ToFetch::Contact(lost));
                if !effects.contains(&effect) {
                    effects.push(effect);
                }
            }
        }
        effects.extend(fetch_contact(&contact));
        effects
    }

    /// With an empty list of types it is all e-mails; else it is about one type, and says nothing about the rest.
    fn unsubscribed(&self) -> Vec<Effect> {
        let types = match self.item.get("subscription_types") {
            Some(Json::Object(list)) => list.get("data").and_then(Json::as_array).map_or(0, Vec::len),
            Some(Json::Array(types)) => types.len(),
            _ => 0,
        };
        if types == 0 { self.opted_out(OptOut::Email) } else { fetch_contact(&self.contact()) }
    }

    fn opted_out(&self, from: OptOut) -> Vec<Effect> {
        let contact = self.contact();
        let mut effects = Vec::new();
        if let Some(id) = json_id(&contact).map(IntercomContactId::new) {
            // A bare contact's own `created_at` is the person's, not the opt-out's.
            let wrapped = self.item.get("contact").is_some_and(Json::is_object);
            let at = if wrapped { self.happened_at() } else { self.created_at };
            effects.push(Effect::OptedOut { contact: id, from, at });
        }
        effects.extend(fetch_contact(&contact));
        effects
    }

    /// A deleted conversation is named by `conversation_id`, not by `id`; a tagged part holds its conversation.
    fn conversation_id(&self) -> Option<ConversationId> {
        self.item
            .get("conversation_id")
            .and_then(text)
            .or_else(|| self.item.get("conversation").and_then(json_id))
            .or_else(|| id(&self.item))
            .map(ConversationId::new)
    }

    fn conversation(&self) -> Vec<Effect> {
        let json = self.inner("conversation");
        let Some(id) = json_id(&json).map(ConversationId::new) else { return Vec::new() };
        // What a payload leaves out must not be taken for blank.
        let whole = ["contacts", "updated_at", "source", "tags"].iter().all(|key| json.get(*key).is_some())
            && (json.get("state").is_some() || json.get("open").is_some());
        let rated = json.get("conversation_rating").filter(|rated| rated.is_object());
        let Ok(record) = wire::conversation(Tree::from(&json).root()) else { return Vec::new() };
        let transition = match self.topic {
            Topic::ConversationUserCreated | Topic::ConversationAdminSingleCreated => {
                // Without its own time the record was given the epoch.
                let at = Some(record.created_at).filter(|at| at.timestamp() != 0);
                Some(Transition::Created { at: at.or(self.created_at) })
            }
            Topic::ConversationAdminClosed => Some(Transition::Closed { at: record.last_close_at }),
            Topic::ConversationAdminSnoozed => Some(Transition::Snoozed { until: record.snoozed_until }),
            Topic::ConversationRatingAdded => {
                let rating = rated.and_then(|rated| wire::rating(Tree::from(rated).root()));
                Some(Transition::Rated {
                    score: rating.as_ref().map(|rating| rating.score),
                    remark: rating.and_then(|rating| rating.remark),
                })
            }
            _ => None,
        };
        let keyless = match &transition {
            Some(Transition::Closed { at }) => at.is_none() || record.state == ConversationState::Open,
            Some(Transition::Snoozed { until }) => until.is_none(),
            Some(Transition::Rated { score, .. }) => score.is_none() || rated.is_none(),
            _ => false,
        };
        let mut effects = Vec::new();
        if let Some(transition) = transition {
            let (conversation, contacts) = (id.clone(), record.contacts.clone());
            effects.push(Effect::Transition { conversation, contacts, transition, at: self.created_at });
        }
        if whole {
            effects.push(Effect::Observed {
                at: record.updated_at,
                observation: Observation::Conversation(Box::new(record)),
            });
        }
        if !whole || keyless {
            effects.push(Effect::NeedsFetch(ToFetch::Conversation(id)));
        }
        effects
    }
}

fn text(json: &Json) -> Option<String> {
    wire::text(Tree::from(json).root())
}

fn instant(json: &Json) -> Option<DateTime<Utc>> {
    wire::instant(Tree::from(json).root())
}

fn id(object: &Map<String, Json>) -> Option<String> {
    object.get("id").and_then(text)
}

fn json_id(json: &Json) -> Option<String> {
    json.as_object().and_then(id)
}

fn fetch_contact(contact: &Json) -> Vec<Effect> {
    json_id(contact).map(|id| Effect::NeedsFetch(ToFetch::Contact(IntercomContactId::new(id)))).into_iter().collect()
}

/// A contact that the payload shows whole is observed; one that it shows in part is to be read, because what is left out
/// must not be taken for blank.
fn contact(json: &Json) -> Vec<Effect> {
    let whole = ["role", "email", "updated_at", "custom_attributes", "unsubscribed_from_emails"]
        .iter()
        .all(|key| json.get(*key).is_some());
    if !whole {
        return fetch_contact(json);
    }
    match wire::contact(Tree::from(json).root()) {
        Ok(record) => vec![Effect::Observed {
            at: record.updated_at,
            observation: Observation::IntercomContact(Box::new(record)),
        }],
        Err(_) => Vec::new(),
    }
}

/// A company's payload may say `plan: null` where REST shows a plan, so it is believed only where it shows one.
fn company(company: &Map<String, Json>) -> Vec<Effect> {
    let Some(id) = id(company).map(IntercomCompanyId::new) else { return Vec::new() };
    let plan = company.get("plan").and_then(Json::as_object).is_some_and(|plan| plan.contains_key("name"));
    let whole = plan && ["name", "updated_at", "custom_attributes"].iter().all(|key| company.get(*key).is_some());
    match wire::company(Tree::from(&Json::Object(company.clone())).root()) {
        Ok(record) if whole => match record.updated_at {
            Some(at) => vec![Effect::Observed { at, observation: Observation::Company(Box::new(record)) }],
            None => vec![Effect::NeedsFetch(ToFetch::Company(id))],
        },
        _ => vec![Effect::NeedsFetch(ToFetch::Company(id))],
    }
}

#[cfg(test)]
mod tests;
