//! What is changed at Intercom: nothing. It is only read; [`crate::model::ErrorKind::Unsupported`] says so before
//! anything leaves.

use crate::model::{ErrorKind, SideError, SideName, Write};

/// The answer to any write.
pub(super) fn refuse(write: &Write) -> Box<SideError> {
    let what = match write {
        Write::CreateContact(_) => "creating a contact",
        Write::UpdateContact(..) => "changing a contact",
        Write::Import(_) => "importing contacts",
        Write::AddToList(..) | Write::RemoveFromList(..) | Write::CreateList(_) => "changing lists",
        Write::SendEvents(_) => "sending events",
        Write::CreateAttribute(_) | Write::SetAttributeOptions(_) => "changing attributes",
    };
    SideError::new(SideName::Intercom, ErrorKind::Unsupported, format!("Intercom is only read: {what} is not possible"))
}
