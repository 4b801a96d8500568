// Every public call with every wrong argument: a typed error that names the argument, at once, with nothing sent and
// the group as usable as before. The table is made from test/fixtures/bad-input; test/unit/bad-input-table.test.ts sees
// to it that nothing is missing there, and gpu-bad-input.test.ts has the calls that need a device.
import { detectHost, dpConfigFromEnv, ParallelConfig, type ProcessGroup, TcpStore } from 'node-collectives';
import { afterAll, beforeAll, expect } from 'vitest';
import { configCalls } from '../fixtures/bad-input/config-calls.ts';
import { groupCalls } from '../fixtures/bad-input/group-calls.ts';
import { storeCalls } from '../fixtures/bad-input/store-calls.ts';
import type { Subjects } from '../fixtures/bad-input/table.ts';
import { ownSockets, Recorder, Relay } from '../fixtures/bad-input/wire.ts';
import { closeAll, formHere } from '../fixtures/lifecycle/groups.ts';
import { testTable } from '../helpers/bad-input.ts';

let groups: ProcessGroup[];
let server: TcpStore;
let relay: Relay;
let recorder: Recorder;
let subjects: Subjects;
/** Bytes that a client sends for numKeys(). */
let asked: number;

beforeAll(async () => {
  // No signs of life, so that all that goes over the links belongs to an operation.
  groups = await formHere(2, { heartbeatMs: 3_600_000 });
  server = await TcpStore.listen();
  relay = await Relay.to(server.port);
  recorder = await Recorder.start();
  const store = await TcpStore.connect({ host: '127.0.0.1', port: relay.port });
  const before = relay.bytes;
  await store.numKeys();
  asked = relay.bytes - before;
  subjects = {
    group: groups[0] as ProcessGroup,
    store,
    config: new ParallelConfig({}, { env: {} }),
    environment: dpConfigFromEnv({}),
    host: detectHost({}),
    port: recorder.port,
  };
});
afterAll(async () => {
  await closeAll(groups);
  await subjects.store.close();
  await server.close();
  relay.close();
  recorder.close();
});

/** All that a call may have used. */
function used() {
  const { done, failed, queued, running, kinds, links } = subjects.group.stats();
  const frames = links.map(({ framesOut, bytesOut }) => ({ framesOut, bytesOut }));
  const operations = { done, failed, queued, running, kinds: Object.keys(kinds), frames };
  const toStore = { connections: relay.connections, bytes: relay.bytes };
  const ports = [subjects.config.peekDpInitPorts(1), subjects.environment.peekDpInitPorts(1)];
  return { operations, toStore, ports, sockets: ownSockets() };
}

testTable(
  [...groupCalls, ...storeCalls, ...configCalls],
  () => subjects,
  used,
  async (before) => {
    expect(used()).toEqual(before);
    // What was sent late arrives before these do: a connection keeps its order, and a listener that of its callers.
    expect(await recorder.calls()).toBe(0);
    const { bytes } = relay;
    await subjects.store.numKeys();
    expect(relay.bytes - bytes).toBe(asked);
    const sums = await Promise.all(groups.map((group) => group.allReduce(Int32Array.of(group.rank + 1))));
    expect(sums.map(([sum]) => sum)).toEqual([3, 3]);
  },
);
