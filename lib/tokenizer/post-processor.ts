// The "post_processor" of a tokenizer.json (huggingface.co/docs/tokenizers, "Post-processors"): the tokens that it puts
// around a text or between the two texts of a pair, and the type of each token.
import { describe, HeedError } from "../util/errors.js";

/** Piece of what a model reads: a token that the post-processor adds, or a text (0 for the first, 1 for the second). */
export type Piece<Token> =
  { readonly token: Token; readonly type: number } | { readonly text: 0 | 1; readonly type: number };

/** The pieces of an encoded text and of an encoded pair of texts, in order. */
export interface Templates<Token = string> {
  readonly single: readonly Piece<Token>[];
  /** Null if the file does not say how a pair is encoded. */
  readonly pair: readonly Piece<Token>[] | null;
}

type Pieces = readonly Piece<string>[];

const first: Pieces = [{ text: 0, type: 0 }];
const second: Pieces = [{ text: 1, type: 1 }];
const maxDepth = 8;

/**
 * Returns the templates of a post-processor; their tokens are given by name.
 *
 * @throws ERR_FORMAT if the post-processor is malformed or unknown.
 */
export function templatesOf(part: unknown): Templates {
  return { single: processed(part, [first])!.flat(), pair: processed(part, [first, second])?.flat() ?? null };
}

/** Returns what a post-processor makes of one or two encodings, or null if it has no template for two. */
function processed(part: unknown, encodings: Pieces[], depth = maxDepth): Pieces[] | null {
  if (part === null || part === undefined) return encodings;
  const config = Object(part) as Record<string, unknown>;
  const added = (name: "cls" | "sep", type = 0): Piece<string> => ({ token: nameOf(name, config[name]), type });
  switch (config.type) {
    case "ByteLevel":
      return encodings;
    case "TemplateProcessing":
      return filled(config, encodings);
    case "BertProcessing":
      return encodings.map((pieces, i) =>
        i === 0 ? [added("cls"), ...pieces, added("sep")] : [...pieces, added("sep", 1)],
      );
    case "RobertaProcessing":
      // RoBERTa has only one type of token.
      return encodings.map((pieces, i) => [
        added(i === 0 ? "cls" : "sep"),
        ...pieces.map((piece) => ({ ...piece, type: 0 })),
        added("sep"),
      ]);
    case "Sequence": {
      if (!Array.isArray(config.processors))
        throw fault("the post-processor's processors to be an array", config.processors);
      if (depth === 0) throw fault(`post-processors nested at most ${maxDepth} deep`, part);
      // A later processor puts its tokens around those of the earlier ones.
      return config.processors.reduce<Pieces[] | null>(
        (made, processor) => made && processed(processor, made, depth - 1),
        encodings,
      );
    }
    default:
      throw fault(
        "a post-processor of type ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing or Sequence",
        config.type,
      );
  }
}

/** Returns the pieces of a template, in which the encodings take the places of the texts "A" and "B". */
function filled(config: Record<string, unknown>, encodings: readonly Pieces[]): Pieces[] | null {
  const name = encodings.length === 1 ? "single" : "pair";
  const template = config[name];
  // Programs that never encode pairs may leave their template out, or empty.
  if (name === "pair" && (template === undefined || template === null || (template as unknown[]).length === 0))
    return null;
  if (!Array.isArray(template)) throw fault(`the post-processor's template (${name}) to be an array`, template);
  const texts = ["A", "B"].slice(0, encodings.length);
  const counts = texts.map(() => 0);
  const pieces = template.flatMap((piece: unknown): Pieces => {
    const { SpecialToken: token, Sequence: text } = Object(piece) as Record<
      string,
      { id?: unknown; type_id?: unknown } | null | undefined
    >;
    const type = typeOf((token ?? text)?.type_id);
    if (typeof token?.id === "string") return [{ token: token.id, type }];
    const at = texts.indexOf(text?.id as string);
    if (at < 0) throw fault(`SpecialToken or Sequence ${texts.join(" or ")} in the post-processor's template`, piece);
    counts[at]!++;
    return encodings[at]!.map((inner) => ({ ...inner, type }));
  });
  if (counts.some((count) => count !== 1))
    throw fault(
      `the post-processor's template to contain ${texts.length === 1 ? "one text" : "each text once"}`,
      template,
    );
  return [pieces];
}

/** Returns the type of a piece's tokens. Older files leave it out if it is 0. */
function typeOf(type: unknown = 0): number {
  if (Number.isInteger(type) && (type as number) >= 0 && (type as number) < 2 ** 31) return type as number;
  throw fault("type_id in the post-processor's template to be an integer of at least 0", type);
}

/** Returns the name of a token that the file gives as [name, id]. */
function nameOf(key: string, value: unknown): string {
  const name: unknown = Array.isArray(value) ? value[0] : undefined;
  if (typeof name === "string") return name;
  throw fault(`the post-processor's ${key} to be a token and its id`, value);
}

function fault(expected: string, got: unknown): HeedError {
  return new HeedError("ERR_FORMAT", `tokenizer.json: expected ${expected}, got ${describe(got)}`);
}
