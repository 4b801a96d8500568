// send and recv: what arrives, in which order, what waits for what, and how mistakes and deaths are told.
import {
  AbortedError,
  type CollectiveArray,
  CollectiveMismatchError,
  InvalidArgumentError,
  type ProcessGroup,
  RankLostError,
  TimeoutError,
} from 'node-collectives';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { closeAll, failureOf, formHere } from '../fixtures/lifecycle/groups.ts';
import { contribution, kinds } from '../fixtures/lifecycle/numbers.ts';
import { formPuppets } from '../fixtures/lifecycle/strings.ts';
import { overHosts } from '../helpers/spread.ts';

const bytes = (array: CollectiveArray) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);
const numbers = (length: number, from = 0) => Int32Array.from({ length }, (_, i) => from + i);
/** More than early messages and sockets hold together. */
const large = 4_000_000;

describe('among three ranks', () => {
  let groups: [ProcessGroup, ProcessGroup, ProcessGroup];
  beforeAll(async () => {
    groups = (await formHere(3)) as typeof groups;
  });
  afterAll(() => closeAll(groups));

  test.each(kinds)('$name arrives as it was sent', async (kind) => {
    const dtype = kind.named === undefined ? {} : { dtype: kind.named };
    for (const length of [0, 1, 1_000, 100_000]) {
      const sent = contribution(kind, 1, length);
      const into = kind.make(length);
      const [got] = await Promise.all([
        groups[2].recv(into, { from: 0, ...dtype }),
        groups[0].send(sent, { to: 2, ...dtype }),
      ]);
      expect(got).toBe(into);
      expect(bytes(got).equals(bytes(contribution(kind, 1, length)))).toBe(true);
      expect(bytes(sent).equals(bytes(got))).toBe(true);
    }
  });

  test('8-bit floats', async () => {
    const sending = groups[1].send(new Uint8Array([1, 0x7f, 0xff]), { to: 0, dtype: 'float8e4m3' });
    expect([...(await groups[0].recv(new Uint8Array(3), { from: 1, dtype: 'float8e4m3' }))]).toEqual([
      1, 127, 255,
    ]);
    await sending;
  });

  test('to and fro, 300 times', async () => {
    const [a, b] = groups;
    const echo = async () => {
      for (let i = 0; i < 300; i += 1) {
        const [value] = await b.recv(new Int32Array(1), { from: 0, tag: i });
        await b.send(new Int32Array([value! * 2]), { to: 0, tag: i });
      }
    };
    const ask = async () => {
      for (let i = 0; i < 300; i += 1) {
        await a.send(new Int32Array([i]), { to: 1, tag: i });
        expect([...(await a.recv(new Int32Array(1), { from: 1, tag: i }))]).toEqual([2 * i]);
      }
    };
    await Promise.all([echo(), ask()]);
  });

  test('messages wait for their receiver, also across a collective', async () => {
    for (let i = 0; i < 100; i += 1) await groups[0].send(numbers(100, i), { to: 1, tag: i });
    await Promise.all(groups.map((group) => group.barrier()));
    for (let i = 0; i < 100; i += 1) {
      expect(await groups[1].recv(new Int32Array(100), { from: 0, tag: i })).toEqual(numbers(100, i));
    }
  });

  test('ranks that take no part count no message', async () => {
    await Promise.all([groups[0].send(numbers(3), { to: 1 }), groups[1].recv(numbers(3), { from: 0 })]);
    const sums = await Promise.all(groups.map((group) => group.allReduce(new Int32Array([group.rank]))));
    expect(sums.map(([sum]) => sum)).toEqual([3, 3, 3]);
  });

  test('more than can be kept aside waits in the link until it is asked for', async () => {
    let sent = 0;
    const sends = Array.from({ length: 6 }, (_, i) =>
      groups[0].send(numbers(1_000_000, i), { to: 2 }).then(() => {
        sent += 1;
      }),
    );
    // The other link goes on meanwhile.
    const beside = groups[1].send(numbers(10), { to: 2 });
    expect(await groups[2].recv(new Int32Array(10), { from: 1 })).toEqual(numbers(10));
    await beside;
    expect(sent).toBeLessThan(6);
    for (let i = 0; i < 6; i += 1) {
      const got = await groups[2].recv(new Int32Array(1_000_000), { from: 0 });
      // Not toEqual(), which takes seconds for a million elements.
      expect(bytes(got).equals(bytes(numbers(1_000_000, i)))).toBe(true);
    }
    await Promise.all(sends);
  });

  test('small messages cross, whoever sends first', async () => {
    const got = await Promise.all(
      [groups[0], groups[1]].map(async (group, rank) => {
        await group.send(numbers(1_000, rank), { to: 1 - rank });
        return group.recv(new Int32Array(1_000), { from: 1 - rank });
      }),
    );
    expect(got).toEqual([numbers(1_000, 1), numbers(1_000, 0)]);
  });

  test('large messages cross and go round when send and recv are called together', async () => {
    const shift = async (to: (rank: number) => number, from: (rank: number) => number) => {
      const got = await Promise.all(
        groups.map(async (group, rank) => {
          const sending = group.send(numbers(large, rank), { to: to(rank) });
          const into = await group.recv(new Int32Array(large), { from: from(rank) });
          await sending;
          return into[0];
        }),
      );
      expect(got).toEqual([0, 1, 2].map(from));
    };
    await shift(
      (rank) => (rank + 1) % 3,
      (rank) => (rank + 2) % 3,
    );
    const into = [new Int32Array(large), new Int32Array(large)];
    await Promise.all(
      [0, 1].flatMap((rank) => [
        groups[rank]!.send(numbers(large, rank), { to: 1 - rank }),
        groups[rank]!.recv(into[rank]!, { from: 1 - rank }),
      ]),
    );
    expect([into[0]![0], into[1]![0]]).toEqual([1, 0]);
  });

  test('a collective called after messages begins when they are done', async () => {
    const order: string[] = [];
    const note = (what: string) => () => order.push(what);
    const calls = [
      groups[0].send(numbers(large), { to: 1 }).then(note('send')),
      groups[0].barrier().then(note('barrier')),
      groups[2].barrier(),
      groups[1].recv(new Int32Array(large), { from: 0 }),
      groups[1].barrier(),
    ];
    await Promise.all(calls);
    expect(order).toEqual(['send', 'barrier']);
  });

  const any = (value: unknown) => value as never;
  class Liar extends Int32Array {
    override get length(): number {
      return 1_000_000;
    }
  }
  test.each<[string, string, (group: ProcessGroup) => Promise<unknown>]>([
    ['a plain array', 'array', (g) => g.send(any([1]), { to: 1 })],
    ['an array that lies', 'array', (g) => g.recv(new Liar(4), { from: 1 })],
    ['no options', 'options', (g) => g.send(numbers(1), any(null))],
    ['no rank', 'to', (g) => g.send(numbers(1), any({}))],
    ['no rank to receive from', 'from', (g) => g.recv(numbers(1), any({ to: 1 }))],
    ['this rank itself', 'to', (g) => g.send(numbers(1), { to: 0 })],
    ['this rank itself as source', 'from', (g) => g.recv(numbers(1), { from: 0 })],
    ['a rank beyond the last', 'to', (g) => g.send(numbers(1), { to: 3 })],
    ['a negative tag', 'tag', (g) => g.send(numbers(1), { to: 1, tag: -1 })],
    ['a tag of 33 bits', 'tag', (g) => g.recv(numbers(1), { from: 1, tag: 2 ** 32 })],
    ['a tag that is a text', 'tag', (g) => g.recv(numbers(1), { from: 1, tag: any('1') })],
    ['another dtype', 'dtype', (g) => g.send(numbers(1), { to: 1, dtype: 'float32' })],
    ['no time', 'timeoutMs', (g) => g.recv(numbers(1), { from: 1, timeoutMs: 0 })],
  ])('%s: the error names %s, and no message is counted', async (_, argument, call) => {
    const { error } = await failureOf(call(groups[0]));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toMatch(new RegExp(`^\\w+: .*\\b${argument}\\b`));
    const sending = groups[0].send(numbers(2), { to: 1 });
    expect(await groups[1].recv(new Int32Array(2), { from: 0 })).toEqual(numbers(2));
    await sending;
  });
});

