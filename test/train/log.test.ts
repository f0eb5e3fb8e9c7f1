import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { JsonLog } from "../../lib/train/log.js";
import { Trainer } from "../../lib/train/trainer.js";
import { temporaryFolder } from "../support/folder.js";
import { tinyModel, tokens } from "./support.js";

const lines = (file: string): unknown[] =>
  readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);

function append(file: string, ...records: object[]): void {
  using log = new JsonLog(file);
  for (const record of records) log.write(record);
}

test("holds every event of a run, each with its time", async () => {
  const file = path.join(temporaryFolder(), "a", "log.jsonl");
  const model = tinyModel();
  using trainer = new Trainer({ model, data: tokens(), validation: tokens(100, 4), batchSize: 2, steps: 2, log: file });
  const seen: unknown[] = [];
  for await (const event of trainer.run()) {
    seen.push(event);
    // The line is written before the event.
    expect(lines(file)).toHaveLength(seen.length + 1);
  }
  const logged = lines(file).map((line) => {
    const { time, ...event } = line as { time: string };
    expect(new Date(time).toISOString()).toBe(time);
    return event;
  });
  expect(logged).toEqual([{ type: "started", step: 0 }, ...seen]);
});

test("later runs add to it", () => {
  const file = path.join(temporaryFolder(), "log.jsonl");
  append(file, { a: 1 });
  append(file, { a: 2 }, { a: 3 });
  expect(lines(file)).toEqual([{ a: 1 }, { a: 2 }, { a: 3 }]);
});

test.for(['{"', '{"a":1', '{"a":1}', '{"a":"\u00fc'])(
  "a line that a killed process wrote except for a byte is removed: %s",
  (line) => {
    const file = path.join(temporaryFolder(), "log.jsonl");
    append(file, { a: 1 });
    appendFileSync(file, Buffer.from(line).subarray(0, -1));
    append(file, { a: 2 });
    expect(lines(file)).toEqual([{ a: 1 }, { a: 2 }]);
  },
);

test("nothing else is removed: a complete line without its newline, or another file's text", () => {
  const file = path.join(temporaryFolder(), "log.jsonl");
  writeFileSync(file, '{"a":1}');
  append(file, { a: 2 });
  expect(lines(file)).toEqual([{ a: 1 }, { a: 2 }]);
  writeFileSync(file, "My notes");
  append(file, { a: 2 });
  expect(readFileSync(file, "utf8")).toBe('My notes\n{"a":2}\n');
});

test("a file that cannot be written is an ERR_IO with its name", () => {
  const folder = temporaryFolder();
  mkdirSync(path.join(folder, "log.jsonl"));
  expect(() => new JsonLog(path.join(folder, "log.jsonl"))).toThrow(
    expect.objectContaining({
      code: "ERR_IO",
      message: expect.stringContaining(path.join(folder, "log.jsonl")) as string,
    }),
  );
});
