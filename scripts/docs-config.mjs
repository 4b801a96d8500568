// Writes what is told about the fields of a configuration from the one place that knows it, the schema: the
// tables of docs/configuration.md, and src/config/*-fields.ts, the types of the fields with comments (those
// of an inferred type are lost in its declaration file). `--check` only compares.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildDir, die, root, ScriptError } from './lib.mjs';

const check = process.argv.includes('--check');

/** The compiled schema: the set-up makes both, whichever is there will do. */
async function describe() {
  const places = [process.env.NODE_COLLECTIVES_DIST, join(buildDir, 'ts/src'), join(root, 'dist')];
  for (const place of places) {
    const file = place && join(place, 'config/describe.js');
    if (file && existsSync(file)) return import(pathToFileURL(file).href);
  }
  throw new ScriptError('The library is not compiled: node scripts/setup.mjs, or npm run build:ts.');
}

function table(rows) {
  const head = '| camelCase | snake_case | type | default | hash | meaning |\n|---|---|---|---|---|---|\n';
  const line = (row) => {
    const initial =
      row.initial === undefined
        ? 'computed'
        : row.initial === 'all defaults'
          ? row.initial
          : `\`${row.initial}\``;
    return `| \`${row.camel}\` | \`${row.snake}\` | ${row.type} | ${initial} | ${row.hashed ? 'in' : ''} | ${row.doc} |`;
  };
  return `${head}${rows.map(line).join('\n')}\n`;
}

/** Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->`. */
function between(text, name, content) {
  const pattern = new RegExp(`(<!-- ${name}[^>]*-->\n)[\\s\\S]*?(<!-- /${name} -->)`);
  if (!pattern.test(text)) throw new ScriptError(`docs/configuration.md has no section ${name}.`);
  return text.replace(pattern, (_, begin, end) => `${begin}${content}${end}`);
}

/** Words in lines of a comment, none longer than the house allows. */
function comment(row) {
  const initial = row.initial === undefined ? 'Computed, not an argument.' : `Default ${row.initial}.`;
  const words = `${row.doc} ${initial} vLLM: \`${row.snake}\`.`.split(' ');
  const lines = [''];
  for (const word of words) {
    const last = lines[lines.length - 1];
    if (last.length + word.length + 1 > 100) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  if (lines.length === 1) return `  /** ${lines[0]} */\n`;
  return `  /**\n${lines.map((line) => `   * ${line}\n`).join('')}   */\n`;
}

function interfaces({ className, input, fields, schema, types }, rows) {
  const member = (type, optional) => (row) =>
    `${comment(row)}  ${row.camel}${optional ? '?' : ''}: ${type}['${row.camel}'];\n`;
  const given = rows.filter((row) => row.initial !== undefined);
  return `// Written by scripts/docs-config.mjs from the schema; do not edit.
import type { ${types.join(', ')} } from './${schema}.ts';

/** What ${className} is made from: every field is optional. */
export interface ${input} {
${given.map(member(types[0], true)).join('')}}

/** The fields of ${className}. */
export interface ${fields} {
${rows.map(member(types[1], false)).join('')}}
`;
}

const eplbTypes = {
  className: 'an EPLBConfig',
  input: 'EPLBConfigInput',
  fields: 'EPLBFields',
  schema: 'eplb-schema',
  types: ['EplbInput', 'EplbOutput'],
};
const parallelTypes = {
  className: 'a ParallelConfig',
  input: 'ParallelConfigInput',
  fields: 'ParallelFields',
  schema: 'parallel-schema',
  types: ['ParallelInput', 'ParallelOutput'],
};

async function main() {
  const { parallel, eplb } = (await describe()).fieldRows();
  const outputs = {
    'docs/configuration.md': (text) =>
      between(between(text, 'fields', table(parallel)), 'eplb-fields', table(eplb)),
    'src/config/parallel-fields.ts': () => interfaces(parallelTypes, parallel),
    'src/config/eplb-fields.ts': () => interfaces(eplbTypes, eplb),
  };
  const stale = [];
  for (const [name, make] of Object.entries(outputs)) {
    const file = join(root, name);
    const before = existsSync(file) ? readFileSync(file, 'utf8') : '';
    const after = make(before);
    if (after === before) continue;
    stale.push(name);
    if (!check) writeFileSync(file, after);
  }
  if (check && stale.length > 0) {
    throw new ScriptError(`Not as the schema says: ${stale.join(', ')}. Run: npm run docs:config`);
  }
  if (!check) console.log(stale.length > 0 ? `written: ${stale.join(', ')}` : 'all current');
}

await main().catch(die);
