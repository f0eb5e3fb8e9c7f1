// The alternatives of a token: a box that shows them when the pointer is over a token, and when the arrow keys move
// through the tokens of a text that has the focus.
import { byId, element, visible } from "./dom.js";
import type { Candidate, Piece, Token } from "./tokens.js";

const pieces = new WeakMap<Element, Piece>();
const box = byId("alternatives");

/** Returns an element for a piece of an answer. Its colour says how unlikely the piece was. */
export function tokenElement(piece: Piece): HTMLElement {
  const made = element("span", { className: "token", textContent: piece.text });
  const logprob = piece.tokens.reduce((sum, token) => sum + token.logprob, 0);
  // The strongest colour stands for 0.25 % and less.
  made.style.setProperty("--surprise", Math.min(1, -logprob / 6).toFixed(3));
  // A mark besides the colour, for those who do not see it.
  made.classList.toggle("rare", logprob < Math.log(0.1));
  pieces.set(made, piece);
  return made;
}

/** Makes the box follow the pointer and the keys. */
export function showAlternatives(): void {
  document.addEventListener("pointerover", ({ target }) => {
    const over = target instanceof Element ? target.closest(".token") : null;
    if (over) show(over);
    else hide();
  });
  document.documentElement.addEventListener("pointerleave", ({ pointerType }) => {
    // A finger leaves the page when it has tapped a token.
    if (pointerType === "mouse") hide();
  });
  document.addEventListener("scroll", hide, { capture: true });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", move);
}

/** Hides the box. Returns false if it was hidden already. */
export function hide(): boolean {
  document.querySelector(".token.current")?.classList.remove("current");
  const shown = !box.hidden;
  box.hidden = true;
  return shown;
}

function move(event: KeyboardEvent): void {
  const text = event.target as HTMLElement;
  if (!text.matches(".text")) return;
  const current = text.querySelector(".token.current");
  const targets: Record<string, Element | null> = {
    ArrowRight: current ? current.nextElementSibling : text.firstElementChild,
    ArrowLeft: current ? current.previousElementSibling : text.lastElementChild,
    Home: text.firstElementChild,
    End: text.lastElementChild,
  };
  const next = targets[event.key];
  if (!next) return;
  event.preventDefault();
  next.scrollIntoView({ block: "nearest" });
  show(next);
}

function show(token: Element): void {
  const piece = pieces.get(token);
  if (!piece || token.classList.contains("current")) return;
  hide();
  token.classList.add("current");
  box.replaceChildren(...piece.tokens.map(table));
  box.hidden = false;
  placeAt(token);
}

/** Puts the box below an element, or above it if there is no room. */
function placeAt(token: Element): void {
  const { left, top, bottom } = token.getClientRects()[0] ?? token.getBoundingClientRect();
  const { offsetWidth, offsetHeight } = box;
  const below = bottom + 4 + offsetHeight < innerHeight;
  box.style.left = `${Math.max(8, Math.min(left, innerWidth - offsetWidth - 8))}px`;
  box.style.top = `${below ? bottom + 4 : Math.max(8, top - offsetHeight - 4)}px`;
}

function table(token: Token): HTMLElement {
  const { text, logprob, top } = token;
  const isChosen = (one: Candidate): boolean => one.text === text && Math.abs(one.logprob - logprob) < 1e-6;
  const rows = top.some(isChosen) ? top : [...top, token];
  return element(
    "table",
    {},
    element("caption", {}, `${visible(text)} had the probability ${percent(logprob)}`),
    element("tbody", {}, ...rows.map((one) => row(one, isChosen(one)))),
  );
}

function row({ text, logprob }: Candidate, chosen: boolean): HTMLElement {
  const bar = element("span", { className: "bar" });
  bar.style.setProperty("--probability", Math.exp(logprob).toFixed(4));
  return element(
    "tr",
    { className: chosen ? "chosen" : "" },
    element("td", {}, chosen ? "✓" : ""),
    element("th", { scope: "row" }, visible(text)),
    element("td", {}, bar),
    element("td", { className: "number" }, percent(logprob)),
  );
}

function percent(logprob: number): string {
  const percentage = 100 * Math.exp(logprob);
  return percentage < 0.05 ? "< 0.1 %" : `${percentage.toFixed(1)} %`;
}
