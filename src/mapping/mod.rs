//! stub
#![allow(missing_docs)]
use crate::model::*;
pub enum OnClear { Keep, Propagate }
pub enum OnDrift { Restore, Leave }
#[derive(Debug,Clone,PartialEq)]
pub struct FieldProblem { pub field: String, pub message: String, pub help: Option<String> }
pub enum Projection { NotApplicable, Cells(Vec<Option<Value>>), Problem(FieldProblem) }
pub struct Target { pub attribute: String, pub kind: AttributeKind, pub options: Vec<(String,String)> }
pub struct FieldRule { pub key: String, pub source: String, pub targets: Vec<Target>, pub on_clear: OnClear, pub on_drift: OnDrift, pub fingerprint: String }
impl FieldRule {
 pub fn source_value(&self, _r: &Fields) -> Option<Value> { None }
 pub fn project(&self, _r: &Fields) -> Projection { Projection::NotApplicable }
 pub fn observed(&self, _a: &Fields) -> Vec<Option<Value>> { vec![] }
}
pub enum ListName { Id(BrevoListId), Name(String) }
#[derive(Debug)]
pub struct ListRule { pub key: String }
impl ListRule { pub fn holds(&self, _r: &Fields) -> bool { false } }
pub struct Mapping { pub rules: Vec<FieldRule>, pub lists: Vec<ListRule> }
