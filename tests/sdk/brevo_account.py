"""Brevo's own Python SDK against the sandbox. Run by run.sh, which says in LINKSPAN_SANDBOX where that is."""

import datetime
import json
import os
import time

from brevo import Brevo
from brevo.core.api_error import ApiError

sandbox = json.loads(os.environ["LINKSPAN_SANDBOX"])["brevo"]
client = Brevo(api_key=sandbox["api_key"], base_url=sandbox["base_url"])


def refused(status, ask):
    try:
        ask()
    except ApiError as error:
        assert error.status_code == status, error
        return error
    raise AssertionError(f"not refused with {status}")


def body(error):
    """The body of a refusal, whether the SDK parsed it or not."""
    return json.dumps(error.body.model_dump() if hasattr(error.body, "model_dump") else error.body, default=str)


# Who we are, and who is not.
account = client.account.get_account()
assert account.organization_id and account.email and account.plan, account
refused(401, lambda: Brevo(api_key="wrong", base_url=sandbox["base_url"]).account.get_account())

# Attributes.
run = str(time.time_ns())
number = f"SDK_{run}"
client.contacts.create_attribute("normal", number, type="float")
client.contacts.create_attribute(
    "category", f"{number}_C", enumeration=[{"value": 1, "label": "Trial"}, {"value": 2, "label": "Customer"}]
)
client.contacts.create_attribute("normal", f"{number}_M", type="multiple-choice", multi_category_options=["a", "b"])
client.contacts.update_attribute("normal", f"{number}_M", multi_category_options=["a", "b", "c"])
attributes = {attribute.name: attribute for attribute in client.contacts.get_attributes().attributes}
assert attributes[number].type == "float" and attributes[f"{number}_C"].category == "category"
assert "FIRSTNAME" in attributes
assert {item.label for item in attributes[f"{number}_C"].enumeration} == {"Trial", "Customer"}

# Folders and lists.
folder = client.contacts.create_folder(name="SDK").id
assert folder in {other.id for other in client.contacts.get_folders(limit=50, offset=0).folders}
list_id = client.contacts.create_list(name=f"SDK {run}", folder_id=folder).id
lists = client.contacts.get_lists(limit=50, offset=0, sort="asc")
assert lists.count >= 2 and list_id in {other.id for other in lists.lists}
assert client.contacts.get_list(list_id).folder_id == folder

# Contacts.
email, phone = f"sdk-{run}@example.com", "+336" + run[-8:]
made = client.contacts.create_contact(
    email=email,
    ext_id=f"sdk-{run}",
    attributes={"FIRSTNAME": "Ada", "SMS": phone, number: 4.5, f"{number}_C": "Trial", f"{number}_M": ["a", "b"]},
    list_ids=[list_id],
    email_blacklisted=True,
    update_enabled=False,
)
assert made.id
duplicate = refused(400, lambda: client.contacts.create_contact(email=email, update_enabled=False))
assert "duplicate_parameter" in body(duplicate) and "email" in body(duplicate), body(duplicate)
for identifier, kind in [
    (str(made.id), "contact_id"),
    (email, "email_id"),
    (f"sdk-{run}", "ext_id"),
    (phone.lstrip("+"), "phone_id"),
]:
    found = client.contacts.get_contact_info(identifier, identifier_type=kind)
    assert (found.id, found.email, found.email_blacklisted) == (made.id, email, True), found
assert found.list_ids == [list_id], found
refused(404, lambda: client.contacts.get_contact_info("nobody@example.com", identifier_type="email_id"))
client.contacts.update_contact(
    str(made.id), identifier_type="contact_id", attributes={"FIRSTNAME": "Grete"}, unlink_list_ids=[list_id]
)
found = client.contacts.get_contact_info(str(made.id), identifier_type="contact_id")
assert found.list_ids == [] and dict(found.attributes)["FIRSTNAME"] == "Grete", found

# An import with one bad row, and its process.
started = client.contacts.import_contacts(
    json_body=[
        {"email": f"row{row}-{run}@example.com", "attributes": {"FIRSTNAME": f"Row {row}"}} for row in range(60)
    ]
    + [{"email": "not an address", "attributes": {}}],
    list_ids=[list_id],
    update_existing_contacts=False,
    disable_notification=True,
)
deadline = time.time() + 30
while (process := client.process.get_process(started.process_id)).status != "completed":
    assert process.status in ("queued", "in_process", "processing") and time.time() < deadline, process
    time.sleep(0.5)
assert process.info.import_.invalid_emails.endswith(".csv"), process
assert started.process_id in {other.id for other in client.process.get_processes(limit=10, offset=0).processes}

# Pages.
seen, offset = [], 0
while (page := client.contacts.get_contacts(limit=25, offset=offset, sort="asc")).contacts:
    seen += [contact.id for contact in page.contacts]
    offset += len(page.contacts)
assert len(seen) == len(set(seen)) == page.count >= 61, (len(seen), page.count)
since = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
assert client.contacts.get_contacts(limit=1000, offset=0, modified_since=since).count == 0
members = client.contacts.get_contacts_from_list(list_id, limit=500)
assert members.count == 60, members.count

# Membership.
changed = client.contacts.add_contact_to_list(list_id, request={"ids": [made.id, 999_999_999]})
assert made.id in changed.contacts.success and 999_999_999 in changed.contacts.failure, changed
refused(400, lambda: client.contacts.add_contact_to_list(list_id, request={"ids": [made.id]}))
changed = client.contacts.remove_contact_from_list(list_id, request={"ids": [made.id]})
assert changed.contacts.success == [made.id], changed

# Events.
now = datetime.datetime.now(datetime.timezone.utc)
identifiers = {"contact_id": made.id}
client.event.create_event(event_name="sdk_tried", identifiers=identifiers, event_date=now, event_properties={"k": "v"})
event = {"event_name": "sdk_tried", "identifiers": identifiers, "event_date": now.isoformat(), "event_properties": {}}
assert client.event.create_batch_events(events=[event, event]).count == 2
assert client.event.get_events(contact_id=[made.id]).count == 3

# Companies and webhooks, which come later.
company = client.companies.create_a_company(name=f"Acme {run}")
client.companies.link_and_unlink_company_with_contact_and_deal(company.id, link_contact_ids=[made.id])
assert client.companies.get_a_company(company.id).id == company.id
assert company.id in {other.id for other in client.companies.get_all_companies(limit=50, page=1).items}
client.companies.delete_a_company(company.id)
webhook = client.webhooks.create_webhook(
    url="https://linkspan.example/webhooks/brevo", events=["contactUpdated", "unsubscribed"], type="marketing"
)
assert client.webhooks.get_webhook(webhook.id).url == "https://linkspan.example/webhooks/brevo"
assert webhook.id in {other.id for other in client.webhooks.get_webhooks(type="marketing").webhooks}
client.webhooks.update_webhook(webhook.id, events=["contactDeleted"])
client.webhooks.delete_webhook(webhook.id)

# The end of a contact.
client.contacts.delete_contact(str(made.id), identifier_type="contact_id")
refused(404, lambda: client.contacts.get_contact_info(str(made.id), identifier_type="contact_id"))
print("brevo-python: every call fits")
