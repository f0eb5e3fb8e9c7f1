// Characters that Python's regular expressions take for the same without regard to case: those with the same lower case,
// and those whose lower cases have the same upper case, such as s and ſ.

let classes: ReadonlyMap<number, readonly number[]> | null = null;

/** Largest code point with an upper or a lower case, with room for those of later versions of Unicode. */
const last = 0x1_ffff;

/** Returns the characters that match a character without regard to case, itself included. */
export function caseVariants(code: number, ascii: boolean): readonly number[] {
  if (ascii) {
    const isLetter = (code >= 65 && code <= 90) || (code >= 97 && code <= 122);
    return isLetter ? [code, code ^ 32] : [code];
  }
  classes ??= caseClasses();
  return classes.get(code) ?? [code];
}

function caseClasses(): Map<number, number[]> {
  const byUpper = new Map<string, number[]>();
  for (let code = 0; code <= last; code++) {
    // The halves of surrogate pairs are no characters.
    if (code >= 0xd800 && code <= 0xdfff) continue;
    const text = String.fromCodePoint(code);
    const lower = String.fromCodePoint(text.toLowerCase().codePointAt(0)!);
    const upper = lower.toUpperCase();
    if (upper === text && lower === text) continue;
    const same = byUpper.get(upper);
    if (same) same.push(code);
    else byUpper.set(upper, [code]);
  }
  const found = new Map<number, number[]>();
  for (const same of byUpper.values()) if (same.length > 1) for (const code of same) found.set(code, same);
  return found;
}
