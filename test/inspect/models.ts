/** Tiny models whose activations PyTorch has computed: test/fixtures/activations.py. */
import { afterAll, beforeAll, describe } from "vitest";
import type { InputOf, InspectedModel, RunOptions } from "../../lib/inspect/index.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import type { Module } from "../../lib/nn/module.js";
import { decodeInts, type FixtureArray, readFixture } from "../support/fixtures.js";
import { type FixtureWeights, folderOfModel } from "../support/fixture-model.js";
import { sharedFolder } from "../support/folder.js";

interface Activations {
  logits: FixtureArray;
  activations: Record<string, FixtureArray>;
  /** Logits of the last position by name: those of a pass in which that activation x is replaced by 0.5·x + 0.1. */
  replaced: Record<string, FixtureArray>;
}

interface Subject extends Activations {
  model: InspectedModel & Module;
  input: InputOf<InspectedModel>;
  options: RunOptions<InspectedModel>;
}

export const families = ["gpt2", "llama", "bert", "t5-v1.1", "marian"] as const;

/** Loads the model of a family, by way of a folder, with its inputs; dispose the model. */
export async function loadSubject(name: (typeof families)[number], device: string, folder: string): Promise<Subject> {
  const found = readFixture(`activations/${name}`) as Activations;
  const fixture = (name === "gpt2" ? found : readFixture(`models/${name}`)) as FixtureWeights & {
    inputs: Record<string, FixtureArray>;
  };
  const { model } = await loadPretrained(await folderOfModel(fixture, folder), { device, kind: fixture.kind });
  const inputs = Object.entries(fixture.inputs).map(([name, array]) => [name, decodeInts(array, device)] as const);
  const { ids, keyLengths, decoderIds, ...rest } = Object.fromEntries(inputs);
  return {
    ...found,
    model: model,
    input: (decoderIds ? { source: ids, target: decoderIds } : ids) as Subject["input"],
    options: decoderIds ? { sourceLengths: keyLengths } : ({ keyLengths, ...rest } as object),
  };
}

/** Declares the tests of every family. While they run, `subject` returns the family's model with its inputs. */
export function onEachFamily(device: string, declare: (subject: () => Subject) => void): void {
  describe.each(families)("%s", (family) => {
    const folder = sharedFolder();
    let subject: Subject;
    beforeAll(async () => void (subject = await loadSubject(family, device, folder)));
    afterAll(() => subject.model.dispose());
    declare(() => subject);
  });
}
