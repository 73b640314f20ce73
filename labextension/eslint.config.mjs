import nounsanitized from "eslint-plugin-no-unsanitized";
import tseslint from "typescript-eslint";

const TEXT_NODES_ONLY = "What is shown comes from programs and clusters: text nodes only.";
const FORBIDDEN = ["innerHTML", "outerHTML", "insertAdjacentHTML", "srcdoc", "write", "writeln", "parseFromString"];

export default tseslint.config(
  { ignores: ["node_modules", "lib", "widget", ".yarn"] },
  ...tseslint.configs.strictTypeChecked.map((each) => ({ ...each, files: ["**/*.ts"] })),
  nounsanitized.configs.recommended,
  {
    files: ["**/*.ts"],
    languageOptions: { parserOptions: { project: "./tsconfig.check.json", tsconfigRootDir: import.meta.dirname } },
    rules: {
      "no-restricted-properties": ["error", ...FORBIDDEN.map((property) => ({ property, message: TEXT_NODES_ONLY }))],
      "no-eval": "error",
      "no-new-func": "error",
      "max-lines": ["error", 300],
      "max-lines-per-function": ["error", 60],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": [
        "error",
        { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true },
      ],
      // indices are checked by the compiler (noUncheckedIndexedAccess); where a loop bounds them, `!` says so
      "@typescript-eslint/no-non-null-assertion": "off",
    },
  },
  { files: ["tests/**/*.ts"], rules: { "max-lines-per-function": "off" } },
);
