//! Before the first write: which fields companies have on either side, and what must be made first.

use super::ReadyFirms;
use crate::engine::{Connection, EngineError, Settings};
use crate::mapping::{Misfit, Resolution};
use crate::model::{
    Attribute, AttributeKind, AttributeSpec, BrevoCompany, ErrorKind, Priority, SideError, SideName, Write,
};

/// What both accounts have, and what the mapping makes of it.
pub(in crate::engine) struct Found {
    resolution: Resolution,
    /// Attributes to make in Brevo.
    create: Vec<AttributeSpec>,
    made_in_intercom: Vec<AttributeSpec>,
}

/// The mapping fitted to what is there. Whose options a mapping does not name has those that it has: none are added.
fn fit(settings: &Settings, brevo: &[Attribute], intercom: &[Attribute]) -> Option<(Resolution, Vec<AttributeSpec>)> {
    let mapping = settings.companies.as_ref()?;
    let made_in_intercom = mapping.missing_in_intercom(brevo, intercom);
    let mut intercom = intercom.to_vec();
    intercom.extend(made_in_intercom.iter().map(AttributeSpec::as_attribute));
    let mut resolution = mapping.resolve(brevo, &intercom);
    for rule in &mut resolution.mapping.rules {
        let chosen = |kind: &AttributeKind| matches!(kind, AttributeKind::Category | AttributeKind::MultipleChoice);
        if let Some(target) = rule.targets.iter().find(|target| chosen(&target.kind))
            && rule.options.is_empty()
        {
            rule.options = target.options.iter().map(|(label, _)| label.clone()).collect();
        }
    }
    Some((resolution, made_in_intercom))
}

impl Connection {
    /// Looks at both accounts. What does not fit is added to what else does not.
    pub(in crate::engine) async fn look_at_companies(
        &self,
        settings: &Settings,
        misfits: &mut Vec<Misfit>,
    ) -> Result<Option<Found>, EngineError> {
        if settings.companies.is_none() {
            return Ok(None);
        }
        let (brevo, intercom) = tokio::try_join!(self.brevo.company_attributes(), self.intercom.company_attributes())?;
        let Some((mut resolution, made_in_intercom)) = fit(settings, &brevo, &intercom) else { return Ok(None) };
        misfits.append(&mut resolution.clashes);
        misfits.extend(resolution.mapping.misdirections());
        for doubt in &resolution.doubts {
            tracing::warn!(help = doubt.help.as_deref().unwrap_or_default(), "companies: {doubt}");
        }
        for attribute in &resolution.set_options {
            tracing::warn!(
                attribute = %attribute.name,
                "an attribute of Brevo's companies lacks options that the mapping names: add them in Brevo"
            );
        }
        let mut create = std::mem::take(&mut resolution.create);
        match brevo.iter().find(|attribute| attribute.name == BrevoCompany::OURS) {
            Some(ours) if ours.kind != AttributeKind::Text || !ours.writable => {
                let words = format!(
                    "the company attribute “{}” is there and is not text: rename it in Brevo, and it is made anew",
                    BrevoCompany::OURS_LABEL
                );
                return Err(SideError::new(SideName::Brevo, ErrorKind::Unsupported, words).into());
            }
            Some(_) => {}
            None => create.push(AttributeSpec {
                name: BrevoCompany::OURS.to_owned(),
                kind: AttributeKind::Text,
                options: Vec::new(),
            }),
        }
        Ok(Some(Found { resolution, create, made_in_intercom }))
    }

    /// Makes what is missing, and reads back how Brevo calls it.
    pub(in crate::engine) async fn ready_for_companies(
        &self,
        settings: &Settings,
        found: Found,
        dry_run: bool,
    ) -> Result<ReadyFirms, EngineError> {
        let Found { resolution, create, made_in_intercom } = found;
        let missing: Vec<String> = create.iter().map(|spec| spec.name.clone()).collect();
        if dry_run || (create.is_empty() && made_in_intercom.is_empty()) {
            return Ok(ReadyFirms::new(resolution.mapping, missing, settings.company_filter.clone()));
        }
        for spec in made_in_intercom {
            tracing::info!(attribute = %spec.name, kind = spec.kind.name(), "creating an Intercom attribute");
            self.intercom.write(&Write::CreateAttribute(spec), Priority::Live).await?;
        }
        for spec in create {
            tracing::info!(attribute = %spec.name, kind = spec.kind.name(), "creating an attribute of Brevo's companies");
            self.brevo.write(&Write::CreateCompanyAttribute(spec), Priority::Live).await?;
        }
        let (brevo, intercom) = tokio::try_join!(self.brevo.company_attributes(), self.intercom.company_attributes())?;
        let lacking: Vec<&String> =
            missing.iter().filter(|name| brevo.iter().all(|attribute| attribute.name != **name)).collect();
        if let Some(name) = lacking.first() {
            // Without it nothing could be told apart, and each start would make all companies anew.
            let words = format!("the company attribute {name} was made, and is not listed");
            return Err(SideError::new(SideName::Brevo, ErrorKind::Malformed, words).into());
        }
        let resolution = fit(settings, &brevo, &intercom).map_or(resolution, |(resolution, _)| resolution);
        Ok(ReadyFirms::new(resolution.mapping, Vec::new(), settings.company_filter.clone()))
    }
}
