// Reads from a classifier's config.json how its logits become scores. "problem_type" says it for labels; the
// cross-encoders of sentence-transformers name the activation function of their only logit.
import path from "node:path";
import type { ClassificationRecipe, ScoreFunction } from "../embed/classification.js";
import { describe, HeedError, oneOf } from "../util/errors.js";
import { inFile, readJsonFile } from "../util/files.js";

type Json = Readonly<Record<string, unknown>>;

/** Functions for `classify` by the type of problem; undefined is the default. */
const problems: Record<string, ScoreFunction | undefined> = {
  regression: "none",
  single_label_classification: undefined,
  multi_label_classification: "sigmoid",
};

/** Functions for `rank` by the last part of their names in Python. */
const activations: Record<string, "sigmoid" | "none"> = { Sigmoid: "sigmoid", Identity: "none" };

/**
 * Returns the recipe in the config.json of a folder. An entry that the file does not specify is missing.
 *
 * @throws ERR_FORMAT if an entry is unknown; the message names the file.
 */
export async function readClassificationRecipe(folder: string): Promise<ClassificationRecipe> {
  const file = path.join(folder, "config.json");
  const config = Object(await readJsonFile(file)) as Json;
  return inFile(file, () => {
    const [classify, rank] = [classifyOf(config), rankOf(config)];
    return { ...(classify && { classify }), ...(rank && { rank }) };
  });
}

function classifyOf({ problem_type: problem }: Json): ScoreFunction | undefined {
  if (problem === undefined || problem === null) return undefined;
  if (typeof problem === "string" && Object.hasOwn(problems, problem)) return problems[problem];
  throw new HeedError(
    "ERR_FORMAT",
    `expected problem_type to be ${oneOf(Object.keys(problems))}, got ${describe(problem)}`,
  );
}

function rankOf(config: Json): "sigmoid" | "none" | undefined {
  const { activation_fn: activation } = Object(config.sentence_transformers) as Json;
  // Before version 4, sentence-transformers had a longer name for it.
  const name = activation ?? config.sbert_ce_default_activation_function;
  if (name === undefined || name === null) return undefined;
  const last = typeof name === "string" ? name.slice(name.lastIndexOf(".") + 1) : "";
  if (Object.hasOwn(activations, last)) return activations[last];
  throw new HeedError(
    "ERR_FORMAT",
    `expected the cross-encoder's activation function to be Sigmoid or Identity, got ${describe(name)}`,
  );
}
