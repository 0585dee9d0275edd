// Steps that are taken one by one, each with a line of JSON about it, and a network that can be cut.

import { once } from "node:events";
import { createInterface } from "node:readline";

const input = createInterface({ input: process.stdin });

export const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// Has the network cut: prints {"do": "cut"}, and returns when a line on the standard input says that it was.
export async function cut() {
  say({ do: "cut" });
  await once(input, "line");
}

// Takes the steps, and ends the process: with status 1 at the first that fails.
export async function take(steps) {
  for (const [step, action] of Object.entries(steps)) {
    const began = performance.now();
    try {
      const outcome = (await action()) ?? "";
      say({ step, outcome, milliseconds: Math.round(performance.now() - began) });
    } catch (error) {
      say({ step, failed: error.message });
      process.exit(1);
    }
  }
  process.exit(0);
}
