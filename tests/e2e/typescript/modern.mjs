// Drives a server that talks back in the modern era (2026-07-28): `node modern.mjs v2 URL RUN auto|pin`.
//
// Prints as tour.mjs does, and never asks for a cut.

import assert from "node:assert/strict";

import { take } from "./steps.mjs";
import { ROOTS, Traveller, YES } from "./traveller.mjs";

const [generation, url, run, mode] = process.argv.slice(2);
const MODERN = "2026-07-28";
const MEMO = "memo://latest";
const UPDATED = "notifications/resources/updated";
const LIST_CHANGES = ["tools", "prompts", "resources"].map((kind) => `notifications/${kind}/list_changed`);
const EVERYTHING = {
  toolsListChanged: true,
  promptsListChanged: true,
  resourcesListChanged: true,
  resourceSubscriptions: [MEMO],
};
const versionNegotiation = { mode: mode === "pin" ? { pin: MODERN } : mode };
const arrive = () => Traveller.arrive(generation, url, { versionNegotiation });

let ann, bob;

const told = () => Math.min(...LIST_CHANGES.map((method) => ann.count(method)), ann.count(UPDATED));

const steps = {
  async discover() {
    ann = await arrive();
    bob = await arrive();
    assert.equal(ann.posts[0].method, "server/discover");
    assert.equal(ann.client.getServerVersion().name, "conversation");
    const { tools, resources } = ann.client.getServerCapabilities();
    assert.deepEqual([tools.listChanged, resources.subscribe], [true, true]);
    assert.equal(ann.transport.sessionId, undefined);
    return ann.client.getNegotiatedProtocolVersion();
  },

  async "lists, and one of each"() {
    const { tools } = await ann.client.listTools();
    assert.ok(tools.some((tool) => tool.name === "everything_at_once"));
    assert.equal(await ann.call("add", { a: 2, b: 3 }), "5");
    const { resources } = await ann.client.listResources();
    assert.deepEqual(resources.map((resource) => resource.uri), [MEMO]);
    const { contents } = await ann.client.readResource({ uri: MEMO });
    assert.equal(contents[0].text, "milk");
    const { prompts } = await ann.client.listPrompts();
    assert.deepEqual(prompts.map((prompt) => prompt.name), ["greet"]);
    const { messages } = await ann.client.getPrompt({ name: "greet", arguments: { name: "Bob" } });
    assert.equal(messages[0].content.text, "Say hello to Bob.");
    const ref = { type: "ref/prompt", name: "greet" };
    const { completion } = await ann.client.complete({ ref, argument: { name: "name", value: "An" } });
    assert.deepEqual(completion.values, ["Ann", "Anton"]);
  },

  async "progress and logs"() {
    const progress = [];
    const onprogress = (notification) => progress.push(notification.progress);
    await ann.call("work", { run: `${run} progress`, steps: 3, seconds: 0.1 }, { onprogress });
    assert.deepEqual(progress, [1, 2, 3]);
    const _meta = { "io.modelcontextprotocol/logLevel": "info" };
    await ann.sdk.callTool(ann.client, { name: "talk", arguments: {}, _meta });
    const logs = ann.heard.filter((notification) => notification.method === "notifications/message");
    assert.deepEqual(logs.map((notification) => notification.params.data), ["middle", "high"]);
  },

  async elicitation() {
    for (const [answer, text] of [
      [YES, "accept: True, because"],
      [{ action: "decline" }, "decline"],
      [{ action: "cancel" }, "cancel"],
    ]) {
      ann.answer = answer;
      assert.equal(await ann.call("consent", { question: "Sure?" }), text);
    }
    assert.deepEqual(ann.asked.map((params) => params.message), ["Sure?", "Sure?", "Sure?"]);
    assert.equal(ann.instances("answer").length, 0); // Answers come with the call that is made again.
    ann.answer = YES;
    assert.equal(await ann.call("meet", { whom: "Bob" }), "Bob: True, because");
    assert.equal(await ann.call("sign_in"), "accept");
    assert.equal(ann.asked.at(-1).url, "https://example.test/sign-in");
  },

  async "sampling and roots"() {
    assert.equal(await ann.call("summarize", { text: "a story" }), "parrot: Summarize: a story!");
    assert.equal(await ann.call("where"), ROOTS.map((root) => root.uri).join("\n"));
  },

  async "everything at once"() {
    ann.asked.length = 0;
    const texts = (await ann.call("everything_at_once")).split("\n");
    const expected = [...Array(3).fill("accept: True, because"), "parrot: at once!"];
    assert.deepEqual(texts, [...expected, ...ROOTS.map((root) => root.uri)]);
    assert.equal(ann.asked.length, 3);
  },

  async listen() {
    const subscription = await ann.client.listen(EVERYTHING);
    assert.deepEqual(subscription.honoredFilter, EVERYTHING);
    for (const [number, tool] of ["publish", "touch", "publish"].entries()) {
      await bob.call(tool);
      await ann.until(() => told() === number + 1, "what changed");
    }
    assert.equal(ann.heard.find((notification) => notification.method === UPDATED).params.uri, MEMO);
    await subscription.close();
    assert.equal(await subscription.closed, "local");
    await bob.call("touch");
    assert.equal(told(), 3);
  },

  async cancel() {
    const controller = new AbortController();
    const options = { signal: controller.signal, onprogress: () => controller.abort("changed my mind") };
    await assert.rejects(ann.call("wait", { run: `${run} cancel` }, options));
    assert.equal(await ann.call("add", { a: 1, b: 1 }), "2");
  },

  async "served by"() {
    const instances = new Set([...ann.posts, ...bob.posts].map((post) => post.instance));
    assert.equal(ann.gets.length + bob.gets.length, 0);
    await ann.client.close();
    await bob.client.close();
    return instances.size;
  },
};

await take(steps);
