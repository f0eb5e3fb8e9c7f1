/** Worker threads that fail: the process can end, and whoever waits gets an error. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { execute } from "./cli/support.js";
import { dist } from "./support/dist.js";
import { sharedFolder } from "./support/folder.js";

const folder = sharedFolder();
const module = pathToFileURL(dist("util/worker-thread.js")).href;

const worker = `
  import { carryOut } from ${JSON.stringify(module)};
  carryOut((order) => {
    if (order === "throw") throw new Error("thrown");
    if (order === "null") throw null;
    if (order === "function") return () => 1;
    if (order === "exit") process.exit(3);
    if (order === "uncaught") return new Promise(() => setImmediate(() => { throw new Error("uncaught"); }));
    return order.length ?? 0;
  });
`;

beforeAll(() => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "worker.mjs"), worker);
});

/** Runs a program with a thread, and returns what it has written when it has ended by itself. */
async function outputOf(program: string): Promise<string[]> {
  const source = `
    import { WorkerThread } from ${JSON.stringify(module)};
    const thread = new WorkerThread(new URL(${JSON.stringify(pathToFileURL(path.join(folder, "worker.mjs")).href)}));
    const run = async (order) => {
      try {
        console.log(await thread.run(order));
      } catch (error) {
        console.log(error.code ?? error.message);
      }
    };
    const nested = (depth) => {
      let value = "";
      for (let i = 0; i < depth; i++) value = { value };
      return value;
    };
    setTimeout(() => { console.log("still running"); process.exit(1); }, 5000).unref();
    setTimeout(() => process.exit(1), 20_000).unref();
    ${program}`;
  const { stdout, code } = await execute(process.execPath, ["--input-type=module", "-e", source]);
  expect(code).toBe(0);
  return stdout.trim().split("\n");
}

test("a thread without orders does not keep the process alive", async () => {
  expect(await outputOf("console.log(thread.waiting);")).toEqual(["0"]);
});

test("orders that cannot be sent are refused, and others are carried out", async () => {
  const program = `
    await run("four");
    await run(() => 1);
    await run(nested(100_000));
    await run("three");
    console.log(thread.waiting, thread.failed);`;
  expect(await outputOf(program)).toEqual(["4", "ERR_INTERNAL", "ERR_INTERNAL", "5", "0 false"]);
  for (const bad of ["() => 1", "nested(100_000)"])
    expect(await outputOf(`await run(${bad});`)).toEqual(["ERR_INTERNAL"]);
});

test("failures in the thread", async () => {
  for (const order of ["throw", "null", "function"]) {
    const output = await outputOf(
      `await run(${JSON.stringify(order)}); await run("four"); console.log(thread.failed);`,
    );
    expect(output).toEqual(["ERR_INTERNAL", "4", "false"]);
  }
});

test("the end of the thread", async () => {
  const exit = await outputOf(
    `await Promise.all([run("exit"), run("exit")]); await run("a"); console.log(thread.failed);`,
  );
  expect(exit).toEqual(["ERR_INTERNAL", "ERR_INTERNAL", "ERR_INTERNAL", "true"]);
  expect(await outputOf(`await run("uncaught"); console.log(thread.failed);`)).toEqual(["uncaught", "true"]);
});
