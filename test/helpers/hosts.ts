/**
 * Hosts for tests: network namespaces that the test makes, joined by a switch of its own, and removes. Needs root.
 * Their addresses exist in these namespaces only; nothing is seen on this machine's own network.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Host {
  /** The namespace. */
  name: string;
  ipv4: string;
  ipv6: string;
  /** Runs a program on this host; for RankOptions.command. */
  command: string[];
}

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });

/** Why there can be no hosts here, or nothing. */
export function whyNoHosts(): string | undefined {
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  try {
    const probe = `nc-probe-${process.pid}`;
    ip('netns', 'add', probe);
    ip('netns', 'del', probe);
    return undefined;
  } catch (error) {
    return `network namespaces cannot be made here: ${(error as Error).message.split('\n')[0]}`;
  }
}

export interface Making {
  /** Which addresses hosts have. Default `both`. */
  families?: 'ipv4' | 'ipv6' | 'both';
  /** A second interface, `eth1`, that is up and has an address but leads nowhere. */
  deadInterface?: boolean;
  /** Lines of each host's /etc/hosts. */
  names?: (hosts: readonly Host[], host: number) => string[];
}

/** What a network does to packets. */
export interface Impairment {
  delayMs: number;
  lossPercent: number;
  seed: number;
  /** What a cable carries at most, in thousands of bytes a second; no limit unless given. */
  kilobytesPerSecond?: number;
}

/** `count` hosts that reach each other and nothing else. */
export class Hosts implements Disposable {
  readonly hosts: Host[];
  readonly #middle: string;
  #wire: ChildProcess | undefined;

  constructor(count: number, making: Making = {}) {
    made += 1;
    const tag = `nc${process.pid}-${made}`;
    // The switch is in a namespace as well.
    this.#middle = `${tag}-switch`;
    this.hosts = Array.from({ length: count }, (_, i) => {
      const name = `${tag}-${i}`;
      const command = ['ip', 'netns', 'exec', name, process.execPath];
      return { name, ipv4: `10.77.0.${i + 1}`, ipv6: `fd77::${i + 1}`, command };
    });
    try {
      this.#make(making);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #make({ families = 'both', deadInterface = false, names }: Making): void {
    const middle = this.#middle;
    ip('netns', 'add', middle);
    ip('-n', middle, 'link', 'add', 'br0', 'type', 'bridge');
    ip('-n', middle, 'link', 'set', 'br0', 'up');
    for (const [i, { name, ipv4, ipv6 }] of this.hosts.entries()) {
      const port = `port${i}`;
      ip('netns', 'add', name);
      ip('-n', name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', port, 'netns', middle);
      ip('-n', middle, 'link', 'set', port, 'master', 'br0', 'up');
      if (families !== 'ipv6') ip('-n', name, 'addr', 'add', `${ipv4}/24`, 'dev', 'eth0');
      if (families !== 'ipv4') ip('-n', name, 'addr', 'add', `${ipv6}/64`, 'dev', 'eth0', 'nodad');
      if (deadInterface) {
        const end = `dead${i}`;
        ip('-n', name, 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', end, 'netns', middle);
        ip('-n', middle, 'link', 'set', end, 'up');
        ip('-n', name, 'addr', 'add', `10.78.0.${i + 1}/24`, 'dev', 'eth1');
        ip('-n', name, 'link', 'set', 'eth1', 'up');
      }
      ip('-n', name, 'link', 'set', 'lo', 'up');
      ip('-n', name, 'link', 'set', 'eth0', 'up');
      if (names !== undefined) {
        // `ip netns exec` puts it in the place of /etc/hosts.
        mkdirSync(`/etc/netns/${name}`, { recursive: true });
        writeFileSync(`/etc/netns/${name}/hosts`, `${names(this.hosts, i).join('\n')}\n`);
      }
    }
  }

  /** Cuts the cable of a host: nothing gets through, and neither side is told. */
  cut(host: number): void {
    // At the switch's side: the host's own interface stays up, as behind a real switch.
    ip('-n', this.#middle, 'link', 'set', `port${host}`, 'nomaster');
  }

  /** From now on every packet is late, some are lost, and there is room for so many; says by what means. */
  async impair({
    delayMs,
    lossPercent,
    seed,
    kilobytesPerSecond = 0,
  }: Impairment): Promise<'netem' | 'wire'> {
    const ports = this.hosts.map((_, i) => `port${i}`);
    try {
      for (const port of ports) {
        const rate = kilobytesPerSecond > 0 ? ['rate', `${8 * kilobytesPerSecond}kbit`] : [];
        const what = ['delay', `${delayMs}ms`, 'loss', `${lossPercent}%`, ...rate];
        ip('netns', 'exec', this.#middle, 'tc', 'qdisc', 'add', 'dev', port, 'root', 'netem', ...what);
      }
      return 'netem';
    } catch {
      // This kernel has no netem; a program of the tests takes the switch's place.
    }
    for (const port of ports) ip('-n', this.#middle, 'link', 'set', port, 'nomaster');
    const args = [delayMs, lossPercent, seed, kilobytesPerSecond].map(String);
    const wire = spawn('ip', ['netns', 'exec', this.#middle, testProgram('wire'), ...args, ...ports], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#wire = wire;
    await Promise.race([
      once(wire.stdout, 'data'),
      once(wire, 'exit').then(([code]) => Promise.reject(new Error(`wire ended with ${code}`))),
    ]);
    return 'wire';
  }

  [Symbol.dispose](): void {
    this.#wire?.stdin?.end();
    for (const name of [this.#middle, ...this.hosts.map((host) => host.name)]) {
      try {
        ip('netns', 'del', name);
      } catch {
        // It was not made.
      }
      rmSync(`/etc/netns/${name}`, { recursive: true, force: true });
    }
  }
}

let made = 0;

/** A program or addon of fixtures/hosts/. */
export function testProgram(name: string): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const program = join(folder, 'build/tests', name);
    if (existsSync(program)) return program;
    if (folder === dirname(folder))
      throw new Error(`build/tests/${name} is missing: node scripts/setup.mjs build test`);
  }
}

export function makeHosts(count: number, making?: Making): Hosts {
  return new Hosts(count, making);
}
