/**
 * Checks that imports run downhill (docs/architecture.md): contract imports nothing of ours, model and store only the
 * contract, components only those three and never one another, cli anything in backend/. provider/ knows the backend
 * only through openapi.yaml and imports nothing from it; nor do cdk-examples/.
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

/** The longest rule that the file falls under. */
const houseOf = (path: string): string | undefined =>
  Object.keys(allowed)
    .filter((house) => path.startsWith(house.endsWith('/') ? house : `${house}/`))
    .sort((a, b) => b.length - a.length)[0];

const imports =
  /(?:^|\n)\s*(?:import|export)\s(?:[^'";]*?\sfrom\s)?\s*['"](\.{1,2}\/[^'"]+)['"]|import\(\s*['"](\.{1,2}\/[^'"]+)['"]\s*\)/g;
const problems: string[] = [];
const files = globSync(['backend/**/*.ts', 'provider/**/*.ts', 'cdk-examples/**/*.ts'], {
  exclude: (path) => /node_modules|dist|cdktf\.out|bindings|constructs\/cdktn/.test(path),
});
for (const file of files) {
  const house = houseOf(file);
  if (house === undefined) {
    problems.push(`${file}: belongs to no part of the house; add its folder to scripts/check-imports.ts`);
    continue;
  }
  for (const match of readFileSync(file, 'utf8').matchAll(imports)) {
    const target = relative('.', normalize(`${dirname(file)}/${match[1] ?? match[2]}`));
    const to = houseOf(target) ?? target;
    const ok =
      to === house ||
      (allowed[house] ?? []).some((rule) => to === rule || target.startsWith(`${rule.replace(/\/$/, '')}/`));
    if (!ok) problems.push(`${file}: imports ${target}, which ${house} may not`);
  }
}
for (const problem of problems) console.error(problem);
console.log(`${files.length} files, ${problems.length} imports uphill`);
process.exitCode = problems.length === 0 ? 0 : 1;
