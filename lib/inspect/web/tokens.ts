// The tokens at the top of the page. They can be selected with the pointer or the arrow keys, and views colour them.
import { announce, byId, element, visible } from "../../web/dom.js";
import type { Sequence } from "../page/data.js";
import { onSelect, select } from "./selection.js";

const strips: HTMLElement[][] = [];

/** Shows the tokens of all sequences. */
export function showTokens(sequences: readonly Sequence[]): void {
  byId("sequences").replaceChildren(...sequences.map(stripOf));
  byId("tokens-hint").textContent =
    "Select a token with the pointer, or with the arrow keys and Enter. Escape selects none.";
  onSelect((selected) => {
    for (const [sequence, tokens] of strips.entries())
      for (const [token, shown] of tokens.entries())
        shown.ariaSelected = String(selected?.sequence === sequence && selected.token === token);
  });
}

/** Colours the tokens of a sequence by numbers from −1 to 1; null removes the colours. */
export function colourTokens(sequence: number, weights: readonly number[] | null): void {
  for (const [token, shown] of (strips[sequence] ?? []).entries()) {
    const weight = weights?.[token] ?? 0;
    shown.style.setProperty("--weight", Math.min(1, Math.abs(weight)).toFixed(3));
    shown.classList.toggle("less", weight < 0);
  }
}

/** Removes the colours of all tokens. */
export function uncolourTokens(): void {
  for (const sequence of strips.keys()) colourTokens(sequence, null);
}

function stripOf({ title, tokens }: Sequence, sequence: number): HTMLElement {
  const shown = tokens.map((text, token) => {
    const made = element("span", { className: "token", textContent: visible(text), title: `${token}` });
    made.role = "option";
    made.id = `token-${sequence}-${token}`;
    made.onclick = () => select({ sequence, token });
    return made;
  });
  strips[sequence] = shown;
  const strip = element("div", { className: "tokens", tabIndex: 0 }, ...shown);
  strip.role = "listbox";
  strip.ariaLabel = title;
  let cursor = -1;
  const moveTo = (token: number): void => {
    shown[cursor]?.classList.remove("cursor");
    cursor = Math.min(shown.length - 1, Math.max(0, token));
    const there = shown[cursor]!;
    there.classList.add("cursor");
    there.scrollIntoView({ block: "nearest", inline: "nearest" });
    strip.setAttribute("aria-activedescendant", there.id);
  };
  strip.addEventListener("keydown", (event) => {
    const steps: Record<string, number> = {
      ArrowRight: cursor + 1,
      ArrowLeft: cursor - 1,
      Home: 0,
      End: shown.length - 1,
    };
    const step = steps[event.key];
    if (step !== undefined) moveTo(step);
    else if ((event.key === "Enter" || event.key === " ") && cursor >= 0) {
      select({ sequence, token: cursor });
      announce(`${visible(tokens[cursor]!)}, ${shown[cursor]!.ariaSelected === "true" ? "selected" : "not selected"}`);
    } else return;
    event.preventDefault();
  });
  return element(
    "div",
    { className: "sequence" },
    element("h2", { textContent: `${title} (${tokens.length})` }),
    strip,
  );
}