test('a group of one has nobody to send to', async () => {
  const [group] = await formHere(1);
  for (const call of [group!.send(numbers(1), { to: 0 }), group!.recv(numbers(1), { from: 0 })]) {
    expect((await failureOf(call)).error.message).toContain('another rank, of which this group has none');
  }
  await closeAll([group!]);
});

describe('failures', () => {
  test.each<[string, (g: ProcessGroup) => Promise<unknown>, (g: ProcessGroup) => Promise<unknown>]>([
    ['tag', (g) => g.send(numbers(4), { to: 1, tag: 1 }), (g) => g.recv(numbers(4), { from: 0, tag: 2 })],
    ['length', (g) => g.send(numbers(4), { to: 1 }), (g) => g.recv(numbers(5), { from: 0 })],
    [
      'length, large',
      (g) => g.send(numbers(large), { to: 1 }),
      (g) => g.recv(numbers(large + 1), { from: 0 }),
    ],
    ['type', (g) => g.send(numbers(4), { to: 1 }), (g) => g.recv(new Float32Array(4), { from: 0 })],
    [
      'order',
      (g) => Promise.all([g.send(numbers(4), { to: 1, tag: 1 }), g.send(numbers(4), { to: 1, tag: 2 })]),
      (g) => Promise.all([g.recv(numbers(4), { from: 0, tag: 2 }), g.recv(numbers(4), { from: 0, tag: 1 })]),
    ],
  ])('a message that differs in %s: both say so, whoever calls first', async (_, send, recv) => {
    for (const first of [0, 1]) {
      const groups = await formHere(3);
      const both = [
        async () => {
          await send(groups[0]!);
          await groups[0]!.barrier();
        },
        async () => {
          await recv(groups[1]!);
          await groups[1]!.barrier();
        },
      ];
      const pending = failureOf(both[first]!());
      // So that the other one's call finds it there.
      await new Promise(setImmediate);
      const failed = [
        await Promise.all([pending, failureOf(both[1 - first]!())]),
        await failureOf(groups[2]!.barrier()),
      ].flat();
      for (const { error } of failed) {
        expect(error, error.message).toBeInstanceOf(CollectiveMismatchError);
        expect(error.message).toMatch(
          /message \d from rank 0 to rank 1 differs: rank 1 called recv\(.*, from rank 0\) with tag .* called send\(.*, to rank 1\) with tag/,
        );
        expect((error as CollectiveMismatchError).calls).toMatchObject([
          { rank: 0, op: 'send', root: 1, tag: expect.any(Number) },
          { rank: 1, op: 'recv', root: 0, tag: expect.any(Number) },
        ]);
      }
      await closeAll(groups);
    }
  });

  test('nobody sends: the deadline names who', async () => {
    const groups = await formHere(2);
    const { error, ms } = await failureOf(groups[0]!.recv(numbers(4), { from: 1, timeoutMs: 200 }));
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error).toMatchObject({ op: 'recv', seq: 1, peer: 1, missing: [1], rank: 0 });
    expect(error.message).toContain('has not sent it');
    expect(ms).toBeGreaterThanOrEqual(199);
    expect((await failureOf(groups[1]!.barrier())).error).toMatchObject({
      code: 'TIMEOUT',
      consequence: true,
    });
    await closeAll(groups);
  });

  test('nobody receives: a small message leaves, a large one waits until the deadline', async () => {
    const groups = await formHere(2);
    await groups[0]!.send(numbers(4), { to: 1, timeoutMs: 200 });
    const { error } = await failureOf(groups[0]!.send(numbers(large), { to: 1, timeoutMs: 300 }));
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error).toMatchObject({ op: 'send', seq: 2, peer: 1, missing: [1] });
    expect(error.message).toContain('has not received it');
    await closeAll(groups);
  });

  test('SIGKILL of a rank whose large message is held back: nobody waits for it', async () => {
    const ranks = await formPuppets(2);
    ranks[1]!.answer({ do: 'send', length: large, options: { to: 0 } }).catch(() => {}); // its answer never comes
    await ranks[1]!.process.next('sending');
    const pending = ranks[0]!.failure('barrier');
    ranks[1]!.process.kill('SIGKILL');
    expect((await pending).error).toMatchObject({ code: 'RANK_LOST', peer: 1 });
  });

  test('two large sends, each awaited before the recv, wait for each other until the deadline', async () => {
    const groups = await formHere(2);
    const failed = await Promise.all(
      groups.map((group, rank) =>
        failureOf(
          // A rank that has failed reads on, to see whether the other one lives; its send may end by that.
          group
            .send(numbers(large), { to: 1 - rank, timeoutMs: 500 })
            .then(() => group.barrier({ timeoutMs: 500 })),
        ),
      ),
    );
    for (const { error } of failed) expect(error).toMatchObject({ code: 'TIMEOUT' });
    await closeAll(groups);
  });

  test('a rank that closes: who waits for its message hears of it, and so does who sends to it', async () => {
    for (const size of [4, large]) {
      const groups = await formHere(3);
      const waiting = failureOf(groups[0]!.recv(numbers(4), { from: 1 }));
      await groups[1]!.close();
      const { error } = await waiting;
      expect(error).toBeInstanceOf(RankLostError);
      expect(error).toMatchObject({ peer: 1, op: 'recv', seq: 1 });
      expect(error.message).toContain('closed the group after operation 0 and cannot take part in message 1');
      await closeAll(groups);

      const others = await formHere(2);
      await others[1]!.close();
      const sent = await failureOf(
        (async () => {
          // Before the farewell has been read a small message may still leave.
          for (;;) await others[0]!.send(numbers(size), { to: 1 });
        })(),
      );
      expect(sent.error).toMatchObject({ code: 'RANK_LOST', peer: 1, op: 'send' });
      await closeAll(others);
    }
  });

  test('what was sent before a rank closed is received after', async () => {
    const groups = await formHere(2);
    await groups[1]!.send(numbers(1_000), { to: 0 });
    await groups[1]!.close();
    expect(await groups[0]!.recv(new Int32Array(1_000), { from: 1 })).toEqual(numbers(1_000));
    await closeAll(groups);
  });

  test('abort() ends messages that wait, on both sides', async () => {
    const groups = await formHere(3);
    const pending = [
      failureOf(groups[0]!.recv(numbers(4), { from: 1 })),
      failureOf(groups[2]!.recv(numbers(4), { from: 0 })),
    ];
    groups[0]!.abort('enough');
    for (const { error, ms } of await Promise.all(pending)) {
      expect(error).toBeInstanceOf(AbortedError);
      expect(ms).toBeLessThan(2_000);
    }
    await closeAll(groups);
  });

  test.each([1, 1_000_000])('SIGKILL of a rank while messages of %i elements go round', async (length) => {
    const ranks = await formPuppets(4);
    const loops = ranks.map((each) => each.answer({ do: 'loopRound', length }));
    loops[2]!.catch(() => {}); // its answer never comes
    await Promise.all(ranks.map((each) => each.process.next('looping')));
    const victim = ranks[2]!.process;
    victim.kill('SIGKILL');
    for (const survivor of [0, 1, 3]) {
      const { error } = await loops[survivor]!;
      expect(error).toMatchObject({ code: 'RANK_LOST', peer: 2, peerPid: victim.pid });
    }
  });

  test('SIGKILL of the rank that a large message goes to', async () => {
    const ranks = await formPuppets(2);
    const sending = ranks[0]!.answer({ do: 'send', length: large, options: { to: 1 } });
    ranks[1]!.process.kill('SIGKILL');
    expect((await sending).error).toMatchObject({ code: 'RANK_LOST', peer: 1 });
  });
});

test.skipIf(overHosts)('after 5 s the diagnostics channel says whose message a call waits for', async () => {
  const ranks = await formPuppets(2);
  const receiving = ranks[0]!.call('recv', { length: 3, options: { from: 1 } });
  const message = await ranks[0]!.process.next('waiting');
  expect(message).toMatchObject({ rank: 0, op: 'recv', seq: 1, missing: [1] });
  await ranks[1]!.call('send', { length: 3, options: { to: 0 } });
  expect(await receiving).toEqual([0, 1, 2]);
});
