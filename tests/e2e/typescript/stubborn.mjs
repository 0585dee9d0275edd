// What is hard on clients: `node stubborn.mjs v1|v2 URL RUN STEP`. Prints and asks for cuts as tour.mjs does.

import assert from "node:assert/strict";

import { cut, take } from "./steps.mjs";
import { Traveller } from "./traveller.mjs";

const LIMIT_MS = 5_000;
const [generation, url, run, step] = process.argv.slice(2);
const ann = await Traveller.arrive(generation, url);
await ann.until(() => ann.gets[0]?.status === 200, "the standalone stream");

// Returns how many GETs were made while a tool worked for about as long as five reconnections take.
async function getsWhileWorking(name) {
  const before = ann.gets.length;
  await ann.call("work", { run: `${run} ${name}`, steps: 1 });
  return ann.gets.length - before;
}

const steps = {
  // Generation 1 takes an error for no answer, and resumes behind it.
  async "an error that ends a stream leaves the client in peace"() {
    const controller = new AbortController();
    const options = { signal: controller.signal, onprogress: () => controller.abort("changed my mind") };
    await assert.rejects(ann.call("wait", { run: `${run} wait` }, options));
    const gets = await getsWhileWorking("after an error");
    assert.ok(gets <= 1, JSON.stringify(ann.gets));
  },

  // A stream that was resumed, and cut again before anything but its first id came on it.
  async "a question is open during two cuts"() {
    let release;
    ann.mayAnswer = new Promise((resolve) => (release = resolve));
    const call = ann.call("consent", { question: "Still there?" }, { timeout: LIMIT_MS });
    await ann.until(() => ann.asked.length === 1, "the question");
    for (let cuts = 0; cuts < 2; cuts++) {
      const before = ann.gets.length;
      await cut();
      const back = () => ann.gets.slice(before).filter((get) => get.hasId).length >= 2;
      await ann.until(back, "both streams");
    }
    release();
    assert.equal(await call, "accept: True, because");
    assert.equal(await getsWhileWorking("after two cuts"), 0);
  },
};

await take({ [step]: steps[step] });
