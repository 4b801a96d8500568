import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { HostFacts } from '../../src/config/host.ts';
import type { ParallelConfigInput } from '../../src/config/parallel-settings.ts';
import { type HeldPort, holdPorts } from '../../src/config/ports.ts';
import { GroupMismatchError, InvalidArgumentError } from '../../src/errors.ts';
import { addressInUseWarning } from '../../src/group/dp.ts';
import { ParallelConfig } from '../../src/group/parallel-config.ts';
import type { ProcessGroup } from '../../src/group/process-group.ts';

const facts: HostFacts = {
  platform: 'cpu',
  deviceCount: 0,
  distBackend: 'gloo',
  customAllReduce: false,
  rayAvailable: false,
  rayRunning: false,
  inPlacementGroup: false,
  batchInvariant: false,
  openPorts: (count) => holdPorts(count),
};

const thieves: Server[] = [];
afterEach(() => {
  for (const thief of thieves.splice(0)) thief.close();
});

/** Rank 0 with the ports it found, and rank 1 which was told them. */
function pair(host = facts, differing: ParallelConfigInput = {}): [ParallelConfig, ParallelConfig] {
  const context = { env: {}, host };
  const first = new ParallelConfig({ dataParallelSize: 2 }, context);
  const ports = [...first._dataParallelMasterPortList, first.dataParallelMasterPort];
  const second = {
    dataParallelSize: 2,
    dataParallelRank: 1,
    _dataParallelMasterPortList: ports,
    ...differing,
  };
  return [first, new ParallelConfig(second, context)];
}

const formed = (configs: ParallelConfig[], onWarning: (text: string) => void = () => {}) =>
  Promise.all(configs.map((config) => config.statelessInitDpGroup({ onWarning, initTimeoutMs: 20_000 })));
const closed = (groups: ProcessGroup[]) => Promise.all(groups.map((group) => group.close()));

describe('a configuration forms its group', () => {
  test('on a held port, with votes', async () => {
    const [a, b] = pair();
    const first = a.peekDpInitPorts(1)[0] as number;
    const groups = await formed([a, b]);
    expect(groups.map((group) => group.info().port)).toEqual([first, first]);
    expect(a.heldPorts).toHaveLength(4);
    expect(a.heldPorts).not.toContain(first);
    expect(groups[0]?.info()).toMatchObject({ backend: 'gloo', backendReason: 'platform cpu' });
    expect(
      await Promise.all(groups.map((group, rank) => ParallelConfig.hasUnfinishedDp(group, rank === 1))),
    ).toEqual([true, true]);
    const offers = [-1, 7];
    const least = groups.map((group, rank) =>
      ParallelConfig.syncKvCacheMemorySize(group, offers[rank] as number),
    );
    expect(await Promise.all(least)).toEqual([7n, 7n]);
    expect(a.peekDpInitPorts(6)).toEqual(b.peekDpInitPorts(6));
    await closed(groups);
    a.releaseHeldPorts();
  });

  test('a port lost on the way is one more that is taken', async () => {
    const steal = ({ port, release }: HeldPort, i: number): HeldPort => ({
      port,
      release() {
        release();
        if (i === 3) thieves.push(createServer().listen({ port, exclusive: true }).unref());
      },
    });
    const warnings: string[] = [];
    const [a, b] = pair({ ...facts, openPorts: (count) => holdPorts(count).map(steal) });
    const second = a.peekDpInitPorts(2)[1];
    const groups = await formed([a, b], (text) => warnings.push(text));
    expect(groups.map((group) => group.info().port)).toEqual([second, second]);
    expect(warnings).toEqual([addressInUseWarning]);
    expect(a.peekDpInitPorts(5)).toEqual(b.peekDpInitPorts(5));
    await closed(groups);
    a.releaseHeldPorts();
  });

  test('alone with the defaults', async () => {
    const config = new ParallelConfig({}, { env: {}, host: facts });
    const group = await config.statelessInitDpGroup();
    expect([group.size, config.dataParallelMasterPort]).toEqual([1, 1]);
    await group.close();
  });

  test('a process that sees no device says so', async () => {
    const host: HostFacts = { ...facts, platform: 'cuda', distBackend: 'nccl' };
    const group = await new ParallelConfig({}, { env: {}, host }).statelessInitDpGroup();
    expect(group.info().backendReason).toBe('platform cuda has nccl, but this process sees no device');
    await group.close();
  });
});

test('ranks that are configured differently are refused on every rank, naming field and values', async () => {
  const [a, b] = pair(facts, { enableDbo: true });
  const results = await Promise.allSettled([a, b].map((config) => config.statelessInitDpGroup()));
  for (const result of results) {
    expect(result).toMatchObject({ status: 'rejected', reason: expect.any(GroupMismatchError) });
    const { message } = (result as PromiseRejectedResult).reason as Error;
    expect(message).toContain('enable_dbo');
    expect(message).toMatch(/true/);
    expect(message).toMatch(/false/);
    expect(message).toMatch(/rank 0/);
    expect(message).toMatch(/rank 1/);
  }
  a.releaseHeldPorts();
});

test('port 0 with several ranks is refused at once', async () => {
  const env = { VLLM_DP_SIZE: '2' };
  const config = new ParallelConfig({}, { env, host: facts });
  await expect(config.statelessInitDpGroup()).rejects.toThrow(InvalidArgumentError);
});
