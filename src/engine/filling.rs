//! Imports being filled: rows that wait in memory, their intents on disk already.

use super::answers::{causes, record_in_import};
use super::people::Planned;
use super::{Connection, EngineError, Ready};
use crate::model::{BrevoContact, BrevoListId, Email, ImportRow};
use crate::reconcile::person::PersonPlan;
use crate::store::listings::Causes;
use crate::store::{Packed, Packer, Result as Stored, Tx};
use chrono::{DateTime, Utc};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Brevo takes 10 MB and recommends at most 8; rows are weighed roughly here.
const FULL: usize = 7_000_000;
/// Rows of one import: they are in memory together while its body is made.
const MOST_ROWS: usize = 4_000;
/// Rows that wait in memory, packed, in all imports together: beyond this the fullest is sent early.
const MOST_WAITING: usize = 15_000;

/// What all rows of an import have in common. Of those that are sent together, opted-out newcomers go first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) what: What,
    pub(super) lists: BTreeSet<BrevoListId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    CreateOptedOut,
    Update,
    Create,
}

/// An import, ready to be sent.
pub(super) struct Batch {
    /// It is in our hands until this is dropped: nobody is to take it for abandoned or lost.
    pub(super) ours: Ours,
    pub(super) import: i64,
    pub(super) kind: Kind,
    pub(super) rows: Vec<(i64, Packed)>,
}

/// Rows on their way into one import. Their intents are in the store already; the rows themselves only here.
struct Bucket {
    import: i64,
    /// Of the import's body, roughly.
    bytes: usize,
    rows: Vec<(i64, Packed)>,
}

/// Imports that are being filled: rows of others that are on disk as being filled are in nobody's memory.
pub(super) type Filling = Arc<Mutex<BTreeSet<i64>>>;

/// Imports that somebody is filling. When it goes, they are nobody's, and the next push releases their links.
pub(super) struct Ours {
    filling: Filling,
    imports: BTreeSet<i64>,
}

impl Ours {
    fn none(filling: &Filling) -> Self {
        Self { filling: Arc::clone(filling), imports: BTreeSet::new() }
    }

    fn begin(&mut self, import: i64) {
        self.imports.insert(import);
        self.filling.lock().unwrap_or_else(PoisonError::into_inner).insert(import);
    }

    /// This one goes into other hands.
    fn hand_over(&mut self, import: i64) -> Self {
        let imports = self.imports.take(&import).into_iter().collect();
        Self { filling: Arc::clone(&self.filling), imports }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        for import in &self.imports {
            filling.remove(import);
        }
    }
}

/// Imports that a push is filling.
pub(super) struct Buckets {
    ours: Ours,
    by_kind: BTreeMap<Kind, Bucket>,
}

/// What an import and the state are to hold of a plan, packed.
pub(super) struct Parcel {
    base: Packed,
    flights: Packed,
    row: Packed,
    /// For the history.
    causes: Packed,
    /// Of the import's body, roughly.
    bytes: usize,
}

impl Parcel {
    /// Packs a plan. `None`: there is no address by which an import could find its row.
    pub(super) fn of(
        packer: &Packer,
        plan: &PersonPlan,
        email: Option<&Email>,
        brevo: Option<&BrevoContact>,
    ) -> Stored<Option<Self>> {
        let new = plan.as_new_contact(email.cloned());
        let Some(email) = brevo.map_or(new.email, |contact| contact.email.clone()) else { return Ok(None) };
        // What goes to Intercom is kept apart; what this replaces comes into the conflict log with the import.
        let mut flights = plan.flights.to_brevo();
        if flights.replaces_any() {
            flights = Cow::Owned(flights.into_owned().with_losses_logged());
        }
        if brevo.is_some() {
            // An import of existing contacts may lift a blocklisting that it does not know of.
            flights.to_mut().may_loosen = true;
        }
        let row = ImportRow { email, ext_id: new.ext_id, attributes: new.attributes };
        let packed = packer.pack("imports", &row)?;
        // Names and quotes come on top of what is packed.
        let bytes = packed.len() + 60 + row.attributes.keys().map(|name| name.len() + 6).sum::<usize>();
        Ok(Some(Self {
            base: packer.pack("links.base", &plan.base)?,
            flights: packer.pack("links.flights", &*flights)?,
            row: packed,
            causes: packer.pack("changes", &causes(plan).collect::<Causes>())?,
            bytes,
        }))
    }
}

/// One transaction's share of filling: what it files goes into the buckets only if it commits.
pub(super) struct Filing {
    ours: Ours,
    known: BTreeMap<Kind, i64>,
    filed: Vec<(Kind, i64, usize, (i64, Packed))>,
    /// Plans that were filed: to be freed by another thread than the state's, which is the busier one.
    spent: Vec<Planned>,
}

impl Filing {
    /// Files a plan: its intent into the store, its row into the import that takes rows of its kind.
    pub(super) fn file(&mut self, tx: &Tx<'_>, mut planned: Planned, ready: &Ready, now: DateTime<Utc>) -> Stored<()> {
        let parcel = match planned.parcel.take() {
            Some(parcel) => Some(parcel),
            None => Parcel::of(&tx.packer(), &planned.plan, planned.email.as_ref(), planned.brevo.as_ref())?,
        };
        let Some(Parcel { base, flights, row, causes, bytes }) = parcel else { return Ok(()) };
        let mut lists = planned.plan.change.join_lists.clone();
        lists.insert(ready.technical_list);
        let what = match (&planned.brevo, planned.plan.change.email_opted_out) {
            (Some(_), _) => What::Update,
            (None, true) => What::CreateOptedOut,
            (None, false) => What::Create,
        };
        let kind = Kind { what, lists };
        let import = if let Some(import) = self.known.get(&kind) {
            *import
        } else {
            let import = tx.new_import(what != What::Update, now)?;
            // Before the commit: after it, another push might take it for abandoned.
            self.ours.begin(import);
            self.known.insert(kind.clone(), import);
            import
        };
        tx.put_in_import(planned.link, import, &base, &flights)?;
        record_in_import(tx, &planned, import, &causes, now)?;
        self.filed.push((kind, import, bytes, (planned.link, row)));
        self.spent.push(planned);
        Ok(())
    }
}

