/** What ranks said when they called other ranks, recorded by strace. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Why nothing can be recorded here, or nothing. */
export function whyNotRecorded(): string | undefined {
  const { error, status } = spawnSync('strace', ['-o', '/dev/null', 'true'], { stdio: 'ignore' });
  if (error !== undefined) return 'strace is not installed';
  return status === 0 ? undefined : 'strace may not trace here';
}

/** Runs Node with its sends written to that file; for RankOptions.command. */
export const recording = (file: string): string[] => [
  ...['strace', '-f', '-qq', '-e', 'trace=sendto', '-e', 'signal=none', '-xx', '-s', '512', '-o', file],
  process.execPath,
];

/** The packets of each handshake with another rank: its greeting, and its proof with its hello. */
export function recordedCalls(file: string): Buffer[][] {
  // Descriptors are not used again within so short a time as a group takes to form.
  const calls = new Map<string, Buffer[]>();
  for (const [, fd = '', hex = ''] of readFileSync(file, 'latin1').matchAll(
    /sendto\((\d+), "((?:\\x[0-9a-f]{2})*)"/g,
  )) {
    const bytes = Buffer.from(hex.replaceAll('\\x', ''), 'hex');
    const greets = bytes.length === 84 && bytes.subarray(0, 10).equals(linkGreeting);
    if (greets) calls.set(fd, [bytes]);
    else if (bytes.length === 80 && calls.get(fd)?.length === 1) calls.get(fd)?.push(bytes);
  }
  return [...calls.values()].filter((call) => call.length === 2);
}

/** Magic, version, purpose (between ranks), side (the caller's). */
const linkGreeting = Buffer.from('NCSEC\r\n\x01\x03\x01', 'latin1');
