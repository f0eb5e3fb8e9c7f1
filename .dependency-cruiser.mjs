// Rules about imports in lib/, those of types and of `import()` included. The layers are held by
// scripts/eslint-layering.mjs.
/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [
    {
      name: "no-circles",
      comment: "A part of a circle can neither be understood nor tested alone.",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "no-family",
      comment:
        "What works on models uses the contracts (CausalDecoder, Encoder, SequenceToSequence), so that a new family " +
        "needs no change there. Only the families themselves and their files' readers and writers name a class.",
      severity: "error",
      from: { pathNot: "^lib/(models/|pretrained/families/|index\\.ts$)" },
      to: { path: "^lib/models/(bert|bert-heads|encoder-decoder|gpt|llama|lstm-language-model|t5|t5-stack)\\.ts$" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
  },
};
