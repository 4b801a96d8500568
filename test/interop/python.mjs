// Python programs with PyTorch, as other processes. Their text is passed with -c, so that PATH may also be a
// wrapper that runs Python where this repository is not to be found (a chroot, a container).
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const program = (name) => readFileSync(new URL(name, import.meta.url), 'utf8');

/** PyTorch's version, or what stands in the way. */
export function findTorch(python) {
  const code =
    'import torch, torch.distributed as d; print("torch", torch.__version__, d.is_available() and hasattr(d, "TCPStore"))';
  const { stdout, stderr, error } = spawnSync(python, ['-c', code], { encoding: 'utf8', timeout: 120_000 });
  const found = /^torch (\S+) (True|False)$/m.exec(stdout ?? '');
  if (!found) {
    return { missing: error ? error.message : ((stderr ?? '').trim().split('\n').at(-1) ?? 'no output') };
  }
  const [, version, distributed] = found;
  const [major, minor] = version.split('.').map((part) => Number.parseInt(part, 10));
  if (major < 2 || (major === 2 && minor < 4)) return { missing: `PyTorch ${version} is too old` };
  if (distributed !== 'True') return { missing: `PyTorch ${version} was built without TCPStore` };
  return { version };
}

/** Lines of output and standard input of one Python process. */
export class Python {
  constructor(python, name, args) {
    this.name = name;
    this.child = spawn(python, ['-c', program(name), ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.errors = '';
    this.child.stderr.setEncoding('utf8').on('data', (text) => {
      this.errors += text;
    });
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
    this.exited = once(this.child, 'exit');
  }

  /** The next line of output. */
  async line() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error(`${this.name} ended early:\n${this.errors.trim()}`);
    return value;
  }

  /** Has server.py call a method; what it returned, bytes as text. */
  async call(method, ...args) {
    this.child.stdin.write(`${JSON.stringify([method, args])}\n`);
    return JSON.parse(await this.line());
  }

  async end() {
    this.child.stdin.end();
    return (await this.exited)[0];
  }

  kill() {
    this.child.kill('SIGKILL');
  }
}
