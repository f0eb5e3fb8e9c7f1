/** The state that all jobs share: the models, and their results in the absence of faults. */
import { deepStrictEqual } from "node:assert/strict";
import path from "node:path";
import {
  type CausalModel,
  device,
  type Device,
  generateTokens,
  GPT,
  Llama,
  load,
  type LoadOptions,
  saveGguf,
  saveLlama2c,
  savePretrained,
  tokenData,
  type TokenSource,
  Trainer,
} from "heed";
import type { Random } from "../support/random.js";

/** Formats to which a model is converted; each name is also the name of the file or folder. */
export const formats = ["folder", "model.gguf", "model.bin"] as const;
export type Format = (typeof formats)[number];

export const trainingSteps = 6;

/** Makes a model for training. It has dropout, so that a resumed run must know its position. */
export const newStudent = (on: Device | string): GPT =>
  new GPT(
    { vocabularySize: 17, contextLength: 8, layers: 1, heads: 2, width: 16, dropout: 0.1 },
    { device: on, seed: 1 },
  );

/** Returns tokens for it, one of which may be outside its vocabulary. */
export const lessons = (bad?: number): TokenSource =>
  tokenData(Uint8Array.from({ length: 400 }, (_, i) => (i === bad ? 17 : (i * i + (i >> 3)) % 17)));

const prompts = [
  [5, 9, 2],
  [40, 41, 42, 43, 44, 45, 46, 47],
];

/** Samples a model's continuations of the prompts, which are longer than its context. */
export async function say(model: CausalModel): Promise<number[][]> {
  const options = { maxTokens: 20, seed: 3, temperature: 0.9, topK: 20, overflow: "slide" } as const;
  return (await generateTokens(model, prompts, options)).map(({ tokens }) => tokens);
}

/** Prompts of requests to an engine; half of them begin the same way. */
export const questions = Array.from({ length: 8 }, (_, i) =>
  i % 2 ? [7, 8, 9, 10, 11, 12, 13, 14, i] : Array.from({ length: i + 1 }, (_, t) => (t * 13 + i) % 96),
);

/** Returns the request of a question. */
export const answerTo = (
  which: number,
): { tokens: number[]; maxTokens: number; seed: number; temperature: number } => ({
  ...{ tokens: questions[which]!, maxTokens: 4 + which, seed: which },
  temperature: which % 3,
});

/** Answers each question by itself. */
async function answer(model: CausalModel): Promise<number[][]> {
  const answers: number[][] = [];
  for (const which of questions.keys()) {
    const { tokens, ...options } = answerTo(which);
    answers.push((await generateTokens(model, [tokens], options))[0]!.tokens);
  }
  return answers;
}

/** Returns the losses of a student's first steps. */
export async function learn(on: Device | string): Promise<number[]> {
  using model = newStudent(on);
  using trainer = new Trainer({ model, data: lessons(), batchSize: 2, steps: trainingSteps });
  const losses: number[] = [];
  for await (const event of trainer.run()) if (event.type === "step") losses.push(event.loss);
  return losses;
}

export const newSpeaker = (on: Device | string): Llama =>
  new Llama(
    { vocabularySize: 96, contextLength: 24, layers: 2, heads: 2, width: 32, feedForwardWidth: 64 },
    { device: on, seed: 2 },
  );

/** Saves a speaker in a folder, in place of the one that may be there. */
export async function save(model: Llama, folder: string, format: Format): Promise<void> {
  const to = path.join(folder, format);
  if (format === "folder") await savePretrained(to, model, { overwrite: true });
  else if (format === "model.gguf") await saveGguf(to, model);
  else await saveLlama2c(to, model);
}

/** One device, with a model that stays on it, and its expected results. */
export class Place implements Disposable {
  readonly #saidBy = new Map<Format, number[][]>();

  private constructor(
    readonly device: Device,
    /** The path of the speaker's model in each format. */
    readonly models: string,
    readonly speaker: Llama,
    readonly said: number[][],
    readonly losses: number[],
    /** The answer to each question. */
    readonly answers: number[][],
  ) {}

  static async open(name: string, models: string): Promise<Place> {
    const speaker = newSpeaker(name);
    const [said, losses, answers] = [await say(speaker), await learn(name), await answer(speaker)];
    const place = new Place(device(name), models, speaker, said, losses, answers);
    // Formats store the halves of rotary positions differently, so sums are rounded differently.
    for (const format of formats) {
      using loaded = await load(path.join(models, format), { kind: "causal", device: name });
      place.#saidBy.set(format, await say(loaded.model));
    }
    return place;
  }

  /** Loads a speaker from a file, a folder or a hub. Throws unless it generates the same as at first. */
  async checkSaved(name: string, format: Format, options: Omit<LoadOptions, "kind"> = {}): Promise<void> {
    using loaded = await load(name, { ...options, kind: "causal", device: this.device });
    deepStrictEqual(await say(loaded.model), this.#saidBy.get(format), `the model of ${name} says something else`);
  }

  /** Throws unless a fixed generation and a fixed training give the same results as at first. */
  async check(): Promise<void> {
    deepStrictEqual(await say(this.speaker), this.said, `a fixed generation on ${this.device} has changed`);
    deepStrictEqual(await learn(this.device), this.losses, `a fixed training on ${this.device} has changed`);
  }

  [Symbol.dispose](): void {
    this.speaker.dispose();
  }
}

/** The environment of a job. */
export interface Lane {
  place: Place;
  /** A folder on the small disk that no other lane uses. */
  folder: string;
  random: Random;
}

/** Resolves if the results are correct; rejects with an error that a fault caused, or with the mistake. */
export type Work = (lane: Lane) => Promise<void>;

export const pick = <T>(random: Random, list: readonly T[]): T => list[random.integer(list.length)]!;
