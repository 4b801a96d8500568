// Groups and stores with a secret: who gets in, who hears what, and that the secret itself shows up nowhere.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { AuthenticationError, InvalidArgumentError, ProcessGroup, TcpStore } from 'node-collectives';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { join, processes, vote } from '../helpers/meeting.ts';
import { all, type RankProcess } from '../helpers/ranks.ts';
import { freePort, freePorts, listeners } from '../helpers/sockets.ts';
import { home, homeIn } from '../helpers/spread.ts';

// Here it is said each time.
delete process.env['NODE_COLLECTIVES_SECRET'];

const secret = 'a secret of the tests';
const other = 'another secret of the tests';

describe('a group with a secret', () => {
  it('forms and works, with the secret in the option or in the environment', async () => {
    const ranks = await processes(4, { NODE_COLLECTIVES_SECRET: secret });
    const port = await freePort();
    for (const [rank, process] of ranks.entries()) join(process, rank, 4, port, rank < 2 ? { secret } : {});
    await all(ranks, 'formed');
    await vote(ranks);
    for (const process of ranks) process.send({ do: 'sum', id: 'g' });
    for (const { sum } of await all(ranks, 'summed')) expect(sum).toBe(6);
    for (const process of ranks) process.send({ do: 'info', id: 'g' });
    for (const { info } of await all(ranks, 'info')) expect(JSON.stringify(info)).not.toContain(secret);
    for (const process of ranks) expect(process.output).not.toContain(secret);
  });

  it.each([
    ['another secret', { secret: other }, 'has another secret'],
    ['none', { secret: null }, 'asks for a secret, while this rank has none'],
  ])('a rank with %s hears so soon, and the group forms with the right one', async (_what, wrong, words) => {
    const ranks = await processes(4);
    const port = await freePort();
    for (const [rank, process] of ranks.entries())
      join(process, rank, 4, port, rank === 2 ? wrong : { secret });
    const { error, ms } = await (ranks[2] as RankProcess).next('failed');
    expect(error).toMatchObject({ code: 'AUTHENTICATION_FAILED', rank: 2, address: homeIn(port) });
    expect(error.message).toContain(words);
    expect(error.message).not.toContain(other);
    expect(ms).toBeLessThan(6_000);
    join(ranks[2], 2, 4, port, { secret });
    await all(ranks, 'formed');
    await vote(ranks);
  });

  it('a rank with a secret hears that rank 0 has none', async () => {
    const ranks = await processes(2);
    const port = await freePort();
    join(ranks[0], 0, 2, port);
    join(ranks[1], 1, 2, port, { secret });
    const { error } = await (ranks[1] as RankProcess).next('failed');
    expect(error).toMatchObject({ code: 'AUTHENTICATION_FAILED' });
    expect(error.message).toContain('has no secret');
    join(ranks[1], 1, 2, port);
    await all(ranks, 'formed');
  });

  it('if the right one never comes, the others hear at the deadline who is missing', async () => {
    const ranks = await processes(3);
    const ports = await freePorts(2);
    const more = { secret, initTimeoutMs: 2_500 };
    for (const [rank, process] of ranks.entries())
      join(process, rank, 3, ports, rank === 1 ? { ...more, secret: other } : more);
    const [zero, one, two] = (await all(ranks, 'failed')).map(({ error }) => error);
    for (const error of [zero, two]) expect(error).toMatchObject({ code: 'TIMEOUT', missing: [1] });
    // With candidates left, rank 0 might have come on any of them.
    expect(one).toMatchObject({ code: 'AUTHENTICATION_FAILED' });
    expect(one.message).toContain(`${homeIn(ports[1] as number)}: Connection refused`);
  });

  it("passes by other groups' stores, of the same secret and of others, and of none", async () => {
    const ranks = await processes(4);
    const ports = await freePorts(4);
    const [first, second, third] = ports as [number, number, number];
    for (const [index, access] of [{ secret: other }, { secret }, {}].entries()) {
      const group = await ProcessGroup.create({
        masterAddr: home(),
        masterPort: [first, second, third][index] as number,
        rank: 0,
        worldSize: 1,
        groupName: 'not theirs',
        ...access,
      });
      onTestFinished(() => group.close());
    }
    for (const [rank, process] of ranks.entries()) join(process, rank, 4, ports, { secret });
    for (const { portIndex } of await all(ranks, 'formed')) expect(portIndex).toBe(3);
    await vote(ranks);
  });

  it('listens on exactly the address that it was given, and keeps the members’ ports open only while it forms', async () => {
    const ranks = await processes(2);
    const port = await freePort();
    for (const [rank, process] of ranks.entries()) join(process, rank, 2, port, { secret });
    await all(ranks, 'formed');
    expect(listeners((ranks[0] as RankProcess).pid)).toEqual([{ address: home(), port, state: 'listening' }]);
    expect(listeners((ranks[1] as RankProcess).pid)).toEqual([]);
  });
});

