// One client with a note of everything that reaches it, and of every HTTP request that it makes.

import { sdks } from "./sdks.mjs";

const LIMIT_MS = 15_000;
const CAPABILITIES = { elicitation: { form: {}, url: {} }, sampling: {}, roots: { listChanged: true } };
export const ROOTS = [{ uri: "file:///home/ann" }, { uri: "file:///srv/orders" }];
export const YES = { action: "accept", content: { sure: true, why: "because" } };

export class Traveller {
  static async arrive(generation, url, options = {}) {
    const traveller = new Traveller();
    await traveller.connect(await sdks[generation](), url, options);
    return traveller;
  }

  asked = []; // what the server asked, in order
  heard = []; // every notification but progress
  answered = []; // the ids of the answers, as often as they came
  gets = []; // one entry for each GET: the event id that it resumes from, its status, whether it has an id
  posts = []; // one entry for each POST: its JSON-RPC method, and the instance that answered it
  errors = [];
  answer = YES;
  mayAnswer = Promise.resolve();
  #waiting = new Set();

  async connect(sdk, url, options) {
    this.sdk = sdk;
    this.client = new sdk.Client(
      { name: "tour", version: "1.0.0" },
      { capabilities: CAPABILITIES, ...options },
    );
    sdk.answer(this.client, "elicitation/create", (request) => this.#elicit(request.params));
    sdk.answer(this.client, "sampling/createMessage", (request) => ({
      role: "assistant",
      model: "parrot",
      content: { type: "text", text: `${request.params.messages[0].content.text}!` },
    }));
    sdk.answer(this.client, "roots/list", () => ({ roots: ROOTS }));
    this.client.fallbackNotificationHandler = async (notification) => {
      this.heard.push(notification);
      this.#look();
    };
    this.client.onerror = (error) => this.errors.push(String(error));
    this.transport = new sdk.Transport(new URL(url), { fetch: (...request) => this.#fetch(...request) });
    await this.client.connect(this.transport);
    const onmessage = this.transport.onmessage;
    this.transport.onmessage = (message, extra) => {
      if (!("method" in message)) this.answered.push(message.id);
      onmessage.call(this.transport, message, extra);
    };
  }

  // Calls a tool that must succeed, and returns its text.
  async call(name, args = {}, options = {}) {
    const result = await this.sdk.callTool(
      this.client,
      { name, arguments: args },
      { timeout: LIMIT_MS, ...options },
    );
    if (result.isError) throw new Error(JSON.stringify(result.content));
    return result.content.map((content) => content.text).join("\n");
  }

  // Waits for something that happens here to make the condition true.
  until(condition, what) {
    if (condition()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const waiting = { condition, resolve };
      const limit = setTimeout(() => {
        this.#waiting.delete(waiting);
        reject(new Error(`${what}: not within ${LIMIT_MS} ms; errors: ${this.errors}`));
      }, LIMIT_MS);
      waiting.resolve = () => {
        clearTimeout(limit);
        resolve();
      };
      this.#waiting.add(waiting);
    });
  }

  // Returns the instances that answered such requests, in order.
  instances(method) {
    return this.posts.filter((post) => post.method === method).map((post) => post.instance);
  }

  count(method) {
    return this.heard.filter((notification) => notification.method === method).length;
  }

  #look() {
    for (const waiting of this.#waiting) {
      if (waiting.condition()) {
        this.#waiting.delete(waiting);
        waiting.resolve();
      }
    }
  }

  async #elicit(params) {
    this.asked.push(params);
    this.#look();
    await this.mayAnswer;
    return this.answer;
  }

  async #fetch(url, init) {
    if (init.method === "POST") {
      const response = await fetch(url, init);
      const instance = response.headers.get("x-tmcp-instance");
      this.posts.push({ method: JSON.parse(init.body).method ?? "answer", instance });
      return response;
    }
    if (init.method !== "GET") return await fetch(url, init);
    const get = { lastEventId: new Headers(init.headers).get("last-event-id"), status: 0, hasId: false };
    this.gets.push(get);
    const response = await fetch(url, init);
    get.status = response.status;
    this.#look();
    return response.body === null ? response : this.#noting(get, response);
  }

  // Notes when the first event id has come: before that, a client whose connection is cut resumes nothing.
  #noting(get, response) {
    const decoder = new TextDecoder();
    const note = (chunk, controller) => {
      controller.enqueue(chunk);
      get.hasId ||= /^id:/m.test(decoder.decode(chunk, { stream: true }));
      this.#look();
    };
    const { status, headers } = response;
    const body = response.body.pipeThrough(new TransformStream({ transform: note }));
    return new Response(body, { status, headers });
  }
}
