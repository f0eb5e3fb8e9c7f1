/** Tests of the types: what they allow and what they refuse. `npm run typecheck` checks them; nothing in here runs. */
import { expectTypeOf } from "vitest";
import * as heed from "../lib/index.js";
import * as inspect from "../lib/inspect/index.js";

declare const floats: heed.FloatTensor;
declare const f32: heed.Tensor<"f32">;
declare const bf16: heed.Tensor<"bf16">;
declare const ints: heed.IntTensor;
declare const bytes: heed.Tensor<"u8">;

// The type of a new tensor follows from the values and the requested dtype.
expectTypeOf(heed.tensor([1, [2]])).toEqualTypeOf<heed.Tensor<"f32">>();
expectTypeOf(heed.tensor(Int32Array.of(1))).toEqualTypeOf<heed.IntTensor>();
expectTypeOf(heed.tensor(Uint8Array.of(1))).toEqualTypeOf<heed.Tensor<"u8">>();
expectTypeOf(heed.tensor([1], [1], { dtype: "f16" })).toEqualTypeOf<heed.Tensor<"f16">>();
expectTypeOf(heed.zeros([2])).toEqualTypeOf<heed.Tensor<"f32">>();
expectTypeOf(heed.zeros([2], { dtype: "i32" })).toEqualTypeOf<heed.IntTensor>();
// @ts-expect-error there is no such dtype
heed.zeros([2], { dtype: "f64" });
// @ts-expect-error a seed is required
heed.randn([2]);
// @ts-expect-error numbers only
heed.tensor(["a"]);

// Data arrive in the array of the dtype.
expectTypeOf(floats.data()).resolves.toEqualTypeOf<Float32Array>();
expectTypeOf(bf16.data()).resolves.toEqualTypeOf<Float32Array>();
expectTypeOf(ints.data()).resolves.toEqualTypeOf<Int32Array>();
expectTypeOf(bytes.data()).resolves.toEqualTypeOf<Uint8Array>();
expectTypeOf(floats.item()).resolves.toEqualTypeOf<number>();
expectTypeOf(floats.grad).toEqualTypeOf<heed.FloatTensor | null>();

// A tensor of one dtype is a tensor of any dtype; a float tensor is not an integer tensor.
expectTypeOf(f32).toExtend<heed.FloatTensor>();
expectTypeOf(f32).toExtend<heed.Tensor>();
expectTypeOf<heed.IntTensor>().not.toExtend<heed.FloatTensor>();

// Operations accept only the dtypes that they compute with.
expectTypeOf(heed.add(floats, 1)).toEqualTypeOf<heed.FloatTensor>();
expectTypeOf(heed.argmax(floats)).toEqualTypeOf<heed.IntTensor>();
expectTypeOf(heed.topk(floats, 2)).toEqualTypeOf<{ values: heed.FloatTensor; ids: heed.IntTensor }>();
expectTypeOf(heed.cast(ints, "f32")).toEqualTypeOf<heed.Tensor<"f32">>();
expectTypeOf(heed.transpose(ints)).toEqualTypeOf<heed.IntTensor>();
expectTypeOf(heed.embedding(ints, floats)).toEqualTypeOf<heed.FloatTensor>();
// @ts-expect-error ids are integers
heed.embedding(floats, floats);
// @ts-expect-error logits are floats
heed.crossEntropy(ints, ints);
// @ts-expect-error no such activation
heed.linear(floats, floats, { activation: "selu" });
// @ts-expect-error no such option
heed.attention(floats, floats, floats, { causl: true });
heed.attention(f32, f32, f32, { window: 3, keyRanges: heed.documentRanges([[1, 2]]), slopes: heed.alibiSlopes(2) });
// @ts-expect-error ranges are integers
heed.attention(floats, floats, floats, { keyRanges: floats });
// @ts-expect-error heads are required
heed.packedAttention(floats, {});
expectTypeOf(heed.rmsNorm(floats, { weight: f32 })).toEqualTypeOf<heed.FloatTensor>();
expectTypeOf(heed.addRmsNorm(floats, floats)).toEqualTypeOf<{ sum: heed.FloatTensor; out: heed.FloatTensor }>();
expectTypeOf(heed.rotary(floats, f32, { starts: ints })).toEqualTypeOf<heed.FloatTensor>();
expectTypeOf(heed.rotaryTable({ size: 64, length: 8 })).toEqualTypeOf<heed.Tensor<"f32">>();
expectTypeOf(heed.gated(floats, floats, "gelu")).toEqualTypeOf<heed.FloatTensor>();
expectTypeOf(heed.packedGated(floats)).toEqualTypeOf<heed.FloatTensor>();
// @ts-expect-error positions are integers
heed.rotary(floats, f32, { positions: floats });
// @ts-expect-error YaRN needs the original length
heed.rotaryTable({ size: 64, length: 8, scaling: { type: "yarn", factor: 2 } });
// @ts-expect-error there is no such scaling
heed.rotaryTable({ size: 64, length: 8, scaling: { type: "longrope", factor: 2 } });
// @ts-expect-error no such activation
heed.gated(floats, floats, "swish");
// @ts-expect-error a seed is required
heed.sample(floats, ints, {});

