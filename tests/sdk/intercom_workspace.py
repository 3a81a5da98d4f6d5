"""Intercom's own Python SDK against the sandbox. Run by run.sh, which says in LINKSPAN_SANDBOX where that is."""

import json
import os
import time

from intercom import (
    CreateContactRequestWithEmail,
    Intercom,
    MultipleFilterSearchRequest,
    SingleFilterSearchRequest,
    StartingAfterPaging,
)
from intercom.core.api_error import ApiError

sandbox = json.loads(os.environ["LINKSPAN_SANDBOX"])["intercom"]
client = Intercom(token=sandbox["access_token"], base_url=sandbox["base_url"])


def refused(status, ask):
    try:
        ask()
    except ApiError as error:
        assert error.status_code == status, error
        return error
    raise AssertionError(f"not refused with {status}")


def all_of(search, query, size):
    """Everything that a search finds. The SDK's own pager asks for the first page again and again."""
    found, after = [], None
    for _ in range(1_000):
        page = search(query=query, pagination=StartingAfterPaging(per_page=size, starting_after=after)).response
        found += page.data if hasattr(page, "data") else page.conversations
        if page.pages is None or page.pages.next is None:
            assert page.total_count == len(found), (page.total_count, len(found))
            return found
        assert page.pages.next.starting_after != after
        after = page.pages.next.starting_after
    raise AssertionError("a search without an end")


# Who we are, and who is not.
me = client.admins.identify()
assert me.app.id_code and me.app.timezone, me
refused(401, lambda: Intercom(token="wrong", base_url=sandbox["base_url"]).admins.identify())

# Contacts: a search over several pages, the plain list, one alone.
everybody = SingleFilterSearchRequest(field="created_at", operator=">", value="0")
searched = {contact.id for contact in all_of(client.contacts.search, everybody, 150)}
listed = {contact.id for contact in client.contacts.list(per_page=100)}
assert len(searched) > 300 and searched == listed, (len(searched), len(listed))
day_ago = int(time.time()) - 86_400
since = MultipleFilterSearchRequest(
    operator="OR",
    value=[
        SingleFilterSearchRequest(field="updated_at", operator=">", value=str(day_ago)),
        SingleFilterSearchRequest(field="updated_at", operator="=", value=str(day_ago)),
    ],
)
recent = all_of(client.contacts.search, since, 50)
assert {contact.id for contact in recent} <= searched
email = f"sdk-{time.time_ns()}@example.com"
made = client.contacts.create(request=CreateContactRequestWithEmail(email=email, name="Ada Abel"))
assert made.email == email and made.role == "user", made
found = client.contacts.find(made.id)
assert (found.id, found.email, found.name) == (made.id, email, "Ada Abel")
assert found.location is not None and found.tags is not None and found.companies is not None
conflict = refused(409, lambda: client.contacts.create(request=CreateContactRequestWithEmail(email=email)))
assert made.id in json.dumps(conflict.body, default=str), conflict
refused(404, lambda: client.contacts.find("000000000000000000000000"))
updated = client.contacts.update(made.id, name="Ada Brandt", unsubscribed_from_emails=True)
assert (updated.name, updated.unsubscribed_from_emails) == ("Ada Brandt", True)

# Tags, companies, notes, subscriptions of a contact.
tags = client.tags.list().data
assert tags and all(tag.id and tag.name for tag in tags)
assert client.tags.tag_contact(made.id, tag_id=tags[0].id).id == tags[0].id
assert [tag.id for tag in client.contacts.list_attached_tags(made.id).data] == [tags[0].id]
assert client.tags.untag_contact(made.id, tags[0].id).id == tags[0].id
company = client.companies.create_or_update(request={"company_id": f"sdk-{time.time_ns()}", "name": "Acme"})
assert client.companies.attach_contact(made.id, company_id=company.id).id == company.id
assert [attached.id for attached in client.contacts.list_attached_companies(made.id)] == [company.id]
assert client.companies.find(company.id).name == "Acme"
note = client.notes.create(made.id, body="A note")
assert note.id in [other.id for other in client.notes.list(made.id)]
client.contacts.list_attached_subscriptions(made.id)
client.subscription_types.list()

# Companies: list and scroll show the same.
names = {company.id for company in client.companies.list(per_page=60)}
# The scroll's parameter is the same on every page, and an empty page is its end.
scrolled, page = set(), client.companies.scroll().response
while page is not None and page.data:
    scrolled |= {company.id for company in page.data}
    page = client.companies.scroll(scroll_param=page.scroll_param).response
assert names and names == scrolled, (len(names), len(scrolled))

# Conversations.
talks = all_of(client.conversations.search, everybody, 50)
assert len(talks) > 50 and {talk.id for talk in client.conversations.list(per_page=60)} == {talk.id for talk in talks}
talk = client.conversations.find(talks[0].id)
assert talk.id == talks[0].id and talk.state in ("open", "closed", "snoozed"), talk
assert talk.statistics is not None and talk.contacts.contacts, talk

# Attributes, events.
attributes = client.data_attributes.list(model="contact").data
assert {"email", "name"} <= {attribute.name for attribute in attributes}
assert any(attribute.custom for attribute in attributes)
client.events.create(request={"event_name": "sdk-tried", "created_at": int(time.time()), "email": email})

# The end of a contact.
assert client.contacts.archive(made.id).archived is True
assert client.contacts.unarchive(made.id).archived is False
assert client.contacts.delete(made.id).deleted is True
refused(404, lambda: client.contacts.find(made.id))
print("python-intercom: every call fits")
