// Reads our own declarations of a foreign interface (native/nccl/*_abi.h): constants, structures and functions,
// each with the name it has in the library's header and the versions that have it. The layout of those files
// is regular on purpose; what does not fit it is an error, so that nothing goes unchecked.
import { ScriptError } from './lib.mjs';

const range = '(?: since ([\\d.]+))?(?: until ([\\d.]+))?';
const constantLine = new RegExp(`^inline constexpr ([\\w ]+?) (k\\w+) = ([^;]+);\\s*// (\\w+)${range}$`);
const structLine = new RegExp(`^struct (\\w+) \\{\\s*// (\\w+)${range}$`);
const fieldLine = /^ {2}[\w: *]+?(\w+)(?:\[\w+\])?(?: = [^;]+)?;(?:\s*\/\/ since ([\d.]+))?$/;
const typeLine = /^using (\w+) = [\w ]+;\s*\/\/ (\w+)$/;
const functionText = /^using (\w+) = ([\w* ]+)\(([^;]*)\);(?:\s*\/\/ since ([\d.]+))?$/;

/**
 * All declarations of a header, in order: `{ kind, name, theirs, since, until, line }`, `line` being the index
 * of the line (of a function, its last one) it stands in.
 */
export function declarations(text, file) {
  const out = [];
  const lines = text.split('\n');
  const odd = (index) => new ScriptError(`${file}:${index + 1}: cannot be read:\n  ${lines[index]}`);
  let inFunctions = false;
  let struct;
  let statement = '';
  for (const [index, line] of lines.entries()) {
    if (line.startsWith('namespace fn {')) {
      inFunctions = true;
    } else if (inFunctions && line.startsWith('}')) {
      inFunctions = false;
    } else if (inFunctions) {
      if (statement === '' && /^\s*(?:\/\/.*)?$/.test(line)) continue;
      statement = `${statement} ${line.trim()}`.trim();
      if (!line.includes(';')) continue;
      const match = functionText.exec(statement);
      if (!match) throw odd(index);
      const [, name, , , since] = match;
      out.push({ kind: 'function', name, theirs: name, since, line: index });
      statement = '';
    } else if (struct) {
      if (line === '};') {
        struct = undefined;
        continue;
      }
      const match = fieldLine.exec(line);
      if (!match) throw odd(index);
      const [, name, since = struct.since] = match;
      out.push({ kind: 'field', name, theirs: name, since, struct, line: index });
    } else if (line.startsWith('struct ')) {
      const match = structLine.exec(line);
      if (!match) throw odd(index);
      const [, name, theirs, since, until] = match;
      struct = { kind: 'struct', name, theirs, since, until, line: index };
      out.push(struct);
    } else if (line.startsWith('inline constexpr')) {
      const match = constantLine.exec(line);
      if (!match) throw odd(index);
      const [, , name, , theirs, since, until] = match;
      out.push({ kind: 'constant', name, theirs, since, until, line: index });
    } else if (line.startsWith('using ')) {
      // Handles and types that differ between libraries have no name beside them: functions show whether they fit.
      const match = typeLine.exec(line);
      if (match) out.push({ kind: 'type', name: match[1], theirs: match[2], line: index });
    }
  }
  if (inFunctions || struct || statement) throw new ScriptError(`${file}: a declaration does not end`);
  return out;
}

/** The same header with one declaration made wrong. */
export function spoiled(text, declaration) {
  const lines = text.split('\n');
  const line = lines[declaration.line];
  const changed = {
    function: () => line.replace(');', ', int);').replace('(, int)', '(int)'),
    constant: () => line.replace(/ = ([^;]+);/, ' = ($1) + 1;'),
    field: () => `  char nc_spoiled_${declaration.line};\n${line}`,
    struct: () => `${line.replace('{', '{ char nc_spoiled;')}`,
    type: () => line.replace(/= [\w ]+;/, '= char;'),
  }[declaration.kind]();
  if (changed === line) throw new ScriptError(`${declaration.name}: the line was not changed: ${line}`);
  lines[declaration.line] = changed;
  return lines.join('\n');
}

/** 2.9 < 2.13, 2.30 < 2.30.5. */
export function compareVersions(a, b) {
  const [left, right] = [a, b].map((text) => text.split('.').map(Number));
  for (let i = 0; i < Math.max(left.length, right.length); ++i) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Whether a version's header should have this; `until 5` means through all of 5. */
export function applies({ since, until }, version) {
  if (since !== undefined && compareVersions(version, since) < 0) return false;
  return (
    until === undefined || compareVersions(version.split('.', until.split('.').length).join('.'), until) <= 0
  );
}
