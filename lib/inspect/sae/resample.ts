import type { AdamW } from "../../optim/adamw.js";
import type { FloatTensor } from "../../core/tensor.js";
import type { SparseAutoencoder } from "./sparse-autoencoder.js";

/** Inputs from which dead features are made anew, and the state that goes with it. */
export interface ResampleSource {
  /** Rows f32 [N, C] of a batch. */
  x: FloatTensor;
  /** Squared error of each row, f32 [N]. */
  errors: FloatTensor;
  /** Random numbers in [0, 1). */
  random: () => number;
  /** Logarithms of the thresholds, and the value at which they begin; null without thresholds. */
  thresholds: { log: FloatTensor; start: number } | null;
}

/** Factor of a new encoder direction, relative to the mean length of the live ones (Bricken et al. 2023). */
const freshLength = 0.2;

/**
 * Makes dead features point to inputs that are reconstructed badly, and resolves to their number (Bricken et al. 2023,
 * "Towards Monosemanticity", Neuron Resampling). An input is drawn with a probability that grows with the square of its
 * squared error. The moments of the optimisers begin anew. Features of "topk" get encoder directions of full length, since
 * shorter ones would never be among the k largest.
 *
 * @param fired 1 for each feature that has been active lately and 0 for the others
 */
export async function resampleDead(
  sae: SparseAutoencoder,
  optimizers: readonly AdamW[],
  fired: Float32Array,
  source: ResampleSource,
): Promise<number> {
  const dead = [...fired.keys()].filter((feature) => fired[feature] === 0);
  if (dead.length === 0) return 0;
  const { width, features, architecture, subtractsBias } = sae.config;
  const [x, errors, encoder, decoder, bias, offset] = (await Promise.all(
    [source.x, source.errors, sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec].map((tensor) => tensor.data()),
  )) as [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array, Float32Array];
  const length = meanColumnLength(encoder, features, fired) * (architecture === "topk" ? 1 : freshLength);
  const draw = drawer(errors, source.random);
  for (const feature of dead) {
    const row = draw();
    const direction = Float64Array.from(
      { length: width },
      (_, c) => x[row * width + c]! - (subtractsBias ? offset[c]! : 0),
    );
    const size = Math.hypot(...direction) || 1;
    for (let c = 0; c < width; c++) {
      decoder[feature * width + c] = direction[c]! / size;
      encoder[c * features + feature] = (direction[c]! / size) * length;
    }
    bias[feature] = 0;
  }
  sae.W_enc.set(encoder);
  sae.W_dec.set(decoder);
  sae.b_enc.set(bias);
  const { thresholds } = source;
  if (thresholds) {
    const values = await thresholds.log.data();
    for (const feature of dead) values[feature] = Math.log(thresholds.start);
    thresholds.log.set(values);
  }
  for (const optimizer of optimizers) await forget(optimizer, dead, { width, features });
  return dead.length;
}

/** Returns the mean length of the encoder's columns [C, F] that belong to live features; 1 if there is none. */
function meanColumnLength(encoder: Float32Array, features: number, fired: Float32Array): number {
  const squares = new Float64Array(features);
  for (const [i, weight] of encoder.entries()) squares[i % features]! += weight * weight;
  const lengths = [...squares].filter((_, feature) => fired[feature] !== 0).map(Math.sqrt);
  return lengths.length === 0 ? 1 : lengths.reduce((sum, one) => sum + one, 0) / lengths.length;
}

/** Returns a function that draws a row with a probability that grows with the square of its error. */
function drawer(errors: Float32Array, random: () => number): () => number {
  const sums = new Float64Array(errors.length);
  let total = 0;
  for (const [i, error] of errors.entries()) sums[i] = total += error ** 2;
  return () => {
    const at = random() * total;
    const row = sums.findIndex((sum) => sum > at);
    return row < 0 ? errors.length - 1 : row;
  };
}

/** Sets the moments of features to 0. */
async function forget(
  optimizer: AdamW,
  dead: readonly number[],
  { width, features }: { width: number; features: number },
): Promise<void> {
  for (const [name, moments] of Object.entries(optimizer.stateDict())) {
    const parameter = name.slice(2);
    if (parameter === "b_dec") continue;
    const values = await moments.data();
    for (const feature of dead)
      if (parameter === "W_dec") values.fill(0, feature * width, (feature + 1) * width);
      else if (parameter === "W_enc") for (let c = 0; c < width; c++) values[c * features + feature] = 0;
      else values[feature] = 0;
    moments.set(values);
  }
}
