import { atOnce } from "../util/turns.js";
import { byteLevelJson } from "./byte-level-json.js";
import { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import { type IdParts, joinParts, joinPartsInTurns, slicesOf } from "./id-parts.js";
import { byteLevel } from "./token-decoder.js";
import { byteStream, checkId, decodeAll, type TokenStream } from "./token-stream.js";
import type { Tokenizer } from "./tokenizer.js";

/**
 * Tokenizer whose ids are the 256 bytes of UTF-8. It encodes any text and needs no training.
 *
 * @example
 * const tokenizer = new ByteTokenizer();
 * tokenizer.encode("Hé"); // Int32Array [72, 195, 169]
 * tokenizer.decode([72, 195, 169]); // "Hé"
 */
export class ByteTokenizer implements Tokenizer {
  readonly vocabularySize = 256;
  readonly endOfText = null;

  encode(text: string): Int32Array {
    return joinParts(parts(text));
  }

  async encodeAsync(text: string, limit: { maxLength?: number } = {}): Promise<Int32Array> {
    return joinPartsInTurns(parts(text), limit);
  }

  decode(ids: Iterable<number>): string {
    return decodeAll(this.stream(), ids);
  }

  stream(): TokenStream {
    return byteStream((id) => this.bytesOf(id));
  }

  bytesOf(id: number): Uint8Array {
    checkId(this, id);
    return Uint8Array.of(id);
  }

  toHuggingFace(): HuggingFaceTokenizer {
    const none = new Set<number>();
    return new HuggingFaceTokenizer(
      atOnce(byteLevelJson({ tokens: [...byteLevel.keys()], merges: [], control: none, user: none })),
    );
  }

  toJSON(): { type: "byte" } {
    return { type: "byte" };
  }
}

function* parts(text: string): IdParts {
  const encoder = new TextEncoder();
  for (const slice of slicesOf(text, 2 ** 16)) yield encoder.encode(slice);
}
