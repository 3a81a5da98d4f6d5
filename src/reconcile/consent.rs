//! Consent is not a field like others: what is compared is one bit, may the person be e-mailed or not, and no write of
//! ours ever loosens it.

use minicbor::{Decode, Encode};

/// The accepted state of each side: they may differ (an opt-in stays where the person gave it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ConsentBase {
    /// Intercom said: opted out.
    #[n(0)]
    pub intercom_out: bool,
    /// Brevo said (or accepted): blocklisted.
    #[n(1)]
    pub brevo_out: bool,
}

impl ConsentBase {
    /// Neither side has said no.
    pub const NEITHER: Self = Self { intercom_out: false, brevo_out: false };
}

/// All that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentViews {
    /// Intercom: unsubscribed, bounced or spam, by the strictest member of the address.
    pub intercom_out: bool,
    /// Brevo: blocklisted; `None` when there is no contact there yet.
    pub brevo_out: Option<bool>,
    /// What was accepted last.
    pub base: Option<ConsentBase>,
    /// A write of ours (a rename, an import) or a change of the address by anybody may have lifted Brevo's blocklisting
    /// since we last saw it: Brevo re-subscribes a blocklisted contact whose address changes.
    pub may_be_our_doing: bool,
    /// What is known of Brevo may be from long before what is known of Intercom: no full read has just shown it.
    pub brevo_may_be_old: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentStep {
    /// Blocklist in Brevo, before anything else about this person.
    pub opt_out_in_brevo: bool,
    /// Base once accepted.
    pub base: ConsentBase,
    /// The sides differ and that is accepted: listed for people.
    pub diverges: bool,
}

/// Decides for one channel.
pub fn decide(views: ConsentViews) -> ConsentStep {
    let ConsentViews { intercom_out, brevo_out, base, may_be_our_doing, brevo_may_be_old } = views;
    let shown_out = brevo_out.unwrap_or(false);
    // An opt-out that is new to us, at the first link or later, is pushed.
    let newly_out = intercom_out && base.is_none_or(|base| !base.intercom_out);
    // A blocklisting that went away: the person's own opt-in, unless we or a changed address can have lifted it.
    let lifted = base.is_some_and(|base| base.brevo_out) && !shown_out;
    // Where there is no contact (any more, or yet), nobody can have said yes: whoever comes to be made brings their no.
    let restore = lifted && (may_be_our_doing || brevo_out.is_none());
    // What was seen of Brevo may be minutes old, and the person may have opted in there since, but before opting out
    // here: so a new opt-out is written even where Brevo seems to have one.
    let repeated = newly_out && (base.is_some() || brevo_may_be_old);
    let opt_out_in_brevo = repeated || (!shown_out && (newly_out || restore || (brevo_out.is_none() && intercom_out)));
    let brevo_out = shown_out || opt_out_in_brevo;
    ConsentStep { opt_out_in_brevo, base: ConsentBase { intercom_out, brevo_out }, diverges: intercom_out != brevo_out }
}

/// One Intercom contact of a person's address, as an opt-out in Brevo concerns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberViews {
    /// It counts as opted out.
    pub out: bool,
    /// Its record shows that, or a notice that is newer. It does not where the contact has opted out by a notice, has been
    /// given another address since, and is shown subscribed: whose doing that was nobody knows, and Intercom may mail it.
    pub shown: bool,
    /// And that was a write of ours: it says nothing that Brevo does not know.
    pub ours: bool,
    /// The opt-out that stands in Brevo has reached this contact, or is on its way to it.
    pub told: bool,
}

/// What an opt-out in Brevo leads to for one Intercom contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberStep {
    /// Nothing.
    Nothing,
    /// It is told: opted out in Intercom, before anything else.
    Tell,
    /// It knows: it is out already.
    Known,
    /// There is no opt-out in Brevo any more: the next one is another.
    Forget,
}

