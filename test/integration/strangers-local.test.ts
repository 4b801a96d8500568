// Strangers at the UNIX sockets on which ranks of one host wait for each other: of this user and of another one, with
// nonsense, half handshakes, silence, slow words and what was recorded of true ranks; before, while and after a group
// forms, and while it is formed again.
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ports } from '../fixtures/lifecycle/groups.ts';
import { testProgram } from '../helpers/hosts.ts';
import { join, processes, vote } from '../helpers/meeting.ts';
import { all, type RankProcess, startRank, startRanks } from '../helpers/ranks.ts';
import { recordedCalls, recording, whyNotRecorded } from '../helpers/recorded.ts';
import { freePort, localListeners } from '../helpers/sockets.ts';

const secret = 'a secret of the tests';
/** Of a listener: its greeting and its proof. */
const answerBytes = 116;

const program = readFileSync(new URL('../fixtures/rendezvous/stranger.mjs', import.meta.url), 'utf8');
const nobody = '65534';
const asNobody = ['setpriv', '--reuid', nobody, '--regid', nobody, '--clear-groups', process.execPath];

function whyNoOtherUser(): string | undefined {
  if (process.getuid?.() !== 0) return 'becoming another user needs root';
  const [command = '', ...args] = [...asNobody, '-e', '0'];
  return spawnSync(command, args).status === 0 ? undefined : 'Node cannot be run as another user here';
}
const users: [string, string[], string | undefined][] = [
  ['of this user', [process.execPath], undefined],
  ['of another user', asNobody, whyNoOtherUser()],
];
for (const [who, , why] of users) if (why !== undefined) console.log(`strangers ${who}: skipped, ${why}`);

const folder = mkdtempSync(joinPath(tmpdir(), 'nc-strangers-'));
chmodSync(folder, 0o755);
const addon = joinPath(folder, 'calls.node');
copyFileSync(testProgram('calls.node'), addon);
chmodSync(addon, 0o755);
afterAll(() => rmSync(folder, { recursive: true }));

/** What rank 0 of a group of the same name, job and secret said to ranks 1, 2 and 3. */
let recorded: string[][] = [];
const whyNot = whyNotRecorded();
if (whyNot !== undefined) console.log(`strangers at UNIX sockets replay nothing: ${whyNot}`);
beforeAll(async () => {
  if (whyNot !== undefined) return;
  const file = joinPath(folder, 'calls');
  const ranks = startRanks('rendezvous/rank.mjs', 4, (rank) =>
    rank === 0 ? { command: recording(file) } : {},
  );
  await all(ranks, 'ready');
  const candidates = await ports();
  for (const [rank, process] of ranks.entries()) join(process, rank, 4, candidates, { secret });
  await all(ranks, 'formed');
  for (const { child } of ranks) child.stdin?.end();
  for (const rank of ranks) rank.kill(rank === ranks[0] ? 'SIGTERM' : 'SIGKILL');
  await Promise.all(ranks.map((rank) => rank.exited));
  recorded = recordedCalls(file).map((call) => call.map((bytes) => bytes.toString('hex')));
  expect(recorded).toHaveLength(3);
});

/** The names at which these ranks wait, once each has one. */
async function names(ranks: readonly RankProcess[]): Promise<string[]> {
  const found = () => ranks.flatMap(({ pid }) => localListeners(pid));
  await expect.poll(found, { timeout: 10_000, interval: 2 }).toHaveLength(ranks.length);
  return found();
}

async function stranger(command: string[]): Promise<RankProcess> {
  // Its file stands on the command line as well, and is not looked at.
  const process = startRank('rendezvous/stranger.mjs', {
    command: [...command, '--input-type=module', '-e', program, '--'],
    args: [addon],
    name: 'stranger',
  });
  expect((await process.next('ready'))['uid']).toBe(
    command === asNobody ? Number(nobody) : globalThis.process.getuid?.(),
  );
  return process;
}

async function seen(process: RankProcess) {
  process.send({ do: 'ask' });
  return (await process.next('seen')) as unknown as { open: number; answered: number; failures: object };
}

/** Nobody lost anything by them: every link is a UNIX socket, and the group votes. */
async function works(ranks: RankProcess[]): Promise<void> {
  for (const process of ranks) process.send({ do: 'info', id: 'g' });
  for (const { info } of await all(ranks, 'info')) {
    const links = info.members.map(({ link }: { link: string }) => link);
    expect(links.filter((link: string) => link === 'unix')).toHaveLength(ranks.length - 1);
  }
  await vote(ranks);
}

describe.each(users)('strangers %s', (_who, command, why) => {
  const another = command === asNobody;

  it.skipIf(why !== undefined).each([
    ['without a secret', {}],
    ['with a secret', { secret }],
  ])('a group %s forms, stands and is re-formed as if they were not there', async (_how, access) => {
    const ranks = await processes(4);
    const strange = await stranger(command);
    const port = await freePort();
    const words = Object.keys(access).length === 0 ? [] : (recorded[0] ?? []);
    const come = async (at: string[], crowd?: number) => {
      strange.send({ do: 'come', names: at, words, crowd });
      return (await strange.next('there', 30_000))['open'] as number;
    };

    // Before: three wait for the fourth.
    const waiting = ranks.slice(0, 3);
    for (const [rank, process] of waiting.entries()) join(process, rank, 4, port, access);
    const first = await names(waiting);
    // More than the queue of a rank takes that still waits for others.
    expect(await come(first, 1_100)).toBeGreaterThan(3 * 800);
    expect((await seen(strange)).failures).toHaveProperty(String(constants.errno.EAGAIN));
    // While: more come as it does.
    strange.send({ do: 'come', names: first, words });
    join(ranks[3], 3, 4, port, access);
    const formed = await all(ranks, 'formed');
    expect(formed[3]?.['ms']).toBeLessThan(5_000);
    await strange.next('there', 30_000);
    await works(ranks);

    // After: there is nothing to come to any more, and nobody is left waiting.
    expect(ranks.flatMap(({ pid }) => localListeners(pid))).toEqual([]);
    await expect.poll(async () => (await seen(strange)).open, { timeout: 10_000 }).toBe(0);
    expect(await come(first)).toBe(0);
    const { answered, failures } = await seen(strange);
    expect(failures).toHaveProperty(String(constants.errno.ECONNREFUSED));
    // Who begins like a member of this very group is answered, and then cannot go on; another user not even so.
    if (another || words.length === 0) expect(answered).toBe(0);
    else expect(answered % answerBytes).toBe(0);
    await vote(ranks);

    // Without rank 0 it is formed again, at other names.
    const survivors = ranks.slice(1);
    for (const process of survivors) process.send({ do: 'vote', id: 'g', value: false });
    ranks[0]?.kill();
    await all(survivors, 'voteFailed');
    const early = survivors.slice(0, 2);
    for (const process of early) process.send({ do: 'reform', id: 'g' });
    const second = await names(early);
    expect(await come(second)).toBeGreaterThan(2 * 100);
    strange.send({ do: 'come', names: second, words });
    survivors[2]?.send({ do: 'reform', id: 'g' });
    const reformed = await all(survivors, 'reformed');
    expect(reformed[2]?.['ms']).toBeLessThan(5_000);
    await strange.next('there', 30_000);
    await works(survivors);
    await expect.poll(async () => (await seen(strange)).open, { timeout: 10_000 }).toBe(0);
  });
});
