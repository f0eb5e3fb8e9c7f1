/** The disk of a server's process: what its work has left there, as another process sees it, and how it is filled. */
import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statfsSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import path from "node:path";
import type { Random } from "../support/random.js";
import { apiKeys, type Question } from "./http-settings.js";

const KiB = 2 ** 10;

/** Name of the output of a batch. */
export const batchName = (number: number): string => `out-${number}.jsonl`;

/** Returns the numbers of the batches in a folder. */
export function batchesIn(folder: string): number[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .flatMap((name) => /^out-(\d+)\.jsonl$/.exec(name)?.[1] ?? [])
    .map(Number);
}

/** Returns the requests of a batch: each question twice, as a text and as a conversation. */
export function requestsOf(questions: readonly Question[]): string {
  const lines = questions.flatMap(({ prompt, options }, i) => {
    const request = { method: "POST", body: { model: "cpu", ...options } };
    const messages = [{ role: "user", content: prompt }];
    return [
      { ...request, custom_id: `text ${i}`, url: "/v1/completions", body: { ...request.body, prompt } },
      { ...request, custom_id: `chat ${i}`, url: "/v1/chat/completions", body: { ...request.body, messages } },
    ];
  });
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}

interface Line {
  custom_id: string;
  response: { status_code: number; body: { choices: { text?: string; message?: { content: string } }[] } };
}

/** Returns the whole lines of a batch's output. Throws unless each is the right answer to one of the requests. */
export function answersIn(file: string, questions: readonly Question[]): string[] {
  const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
  const seen = new Set<string>();
  for (const line of lines) {
    const { custom_id: id, response } = JSON.parse(line) as Line;
    ok(!seen.has(id), `${file}: ${id} is answered twice`);
    seen.add(id);
    const [kind, index] = id.split(" ") as ["text" | "chat", string];
    strictEqual(response.status_code, 200, `${file}: ${line}`);
    const [choice] = response.body.choices;
    strictEqual(
      choice!.text ?? choice!.message!.content,
      questions[Number(index)]![kind],
      `${file}: ${id} has changed`,
    );
  }
  return lines;
}

/** Answers that were seen in the outputs of batches, by the batches' numbers. */
export type Seen = ReadonlyMap<number, readonly string[]>;

/** Returns the answers of the last batch in a folder. Its process may be adding more. */
export function lastAnswers(folder: string, questions: readonly Question[]): Seen {
  const numbers = batchesIn(folder);
  if (numbers.length === 0) return new Map();
  const last = Math.max(...numbers);
  return new Map([[last, answersIn(path.join(folder, batchName(last)), questions)]]);
}

/**
 * Returns the answers that are in a folder now. Throws if one is wrong, if one that was seen earlier is lost, or if a batch
 * that has a successor is not complete.
 */
export function answersNow(folder: string, questions: readonly Question[], earlier: Seen): Seen {
  const numbers = batchesIn(folder).sort((a, b) => a - b);
  const now = new Map(numbers.map((number) => [number, answersIn(path.join(folder, batchName(number)), questions)]));
  const last = Math.max(0, ...numbers);
  for (const number of numbers.slice(0, -1))
    strictEqual(now.get(number)!.length, 2 * questions.length, `batch ${number} is not complete`);
  for (const [number, lines] of earlier)
    // Older batches are removed.
    if (now.has(number))
      deepStrictEqual(now.get(number)!.slice(0, lines.length), lines, `batch ${number} lost answers`);
    else ok(number < last - 1, `batch ${number} is lost`);
  return now;
}

/** Returns the names of locks and of unfinished files in a folder and all folders in it. */
export function straysIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return (readdirSync(folder, { recursive: true }) as string[]).filter((name) =>
    /(^|[/\\])lock|\.lock|\.tmp-|replacing|\.takeover/.test(name),
  );
}

/** Fills the disk of a folder, except for some KiB. Resolves to a function that makes room again. */
export async function fillDisk(folder: string, random: Random): Promise<() => Promise<void>> {
  const filler = path.join(folder, "filler");
  const { bavail, bsize } = statfsSync(folder);
  let left = bavail * bsize - 4 * KiB * random.integer(16);
  const file = await open(filler, "w");
  try {
    // Large pieces would be one long turn of the event loop.
    for (; left > 0; left -= 256 * KiB) await file.write(new Uint8Array(Math.min(left, 256 * KiB)));
  } catch (error) {
    // Other work has written meanwhile, so the disk is already full.
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  } finally {
    await file.close();
  }
  return () => rm(filler, { force: true });
}

/** Checks the lines of a server's log, which must show no keys. The last line may not be whole yet. */
export function checkLog(text: string): void {
  for (const line of text.split("\n").slice(0, -1)) {
    ok(!apiKeys.some((key) => line.includes(key)), `the log has a key: ${line}`);
    try {
      JSON.parse(line);
    } catch {
      throw new Error(`a line of the log is not whole: ${line.slice(0, 300)}`);
    }
  }
}
