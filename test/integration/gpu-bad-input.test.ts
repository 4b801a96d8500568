// The calls that need a device with every wrong argument, over the stand-ins for GPU libraries: as bad-input.test.ts.
import {
  DeviceBuffer,
  detectHost,
  dpConfigFromEnv,
  ParallelConfig,
  ProcessGroup,
  Stream,
  TcpStore,
} from 'node-collectives';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { deviceCalls } from '../fixtures/bad-input/device-calls.ts';
import type { DeviceSubjects } from '../fixtures/bad-input/table.ts';
import { ownSockets } from '../fixtures/bad-input/wire.ts';
import { closeAll, meeting } from '../fixtures/lifecycle/groups.ts';
import { testTable } from '../helpers/bad-input.ts';
import { standins, standinsBuilt } from '../helpers/standins.ts';

const limitMs = 20_000;

describe.skipIf(!standinsBuilt('nccl'))('over the stand-ins', () => {
  // Read when the addon first looks for a device; this file has a process of its own.
  Object.assign(process.env, standins({ flavour: 'nccl', devices: 2 }));

  let groups: ProcessGroup[];
  let subjects: DeviceSubjects;
  const buffers: DeviceBuffer[] = [];

  beforeAll(async () => {
    const shared = await meeting(2, { backend: 'nccl', heartbeatMs: 3_600_000 });
    groups = await Promise.all(
      [0, 1].map((rank) => ProcessGroup.create({ ...shared, rank, device: rank, timeoutMs: limitMs })),
    );
    for (const device of [0, 1]) buffers.push(await DeviceBuffer.allocate(256, { device }));
    const [long] = buffers as [DeviceBuffer];
    const stream = await Stream.create({ device: 0 });
    subjects = {
      group: groups[0] as ProcessGroup,
      store: await TcpStore.listen(),
      config: new ParallelConfig({}, { env: {} }),
      environment: dpConfigFromEnv({}),
      host: detectHost({}),
      port: 1,
      long,
      buffer: long.subarray(0, 32),
      short: long.subarray(128, 2),
      stream,
      event: stream.record(),
    };
  });
  afterAll(async () => {
    await closeAll(groups);
    await subjects.store.close();
  });

  function used() {
    const { done, failed, queued, running, kinds, links } = subjects.group.stats();
    const frames = links.map(({ framesOut, bytesOut }) => ({ framesOut, bytesOut }));
    return { done, failed, queued, running, kinds: Object.keys(kinds), frames, sockets: ownSockets() };
  }

  testTable(
    deviceCalls,
    () => subjects,
    used,
    async (before) => {
      expect(used()).toEqual(before);
      await Promise.all(buffers.map((buffer, rank) => buffer.copyFrom(Float32Array.of(rank + 1))));
      await Promise.all(
        groups.map((group, rank) =>
          group.allReduce((buffers[rank] as DeviceBuffer).subarray(0, 4), { dtype: 'float32' }),
        ),
      );
      for (const buffer of buffers) expect([...(await buffer.copyTo(new Float32Array(1)))]).toEqual([3]);
    },
  );
});
