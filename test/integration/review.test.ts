// What a caller's own coordination store or descriptor may do wrong, and what that may cost.
import { randomUUID } from 'node:crypto';
import { closeSync, fstatSync, openSync } from 'node:fs';
import {
  type CoordinationStore,
  hasUnfinishedDp,
  InvalidArgumentError,
  ProcessGroup,
} from 'node-collectives';
import { describe, expect, onTestFinished, test } from 'vitest';
import { closeAll, failureOf } from '../fixtures/lifecycle/groups.ts';

/** Keeps its values here, and does what a test replaces. */
class MemoryStore implements CoordinationStore {
  readonly #values = new Map<string, string>();
  readonly #counts = new Map<string, number>();
  readonly #waiting = new Map<string, (() => void)[]>();

  put(key: string, value: string): void {
    this.#values.set(key, value);
    for (const wake of this.#waiting.get(key) ?? []) wake();
  }
  async set(key: string, value: string): Promise<void> {
    this.put(key, value);
  }
  async get(key: string): Promise<Uint8Array> {
    while (!this.#values.has(key)) {
      await new Promise<void>((wake) => {
        this.#waiting.set(key, [...(this.#waiting.get(key) ?? []), wake]);
      });
    }
    return Buffer.from(this.#values.get(key) as string);
  }
  async add(key: string, amount: number): Promise<number> {
    const now = (this.#counts.get(key) ?? 0) + amount;
    this.#counts.set(key, now);
    return now;
  }
}

const meeting = (store: CoordinationStore, worldSize: number) => ({
  masterAddr: '127.0.0.1',
  worldSize,
  store,
  groupName: randomUUID(),
  initTimeoutMs: 20_000,
});
const silence = () => new Promise<never>(() => {});

describe('a coordination store', () => {
  test('whose set() throws instead of rejecting fails create(), with its own error', async () => {
    const store = new MemoryStore();
    const broken = new Error('this store is broken');
    store.set = () => {
      throw broken;
    };
    const error = await ProcessGroup.create({ ...meeting(store, 2), rank: 0 }).catch((reason) => reason);
    expect(error).toBe(broken);
  });

  test('that rejects a set() which the others have read does not end the group', async () => {
    const store = new MemoryStore();
    let lose = (_: Error) => {};
    store.set = (key, value) => {
      store.put(key, value);
      return new Promise((_resolve, reject) => {
        lose = reject;
      });
    };
    const shared = meeting(store, 2);
    const groups = await Promise.all([0, 1].map((rank) => ProcessGroup.create({ ...shared, rank })));
    lose(new Error('the connection was lost before the answer'));
    await new Promise(setImmediate);
    const votes = await Promise.all(groups.map((group) => hasUnfinishedDp(group, group.rank === 1)));
    expect(votes).toEqual([true, true]);
    await closeAll(groups);
  });

  test.each(['add', 'get'] as const)('whose %s() never answers costs initTimeoutMs at most', async (what) => {
    const store = new MemoryStore();
    store[what] = silence;
    const shared = { ...meeting(store, 2), rank: 1 };
    const { error: late } = await failureOf(ProcessGroup.create({ ...shared, initTimeoutMs: 50 }));
    expect(late).toMatchObject({ code: 'TIMEOUT', rank: 1, op: 'join' });
    const signal = AbortSignal.timeout(20);
    const { error: given } = await failureOf(ProcessGroup.create({ ...shared, signal }));
    expect(given).toMatchObject({ code: 'ABORTED' });
  });
});

test('a listenFd that does not listen is refused, and left open', async () => {
  const fd = openSync('/dev/null', 'r');
  onTestFinished(() => closeSync(fd));
  const options = { masterAddr: '127.0.0.1', masterPort: 0, rank: 0, worldSize: 1, listenFd: fd };
  const { error } = await failureOf(ProcessGroup.create(options));
  expect(error).toBeInstanceOf(InvalidArgumentError);
  expect(error.message).toMatch(/listenFd must be a listening TCP socket, but descriptor \d+ is none/);
  expect(fstatSync(fd).isCharacterDevice()).toBe(true);
});

test('a signal that fires while its group is being set up is not missed', async () => {
  const options = { masterAddr: '127.0.0.1', masterPort: 0, rank: 0, worldSize: 2, initTimeoutMs: 20_000 };
  for (let gap = 0; gap < 16; ++gap) {
    const control = new AbortController();
    const joining = ProcessGroup.create({ ...options, signal: control.signal });
    const failed = failureOf(joining);
    // Counted in microtasks, so that every gap between the steps of create() is met once.
    for (let i = 0; i < gap; ++i) await null;
    control.abort();
    expect((await failed).error, `after ${gap} microtasks`).toMatchObject({ code: 'ABORTED' });
  }
});
