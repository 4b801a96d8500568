// Every public call with every wrong argument: a typed error that names the argument, at once, with nothing sent and
// the group as usable as before. The table is made from test/fixtures/bad-input.
import * as api from 'node-collectives';
import { CollectivesError, InvalidArgumentError, type ProcessGroup, TcpStore } from 'node-collectives';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Call, calls, elsewhere, type Subjects } from '../fixtures/bad-input/calls.ts';
import { wrong } from '../fixtures/bad-input/values.ts';
import { closeAll, formHere } from '../fixtures/lifecycle/groups.ts';

/** Least time of a few tries: what a call takes when nothing else runs. */
const limitMs = 1;
const tries = 5;

let groups: ProcessGroup[];
let subjects: Subjects;
beforeAll(async () => {
  groups = await formHere(2);
  subjects = { group: groups[0] as ProcessGroup, store: await TcpStore.listen() };
});
afterAll(async () => {
  await closeAll(groups);
  await subjects.store.close();
});

/** The good arguments with one of them replaced. */
function argumentsWith(call: Call, argument: string, value: unknown): Record<string, unknown> {
  const args = { group: subjects.group, ...call.good() } as Record<string, unknown>;
  const [whole = '', field] = argument.split('.');
  if (field === undefined) args[whole] = value;
  else args[whole] = { ...(args[whole] as object), [field]: value };
  return args;
}

async function failureOf(call: Call, args: Record<string, unknown>): Promise<{ error: unknown; ms: number }> {
  const began = performance.now();
  try {
    // What is thrown and what rejects are the same to a user of await; blocking calls can only throw.
    const result = call.run(subjects, args);
    if (call.name.endsWith('Sync')) throw new Error(`it returned ${String(result)}`);
    await result;
  } catch (error) {
    return { error, ms: performance.now() - began };
  }
  throw new Error('it succeeded');
}

/** Operations of any kind and state that the group has heard of. */
function called(): Record<string, unknown> {
  const { done, failed, queued, running, kinds } = subjects.group.stats();
  return { done, failed, queued, running, kinds: Object.keys(kinds) };
}

const rows = calls.flatMap((call) =>
  Object.entries(call.args).flatMap(([argument, kind]) =>
    Object.entries(wrong[kind]).map(([what, value]) => ({ call, argument, what, value, title: call.name })),
  ),
);

describe.each(calls)('$name', (call) => {
  test.each(rows.filter((row) => row.call === call))('$argument: $what', async ({ argument, value }) => {
    const before = called();
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < tries; i += 1) {
      const { error, ms } = await failureOf(call, argumentsWith(call, argument, value));
      expect(error).toBeInstanceOf(CollectivesError);
      expect(error).toMatchObject({ code: InvalidArgumentError.code });
      const name = argument.split('.').at(-1) as string;
      expect((error as Error).message).toMatch(new RegExp(`\\b${name}`));
      least = Math.min(least, ms);
    }
    expect(least).toBeLessThan(limitMs);
    expect(called()).toEqual(before);
  });

  test('the group is as usable as before', async () => {
    const sums = await Promise.all(groups.map((group) => group.allReduce(Int32Array.of(group.rank + 1))));
    expect(sums.map(([sum]) => sum)).toEqual([3, 3]);
  });
});

test('every public call is in the table, or is said to be tested elsewhere', () => {
  const known = new Set([...calls.map(({ name }) => name), ...Object.keys(elsewhere)]);
  const missing = publicCalls().filter((name) => !known.has(name));
  expect(missing).toEqual([]);
});

function publicCalls(): string[] {
  return Object.entries(api).flatMap(([name, value]) => {
    if (typeof value !== 'function' || name.endsWith('Error')) return [];
    const isClass = /^class\b/.test(Function.prototype.toString.call(value));
    if (!isClass) return [name];
    const own = ['length', 'name', 'prototype', 'constructor'];
    const functions = (of: object) =>
      Object.getOwnPropertyNames(of)
        .filter((key) => !own.includes(key))
        .filter((key) => typeof Object.getOwnPropertyDescriptor(of, key)?.value === 'function')
        .map((key) => `${name}.${key}`);
    return [...functions(value), ...functions((value as unknown as { prototype: object }).prototype)];
  });
}
