/** Waits for ranks of a group that forms, by asking the group's store as any client could. */
import { connect } from 'node:net';
import { home } from './spread.ts';

/** What a client of the store says first: VALIDATE and the magic number. */
export const storeGreeting = Buffer.from([0, 0xce, 0xf7, 0x85, 0x3c]);

/**
 * Resolves once all these ranks have registered with rank 0's store at that port, which need not listen yet.
 */
export async function registered(port: number, ranks: readonly number[], timeoutMs = 10_000): Promise<void> {
  const until = performance.now() + timeoutMs;
  while (!(await ask(port, ranks))) {
    if (performance.now() > until) throw new Error(`ranks ${ranks} did not register at port ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

function ask(port: number, ranks: readonly number[]): Promise<boolean> {
  const number = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return bytes;
  };
  const keys = ranks.map((rank) => Buffer.from(`node-collectives/rank/${rank}`));
  // CHECK: 0 if all are there.
  const check = [Buffer.from([5]), number(keys.length), ...keys.flatMap((key) => [number(key.length), key])];
  return new Promise((resolve) => {
    const socket = connect(port, home(), () => socket.write(Buffer.concat([storeGreeting, ...check])));
    socket.on('data', (bytes) => {
      resolve(bytes[0] === 0);
      socket.destroy();
    });
    socket.on('error', () => {}).on('close', () => resolve(false));
  });
}
