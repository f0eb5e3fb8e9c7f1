// A text with a name above it and buttons beside it: a message of a chat, or the continuation of a text.
import { tokenElement } from "./alternatives.js";
import { answer, ServerError } from "./api.js";
import { announce, button, copy, element, fitHeight } from "../../web/dom.js";
import { askForKey } from "./key.js";
import { Statistics } from "./statistics.js";
import type { Piece } from "./tokens.js";

/** Buttons of a message besides "Copy", by their labels. */
export type Actions = Record<string, () => void>;

/** A message on the page. */
export class Message {
  readonly element: HTMLElement;
  readonly #text = element("div", { className: "text" });
  readonly #figures = element("footer");
  readonly #actions: HTMLElement;

  constructor(
    readonly role: "user" | "assistant",
    name: string,
    actions: Actions,
  ) {
    const copying = button("Copy", () => void copy(this.text, copying));
    const buttons = Object.entries(actions).map(([label, act]) => button(label, act));
    this.#actions = element("div", { className: "actions" }, copying, ...buttons);
    const header = element("header", {}, element("h2", {}, name), this.#actions);
    this.element = element("article", { className: `message ${role}` }, header, this.#text, this.#figures);
  }

  get text(): string {
    return this.#text.textContent;
  }

  /** Sets the text. Its tokens are not known. */
  set text(text: string) {
    this.#text.replaceChildren(text);
    this.#text.removeAttribute("tabindex");
    this.#figures.textContent = "";
  }

  /** Fills the message with the answer to a request, as it comes. If it fails, the message says why and offers `retry`. */
  async fill(route: string, body: object, signal: AbortSignal, retry: () => void): Promise<void> {
    const statistics = new Statistics();
    this.element.ariaBusy = "true";
    try {
      for await (const part of answer(route, body, signal)) {
        this.#add(part.pieces);
        statistics.add(part);
        this.#figures.textContent = statistics.toString();
      }
      announce(`The answer is complete: ${statistics.toString()}`);
    } catch (error) {
      if (signal.aborted) {
        statistics.stopped();
        announce("The answer was stopped.");
      } else this.#fail(error, retry);
    } finally {
      this.#figures.textContent = statistics.toString();
      this.element.ariaBusy = "false";
    }
  }

  /** Lets the reader change the text. */
  edit(): void {
    if (this.element.querySelector("form")) return;
    const field = element("textarea", { value: this.text, ariaLabel: "Text of the message" });
    const end = (): void => {
      form.replaceWith(this.#text);
      this.#actions.querySelector("button")!.focus();
    };
    const form = element(
      "form",
      { className: "edit" },
      field,
      element("button", { className: "primary" }, "Save"),
      button("Cancel", end),
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      if (field.value !== this.text) this.text = field.value;
      end();
    };
    form.onkeydown = (event) => {
      if (event.key === "Escape") end();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    this.#text.replaceWith(form);
    fitHeight(field);
    field.focus();
  }

  #add(pieces: readonly Piece[]): void {
    for (const piece of pieces) {
      if (piece.tokens.length > 0) this.#text.tabIndex = 0;
      this.#text.append(piece.tokens.length > 0 ? tokenElement(piece) : piece.text);
    }
  }

  #fail(error: unknown, retry: () => void): void {
    const message = error instanceof ServerError ? error.message : `The page failed: ${String(error)}`;
    if (error instanceof ServerError && error.status === 401) askForKey();
    const failure = element("p", { className: "failure", role: "alert" }, message, " ");
    failure.append(button("Try again", retry));
    this.#text.after(failure);
  }
}
