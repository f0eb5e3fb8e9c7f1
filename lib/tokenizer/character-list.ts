import { HeedError } from "../errors.js";
import { inFile, readTextFile } from "../files.js";

/** Tokens that stand for no text, such as <s>. */
const special = /^<.+>$/su;
const unknown = "<unk>";

/**
 * The characters that a translation model knows, as OpenNMT lists them in a file: a line each, beside lines such as <s>
 * and </s>; a token's id is the number of its line. The last is <unk>, listed or not, for all other characters.
 */
export class CharacterList {
  readonly #ids: ReadonlyMap<string, number>;

  readonly tokens: readonly string[];

  /** Throws ERR_FORMAT where a token is there twice, or is no character. */
  constructor(list: readonly string[]) {
    const tokens = list.includes(unknown) ? list : [...list, unknown];
    this.tokens = tokens;
    this.#ids = new Map(tokens.map((token, id) => [token, id]));
    const again = tokens.find((token, id) => this.#ids.get(token) !== id);
    if (again !== undefined)
      throw new HeedError("ERR_FORMAT", `vocabulary: expected different tokens, got ${JSON.stringify(again)} twice`);
    const word = tokens.find((token) => Array.from(token).length !== 1 && !special.test(token));
    if (word !== undefined)
      throw new HeedError(
        "ERR_FORMAT",
        `vocabulary: expected a character a line, or a name in angle brackets, got ${JSON.stringify(word)}`,
      );
  }

  /** Throws ERR_IO or ERR_FORMAT with the file's name. */
  static async fromFile(file: string): Promise<CharacterList> {
    const lines = (await readTextFile(file)).replace(/\n$/, "").split("\n");
    return inFile(file, () => new CharacterList(lines));
  }

  /** The id of a token. Throws ERR_FORMAT where there is none. */
  id(token: string): number {
    const id = this.#ids.get(token);
    if (id === undefined) throw new HeedError("ERR_FORMAT", `vocabulary: expected the token ${token}, got none`);
    return id;
  }

  encode(text: string): Int32Array {
    return Int32Array.from(Array.from(text), (character) => this.#ids.get(character) ?? this.#ids.get(unknown)!);
  }

  /** The characters of these ids, in a row. Throws ERR_RANGE for an id outside the list. */
  decode(ids: Iterable<number>): string {
    return Array.from(ids, (id) => {
      const token = this.tokens[id];
      if (token === undefined)
        throw new HeedError("ERR_RANGE", `vocabulary: expected an id from 0 to ${this.tokens.length - 1}, got ${id}`);
      return special.test(token) ? "" : token;
    }).join("");
  }
}