/// Decides for one Intercom contact. An opt-out reaches each of them once: what a contact says after that, it says itself,
/// and so does one whose opt-out in Brevo was taken back.
///
/// `brevo_out`: what holds of Brevo once the person's plan is carried out. `own`: Brevo shows it, and no opt-out of ours is on
/// its way there. `base`: what was accepted before it.
pub fn tell(member: MemberViews, brevo_out: bool, own: bool, base: Option<ConsentBase>) -> MemberStep {
    if !brevo_out {
        return if member.told { MemberStep::Forget } else { MemberStep::Nothing };
    }
    if member.told {
        return MemberStep::Nothing;
    }
    // What is known of it may be older than the opt-out in Brevo: it may have opted in since, but before that. An opt-out of
    // its own that Brevo has not been told of (it is held, say) is not what made Brevo's, either.
    let is_news = |base: ConsentBase| !base.brevo_out && (base.intercom_out || own);
    let before_this = member.ours || base.is_some_and(is_news);
    if member.out && member.shown && !before_this { MemberStep::Known } else { MemberStep::Tell }
}

/// Whether the opt-out that Intercom shows is nothing but what we wrote there.
pub fn only_ours(members: &[MemberViews]) -> bool {
    let mut out = members.iter().filter(|member| member.out).peekable();
    out.peek().is_some() && out.all(|member| member.ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(out: bool, told: bool) -> MemberViews {
        MemberViews { out, shown: out, ours: false, told }
    }

    #[test]
    fn an_opt_out_in_brevo_reaches_each_member_once() {
        let before = Some(ConsentBase { intercom_out: false, brevo_out: false });
        assert_eq!(tell(member(false, false), true, true, before), MemberStep::Tell);
        assert_eq!(tell(member(false, true), true, true, before), MemberStep::Nothing, "their own opt-in since");
        assert_eq!(tell(member(false, false), true, true, None), MemberStep::Tell, "the stricter wins");
        assert_eq!(tell(member(true, false), true, true, None), MemberStep::Known);
        assert_eq!(tell(member(true, false), true, false, before), MemberStep::Known, "theirs is what made it");
        assert_eq!(tell(member(false, true), false, false, before), MemberStep::Forget);
        assert_eq!(tell(member(false, false), false, false, before), MemberStep::Nothing);
    }

    #[test]
    fn an_opt_out_in_brevo_does_not_trust_an_old_look_at_intercom() {
        let accepted = Some(ConsentBase { intercom_out: true, brevo_out: false });
        assert_eq!(tell(member(true, false), true, true, accepted), MemberStep::Tell, "they may have opted in since");
        let by_notice = MemberViews { shown: false, ..member(true, false) };
        let before = Some(ConsentBase { intercom_out: true, brevo_out: true });
        assert_eq!(tell(by_notice, true, true, before), MemberStep::Tell, "its record shows it subscribed");
        let ours = MemberViews { ours: true, ..member(true, false) };
        let neither = Some(ConsentBase { intercom_out: false, brevo_out: false });
        assert_eq!(tell(ours, true, false, neither), MemberStep::Tell);
        assert_eq!(tell(member(true, false), true, true, neither), MemberStep::Tell, "Brevo's is not made by theirs");
    }

    #[test]
    fn what_we_wrote_to_intercom_is_no_news_for_brevo() {
        let ours = MemberViews { ours: true, ..member(true, true) };
        assert!(only_ours(&[ours]) && only_ours(&[ours, member(false, true)]));
        assert!(!only_ours(&[]) && !only_ours(&[member(false, false)]) && !only_ours(&[ours, member(true, true)]));
    }

    fn views(intercom_out: bool, brevo_out: Option<bool>, base: Option<(bool, bool)>) -> ConsentViews {
        let base = base.map(|(intercom_out, brevo_out)| ConsentBase { intercom_out, brevo_out });
        ConsentViews { intercom_out, brevo_out, base, may_be_our_doing: false, brevo_may_be_old: false }
    }

    #[test]
    fn an_opt_out_in_intercom_reaches_brevo_once() {
        let step = decide(views(true, Some(false), Some((false, false))));
        assert!(step.opt_out_in_brevo && !step.diverges);
        assert!(!decide(views(true, Some(true), Some((true, true)))).opt_out_in_brevo);
        assert!(decide(views(true, None, None)).opt_out_in_brevo, "it rides in the creating request");
    }

    #[test]
    fn a_new_opt_out_does_not_trust_an_old_look_at_brevo() {
        let step = decide(views(true, Some(true), Some((false, true))));
        assert!(step.opt_out_in_brevo, "they may have opted in in Brevo meanwhile");
        assert!(!decide(views(true, Some(true), Some((true, true)))).opt_out_in_brevo, "but only once");
        let linked = views(true, Some(true), None);
        assert!(!decide(linked).opt_out_in_brevo, "at the first link of a full read both are as just read");
        assert!(decide(ConsentViews { brevo_may_be_old: true, ..linked }).opt_out_in_brevo, "but not of a webhook");
    }

    #[test]
    fn at_the_first_link_the_stricter_wins_and_brevos_own_opt_out_stands() {
        assert!(decide(views(true, Some(false), None)).opt_out_in_brevo);
        let step = decide(views(false, Some(true), None));
        assert!(!step.opt_out_in_brevo && step.diverges && step.base.brevo_out);
    }

    #[test]
    fn an_opt_in_stays_where_it_was_given() {
        let step = decide(views(true, Some(false), Some((true, true))));
        assert!(!step.opt_out_in_brevo && step.diverges, "their own opt-in in Brevo");
        let again = decide(ConsentViews { base: Some(step.base), ..views(true, Some(false), None) });
        assert!(!again.opt_out_in_brevo, "and not reverted later");
        let step = decide(views(false, Some(true), Some((true, true))));
        assert!(!step.opt_out_in_brevo && step.base.brevo_out, "an opt-in in Intercom is not carried across");
    }

    #[test]
    fn a_blocklisting_that_we_may_have_lifted_is_put_back() {
        let lifted = ConsentViews { may_be_our_doing: true, ..views(true, Some(false), Some((true, true))) };
        assert!(decide(lifted).opt_out_in_brevo);
        let brevos_own = ConsentViews { may_be_our_doing: true, ..views(false, Some(false), Some((false, true))) };
        assert!(decide(brevos_own).opt_out_in_brevo, "whoever opted out, and wherever");
    }

    #[test]
    fn who_is_made_brings_the_no_that_they_had() {
        assert!(decide(views(false, None, Some((false, true)))).opt_out_in_brevo);
        assert!(!decide(views(false, None, Some((false, false)))).opt_out_in_brevo);
        assert!(!decide(views(false, None, None)).opt_out_in_brevo);
    }

    proptest! {
        /// Whatever the views: where Brevo says no, every member that was not told is told or knows, and then nothing more
        /// is ever said, whatever it shows; where Brevo does not say no, nobody is told anything.
        #[test]
        fn each_is_told_once(
            out: bool, ours: bool, told: bool, shows: bool, brevo: bool, own: bool, base: Option<(bool, bool)>,
        ) {
            let base = base.map(|(intercom_out, brevo_out)| ConsentBase { intercom_out, brevo_out });
            let step = tell(MemberViews { out, shown: out, ours: ours && out, told }, brevo, own, base);
            prop_assert_eq!(step == MemberStep::Tell || step == MemberStep::Known, brevo && !told);
            prop_assert!(step != MemberStep::Known || out);
            let told = match step {
                MemberStep::Tell | MemberStep::Known => true,
                MemberStep::Forget => false,
                MemberStep::Nothing => told,
            };
            let again = tell(MemberViews { out: shows, shown: shows, ours: false, told }, brevo, own, base);
            prop_assert_eq!(again, MemberStep::Nothing, "settled, whatever it shows next");
        }

        /// Whatever the views: base after never says "may be e-mailed" about a contact that shows blocklisted.
        #[test]
        fn never_looser(i: bool, b: Option<bool>, base: Option<(bool, bool)>, ours: bool, old: bool) {
            let step = decide(ConsentViews { may_be_our_doing: ours, brevo_may_be_old: old, ..views(i, b, base) });
            prop_assert!(step.base.brevo_out || b != Some(true));
            let again = decide(ConsentViews {
                base: Some(step.base), brevo_out: Some(step.base.brevo_out), intercom_out: i, may_be_our_doing: ours,
                brevo_may_be_old: old,
            });
            prop_assert!(!again.opt_out_in_brevo, "settled after one write");
        }
    }
}