// Scopes return the type of their results.
expectTypeOf(heed.scope(() => ({ a: floats, n: 1 }))).toEqualTypeOf<{ a: heed.FloatTensor; n: number }>();
expectTypeOf(heed.noGrad(() => ints)).toEqualTypeOf<heed.IntTensor>();
expectTypeOf(heed.keep(f32)).toEqualTypeOf<heed.Tensor<"f32">>();
expectTypeOf(heed.parameter(f32)).toEqualTypeOf<heed.Tensor<"f32">>();

// Modules and models.
declare const model: heed.GPT;
expectTypeOf(model.forward(ints)).toEqualTypeOf<heed.FloatTensor>();
expectTypeOf(model.loss(ints, ints)).toEqualTypeOf<heed.FloatTensor>();
expectTypeOf(model).toExtend<heed.Module>();
expectTypeOf(model).toExtend<Disposable>();
new heed.AdamW(model.namedParameters(), { lr: 1 });
// @ts-expect-error the width is required
new heed.GPT({ vocabularySize: 1, contextLength: 1, layers: 1, heads: 1 });
new heed.GPT({ vocabularySize: 1, contextLength: 1, layers: 1, heads: 1, width: 1, positions: "alibi", window: 4 });
// @ts-expect-error no such positions
new heed.GPT({ vocabularySize: 1, contextLength: 1, layers: 1, heads: 1, width: 1, positions: "absolute" });
// @ts-expect-error ids are integers
model.forward(floats);
model.loss(ints, ints, { documents: [[1, 2], Int32Array.of(3)], ignoreIndex: -1 });

// Errors have codes that a switch can list.
expectTypeOf<heed.HeedError["code"]>().toEqualTypeOf<heed.ErrorCode>();
expectTypeOf<"ERR_SHAPE">().toExtend<heed.ErrorCode>();
// Properties that cannot be changed.
// @ts-expect-error shapes do not change
floats.shape = [1];
// @ts-expect-error sizes do not change either
floats.shape[0] = 1;

// The result of `load` has the methods of its kind, or those of every kind if no kind was passed.
const causal = await heed.load("x", { kind: "causal" });
expectTypeOf(causal).toEqualTypeOf<heed.LanguageModel>();
expectTypeOf(await causal.generate("x")).toEqualTypeOf<heed.GenerationResult>();
for await (const event of causal.chat([{ role: "user", content: "x" }]))
  expectTypeOf(event).toEqualTypeOf<heed.GenerationEvent>();
expectTypeOf(await (await heed.load("x", { kind: "encoder" })).embed(["x"])).toEqualTypeOf<Float32Array[]>();
const classifier = await heed.load("x", { kind: "classifier" });
expectTypeOf(await classifier.classify(["x", ["y", "z"]])).toEqualTypeOf<heed.LabelScore[][]>();
expectTypeOf(await classifier.rank("x", ["y"])).toEqualTypeOf<heed.RankedDocument[]>();
const translator = await heed.load("x", { kind: "encoder-decoder" });
expectTypeOf(translator.translate("x")).resolves.toEqualTypeOf<string>();
expectTypeOf(translator.translate(["x"])).resolves.toEqualTypeOf<string[]>();
const some = await heed.load("x");
expectTypeOf(some.generate("x")).toEqualTypeOf<heed.Generation>();
expectTypeOf(some.embed(["x"])).resolves.toEqualTypeOf<Float32Array[]>();
if (some.kind === "encoder") expectTypeOf(some).toEqualTypeOf<heed.EmbeddingModel>();
// @ts-expect-error a translator does not generate
translator.generate("x");
// @ts-expect-error no such kind
void heed.load("x", { kind: "masked" });

// The type of a pretrained model follows from the kind for which it is loaded.
expectTypeOf(heed.loadPretrained("x", { kind: "encoder" })).resolves.toExtend<{ model: heed.Encoder }>();
expectTypeOf(heed.loadPretrained("x", { kind: "masked" })).resolves.toExtend<{ model: heed.MaskedLanguageModel }>();
expectTypeOf(heed.loadPretrained("x")).resolves.toExtend<{ model: heed.CausalDecoder }>();
// @ts-expect-error no such kind
void heed.loadPretrained("x", { kind: "decoder" });

// Activations have names of their own in each kind of model.
declare const t5: heed.T5;
expectTypeOf<"blocks.3.attn.hook_pattern">().toExtend<inspect.HookNameOf<heed.GPT>>();
expectTypeOf<"blocks.0.hook_normalized_resid_post">().toExtend<inspect.HookNameOf<heed.Bert>>();
expectTypeOf<"decoder.1.cross_attn.hook_z">().toExtend<inspect.HookNameOf<heed.T5>>();
expectTypeOf<"decoder.1.cross_attn.hook_z">().not.toExtend<inspect.HookNameOf<heed.Llama>>();
expectTypeOf<"blocks.first.hook_resid_pre">().not.toExtend<inspect.HookNameOf<heed.GPT>>();
expectTypeOf(inspect.hookNames(t5)).toEqualTypeOf<inspect.PairHookName[]>();
inspect.run(model, ints, { hooks: { "blocks.0.hook_mlp_out": inspect.replaceWith(0) } });
// @ts-expect-error a GPT has no cross-attention
inspect.run(model, ints, { hooks: { "blocks.0.cross_attn.hook_z": inspect.replaceWith(0) } });
// @ts-expect-error an encoder–decoder takes a source and a target
inspect.run(t5, ints);
