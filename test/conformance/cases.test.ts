import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { type Case, readCases, runCase } from '../fixtures/conformance/run-case.ts';
import { runFiles } from '../fixtures/conformance/run-files.ts';

const own = fileURLToPath(new URL('./cases/', import.meta.url));
const shared = fileURLToPath(new URL('../../../shared/conformance/', import.meta.url));
const casesOf = (file: string) =>
  readCases(readFileSync(file, 'utf8')).map(({ line, read }) => ({ line, given: read() }));

for (const file of readdirSync(own).filter((name) => name.endsWith('.jsonl'))) {
  describe(`own cases: ${file}`, () => {
    for (const { line, given } of casesOf(join(own, file))) {
      test(`${line} ${given.name ?? ''}`, async () => {
        expect(await runCase(given)).toEqual([]);
      });
    }
  });
}

test('a hundred cases lie in the project', () => {
  const files = readdirSync(own).map((name) => casesOf(join(own, name)).length);
  expect(files.reduce((a, b) => a + b, 0)).toBeGreaterThanOrEqual(100);
});

describe.skipIf(!existsSync(shared))('the shared case files', () => {
  const counts: Record<string, number> = {
    'parallel-config.golden.jsonl': 212,
    'parallel-config.cases.jsonl': 1500,
    'parallel-config.dp-init.jsonl': 15,
  };
  for (const [file, count] of Object.entries(counts)) {
    test(`${file} passes whole`, async () => {
      const lines: string[] = [];
      const result = await runFiles([join(shared, file)], (line) => lines.push(line));
      expect(lines).toEqual([]);
      expect(result).toEqual({ passed: count, failed: 0 });
    });
  }
});

const folder = mkdtempSync(join(tmpdir(), 'nc-cases-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Every way to alter one leaf of an expectation: another value, gone, or one more. */
function alterations(given: Case): { what: string; altered: Case }[] {
  const out: { what: string; altered: Case }[] = [];
  const visit = (path: (string | number)[], value: unknown) => {
    if (typeof value === 'object' && value !== null && Object.keys(value).length > 0) {
      for (const key of Object.keys(value)) {
        visit([...path, Array.isArray(value) ? Number(key) : key], (value as Record<string, unknown>)[key]);
      }
    }
    if (path.length === 0) return;
    const altered = structuredClone(given);
    let parent = altered.expect as Record<string | number, unknown>;
    for (const key of path.slice(0, -1)) parent = parent[key] as Record<string | number, unknown>;
    const last = path.at(-1) as string | number;
    parent[last] = value === 'altered' ? 'altered again' : 'altered';
    out.push({ what: path.join('.'), altered });
    const missing = structuredClone(given);
    parent = missing.expect as Record<string | number, unknown>;
    for (const key of path.slice(0, -1)) parent = parent[key] as Record<string | number, unknown>;
    if (Array.isArray(parent)) parent.splice(Number(last), 1);
    else delete parent[last];
    out.push({ what: `without ${path.join('.')}`, altered: missing });
  };
  visit([], given.expect);
  return out;
}

describe('an altered expectation fails', () => {
  const named = (name: string, file: string) =>
    casesOf(join(own, file)).find(({ given }) => given.name === name)?.given as Case;
  const some = [...casesOf(join(own, 'named.jsonl')), ...casesOf(join(own, 'random.jsonl'))].filter(
    ({ line }) => line % 8 === 1,
  );
  const cases = [
    ...some.map(({ given }) => given),
    ...casesOf(join(own, 'dp-init.jsonl')).map(({ given }) => given),
  ];
  for (const [i, given] of cases.entries()) {
    test(`each leaf of ${given.name ?? `case ${i}`}`, async () => {
      for (const { what, altered } of alterations(given)) {
        // The text of a ZeroDivisionError need not be matched.
        if (given.expect['errorType'] === 'ZeroDivisionError' && what.endsWith('message')) continue;
        expect(await runCase(altered), what).not.toEqual([]);
      }
    });
  }

  test('the runner counts it, and unreadable lines and files', async () => {
    const good = named('first try succeeds', 'dp-init.jsonl');
    const bad = { ...good, expect: { ...good.expect, masterPortAfter: 1 } };
    const file = join(folder, 'altered.jsonl');
    writeFileSync(file, `${JSON.stringify(good)}\n${JSON.stringify(bad)}\n\nno json\n`);
    const empty = join(folder, 'empty.jsonl');
    writeFileSync(empty, '\n');
    const lines: string[] = [];
    const counts = await runFiles([file, empty, join(folder, 'none.jsonl')], (line) => lines.push(line));
    expect(counts).toEqual({ passed: 1, failed: 4 });
    expect(lines[0]).toBe(`FAILED ${file}:2 first try succeeds`);
    expect(lines[1]).toBe('  masterPortAfter: expected 1, got 41005');
    expect(await runFiles([], () => {})).toEqual({ passed: 0, failed: 1 });
  });
});
