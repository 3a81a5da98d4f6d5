//! What travels towards Intercom, for one person.

use super::*;
use crate::mapping::{Options, Section, parse};
use crate::model::BrevoContactId;
use chrono::DateTime;
use serde_json::json;

fn mapping(yaml: &str) -> Mapping {
    let section = Section { file: 0, path: vec![], value: serde_yaml::from_str(yaml).unwrap() };
    let options = Options::default();
    parse(&[section], &options, &|_, _, _| None).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn fields(json: serde_json::Value) -> Fields {
    let fields = json.as_object().unwrap().iter();
    fields.filter_map(|(path, value)| Some((path.clone(), Value::from_json(value)?))).collect()
}

fn contact(attributes: serde_json::Value) -> BrevoContact {
    BrevoContact {
        id: BrevoContactId::new(1),
        email: None,
        ext_id: None,
        created_at: DateTime::UNIX_EPOCH,
        modified_at: DateTime::UNIX_EPOCH,
        consent: Consent::default(),
        lists: BTreeSet::new(),
        lists_left: BTreeSet::new(),
        attributes: fields(attributes),
    }
}

/// A person on both sides.
struct Both {
    mapping: Mapping,
    record: Fields,
    contact: BrevoContact,
    base: Base,
    flights: Flights,
    part: Sides<Part>,
    external_id: Option<&'static str>,
}

impl Both {
    /// As both stand after the first plan.
    fn agreed(yaml: &str, record: serde_json::Value, attributes: serde_json::Value) -> Self {
        let (mapping, record, contact) = (mapping(yaml), fields(record), contact(attributes));
        let mut both = Self {
            mapping,
            record,
            contact,
            base: Base::default(),
            flights: Flights::default(),
            part: Sides::default(),
            external_id: None,
        };
        let plan = both.plan();
        assert!(plan.writes_nothing(), "{plan:?}");
        both.base = plan.base;
        both
    }

    fn resolved(&self) -> Vec<ResolvedList<'_>> {
        let list = BrevoListId::new(42);
        self.mapping.lists.iter().map(|rule| ResolvedList { rule, list }).collect()
    }

    fn plan(&self) -> PersonPlan {
        self.plan_without(&BTreeMap::new())
    }

    fn plan_without(&self, quarantined: &BTreeMap<String, String>) -> PersonPlan {
        let consent = Consent::default();
        let views = PersonViews {
            record: &self.record,
            email: None,
            external_id: self.external_id,
            consent: &consent,
            members: &[],
            tells: false,
            brevo: Some(&self.contact),
            base: &self.base,
            flights: &self.flights,
            waits_for_intercom: false,
            rename_to: None,
            quarantined,
            changed: Sides::default(),
            sweep: true,
            brevo_may_be_old: false,
            part: self.part,
            part_problem: None,
        };
        plan(&views, &self.mapping, &self.resolved())
    }

    /// Takes the plan as accepted, though no look has shown it yet.
    fn send(&mut self) -> PersonPlan {
        let plan = self.plan();
        (self.base, self.flights) = (plan.base.clone(), plan.flights.clone());
        plan
    }

    /// What Intercom shows afterwards.
    fn settle(&mut self, record: serde_json::Value) -> Vec<String> {
        self.record = fields(record);
        let settled = settle_intercom(&self.base, &self.flights, true, &self.record, &self.mapping, &self.resolved());
        (self.base, self.flights) = (settled.base, settled.flights);
        settled.refused
    }
}

const NAME: &str = "name: {to: FULLNAME, direction: both, on_conflict: intercom}";

