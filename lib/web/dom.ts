// Elements of heed's pages. Text enters a page only as text: nothing here, and nothing in the pages, parses HTML.

/** Returns the element of index.html with this id, which is of this type. */
export function byId<T extends HTMLElement = HTMLElement>(id: string, type?: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof (type ?? HTMLElement))) throw new Error(`expected the page to have #${id}`);
  return found as T;
}

/** Returns a new element with these properties and children. */
export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Returns a small button that does one thing. */
export function button(label: string, onclick: () => void): HTMLButtonElement {
  return element("button", { type: "button", textContent: label, onclick });
}

/** Says something to screen readers. */
export function announce(text: string): void {
  byId("status").textContent = text;
}

/** Returns a token's text with signs for what cannot be seen. */
export function visible(text: string): string {
  if (text === "") return "(no text)";
  if (text === "\ufffd") return "(part of a character)";
  return text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
}
