/** Programs of doctor's own: a broken driver or library may end the process that loads it, or never come back. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** What a program has found; or how it ended without. */
export type Said<T> = { found: T; how?: never } | { found?: never; how: string };

export interface Program {
  /** Beside this file, without `.js`. It says `NAME: ` and JSON on a line of stdout; libraries may print others. */
  name: string;
  args?: readonly string[];
  env: NodeJS.ProcessEnv;
  /** Then it is killed. */
  totalMs: number;
}

export function runProgram<T>({ name, args = [], env, totalMs }: Program): Promise<Said<T>> {
  const file = fileURLToPath(new URL(`./${name}.js`, import.meta.url));
  const options = { env, timeout: totalMs, killSignal: 'SIGKILL', maxBuffer: 2 ** 26 } as const;
  const mark = `${name}: `;
  return new Promise((resolve) => {
    execFile(process.execPath, [file, ...args], options, (error, stdout, stderr) => {
      const line = stdout.split('\n').find((each) => each.startsWith(mark));
      if (line !== undefined) return resolve({ found: JSON.parse(line.slice(mark.length)) as T });
      const how = error?.killed
        ? `it did not come to an end within ${totalMs} ms`
        : `its process ended with ${error?.signal ?? error?.code ?? 0}: ${lastLine(stderr)}`;
      resolve({ how });
    });
  });
}

/** The end of such a program. Written at once: what is left of a broken library may end the process otherwise. */
export function say(name: string, found: unknown): void {
  process.stdout.write(`\n${name}: ${JSON.stringify(found)}\n`, () => process.exit(0));
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}