#[test]
fn an_edit_in_brevo_reaches_intercom_once() {
    let mut jane = Both::agreed(NAME, json!({"name": "Jane"}), json!({"FULLNAME": "Jane"}));
    jane.contact = contact(json!({"FULLNAME": "Jane Doe"}));
    let plan = jane.send();
    assert_eq!(plan.intercom, BTreeMap::from([("name".to_owned(), Value::text("Jane Doe"))]));
    assert!(plan.change.is_empty() && plan.lost.is_empty());
    assert_eq!(plan.causes.values().copied().collect::<Vec<_>>(), ["changed in Brevo"]);
    // Intercom still shows the old name: nobody's edit.
    assert!(jane.plan().writes_nothing());
    // A newer edit in Brevo goes out although the first is on its way, and remembers it.
    jane.contact = contact(json!({"FULLNAME": "Jane Roe"}));
    jane.send();
    let write = jane.flights.field(SideName::Intercom, "name -> FULLNAME").unwrap().clone();
    assert_eq!((write.before, write.superseded), (vec![Value::text("Jane")], vec![vec![Value::text("Jane Doe")]]));
    // The first lands late: written over, whoever wins conflicts.
    assert_eq!(jane.settle(json!({"name": "Jane Doe"})), Vec::<String>::new());
    assert!(jane.flights.is_empty());
    let again = jane.send();
    assert_eq!(again.intercom, BTreeMap::from([("name".to_owned(), Value::text("Jane Roe"))]));
    assert_eq!((again.lost.len(), again.lost[0].side), (1, SideName::Intercom));
    assert!(jane.settle(json!({"name": "Jane Roe"})).is_empty());
    assert!(jane.plan().writes_nothing() && jane.flights.is_empty());
}

#[test]
fn who_goes_back_while_a_write_is_unanswered_has_given_that_anew() {
    let mut jane = Both::agreed(NAME, json!({"name": "Jane"}), json!({"FULLNAME": "Jane"}));
    let agreed = jane.base.clone();
    jane.contact = contact(json!({"FULLNAME": "Jane Doe"}));
    jane.send();
    // No answer came. Both sides are edited meanwhile, Brevo back to what had been agreed on.
    jane.base = agreed;
    (jane.record, jane.contact) = (fields(json!({"name": "Jane Roe"})), contact(json!({"FULLNAME": "Jane"})));
    let settled = settle_intercom(&jane.base, &jane.flights, false, &jane.record, &jane.mapping, &jane.resolved());
    assert!(settled.edited);
    (jane.base, jane.flights) = (settled.base, settled.flights);
    let plan = jane.send();
    assert_eq!(plan.change.attributes, BTreeMap::from([("FULLNAME".to_owned(), Value::text("Jane Roe"))]));
    assert_eq!((plan.lost.len(), plan.lost[0].side), (1, SideName::Brevo));
    assert_eq!(plan.lost[0].lost, vec![Value::text("Jane")]);
    assert!(jane.plan().writes_nothing());
}

#[test]
fn what_intercom_will_not_take_is_not_sent_again_until_it_changes() {
    let mut jane = Both::agreed(NAME, json!({"name": "Jane"}), json!({"FULLNAME": "Jane"}));
    jane.contact = contact(json!({"FULLNAME": "Jane\u{7}"}));
    jane.send();
    assert_eq!(jane.settle(json!({"name": "Jane"})), ["name -> FULLNAME"]);
    assert!(jane.base.fields["name -> FULLNAME"].is_refused());
    assert!(jane.plan().writes_nothing());
    jane.contact = contact(json!({"FULLNAME": "Janet"}));
    assert_eq!(jane.plan().intercom, BTreeMap::from([("name".to_owned(), Value::text("Janet"))]));
}

#[test]
fn two_edits_at_once_go_by_the_rule_and_the_loser_is_kept_with_its_side() {
    let mut jane = Both::agreed(NAME, json!({"name": "Jane"}), json!({"FULLNAME": "Jane"}));
    (jane.record, jane.contact) = (fields(json!({"name": "Joan"})), contact(json!({"FULLNAME": "June"})));
    let plan = jane.send();
    assert_eq!(plan.change.attributes, BTreeMap::from([("FULLNAME".to_owned(), Value::text("Joan"))]));
    assert!(plan.intercom.is_empty());
    assert_eq!((plan.lost[0].side, &plan.lost[0].lost), (SideName::Brevo, &vec![Value::text("June")]));
    // While that is on its way, a person edits Intercom again: what is made of it is not taken from the old view.
    jane.record = fields(json!({"name": "Jo"}));
    assert_eq!(jane.send().change.attributes, BTreeMap::from([("FULLNAME".to_owned(), Value::text("Jo"))]));
}