impl Buckets {
    /// Before a transaction that files rows.
    pub(super) fn begin_filing(&self) -> Filing {
        let known = self.by_kind.iter().map(|(kind, bucket)| (kind.clone(), bucket.import)).collect();
        Filing { ours: Ours::none(&self.ours.filling), known, filed: Vec::new(), spent: Vec::new() }
    }

    /// After it has committed.
    pub(super) fn end_filing(&mut self, mut filing: Filing) {
        self.ours.imports.append(&mut filing.ours.imports);
        for (kind, import, bytes, row) in filing.filed {
            let bucket = self.by_kind.entry(kind).or_insert_with(|| Bucket { import, bytes: 0, rows: Vec::new() });
            bucket.bytes += bytes;
            bucket.rows.push(row);
        }
    }

    /// A bucket that is full, if there is one.
    pub(super) fn take_full(&mut self) -> Option<Batch> {
        let is_full = |bucket: &Bucket| bucket.bytes >= FULL || bucket.rows.len() >= MOST_ROWS;
        let full = self.by_kind.iter().find(|(_, bucket)| is_full(bucket)).map(|(kind, _)| kind.clone());
        let together: usize = self.by_kind.values().map(|bucket| bucket.rows.len()).sum();
        let fullest = || self.by_kind.iter().max_by_key(|(_, bucket)| bucket.rows.len()).map(|(kind, _)| kind.clone());
        let kind = full.or_else(|| (together >= MOST_WAITING).then(fullest).flatten())?;
        self.take(kind)
    }

    /// All that is left, in order.
    pub(super) fn take_all(&mut self) -> Vec<Batch> {
        let kinds: Vec<Kind> = self.by_kind.keys().cloned().collect();
        kinds.into_iter().filter_map(|kind| self.take(kind)).collect()
    }

    fn take(&mut self, kind: Kind) -> Option<Batch> {
        let Bucket { import, rows, .. } = self.by_kind.remove(&kind)?;
        Some(Batch { ours: self.ours.hand_over(import), import, kind, rows })
    }
}

impl Connection {
    /// Nothing waits yet.
    pub(super) fn buckets(&self) -> Buckets {
        Buckets { ours: Ours::none(&self.filling), by_kind: BTreeMap::new() }
    }

    /// Imports whose rows were in the memory of a push that did not come to its end, or of an earlier process: nothing of
    /// them was sent, and their links are planned again.
    pub(super) async fn release_abandoned(&self) -> Result<(), EngineError> {
        let mut abandoned = self.store.read(|tx| tx.filling_imports()).await?;
        {
            let filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
            abandoned.retain(|import| !filling.contains(import));
        }
        if abandoned.is_empty() {
            return Ok(());
        }
        let now = self.now();
        self.store
            .write(move |tx| {
                // One that has left since then is no longer being filled.
                for import in tx.filling_imports()?.into_iter().filter(|import| abandoned.contains(import)) {
                    let rows = tx.release_import(import, None, now, false)?;
                    super::safety::give_back_import(tx, import, rows, now)?;
                    tx.end_import(import)?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    /// Buckets with one row of this weight each, of `rows` rows.
    async fn filled(rows: usize, bytes: usize) -> Buckets {
        let packed = Store::in_memory().unwrap().write(|tx| tx.pack("imports", &0_u8)).await.unwrap();
        let filling = Filling::default();
        let mut buckets = Buckets { ours: Ours::none(&filling), by_kind: BTreeMap::new() };
        let mut filing = buckets.begin_filing();
        filing.ours.begin(7);
        let kind = Kind { what: What::Create, lists: BTreeSet::new() };
        for row in 0..rows {
            filing.filed.push((kind.clone(), 7, bytes, (i64::try_from(row).unwrap(), packed.clone())));
        }
        buckets.end_filing(filing);
        assert_eq!(filling.lock().unwrap().len(), 1, "still being filled");
        buckets
    }

    #[tokio::test]
    async fn an_import_is_full_by_weight_or_by_rows() {
        assert!(filled(10, 1_000).await.take_full().is_none());
        assert_eq!(filled(700, 10_000).await.take_full().unwrap().rows.len(), 700);
        assert_eq!(filled(MOST_ROWS, 1).await.take_full().unwrap().rows.len(), MOST_ROWS);
        assert_eq!(filled(10, 1_000).await.take_all().len(), 1);
    }

    #[tokio::test]
    async fn what_is_not_committed_is_nobodys() {
        let buckets = filled(1, 1).await;
        let filling = Arc::clone(&buckets.ours.filling);
        let mut filing = buckets.begin_filing();
        filing.ours.begin(8);
        drop(filing);
        assert_eq!(*filling.lock().unwrap(), BTreeSet::from([7]));
        drop(buckets);
        assert!(filling.lock().unwrap().is_empty());
    }
}
