// Intercom's own Node SDK against the sandbox. Run by run.sh, which says in LINKSPAN_SANDBOX where that is.

const assert = require("node:assert/strict");
const { IntercomClient } = require("intercom-client");

const sandbox = JSON.parse(process.env.LINKSPAN_SANDBOX).intercom;
const client = new IntercomClient({ token: sandbox.access_token, baseUrl: sandbox.base_url, maxRetries: 0 });

const refused = async (status, ask) => {
  await assert.rejects(ask, (error) => {
    assert.equal(error.statusCode, status, String(error));
    return true;
  });
};

// Everything that a search finds, by the SDK's own pager; bounded, so that a cursor that leads in circles shows.
const all = async (pages) => {
  const found = [];
  for await (const item of await pages) {
    found.push(item);
    assert.ok(found.length < 5000, "pages without an end");
  }
  return found;
};
const ids = (items) => new Set(items.map((item) => item.id));

const main = async () => {
  const me = await client.admins.identify();
  assert.ok(me.app.id_code && me.app.timezone);
  const stranger = new IntercomClient({ token: "wrong", baseUrl: sandbox.base_url, maxRetries: 0 });
  await refused(401, () => stranger.admins.identify());

  // Contacts.
  const everybody = { field: "created_at", operator: ">", value: "0" };
  const searched = ids(await all(client.contacts.search({ query: everybody, pagination: { per_page: 150 } })));
  const listed = ids(await all(client.contacts.list({ per_page: 100 })));
  assert.ok(searched.size > 300);
  assert.deepEqual([...searched].sort(), [...listed].sort());
  const email = `sdk-node-${Date.now()}@example.com`;
  const made = await client.contacts.create({ email, name: "Ada Abel" });
  assert.deepEqual([made.email, made.role], [email, "user"]);
  const found = await client.contacts.find({ contact_id: made.id });
  assert.deepEqual([found.id, found.email, found.name], [made.id, email, "Ada Abel"]);
  await refused(409, () => client.contacts.create({ email }));
  await refused(404, () => client.contacts.find({ contact_id: "000000000000000000000000" }));
  const updated = await client.contacts.update({ contact_id: made.id, name: "Ada Brandt" });
  assert.equal(updated.name, "Ada Brandt");

  // What a contact has.
  const tags = (await client.tags.list()).data;
  assert.ok(tags.length > 0);
  await client.tags.tagContact({ contact_id: made.id, id: tags[0].id });
  const attached = (await client.contacts.listAttachedTags({ contact_id: made.id })).data;
  assert.deepEqual([...ids(attached)], [tags[0].id]);
  await client.tags.untagContact({ contact_id: made.id, tag_id: tags[0].id });
  const company = await client.companies.createOrUpdate({ company_id: `sdk-node-${Date.now()}`, name: "Acme" });
  await client.companies.attachContact({ contact_id: made.id, id: company.id });
  const theirs = await all(client.contacts.listAttachedCompanies({ contact_id: made.id }));
  assert.deepEqual([...ids(theirs)], [company.id]);
  assert.equal((await client.companies.find({ company_id: company.id })).name, "Acme");
  const note = await client.notes.create({ contact_id: made.id, body: "A note" });
  assert.ok(ids(await all(client.notes.list({ contact_id: made.id }))).has(note.id));

  // Companies: list and scroll show the same. The scroll's parameter is the same on every page, which the SDK's pager
  // would follow for ever: an empty page is the end.
  const companies = ids(await all(client.companies.list({ per_page: 60 })));
  const scrolled = new Set();
  let page = (await client.companies.scroll()).response;
  while (page?.data?.length) {
    page.data.forEach((item) => scrolled.add(item.id));
    page = (await client.companies.scroll({ scroll_param: page.scroll_param })).response;
  }
  assert.deepEqual([...companies].sort(), [...scrolled].sort());

  // Conversations.
  const talks = await all(client.conversations.search({ query: everybody, pagination: { per_page: 50 } }));
  assert.ok(talks.length > 50);
  const talk = await client.conversations.find({ conversation_id: talks[0].id });
  assert.ok(["open", "closed", "snoozed"].includes(talk.state) && talk.statistics && talk.contacts.contacts.length);

  // Attributes, events.
  const attributes = (await client.dataAttributes.list({ model: "contact" })).data;
  assert.ok(attributes.some((attribute) => attribute.name === "email"));
  await client.events.create({ event_name: "sdk-tried", created_at: Math.floor(Date.now() / 1000), email });

  await client.contacts.archive({ contact_id: made.id });
  await client.contacts.unarchive({ contact_id: made.id });
  assert.equal((await client.contacts.delete({ contact_id: made.id })).deleted, true);
  await refused(404, () => client.contacts.find({ contact_id: made.id }));
  console.log("intercom-client: every call fits");
};

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
