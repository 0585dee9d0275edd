// A client of HTTP+SSE: `node sse.mjs GENERATION URL`. Prints what its calls returned, as one line of JSON.

import { sdks } from "./sdks.mjs";

const [generation, url] = process.argv.slice(2);
const sdk = await sdks[generation]();
const client = new sdk.Client({ name: "old", version: "1" }, { capabilities: { elicitation: {} } });
sdk.answer(client, "elicitation/create", async () => ({
  action: "accept",
  content: { sure: true, why: generation },
}));
await client.connect(new sdk.OldTransport(new URL(url)));
const told = [];
for (const [name, args] of [["add", { a: 1, b: 2 }], ["add", { a: 3, b: 4 }], ["consent", { question: "Sure?" }]]) {
  const { content } = await sdk.callTool(client, { name, arguments: args });
  told.push(content[0].text);
}
console.log(JSON.stringify(told));
await client.close();
