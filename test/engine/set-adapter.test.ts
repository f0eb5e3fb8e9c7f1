/** An engine notices that its model's adapter has changed. */
import { describe, expect, test } from "vitest";
import { addAdapter, setAdapter } from "../../lib/adapters/adapters.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { shakeAdapter } from "../adapters/support.js";
import { devices, smallGpt, someTokens } from "../generate/models.js";
import { nightly } from "../support/nightly.js";
import { engineFor } from "./support.js";

// On the software device it takes seconds.
describe.for(nightly ? devices : ["cpu"])("Engine on %s", (device) => {
  test("gives the texts of the adapter that is set, and no prefix that another one computed", async () => {
    using model = smallGpt(device, { contextLength: 48 });
    const engine = engineFor(model, { pageSize: 4 });
    const request = { tokens: someTokens(21, 6), maxTokens: 5, seed: 1 };
    const generated = async (): Promise<{ tokens: readonly number[]; reused: number }> => {
      const before = engine.metrics.cachedTokens;
      const { tokens } = await engine.generate(request);
      const [alone] = await generateTokens(model, [request.tokens], request);
      expect(tokens).toEqual(alone!.tokens);
      return { tokens, reused: engine.metrics.cachedTokens - before };
    };
    const plain = await generated();
    expect((await generated()).reused).toBeGreaterThan(0);
    const names = ["polite", "brief"];
    for (const [i, name] of names.entries()) {
      addAdapter(model, { name, seed: i + 1, alpha: 64 });
      shakeAdapter(model, name);
    }
    for (const name of names) {
      setAdapter(model, name);
      const changed = await generated();
      expect(changed.reused).toBe(0);
      expect(changed.tokens).not.toEqual(plain.tokens);
      expect((await generated()).reused).toBeGreaterThan(0);
    }
    setAdapter(model, null);
    expect(await generated()).toEqual({ tokens: plain.tokens, reused: 0 });
  });
});