describe('a store with a secret', () => {
  it('serves who has it, on every connection', async () => {
    await using server = await TcpStore.listen({ secret });
    await using client = await TcpStore.connect({ host: '127.0.0.1', port: server.port, secret });
    const waiting = client.get('late'); // a second connection
    await client.set('k', 'v');
    await server.set('late', 'now');
    expect(Buffer.from(await waiting).toString()).toBe('now');
    expect(Buffer.from(await server.get('k')).toString()).toBe('v');
    for (const store of [server, client])
      expect(inspect(store, { depth: 9, showHidden: true })).not.toContain(secret);
  });

  it.each([
    [secret, other, 'has another secret'],
    [secret, undefined, 'asks for a secret'],
    [undefined, secret, 'has no secret'],
  ])('server %j, client %j: AuthenticationError at once', async (theirs, ours, words) => {
    await using server = await TcpStore.listen(theirs === undefined ? {} : { secret: theirs });
    const began = performance.now();
    const connecting = TcpStore.connect({
      host: '127.0.0.1',
      port: server.port,
      ...(ours === undefined ? {} : { secret: ours }),
    });
    await expect(connecting).rejects.toThrow(AuthenticationError);
    await expect(connecting).rejects.toThrow(words);
    expect(performance.now() - began).toBeLessThan(2_000);
    await server.set('still', 'there');
  });

  it("is not a group's: the store of a group lets only its like in", async () => {
    const port = await freePort();
    const options = { masterAddr: home(), masterPort: port, rank: 0, worldSize: 1, secret };
    await using _group = await ProcessGroup.create(options);
    await expect(TcpStore.connect({ host: home(), port, secret })).rejects.toThrow(AuthenticationError);
  });

  it.each(['0.0.0.0', '::'])('without one it does not listen on %s', async (host) => {
    vi.stubEnv('NODE_COLLECTIVES_ALLOW_UNAUTHENTICATED', undefined);
    const refused = TcpStore.listen({ host });
    await expect(refused).rejects.toThrow(InvalidArgumentError);
    await expect(refused).rejects.toThrow(/secret.*allowUnauthenticated: true/);
  });
});

describe('node-collectives launch', () => {
  const cli = new URL('../../dist/cli/main.js', import.meta.url).pathname;
  const say = `const { readFileSync } = require('node:fs');
    console.log(JSON.stringify([process.env.NODE_COLLECTIVES_SECRET, readFileSync('/proc/' + process.ppid + '/cmdline', 'latin1')]));`;
  const run = (env: NodeJS.ProcessEnv): [string, string][] =>
    execFileSync(
      process.execPath,
      [cli, 'launch', '--nproc', '2', '--no-prefix', process.execPath, '-e', say],
      {
        env: { ...process.env, ...env },
        encoding: 'utf8',
      },
    )
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));

  it('gives each job a secret of its own, and never on a command line', () => {
    const [first, second] = [run({}), run({})];
    for (const job of [first, second]) {
      expect(job).toHaveLength(2);
      expect(job[0]?.[0]).toBe(job[1]?.[0]);
      expect(job[0]?.[0]).toMatch(/^[\w-]{43}$/);
      for (const [given, parent] of job) expect(parent).not.toContain(given);
    }
    expect(first[0]?.[0]).not.toBe(second[0]?.[0]);
    expect(readFileSync('/proc/self/cmdline', 'latin1')).not.toContain(first[0]?.[0] as string);
  });

  it('leaves one that is set', () => {
    expect(run({ NODE_COLLECTIVES_SECRET: secret })[0]?.[0]).toBe(secret);
  });
});
