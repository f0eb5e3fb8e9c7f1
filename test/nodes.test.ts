/**
 * Runs the addon, as it was built, on other versions of Node.js (test/nodes): the numbers must be the same, processes
 * must end cleanly, and the command line must work.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { GPT, savePretrained } from "../lib/index.js";
import { execute, main } from "./cli/support.js";
import { describeUnless, otherNodes } from "./support/skip.js";
import { byteLevelJson } from "./tokenizer/fixtures.js";
import { HuggingFaceTokenizer } from "../lib/tokenizer/huggingface-tokenizer.js";
import { expectChild } from "./support/child.js";
import { sharedFolder } from "./support/folder.js";
import { trainProgram } from "./support/train-program.js";

const versions = [22, 24].map((version) => ({
  version,
  node: fileURLToPath(new URL(`nodes/node_modules/node${version}/bin/node`, import.meta.url)),
}));
/** The Node.js of this process; the others must give the same numbers. */
const own = process.execPath;
const folder = sharedFolder();

const training = trainProgram(3);
const programs = {
  "trains and generates": `${training} console.log(JSON.stringify(await train(1)));`,
  "trains in a worker": `${training}
    const w = worker(${JSON.stringify(`${training} parentPort.postMessage(await train(workerData));`)}, 1);
    const [[result]] = await Promise.all([once(w, "message"), once(w, "exit")]);
    console.log(JSON.stringify(result));
  `,
};
/** A worker that is terminated while it works, and a process that ends with pending work. */
const terminated = `
  const w = worker(\`
    const a = heed.ones([256, 256]);
    for (let i = 0; i < 500; i++) heed.matmul(a, a).dispose();
    parentPort.postMessage("busy");
    await new Promise(() => setInterval(() => {}, 1000));
  \`);
  await once(w, "message");
  console.log(await w.terminate());
  for (let i = 0; i < 20; i++) heed.matmul(heed.ones([128, 128]), heed.ones([128, 128])).dispose();
`;

beforeAll(async () => {
  using model = new GPT({ vocabularySize: 269, contextLength: 32, layers: 1, heads: 2, width: 16 }, { seed: 3 });
  await savePretrained(folder, model, { tokenizer: new HuggingFaceTokenizer(byteLevelJson()) });
});

for (const { version, node } of versions)
  describeUnless(!existsSync(node) && otherNodes)(`Node ${version} (npm ci --prefix test/nodes)`, () => {
    test.each(Object.entries(programs))("%s", async (_, program) => {
      const output = await expectChild(program, 0, {}, [], node);
      expect(output).toMatch(/^\{"losses":\[\d.*"tokens":\[/);
      expect(output).toBe(await expectChild(program, 0, {}, [], own));
    });

    test("ends with work pending", async () => {
      expect(await expectChild(terminated, 0, {}, [], node)).toBe("1");
    });

    test("runs the command line", async () => {
      const run = (runtime: string, ...args: string[]) => execute(runtime, [main, ...args]);
      const help = await run(node, "--help");
      expect(help).toMatchObject({ code: 0, stderr: "" });
      expect(help.stdout).toMatch(/^Usage: heed/);
      const generate = ["generate", "--model", folder, "--temperature", "0", "--max-tokens", "8", "hello"];
      const generated = await run(node, ...generate);
      expect(generated).toMatchObject({ code: 0, stderr: "" });
      expect(generated).toEqual(await run(own, ...generate));
      expect(await run(node, "generate", "--model", folder, "--max-tokens", "none")).toMatchObject({ code: 2 });
      expect(await run(node, "generate", "--model", "/nowhere", "hello")).toMatchObject({ code: 1 });
    });
  });
