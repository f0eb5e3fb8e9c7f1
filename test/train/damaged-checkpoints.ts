import { mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { editJson } from "../support/edit-json.js";

/** Changes a JSON file of a checkpoint. */
const edit = (at: string, file: string, change: (json: Record<string, unknown>) => unknown): void =>
  editJson(path.join(at, file), change);

/**
 * Possible damages of a checkpoint: a function that damages the one at `at`, and the code and a part of the message of
 * its error.
 */
export const damages: Record<string, [damage: (at: string) => void, code: string, message: string]> = {
  "no configuration": [(at) => rmSync(path.join(at, "config.json")), "ERR_IO", "config.json"],
  "no parameters": [(at) => rmSync(path.join(at, "model.safetensors")), "ERR_IO", "model.safetensors"],
  "no optimiser": [(at) => rmSync(path.join(at, "optimizer.safetensors")), "ERR_IO", "optimizer.safetensors"],
  "no state": [(at) => rmSync(path.join(at, "trainer.json")), "ERR_IO", "trainer.json"],
  "a folder for a file": [
    (at) => {
      rmSync(path.join(at, "config.json"));
      mkdirSync(path.join(at, "config.json"));
    },
    "ERR_IO",
    "config.json",
  ],
  "truncated parameters": [
    (at) => truncateSync(path.join(at, "model.safetensors"), 3000),
    "ERR_FORMAT",
    "model.safetensors",
  ],
  "truncated moments": [
    (at) => truncateSync(path.join(at, "optimizer.safetensors"), 5),
    "ERR_FORMAT",
    "optimizer.safetensors",
  ],
  "no JSON": [(at) => writeFileSync(path.join(at, "config.json"), "{"), "ERR_FORMAT", "config.json: expected JSON"],
  "another model": [
    (at) => edit(at, "config.json", (json) => ({ ...json, model_type: "t5" })),
    "ERR_FORMAT",
    'config.json: expected "model_type" to be gpt2',
  ],
  "another width": [
    (at) => edit(at, "config.json", (json) => ({ ...json, n_embd: 32 })),
    "ERR_FORMAT",
    "expected wte.weight of shape [11, 32], got [11, 16]",
  ],
  "heads that do not divide the width": [
    (at) => edit(at, "config.json", (json) => ({ ...json, n_head: 3 })),
    "ERR_FORMAT",
    "expected width to be a multiple of 3 heads, got 16",
  ],
  "more layers": [
    (at) => edit(at, "config.json", (json) => ({ ...json, n_layer: 3 })),
    "ERR_FORMAT",
    "expected h.2.mlp.c_fc.weight of shape [16, 64], got none",
  ],
  "as many layers as there may be": [
    (at) => edit(at, "config.json", (json) => ({ ...json, n_layer: 4096 })),
    "ERR_FORMAT",
    "expected h.4095.mlp.c_fc.weight of shape [16, 64], got none",
  ],
  "enormous layers": [
    (at) => edit(at, "config.json", (json) => ({ ...json, n_layer: 2 ** 30 })),
    "ERR_FORMAT",
    "expected layers to be an integer from 1 to 4096, got 1073741824",
  ],
  "an enormous feed-forward": [
    (at) => edit(at, "config.json", (json) => ({ ...json, n_inner: 2 ** 30 })),
    "ERR_FORMAT",
    "expected h.1.mlp.c_fc.weight of shape",
  ],
  "fewer layers": [
    (at) => edit(at, "config.json", (json) => ({ ...json, n_layer: 1 })),
    "ERR_FORMAT",
    "expected only the model's parameters, got h.1.",
  ],
  "no biases": [
    (at) => edit(at, "config.json", (json) => ({ ...json, heed_bias: false })),
    "ERR_FORMAT",
    "expected only the model's parameters, got h.0.",
  ],
  "another tokenizer": [
    (at) => edit(at, "heed-tokenizer.json", () => ({ type: "word" })),
    "ERR_FORMAT",
    "heed-tokenizer.json: tokenizer: expected",
  ],
  "a larger tokenizer": [
    (at) => edit(at, "heed-tokenizer.json", () => ({ type: "byte" })),
    "ERR_FORMAT",
    "tokens, as many as the model has, got 256",
  ],
  "another state": [
    (at) => edit(at, "trainer.json", () => null),
    "ERR_FORMAT",
    'trainer.json: expected "format": "heed-trainer", got undefined',
  ],
  "a later version": [
    (at) => edit(at, "trainer.json", (json) => ({ ...json, version: 3 })),
    "ERR_FORMAT",
    "expected version 2, got 3",
  ],
  "a wrong step": [
    (at) => edit(at, "trainer.json", (json) => ({ ...json, step: -1 })),
    "ERR_FORMAT",
    "expected step to be an integer of at least 0, got -1",
  ],
  "a wrong position": [
    (at) =>
      edit(at, "trainer.json", (json) => ({ ...json, position: { ...(json.position as object), sequences: 0.5 } })),
    "ERR_FORMAT",
    "expected sequences to be an integer of at least 0, got 0.5",
  ],
  "wrong seconds": [
    (at) => edit(at, "trainer.json", (json) => ({ ...json, seconds: "1" })),
    "ERR_FORMAT",
    "expected seconds to be a number",
  ],
  "wrong options": [
    (at) => edit(at, "trainer.json", (json) => ({ ...json, options: [] })),
    "ERR_FORMAT",
    "expected options to be an object",
  ],
  "no counts of the optimiser's steps": [
    (at) => edit(at, "trainer.json", (json) => ({ ...json, steps: undefined })),
    "ERR_FORMAT",
    "expected the optimiser's steps to be an object",
  ],
  "a count of steps that is none": [
    (at) => edit(at, "trainer.json", (json) => ({ ...json, steps: { "wte.weight": -1 } })),
    "ERR_FORMAT",
    "expected steps of wte.weight to be an integer of at least 0, got -1",
  ],
  "a wrong evaluation": [
    (at) => edit(at, "trainer.json", (json) => ({ ...json, evaluated: "never" })),
    "ERR_FORMAT",
    "expected evaluated to be an integer of at least 0",
  ],
};