#[test]
fn a_value_that_cannot_be_turned_back_is_listed_and_leaves_both_sides_alone() {
    let yaml = "custom_attributes.plan: {to: PLAN, transform: {map: {pro: VIP, free: Basic}}, direction: both}";
    let mut jane = Both::agreed(yaml, json!({"custom_attributes.plan": "pro"}), json!({"PLAN": "VIP"}));
    jane.contact = contact(json!({"PLAN": "Gold"}));
    let plan = jane.send();
    assert!(plan.writes_nothing());
    assert_eq!(plan.problems.len(), 1);
    jane.contact = contact(json!({"PLAN": "Basic"}));
    assert_eq!(jane.plan().intercom, BTreeMap::from([("custom_attributes.plan".to_owned(), Value::text("free"))]));
}

#[test]
fn an_edit_travels_from_the_side_that_would_not_take_the_others_value() {
    let yaml = "phone: {to: SMS, direction: both}";
    let mut jane = Both::agreed(yaml, json!({"phone": "+4740000000"}), json!({"SMS": "4740000000"}));
    jane.record = fields(json!({"phone": "+4740000001"}));
    let theirs = quarantine_key(&vec![Value::text("+4740000001")]);
    let quarantined = BTreeMap::from([("phone -> SMS".to_owned(), theirs)]);
    assert!(jane.plan_without(&quarantined).writes_nothing(), "another contact has the number");
    jane.contact = contact(json!({"SMS": "4740000002"}));
    jane.mapping.rules[0].on_conflict = OnConflict::Brevo;
    let plan = jane.plan_without(&quarantined);
    assert_eq!(plan.intercom, BTreeMap::from([("phone".to_owned(), Value::text("+4740000002"))]));
    assert_eq!(plan.lost[0].lost, vec![Value::text("+4740000001")]);
}

#[test]
fn a_field_of_brevos_is_given_and_an_edit_of_it_in_intercom_undone() {
    let yaml = "custom_attributes.score: {to: SCORE, direction: brevo_to_intercom}";
    let mut jane = Both::agreed(yaml, json!({}), json!({}));
    jane.contact = contact(json!({"SCORE": "high"}));
    assert_eq!(jane.send().intercom.len(), 1);
    assert!(jane.settle(json!({"custom_attributes.score": "high"})).is_empty());
    jane.record = fields(json!({"custom_attributes.score": "low"}));
    let restored = jane.send();
    assert_eq!(restored.intercom.values().cloned().collect::<Vec<_>>(), [Value::text("high")]);
    assert_eq!((restored.lost[0].side, restored.change.is_empty()), (SideName::Intercom, true));
}

#[test]
fn whoever_comes_to_speak_for_a_person_is_given_what_brevo_alone_gives() {
    let yaml = "custom_attributes.score: {to: SCORE, direction: brevo_to_intercom, on_drift: leave}";
    let mut jane = Both::agreed(yaml, json!({"custom_attributes.score": "high"}), json!({"SCORE": "high"}));
    let (first, second) = (IntercomContactId::new("1"), IntercomContactId::new("2"));
    jane.base.spoken_for_by(&first, &jane.mapping);
    jane.record = fields(json!({"custom_attributes.score": "low"}));
    assert!(jane.plan().writes_nothing(), "of the same contact it is an edit, which may stay");
    jane.base.spoken_for_by(&second, &jane.mapping);
    let given = jane.send();
    assert_eq!(given.intercom.values().cloned().collect::<Vec<_>>(), [Value::text("high")]);
    assert_eq!((given.lost[0].side, given.base.spoke), (SideName::Intercom, Some(second)));
}

#[test]
fn a_tag_and_its_list_follow_each_other() {
    let yaml = "{name: FULLNAME, tags: {VIP: {list: 42, direction: both}}}";
    let mut jane = Both::agreed(yaml, json!({}), json!({}));
    jane.contact.lists.insert(BrevoListId::new(42));
    assert_eq!(jane.send().tags, BTreeMap::from([("VIP".to_owned(), true)]));
    // Intercom shows no tag yet: nobody has taken it away.
    let stale = jane.plan();
    assert!(stale.writes_nothing(), "{stale:?}");
    jane.settle(json!({"tags": ["VIP"]}));
    assert!(jane.plan().writes_nothing() && jane.flights.is_empty());
    // They leave the list: the tag goes, and nobody is put back.
    jane.contact.lists.clear();
    jane.contact.lists_left.insert(BrevoListId::new(42));
    assert_eq!(jane.send().tags, BTreeMap::from([("VIP".to_owned(), false)]));
    jane.settle(json!({}));
    jane.record = fields(json!({"tags": ["VIP"]}));
    let tagged_again = jane.send();
    assert!(tagged_again.writes_nothing() && tagged_again.notices.len() == 1, "{tagged_again:?}");
}

