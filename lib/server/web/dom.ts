// Elements of the playground, beside those that all of heed's pages share.
import { element } from "../../web/dom.js";

export { announce, button, byId, element, visible } from "../../web/dom.js";

/** Makes a text field as high as its text. */
export function fitHeight(field: HTMLTextAreaElement): void {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
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
