// A root folder with Node, the libraries Node itself needs, and nothing else: no compiler, no shell, no
// libgloo.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** A way to start a program in a root of its own: the command before the root and the program. */
type Entry = (root: string, program: string[]) => [string, string[]];

/** With /proc and /dev; the mounts live in a namespace of their own and end with the program. */
const withMounts: Entry = (root, program) => {
  const script = `
    if [ "$1" != / ]; then
      mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" || exit 71
    fi
    exec chroot "$@"`;
  const user = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  return ['unshare', [...user, '--mount', 'sh', '-c', script, 'sh', root, ...program]];
};

/** Containers often allow no namespaces to root either, but chroot. Then there is neither /proc nor /dev. */
const bare: Entry = (root, program) => ['chroot', [root, ...program]];

function tryOut(entry: Entry): string | undefined {
  const { status, error, stderr } = spawnSync(...entry('/', ['/bin/true']), { encoding: 'utf8' });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}

const complaints = [withMounts, bare].map((entry) => ({ entry, complaint: tryOut(entry) }));
const enter = complaints.find(({ complaint }) => complaint === undefined)?.entry;

/** Why programs cannot be started in a root of their own here; undefined where they can. */
export const whyNoRoot = enter ? undefined : complaints.map(({ complaint }) => complaint).join('; ');

/** Fills an empty folder with Node and what `ldd` lists for it. */
export function makeCleanRoot(root: string): void {
  const node = realpathSync(process.execPath);
  for (const folder of ['bin', 'proc', 'dev', 'tmp', 'app'])
    mkdirSync(join(root, folder), { recursive: true });
  cpSync(node, join(root, 'bin/node'));
  const { stdout } = spawnSync('ldd', [node], { encoding: 'utf8' });
  for (const [path] of stdout.matchAll(/\/\S+/g)) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    cpSync(realpathSync(path), join(root, path));
  }
}

/** Files below the root that a program to be tested must not find there. */
export function strangersIn(root: string): string[] {
  const unwanted = /^(lib(gloo|hiredis|ibverbs|nl-)|(c|g|clang|gcc|g\+\+|cc1plus|ld|make|cmake|sh|bash)$)/;
  const walk = (dir: string): string[] =>
    readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
      const path = join(dir, entry.name);
      if (entry.isDirectory()) return entry.name === 'node_modules' ? [] : walk(path);
      return unwanted.test(basename(path)) ? [path] : [];
    });
  return walk(root);
}

/** Runs Node inside the root; `file` is a path inside it. */
export function runInRoot(root: string, file: string, args: string[] = []) {
  if (!enter) throw new Error(whyNoRoot);
  const [command, rest] = enter(root, ['/bin/node', file, ...args]);
  // A clean environment: nothing of this machine's paths may help.
  const options = {
    encoding: 'utf8',
    timeout: 60_000,
    env: { PATH: '/bin:/usr/bin:/usr/sbin:/sbin' },
  } as const;
  const { status, stdout, stderr, error } = spawnSync(command, rest, options);
  return { status, output: `${stdout ?? ''}${stderr ?? ''}${error ? error.message : ''}` };
}
