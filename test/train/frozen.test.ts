// A frozen parameter is still a parameter: it is saved, loaded and moved, but never changed.
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import type { GPT } from "../../lib/models/gpt.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import { Trainer } from "../../lib/train/trainer.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { onEachDevice } from "../support/targets.js";
import { collect, losses, tinyModel, tokens, values } from "./support.js";

const data = tokens();
const isFrozen = (name: string): boolean => name.startsWith("wte") || name.startsWith("h.0");

function freeze(model: GPT): GPT {
  for (const [name, parameter] of model.namedParameters()) parameter.requiresGrad = !isFrozen(name);
  return model;
}

const frozenOf = (state: Record<string, Float32Array>) =>
  Object.fromEntries(Object.entries(state).filter(([name]) => isFrozen(name)));

onEachDevice((device) => {
  const ids = tensor(Int32Array.of(1, 2, 3, 4), [1, 4], { device });

  /** Runs steps of training and returns the losses. */
  async function train(model: GPT, optimizer: AdamW, steps: number): Promise<number[]> {
    const read: number[] = [];
    for (let step = 0; step < steps; step++) {
      const loss = scope(() => {
        const loss = model.loss(ids, ids);
        loss.backward();
        return loss;
      });
      optimizer.step();
      optimizer.zeroGrad();
      read.push(await loss.item());
      loss.dispose();
    }
    return read;
  }

  describe("a frozen parameter", () => {
    test("stays in stateDict, is counted separately, moves with the others, and is disposed with them", async () => {
      using model = tinyModel({ device });
      const names = Object.keys(model.stateDict());
      const whole = model.parameterCount();
      freeze(model);
      expect(Object.keys(model.stateDict())).toEqual(names);
      expect(model.parameterCount()).toBe(whole);
      const trained = [...model.namedParameters({ trainable: true })].map(([name]) => name);
      expect(trained).toEqual(names.filter((name) => !isFrozen(name)));
      expect(model.parameterCount({ trainable: true })).toBeLessThan(whole);
      using other = tinyModel({ device, seed: 2 });
      other.loadStateDict(
        Object.fromEntries(
          Object.entries(await values(model)).map(([name, values]) => [
            name,
            { shape: model.stateDict()[name]!.shape, values },
          ]),
        ),
      );
      expect(await values(other)).toEqual(await values(model));
      model.to("bf16");
      expect(model.parameters().every(({ dtype }) => dtype === "bf16")).toBe(true);
      model.dispose();
      expect(model.wte.weight.disposed).toBe(true);
    });

    test("is not changed by an optimiser, has no moments, and the others learn as before", async () => {
      using model = freeze(tinyModel({ device }));
      const before = await values(model);
      using optimizer = new AdamW(model.namedParameters(), { lr: 0.05, weightDecay: 0.5, maxNorm: 1 });
      expect(Object.keys(optimizer.stateDict()).some((name) => isFrozen(name.slice(2)))).toBe(false);
      const [first, ...rest] = await train(model, optimizer, 6);
      expect(rest.at(-1)!).toBeLessThan(first!);
      expect(model.wte.weight.grad).toBeNull();
      const after = await values(model);
      expect(frozenOf(after)).toEqual(frozenOf(before));
      expect(after["h.1.mlp.c_fc.weight"]).not.toEqual(before["h.1.mlp.c_fc.weight"]);
    });

    test("may be frozen with a gradient and moments, and trained again", async () => {
      using model = tinyModel({ device });
      using optimizer = new AdamW(model.namedParameters(), { lr: 0.05 });
      const weight = model.h[0]!.mlp.c_fc.weight;
      await train(model, optimizer, 1);
      scope(() => model.loss(ids, ids).backward());
      weight.requiresGrad = false;
      const before = await weight.data();
      optimizer.step();
      expect(await weight.data()).toEqual(before);
      expect(optimizer.steps["h.0.mlp.c_fc.weight"]).toBe(1);
      optimizer.zeroGrad();
      weight.requiresGrad = true;
      await train(model, optimizer, 1);
      expect(await weight.data()).not.toEqual(before);
    });

    test("gets its moments when it is trained later", async () => {
      using model = freeze(tinyModel({ device }));
      using optimizer = new AdamW(model.namedParameters(), { lr: 0.05 });
      await train(model, optimizer, 2);
      for (const parameter of model.parameters()) parameter.requiresGrad = true;
      const before = await values(model);
      await train(model, optimizer, 1);
      expect(optimizer.steps).toMatchObject({ "wte.weight": 1, "ln_f.weight": 3 });
      expect((await values(model))["wte.weight"]).not.toEqual(before["wte.weight"]);
      expect(Object.keys(optimizer.stateDict()).length).toBe(2 * model.parameters().length);
    });

    test("in mixed precision the others get the gradients that they get beside trained ones", async () => {
      const gradients: Float32Array[][] = [];
      for (const some of [false, true]) {
        using model = tinyModel({ device });
        model.dtype = "bf16";
        if (some) freeze(model);
        // A pass without gradients keeps the rounded weights; a pass after a change must not use the old ones.
        noGrad(() => model.forward(ids).dispose());
        model.h[0]!.mlp.c_fc.weight.set(new Float32Array(16 * 64).fill(0.125));
        for (let pass = 0; pass < 2; pass++) scope(() => model.loss(ids, ids).backward());
        const { ln_1, attn, mlp } = model.h[1]!;
        const weights = [ln_1.weight, attn.c_attn.weight, mlp.c_proj.bias!];
        gradients.push(await Promise.all(weights.map((weight) => weight.grad!.data())));
      }
      expect(gradients[1]).toEqual(gradients[0]);
    });

    test("in mixed precision, overwriting between the passes is an error, as elsewhere", () => {
      using model = freeze(tinyModel({ device }));
      model.dtype = "bf16";
      scope(() => {
        const loss = model.loss(ids, ids);
        model.h[0]!.mlp.c_fc.weight.set(new Float32Array(16 * 64));
        noGrad(() => model.forward(ids).dispose());
        expectError(() => loss.backward(), "ERR_AUTOGRAD", /overwritten/);
      });
    });

    test("is in a file of the model", async () => {
      const folder = temporaryFolder();
      using model = freeze(tinyModel({ device }));
      await savePretrained(folder, model);
      const { model: loaded } = await loadModel(folder, { device });
      expect(await values(loaded)).toEqual(await values(model));
      loaded.dispose();
    });
  });

  describe("a run with frozen parameters", () => {
    const options = { data, batchSize: 2, lr: 1e-2, steps: 8 };

    test("continues from a checkpoint bit for bit, with them still frozen", async () => {
      using whole = freeze(tinyModel({ device }));
      const before = await values(whole);
      using one = new Trainer({ ...options, model: whole });
      const expected = losses(await collect(one.run()));

      const folder = temporaryFolder();
      using half = freeze(tinyModel({ device }));
      const first = new AbortController();
      using trainer = new Trainer({ ...options, model: half, checkpoint: { folder }, signal: first.signal });
      const begun: number[] = [];
      for await (const event of trainer.run()) if (event.type === "step" && begun.push(event.loss) === 4) first.abort();
      const resume = await loadCheckpoint(folder, { device });
      expect(resume.model.parameters().filter(({ requiresGrad }) => !requiresGrad).length).toBe(13);
      expect(Object.keys(resume.optimizer.moments).some((name) => isFrozen(name.slice(2)))).toBe(false);
      using rest = new Trainer({ ...options, model: resume.model, resume });
      expect([...begun.slice(0, resume.state.step), ...losses(await collect(rest.run()))]).toEqual(expected);
      const after = await values(resume.model);
      expect(after).toEqual(await values(whole));
      expect(frozenOf(after)).toEqual(frozenOf(before));
      resume.model.dispose();
    });

    test("a checkpoint that names an unknown parameter is refused", async () => {
      const folder = temporaryFolder();
      using model = freeze(tinyModel({ device }));
      using trainer = new Trainer({ ...options, steps: 1, model, checkpoint: { folder } });
      const { checkpoint } = await trainer.train();
      const file = path.join(checkpoint!, "trainer.json");
      const content = JSON.parse(readFileSync(file, "utf8")) as { frozen: unknown };
      expect(content.frozen).toContain("wte.weight");
      for (const frozen of [["nobody"], "wte.weight", [3]]) {
        writeFileSync(file, JSON.stringify({ ...content, frozen }));
        await expectRejection(loadCheckpoint(folder, { device }), "ERR_FORMAT", /expected frozen to/);
      }
    });

    test("is refused if nothing is left to train", () => {
      using model = tinyModel({ device });
      for (const parameter of model.parameters()) parameter.requiresGrad = false;
      expectError(() => new Trainer({ ...options, model }), "ERR_ARGUMENT", /parameters to train/);
    });
  });
});
