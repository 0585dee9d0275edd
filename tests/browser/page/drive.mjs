// Runs pages in one Chromium: `node drive.mjs CHROMIUM [FLAG...]`, with a line of JSON for each on the standard input.
//
// A line has `page`, the address that is opened, and `run` with `args`, a function of page.mjs. With `html`, the
// address answers with that. With `clicks`, the function leaves the page: buttons of these names are clicked, one a
// page, until the browser is back, and `then` runs. Prints {"result", "seen"} or {"failed", "seen"}, with the
// requests that the browser made, as it sees them itself.

import { once } from "node:events";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const LIMIT_MS = 20_000;
const [executablePath, ...args] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const lines = createInterface({ input: process.stdin });

const browser = await chromium.launch({ executablePath, args });
lines.on("close", () => browser.close().then(() => process.exit(0)));
say({ version: browser.version() });

async function run(order, seen) {
  const context = await browser.newContext();
  context.setDefaultTimeout(LIMIT_MS);
  try {
    const page = await context.newPage();
    const devtools = await context.newCDPSession(page);
    await devtools.send("Network.enable");
    note(devtools, seen);
    await page.exposeFunction("cut", async () => {
      say({ do: "cut" });
      await once(lines, "line");
    });
    if (order.html) {
      await page.route(order.page, (route) => route.fulfill({ contentType: "text/html", body: order.html }));
    }
    await page.goto(order.page);
    const call = ([name, args]) => window.page[name](...args);
    const result = await page.evaluate(call, [order.run, order.args]).catch((error) => {
      if (!order.clicks) throw error; // The page was left before the function ended.
    });
    if (!order.clicks) return result;
    for (const name of order.clicks) await page.getByRole("button", { name, exact: true }).click();
    await page.waitForURL(`${new URL(order.page).origin}/callback?*`);
    return await page.evaluate(call, [order.then, order.args]);
  } finally {
    await context.close();
  }
}

// Notes what the DevTools see: preflights, and the statuses that the page may not see.
function note(devtools, seen) {
  const requests = new Map();
  devtools.on("Network.requestWillBeSent", ({ requestId, request }) => {
    requests.set(requestId, `${request.method} ${new URL(request.url).pathname}`);
  });
  devtools.on("Network.responseReceivedExtraInfo", ({ requestId, statusCode }) => {
    seen.push([requests.get(requestId) ?? "?", statusCode]);
  });
}

for (;;) {
  const [line] = await once(lines, "line");
  const seen = [];
  try {
    say({ result: await run(JSON.parse(line), seen), seen });
  } catch (error) {
    say({ failed: error.message, seen });
  }
}
