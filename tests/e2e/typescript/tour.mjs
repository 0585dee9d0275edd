// Drives a server that talks back with an official client: `node tour.mjs v1|v2 URL RUN`.
//
// Prints one JSON line for each step, and ends with status 1 at the first that fails.

import assert from "node:assert/strict";

import { cut, take } from "./steps.mjs";
import { ROOTS, Traveller, YES } from "./traveller.mjs";

const [generation, url, run] = process.argv.slice(2);
const MEMO = "memo://latest";
const UPDATED = "notifications/resources/updated";
const LIST_CHANGES = ["tools", "prompts", "resources"].map((kind) => `notifications/${kind}/list_changed`);
const STEPS = 12;

const upTo = (number) => Array.from({ length: number }, (_, index) => index + 1);

let ann;

const told = () => Math.min(...LIST_CHANGES.map((method) => ann.count(method)), ann.count(UPDATED));

async function work(name, { at, then }) {
  const steps = [];
  const onprogress = ({ progress }) => {
    steps.push(progress);
    if (progress === at) then?.();
  };
  const text = await ann.call("work", { run: `${run} ${name}`, steps: STEPS }, { onprogress });
  return { text, steps };
}

const steps = {
  async initialize() {
    ann = await Traveller.arrive(generation, url);
    assert.equal(ann.client.getServerVersion().name, "conversation");
    assert.ok(ann.transport.sessionId);
    await ann.until(() => ann.gets[0]?.status === 200, "the standalone stream");
    await ann.client.ping();
    return ann.transport.protocolVersion;
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
  },

  async progress() {
    const progress = [];
    const onprogress = (notification) => progress.push(notification);
    await ann.call("work", { run: `${run} progress`, steps: 3, seconds: 0.1 }, { onprogress });
    assert.deepEqual(progress.map((one) => [one.progress, one.total, one.message]), [
      [1, 3, "step 1"],
      [2, 3, "step 2"],
      [3, 3, "step 3"],
    ]);
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
  },

  async "elicitation by url"() {
    for (const action of ["accept", "decline", "cancel"]) {
      ann.answer = { action };
      assert.equal(await ann.call("sign_in"), action);
    }
    assert.equal(ann.asked.at(-1).url, "https://example.test/sign-in");
    assert.equal(ann.count("notifications/elicitation/complete"), 1);
  },

  async sampling() {
    assert.equal(await ann.call("summarize", { text: "a story" }), "parrot: Summarize: a story!");
  },

  async roots() {
    assert.equal(await ann.call("where"), ROOTS.map((root) => root.uri).join("\n"));
  },

  async "everything at once"() {
    ann.answer = YES;
    ann.asked.length = 0;
    ann.mayAnswer = ann.until(() => ann.asked.length === 3, "three questions");
    const texts = (await ann.call("everything_at_once")).split("\n");
    const expected = [...Array(3).fill("accept: True, because"), "parrot: at once!"];
    assert.deepEqual(texts, [...expected, ...ROOTS.map((root) => root.uri)]);
    ann.mayAnswer = Promise.resolve();
  },

  async subscribe() {
    await ann.client.subscribeResource({ uri: MEMO });
    await ann.call("touch");
    await ann.until(() => told() === 1, "what changed");
    assert.equal(ann.heard.find((notification) => notification.method === UPDATED).params.uri, MEMO);
  },

  async "a call is cut, and goes on"() {
    const before = ann.gets.length;
    const { text, steps } = await work("cut", { at: 3, then: cut });
    assert.equal(text, `${STEPS} steps`);
    assert.deepEqual(steps, upTo(STEPS));
    const resumed = ann.gets.slice(before).filter((get) => get.lastEventId);
    assert.ok(resumed.length >= 1, JSON.stringify(ann.gets));
  },

  async "the standalone stream is cut, and goes on"() {
    const before = told();
    await ann.call("touch");
    await ann.until(() => told() === before + 1, "what changed before the cut");
    await cut();
    await ann.call("touch");
    await ann.until(() => told() === before + 2, "what changed while nobody listened");
    await ann.call("touch");
    await ann.until(() => told() === before + 3, "what changed afterwards");
    for (const method of [...LIST_CHANGES, UPDATED]) assert.equal(ann.count(method), before + 3, method);
  },

  async "a question is open during a cut"() {
    ann.asked.length = 0;
    let release;
    ann.mayAnswer = new Promise((resolve) => (release = resolve));
    const call = ann.call("consent", { question: "Still there?" });
    await ann.until(() => ann.asked.length === 1, "the question");
    await cut();
    release();
    assert.equal(await call, "accept: True, because");
    assert.equal(ann.asked.length, 1);
    ann.mayAnswer = Promise.resolve();
  },

  async cancel() {
    const controller = new AbortController();
    const options = { signal: controller.signal, onprogress: () => controller.abort("changed my mind") };
    await assert.rejects(ann.call("wait", { run: `${run} cancel` }, options));
    await ann.client.ping();
  },

  async "everything was answered once"() {
    assert.equal(new Set(ann.answered).size, ann.answered.length, String(ann.answered));
  },

  async "terminateSession"() {
    const headers = {
      accept: "application/json, text/event-stream",
      "content-type": "application/json",
      "mcp-session-id": ann.transport.sessionId,
    };
    await ann.transport.terminateSession();
    await ann.client.close();
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" });
    for (let times = 0; times < 3; times++) {
      assert.equal((await fetch(url, { method: "POST", headers, body })).status, 404);
    }
    assert.equal((await fetch(url, { headers })).status, 404);
  },
};

await take(steps);