#[test]
fn what_does_not_travel_to_intercom_costs_nothing_there() {
    #[derive(Default)]
    struct Book(Vec<std::sync::Arc<str>>);
    impl pack::Words for Book {
        fn number(&mut self, word: &str) -> u32 {
            self.0.push(word.into());
            u32::try_from(self.0.len()).unwrap() - 1
        }
        fn word(&mut self, number: u32) -> Option<std::sync::Arc<str>> {
            self.0.get(number as usize).cloned()
        }
    }
    let agreed = Sides { intercom: vec![Value::text("a")], brevo: vec![Value::text("a")] };
    let base = FieldBase { rule: "r".into(), agreed, ..FieldBase::default() };
    let bytes = pack::pack(&base, &mut Book::default()).unwrap();
    assert_eq!(bytes.len(), 9, "{bytes:?}: two pairs, a word and two cells");
    let mut book = Book::default();
    let write =
        InFlight { sent: vec![Value::text("b")], before: vec![None], superseded: vec![], replaces: None, given: false };
    let flights = Flights {
        fields: BTreeMap::from([("k".to_owned(), Sides { intercom: None, brevo: Some(write) })]),
        ..Flights::default()
    };
    let bytes = pack::pack(&flights, &mut book).unwrap();
    assert_eq!(pack::unpack::<_, Flights>(&bytes, &mut book).unwrap(), flights);
}

/// A value that was cleared is cleared again when the write before that lands late, one way or both.
#[test]
fn what_a_late_write_brought_back_is_cleared_again() {
    for direction in ["intercom_to_brevo", "both"] {
        let yaml = format!("name: {{to: FULLNAME, direction: {direction}, on_clear: propagate}}");
        let mut jane = Both::agreed(&yaml, json!({}), json!({}));
        jane.record = fields(json!({"name": "Jane"}));
        jane.send();
        jane.record = fields(json!({}));
        let cleared = BTreeMap::from([("FULLNAME".to_owned(), None)]);
        let clears = jane.send();
        assert_eq!(clears.change.attributes, cleared, "{direction}");
        // That counts, though no look has shown the name.
        let shown = Some(&jane.contact.attributes);
        assert!(crate::reconcile::harm::blanks(&clears, SideName::Brevo, shown), "{direction}");
        jane.contact = contact(json!({"FULLNAME": "Jane"}));
        let settled = settle(&jane.base, &jane.flights, true, &jane.contact, &jane.mapping);
        (jane.base, jane.flights) = (settled.base, settled.flights);
        let again = jane.send();
        assert_eq!((again.change.attributes, again.lost.len()), (cleared, 1), "{direction}");
    }
}

#[test]
fn what_landed_as_it_was_sent_leaves_base_as_it_was_planned() {
    let mut jane = Both::agreed(NAME, json!({"name": "Jane"}), json!({"FULLNAME": "Jane"}));
    jane.record = fields(json!({"name": "Joan"}));
    jane.send();
    let shows = |name: &str| contact(json!({"FULLNAME": name}));
    assert!(landed_as_sent(&jane.flights, &shows("Joan"), &jane.mapping));
    let settled = settle(&jane.base, &jane.flights, true, &shows("Joan"), &jane.mapping);
    assert_eq!((settled.base, settled.flights.is_empty(), settled.refused.len()), (jane.base.clone(), true, 0));
    for other in ["Jane", "Joa", "June"] {
        assert!(!landed_as_sent(&jane.flights, &shows(other), &jane.mapping), "{other}");
    }
    let mut loose = jane.flights.clone();
    loose.may_loosen = true;
    assert!(!landed_as_sent(&loose, &shows("Joan"), &jane.mapping));
}

