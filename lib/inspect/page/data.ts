// What a page shows: the types that the program that writes pages and the program inside of them share. It has no code, so
// that both can import it.

/** Numbers in a table whose codes of 8 bits are in one of the page's blobs. */
export interface Grid {
  /** Name of the blob with the codes, row by row. */
  blob: string;
  rows: number;
  columns: number;
  /** Value of the largest code. */
  scale: number;
  /**
   * Meaning of a code c: "root" is scale · (c / 255)², for values from 0 on, with small ones kept apart; "signed" is scale ·
   * (c − 128) / 127.
   */
  form: "root" | "signed";
}

/** Tokens of a text. */
export interface Sequence {
  title: string;
  tokens: string[];
}

/** Attention of one kind in all layers, such as that of a decoder to its source. */
export interface AttentionData {
  title: string;
  layers: number;
  heads: number;
  /** Index of the sequence whose tokens attend. */
  queries: number;
  /** Index of the sequence whose tokens are attended to. */
  keys: number;
  /** Weights of each head, [queries · keys], at `layer · heads + head`. */
  patterns: Grid[];
}

/** Likeliest next tokens after each layer. */
export interface LensData {
  /** Names of the rows: the stream before each layer, and the output. */
  rows: string[];
  sequence: number;
  /** Number of tokens in each cell. */
  count: number;
  /** Distinct texts of tokens. */
  texts: string[];
  /** Indices of the texts, [rows · tokens · count], the likeliest first. */
  top: number[];
  /** Their probabilities. */
  probabilities: number[];
}

/** Part of a model that can be credited or removed. */
export interface Component {
  name: string;
  /** Index of the attention to which the part belongs; null for an embedding or a bias. */
  attention: number | null;
  layer: number | null;
  /** Index of the head; null for a feed-forward layer and others. */
  head: number | null;
}

/** A number for each part and each column: what it contributes, or what its removal changes. */
export interface EffectData {
  /** Meaning of the numbers, in a sentence. */
  note: string;
  /** Name of the unit, such as "nats". */
  unit: string;
  components: Component[];
  /** Names of the columns: what is predicted at each token, or labels. */
  columns: string[];
  /** Index of the sequence whose tokens are the columns; null if the columns are something else. */
  sequence: number | null;
  /** Values, [components · columns], with four digits: their sums matter, which 8 bits would spoil. */
  values: number[];
  /** Value of the whole, for each column. */
  totals: number[];
}

/** Activations of the most active neurons of one feed-forward layer. */
export interface NeuronData {
  title: string;
  sequence: number;
  /** Number of neurons that the layer has. */
  count: number;
  /** Indices of the neurons that are shown. */
  neurons: number[];
  /** Activations, [neurons · tokens]. */
  values: Grid;
}

/** Everything that a page shows. */
export interface PageData {
  title: string;
  /** Facts about the model, as pairs of a name and a value. */
  facts: [string, string][];
  sequences: Sequence[];
  attention: AttentionData[];
  lens: LensData | null;
  attribution: EffectData | null;
  ablation: EffectData | null;
  neurons: NeuronData[];
}
