// Controls of the views.
import { element } from "../../web/dom.js";

interface Option {
  value: string;
  label: string;
}

/** Returns a line of controls. */
export function controls(...children: HTMLElement[]): HTMLElement {
  return element("div", { className: "controls" }, ...children);
}

/** Returns a list to choose from. */
export function chooser(
  label: string,
  options: readonly Option[],
  onChange: (value: string) => void,
): HTMLLabelElement {
  const list = element(
    "select",
    { onchange: () => onChange(list.value) },
    ...options.map(({ value, label }) => element("option", { value, textContent: label })),
  );
  return element("label", {}, `${label} `, list);
}

let groups = 0;

/** Returns buttons of which one is pressed; at first it is that of the first option. */
export function choice(
  label: string,
  options: readonly Option[],
  onChange: (value: string) => void,
): HTMLFieldSetElement {
  const name = `choice-${groups++}`;
  const buttons = options.map(({ value, label }, i) => {
    const radio = element("input", { type: "radio", name, value, checked: i === 0, onchange: () => onChange(value) });
    return element("label", {}, radio, ` ${label}`);
  });
  return element("fieldset", {}, element("legend", { textContent: label }), ...buttons);
}
