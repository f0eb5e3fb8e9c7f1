import { argmax, generateTokens, type GgufWritable, GPT, type GptConfig, noGrad, scope, tensor } from "heed";
import { bytesOf, type Case, type Goals, type Setting } from "../case.js";
import { modelFile, writeLlama, writeWeights } from "../models.js";
import { verifyTokens } from "../verify-tokens.js";

/** A model that peers run as well. */
interface Subject {
  label: string;
  config: GptConfig;
}

/** Largest distance of a token's logit from the highest one that rounding of weights and activations explains. */
const margins: Record<string, number> = { f32: 1e-3, bf16: 0.05, f16: 0.02, int8: 0.1, int4: 0.6 };

function promptOf(sequence: number, length: number, vocabulary: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => ((sequence * length + i) * 7919) % vocabulary);
}

/** Number of bits of the weights. Activations have the dtype of the setting. */
type Bits = 8 | 4;
const formats: Record<Bits, string> = { 8: "int8", 4: "int4" };
/** Formats of llama.cpp that are nearest to heed's. They have groups of 32 numbers, as heed's have. */
const ggufTypes: Record<string, GgufWritable> = { f32: "F32", bf16: "BF16", int8: "Q8_0", int4: "Q4_0" };

function create({ config }: Subject, { device, dtype }: Setting, bits?: Bits): GPT {
  const model = new GPT(config, { seed: 1, device, dtype }).eval();
  return bits ? model.quantize({ bits }) : model;
}

/** Returns the arguments that a case of a GPT gives its peers, and a function that writes the files they read. */
function shared(subject: Subject, format: string): { peer: Case["peer"]; files: () => Promise<void> } {
  const { label, config } = subject;
  const { layers, heads, width, vocabularySize: vocabulary, contextLength: context } = config;
  const [weights, gguf] = [modelFile(`${label}.safetensors`), modelFile(label)];
  const create = (): GPT => new GPT(config, { seed: 1, device: "cpu" });
  return {
    peer: { layers, heads, width, vocabulary, context, weights, gguf },
    files: async () => {
      await writeWeights(weights, create);
      // llama.cpp needs a tokenizer that fits the model, so only GPT-2's vocabulary will do.
      const type = ggufTypes[format];
      if (type && vocabulary === 50257) await writeLlama(`${gguf}-${type.toLowerCase()}.gguf`, type, create);
    },
  };
}

/**
 * Returns the case of greedy decoding: `count` tokens for every sequence of a batch, after a prompt that is in the KV cache.
 * It is timed from the first token to the last.
 */
export function decode(
  setting: Setting,
  subject: Subject,
  { batch = 1, prompt, count, bits }: { batch?: number; prompt: number; count: number; bits?: Bits },
  goals: Goals = {},
): Case {
  const format = bits ? formats[bits] : setting.dtype;
  // Every 32 numbers have a scale of two bytes.
  const bytes = bits ? (bits * 4 + 2) / 32 : bytesOf[setting.dtype];
  const margin = margins[format]!;
  const { layers, width, feedForwardWidth: hidden = 4 * width, vocabularySize: vocabulary } = subject.config;
  // A step reads the matrices, the output projection, and the keys and values so far.
  const weights = layers * width * (4 * width + 2 * hidden) + vocabulary * width;
  const cache = batch * layers * 2 * width * (prompt + count / 2);
  const { peer, files } = shared(subject, format);
  return {
    ...setting,
    format,
    name: "decode",
    shape: `${subject.label}: B${batch}, ${prompt} + ${count} tokens`,
    work: { tokens: batch * (count - 1), bytes: (count - 1) * (weights * bytes + cache * bytesOf[setting.dtype]) },
    ...(batch === 1 ? { bound: "memory" } : {}),
    goals,
    peer: { name: "decode", batch, prompt, count, ...peer },
    files,
    prepare() {
      const model = create(subject, setting, bits);
      const prompts = Array.from({ length: batch }, (_, b) => promptOf(b, prompt, vocabulary));
      const run = async (): Promise<{ tokens: number[]; ms: number }> => {
        let [start, end] = [0, 0];
        const onToken = (): void => {
          end = performance.now();
          start ||= end;
        };
        const results = await generateTokens(model, prompts, { maxTokens: count, temperature: 0, onToken });
        return { tokens: results[batch - 1]!.tokens, ms: end - start };
      };
      return {
        run: async () => (await run()).ms,
        verify: async () => {
          const { tokens } = await run();
          if (tokens.length !== count) throw new Error(`decode: expected ${count} tokens, got ${tokens.length}`);
          // The logits come from one pass over the whole text, without a cache.
          await verifyTokens(model, prompts[batch - 1]!, tokens, margin);
        },
        verifyPeer: (tokens) => verifyTokens(model, prompts[batch - 1]!, tokens, 2 * margin),
        dispose: () => model.dispose(),
      };
    },
  };
}

/** Returns the case of reading a prompt into an empty KV cache, up to the next token. */
export function prefill(setting: Setting, subject: Subject, prompt: number, goals: Goals = {}): Case {
  const { vocabularySize: vocabulary } = subject.config;
  const { peer, files } = shared(subject, setting.dtype);
  const margin = margins[setting.dtype]!;
  return {
    ...setting,
    name: "prefill",
    shape: `${subject.label}: ${prompt} tokens`,
    work: { tokens: prompt },
    goals,
    peer: { name: "prefill", prompt, ...peer },
    files,
    prepare() {
      const model = create(subject, setting);
      const tokens = promptOf(0, prompt, vocabulary);
      const run = async (): Promise<number> => {
        using cache = model.createCache(1, prompt);
        using ids = tensor(tokens, [1, prompt], { device: model.device });
        using next = noGrad(() => scope(() => argmax(model.forward(ids, { cache, lastOnly: true }))));
        return (await next.data())[0]!;
      };
      return {
        run: async () => {
          await run();
        },
        verify: async () => verifyTokens(model, tokens, [await run()], margin),
        verifyPeer: (answer) => verifyTokens(model, tokens, answer, 2 * margin),
        dispose: () => model.dispose(),
      };
    },
  };
}
