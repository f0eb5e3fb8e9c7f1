// Elements of the page. Text enters the page only as text: nothing here, and nothing elsewhere, parses HTML.

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

/** Makes a text field as high as its text. */
export function fitHeight(field: HTMLTextAreaElement): void {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}

/** Says something to screen readers. */
export function announce(text: string): void {
  byId("status").textContent = text;
}

/** Copies a text, and says on the button if it worked. */
export async function copy(text: string, pressed: HTMLButtonElement): Promise<void> {
  pressed.textContent = (await copied(text)) ? "Copied" : "The browser does not let the page copy";
  setTimeout(() => (pressed.textContent = "Copy"), 1500);
}

async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over HTTP, browsers have no clipboard for pages of another machine.
    const field = element("textarea", { value: text });
    document.body.append(field);
    field.select();
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- nothing else works there
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
