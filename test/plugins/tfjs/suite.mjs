// Runs tfjs-core's own suite with heed as the backend, over dist/:
//
//   node test/plugins/tfjs/suite.mjs [--device cpu] [--only REGEX] [--every N] [--failures]
//
// --only runs the specs whose full names fit; --every runs every Nth of them; --failures prints the message of each
// failure. The last line is "suite: … passed, … failed", and the exit code is 1 if a spec fails that skips.mjs does not
// name.
import { createRequire, register } from "node:module";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    only: { type: "string", default: "" },
    every: { type: "string", default: "1" },
    failures: { type: "boolean", default: false },
  },
});

register("./hooks.mjs", import.meta.url);
// The suite was written for a bundler, which gives its modules a `require`.
const require = createRequire(import.meta.url);
globalThis.require = require;

const jasmine = require("jasmine-core").boot(true);
const tests = "@tensorflow/tfjs-core/dist";
const path = (file) => new URL(`../../../node_modules/${tests}/${file}.js`, import.meta.url).href;

const heed = await import("../../../dist/plugins/tfjs/index.js");
const skips = (await import("./skips.mjs")).skips.filter(({ device = "" }) => options.device.startsWith(device));
// This copy of tfjs-core is not the one that heed has imported.
const tf = await import(path("index"));
heed.register(tf, { device: options.device });
const { setTestEnvs } = await import(path("jasmine_util"));
setTestEnvs([{ name: "heed", backendName: "heed", isDataSync: true }]);
await import(path("public/chained_ops/register_all_chained_ops"));
await import(path("register_all_gradients"));
await import(path("tests"));

const only = new RegExp(options.only);
const every = Number(options.every);
const skipped = new Map();
let seen = 0;
/** Returns the entry of the table that names a spec. */
const skipOf = (name) => skips.find(({ specs }) => specs.some((spec) => name.includes(spec)));
const environment = jasmine.getEnv();
environment.configure({
  random: false,
  specFilter(spec) {
    const name = spec.getFullName();
    if (!only.test(name)) return false;
    const skip = skipOf(name);
    if (skip) {
      skipped.set(skip, (skipped.get(skip) ?? 0) + 1);
      return false;
    }
    return seen++ % every === 0;
  },
});

const counts = { passed: 0, failed: 0, pending: 0 };
const { log } = console;
environment.addReporter({
  specDone({ status, fullName, failedExpectations }) {
    if (status === "excluded") return;
    counts[status] = (counts[status] ?? 0) + 1;
    if (status !== "failed") return;
    const messages = failedExpectations.map(({ message }) => message).join("\n    ");
    log(options.failures ? `${fullName}\n    ${messages.slice(0, 600)}` : fullName);
  },
});

// The suite tests warnings; what it prints is of no use here.
for (const method of ["log", "warn", "error", "info"]) console[method] = () => undefined;
const { overallStatus, incompleteReason } = await environment.execute();
for (const { reason } of skips)
  log(`skipped: ${skipped.get(skips.find((skip) => skip.reason === reason)) ?? 0} (${reason})`);
const stale = options.only ? [] : skips.filter((skip) => !skipped.has(skip));
for (const { reason } of stale) log(`no spec fits what skips.mjs lists for: ${reason}`);
if (overallStatus === "incomplete" && !options.only && every === 1) log(`incomplete: ${incompleteReason}`);
const all = [...skipped.values()].reduce((sum, count) => sum + count, 0);
log(`${counts.passed + counts.failed + counts.pending + all} specs: ${all} skipped, ${counts.pending} pending`);
log(`suite: ${counts.passed} passed, ${counts.failed} failed`);
process.exit(counts.failed || stale.length ? 1 : 0);
