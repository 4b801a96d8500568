/** Operations that all ranks of a group draw alike from one seed, each checked against plain arithmetic. */
import { hasUnfinishedDp, type ProcessGroup, syncDpState, syncKvCacheMemorySize } from 'node-collectives';
import type { Random } from './random.ts';

export class WrongValue extends Error {}

function check(what: string, got: unknown, wanted: unknown): void {
  if (got !== wanted) throw new WrongValue(`${what}: got ${got}, not ${wanted}`);
}

/** What rank `rank` contributes at place `i` of an array drawn with `salt`: small, so that sums are exact. */
const value = (rank: number, i: number, salt: number) => ((rank + 1) * 31 + i * 7 + salt) % 101;

function checkEach(what: string, array: ArrayLike<number>, wanted: (i: number) => number): void {
  for (let i = 0; i < array.length; i += 1) {
    const right = wanted(i);
    if (array[i] !== right) check(`${what}[${i}]`, array[i], right);
  }
}

type Work = (group: ProcessGroup, random: Random, scale: number) => Promise<unknown>;

const ranksOf = (group: ProcessGroup) => Array.from({ length: group.size }, (_, rank) => rank);

const votes: Work[] = [
  async (group, random) => {
    const yes = random.whole(-1, group.size - 1);
    check('a vote', await hasUnfinishedDp(group, group.rank === yes), yes >= 0);
  },
  async (group, random) => {
    const base = BigInt(random.whole(1, 2 ** 31)) << 25n;
    check('the smallest', await syncKvCacheMemorySize(group, base + BigInt(group.rank)), base);
  },
  async (group, random) => {
    const pausing = random.pick([0, group.size]);
    const state = { hasUnfinished: false, pendingPause: group.rank < pausing };
    check('a pause', (await syncDpState(group, state)).pauseConsensus, pausing === group.size);
  },
];

const collectives: Work[] = [
  async (group, random, scale) => {
    const length = random.whole(0, scale);
    const salt = random.whole(0, 100);
    const array = Float32Array.from({ length }, (_, i) => value(group.rank, i, salt));
    await group.allReduce(array);
    checkEach('a sum', array, (i) => ranksOf(group).reduce((sum, rank) => sum + value(rank, i, salt), 0));
  },
  async (group, random, scale) => {
    const length = random.whole(1, scale);
    const salt = random.whole(0, 100);
    const array = Int32Array.from({ length }, (_, i) => value(group.rank, i, salt));
    await group.allReduce(array, { op: 'max' });
    checkEach('a maximum', array, (i) => Math.max(...ranksOf(group).map((rank) => value(rank, i, salt))));
  },
  async (group, random, scale) => {
    const length = random.whole(1, scale);
    const root = random.whole(0, group.size - 1);
    const array = Int16Array.from({ length }, (_, i) => value(group.rank, i, 0));
    await group.broadcast(array, { root });
    checkEach('a broadcast', array, (i) => value(root, i, 0));
  },
  async (group, random, scale) => {
    const length = random.whole(1, Math.ceil(scale / group.size));
    const array = Float64Array.from({ length }, (_, i) => value(group.rank, i, 5));
    const all = await group.allGather(array);
    checkEach('a gathering', all, (i) => value(Math.floor(i / length), i % length, 5));
  },
  async (group, random, scale) => {
    const length = random.whole(1, scale);
    const root = random.whole(0, group.size - 1);
    const array = Int32Array.from({ length }, (_, i) => value(group.rank, i, 3));
    await group.reduce(array, { root, op: 'min' });
    if (group.rank !== root) return;
    checkEach('a reduction', array, (i) => Math.min(...ranksOf(group).map((rank) => value(rank, i, 3))));
  },
  async (group, random, scale) => {
    const length = random.whole(1, Math.ceil(scale / group.size));
    const array = Float64Array.from({ length: length * group.size }, (_, i) => value(group.rank, i, 9));
    const part = await group.reduceScatter(array);
    const own = (i: number) => group.rank * length + i;
    checkEach('a part', part, (i) => ranksOf(group).reduce((sum, rank) => sum + value(rank, own(i), 9), 0));
  },
  async (group, random, scale) => {
    const length = random.whole(1, Math.ceil(scale / group.size));
    const array = Uint8Array.from({ length: length * group.size }, (_, i) => value(group.rank, i, 1));
    const got = await group.allToAll(array);
    const sent = (i: number) => group.rank * length + (i % length);
    checkEach('an exchange', got, (i) => value(Math.floor(i / length), sent(i), 1));
  },
  async (group, random, scale) => {
    if (group.size === 1) return;
    const length = random.whole(0, scale);
    const salt = random.whole(0, 100);
    const away = random.whole(1, group.size - 1);
    const to = (group.rank + away) % group.size;
    const from = (group.rank + group.size - away) % group.size;
    const array = Int32Array.from({ length }, (_, i) => value(group.rank, i, salt));
    const got = new Int32Array(length);
    await Promise.all([group.send(array, { to, tag: salt }), group.recv(got, { from, tag: salt })]);
    checkEach('a message', got, (i) => value(from, i, salt));
  },
  (group) => group.barrier(),
];

/** The next operation; `scale` is how many elements an array has at most. */
export async function step(group: ProcessGroup, random: Random, scale = 20_000): Promise<void> {
  const kind = random.whole(0, 9);
  // One in fifty is large, so that a kill also meets messages that are under way for long.
  const most = random.whole(1, 50) === 1 ? scale * 20 : scale;
  await (kind < 5 ? random.pick(votes) : random.pick(collectives))(group, random, most);
}
