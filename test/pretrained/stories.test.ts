/** stories260K: greedy generation with a published model must give the published text. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { generate } from "../../lib/generate/generate-text.js";
import { loadLlama2c } from "../../lib/pretrained/families/load-llama2c.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import { devices } from "../generate/models.js";
import { noShared, sharedModel } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";

const folder = sharedModel("stories260K");

describeUnless(!folder && noShared).each(devices)("stories260K on %s", (device) => {
  test("generates the published story, character for character", { timeout: 300_000 }, async () => {
    // The program that printed it ended with a newline.
    const expected = readFileSync(path.join(folder!, "EXPECTED_greedy.txt"), "utf8").replace(/\n$/, "");
    using model = await loadLlama2c(path.join(folder!, "stories260K.bin"), { device });
    const tokenizer = await Llama2cTokenizer.fromFile(path.join(folder!, "tok512.bin"));
    const text = (await generate(model, tokenizer, "", { maxTokens: 256, temperature: 0 })).text;
    expect(text).toBe(expected);
  });
});
