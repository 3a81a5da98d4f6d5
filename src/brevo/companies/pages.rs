//! Pages of companies. Brevo says "page: index of the first document of the page", names neither the first index nor the
//! largest page, and tells no total: so whether pages count from 0 or from 1, or are offsets after all, how many come at
//! most, and whether so many may be asked for, is found out by looking.

use super::super::client::{Ask, BrevoClient, OTHER, encode};
use super::super::{errors, read, wire};
use crate::http::server_time;
use crate::model::{BrevoCompanyId, Cursor, ErrorKind, Observation, ReadPage, ReadRequest, Scope, SideError, SideName};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;

/// The most that one page is asked for.
pub(in super::super) const A_PAGE: u64 = 500;
/// So many are asked for where those are refused: what lists of Brevo's give at most elsewhere.
const A_SMALL_PAGE: u64 = 50;

/// Where a sweep stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Position {
    page: u64,
    counts: Counts,
    /// So many are asked for.
    limit: u64,
    /// So many came with the first page: one with fewer is the last.
    first: u64,
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
        let ask = |page: u64, limit: u64| {
            let target = format!("/companies?limit={limit}&page={page}&sort=asc{filter}");
            self.send(Ask::get(target, OTHER, request.priority))
        };
        let page = at.as_ref().map_or(0, |at| at.page);
        let mut limit = at.as_ref().map_or_else(|| self.companies_a_page.load(Relaxed), |at| at.limit);
        let refused = |answer: &Result<_, Box<SideError>>| matches!(answer, Err(error) if page == 0 && matches!(error.kind, ErrorKind::Rejected { .. }));
        let mut answer = ask(page, limit).await;
        if refused(&answer) {
            // Counted from 1, and strict about it.
            answer = ask(1, limit).await;
        }
        if refused(&answer) {
            // Or so many are not given at once: they are not asked for again.
            limit = A_SMALL_PAGE;
            answer = ask(page, limit).await;
            if refused(&answer) {
                answer = ask(1, limit).await;
            }
        }
        let answer = answer?;
        self.companies_a_page.store(limit, Relaxed);
        let tree = read::json(&answer)?;
        let (rows, _) = wire::rows(tree.root(), "items").ok_or_else(|| errors::malformed(&answer))?;
        let companies: Vec<_> = rows.iter().filter_map(|row| self.company_of(*row)).collect();
        if companies.len() < rows.len() {
            tracing::warn!(skipped = rows.len() - companies.len(), "Brevo sent companies without an id");
        }
        let id = |index: usize| companies.get(index).map(|company| company.id.clone());
        let count = rows.len() as u64;
        // Of what is asked for, Brevo may give fewer: how many it gives at most shows with the first page.
        let first = at.as_ref().map_or(count, |at| at.first);
        let on = |page: u64, counts: Counts| Some(Position { page, counts, limit, first });
        let next = match (at.map(|at| at.counts), id(0)) {
            (_, None) => None,
            // No list of Brevo's is known that gives fewer than asked for and less than this. Should this be one, what a
            // read of changes leaves out is found by the next full read, which looks.
            (None, _) if count < A_SMALL_PAGE && request.scope != Scope::Full => None,
            (None, Some(first)) => on(page + 1, Counts::Unknown(first, id(1))),
            _ if count < first => None,
            (Some(Counts::Unknown(_, second)), first) if second.is_some() && first == second => {
                on(page.saturating_add(count), Counts::Companies)
            }
            // The same as before: 0 and 1 are one page. Or another page: they count from 0. Either way, on by one.
            (Some(Counts::Unknown(..) | Counts::Pages), _) => on(page + 1, Counts::Pages),
            (Some(Counts::Companies), _) => on(page.saturating_add(count), Counts::Companies),
        };
        let next = next.and_then(|next| serde_json::to_string(&next).ok()).map(Cursor);
        let observations = companies.into_iter().map(|company| Observation::BrevoCompany(Box::new(company))).collect();
        // The second page may be the first once more.
        let repeats_are_errors = page > 1;
        Ok(ReadPage { observations, next, total: None, server_time: server_time(answer.headers()), repeats_are_errors })
    }
}
