//! Where the real API is not as its own description (2.11) says.

const NULL_STATISTIC: &str = "each of the statistics is null until what it counts has happened";
const NULL_EMAIL: &str = "a contact without an e-mail shows null (or an empty text); the schema says text";
const NULL_COMPANY: &str = "live companies show null here while it is unset; the schema says a value is required";
const UNSET_COMPANY: &str = "absent while unset, as in the description's own examples; the schema requires it";
const NULL_RATING: &str = "null in the description's own list example; the schema says an object";

/// (operation, where, the fact).
///
/// The operation is `METHOD /path` with the description's own names of parameters, or `*` for every one. Where: the end
/// of a JSON pointer (`*` is any index); or a status that the operation does not list. For a property that is required
/// but missing it is the pointer that it would have.
pub const DEVIATIONS: &[(&str, &str, &str)] = &[
    ("GET /contacts", "/data/*/email", NULL_EMAIL),
    ("POST /contacts/search", "/data/*/email", NULL_EMAIL),
    ("GET /companies/{company_id}/contacts", "/data/*/email", NULL_EMAIL),
    ("POST /contacts", "/email", NULL_EMAIL),
    ("GET /contacts/{contact_id}", "/email", NULL_EMAIL),
    ("PUT /contacts/{contact_id}", "/email", NULL_EMAIL),
    ("POST /contacts/merge", "/email", NULL_EMAIL),
    ("POST /contacts", "409", "an existing match is answered with 409 and the id in the message"),
    ("GET /contacts/{contact_id}", "404", "recorded: \"User Not Found\" for unknown, archived and deleted ids"),
    ("PUT /contacts/{contact_id}", "404", "as for GET"),
    ("PUT /contacts/{contact_id}", "400", "recorded: \"Contact with user role can't be converted to a lead\""),
    ("PUT /contacts/{contact_id}", "409", "an e-mail or external_id that somebody else has"),
    ("DELETE /contacts/{contact_id}", "404", "as for GET"),
    ("POST /contacts/{contact_id}/archive", "404", "as for GET"),
    ("POST /contacts/{contact_id}/unarchive", "400", "recorded: who was deleted or merged is not restorable"),
    ("POST /contacts/search", "400", "a bad field, operator, page size or cursor"),
    ("POST /contacts/search", "422", "an operator that dates do not have; what production answers"),
    ("*", "406", "an Accept header without application/json"),
    ("*", "429", "limits hold for every endpoint"),
    ("GET /companies/{company_id}/contacts", "/pages/next", "a URL as text on some lists, an object on others"),
    ("GET /companies", "*", "with company_id or name a single company is given, not a list"),
    ("GET /companies", "/data/*/remote_created_at", NULL_COMPANY),
    ("GET /companies", "/data/*/last_request_at", NULL_COMPANY),
    ("GET /companies", "/data/*/name", NULL_COMPANY),
    ("*", "/remote_created_at", NULL_COMPANY),
    ("*", "/last_request_at", NULL_COMPANY),
    ("POST /companies", "/name", NULL_COMPANY),
    ("PUT /companies/{company_id}", "/name", NULL_COMPANY),
    ("GET /companies/{company_id}", "/name", NULL_COMPANY),
    ("GET /companies/scroll", "/data/*/name", NULL_COMPANY),
    ("POST /companies/list", "/data/*/name", NULL_COMPANY),
    ("GET /contacts/{contact_id}/companies", "/data/*/name", NULL_COMPANY),
    ("POST /contacts/{contact_id}/companies", "/name", NULL_COMPANY),
    ("*", "/size", UNSET_COMPANY),
    ("*", "/website", UNSET_COMPANY),
    ("*", "/industry", UNSET_COMPANY),
    ("GET /companies/scroll", "/pages", "always null on a scroll"),
    ("GET /companies/scroll", "400", "scroll_exists: one open scroll per workspace"),
    ("GET /companies/scroll", "404", "a scroll that has expired, or (seen by one connector) is at its end"),
    ("POST /companies/list", "400", "page limit reached after 10,000 companies"),
    ("*", "/conversation_rating", NULL_RATING),
    ("*", "/conversation_rating/remark", "a rating without words has a null remark"),
    ("*", "/conversation_rating/teammate", "nobody is rated where only the AI agent answered"),
    ("*", "/statistics/time_to_assignment", NULL_STATISTIC),
    ("*", "/statistics/time_to_admin_reply", NULL_STATISTIC),
    ("*", "/statistics/time_to_first_close", NULL_STATISTIC),
    ("*", "/statistics/time_to_last_close", NULL_STATISTIC),
    ("*", "/statistics/median_time_to_reply", NULL_STATISTIC),
    ("*", "/statistics/first_contact_reply_at", NULL_STATISTIC),
    ("*", "/statistics/first_assignment_at", NULL_STATISTIC),
    ("*", "/statistics/first_admin_reply_at", NULL_STATISTIC),
    ("*", "/statistics/first_close_at", NULL_STATISTIC),
    ("*", "/statistics/last_assignment_at", NULL_STATISTIC),
    ("*", "/statistics/last_assignment_admin_reply_at", NULL_STATISTIC),
    ("*", "/statistics/last_contact_reply_at", NULL_STATISTIC),
    ("*", "/statistics/last_admin_reply_at", NULL_STATISTIC),
    ("*", "/statistics/last_close_at", NULL_STATISTIC),
    ("*", "/statistics/last_closed_by_id", NULL_STATISTIC),
    ("*", "/sla_applied", "null in the description's own list example; the schema says an object"),
    ("*", "/first_contact_reply", "null in the description's own list example; the schema says an object"),
    ("*", "/ai_agent", "null in the description's own list example; the schema says an object"),
    ("*", "/title", "null in the description's own list example"),
    ("GET /tags", "/data/*/applied_at", "only tagging operations have it; the list's own example has id and name"),
    ("GET /tags", "/data/*/applied_by", "only tagging operations have it; the list's own example has id and name"),
    ("GET /events", "*", "without summary=true the events themselves are given (event.list)"),
    ("POST /contacts/{contact_id}/companies", "400", "company not specified, or more than 1,000 companies"),
];

/// The fact that excuses a deviation of `operation` at `place` (a JSON pointer, or a status), if there is one.
pub fn deviates(operation: &str, place: &str) -> Option<&'static str> {
    let fits = |pattern: &str| {
        if pattern == "*" || pattern == place {
            return true;
        }
        if !pattern.starts_with('/') {
            return false;
        }
        let (pattern, place) = (pattern.rsplit('/'), place.rsplit('/').map(Some).chain(std::iter::repeat(None)));
        pattern.zip(place).all(|(want, have)| want.is_empty() || have.is_some_and(|have| want == "*" || want == have))
    };
    DEVIATIONS.iter().find(|(of, at, _)| (*of == "*" || *of == operation) && fits(at)).map(|(.., fact)| *fact)
}