#[test]
fn an_empty_ext_id_is_worth_no_write_and_rides_on_the_next() {
    let mut jane = Both::agreed(NAME, json!({"name": "Jane"}), json!({"FULLNAME": "Jane"}));
    jane.external_id = Some("crm-7");
    let plan = jane.plan();
    assert!(plan.writes_nothing() && plan.notices.is_empty(), "{plan:?}");
    jane.record = fields(json!({"name": "Jane Doe"}));
    let plan = jane.plan();
    assert_eq!(plan.change.ext_id.as_deref(), Some("crm-7"));
    assert_eq!(plan.change.attributes.len(), 1, "beside the field that changed: {plan:?}");
    // One that Brevo has stands: equal, there is nothing to say; another is kept and listed, and the field goes alone.
    for (theirs, listed) in [("crm-7", 0), ("shop-9", 1)] {
        jane.contact.ext_id = Some(theirs.to_owned());
        let plan = jane.plan();
        assert_eq!((plan.change.ext_id.as_deref(), plan.notices.len()), (None, listed), "{theirs}");
        assert_eq!(plan.change.attributes.len(), 1);
    }
    // Nor is one sent again that was refused (another contact has it).
    jane.contact.ext_id = None;
    let refused = BTreeMap::from([("external_id".to_owned(), "taken".to_owned())]);
    assert_eq!(jane.plan_without(&refused).change.ext_id, None);
}

#[test]
fn who_takes_back_a_yes_in_brevo_has_a_value_that_can_be_looked_up() {
    let mapping = "custom_attributes.vip: {to: VIP, type: boolean}";
    let yes = json!({"custom_attributes.vip": true});
    let edited =
        |attributes| Both { contact: contact(attributes), ..Both::agreed(mapping, yes.clone(), json!({"VIP": true})) };
    let plan = edited(json!({"VIP": false})).plan();
    assert_eq!(
        plan.lost.iter().map(|lost| (lost.side, lost.lost.clone())).collect::<Vec<_>>(),
        vec![(SideName::Brevo, vec![Some(Value::Boolean(false))])]
    );
    // Nothing at all is no value, and a no that both had agreed on is nobody's loss.
    assert!(edited(json!({})).plan().lost.is_empty());
    let mut agreed = Both::agreed(mapping, json!({"custom_attributes.vip": false}), json!({"VIP": false}));
    agreed.record = fields(yes.clone());
    let plan = agreed.plan();
    assert!(!plan.change.is_empty() && plan.lost.is_empty(), "{plan:?}");
    // Before any read has shown our yes, going back to no looks like a refusal. It is no agreement, though.
    let mut refused = edited(json!({"VIP": false}));
    let agreed = Sides { intercom: vec![Some(Value::Boolean(true))], brevo: vec![None] };
    let base = refused.base.fields.values_mut().next().unwrap();
    (base.agreed, base.refused.brevo, base.rule) =
        (agreed, Some(vec![Some(Value::Boolean(true))]), "another".to_owned());
    assert_eq!(refused.plan().lost.len(), 1);
}

/// Whoever takes back a yes that had no answer shows what would stand there had it never landed.
#[test]
fn who_takes_back_a_yes_without_an_answer_has_a_value_that_can_be_looked_up() {
    let (yes, no) = (json!({"VIP": true}), json!({"VIP": false}));
    let sent = |before: &serde_json::Value| {
        let mut jane = Both::agreed("custom_attributes.vip: {to: VIP, type: boolean}", json!({}), before.clone());
        jane.record = fields(json!({"custom_attributes.vip": true}));
        jane.flights = jane.plan().flights;
        jane
    };
    let lost = |before: &serde_json::Value, now: &serde_json::Value| {
        let mut jane = sent(before);
        jane.contact = contact(now.clone());
        let settled = settle(&jane.base, &jane.flights, false, &jane.contact, &jane.mapping);
        (jane.base, jane.flights) = (settled.base, settled.flights);
        let plan = jane.plan();
        assert!(!plan.change.is_empty(), "{plan:?}");
        plan.lost.into_iter().map(|lost| lost.lost).collect::<Vec<_>>()
    };
    let said = vec![Some(Value::Boolean(false))];
    assert_eq!(lost(&json!({}), &no), vec![said.clone()]);
    assert!(lost(&json!({}), &json!({})).is_empty() && lost(&no, &no).is_empty());
    // So does whoever is overrun by it, when it lands once more.
    let overrun_after = |before: &serde_json::Value| {
        let jane = sent(before);
        let (shown, landed) = (fields(no.clone()), fields(yes.clone()));
        let lost = overrun(
            &jane.flights,
            SideName::Brevo,
            &jane.mapping,
            |rule| with_nos(rule, &shown),
            |rule| rule.observed(&landed),
        );
        lost.into_iter().map(|lost| lost.lost).collect::<Vec<_>>()
    };
    assert_eq!(overrun_after(&json!({})), [said]);
    assert!(overrun_after(&no).is_empty());
}

