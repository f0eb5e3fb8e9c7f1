import { HeedError } from "../util/errors.js";
import { inFile, readTextFile } from "../util/files.js";

/** Matches tokens that stand for no text, such as <s>. */
const special = /^<.+>$/su;
const unknown = "<unk>";

/**
 * Vocabulary of a translation model that works with characters, as OpenNMT writes it to a file: one character per line,
 * and lines with special tokens such as <s> and </s>. A token's id is the number of its line, from 0. <unk> stands for
 * all other characters; if the list lacks it, it is added at the end.
 *
 * @example
 * const list = new CharacterList(["<s>", "</s>", "a", "b"]);
 * list.encode("abc"); // Int32Array [2, 3, 4]: "c" is <unk>
 * list.decode([2, 3, 1]); // "ab"
 */
export class CharacterList {
  readonly #ids: ReadonlyMap<string, number>;

  /** The tokens, by id. */
  readonly tokens: readonly string[];

  /**
   * Creates a vocabulary of these tokens.
   *
   * @throws ERR_FORMAT if a token occurs twice, or is neither one character nor a name in angle brackets.
   */
  constructor(list: readonly string[]) {
    const tokens = list.includes(unknown) ? list : [...list, unknown];
    this.tokens = tokens;
    this.#ids = new Map(tokens.map((token, id) => [token, id]));
    const again = tokens.find((token, id) => this.#ids.get(token) !== id);
    if (again !== undefined)
      throw new HeedError("ERR_FORMAT", `vocabulary: expected unique tokens, got ${JSON.stringify(again)} twice`);
    const word = tokens.find((token) => Array.from(token).length !== 1 && !special.test(token));
    if (word !== undefined)
      throw new HeedError(
        "ERR_FORMAT",
        `vocabulary: expected one character on each line, or a name in angle brackets, got ${JSON.stringify(word)}`,
      );
  }

  /**
   * Reads a vocabulary from a file with one token per line.
   *
   * @example
   * import { writeFile } from "node:fs/promises";
   * await writeFile("vocabulary.txt", "<s>\n</s>\na\nb\n");
   * const list = await CharacterList.fromFile("vocabulary.txt");
   *
   * @throws ERR_IO if the file cannot be read.
   * @throws ERR_FORMAT if the constructor rejects its lines; the message names the file.
   */
  static async fromFile(file: string): Promise<CharacterList> {
    const lines = (await readTextFile(file)).replace(/\n$/, "").split("\n");
    return inFile(file, () => new CharacterList(lines));
  }

  /**
   * Returns the id of a token.
   *
   * @throws ERR_FORMAT if the list does not have the token.
   */
  id(token: string): number {
    const id = this.#ids.get(token);
    if (id === undefined) throw new HeedError("ERR_FORMAT", `vocabulary: expected the token ${token}, got none`);
    return id;
  }

  /** Returns the ids of the characters of a text. A character that is not in the list gets the id of <unk>. */
  encode(text: string): Int32Array {
    return Int32Array.from(Array.from(text), (character) => this.#ids.get(character) ?? this.#ids.get(unknown)!);
  }

  /**
   * Returns the characters of these ids as one text. Special tokens are left out.
   *
   * @throws ERR_RANGE if an id is not in the list.
   */
  decode(ids: Iterable<number>): string {
    return Array.from(ids, (id) => {
      const token = this.tokens[id];
      if (token === undefined)
        throw new HeedError("ERR_RANGE", `vocabulary: expected an id from 0 to ${this.tokens.length - 1}, got ${id}`);
      return special.test(token) ? "" : token;
    }).join("");
  }
}
