import { describe, expect, test } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { translate } from "../../lib/generate/translate.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { padSequences } from "../../lib/ops/pad-sequences.js";
import { tensor } from "../../lib/core/creation.js";
import { expectError, expectRejection } from "../support/errors.js";
import { collectGarbage } from "../support/gc.js";
import { Random } from "../support/random.js";
import { devices } from "./models.js";

function modelOn(device: string): EncoderDecoder {
  const model = new EncoderDecoder(
    {
      ...{ sourceVocabularySize: 15, contextLength: 12, layers: 1, heads: 2, width: 16, startToken: 1, endToken: 2 },
      ...{ tied: false, dropout: 0.3, suppressedTokens: [0, 1] },
    },
    { device },
  );
  const random = new Random(8);
  for (const [name, weight] of model.namedParameters())
    if (!name.includes("ln_")) weight.set(Array.from({ length: weight.size }, () => 0.5 * random.normal()));
  return model;
}

const sources = [[3, 7, 4, 4, 9], [12], [5, 5], [8, 14, 3], [11, 3, 3, 3, 3, 3, 3, 3, 3, 3, 10, 6], [7, 7]];

describe.each(devices)("translate on %s", (device) => {
  test("gives each source the same translation as alone, with any batch size, and leaves nothing in memory", async () => {
    await collectGarbage();
    const { live, tensors } = deviceOf(device).memory();
    {
      using model = modelOn(device);
      const greedy = await translate(model, sources, { beams: 1, maxTokens: 9, batchSize: 4 });
      for (const [i, source] of sources.entries()) {
        using ids = tensor(Int32Array.from(source), [1, source.length], { device });
        using decoder = model.decoderFor(ids);
        const [alone] = await generateTokens(decoder, [[1]], { temperature: 0, maxTokens: 9, stopTokens: [2] });
        expect(greedy[i]!.length).toBe(1);
        expect(greedy[i]![0]!.tokens).toEqual(alone!.tokens);
        expect(greedy[i]![0]!.finishReason).toBe(alone!.finishReason);
      }
      expect(new Set(greedy.map(([best]) => best!.tokens.join())).size).toBeGreaterThan(2);
      const settings = { beams: 3, nBest: 2, maxTokens: 6, lengthPenalty: 0 };
      const together = await translate(model, sources, settings);
      for (const [i, source] of sources.entries()) {
        const [alone] = await translate(model, [source], settings);
        expect(together[i]!.map(({ tokens }) => tokens)).toEqual(alone!.map(({ tokens }) => tokens));
      }
      expect(model.training).toBe(true);
    }
    await collectGarbage();
    expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
  });

  test("nothing to translate", async () => {
    using model = modelOn(device);
    expect(await translate(model, [])).toEqual([]);
  });

  test("refuses invalid input", async () => {
    using model = modelOn(device);
    const refused = (code: string, ...args: unknown[]): Promise<void> =>
      expectRejection(translate(...(args as Parameters<typeof translate>)), code as never);
    await refused("ERR_ARGUMENT", {}, sources);
    await refused("ERR_ARGUMENT", null, sources);
    await refused("ERR_ARGUMENT", model, "text");
    await refused("ERR_ARGUMENT", model, ["text"]);
    await refused("ERR_ARGUMENT", model, sources, null);
    await refused("ERR_RANGE", model, [[3], []]);
    await refused("ERR_RANGE", model, [[15]]);
    await refused("ERR_RANGE", model, [Array.from({ length: 13 }, () => 3)]);
    await refused("ERR_RANGE", model, sources, { batchSize: 0 });
    await refused("ERR_RANGE", model, sources, { beams: 0 });
    await refused("ERR_RANGE", model, sources, { beams: 2, nBest: 3 });
    const signal = AbortSignal.abort(new Error("stop"));
    await expect(translate(model, sources, { signal })).rejects.toThrow("stop");
  });

  test("padSequences pads sequences to rows of one length", async () => {
    const { ids, lengths } = padSequences([[1, 2, 3], [], Int32Array.of(4)], { fill: -1, device });
    expect(await ids.toArray()).toEqual([
      [1, 2, 3],
      [-1, -1, -1],
      [4, -1, -1],
    ]);
    expect([...(await lengths.data())]).toEqual([3, 0, 1]);
    expect(padSequences([], { device }).ids.shape).toEqual([0, 0]);
    expectError(() => padSequences("abc" as never), "ERR_ARGUMENT");
    expectError(() => padSequences([5] as never), "ERR_ARGUMENT");
    expectError(() => padSequences([[0.5]]), "ERR_RANGE");
    expectError(() => padSequences([[1]], { fill: 2 ** 31 }), "ERR_RANGE");
    expectError(() => padSequences([[1]], null as never), "ERR_ARGUMENT");
  });
});