#[test]
fn an_earlier_address_that_lands_late_is_nobodys_edit() {
    let email = |text: &str| Email::parse(text).unwrap();
    let (first, second) = (email("jane@example.com"), email("doe@example.com"));
    let flights = Flights { may_loosen: true, renames: vec![first.clone(), second.clone()], ..Flights::default() };
    let base = Base { email: Some(second.clone()), ..Base::default() };
    let shows = |email: &Email| BrevoContact { email: Some(email.clone()), ..contact(json!({})) };
    for (shown, late) in [(&first, true), (&second, false), (&email("hand@example.com"), false)] {
        assert_eq!(flights.renamed_late(&shows(shown)), late, "{shown:?}");
        let settled = settle(&base, &flights, true, &shows(shown), &mapping(NAME));
        assert_eq!(settled.base.email.as_ref(), Some(if late { shown } else { &second }), "{shown:?}");
        assert!(settled.flights.renames.is_empty());
    }
    // Who goes back to the first address is to have it.
    let back = Flights { renames: vec![first.clone(), second, first.clone()], ..Flights::default() };
    assert!(!back.renamed_late(&shows(&first)));
}

#[test]
fn what_both_are_edited_to_while_a_write_may_land_late_is_agreed_on() {
    let mut jane = Both::agreed(NAME, json!({"name": "Jane"}), json!({"FULLNAME": "Jane"}));
    jane.record = fields(json!({"name": "Ann"}));
    jane.send();
    let watched = jane.flights.clone();
    (jane.record, jane.contact) = (fields(json!({"name": "Zoe"})), contact(json!({"FULLNAME": "Zoe"})));
    let plan = jane.send();
    assert!(plan.writes_nothing());
    assert_eq!(as_met(&watched, &plan).as_ref(), Some(&jane.flights));
    assert_eq!(as_met(&jane.flights, &jane.plan()), None);
    // What somebody gave there can be looked up, though the other has it too, once our write is seen to have come after it.
    let overrun_by = |name: &str| {
        let shown = |name: &str| vec![Value::text(name)];
        let lost = overrun(&jane.flights, SideName::Brevo, &jane.mapping, |_| shown("Zoe"), |_| shown(name));
        lost.into_iter().map(|lost| (lost.lost, lost.kept)).collect::<Vec<_>>()
    };
    assert_eq!(overrun_by("Ann"), [(vec![Value::text("Zoe")], vec![Value::text("Ann")])]);
    assert_eq!((overrun_by("Zoe"), overrun_by("Eve")), (vec![], vec![]));
    // Who goes back in Intercom to what we had sent has edited it.
    jane.record = fields(json!({"name": "Ann"}));
    let plan = jane.plan();
    assert_eq!(plan.change.attributes, BTreeMap::from([("FULLNAME".to_owned(), Value::text("Ann"))]));
    assert!(plan.lost.is_empty());
    // What lands late in Brevo is nobody's edit.
    (jane.record, jane.contact) = (fields(json!({"name": "Zoe"})), contact(json!({"FULLNAME": "Ann"})));
    let settled = settle(&jane.base, &jane.flights, true, &jane.contact, &jane.mapping);
    (jane.base, jane.flights) = (settled.base, settled.flights);
    let plan = jane.plan();
    assert_eq!(plan.change.attributes, BTreeMap::from([("FULLNAME".to_owned(), Value::text("Zoe"))]));
    assert_eq!((plan.lost.len(), plan.lost[0].side), (1, SideName::Brevo));
}

