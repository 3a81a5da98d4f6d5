//! What notifications are about. There is no topic for a conversation's update as such, for a removed conversation tag,
//! or for a renamed tag or attribute: those are found by the sweeps.

macro_rules! topics {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $(| $alias:literal)*;)*) => {
        /// What a notification is about.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Topic {
            $($(#[$doc])* $variant,)*
            /// Any other: kept, counted, and nothing follows from it.
            Unknown(String),
        }

        impl Topic {
            /// Every known topic.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A topic by its name or by one of the names under which older set-ups know it.
            pub fn parse(name: &str) -> Self {
                match name {
                    $($name $(| $alias)* => Self::$variant,)*
                    other => Self::Unknown(other.to_owned()),
                }
            }

            /// Intercom's name for it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown(name) => name,
                }
            }
        }
    };
}

topics! {
    /// "Are you there?", on request and now and then.
    Ping = "ping";
    /// A user was made.
    ContactUserCreated = "contact.user.created" | "contact.created" | "user.created";
    /// A user changed.
    ContactUserUpdated = "contact.user.updated" | "contact.updated" | "user.updated";
    /// A lead was made.
    ContactLeadCreated = "contact.lead.created";
    /// A lead changed.
    ContactLeadUpdated = "contact.lead.updated";
    /// A lead gave an address.
    ContactLeadAddedEmail = "contact.lead.added_email";
    /// A lead became a user.
    ContactLeadSignedUp = "contact.lead.signed_up";
    /// An address changed.
    ContactEmailUpdated = "contact.email.updated" | "user.email.updated";
    /// A contact was archived.
    ContactArchived = "contact.archived";
    /// A contact came back from the archive.
    ContactUnarchived = "contact.unarchive" | "contact.unarchived";
    /// A contact was deleted.
    ContactDeleted = "contact.deleted" | "user.deleted";
    /// Two contacts became one.
    ContactMerged = "contact.merged";
    /// A contact subscribed.
    ContactSubscribed = "contact.subscribed";
    /// A contact unsubscribed, from one type or from everything.
    ContactUnsubscribed = "contact.unsubscribed" | "user.unsubscribed";
    /// A contact unsubscribed from SMS.
    ContactUnsubscribedFromSms = "contact.unsubscribed_from_sms";
    /// A contact subscribed to a type.
    GranularSubscribe = "granular.subscribe";
    /// A contact unsubscribed from a type.
    GranularUnsubscribe = "granular.unsubscribe";
    /// A user was tagged.
    ContactUserTagCreated = "contact.user.tag.created" | "contact.tag.created" | "user.tag.created";
    /// A user lost a tag.
    ContactUserTagDeleted = "contact.user.tag.deleted" | "contact.tag.deleted" | "user.tag.deleted";
    /// A lead was tagged.
    ContactLeadTagCreated = "contact.lead.tag.created";
    /// A lead lost a tag.
    ContactLeadTagDeleted = "contact.lead.tag.deleted";
    /// A visitor became a user.
    VisitorSignedUp = "visitor.signed_up";
    /// A company was made.
    CompanyCreated = "company.created";
    /// A company changed.
    CompanyUpdated = "company.updated";
    /// A company was deleted.
    CompanyDeleted = "company.deleted";
    /// A contact joined a company.
    CompanyContactAttached = "company.contact.attached";
    /// A contact left a company.
    CompanyContactDetached = "company.contact.detached";
    /// A contact began a conversation.
    ConversationUserCreated = "conversation.user.created" | "conversation.created";
    /// A contact replied.
    ConversationUserReplied = "conversation.user.replied" | "conversation.replied";
    /// A teammate began a conversation.
    ConversationAdminSingleCreated = "conversation.admin.single.created";
    /// A teammate replied.
    ConversationAdminReplied = "conversation.admin.replied";
    /// A teammate left a note.
    ConversationAdminNoted = "conversation.admin.noted";
    /// It was assigned.
    ConversationAdminAssigned = "conversation.admin.assigned";
    /// It was opened and assigned.
    ConversationAdminOpenAssigned = "conversation.admin.open.assigned";
    /// It was opened again.
    ConversationAdminOpened = "conversation.admin.opened" | "conversation.opened";
    /// It was closed.
    ConversationAdminClosed = "conversation.admin.closed" | "conversation.closed";
    /// It was put off.
    ConversationAdminSnoozed = "conversation.admin.snoozed" | "conversation.snoozed";
    /// It is due again.
    ConversationAdminUnsnoozed = "conversation.admin.unsnoozed" | "conversation.unsnoozed";
    /// A bot replied.
    ConversationOperatorReplied = "conversation.operator.replied";
    /// Its priority changed.
    ConversationPriorityUpdated = "conversation.priority.updated";
    /// The contact rated it.
    ConversationRatingAdded = "conversation.rating.added" | "conversation.rated";
    /// It was read.
    ConversationRead = "conversation.read";
    /// Another contact joined.
    ConversationContactAttached = "conversation.contact.attached";
    /// A contact left.
    ConversationContactDetached = "conversation.contact.detached";
    /// It was deleted.
    ConversationDeleted = "conversation.deleted";
    /// Its company changed.
    ConversationCompanyUpdated = "conversation.company.updated";
    /// A translated reply of a teammate.
    ConversationAdminRepliedTranslated = "conversation.admin.replied.translated";
    /// A part of it was blacked out.
    ConversationPartRedacted = "conversation_part.redacted";
    /// A part of it was tagged.
    ConversationPartTagCreated = "conversation_part.tag.created";
}
