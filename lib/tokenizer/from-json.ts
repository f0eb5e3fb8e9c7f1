import { HeedError } from "../errors.js";
import { ByteTokenizer } from "./byte-tokenizer.js";
import { CharTokenizer } from "./char-tokenizer.js";
import { Gpt2Tokenizer } from "./gpt2-tokenizer.js";
import type { Tokenizer } from "./tokenizer.js";

/** The tokenizer that `toJSON` described. Throws ERR_FORMAT for anything else. */
export async function tokenizerFromJSON(json: unknown): Promise<Tokenizer> {
  const { type, characters } = (json ?? {}) as { type?: unknown; characters?: unknown };
  if (type === "byte") return new ByteTokenizer();
  if (type === "gpt2") return Gpt2Tokenizer.load();
  if (type === "char" && typeof characters === "string" && characters !== "") return new CharTokenizer(characters);
  throw new HeedError(
    "ERR_FORMAT",
    `tokenizer: expected {type: "byte"}, {type: "gpt2"} or {type: "char", characters: "…"}, got ${
      JSON.stringify(json)?.slice(0, 100) ?? "nothing"
    }`,
  );
}
