// The script of the page: what it does with the server, as functions that the driver calls in the browser.

import { Client, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";

const MODERN = "2026-07-28";
const STEPS = 12;

// A fetch that notes each request and the headers of its answer that the browser shows to the page.
function noting(requests) {
  return async (url, init = {}) => {
    const headers = new Headers(init.headers);
    const noted = {
      method: init.method ?? "GET",
      path: new URL(url).pathname,
      resumes: headers.has("last-event-id"),
    };
    requests.push(noted);
    const response = await fetch(url, init);
    noted.status = response.status;
    noted.session = response.headers.get("mcp-session-id") !== null;
    noted.challenge = response.headers.get("www-authenticate");
    return response;
  };
}

async function connect(url, { authProvider, options = {} } = {}) {
  const asked = [];
  const requests = [];
  const client = new Client({ name: "page", version: "1" }, { capabilities: { elicitation: {} }, ...options });
  client.setRequestHandler("elicitation/create", async (request) => {
    asked.push(request.params.message);
    return { action: "accept", content: { sure: true } };
  });
  const transport = new StreamableHTTPClientTransport(new URL(url), { fetch: noting(requests), authProvider });
  await client.connect(transport);
  const call = async (name, args = {}, callOptions = {}) => {
    const { content } = await client.callTool({ name, arguments: args }, callOptions);
    return content.map((each) => each.text).join("\n");
  };
  return { client, transport, asked, requests, call };
}

async function work(connected, then) {
  const progress = [];
  const onprogress = (notification) => {
    progress.push(notification.progress);
    if (notification.progress === 3) then?.();
  };
  return { text: await connected.call("work", { steps: STEPS }, { onprogress }), progress };
}

async function failure(action) {
  try {
    await action();
    return null;
  } catch (error) {
    return error.name;
  }
}

// What is kept while the user is at the authorization server.
class Memory {
  constructor(origin) {
    this.redirectUrl = `${origin}/callback`;
  }
  get clientMetadata() {
    return {
      client_name: "page",
      redirect_uris: [this.redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    };
  }
  #kept = (name) => JSON.parse(sessionStorage.getItem(name) ?? "null") ?? undefined;
  #keep = (name, value) => sessionStorage.setItem(name, JSON.stringify(value));
  state = () => {
    this.#keep("state", crypto.randomUUID());
    return this.#kept("state");
  };
  isOurs = (answer) => answer.get("state") === this.#kept("state");
  clientInformation = () => this.#kept("client");
  saveClientInformation = (client) => this.#keep("client", client);
  tokens = () => this.#kept("tokens");
  saveTokens = (tokens) => this.#keep("tokens", tokens);
  codeVerifier = () => this.#kept("verifier");
  saveCodeVerifier = (verifier) => this.#keep("verifier", verifier);
  discoveryState = () => this.#kept("discovery");
  saveDiscoveryState = (discovery) => this.#keep("discovery", discovery);
  redirectToAuthorization = (url) => location.assign(url);
}

window.page = {
  async handshake(url) {
    const connected = await connect(url);
    const { client, transport, asked, requests, call } = connected;
    const session = transport.sessionId;
    const version = client.getNegotiatedProtocolVersion();
    const sum = await call("add", { a: 2, b: 3 });
    const consent = await call("consent", { question: "Sure?" });
    const cut = await work(connected, window.cut);
    await transport.terminateSession();
    await client.close();
    const headers = {
      accept: "application/json, text/event-stream",
      "content-type": "application/json",
      "mcp-session-id": session,
      "mcp-protocol-version": version,
    };
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" });
    const gone = await fetch(url, { method: "POST", headers, body });
    return { version, session, sum, consent, asked, cut, requests, gone: gone.status };
  },

  async modern(url) {
    const connected = await connect(url, { options: { versionNegotiation: { mode: { pin: MODERN } } } });
    const { client, transport, asked, requests, call } = connected;
    const version = client.getNegotiatedProtocolVersion();
    const session = transport.sessionId ?? null;
    const sum = await call("add", { a: 2, b: 3 });
    const consent = await call("consent", { question: "Sure?" });
    const worked = await work(connected);
    await client.close();
    return { version, session, sum, consent, asked, worked, requests };
  },

  // What a page can try: the client, an event source, and requests that no preflight announces.
  async attempts(url, sseUrl) {
    const body = JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "initialize",
      params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "page", version: "1" } },
    });
    const json = { "content-type": "application/json", accept: "application/json, text/event-stream" };
    const blind = { method: "POST", mode: "no-cors", headers: { ...json, "content-type": "text/plain" }, body };
    return {
      client: await failure(() => connect(url)),
      modern: await failure(() => connect(url, { options: { versionNegotiation: { mode: { pin: MODERN } } } })),
      fetch: await failure(() => fetch(url, { method: "POST", headers: json, body })),
      blind: await fetch(url, blind).then((response) => response.type),
      events: await new Promise((resolve) => {
        const source = new EventSource(sseUrl);
        source.onopen = () => resolve(source.close() ?? "open");
        source.onerror = () => resolve(source.close() ?? "error");
      }),
    };
  },

  // The same from a frame without an origin: the browser sends `Origin: null`.
  async attemptsInSandbox(url, sseUrl) {
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.src = `${location.origin}/frame`;
    const told = new Promise((resolve) => addEventListener("message", (event) => resolve(event.data), { once: true }));
    frame.onload = () => frame.contentWindow.postMessage([url, sseUrl], "*");
    document.body.append(frame);
    return await told;
  },

  // Requests to the page's own origin, some of which a browser sends without an `Origin`.
  async atHome() {
    const headers = { accept: "application/json, text/event-stream", "content-type": "application/json" };
    const statuses = {};
    for (const [method, path] of [["GET", "/mcp"], ["POST", "/mcp"], ["DELETE", "/mcp"], ["GET", "/sse"]]) {
      const response = await fetch(path, { method, headers, body: method === "POST" ? "{}" : undefined });
      statuses[`${method} ${path}`] = response.status;
    }
    return statuses;
  },

  async signIn(url) {
    const requests = [];
    const transport = new StreamableHTTPClientTransport(new URL(url), {
      fetch: noting(requests),
      authProvider: new Memory(location.origin),
    });
    const client = new Client({ name: "page", version: "1" });
    try {
      await client.connect(transport);
    } catch (error) {
      if (!(error instanceof UnauthorizedError)) throw error;
    }
    return { requests };
  },

  async signedIn(url) {
    const memory = new Memory(location.origin);
    const answer = new URLSearchParams(location.search);
    if (!memory.isOurs(answer)) throw new Error("the answer is to another sign-in");
    const requests = [];
    const waiting = new StreamableHTTPClientTransport(new URL(url), {
      fetch: noting(requests),
      authProvider: memory,
    });
    await waiting.finishAuth(answer);
    const who = {};
    for (const mode of ["legacy", { pin: MODERN }]) {
      const options = { versionNegotiation: { mode } };
      const { client, call } = await connect(url, { authProvider: memory, options });
      who[client.getNegotiatedProtocolVersion()] = await call("whoami");
      await client.close();
    }
    return { who, requests, token: memory.tokens().token_type };
  },
};

if (location.pathname === "/frame") {
  addEventListener("message", async (event) => {
    event.source.postMessage(await window.page.attempts(...event.data), "*");
  });
}
