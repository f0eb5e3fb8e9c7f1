// Rules about imports in lib/, bench/ and test/, those of types and of `import()` included.

// The rooms of lib/, the lowest first, each with the rooms that it may import besides itself: only lower ones.
// docs/architecture.md has the picture.
const util = [];
const core = ["util"];
const ops = [...core, "core"];
const nn = [...ops, "ops"];
const models = [...nn, "nn"];
const parts = [...models, "models", "optim", "formats", "tokenizer", "structured", "hub", "adapters"];
const run = [...parts, "inspect", "embed", "distributed", "train", "data", "generate", "engine", "pretrained", "load"];

const rooms = {
  util,
  core,
  ops,
  nn,
  models,
  adapters: models.concat("models"),
  optim: models,
  formats: ops,
  tokenizer: ops,
  structured: [...ops, "tokenizer"],
  hub: [...ops, "formats"],
  web: [],
  inspect: [...models, "models", "optim", "formats", "web"],
  embed: parts,
  pretrained: [...parts, "embed"],
  distributed: [...nn, "optim"],
  data: [...ops, "tokenizer", "hub", "formats"],
  train: [...parts, "pretrained", "distributed", "data"],
  generate: parts,
  engine: [...parts, "generate"],
  load: [...parts, "inspect", "embed", "generate", "engine", "pretrained"],
  evaluation: [...parts, "generate", "engine", "data"],
  report: [...ops, "formats", "train", "web"],
  server: [...ops, "tokenizer", "structured", "formats", "generate", "engine", "load", "web"],
  plugins: [...ops, "tokenizer", "structured", "embed", "generate", "engine", "load"],
  cli: [...run, "evaluation", "report", "server"],
};

const folders = (names) => names.join("|");

/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [
    ...Object.entries(rooms).map(([room, below]) => ({
      name: `${room}-imports`,
      comment: `lib/${room}/ may import ${below.length ? below.join(", ") : "no other room"}.`,
      severity: "error",
      from: { path: `^lib/${room}/` },
      to: { path: "^lib/", pathNot: `^lib/(${folders([room, ...below])})/` },
    })),
    {
      name: "no-such-room",
      comment: "Each folder of lib/ is a room of the table above, and lib/ itself has index.ts alone.",
      severity: "error",
      from: { path: "^lib/", pathNot: `^lib/((${folders(Object.keys(rooms))})/|index\\.ts$)` },
      to: {},
    },
    {
      name: "lib-alone",
      comment: "What is published needs nothing of the benchmarks and the tests.",
      severity: "error",
      from: { path: "^lib/", pathNot: "/vite\\.config\\.mjs$" },
      to: { path: "^(bench|test|scripts|examples)/" },
    },
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
      from: { path: "^lib/", pathNot: "^lib/(models/|pretrained/families/|index\\.ts$)" },
      to: { path: "^lib/models/(bert|bert-heads|encoder-decoder|gpt|llama|lstm-language-model|t5|t5-stack)\\.ts$" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
  },
};
