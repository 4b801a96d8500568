// Every error has a class and a stable code; what native code reports becomes the right class.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as api from 'node-collectives';
import { describe, expect, test } from 'vitest';
import { makeError } from '../../src/errors.ts';

type ErrorClass = new (
  message: string,
  facts?: api.ErrorFacts,
  options?: ErrorOptions,
) => api.CollectivesError;
const exported = Object.entries(api).filter(
  ([, value]) => typeof value === 'function' && value.prototype instanceof api.CollectivesError,
) as [string, ErrorClass & { code: string }][];
// A configuration's refusals are made in TypeScript alone, from other arguments.
const configuration = ['ConfigValidationError', 'MissingVariableError', 'ZeroDivisionError'];
const classes = exported.filter(([name]) => !configuration.includes(name));

test('every class is in the table by its code', () => {
  expect(classes.length).toBe(api.errorClasses.size);
  for (const [, Class] of classes) expect(api.errorClasses.get(Class.code)).toBe(Class);
});

test('no two classes have one code', () => {
  expect(exported.length).toBe(classes.length + configuration.length);
  expect(new Set(exported.map(([, { code }]) => code)).size).toBe(exported.length);
});

test('native codes and classes are the same', () => {
  const source = readFileSync(new URL('../../native/core/error.cpp', import.meta.url), 'utf8');
  const codes = new Set([...source.matchAll(/return "([A-Z_]+)";/g)].map((match) => match[1]));
  expect(codes.size).toBeGreaterThan(10);
  for (const code of codes) expect(api.errorClasses.has(code as string), code).toBe(true);
});

describe.each(classes)('%s', (name, Class) => {
  test('carries code, facts, cause and a stack that starts where it was made', () => {
    const cause = new Error('why');
    const error = new Class('what', { peer: 3, peerPid: 7, missing: [1] }, { cause });
    expect(error).toBeInstanceOf(api.CollectivesError);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name, message: 'what', peer: 3, peerPid: 7, missing: [1], cause });
    expect(error.code).toBe(Class.code);
    expect(error.stack).toContain(`${name}: what`);
    // Facts that do not apply are absent, not undefined.
    expect(Object.keys(error)).not.toContain('op');
  });

  test('is made from its code', () => {
    const error = makeError(Class.code, 'text', { rank: 1 });
    expect(error).toBeInstanceOf(Class);
    expect(error).toMatchObject({ message: 'text', rank: 1 });
  });
});

test('a RankLostError names the rank that was lost, not the one that reports', () => {
  const facts = { rank: 0, peer: 2, peerHost: 'far', peerPid: 7, op: 'barrier', seq: 4, detectedBy: 1 };
  const lost = makeError('RANK_LOST', 'text', facts);
  expect({ ...lost }).toEqual({
    name: 'RankLostError',
    code: 'RANK_LOST',
    ...facts,
    rank: 2,
    host: 'far',
    pid: 7,
    consequence: false,
  });
  expect(makeError('RANK_LOST', 'text', { ...facts, consequence: true })).toMatchObject({
    rank: 2,
    detectedBy: 1,
    consequence: true,
  });
  expect(makeError('TIMEOUT', 'text', facts)).toMatchObject({ rank: 0, peer: 2 });
});

test('an unknown code still is an error of this package', () => {
  expect(makeError('NEW', 'text', {})).toBeInstanceOf(api.InternalError);
});

test('docs/errors.md is what src/errors.ts says', () => {
  const script = fileURLToPath(new URL('../../scripts/docs-errors.mjs', import.meta.url));
  execFileSync(process.execPath, [script, '--check']); // throws with what it printed
});
