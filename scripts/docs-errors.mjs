// Writes docs/errors.md, the table of all error classes and codes, from src/errors.ts and
// src/config/errors.ts; with --check it only says whether the file is up to date.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { root } from './lib.mjs';

const target = join(root, 'docs', 'errors.md');

/** A doc comment's text on one line. */
function prose(comment) {
  const lines = comment.split('\n').map((line) => line.replace(/^\s*\*? ?/, '').trim());
  return lines.filter(Boolean).join(' ').replaceAll('|', '\\|');
}

/** The file as it should be. */
export function table() {
  const source = readFileSync(join(root, 'src', 'errors.ts'), 'utf8');
  // Between a comment and its declaration stands nothing else, or it is not its comment.
  const classes = [
    ...source.matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\nexport class (\w+) extends errorClass\('(\w+)'\)/g),
  ].map(([, comment, name, code]) => `| \`${code}\` | \`${name}\` | ${prose(comment)} |`);
  const declared = source.match(/extends errorClass\('/g)?.length ?? 0;
  if (classes.length !== declared) {
    throw new Error(
      `src/errors.ts: ${declared} classes, but only ${classes.length} have a comment right before them`,
    );
  }
  const config = readFileSync(join(root, 'src', 'config', 'errors.ts'), 'utf8');
  const refusals = [
    ...config.matchAll(
      /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\nexport class (\w+) extends CollectivesError \{\n {2}static readonly code = '(\w+)'/g,
    ),
  ].map(([, comment, name, code]) => `| \`${code}\` | \`${name}\` | ${prose(comment)} |`);
  if (refusals.length !== config.match(/extends CollectivesError/g)?.length) {
    throw new Error('src/config/errors.ts: a class has no comment or no code right where it is expected');
  }
  const facts = source.slice(source.indexOf('export interface ErrorFacts {'));
  const fields = [
    ...facts
      .slice(0, facts.indexOf('\n}'))
      .matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n\s*(\w+)\?: ([^;]+);/g),
  ].map(([, comment, name, type]) => `| \`${name}\` | \`${type}\` | ${prose(comment)} |`);
  return `<!-- Made by scripts/docs-errors.mjs from src/errors.ts and src/config/errors.ts; do not edit. -->
# Errors

Every error is an \`Error\` of one of these classes, all of them a \`CollectivesError\`. \`code\` and class are stable,
the text is for people and may change. All classes are exported; \`error.code\` tells them apart also where two copies
of the package meet.

| \`code\` | class | meaning |
|---|---|---|
${classes.join('\n')}

What a configuration is refused with:

| \`code\` | class | meaning |
|---|---|---|
${refusals.join('\n')}

An \`InvalidArgumentError\` names the argument. An option whose name nobody knows is one too, so that a misspelt one does
not mean its default. It is found before anything is sent, and \`ClosedError\` means that nothing was: both leave the
group as it was on all ranks. Any other error of an operation has ended the group, on every rank: its later calls fail
at once with the same cause. Close it and form a new one; that needs no new process.

Beside the text, an error carries what is known. Fields that do not apply are absent.

| field | type | meaning |
|---|---|---|
${fields.join('\n')}
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const wanted = table();
  if (!process.argv.includes('--check')) {
    writeFileSync(target, wanted);
  } else if (readFileSync(target, 'utf8') !== wanted) {
    console.error('docs/errors.md is out of date: run `node scripts/docs-errors.mjs`');
    process.exit(1);
  }
}
