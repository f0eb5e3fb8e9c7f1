// A lint rule for docstrings, which must be sentences that can be read alone in an editor. docs/style.md says which
// forms are refused and why.

/** Words that begin a fragment, because what they refer to is somewhere else. */
const fragments =
  /^(Of|What|Whether|Which|Where|Whose|Who|Whom|How|Why|By|As|Unless|With|Without|Beside|Besides|Behind|Between|Among|Until|Than|Then|Also|Likewise|Does what|The same|And|Or|But|So|Else|Otherwise|Not|For each)\b/;
/** Forms, each with the plainer one to use instead. */
const forms = [
  [/\bunless given\b/, '"@default …"'],
  [/\bunless (it is|one is|they are) given\b/, '"@default …"'],
  [/(^|[.;:,] |\n\s*)(and )?[Tt]hrows ERR_/, 'the tag "@throws ERR_…"'],
  [/(^|[.;] |\n\s*)(and )?[Rr]ejects with ERR_/, 'the tag "@throws ERR_…"'],
  [/\bAs `\w+`, /, '"Does the same as `name`, …" with what differs'],
];
/** Matches a verb in the third person, with which the docstring of a function begins. */
const verb = /^([A-Z][a-z]+(s|es)|Is|Has|Does)\b/;

function functionOf(node) {
  switch (node?.type) {
    case "FunctionDeclaration":
    case "TSDeclareFunction":
    case "TSMethodSignature":
      return true;
    case "TSAbstractMethodDefinition":
    case "MethodDefinition":
      return node.kind === "method";
    case "VariableDeclaration":
      return /^(ArrowFunctionExpression|FunctionExpression)$/.test(node.declarations[0]?.init?.type ?? "");
    default:
      return false;
  }
}

export default {
  meta: {
    type: "suggestion",
    schema: [],
    messages: {
      fragment: 'expected a docstring that can be read alone, got one that begins with "{{word}}"',
      verb: 'expected a function\'s docstring to begin with a verb ("Returns …"), got "{{word}}"',
      end: "expected the first sentence of a docstring to end with a full stop",
      form: "expected {{better}} instead of {{got}}",
    },
  },
  create(context) {
    const { sourceCode } = context;
    const texts = sourceCode
      .getAllComments()
      .filter(({ type, value }) => type === "Block" && value.startsWith("*"))
      .map((comment) => ({
        comment,
        text: comment.value
          .replace(/^\*/, "")
          .replace(/^\s*\* ?/gm, "")
          .trim(),
      }));

    function documented(comment) {
      const token = sourceCode.getTokenAfter(comment);
      let node = token && sourceCode.getNodeByRangeIndex(token.range[0]);
      while (node && node.parent && node.parent.range[0] === token.range[0] && node.parent.type !== "Program")
        node = node.parent;
      return /^Export(Named|Default)Declaration$/.test(node?.type ?? "") ? node.declaration : node;
    }

    return {
      Program() {
        for (const { comment, text } of texts) {
          const report = (messageId, data) => context.report({ loc: comment.loc, messageId, data });
          const sentence = text.replace(/^@internal\s*/, "").replace(/^\{?@\w+.*$/s, "");
          // A program's head may begin with its command line.
          if (sentence === "" || /^npm run /.test(sentence)) continue;
          const word = sentence.split(/\s/, 1)[0];
          const fragment = fragments.exec(sentence);
          if (fragment) report("fragment", { word: fragment[0] });
          else if (functionOf(documented(comment)) && !verb.test(sentence)) report("verb", { word });
          const [paragraph] = sentence.split(/\n\s*\n|\n?\s*@\w+/, 1);
          if (!/[.:!?)`]\s*$/.test(paragraph)) report("end");
          for (const [form, better] of forms) {
            const got = form.exec(text);
            if (got) report("form", { better, got: JSON.stringify(got[0].trim()) });
          }
        }
      },
    };
  },
};
