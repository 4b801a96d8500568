/** Tests of a table of bad input: a typed error that names the argument, at once, and nothing has happened. */
import { setImmediate } from 'node:timers/promises';
import { CollectivesError } from 'node-collectives';
import { describe, expect, test } from 'vitest';
import {
  argumentsWith,
  type Call,
  naming,
  type Row,
  rowsOf,
  type Subjects,
} from '../fixtures/bad-input/table.ts';

/** Least time of a few tries, more where something else runs: what a call takes when nothing does. */
const limitMs = 1;
const tries = 5;
const mostTries = 50;

async function failureOf<S extends Subjects>(
  call: Call<S>,
  row: Row,
  subjects: S,
): Promise<{ error: unknown; ms: number }> {
  const args = argumentsWith(call, row, subjects);
  let result: unknown;
  const began = performance.now();
  try {
    // What is thrown and what rejects are the same to a user of await; blocking calls can only throw.
    result = call.run(subjects, args);
    if (!call.name.endsWith('Sync')) result = await result;
  } catch (error) {
    return { error, ms: performance.now() - began };
  }
  throw new Error(`it was taken, with ${String(result)}`);
}

/**
 * @param used all that a call may have used: sockets, operations, bytes. Looked at before and after each.
 * @param after the subjects are as usable as before.
 */
export function testTable<S extends Subjects>(
  calls: readonly Call<S>[],
  subjects: () => S,
  used: () => unknown,
  after: (before: unknown) => Promise<void>,
): void {
  const titled = calls.map((call) => ({ call, title: call.as ? `${call.name} ${call.as}` : call.name }));
  describe.each(titled)('$title', ({ call }) => {
    let atFirst: unknown;

    test.each(rowsOf(call))('$argument: $what', async (row) => {
      const before = used();
      atFirst ??= before;
      let least = Number.POSITIVE_INFINITY;
      for (let i = 0; i < tries || (least >= limitMs && i < mostTries); i += 1) {
        const { error, ms } = await failureOf(call, row, subjects());
        expect(error).toBeInstanceOf(CollectivesError);
        expect((error as CollectivesError).code).toMatch(/^INVALID_(ARGUMENT|CONFIG)$/);
        expect((error as Error).message).toMatch(naming(call, row));
        least = Math.min(least, ms);
      }
      expect(least).toBeLessThan(limitMs);
      // What the call may have left to be done has its turn: rows alone never let the event loop go on.
      await setImmediate();
      expect(used()).toEqual(before);
    });

    test('nothing has happened, and all is as usable as before', () => after(atFirst));
  });
}
