//! What every account has to hold, sandboxed or real. Nothing here writes.

use chrono::{TimeDelta, Utc};
use linkspan::model::{
    AuthProblem, BrevoContactId, ContactKey, Cursor, Email, ErrorKind, Fetched, Gone, IntercomContactId, Observation,
    Priority, ReadRequest, Resource, Scope, Side, SideName,
};
use std::collections::BTreeMap;

/// A sweep that came to its end (or to `most_pages`).
#[derive(Debug, Default)]
pub struct Swept {
    /// What was seen, by id.
    pub seen: BTreeMap<String, Observation>,
    /// How many records each page had.
    pub pages: Vec<usize>,
    /// Whether the sweep came to its end.
    pub ended: bool,
}

/// The most records that a page of this resource has.
fn page_size(side: SideName, resource: Resource) -> usize {
    match (side, resource) {
        (SideName::Intercom, Resource::Contacts | Resource::Conversations) => 150,
        // A page of the list has 60, of the scroll 100.
        (SideName::Intercom, Resource::Companies) => 100,
        (SideName::Intercom, _) => usize::MAX,
        (SideName::Brevo, Resource::Lists) => 50,
        (SideName::Brevo, _) => 1000,
    }
}

pub fn id(observation: &Observation) -> String {
    match observation {
        Observation::IntercomContact(contact) => contact.id.to_string(),
        Observation::Company(company) => company.id.to_string(),
        Observation::Conversation(conversation) => conversation.id.to_string(),
        Observation::Tag(tag) => tag.id.to_string(),
        Observation::BrevoContact(contact) => contact.id.to_string(),
        Observation::BrevoList { id, .. } => id.to_string(),
        other => panic!("a page shows what is there, not {other:?}"),
    }
}

/// Reads page after page. No page may be larger than the vendor allows, no cursor may come twice, no record twice in an
/// order in which none moves, and at the end there are as many as the vendor said.
pub async fn sweep(side: &dyn Side, resource: Resource, scope: Scope, most_pages: usize) -> Swept {
    let timezone = side.account().await.unwrap().timezone.and_then(|name| name.parse().ok()).unwrap_or(chrono_tz::UTC);
    let mut swept = Swept::default();
    let (mut cursor, mut cursors, mut total) = (None::<Cursor>, std::collections::BTreeSet::new(), None);
    let mut repeated = 0;
    while swept.pages.len() < most_pages {
        let request = ReadRequest { resource, scope, cursor, timezone, priority: Priority::Live };
        let page = side.read(&request).await.unwrap();
        assert!(page.server_time.is_some(), "watermarks are made of the vendor's clock");
        assert!(page.observations.len() <= page_size(side.name(), resource));
        swept.pages.push(page.observations.len());
        total = page.total.or(total);
        for observation in page.observations {
            repeated += usize::from(swept.seen.insert(id(&observation), observation).is_some());
        }
        cursor = page.next;
        let Some(next) = &cursor else {
            swept.ended = true;
            break;
        };
        assert!(cursors.insert(next.clone()), "a cursor that comes twice leads round in circles");
    }
    if scope == Scope::Full {
        assert_eq!(repeated, 0, "{resource:?}: full sweeps go by an order in which nothing moves");
        if let (true, Some(total)) = (swept.ended, total) {
            assert!(swept.seen.len() as u64 >= total, "{resource:?}: {} of {total} records came", swept.seen.len());
        }
    }
    swept
}

/// The account has a name for ever, a zone that we know, and a clock near ours.
pub async fn the_account_is_named(side: &dyn Side, clock: &dyn linkspan::doors::Clock) {
    let account = side.account().await.unwrap();
    assert!(!account.id.is_empty());
    let timezone = account.timezone.expect("both vendors name the account's zone");
    assert!(timezone.parse::<chrono_tz::Tz>().is_ok(), "{timezone}");
    let skew = account.server_time.expect("answers have a date") - clock.now();
    assert!(skew.abs() < TimeDelta::minutes(5), "the vendor's clock and ours are {skew} apart");
}

/// Attributes have one name each, and their options belong to them.
pub async fn attributes_are_read(side: &dyn Side) -> usize {
    let attributes = side.attributes().await.unwrap();
    assert!(!attributes.is_empty());
    let names: std::collections::BTreeSet<&str> = attributes.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names.len(), attributes.len(), "one name twice");
    attributes.len()
}

