// The parts of a parsed template.
import type { Value } from "./values.js";

/** Arguments of a call, a filter or a test. */
export interface Arguments {
  readonly args: readonly Expression[];
  readonly kwargs: readonly (readonly [name: string, value: Expression])[];
  /** Lists that are spread, and dictionaries. */
  readonly spread: Expression | null;
  readonly kwSpread: Expression | null;
}

export type Comparison = "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in";
export type Arithmetic = "+" | "-" | "*" | "/" | "//" | "%" | "**";

export type Expression =
  | { readonly type: "constant"; readonly value: Value }
  | { readonly type: "name"; readonly name: string }
  | { readonly type: "list" | "tuple" | "concat"; readonly items: readonly Expression[] }
  | { readonly type: "dict"; readonly entries: readonly (readonly [key: Expression, value: Expression])[] }
  | { readonly type: "and" | "or"; readonly left: Expression; readonly right: Expression }
  | { readonly type: "not" | "minus" | "plus"; readonly operand: Expression }
  | {
      readonly type: "arithmetic" | "signed power";
      readonly operator: Arithmetic;
      readonly left: Expression;
      readonly right: Expression;
    }
  | {
      readonly type: "compare";
      readonly first: Expression;
      readonly others: readonly (readonly [operator: Comparison, operand: Expression])[];
    }
  | {
      readonly type: "choice";
      readonly test: Expression;
      readonly then: Expression;
      /** Null if the expression has no `else`. */
      readonly otherwise: Expression | null;
    }
  | { readonly type: "attribute"; readonly object: Expression; readonly name: string }
  | { readonly type: "item"; readonly object: Expression; readonly key: Expression }
  | {
      readonly type: "slice";
      readonly object: Expression;
      readonly start: Expression | null;
      readonly stop: Expression | null;
      readonly step: Expression | null;
    }
  | ({ readonly type: "call"; readonly callee: Expression } & Arguments)
  /** The operand of a filter is null where the filter is applied to the text of a block. */
  | ({ readonly type: "filter"; readonly operand: Expression | null; readonly name: string } & Arguments)
  | ({ readonly type: "test"; readonly operand: Expression; readonly name: string } & Arguments);

/** A name that a value is assigned to, several of them, or an attribute of a namespace. */
export type Target =
  | { readonly type: "name"; readonly name: string }
  | { readonly type: "tuple"; readonly items: readonly Target[] }
  | { readonly type: "namespace"; readonly name: string; readonly attribute: string };

/** The parameters and the body of a macro, or of the block of a call. */
export interface MacroBody {
  readonly params: readonly string[];
  /** Values of the last parameters where the caller gives none. */
  readonly defaults: readonly Expression[];
  readonly body: readonly Statement[];
  /** The names among `varargs`, `kwargs` and `caller` that the body uses. */
  readonly special: ReadonlySet<string>;
}

export type Statement =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "print"; readonly value: Expression }
  | {
      readonly type: "if";
      readonly branches: readonly (readonly [test: Expression, body: readonly Statement[]])[];
      readonly otherwise: readonly Statement[];
    }
  | {
      readonly type: "for";
      readonly target: Target;
      readonly iterable: Expression;
      readonly test: Expression | null;
      readonly recursive: boolean;
      readonly body: readonly Statement[];
      readonly otherwise: readonly Statement[];
    }
  | { readonly type: "set"; readonly target: Target; readonly value: Expression }
  | {
      readonly type: "set block";
      readonly target: Target;
      readonly filter: Expression | null;
      readonly body: readonly Statement[];
    }
  | {
      readonly type: "with";
      readonly values: readonly (readonly [target: Target, value: Expression])[];
      readonly body: readonly Statement[];
    }
  | { readonly type: "filter block"; readonly filter: Expression; readonly body: readonly Statement[] }
  | { readonly type: "macro"; readonly name: string; readonly macro: MacroBody }
  | { readonly type: "call block"; readonly call: Expression & { type: "call" }; readonly macro: MacroBody }
  /** The part of a template that the assistant says: {% generation %} … {% endgeneration %}. */
  | { readonly type: "generation" | "block"; readonly body: readonly Statement[] }
  | { readonly type: "break" | "continue" };
