//! Fills the workspace.
use super::IntercomSandbox;
/// How the world is mixed.
#[derive(Debug, Clone, PartialEq)]
pub struct WorldOptions {}
/// What is true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {}
impl IntercomSandbox {}
