/**
 * Spoilt files: each must load and work, or be refused with a HeedError, in time and memory that follow from its size.
 * Files that once broke a reader are in the folder corpus, or are made here if they are large.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { device } from "../../lib/core/device.js";
import { HeedError } from "../../lib/util/errors.js";
import { sharedFolder } from "../support/folder.js";
import { fuzz } from "./fuzz.js";
import type { Draw } from "./random-models.js";
import { spoilBytes, spoilJson, spoilSafetensors } from "./spoil.js";
import { filesOf, type Subject, subjects } from "./subjects.js";

const folder = sharedFolder();
/** The valid files of each subject, by its name. */
const sound = new Map<string, Map<string, Buffer>>();

beforeAll(async () => {
  for (const subject of subjects) {
    const made = path.join(folder, "sound", subject.name);
    mkdirSync(made, { recursive: true });
    await subject.make(made);
    await subject.use(made);
    sound.set(subject.name, filesOf(made));
  }
});

const mebi = 2 ** 20;
/**
 * Memory besides 64 bytes for each byte of the files: what any model may use for its tables and for parts that turn out
 * to be missing.
 */
const anyway = 192 * mebi;

interface Spoilt {
  subject: string;
  files: ReadonlyMap<string, Buffer>;
}

/** Uses the files and expects no error or a HeedError, within a short time and little memory. */
async function expectBounded({ subject: name, files }: Spoilt): Promise<void> {
  const subject = subjects.find((candidate) => candidate.name === name)!;
  const place = path.join(folder, "spoilt");
  rmSync(place, { recursive: true, force: true });
  let bytes = 0;
  for (const [file, content] of files) {
    mkdirSync(path.dirname(path.join(place, file)), { recursive: true });
    writeFileSync(path.join(place, file), content);
    bytes += content.length;
  }
  const cpu = device("cpu");
  cpu.resetPeak();
  const before = { device: cpu.memory().live, ...process.memoryUsage(), time: performance.now() };
  try {
    await subject.use(place);
  } catch (error) {
    expect(error, (error as Error).stack).toBeInstanceOf(HeedError);
  }
  const seconds = (performance.now() - before.time) / 1000;
  const after = { device: cpu.memory().peak, ...process.memoryUsage() };
  const most = anyway + 64 * bytes;
  expect(seconds, "seconds").toBeLessThan(10 + bytes / mebi);
  expect(after.device - before.device, "bytes of tensors").toBeLessThan(most);
  expect(after.heapUsed - before.heapUsed, "bytes of the heap").toBeLessThan(most);
  expect(after.arrayBuffers - before.arrayBuffers, "bytes of buffers").toBeLessThan(most);
}

const kept = fileURLToPath(new URL("../../build/fuzz", import.meta.url));

/** Stores the files, in the form of the corpus, until they have not failed: if the process ends, they remain. */
async function keeping(spoilt: Spoilt, body: () => Promise<void>): Promise<void> {
  const whole = sound.get(spoilt.subject)!;
  const changed = [...spoilt.files].filter(([name, content]) => !whole.get(name)?.equals(content));
  const json = JSON.stringify({
    subject: spoilt.subject,
    missing: [...whole.keys()].filter((name) => !spoilt.files.has(name)),
    files: Object.fromEntries(changed.map(([name, content]) => [name, written(content)])),
  });
  mkdirSync(kept, { recursive: true });
  const name = createHash("sha256").update(json).digest("hex").slice(0, 12);
  const file = path.join(kept, `${name}.json`);
  writeFileSync(file, json);
  try {
    await body();
    rmSync(file);
  } catch (error) {
    (error as Error).message += `\nThe files are kept in ${file}: what has been mended belongs in test/fuzz/corpus.`;
    throw error;
  }
}

/** Returns text, or bytes in base64. */
function written(content: Buffer): string | { base64: string } {
  const text = content.toString();
  return Buffer.from(text).equals(content) ? text : { base64: content.toString("base64") };
}

function spoil(draw: Draw, name: string, content: Buffer): Buffer {
  const raw = draw(fc.nat, 9) === 0;
  if (name.endsWith(".json") && !raw) return Buffer.from(spoilJson(draw, content.toString()));
  if (name.endsWith(".safetensors") && !raw) return spoilSafetensors(draw, content);
  return spoilBytes(draw, content);
}

/** Returns a subject one or two of whose files are spoilt. */
function spoiltOf(draw: Draw, among: readonly Subject[]): Spoilt {
  const subject = among[draw(fc.nat, among.length - 1)]!;
  const files = new Map(sound.get(subject.name));
  const names = [...files.keys()];
  for (let n = draw(fc.nat, 3) === 0 ? 2 : 1; n > 0; n--) {
    const name = names[draw(fc.nat, names.length - 1)]!;
    files.set(name, spoil(draw, name, sound.get(subject.name)!.get(name)!));
    if (draw(fc.nat, 60) === 0) files.delete(name);
  }
  return { subject: subject.name, files };
}

const alone = new Set(subjects.slice(-9).map(({ name }) => name));
const single = new Set(["GGUF of a Llama", "GGUF of a GPT", "llama2.c", "CTranslate2"]);
for (const [name, among, cases] of [
  ["folders", subjects.filter(({ name }) => !alone.has(name) && !single.has(name)), { ci: 30, nightly: 3_000 }],
  ["GGUF, llama2.c and CTranslate2", subjects.filter(({ name }) => single.has(name)), { ci: 30, nightly: 3_000 }],
  ["tokenizers", subjects.filter(({ name }) => alone.has(name)), { ci: 30, nightly: 5_000 }],
] as const)
  fuzz(`spoilt ${name} are refused or work`, fc.gen(), cases, async (draw) => {
    const spoilt = spoiltOf(draw, among);
    await keeping(spoilt, () => expectBounded(spoilt));
  });

interface Kept {
  subject: string;
  missing: string[];
  files: Record<string, string | { base64: string }>;
}

const corpus = fileURLToPath(new URL("corpus", import.meta.url));
describe("files that once broke a reader", () => {
  test.each(readdirSync(corpus).filter((name) => name.endsWith(".json")))("%s", async (name) => {
    const { subject, missing, files } = JSON.parse(readFileSync(path.join(corpus, name), "utf8")) as Kept;
    const whole = new Map(sound.get(subject));
    for (const file of missing) whole.delete(file);
    for (const [file, content] of Object.entries(files))
      whole.set(file, typeof content === "string" ? Buffer.from(content) : Buffer.from(content.base64, "base64"));
    await expectBounded({ subject, files: whole });
  });
});
