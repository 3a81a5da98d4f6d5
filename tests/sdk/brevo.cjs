// Brevo's own Node SDK against the sandbox. Run by run.sh, which says in LINKSPAN_SANDBOX where that is.

const assert = require("node:assert/strict");
const { BrevoClient } = require("@getbrevo/brevo");

const sandbox = JSON.parse(process.env.LINKSPAN_SANDBOX).brevo;
const client = new BrevoClient({ apiKey: sandbox.api_key, baseUrl: sandbox.base_url });

const refused = async (status, ask) => {
  let said;
  await assert.rejects(ask, (error) => {
    assert.equal(error.statusCode, status, String(error));
    said = error;
    return true;
  });
  return JSON.stringify(said.body);
};

const main = async () => {
  const account = await client.account.getAccount();
  assert.ok(account.organization_id && account.email);
  const stranger = new BrevoClient({ apiKey: "wrong", baseUrl: sandbox.base_url });
  await refused(401, () => stranger.account.getAccount());

  // Attributes, folders, lists.
  const run = String(Date.now());
  const name = `NODE_${run}`;
  const attribute = { attributeCategory: "normal", attributeName: name };
  await client.contacts.createAttribute({ ...attribute, type: "float" });
  const choice = { attributeCategory: "normal", attributeName: `${name}_M` };
  await client.contacts.createAttribute({ ...choice, type: "multiple-choice", multiCategoryOptions: ["a"] });
  await client.contacts.updateAttribute({ ...choice, multiCategoryOptions: ["a", "b"] });
  const attributes = (await client.contacts.getAttributes()).attributes;
  assert.equal(attributes.find((other) => other.name === name).type, "float");
  const folder = (await client.contacts.createFolder({ name: "Node" })).id;
  const folders = await client.contacts.getFolders({ limit: 50, offset: 0 });
  assert.ok(folders.folders.some((other) => other.id === folder));
  const listId = (await client.contacts.createList({ name: `Node ${run}`, folderId: folder })).id;
  const lists = await client.contacts.getLists({ limit: 50, offset: 0, sort: "asc" });
  assert.ok(lists.lists.some((other) => other.id === listId));

  // Contacts.
  const email = `node-${run}@example.com`;
  const made = await client.contacts.createContact({
    email,
    ext_id: `node-${run}`,
    attributes: { FIRSTNAME: "Ada", [name]: 4.5, [`${name}_M`]: ["a", "b"] },
    listIds: [listId],
    emailBlacklisted: true,
    updateEnabled: false,
  });
  const said = await refused(400, () => client.contacts.createContact({ email, updateEnabled: false }));
  assert.match(said, /duplicate_parameter/);
  for (const [identifier, identifierType] of [
    [made.id, "contact_id"],
    [email, "email_id"],
    [`node-${run}`, "ext_id"],
  ]) {
    const found = await client.contacts.getContactInfo({ identifier, identifierType });
    assert.deepEqual([found.id, found.email, found.emailBlacklisted], [made.id, email, true]);
    assert.deepEqual(found.listIds, [listId]);
  }
  await client.contacts.updateContact({
    identifier: made.id,
    identifierType: "contact_id",
    attributes: { FIRSTNAME: "Grete" },
    unlinkListIds: [listId],
  });
  const updated = await client.contacts.getContactInfo({ identifier: made.id, identifierType: "contact_id" });
  assert.deepEqual([updated.attributes.FIRSTNAME, updated.listIds], ["Grete", []]);

  // An import and its process.
  const { processId } = await client.contacts.importContacts({
    jsonBody: Array.from({ length: 30 }, (_, row) => ({ email: `row${row}-${run}@example.com`, attributes: {} })),
    listIds: [listId],
    updateExistingContacts: false,
    disableNotification: true,
  });
  const deadline = Date.now() + 30_000;
  let process;
  do {
    await new Promise((resolve) => setTimeout(resolve, 500));
    process = await client.process.getProcess({ processId });
    assert.ok(Date.now() < deadline, JSON.stringify(process));
  } while (process.status !== "completed");
  assert.ok("invalid_emails" in process.info.import, JSON.stringify(process));

  // Pages, membership.
  const seen = new Set();
  for (let page; (page = await client.contacts.getContacts({ limit: 20, offset: seen.size, sort: "asc" })).contacts.length; ) {
    page.contacts.forEach((contact) => seen.add(contact.id));
    assert.ok(seen.size <= page.count);
  }
  assert.ok(seen.size > 30 && seen.has(made.id));
  const modifiedSince = new Date(Date.now() + 3_600_000).toISOString();
  assert.equal((await client.contacts.getContacts({ limit: 1000, offset: 0, modifiedSince })).count, 0);
  assert.equal((await client.contacts.getContactsFromList({ listId, limit: 500 })).count, 30);
  const added = await client.contacts.addContactToList({ listId, body: { ids: [made.id, 999_999_999] } });
  assert.deepEqual([added.contacts.success, added.contacts.failure], [[made.id], [999_999_999]]);
  const removed = await client.contacts.removeContactFromList({ listId, body: { ids: [made.id] } });
  assert.deepEqual(removed.contacts.success, [made.id]);

  // Events.
  const event = {
    event_name: "sdk_tried",
    identifiers: { contact_id: made.id },
    event_date: new Date().toISOString(),
    event_properties: { k: "v" },
  };
  await client.event.createEvent(event);
  assert.equal((await client.event.createBatchEvents({ events: [event, event] })).count, 2);
  assert.equal((await client.event.getEvents({ contact_id: made.id })).count, 3);

  // Companies and webhooks, which come later.
  const company = await client.companies.createACompany({ name: `Acme ${run}` });
  await client.companies.linkAndUnlinkCompanyWithContactAndDeal({ id: company.id, linkContactIds: [made.id] });
  assert.equal((await client.companies.getACompany({ id: company.id })).id, company.id);
  await client.companies.deleteACompany({ id: company.id });
  const url = "https://linkspan.example/webhooks/brevo";
  const webhook = await client.webhooks.createWebhook({ url, events: ["contactUpdated"], type: "marketing" });
  assert.equal((await client.webhooks.getWebhook({ webhookId: webhook.id })).url, url);
  await client.webhooks.deleteWebhook({ webhookId: webhook.id });

  await client.contacts.deleteContact({ identifier: made.id, identifierType: "contact_id" });
  await refused(404, () => client.contacts.getContactInfo({ identifier: made.id, identifierType: "contact_id" }));
  console.log("@getbrevo/brevo: every call fits");
};

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