/// A sweep since an instant shows what the full sweep shows, and nothing from before.
pub async fn an_increment_is_a_part_of_the_whole(side: &dyn Side, full: &Swept, resource: Resource) {
    let mut times: Vec<chrono::DateTime<Utc>> = full.seen.values().map(changed_at).collect();
    times.sort_unstable();
    let Some(since) = times.get(times.len() * 9 / 10).copied() else { return };
    let expected = full.seen.values().filter(|observation| changed_at(observation) >= since).count();
    let swept = sweep(side, resource, Scope::Since(since), 100).await;
    assert!(swept.ended && swept.seen.len() >= expected, "{} of {expected} came", swept.seen.len());
    assert!(swept.seen.values().all(|observation| changed_at(observation) >= since));
}

fn changed_at(observation: &Observation) -> chrono::DateTime<Utc> {
    // To the second, which is how exactly Intercom can be asked.
    let at = match observation {
        Observation::IntercomContact(contact) => contact.updated_at,
        Observation::Conversation(conversation) => conversation.updated_at,
        Observation::BrevoContact(contact) => contact.modified_at,
        other => panic!("{other:?} has no time of change"),
    };
    chrono::DateTime::from_timestamp(at.timestamp(), 0).unwrap()
}

/// What a page shows of somebody is what a read by id shows.
pub async fn a_page_and_a_read_by_id_agree(side: &dyn Side, full: &Swept) {
    let Some(paged) = full.seen.values().next() else { return };
    let keys = match paged {
        Observation::IntercomContact(contact) => vec![ContactKey::Intercom(contact.id.clone())],
        Observation::BrevoContact(contact) => {
            let mut keys = vec![ContactKey::Brevo(contact.id)];
            keys.extend(contact.email.clone().map(ContactKey::BrevoEmail));
            keys
        }
        other => panic!("{other:?} is no contact"),
    };
    for key in keys {
        let Fetched::Found(fetched, _) = side.fetch(&key, Priority::Live).await.unwrap() else { panic!("{key:?}") };
        assert_eq!(id(&fetched), id(paged));
        if changed_at(&fetched) == changed_at(paged) {
            assert_eq!(*fetched, *paged, "{key:?}");
        }
    }
}

/// Who is not there is an answer, not an error.
pub async fn a_stranger_is_not_there(side: &dyn Side) {
    let keys = match side.name() {
        SideName::Intercom => vec![ContactKey::Intercom(IntercomContactId::new("000000000000000000000000"))],
        SideName::Brevo => vec![
            ContactKey::Brevo(BrevoContactId::new(4_000_000_000_000)),
            ContactKey::BrevoEmail(Email::parse("linkspan-smoke-nobody@example.com").unwrap()),
            ContactKey::BrevoExtId("linkspan-smoke-nobody".to_owned()),
        ],
    };
    for key in keys {
        assert_eq!(side.fetch(&key, Priority::Live).await.unwrap(), Fetched::Gone(Gone::Deleted), "{key:?}");
    }
}

/// Every answer's headers say what is left, and it was heard.
pub fn the_budget_is_learned(side: &dyn Side) {
    let budgets = side.budgets();
    assert!(!budgets.is_empty(), "no answer said what is left");
    for budget in budgets {
        assert!(budget.limit > 0 && budget.remaining <= budget.limit, "{budget:?}");
    }
}

/// A wrong credential is told apart from everything else. `stranger` is a client with one.
pub async fn a_wrong_key_is_not_let_in(stranger: &dyn Side) {
    let error = stranger.account().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth(AuthProblem::BadCredentials), "{error}");
    assert_eq!(error.attempts, 1, "asking again does not help");
}

/// All of it, for one vendor. Returns how many contacts were read.
pub async fn everything(side: &dyn Side, stranger: &dyn Side, clock: &dyn linkspan::doors::Clock) -> usize {
    // Large accounts are read in part: this is a smoke test.
    const MOST_PAGES: usize = 20;
    a_wrong_key_is_not_let_in(stranger).await;
    the_account_is_named(side, clock).await;
    attributes_are_read(side).await;
    let contacts = sweep(side, Resource::Contacts, Scope::Full, MOST_PAGES).await;
    a_page_and_a_read_by_id_agree(side, &contacts).await;
    a_stranger_is_not_there(side).await;
    if contacts.ended {
        an_increment_is_a_part_of_the_whole(side, &contacts, Resource::Contacts).await;
    }
    let others: &[Resource] = match side.name() {
        SideName::Intercom => &[Resource::Tags, Resource::Companies, Resource::Conversations],
        SideName::Brevo => &[Resource::Lists],
    };
    for resource in others {
        sweep(side, *resource, Scope::Full, MOST_PAGES).await;
    }
    the_budget_is_learned(side);
    contacts.seen.len()
}
