//! Parts of a plan.

use super::{Base, Flights, PersonPlan, put_or_remove};
use crate::model::{ContactChange, SideName};
use std::collections::BTreeSet;

impl PersonPlan {
    /// The plan without what it would change in a Brevo contact that is to be left as it is, but for opt-outs: of the rest,
    /// what was agreed on stays what it was.
    #[must_use]
    pub fn without_brevo(mut self, before: &Base, watched: &Flights) -> Self {
        let written = |key: &&String| self.flights.field(SideName::Brevo, key) != watched.field(SideName::Brevo, key);
        let rules: BTreeSet<String> = self.flights.fields.keys().filter(written).cloned().collect();
        for key in &rules {
            self.causes.remove(key);
            put_or_remove(&mut self.base.fields, key, before.fields.get(key));
            let earlier = watched.field(SideName::Brevo, key).cloned();
            self.flights.fields.entry(key.clone()).or_default().brevo = earlier;
        }
        self.flights.fields.retain(|_, writes| writes.intercom.is_some() || writes.brevo.is_some());
        for list in self.change.join_lists.iter().chain(&self.change.leave_lists) {
            put_or_remove(&mut self.base.lists, list, before.lists.get(list));
            put_or_remove(&mut self.flights.lists, list, watched.lists.get(list));
        }
        if self.change.email.is_some() {
            self.causes.remove("email");
            self.base.email.clone_from(&before.email);
            self.flights.may_loosen = watched.may_loosen;
            self.flights.renames.clone_from(&watched.renames);
        }
        let (email_opted_out, sms_opted_out) = (self.change.email_opted_out, self.change.sms_opted_out);
        self.change = ContactChange { email_opted_out, sms_opted_out, ..ContactChange::default() };
        self.lost.retain(|lost| lost.side == SideName::Intercom);
        self
    }
}