#[test]
fn who_goes_back_after_a_read_has_shown_what_we_wrote_has_edited_it() {
    let mut jane = Both::agreed(NAME, json!({"name": "Jane"}), json!({"FULLNAME": "Jane"}));
    jane.record = fields(json!({"name": "Ann"}));
    jane.send();
    let doubted = |flights: &Flights, shown: &BrevoContact, mapping: &Mapping| {
        is_in_doubt(flights, SideName::Brevo, mapping, |rule| rule.observed(&shown.attributes))
    };
    // The old name may be what a look from before has shown, or a refusal.
    assert!(!doubted(&jane.flights, &jane.contact, &jane.mapping));
    let back = std::mem::replace(&mut jane.contact, contact(json!({"FULLNAME": "Ann"})));
    jane.flights = seen_in_brevos_answer(&jane.flights, &jane.contact.attributes, &jane.mapping);
    assert!(!doubted(&jane.flights, &jane.contact, &jane.mapping));
    jane.contact = back;
    assert!(doubted(&jane.flights, &jane.contact, &jane.mapping) && jane.plan().writes_nothing());
    let settled = settle(&jane.base, &jane.flights, true, &jane.contact, &jane.mapping);
    assert!(settled.edited && settled.refused.is_empty());
    (jane.base, jane.flights) = (settled.base, settled.flights);
    let plan = jane.send();
    assert_eq!(plan.intercom, BTreeMap::from([("name".to_owned(), Value::text("Jane"))]));
}

#[test]
fn a_number_that_has_made_a_contact_was_not_refused() {
    let mut jane = Both::agreed("phone: {to: SMS}", json!({}), json!({}));
    jane.record = fields(json!({"phone": "+4740000000"}));
    let sent = jane.send().change.attributes;
    // One that was sent to a contact with an address, for all that is known, was.
    let settled = settle(&jane.base, &jane.flights, true, &jane.contact, &jane.mapping);
    assert_eq!((settled.edited, settled.refused), (false, vec!["phone -> SMS".to_owned()]));
    jane.flights = std::mem::take(&mut jane.flights).with_number_taken(&jane.mapping);
    let settled = settle(&jane.base, &jane.flights, true, &jane.contact, &jane.mapping);
    assert_eq!((settled.edited, settled.refused), (true, Vec::new()));
    (jane.base, jane.flights) = (settled.base, settled.flights);
    // Somebody has taken it away: it is restored.
    assert_eq!(jane.plan().change.attributes, sent);
}

#[test]
fn what_a_row_of_ours_has_made_is_nobodys_value() {
    let yaml = "{name: {to: [FIRSTNAME, LASTNAME], transform: split_name, on_clear: propagate}, \
                custom_attributes.plan: {to: PLAN}}";
    let mapping = mapping(yaml);
    let write = |sent: &[&str]| {
        let sent = sent.iter().map(|text| Value::text(*text)).collect();
        let write = InFlight { sent, before: vec![None], superseded: vec![], replaces: None, given: false };
        Sides { intercom: None, brevo: Some(write) }
    };
    let of = |attribute: &str| mapping.rules.iter().find(|rule| rule.targets[0].attribute == attribute).unwrap();
    let (name, plan) = (of("FIRSTNAME").key.clone(), of("PLAN").key.clone());
    let flights = Flights {
        fields: BTreeMap::from([(name.clone(), write(&["Cher", "Doe"])), (plan, write(&["Pro"]))]),
        lists: BTreeMap::from([(BrevoListId::new(1), true), (BrevoListId::new(2), true)]),
        ..Flights::default()
    };
    let mut made = contact(json!({"FIRSTNAME": "Cher", "LASTNAME": "Doe", "PLAN": "Free"}));
    made.lists.insert(BrevoListId::new(1));
    // Who was there before is put on the lists, and has none of the fields.
    let there = BrevoContact { lists: made.lists.clone(), ..contact(json!({"FIRSTNAME": "Jane"})) };
    assert!(shows_nothing_of(&flights, &there, &mapping) && !shows_nothing_of(&flights, &made, &mapping));
    let edited = contact(json!({"FIRSTNAME": "Cher", "LASTNAME": "Roe"}));
    assert!(!shows_nothing_of(&flights, &edited, &mapping), "somebody has edited a part of what the row set");
    let base = made_by_row(&flights, &made, &mapping);
    // What has been edited since, and a list that they are not on, are as at a first link.
    assert_eq!(base.fields.keys().collect::<Vec<_>>(), [&name]);
    assert_eq!(base.lists, BTreeMap::from([(BrevoListId::new(1), ListBase { wanted: true, member: true })]));
    // Intercom has no last name: what only the row carried along goes, and is in the conflict log.
    let cher = Both {
        mapping,
        record: fields(json!({"name": "Cher"})),
        contact: made,
        base,
        flights: Flights::default(),
        part: Sides::default(),
        external_id: None,
    };
    let plan = cher.plan();
    assert_eq!(plan.change.attributes.get("LASTNAME"), Some(&None));
    assert_eq!(plan.lost.len(), 1);
}

