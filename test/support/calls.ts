/** A valid call of every public function that takes tensors, numbers or options. Tests of bad input begin with them. */
import * as heed from "../../lib/index.js";

export interface Call {
  name: string;
  run: (...args: never[]) => unknown;
  /** Returns fresh arguments of a valid call. */
  args: () => unknown[];
}

const floats = (...shape: number[]): heed.FloatTensor => heed.full(shape, 0.5);
const ints = (...values: number[]): heed.IntTensor => heed.tensor(Int32Array.from(values));
const grid = (rows: number, columns: number): heed.IntTensor =>
  heed.tensor(
    Int32Array.from({ length: rows * columns }, (_, i) => i % columns),
    [rows, columns],
  );

const unary = [
  ...(["abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "elu", "eluPlusOne"] as const),
  ...(["erf", "exp", "expm1", "floor", "isFinite", "isInf", "isNan", "log", "log1p", "neg", "reciprocal"] as const),
  ...([
    "relu",
    "relu6",
    "round",
    "rsqrt",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "softplus",
    "tan",
  ] as const),
] as const;
const more = ["sqrt", "square", "tanh", "softmax", "argmax", "contiguous", "detach", "keep"] as const;
const binary = [
  ...([
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "maximum",
    "minimum",
    "equal",
    "notEqual",
    "greater",
    "greaterEqual",
  ] as const),
  ...(["less", "lessEqual", "logicalAnd", "logicalOr", "squaredDifference", "atan2", "floorDiv", "floorMod"] as const),
] as const;

const config = { vocabularySize: 5, contextLength: 4, layers: 1, heads: 2, width: 4 };
const initializer = (): heed.Initializer => new heed.Initializer(1, heed.device());

function call(name: string, run: Call["run"], args: () => unknown[]): Call {
  return { name, run, args };
}

/** Returns the calls for a device that must be the default ("auto") when they run. */
export function callsOn(device: string): readonly Call[] {
  const model = new heed.GPT(config, { device });
  const pairs = new heed.EncoderDecoder(
    { ...config, sourceVocabularySize: 5, startToken: 1, endToken: 2, norm: "pre" },
    { device },
  );
  const bert = new heed.Bert(config, { device });
  const masked = new heed.BertForMaskedLM(bert);
  const classifier = new heed.BertForSequenceClassification(bert, { labels: 3 });
  const t5 = new heed.T5({ ...config, buckets: 4, furthest: 4 }, { device });
  const optimizer = new heed.AdamW(model.namedParameters());
  return [
    ...[...unary, ...more].map((name) => call(name, heed[name], () => [floats(2, 3)])),
    ...binary.map((name) => call(name, heed[name], () => [floats(2, 3), floats(3)])),
    ...(["sum", "mean", "max"] as const).map((name) =>
      call(name, heed[name], () => [floats(2, 3), { axes: [0, -1], keepDims: true }]),
    ),
    call("where", heed.where, () => [heed.ones([3]), floats(2, 3), floats(2, 1)]),
    call("gelu", heed.gelu, () => [floats(2), "erf"]),
    call("activate", heed.activate, () => [floats(2), "gelu"]),
    call("matmul", heed.matmul, () => [floats(2, 3), floats(3, 4)]),
    call("linear", heed.linear, () => [
      floats(2, 3),
      floats(4, 3),
      { bias: floats(4), residual: floats(2, 4), activation: "relu", layout: "oi" },
    ]),
    call("feedForward", heed.feedForward, () => [
      floats(2, 3),
      { up: { weight: floats(4, 3), bias: floats(4) }, down: { weight: floats(3, 4), bias: floats(3) } },
      { activation: "gelu", layout: "oi", residual: floats(2, 3) },
    ]),
    call("layerNorm", heed.layerNorm, () => [floats(2, 3), { weight: floats(3), bias: floats(3), eps: 1e-5 }]),
    call("addLayerNorm", heed.addLayerNorm, () => [
      floats(2, 3),
      floats(2, 3),
      { weight: floats(3), bias: floats(3), eps: 1e-5 },
    ]),
    call("rmsNorm", heed.rmsNorm, () => [floats(2, 3), { weight: floats(3), bias: floats(3), eps: 1e-5 }]),
    call("addRmsNorm", heed.addRmsNorm, () => [
      floats(2, 3),
      floats(2, 3),
      { weight: floats(3), bias: floats(3), eps: 1e-5 },
    ]),
    call("attention", heed.attention, () => [
      floats(2, 3, 4, 5),
      floats(2, 4, 2, 5),
      floats(2, 4, 2, 5),
      {
        causal: true,
        keyLengths: ints(4, 3),
        queryStarts: ints(0, 1),
        window: 2,
        keyRanges: heed.zeros([2, 3, 2], { dtype: "i32" }),
        slopes: floats(4),
        blocks: { mask: heed.ones([2, 1, 2, 2], { dtype: "u8" }), size: 3 },
        softcap: 3,
        scale: 0.5,
        dropout: 0.1,
        seed: 1,
      },
    ]),
    call("biasedAttention", heed.biasedAttention, () => [
      floats(2, 3, 2, 5),
      floats(2, 4, 2, 5),
      floats(2, 4, 2, 5),
      floats(2, 3, 4),
      { scale: 0.5, dropout: 0.1, seed: 1 },
    ]),
    call("packedAttention", heed.packedAttention, () => [
      floats(2, 3, 8),
      { heads: 2, kvHeads: 1, causal: true, keyLengths: ints(3, 2), dropout: 0.1, seed: 1 },
    ]),
    call("localBlocks", heed.localBlocks, () => [
      { length: 20, size: 4, window: 1, global: 1, random: 1, heads: 2, seed: 1, causal: true, device: "cpu" },
    ]),
    call("stridedBlocks", heed.stridedBlocks, () => [{ length: 20, size: 4, stride: 2, causal: true, device: "cpu" }]),
    call("alibiSlopes", heed.alibiSlopes, () => [4, { device: "cpu" }]),
    call("documentRanges", heed.documentRanges, () => [[[1, 2], [3]], { length: 4, device: "cpu" }]),
    call("prefixRanges", heed.prefixRanges, () => [[1, 2], 3, { device: "cpu" }]),
    call("linearAttention", heed.linearAttention, () => [
      floats(2, 3, 2, 4),
      floats(2, 3, 2, 4),
      floats(2, 3, 2, 5),
      {
        causal: true,
        featureMap: "elu",
        normalize: true,
        eps: 1e-6,
        decay: floats(2),
        state: { sums: floats(2, 2, 4, 5), normalizer: floats(2, 2, 4, 1) },
      },
    ]),
    call("retentionDecay", heed.retentionDecay, () => [4, { device: "cpu" }]),
    call("rotary", heed.rotary, () => [
      floats(2, 3, 2, 4),
      heed.rotaryTable({ size: 4, length: 8 }),
      { positions: grid(2, 3), interleaved: true },
    ]),
    call("rotaryTable", heed.rotaryTable, () => [
      {
        size: 4,
        length: 8,
        base: 500,
        scaling: { type: "yarn", factor: 2, originalLength: 4, betaFast: 3 },
        device: "cpu",
      },
    ]),
    call("sinusoidalTable", heed.sinusoidalTable, () => [
      { width: 4, length: 3, layout: "halves", inclusive: true, first: 1, device: "cpu" },
    ]),
    call("gated", heed.gated, () => [floats(2, 3), floats(2, 3), "gelu"]),
    call("packedGated", heed.packedGated, () => [floats(2, 4), "silu"]),
    call("lstm", heed.lstm, () => [
      floats(3, 2, 8),
      floats(8, 2),
      { bias: floats(8), state: { h: floats(2, 2), c: floats(2, 2) } },
    ]),
    call("conv2d", heed.conv2d, () => [
      floats(1, 4, 4, 2),
      floats(2, 2, 2, 3),
      { bias: floats(3), activation: "relu", stride: 2, padding: [1, 0, 1, 0], dilation: [1, 2] },
    ]),
    call("convTranspose2d", heed.convTranspose2d, () => [
      floats(1, 2, 2, 3),
      floats(2, 2, 2, 3),
      { size: [4, 4], stride: [2, 2], padding: 0, dilation: 1 },
    ]),
    call("depthwiseConv2d", heed.depthwiseConv2d, () => [
      floats(1, 4, 4, 2),
      floats(2, 2, 2, 1),
      { bias: floats(2), activation: "silu", stride: [2, 1], padding: [1, 1], dilation: 1 },
    ]),
    call("maxPool2d", heed.maxPool2d, () => [floats(1, 4, 4, 2), { window: 2, stride: [1, 2], padding: 1 }]),
    call("avgPool2d", heed.avgPool2d, () => [
      floats(1, 4, 4, 2),
      { window: [2, 2], stride: 1, padding: [1, 0, 0, 1], countPadding: true },
    ]),
    call("cumsum", heed.cumsum, () => [floats(2, 3), { axis: -1, exclusive: true, reverse: true }]),
    call("cumprod", heed.cumprod, () => [floats(2, 3), { axis: 0, exclusive: false, reverse: true }]),
    call("reverse", heed.reverse, () => [floats(2, 3), [0, -1]]),
    call("mirrorPad", heed.mirrorPad, () => [
      floats(2, 3),
      [
        [1, 0],
        [0, 2],
      ],
      "reflect",
    ]),
    call("l2Normalize", heed.l2Normalize, () => [floats(2, 3)]),
    call("pool", heed.pool, () => [floats(2, 3, 4), [3, 1], "max"]),
    call("maskTokens", heed.maskTokens, () => [
      [1, 2, 3, 4],
      { maskToken: 0, vocabularySize: 5, seed: 1, probability: 0.5, special: [1] },
    ]),
    call("embedding", heed.embedding, () => [ints(0, 1), floats(3, 4)]),
    call("crossEntropy", heed.crossEntropy, () => [floats(2, 3), ints(0, 1), { ignoreIndex: -1, labelSmoothing: 0.1 }]),
    call("dropout", heed.dropout, () => [floats(4), 0.5, 1]),
    call("reshape", heed.reshape, () => [floats(2, 3), [3, -1]]),
    call("transpose", heed.transpose, () => [floats(2, 3), [1, 0]]),
    call("narrow", heed.narrow, () => [floats(2, 3), 1, 1, 2]),
    call("cast", heed.cast, () => [floats(2, 3), "bf16"]),
    call("topk", heed.topk, () => [floats(2, 3), 2]),
    call("sample", heed.sample, () => [
      floats(2, 5),
      ints(0, 1),
      { seed: 1, temperature: 0.7, topK: 3, topP: 0.9, minP: 0.1, repetitionPenalty: 1.1 },
      { history: grid(2, 3), generated: grid(2, 1), bias: floats(2, 5), allowed: grid(2, 1) },
    ]),
    call("logProbabilities", heed.logProbabilities, () => [floats(2, 5), grid(2, 3)]),
    call("cacheWrite", heed.cacheWrite, () => [floats(2, 4, 1, 3), floats(2, 2, 1, 3), ints(0, 1)]),

    call("tensor", heed.tensor, () => [[1, 2, 3], [3, 1], { dtype: "f16", device: "cpu" }]),
    call("full", heed.full, () => [[2], 1, { dtype: "i32", device: "cpu" }]),
    ...(["zeros", "ones", "empty"] as const).map((name) =>
      call(name, heed[name], () => [[2, 3], { dtype: "u8", device: "cpu" }]),
    ),
    call("randn", heed.randn, () => [[2, 3], { seed: 1, mean: 0, std: 1, device: "cpu" }]),
    call("uniform", heed.uniform, () => [[2, 3], { seed: 1, low: 0, high: 1, device: "cpu" }]),
    call(
      "Tensor.set",
      (x: unknown, values: number[]) => x instanceof heed.Tensor && x.set(values),
      () => [floats(2), [1, 2]],
    ),
    call(
      "Tensor.backward",
      (x: heed.FloatTensor, scale: number) => heed.sum(x).backward(scale),
      () => {
        const x = floats(2);
        x.requiresGrad = true;
        return [x, 2];
      },
    ),

    call("device", heed.device, () => ["cpu"]),
    call("setThreads", heed.setThreads, () => [2]),
    call("setTf32", heed.setTf32, () => [false]),
    call("scope", heed.scope, () => [() => floats(2)]),
    call("noGrad", heed.noGrad, () => [() => floats(2)]),
    call("parameter", heed.parameter, () => [floats(2)]),

    call(
      "GPT",
      (...args: ConstructorParameters<typeof heed.GPT>) => new heed.GPT(...args).dispose(),
      () => [
        { ...config, dropout: 0.1, bias: true, activation: "relu", eps: 1e-5 },
        { seed: 1, device: "cpu" },
      ],
    ),
    call("GPT.forward", model.forward.bind(model), () => [
      grid(2, 4),
      { keyLengths: ints(4, 3), lastOnly: true, counts: [4, 3] },
    ]),
    call("GPT.loss", model.loss.bind(model), () => [grid(2, 4), grid(2, 4), { labelSmoothing: 0.1 }]),
    call("GPT.createCache", model.createCache.bind(model), () => [2, 3]),
    call("GPT.loadStateDict", model.loadStateDict.bind(model), () => [
      Object.fromEntries(
        [...model.namedParameters()].map(([name, { shape, size }]) => [
          name,
          { shape, values: new Float32Array(size) },
        ]),
      ),
    ]),
    call(
      "EncoderDecoder",
      (...args: ConstructorParameters<typeof heed.EncoderDecoder>) => new heed.EncoderDecoder(...args).dispose(),
      () => [
        { ...pairs.config, suppressedTokens: [0], dropout: 0.1, sinusoids: { layout: "halves", first: 1 } },
        { seed: 1, device: "cpu" },
      ],
    ),
    call("EncoderDecoder.encode", pairs.encode.bind(pairs), () => [grid(2, 4), { lengths: ints(4, 3) }]),
    call("EncoderDecoder.forward", pairs.forward.bind(pairs), () => [
      grid(2, 4),
      grid(2, 3),
      { sourceLengths: ints(4, 3), targetLengths: ints(3, 1) },
    ]),
    call("EncoderDecoder.loss", pairs.loss.bind(pairs), () => [
      grid(2, 4),
      grid(2, 3),
      grid(2, 3),
      { sourceLengths: ints(4, 3), labelSmoothing: 0.1 },
    ]),
    call("EncoderDecoder.decoderFor", pairs.decoderFor.bind(pairs), () => [grid(2, 4), { lengths: ints(4, 3) }]),
    call(
      "Llama",
      (...args: ConstructorParameters<typeof heed.Llama>) => new heed.Llama(...args).dispose(),
      () => [
        {
          ...config,
          width: 8,
          feedForwardWidth: 6,
          kvHeads: 1,
          dropout: 0.1,
          qkNorm: true,
          window: 2,
          rotarySize: 2,
          tied: true,
        },
        { seed: 1, device: "cpu" },
      ],
    ),
    call(
      "Bert",
      (...args: ConstructorParameters<typeof heed.Bert>) => new heed.Bert(...args).dispose(),
      () => [
        { ...bert.config, family: "roberta", firstPosition: 2, dropout: 0.1 },
        { seed: 1, device: "cpu" },
      ],
    ),
    call("Bert.forward", bert.forward.bind(bert), () => [
      grid(2, 4),
      { tokenTypes: heed.zeros([2, 4], { dtype: "i32" }), keyLengths: ints(4, 3) },
    ]),
    call("Bert.pooled", bert.pooled.bind(bert), () => [floats(2, 3, 4)]),
    call("BertForMaskedLM.loss", masked.loss.bind(masked), () => [
      grid(2, 4),
      ints(1, 2),
      { keyLengths: ints(4, 3), positions: ints(1, 6), labelSmoothing: 0.1, ignoreIndex: -1 },
    ]),
    call("BertForSequenceClassification.loss", classifier.loss.bind(classifier), () => [
      grid(2, 4),
      ints(1, 2),
      { keyLengths: ints(4, 3), labelSmoothing: 0.1 },
    ]),
    call(
      "T5",
      (...args: ConstructorParameters<typeof heed.T5>) => new heed.T5(...args).dispose(),
      () => [
        { ...t5.config, gated: true, activation: "gelu", tied: false, dropout: 0.1 },
        { seed: 1, device: "cpu" },
      ],
    ),
    call("T5.encode", t5.encode.bind(t5), () => [grid(2, 4), { lengths: ints(4, 3) }]),
    call("T5.forward", t5.forward.bind(t5), () => [grid(2, 4), grid(2, 3), { sourceLengths: ints(4, 3) }]),
    call("T5.loss", t5.loss.bind(t5), () => [
      grid(2, 4),
      grid(2, 3),
      grid(2, 3),
      { sourceLengths: ints(4, 3), labelSmoothing: 0.1 },
    ]),
    call("T5.decoderFor", t5.decoderFor.bind(t5), () => [grid(2, 4), { lengths: ints(4, 3) }]),
    call(
      "RelativePositionBias",
      (config: heed.RelativePositionBiasConfig) => new heed.RelativePositionBias(config, initializer()).dispose(),
      () => [{ heads: 2, buckets: 8, furthest: 6, bothSides: true, std: 0.1 }],
    ),
    call(
      "AdamW",
      (...args: ConstructorParameters<typeof heed.AdamW>) => new heed.AdamW(...args).dispose(),
      () => [
        [["x", floats(2)]],
        { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1, maxNorm: 1, decays: () => true },
      ],
    ),
    call("AdamW.loadStateDict", optimizer.loadStateDict.bind(optimizer), () => [
      Object.fromEntries(
        Object.entries(optimizer.stateDict()).map(([name, { shape, size }]) => [
          name,
          { shape, values: new Float32Array(size) },
        ]),
      ),
      3,
    ]),
    call(
      "SGD",
      (...args: ConstructorParameters<typeof heed.SGD>) => new heed.SGD(...args).dispose(),
      () => [
        [["x", floats(2)]],
        { lr: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.1, groups: [{ names: "x", lrScale: 2 }] },
      ],
    ),
    call(
      "Lion",
      (...args: ConstructorParameters<typeof heed.Lion>) => new heed.Lion(...args).dispose(),
      () => [[["x", floats(2)]], { lr: 0.1, beta1: 0.9, beta2: 0.99, weightDecay: 0.1, maxNorm: 1 }],
    ),
    call(
      "Muon",
      (...args: ConstructorParameters<typeof heed.Muon>) => new heed.Muon(...args).dispose(),
      () => [
        [["x", floats(2, 2)]],
        { lr: 0.1, momentum: 0.9, nesterov: true, iterations: 5, adamw: { lrScale: 0.1, beta1: 0.9 } },
      ],
    ),
    call("linearSchedule", heed.linearSchedule, () => [{ lr: 1, warmup: 2, steps: 10, minLr: 0.1 }]),
    call("wsdSchedule", heed.wsdSchedule, () => [{ lr: 1, warmup: 2, steps: 10, minLr: 0.1, decay: 3, shape: "sqrt" }]),
    call("noamSchedule", heed.noamSchedule, () => [{ width: 4, warmup: 3, factor: 2 }]),
    call("padSequences", heed.padSequences, () => [[[1, 2], [3]], { fill: -1, device: "cpu" }]),
    call("cosineSchedule", heed.cosineSchedule, () => [{ lr: 1, warmup: 2, steps: 10, minLr: 0.1 }]),
    call(
      "Linear",
      (config: ConstructorParameters<typeof heed.Linear>[0]) => new heed.Linear(config, initializer()).dispose(),
      () => [{ inputs: 2, outputs: 3, bias: true, std: 0.1, layout: "io" }],
    ),
    call(
      "LayerNorm",
      (config: ConstructorParameters<typeof heed.LayerNorm>[0]) => new heed.LayerNorm(config, initializer()).dispose(),
      () => [{ width: 2, bias: true, eps: 1e-5 }],
    ),
    call(
      "RmsNorm",
      (config: ConstructorParameters<typeof heed.RmsNorm>[0]) => new heed.RmsNorm(config, initializer()).dispose(),
      () => [{ width: 2, eps: 1e-5 }],
    ),
    call(
      "Embedding",
      (config: ConstructorParameters<typeof heed.Embedding>[0]) => new heed.Embedding(config, initializer()).dispose(),
      () => [{ count: 2, width: 3, std: 0.1 }],
    ),
    call(
      "LinearAttention",
      (config: heed.LinearAttentionConfig) => new heed.LinearAttention(config, initializer()).dispose(),
      () => [{ width: 4, heads: 2, bias: true, std: 0.1, outputStd: 0.1, layout: "io", retention: true }],
    ),
    call(
      "LinearAttentionCache",
      (config: heed.LinearAttentionCacheConfig) => new heed.LinearAttentionCache(config).dispose(),
      () => [{ layers: 1, batch: 2, heads: 1, headSize: 2, device: heed.device() }],
    ),
    call(
      "KvCache",
      (...args: ConstructorParameters<typeof heed.KvCache>) => new heed.KvCache(...args).dispose(),
      () => [{ layers: 1, batch: 2, length: 3, heads: 1, headSize: 2, device: heed.device() }],
    ),
  ];
}
