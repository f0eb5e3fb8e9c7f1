/** Texts that are generated without a model: each token is drawn from those that are allowed. */
import { atOnce } from "../../lib/util/turns.js";
import { Automaton } from "../../lib/structured/automaton.js";
import { Constraint, writeAllowed } from "../../lib/structured/constraint.js";
import type { Expression } from "../../lib/structured/expression.js";
import { formatExpression } from "../../lib/structured/format-expression.js";
import type { OutputFormat } from "../../lib/structured/output-format.js";
import { tokenTrie } from "../../lib/structured/token-trie.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { Random } from "../support/random.js";

/** Returns the texts of a format, read at once. */
export function expressionOf(format: OutputFormat): Expression {
  return atOnce(formatExpression(format));
}

/** Returns the texts of a JSON schema, read at once. */
export function schemaOf(schema: object, strict = false): Expression {
  return expressionOf({ type: "json-schema", schema: schema as Record<string, unknown>, strict });
}

/** Returns true if a text matches. */
export function acceptedBy(automaton: Automaton, root: Expression, text: string): boolean {
  return automaton.after(automaton.start(root), Buffer.from(text))?.accepts ?? false;
}

export function automatonOf(tokenizer: Tokenizer): Automaton {
  return new Automaton(
    atOnce(tokenTrie((id) => tokenizer.bytesOf!(id), tokenizer.vocabularySize, tokenizer.vocabularySize)),
  );
}

/** Returns the ids that may follow; V is the end of the text. */
export function idsAllowed(constraint: Constraint, vocabulary: number): number[] {
  const words = new Int32Array(Math.ceil((vocabulary + 1) / 32));
  writeAllowed(words, constraint, new Set([vocabulary]));
  return Array.from({ length: vocabulary + 1 }, (_, id) => id).filter((id) => (words[id >> 5]! >> (id & 31)) & 1);
}

/** Returns a random text, and true if it has ended before `limit` tokens. */
export function randomText(
  automaton: Automaton,
  root: Expression,
  seed: number,
  limit: number,
): { text: string; ended: boolean } {
  const { tokens, size } = automaton.trie;
  const random = new Random(seed);
  const constraint = new Constraint(automaton, root);
  const parts: Uint8Array[] = [];
  while (!constraint.ended && parts.length < limit) {
    const ids = idsAllowed(constraint, size);
    // The end is as likely as all others together.
    const id = constraint.accepts && random.uniform() < 0.5 ? size : ids[random.integer(ids.length)]!;
    if (id === size) break;
    parts.push(tokens[id]!);
    constraint.accept(id);
  }
  return { text: Buffer.concat(parts).toString(), ended: constraint.accepts };
}
