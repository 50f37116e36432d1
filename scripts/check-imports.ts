/**
 * Checks the direction of imports (docs/architecture.md). The contract imports none of our code. Model and store import
 * only the contract. Components import only contract, model and store, and never one another. The cli imports anything
 * in backend/. provider/ and cdk-examples/ import nothing from the backend; they know it only from openapi.yaml.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, normalize, relative } from 'node:path';

const components = ['api', 'scheduler', 'host', 'metadata', 'scanner', 'ordering', 'guest'];
const allowed: Record<string, readonly string[]> = {
  'backend/contract': [],
  'backend/model': ['backend/contract'],
  'backend/store': ['backend/contract'],
  ...Object.fromEntries(
    components.map((name) => [`backend/${name}`, ['backend/contract', 'backend/model', 'backend/store']]),
  ),
  'backend/cli': ['contract', 'model', 'store', ...components].map((name) => `backend/${name}`),
  'provider/protocol': [],
  'provider/framework': ['provider/protocol'],
  'provider/': ['provider/'],
  'cdk-examples/': ['cdk-examples/', 'provider/constructs'],
};

/** Returns the most specific rule for the file. */
const ruleFor = (path: string): string | undefined =>
  Object.keys(allowed)
    .filter((rule) => path.startsWith(rule.endsWith('/') ? rule : `${rule}/`))
    .sort((a, b) => b.length - a.length)[0];

const imports =
  /(?:^|\n)\s*(?:import|export)\s(?:[^'";]*?\sfrom\s)?\s*['"](\.{1,2}\/[^'"]+)['"]|import\(\s*['"](\.{1,2}\/[^'"]+)['"]\s*\)/g;
const problems: string[] = [];
const files = globSync(['backend/**/*.ts', 'provider/**/*.ts', 'cdk-examples/**/*.ts'], {
  exclude: (path) => /node_modules|dist|cdktf\.out|bindings|constructs\/cdktn/.test(path),
});
for (const file of files) {
  const rule = ruleFor(file);
  if (rule === undefined) {
    problems.push(`${file}: has no import rule; add its folder to scripts/check-imports.ts`);
    continue;
  }
  for (const match of readFileSync(file, 'utf8').matchAll(imports)) {
    const target = relative('.', normalize(`${dirname(file)}/${match[1] ?? match[2]}`));
    const to = ruleFor(target) ?? target;
    const ok =
      to === rule ||
      (allowed[rule] ?? []).some((rule) => to === rule || target.startsWith(`${rule.replace(/\/$/, '')}/`));
    if (!ok) problems.push(`${file}: imports ${target}; ${rule} must not import it`);
  }
}
for (const problem of problems) console.error(problem);
console.log(`${files.length} files, ${problems.length} forbidden imports`);
process.exitCode = problems.length === 0 ? 0 : 1;
