// The field for the API key, which appears when the server asks for one. The key stays in the page's memory.
import { useKey } from "./api.js";
import { byId } from "../../web/dom.js";

const form = byId("key-form", HTMLFormElement);
const field = byId("key", HTMLInputElement);

/** Shows the field. */
export function askForKey(): void {
  form.hidden = false;
  field.focus();
}

/** Calls a function when the reader has given a key. */
export function whenKeyIsGiven(then: () => void): void {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(field.value.trim());
    form.hidden = true;
    then();
  });
}
