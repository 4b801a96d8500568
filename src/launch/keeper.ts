/**
 * The keeper: a process of its own that outlives the launcher for a moment. It holds the read end of a pipe
 * whose only writer is the launcher; when the launcher is gone, however it died, the pipe ends and the keeper
 * ends the job's processes. Started by keeper-client.ts as `node keeper.js`; no options.
 *
 * In: lines `job ID` and `group PGID`. A launcher that ends in good order kills its keeper.
 */

import { endJob } from './processes.ts';

process.title = 'node-collectives keeper';
// What ends a terminal session must not end the one process that cleans up after it.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const) process.on(signal, () => {});

const groups = new Set<number>();
let jobId = '';
let rest = '';

process.stdin.setEncoding('latin1');
process.stdin.on('data', (text: string) => {
  const lines = (rest + text).split('\n');
  rest = lines.pop() ?? '';
  for (const line of lines) {
    const [word, value = ''] = line.split(' ');
    if (word === 'job') jobId = value;
    else if (word === 'group') groups.add(Number(value));
  }
});
process.stdin.on('error', () => {});
process.stdin.once('close', () => {
  if (jobId === '') process.exit(0);
  // Ten empty looks (200 ms): a rank that was being started when the launcher died shows its job only after
  // exec.
  void endJob(jobId, groups, { graceMs: 0, quietRounds: 10 }).then(() => process.exit(0));
});
