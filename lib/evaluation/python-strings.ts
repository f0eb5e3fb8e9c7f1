// Methods of Python's str whose white space, letters and digits differ from JavaScript's.

/** White space of Python's str.isspace(), as the inside of a character class. */
export const pythonSpaces = String.raw`\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000`;

/** Characters of words in Python's regular expressions, as the inside of a character class with the flag u. */
export const pythonWords = String.raw`\p{L}\p{N}_`;

const spaces = new RegExp(`[${pythonSpaces}]+`);
const atStart = new RegExp(`^[${pythonSpaces}]+`);
const atEnd = new RegExp(`[${pythonSpaces}]+$`);

/** Returns a text without white space at its ends, as Python's strip(). */
export function strip(text: string): string {
  return stripEnd(text.replace(atStart, ""));
}

/** Returns a text without white space at its end, as Python's rstrip(). */
export function stripEnd(text: string): string {
  return text.replace(atEnd, "");
}

/** Returns the parts of a text between white space, as Python's re.split(r"\s+", text): those at the ends may be empty. */
export function splitAtSpaces(text: string): string[] {
  return text.split(spaces);
}

/** Returns the words of a text, as Python's split(). */
export function wordsOf(text: string): string[] {
  return splitAtSpaces(text).filter((word) => word !== "");
}
