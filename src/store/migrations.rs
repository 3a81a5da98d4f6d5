//! The schema, as a list of steps that only ever grows.

use super::{Result, StoreError};
use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

const STEPS: &[M<'_>] = &[M::up(
    "
    -- What packed records hold numbers for.
    CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL);

    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    -- Intercom's view of contacts. `record` is the model's contact, packed.
    CREATE TABLE intercom_contacts (
        id TEXT NOT NULL UNIQUE,
        email TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'live',        -- live, archived, missing, deleted, merged
        merged_into TEXT,
        said_gone TEXT,                            -- what a notice said: archived, deleted
        was_named TEXT,                            -- not live: the external id that it had
        gone_check_at INTEGER,                     -- missing: when it is looked for under its other identifiers
        record BLOB NOT NULL,
        link INTEGER REFERENCES links(id),
        is_primary INTEGER NOT NULL DEFAULT 0,
        company TEXT,                              -- the company whose fields it shows
        wants_tags INTEGER NOT NULL DEFAULT 0,     -- embedded only in part: to be fetched
        wants_companies INTEGER NOT NULL DEFAULT 0,
        wants_fetch INTEGER NOT NULL DEFAULT 0,    -- how often webhooks named it: one coalesced read decides
        seen_in INTEGER NOT NULL DEFAULT 0,        -- the full sweep that showed it last
        unplaced INTEGER NOT NULL DEFAULT 0        -- identity is to be decided, as urgently as `links.dirty` says
    );
    CREATE INDEX intercom_contacts_email ON intercom_contacts(email) WHERE email IS NOT NULL;
    CREATE INDEX intercom_contacts_merged ON intercom_contacts(merged_into) WHERE merged_into IS NOT NULL;
    CREATE INDEX intercom_contacts_missing ON intercom_contacts(gone_check_at) WHERE state = 'missing';
    CREATE INDEX intercom_contacts_was_named ON intercom_contacts(was_named) WHERE was_named IS NOT NULL;
    CREATE INDEX intercom_contacts_link ON intercom_contacts(link) WHERE link IS NOT NULL;
    CREATE INDEX intercom_contacts_unplaced ON intercom_contacts(created_at, id) WHERE unplaced > 0;
    CREATE INDEX intercom_contacts_wants ON intercom_contacts(id) WHERE wants_tags + wants_companies + wants_fetch > 0;

    -- Brevo's view of contacts.
    CREATE TABLE brevo_contacts (
        id INTEGER PRIMARY KEY,
        email TEXT,
        ext_id TEXT,
        phone TEXT,
        modified_at INTEGER NOT NULL,              -- 0: never seen, made by us and not read back yet
        gone INTEGER NOT NULL DEFAULT 0,
        seen_in INTEGER NOT NULL DEFAULT 0,        -- the full sweep that showed it last
        record BLOB NOT NULL
    );
    CREATE INDEX brevo_contacts_email ON brevo_contacts(email) WHERE email IS NOT NULL;
    CREATE INDEX brevo_contacts_ext_id ON brevo_contacts(ext_id) WHERE ext_id IS NOT NULL;
    CREATE INDEX brevo_contacts_phone ON brevo_contacts(phone) WHERE phone IS NOT NULL;

    -- Contacts to be asked for by id: a full read did not show them, or their row cannot be read.
    CREATE TABLE to_confirm (side TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (side, id)) WITHOUT ROWID;

    -- One person: one address, its Intercom contacts, at most one Brevo contact, and what both agreed on.
    CREATE TABLE links (
        id INTEGER PRIMARY KEY,
        email TEXT,
        brevo_id INTEGER UNIQUE,
        state TEXT NOT NULL DEFAULT 'active',      -- active, brevo_gone, left
        base BLOB NOT NULL DEFAULT x'',            -- empty: nothing has been agreed on yet
        pending_base BLOB,                         -- base once the import that holds it has landed
        flights BLOB,                              -- our writes on their way; NULL: none
        answered INTEGER NOT NULL DEFAULT 0,
        verify_after INTEGER,                      -- our clock, ms: only a read that began later settles the flights
        import INTEGER,                            -- the unfinished import that holds this person
        import_dirty INTEGER,                      -- how urgent planning was before (four more: as in a sweep)
        dirty INTEGER NOT NULL DEFAULT 0,          -- 0 no, 1 backfill, 2 live, 3 consent
        marks INTEGER NOT NULL DEFAULT 0,          -- how often something about the person has changed: an answer to an
                                                   -- older plan does not clear a newer mark
        sweep INTEGER NOT NULL DEFAULT 0,          -- to be planned as in a sweep: drift is restored
        rename_to TEXT,                            -- identity has decided that the contact takes this address
        rename_held TEXT,                          -- the same, while somebody else has the address in Brevo
        tries INTEGER NOT NULL DEFAULT 0,
        not_before INTEGER NOT NULL DEFAULT 0,
        quarantined TEXT,                          -- rule key -> the value that Brevo refuses
        company TEXT
    );
    CREATE UNIQUE INDEX links_email ON links(email) WHERE email IS NOT NULL;
    CREATE INDEX links_dirty ON links(dirty, brevo_id IS NULL, id) WHERE dirty > 0;
    CREATE INDEX links_flights ON links(verify_after) WHERE flights IS NOT NULL AND import IS NULL;
    CREATE INDEX links_rename_held ON links(rename_held) WHERE rename_held IS NOT NULL;
    CREATE INDEX links_import ON links(import) WHERE import IS NOT NULL;

    -- Opt-outs that a notice carried, by the contact that it named: facts with a time, whatever a read shows that is older.
    CREATE TABLE optouts (
        contact TEXT NOT NULL,
        channel TEXT NOT NULL,                     -- email, sms
        at INTEGER NOT NULL,                       -- the vendor's clock, ms
        email TEXT,                                -- the address that the person had then
        source TEXT NOT NULL,                      -- which notice
        over_at INTEGER,                           -- record time of a later read that showed the person subscribed
        shown_at INTEGER,                          -- record time of the latest read that itself showed the opt-out
        PRIMARY KEY (contact, channel)
    ) WITHOUT ROWID;
    -- What somebody who is gone in Intercom had said no to there, as far as Brevo has not been told.
    CREATE TABLE last_nos (contact TEXT PRIMARY KEY, email INTEGER NOT NULL, sms INTEGER NOT NULL) WITHOUT ROWID;

    -- What became of the opt-out of a Brevo contact at each Intercom contact of its person.
    CREATE TABLE carried (
        contact TEXT PRIMARY KEY,
        link INTEGER NOT NULL,
        brevo INTEGER NOT NULL,
        told INTEGER NOT NULL,                     -- it reached the contact, is on its way, or is to be sent
        due INTEGER,                               -- when it is to be sent; NULL: it is not
        until INTEGER,                             -- our clock, ms: a write of ours may land until then
        landed INTEGER NOT NULL,                   -- that write was answered, or its effect seen
        verify INTEGER NOT NULL,                   -- a read that begins after `until` tells what stands there
        ours INTEGER NOT NULL,                     -- that the contact is opted out in Intercom is our doing
        tries INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX carried_link ON carried(link);
    CREATE INDEX carried_due ON carried(due) WHERE due IS NOT NULL;
    CREATE INDEX carried_verify ON carried(until) WHERE verify = 1;

    -- For whom something is to be written to Intercom, or is on its way there; and when records changed.
    CREATE TABLE write_backs (
        link INTEGER PRIMARY KEY,
        contact TEXT NOT NULL UNIQUE,              -- the primary when it was planned
        due INTEGER,                               -- when it is to be sent; NULL: it is not
        sweep INTEGER NOT NULL,                    -- what a full read has shown to be edited there is restored
        tries INTEGER NOT NULL,
        watched BLOB,                              -- our writes on their way, packed
        answered INTEGER NOT NULL,
        verify_after INTEGER                       -- only a read that begins later (our clock) settles them
    );
    CREATE INDEX write_backs_due ON write_backs(due) WHERE due IS NOT NULL;
    CREATE INDEX write_backs_watched ON write_backs(verify_after) WHERE watched IS NOT NULL;
    -- People who are gone on one side, and for whom something is therefore to be done on the other.
    CREATE TABLE partings (
        link INTEGER NOT NULL,
        side TEXT NOT NULL,                        -- which is written to
        since INTEGER NOT NULL,
        due INTEGER NOT NULL,
        held_as TEXT,                              -- held by the limits on harm, as this kind
        tries INTEGER NOT NULL,
        until INTEGER,                             -- a request has left, and may land until then (our clock)
        sent TEXT,                                 -- what that was to do
        counted TEXT,                              -- the requests that the limits on harm have counted for it, a line each
        PRIMARY KEY (link, side)
    ) WITHOUT ROWID;
    CREATE INDEX partings_due ON partings(due);
    -- Opt-ins that are to travel to the other side.
    CREATE TABLE opt_ins (
        link INTEGER NOT NULL,
        side TEXT NOT NULL,                        -- which would be written
        email TEXT,                                -- for which address, and which Brevo contact: of another it says nothing
        brevo INTEGER,
        after INTEGER NOT NULL,                    -- until then the opt-out was still seen; the vendor's clock, ms
        since INTEGER NOT NULL,
        due INTEGER NOT NULL,
        until INTEGER,                             -- a request has left, and may land until then (our clock)
        PRIMARY KEY (link, side)
    ) WITHOUT ROWID;
    -- Whom a filter leaves out in Brevo.
    CREATE TABLE apart (link INTEGER PRIMARY KEY, untold INTEGER NOT NULL);
    -- Intercom contacts that are to take the address that somebody gave their Brevo contact.
    CREATE TABLE readdresses (
        contact TEXT PRIMARY KEY,
        link INTEGER NOT NULL,
        email TEXT NOT NULL,                       -- the address that it shows
        new_email TEXT NOT NULL,
        due INTEGER NOT NULL,                      -- our clock, ms
        tries INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX readdresses_due ON readdresses(due);
    -- Brevo contacts that nobody in Intercom is linked to and that are to be made there.
    CREATE TABLE newcomers (
        brevo INTEGER PRIMARY KEY,
        stage TEXT NOT NULL,                       -- waiting, sent, unsure, made, listed, alone
        due INTEGER NOT NULL,                      -- our clock, ms; beyond all time: held, or left alone
        email TEXT,                                -- the address with which the request left
        opted_out INTEGER NOT NULL DEFAULT 0,      -- an opt-out rode along
        contact TEXT,                              -- what it made
        ext_id TEXT,                               -- the external id that it had then
        tries INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX newcomers_due ON newcomers(due);
    CREATE INDEX newcomers_waiting ON newcomers(due) WHERE stage = 'waiting';
    CREATE INDEX newcomers_email ON newcomers(email) WHERE email IS NOT NULL;
    CREATE TABLE spans (
        link INTEGER NOT NULL,
        side TEXT NOT NULL,
        after INTEGER,                             -- the last look without the change; the vendor's clock, ms
        until INTEGER NOT NULL,                    -- the latest that it can have been
        PRIMARY KEY (link, side)
    ) WITHOUT ROWID;
    CREATE INDEX spans_until ON spans(until);

    -- The same of Brevo. Its notices name an address, to which consent belongs, and never a contact.
    CREATE TABLE brevo_optouts (
        email TEXT PRIMARY KEY,
        contact INTEGER,                           -- the Brevo contact that had the address then
        reason TEXT NOT NULL,                      -- unsubscribed, hard_bounced, spam, blocklisted
        at INTEGER NOT NULL,                       -- the vendor's clock, ms
        source TEXT NOT NULL,                      -- which notice
        over_at INTEGER,                           -- record time of a later read that showed the person subscribed
        shown_at INTEGER                           -- record time of the latest read that itself showed the opt-out
    ) WITHOUT ROWID;
    CREATE INDEX brevo_optouts_contact ON brevo_optouts(contact) WHERE contact IS NOT NULL;

    -- What is left of people who were forgotten: keyed hashes of their addresses, and of their Intercom contacts' ids.
    CREATE TABLE tombstones (
        hash BLOB PRIMARY KEY,
        email_out INTEGER NOT NULL,                -- the strictest consent that was seen
        sms_out INTEGER NOT NULL,
        gone_in_brevo INTEGER NOT NULL,            -- not made there again for this Intercom contact
        at INTEGER NOT NULL
    ) WITHOUT ROWID;

    -- Whom Brevo's webhooks named: one coalesced read decides.
    CREATE TABLE brevo_hints (
        name TEXT PRIMARY KEY,                     -- an address, or # and a contact's id
        seq INTEGER NOT NULL,                      -- the last webhook that named them
        gone INTEGER NOT NULL DEFAULT 0,           -- one said that the contact was deleted
        named_at INTEGER NOT NULL                  -- our clock, ms
    ) WITHOUT ROWID;

    -- Brevo refuses a contact whose phone another one has: who has (or is about to get) which.
    CREATE TABLE phones (phone TEXT PRIMARY KEY, link INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX phones_link ON phones(link);

    CREATE TABLE companies (
        id TEXT PRIMARY KEY,
        updated_at INTEGER,
        gone INTEGER NOT NULL DEFAULT 0,
        wants_fetch INTEGER NOT NULL DEFAULT 0,
        record TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE contact_companies (
        contact TEXT NOT NULL,
        company TEXT NOT NULL,
        PRIMARY KEY (contact, company)
    ) WITHOUT ROWID;
    CREATE INDEX contact_companies_company ON contact_companies(company);

    -- Company objects: which of Intercom's is which of Brevo's, what is to be written and what is on its way.
    CREATE TABLE firms (
        id INTEGER PRIMARY KEY,
        intercom TEXT NOT NULL UNIQUE,
        brevo TEXT UNIQUE,
        gone TEXT,                                 -- the side whose company is gone: left alone
        due INTEGER,                               -- when it is to be looked at
        sweep INTEGER NOT NULL DEFAULT 0,
        tries INTEGER NOT NULL DEFAULT 0,
        base BLOB,
        watched BLOB,                              -- our writes on their way, packed
        unanswered TEXT,                           -- the side to which the last one went, until it is answered
        verify_after INTEGER,                      -- our clock, ms
        making INTEGER,                            -- until when a request that makes it in Brevo may land
        imported INTEGER NOT NULL DEFAULT 0,       -- in the import that is not over yet
        quarantined TEXT,
        ours_sent INTEGER NOT NULL DEFAULT 0       -- our own attribute was sent, and no read has shown it since
    );
    CREATE INDEX firms_due ON firms(due) WHERE due IS NOT NULL;
    -- The Brevo contacts that are linked with a company by our doing.
    CREATE TABLE firm_contacts (
        firm INTEGER NOT NULL,
        contact INTEGER NOT NULL,
        off_until INTEGER,                         -- taken off again; until then a late request may link it once more
        sends INTEGER NOT NULL DEFAULT 0,          -- how often it was sent and no read has shown it since
        sent_until INTEGER,                        -- until then a request that links it may land
        PRIMARY KEY (firm, contact)
    ) WITHOUT ROWID;
    -- Brevo's view of companies.
    CREATE TABLE brevo_companies (
        id TEXT PRIMARY KEY,
        intercom TEXT,                             -- which of Intercom's it says it is
        record TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX brevo_companies_intercom ON brevo_companies(intercom) WHERE intercom IS NOT NULL;

    CREATE TABLE contact_tags (
        contact TEXT NOT NULL,
        tag TEXT NOT NULL,
        PRIMARY KEY (contact, tag)
    ) WITHOUT ROWID;
    CREATE INDEX contact_tags_tag ON contact_tags(tag);

    CREATE TABLE conversations (
        id TEXT PRIMARY KEY,
        updated_at INTEGER NOT NULL,
        gone INTEGER NOT NULL DEFAULT 0,
        wants_fetch INTEGER NOT NULL DEFAULT 0,
        record TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX conversations_wants ON conversations(id) WHERE wants_fetch > 0;
    CREATE TABLE conversation_contacts (
        contact TEXT NOT NULL,
        conversation TEXT NOT NULL,
        PRIMARY KEY (contact, conversation)
    ) WITHOUT ROWID;
    CREATE INDEX conversation_contacts_conversation ON conversation_contacts(conversation);

    CREATE TABLE tags (id TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT NOT NULL);

    -- Where each sweep stands, and from where the next incremental read starts (the vendor's clock).
    CREATE TABLE sweeps (
        side TEXT NOT NULL,
        resource TEXT NOT NULL,
        scope TEXT NOT NULL,
        cursor TEXT,
        started_at INTEGER,                        -- Date header of its first answer
        began_at INTEGER NOT NULL,                 -- our clock
        number INTEGER NOT NULL,
        pages INTEGER NOT NULL DEFAULT 0,
        rows INTEGER NOT NULL DEFAULT 0,
        total INTEGER,
        last_page TEXT,                            -- fingerprint of the page before, to notice a page that repeats
        PRIMARY KEY (side, resource)
    ) WITHOUT ROWID;
    CREATE TABLE watermarks (
        side TEXT NOT NULL,
        resource TEXT NOT NULL,
        instant INTEGER NOT NULL,
        full_at INTEGER,                           -- when a full sweep ended last
        PRIMARY KEY (side, resource)
    ) WITHOUT ROWID;
    CREATE TABLE schedule (job TEXT PRIMARY KEY, last_began INTEGER, last_ended INTEGER, next_at INTEGER) WITHOUT ROWID;
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        began_at INTEGER NOT NULL,
        ended_at INTEGER,
        outcome TEXT,                              -- ok, partial, failed
        summary TEXT
    );
    -- What other commands ask the owner of the state to do. `ask`, `steps` and `result` are the engine's, as JSON.
    CREATE TABLE orders (
        id INTEGER PRIMARY KEY,
        ask TEXT NOT NULL,
        placed_at INTEGER NOT NULL,
        taken_at INTEGER,
        ended_at INTEGER,
        state TEXT NOT NULL DEFAULT 'open',        -- open, taken, done, abandoned
        steps TEXT,                                -- how far it is
        result TEXT
    );
    CREATE INDEX orders_open ON orders(id) WHERE state = 'open';
    CREATE TABLE budgets (side TEXT NOT NULL, family TEXT NOT NULL, budget TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (side, family)) WITHOUT ROWID;

    -- Acknowledged means kept: a webhook is here before it is answered.
    CREATE TABLE inbox (
        seq INTEGER PRIMARY KEY,
        side TEXT NOT NULL,                        -- intercom, brevo
        id TEXT UNIQUE,                            -- NULL: without one (all of Brevo's), so that no repeat is known
        topic TEXT NOT NULL,
        body BLOB NOT NULL,
        received_at INTEGER NOT NULL,
        done_at INTEGER,
        outcome TEXT
    );
    CREATE INDEX inbox_open ON inbox(seq) WHERE done_at IS NULL;
    CREATE INDEX inbox_done ON inbox(done_at) WHERE done_at IS NOT NULL;

    -- Things that happened, on their way to Brevo. The key makes a webhook and a poll send once.
    CREATE TABLE outbox (
        key TEXT PRIMARY KEY,
        contact TEXT NOT NULL,                     -- the Intercom contact whose event it is
        event TEXT NOT NULL,
        queued_at INTEGER NOT NULL,
        sent_at INTEGER,
        tries INTEGER NOT NULL DEFAULT 0,
        not_before INTEGER NOT NULL DEFAULT 0,
        sent_to INTEGER,                           -- the Brevo contact under which it left
        state TEXT NOT NULL DEFAULT 'open'         -- open, sending (outcome unknown), sent, dead
    ) WITHOUT ROWID;
    CREATE INDEX outbox_open ON outbox(not_before) WHERE state IN ('open', 'sending');

    CREATE TABLE imports (
        id INTEGER PRIMARY KEY,
        process INTEGER,                           -- NULL: sent, no answer seen
        state TEXT NOT NULL,                       -- filling, sending, running, reading_back, given_up, done
        kind TEXT NOT NULL,                        -- create, update
        rows INTEGER NOT NULL,
        started_at INTEGER,                        -- Brevo's clock
        sent_at INTEGER NOT NULL,                  -- our clock
        checked_at INTEGER,
        reports TEXT,
        landed_by INTEGER                          -- our clock: until when a request without an answer may land
    );
    CREATE INDEX imports_open ON imports(id) WHERE state <> 'done';
    -- People on whom a row of an update import that was given up may still land.
    CREATE TABLE late_rows (brevo_id INTEGER PRIMARY KEY, until INTEGER NOT NULL);
    -- Addresses with which a row of an import may still make a contact, and whose row it is.
    CREATE TABLE late_addresses (email TEXT NOT NULL, link INTEGER NOT NULL, until INTEGER NOT NULL,
        PRIMARY KEY (email, link)) WITHOUT ROWID;
    CREATE INDEX late_addresses_of_link ON late_addresses(link);

    -- What a vendor refused: one row a record and field.
    CREATE TABLE failures (
        id INTEGER PRIMARY KEY,
        link INTEGER,
        subject TEXT NOT NULL,                     -- which record, by id
        field TEXT NOT NULL DEFAULT '',
        refused_by TEXT,                           -- 'intercom' or 'brevo'; NULL: we left it out ourselves
        message TEXT NOT NULL,
        status INTEGER,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        tries INTEGER NOT NULL DEFAULT 1,
        dead INTEGER NOT NULL DEFAULT 0,           -- given up until `failed retry`
        UNIQUE (subject, field)
    );
    CREATE INDEX failures_link ON failures(link) WHERE link IS NOT NULL;
    CREATE TABLE notices (
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT,
        since INTEGER NOT NULL,
        PRIMARY KEY (kind, subject)
    ) WITHOUT ROWID;
    CREATE TABLE conflicts (
        id INTEGER PRIMARY KEY,
        link INTEGER NOT NULL,
        field TEXT NOT NULL,
        side TEXT NOT NULL,                        -- where the lost value stood
        lost TEXT NOT NULL,
        kept TEXT NOT NULL,
        rule TEXT NOT NULL,
        at INTEGER NOT NULL,
        import INTEGER                             -- the import that carried it
    );
    CREATE INDEX conflicts_link ON conflicts(link);
    CREATE TABLE changes (
        id INTEGER PRIMARY KEY,
        link INTEGER,
        at INTEGER NOT NULL,
        what TEXT NOT NULL,                        -- what was done, in words
        fields BLOB NOT NULL,                      -- what it set, and why, packed
        answer TEXT NOT NULL,
        request TEXT,                              -- the request that carried it; NULL: the import's
        import INTEGER                             -- the import that carried it
    );
    CREATE INDEX changes_link ON changes(link, id);
    -- Bounded harm: what went in which slot of ten minutes, what is held until somebody approves it, and for whom.
    CREATE TABLE harm_counts (
        kind TEXT NOT NULL,                        -- creates, deletes, opt_outs, blanked
        slot INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (kind, slot)
    ) WITHOUT ROWID;
    CREATE TABLE held (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        since INTEGER NOT NULL,
        wanted INTEGER NOT NULL,                   -- how many wanted to be written when it was looked at last
        may INTEGER NOT NULL,                      -- how many could have gone when it began
        state TEXT NOT NULL DEFAULT 'open',        -- open, approved, ended
        left INTEGER NOT NULL DEFAULT 0,           -- approved: how many more may go
        until INTEGER,                             -- approved: for so long
        ended_at INTEGER
    );
    CREATE INDEX held_now ON held(kind) WHERE state <> 'ended';
    CREATE TABLE held_links (
        kind TEXT NOT NULL,
        side TEXT NOT NULL,                        -- where it would be written
        link INTEGER NOT NULL,
        PRIMARY KEY (kind, side, link)
    ) WITHOUT ROWID;
    CREATE INDEX held_links_link ON held_links(link);
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    ",
)];

const MIGRATIONS: Migrations<'_> = Migrations::from_slice(STEPS);

/// Refuses a file that a newer version wrote.
pub(super) fn check(connection: &Connection) -> Result<()> {
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > STEPS.len() { Err(StoreError::Newer { found, known: STEPS.len() }) } else { Ok(()) }
}

/// Whether the file has exactly this program's schema.
pub(super) fn is_current(connection: &Connection) -> Result<bool> {
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(found == STEPS.len())
}

/// Brings the file up to date.
pub(super) fn run(connection: &mut Connection) -> Result<()> {
    MIGRATIONS.to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => err.into(),
        other => StoreError::Corrupt(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_run() {
        MIGRATIONS.validate().unwrap();
    }

    #[test]
    fn a_newer_file_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(check(&connection), Err(StoreError::Newer { found: 99, .. })));
    }
}
