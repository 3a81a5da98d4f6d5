//! Pages of companies. Brevo says "page: index of the first document of the page", names neither the first index nor the
//! largest page, and tells no total: so whether pages count from 0 or from 1, or are offsets after all, is found out by
//! looking.

use super::super::client::{Ask, BrevoClient, OTHER, encode};
use super::super::{errors, read, wire};
use crate::http::server_time;
use crate::model::{BrevoCompanyId, Cursor, ErrorKind, Observation, ReadPage, ReadRequest, Scope, SideError, SideName};
use serde::{Deserialize, Serialize};

/// The most that one page is asked for.
const A_PAGE: u64 = 500;
/// A page with fewer than this is the last: no list of Brevo's is known that gives fewer than asked for and less than this.
const SHORTEST_CUT: usize = 50;

/// Where a sweep stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Position {
    page: u64,
    counts: Counts,
}

/// What the numbers of pages count.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Counts {
    /// Not known yet: the first and second companies of the first page.
    Unknown(BrevoCompanyId, Option<BrevoCompanyId>),
    /// Pages.
    Pages,
    /// Companies.
    Companies,
}

impl BrevoClient {
    pub(in super::super) async fn read_companies(&self, request: &ReadRequest) -> Result<ReadPage, Box<SideError>> {
        let at: Option<Position> = match &request.cursor {
            None => None,
            Some(cursor) => Some(serde_json::from_str(&cursor.0).map_err(|_| {
                SideError::new(SideName::Brevo, ErrorKind::LostCursor, "a cursor that Brevo's room did not make")
            })?),
        };
        let since = |name: &str, instant| format!("&{name}={}", encode(&read::since(instant)));
        let filter = match request.scope {
            Scope::Full => String::new(),
            Scope::Since(instant) => since("modifiedSince", instant),
            Scope::CreatedSince(instant) => since("createdSince", instant),
        };
        let target = |page: u64| format!("/companies?limit={A_PAGE}&page={page}&sort=asc{filter}");
        let page = at.as_ref().map_or(0, |at| at.page);
        let answer = match self.send(Ask::get(target(page), OTHER, request.priority)).await {
            // Counted from 1, and strict about it.
            Err(error) if page == 0 && matches!(error.kind, ErrorKind::Rejected { .. }) => {
                self.send(Ask::get(target(1), OTHER, request.priority)).await?
            }
            answer => answer?,
        };
        let tree = read::json(&answer)?;
        let (rows, _) = wire::rows(tree.root(), "items").ok_or_else(|| errors::malformed(&answer))?;
        let companies: Vec<_> = rows.iter().filter_map(|row| self.company_of(*row)).collect();
        if companies.len() < rows.len() {
            tracing::warn!(skipped = rows.len() - companies.len(), "Brevo sent companies without an id");
        }
        let id = |index: usize| companies.get(index).map(|company| company.id.clone());
        let count = rows.len() as u64;
        let next = match (at.map(|at| at.counts), id(0)) {
            _ if rows.len() < SHORTEST_CUT => None,
            (_, None) => None,
            (None, Some(first)) => Some(Position { page: page + 1, counts: Counts::Unknown(first, id(1)) }),
            (Some(Counts::Unknown(_, second)), first) if second.is_some() && first == second => {
                Some(Position { page: page.saturating_add(count), counts: Counts::Companies })
            }
            // The same as before: 0 and 1 are one page. Or another page: they count from 0. Either way, on by one.
            (Some(Counts::Unknown(..) | Counts::Pages), _) => Some(Position { page: page + 1, counts: Counts::Pages }),
            (Some(Counts::Companies), _) => {
                Some(Position { page: page.saturating_add(count), counts: Counts::Companies })
            }
        };
        let next = next.and_then(|next| serde_json::to_string(&next).ok()).map(Cursor);
        let observations = companies.into_iter().map(|company| Observation::BrevoCompany(Box::new(company))).collect();
        // The second page may be the first once more.
        let repeats_are_errors = page > 1;
        Ok(ReadPage { observations, next, total: None, server_time: server_time(answer.headers()), repeats_are_errors })
    }
}