/// Whoever was put on a list, and that was answered, and was taken off it while a later write had no answer: nobody puts
/// them on it again.
#[test]
fn what_was_answered_is_an_edit_though_a_later_write_has_no_answer() {
    let mut jane = Both::agreed(NAME, json!({"name": "Jane"}), json!({"FULLNAME": "Jane"}));
    let list = BrevoListId::new(1);
    jane.flights.lists.insert(list, true);
    // Without its answer, nobody knows whether it landed: it is planned again.
    let settled = settle(&jane.base, &jane.flights, false, &jane.contact, &jane.mapping);
    assert_eq!(settled.base.lists[&list], ListBase { wanted: false, member: false });
    jane.base.lists.insert(list, ListBase { wanted: true, member: true });
    let mut settled = settle(&jane.base, &jane.flights, false, &jane.contact, &jane.mapping);
    assert_eq!(settled.base.lists[&list], ListBase { wanted: true, member: false });
    assert!(lists_have_moved(&mut settled.base, &jane.flights, &jane.contact, false));
    assert_eq!(settled.base.lists[&list], ListBase { wanted: true, member: true });
}

/// Whoever was taken off a list by a request that was sent twice, and put on it again since, may be taken off it once more by
/// the first of the two: that is nobody's doing, and they are put on it.
#[test]
fn a_request_about_a_list_that_lands_after_the_next_one_is_nobodys_doing() {
    let mut jane = Both::agreed(NAME, json!({"name": "Jane"}), json!({"FULLNAME": "Jane"}));
    let list = BrevoListId::new(1);
    let on = ListBase { wanted: true, member: true };
    jane.base.lists.insert(list, on);
    jane.flights.lists.insert(list, true);
    let settled = |jane: &Both| {
        let mut settled = settle(&jane.base, &jane.flights, true, &jane.contact, &jane.mapping);
        lists_have_moved(&mut settled.base, &jane.flights, &jane.contact, true);
        settled.base.lists[&list]
    };
    jane.flights.repeated.insert((list, true));
    assert_eq!(settled(&jane), on, "what was agreed on: somebody has taken them off");
    jane.flights.repeated.insert((list, false));
    assert_eq!(settled(&jane), ListBase::default(), "as if they had not been wanted there yet");
    jane.contact.lists_left.insert(list);
    assert_eq!(settled(&jane), on, "who unsubscribes from it does that themselves");
}

#[test]
fn a_tag_that_was_given_to_whoever_spoke_before_is_given_to_who_speaks_now() {
    let list = BrevoListId::new(42);
    let both = mapping("{name: FULLNAME, tags: {VIP: {list: 42, direction: brevo_to_intercom}}}");
    let lists: Vec<_> = both.lists.iter().map(|rule| (rule.clone(), list)).collect();
    let (first, second) = (IntercomContactId::new("1"), IntercomContactId::new("2"));
    let agreed = ListBase { wanted: true, member: true };
    let base = Base { lists: BTreeMap::from([(list, agreed)]), spoke: Some(first.clone()), ..Base::default() };
    for (speaks, tags, anew) in
        [(&first, json!({}), false), (&second, json!({"tags": ["VIP"]}), false), (&second, json!({}), true)]
    {
        let mut base = base.clone();
        base.give_tags_to(speaks, &fields(tags), &lists);
        assert_eq!(base.lists[&list] == ListBase::default(), anew);
    }
}

#[test]
fn a_no_that_somebody_brings_is_no_word_of_the_contact_that_they_meet() {
    let brought = ConsentBase { intercom_out: false, brevo_out: true };
    let base = |email: Option<Email>| Base { consent: Some(brought), email, ..Base::default() };
    assert_eq!(base(None).consent_with_contact(true), Some(ConsentBase::NEITHER), "what it says is news");
    assert_eq!(base(None).consent_with_contact(false), None, "as at any first link of a full read");
    let agreed = base(Some(Email::parse("jane@example.com").unwrap()));
    assert_eq!(agreed.consent_with_contact(true), Some(brought));
}
