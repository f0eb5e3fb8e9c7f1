// Training with activations in bf16: parameters, gradients and checkpoints stay f32, the copies that matrix products
// read follow the parameters, and the losses follow those of f32.
import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { readSafetensors } from "../../lib/formats/safetensors.js";
import type { GPT } from "../../lib/models/gpt.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import { Trainer } from "../../lib/train/trainer.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { roundoff } from "../support/dtypes.js";
import { expectError } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { devicesTested } from "../support/targets.js";
import { collect, losses, tinyModel, tokens, values } from "./support.js";

const ids = Int32Array.from({ length: 16 }, (_, i) => (i * 7) % 11);

describe.each(devicesTested)("on $name", ({ device }) => {
  test("losses follow those of f32", async () => {
    const run = async (dtype: "f32" | "bf16"): Promise<number[]> => {
      using model = tinyModel({ device });
      using trainer = new Trainer({ model, dtype, data: tokens(), steps: 30, lr: 1e-2, seed: 5 });
      return losses(await collect(trainer.run()));
    };
    const [exact, short] = [await run("f32"), await run("bf16")];
    expect(exact.at(-1)).toBeLessThan(0.75 * exact[0]!);
    // A loss is a mean over 64 tokens of sums of rounded terms, whose errors average out. The difference is less than
    // one rounding to bf16 (0.4 %), even after the parameters have drifted apart for 30 steps.
    for (const [step, loss] of short.entries())
      expect(Math.abs(loss - exact[step]!), `step ${step}: ${loss} for ${exact[step]}`).toBeLessThan(
        roundoff("bf16") * exact[step]!,
      );
    expect(short).not.toEqual(exact);
  });

  test("logits are bf16, parameters and their gradients f32", async () => {
    using model = tinyModel({ device });
    model.dtype = "bf16";
    using input = tensor(ids, [2, 8], { device });
    using logits = noGrad(() => model.forward(input));
    expect(logits.dtype).toBe("bf16");
    using loss = scope(() => {
      const loss = model.loss(input, input);
      loss.backward();
      return loss;
    });
    expect(loss.dtype).toBe("f32");
    for (const [name, parameter] of model.namedParameters()) {
      expect(parameter.dtype, name).toBe("f32");
      expect(parameter.grad?.dtype, `gradient of ${name}`).toBe("f32");
    }
  });

  test("the weights that products read follow the optimiser and set()", async () => {
    using model = tinyModel({ device });
    model.dtype = "bf16";
    using input = tensor(ids, [2, 8], { device });
    using optimizer = new AdamW(model.namedParameters(), { lr: 0.1 });
    const logits = async (of: GPT): Promise<Float32Array> => {
      using out = noGrad(() => of.forward(input));
      return await out.data();
    };
    /** Returns the result of a model that never had other parameters. */
    const fresh = async (): Promise<Float32Array> => {
      using other = tinyModel({ device });
      other.dtype = "bf16";
      other.loadStateDict(
        Object.fromEntries(
          Object.entries(await values(model)).map(([name, data]) => [
            name,
            { shape: model.stateDict()[name]!.shape, values: data },
          ]),
        ),
      );
      return await logits(other);
    };
    const before = await logits(model);
    scope(() => model.loss(input, input).backward());
    optimizer.step();
    const after = await logits(model);
    expect(after).not.toEqual(before);
    expect(after).toEqual(await fresh());
    const weight = model.h[0]!.mlp.c_fc.weight;
    weight.set(new Float32Array(weight.size).fill(0.01));
    const changed = await logits(model);
    expect(changed).not.toEqual(after);
    expect(changed).toEqual(await fresh());
  });

  test("rounded weights live as long as their graph, and replace those of inference", async () => {
    using input = tensor(ids, [2, 8], { device });
    const live = (): number => input.device.memory().live;
    const step = (model: GPT): void => {
      scope(() => model.loss(input, input).backward());
      for (const parameter of model.parameters()) parameter.zeroGrad();
    };
    using model = tinyModel({ device });
    model.dtype = "bf16";
    const before = live();
    step(model);
    expect(live()).toBe(before);
    noGrad(() => model.forward(input)).dispose();
    expect(live()).toBeGreaterThan(before);
    step(model);
    expect(live()).toBe(before);
  });

  test("nothing stays in memory", async () => {
    using warm = tensor([0], [1], { device });
    const { live, tensors } = warm.device.memory();
    {
      using model = tinyModel({ device });
      using trainer = new Trainer({ model, dtype: "bf16", data: tokens(), steps: 2 });
      await trainer.train();
    }
    const after = warm.device.memory();
    expect(after.live).toBeLessThanOrEqual(live);
    expect(after.tensors).toBeLessThanOrEqual(tensors);
  });

  test("checkpoints are f32, and load into every type", async () => {
    const folder = temporaryFolder();
    using model = tinyModel({ device });
    using trainer = new Trainer({ model, dtype: "bf16", data: tokens(), steps: 2, checkpoint: { folder } });
    const { checkpoint } = await trainer.train();
    const file = await readSafetensors(`${checkpoint}/model.safetensors`);
    for (const [name, { dtype }] of file.tensors) expect(dtype, name).toBe("F32");
    await file.close();
    using input = tensor(ids, [2, 8], { device });
    model.dtype = "f32";
    using exact = noGrad(() => model.forward(input));
    const expected = await exact.data();
    for (const dtype of ["f32", "bf16", "f16"] as const) {
      const loaded = await loadModel(folder, { device, dtype });
      using other = loaded.model;
      for (const parameter of other.parameters()) expect(parameter.dtype).toBe(dtype);
      using logits = noGrad(() => other.forward(input));
      expect(logits.dtype).toBe(dtype);
      // f32 gives the saved numbers; other types differ by a few roundings of terms that make up the largest logit.
      const largest = Math.max(...expected.map(Math.abs));
      const allowed = dtype === "f32" ? 0 : 8 * roundoff(dtype) * largest;
      for (const [i, logit] of (await logits.data()).entries())
        expect(Math.abs(logit - expected[i]!), `${dtype} logit ${i}`).toBeLessThanOrEqual(allowed);
    }
  });

  test("a run in bf16 with micro-batches and dropout is repeatable", async () => {
    const options = {
      data: tokens(),
      dtype: "bf16",
      lr: 1e-2,
      gradientAccumulation: 2,
      batchSize: 4,
      seed: 2,
    } as const;
    using whole = tinyModel({ dropout: 0.1, device });
    using trainer = new Trainer({ model: whole, ...options, steps: 6 });
    const expected = losses(await collect(trainer.run()));
    using again = tinyModel({ dropout: 0.1, device });
    using other = new Trainer({ model: again, ...options, steps: 6 });
    expect(losses(await collect(other.run()))).toEqual(expected);
  });
});

test("dtypes that do not fit", () => {
  using model = tinyModel();
  for (const dtype of ["i32", "f64", 16] as never[])
    expectError(
      () => new Trainer({ model, data: tokens(), steps: 1, dtype }),
      "ERR_ARGUMENT",
      /expected dtype to be f32, bf16 or f16/,
    );
  for (const dtype of ["i32", "f64", null] as never[])
    expectError(() => (model.dtype = dtype), "ERR_DTYPE", /expected dtype f32, bf16 or f16 for parameters of f32/);
  model.to("bf16");
  expect(model.dtype).toBe("bf16");
  expectError(() => (model.dtype = "f32"), "ERR_DTYPE", /expected dtype bf16 for parameters of bf16, got f32/);
  expectError(
    () => new Trainer({ model, data: tokens(), steps: 1 }),
    "ERR_DTYPE",
    /expected .* of dtype f32, got bf16/,
  );
  expectError(() => model.to("i32"), "ERR_DTYPE", /floating dtype for parameters, got i32/);
});
