// The "post_processor" of a tokenizer.json (huggingface.co/docs/tokenizers, "Post-processors"). heed reads the part of
// it that concerns a single text: the tokens that it puts before and after the text.
import { describe, HeedError } from "../errors.js";

/** The names of the tokens that are put before and after a text. */
export interface Affixes {
  readonly before: readonly string[];
  readonly after: readonly string[];
}

const none: Affixes = { before: [], after: [] };
const maxDepth = 8;

/**
 * Returns the names of the tokens that a post-processor puts before and after a text.
 *
 * @throws ERR_FORMAT if the post-processor is malformed or unknown.
 */
export function affixesOf(part: unknown, depth = maxDepth): Affixes {
  if (part === null || part === undefined) return none;
  const config = Object(part) as Record<string, unknown>;
  switch (config.type) {
    case "ByteLevel":
      return none;
    case "TemplateProcessing":
      return ofTemplate(config.single);
    case "BertProcessing":
    case "RobertaProcessing":
      return { before: [nameOf("cls", config.cls)], after: [nameOf("sep", config.sep)] };
    case "Sequence": {
      if (!Array.isArray(config.processors))
        throw fault("the post-processor's processors to be an array", config.processors);
      if (depth === 0) throw fault(`post-processors nested at most ${maxDepth} deep`, part);
      const parts = config.processors.map((processor) => affixesOf(processor, depth - 1));
      // A later processor puts its tokens around those of the earlier ones.
      return {
        before: parts.toReversed().flatMap(({ before }) => before),
        after: parts.flatMap(({ after }) => after),
      };
    }
    default:
      throw fault(
        "a post-processor of type ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing or Sequence",
        config.type,
      );
  }
}

/** Returns the tokens around the one text of a template, which the template calls "A". */
function ofTemplate(single: unknown): Affixes {
  if (!Array.isArray(single)) throw fault("the post-processor's template (single) to be an array", single);
  const pieces = single.map((piece: unknown): string | null => {
    const { SpecialToken: token, Sequence: text } = Object(piece) as Record<
      string,
      { id?: unknown } | null | undefined
    >;
    if (typeof token?.id === "string") return token.id;
    if (text?.id === "A") return null;
    throw fault("SpecialToken or Sequence A in the post-processor's template", piece);
  });
  const at = pieces.indexOf(null);
  if (at < 0 || pieces.includes(null, at + 1)) throw fault("the post-processor's template to contain one text", single);
  return { before: pieces.slice(0, at) as string[], after: pieces.slice(at + 1) as string[] };
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
