//! A conflict is settled by hand: the value that lost is put back where it stood, as if a person had typed it there. From
//! there it travels like any edit. Nothing has to be remembered for it: if the answer is lost, whoever asked asks again.

use super::observe::{flights_of, subject_of};
use super::write_back;
use super::{Connection, EngineError, Ready};
use crate::mapping::Direction;
use crate::model::{Answer, ContactChange, ContactKey, IntercomChange, Observation, Priority, SideName, Value, Write};
use crate::store::contacts::ContactState;
use crate::store::links::{Dirty, LinkState};
use crate::store::listings::Change;
use crate::store::{Result as Stored, Tx};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which conflict, and whose value is to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pick {
    /// Its number in `conflicts`.
    pub conflict: i64,
    /// Whose value.
    pub side: SideName,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Picked {
    /// The value stands there again, and goes on to the other side.
    Done {
        /// The rule.
        field: String,
        /// Where it was put back.
        side: SideName,
    },
    /// It was not done, and why.
    NotDone(String),
}

/// What is to be written, and for whom.
struct Chosen {
    link: i64,
    field: String,
    write: Write,
    request: String,
}

impl Connection {
    /// Puts the value back that lost, where it stood. What stands there now is in the history.
    ///
    /// # Errors
    /// If the vendor does not take it, or the state cannot be used.
    pub async fn pick(&self, pick: Pick) -> Result<Picked, EngineError> {
        let ready = match self.ready() {
            Some(ready) => ready,
            None => self.prepare(false).await?,
        };
        let looked = Arc::clone(&ready);
        let chosen = match self.store.read(move |tx| choose(tx, pick, &looked)).await? {
            Ok(chosen) => chosen,
            Err(why) => return Ok(Picked::NotDone(why)),
        };
        // Nobody else writes to this person meanwhile.
        let claim = self.claim([chosen.link]);
        if claim.claimed.is_empty() {
            return Ok(Picked::NotDone("the person is being written right now: try again in a moment".to_owned()));
        }
        let began = self.now();
        let side = match &chosen.write {
            Write::UpdateIntercomContact(..) => &self.intercom,
            _ => &self.brevo,
        };
        let answer = side.write(&chosen.write, Priority::Live).await?;
        let (source, link, now) = (self.source(0, true, began, Dirty::Live)?, chosen.link, self.now());
        let (field, request) = (chosen.field.clone(), chosen.request);
        self.store
            .write(move |tx| {
                if let Answer::IntercomContact(contact, _) = answer {
                    source.apply(tx, &Observation::IntercomContact(contact))?;
                }
                tx.put_change(&Change {
                    link: Some(link),
                    at: now,
                    what: format!("picked by hand: {}'s value of conflict {}", pick.side, pick.conflict),
                    fields: [(field, "picked by hand".to_owned())].into(),
                    answer: "accepted".to_owned(),
                    import: None,
                    request: Some(request),
                })?;
                tx.mark_dirty(link, Dirty::Live)
            })
            .await?;
        if let Write::UpdateContact(id, _) = chosen.write {
            self.look_up(&ContactKey::Brevo(id), Priority::Live).await?;
        }
        drop(claim);
        self.bell.notify_one();
        Ok(Picked::Done { field: chosen.field, side: pick.side })
    }
}

fn choose(tx: &Tx<'_>, pick: Pick, ready: &Ready) -> Stored<Result<Chosen, String>> {
    let Some(conflict) = tx.conflict(pick.conflict)? else {
        return Ok(Err(format!("there is no conflict {}; `linkspan conflicts` lists them", pick.conflict)));
    };
    if conflict.link < 0 {
        let side = conflict.side;
        return Ok(Err(format!(
            "it is about a company: put the value back in {side} yourself, and it travels from there"
        )));
    }
    if pick.side != conflict.side {
        return Ok(Err(format!("{}'s value is the one that stands; {}'s lost", pick.side, conflict.side)));
    }
    let Some(rule) = ready.mapping.rules.iter().find(|rule| rule.key == conflict.field) else {
        return Ok(Err(format!("the mapping has no `{}` any more", conflict.field)));
    };
    if rule.direction != Direction::Both {
        let giver = if rule.direction == Direction::IntercomToBrevo { SideName::Intercom } else { SideName::Brevo };
        return Ok(Err(format!("`{}` travels from {giver} only: change it there, and it arrives by itself", rule.key)));
    }
    let Ok(cells) = serde_json::from_str::<Vec<Option<Value>>>(&conflict.lost) else {
        return Ok(Err("the value that lost cannot be read any more".to_owned()));
    };
    let Some(link) = tx.link(conflict.link)?.filter(|link| link.state == LinkState::Active) else {
        return Ok(Err("the person is not in step any more: `linkspan explain` says more".to_owned()));
    };
    let subject = subject_of(tx, &link)?;
    let members = tx.members(link.id)?;
    let live = || members.iter().filter(|member| member.state == ContactState::Live);
    let primary = live().find(|member| member.is_primary).or(live().next());
    let (Some(primary), Some(brevo)) = (primary, link.brevo_id) else {
        return Ok(Err(format!("{subject} is not there on both sides")));
    };
    let mut flights = flights_of(&link)?;
    if ready.writes_back {
        flights.add_to_intercom(write_back::flights_to_intercom(tx, link.id, &primary.contact.id)?.0);
    }
    if link.import.is_some() || flights.field(pick.side, &rule.key).is_some() {
        // What stood there before our write would be taken for its refusal.
        return Ok(Err("our own write of this field is still being watched: try again in a few minutes".to_owned()));
    }
    Ok(Ok(match pick.side {
        SideName::Intercom => {
            let fields = [(rule.source.clone(), cells.into_iter().next().flatten())].into();
            let contact = primary.contact.id.clone();
            Chosen {
                link: link.id,
                field: rule.key.clone(),
                request: crate::intercom::request_for(&contact),
                write: Write::UpdateIntercomContact(contact, IntercomChange { fields, ..IntercomChange::default() }),
            }
        }
        SideName::Brevo => {
            let attributes = rule.targets.iter().map(|target| target.attribute.clone()).zip(cells).collect();
            Chosen {
                link: link.id,
                field: rule.key.clone(),
                request: crate::brevo::request_for(Some(brevo)),
                write: Write::UpdateContact(brevo, ContactChange { attributes, ..ContactChange::default() }),
            }
        }
    }))
}
