/**
 * Hosts for tests: network namespaces that the test makes, joined by a bridge of its own, and removes. Needs
 * root.
 */
import { execFileSync } from 'node:child_process';

export interface Host {
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

export interface Hosts extends Disposable {
  hosts: Host[];
}

/** `count` hosts that reach each other and nothing else. Their addresses exist in these namespaces only. */
export function makeHosts(count: number): Hosts {
  const tag = `nc${process.pid}`;
  // The bridge is in a namespace as well: nothing of it is seen on this machine's own network.
  const middle = `${tag}-switch`;
  const names: string[] = [];
  const remove = () => {
    for (const name of names) ip('netns', 'del', name);
  };
  try {
    names.push(middle);
    ip('netns', 'add', middle);
    ip('-n', middle, 'link', 'add', 'br0', 'type', 'bridge');
    ip('-n', middle, 'link', 'set', 'br0', 'up');
    const hosts = Array.from({ length: count }, (_, i) => {
      const name = `${tag}-${i}`;
      names.push(name);
      const host = { ipv4: `10.77.0.${i + 1}`, ipv6: `fd77::${i + 1}`, command: [] as string[] };
      ip('netns', 'add', name);
      ip('-n', name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', `port${i}`, 'netns', middle);
      ip('-n', middle, 'link', 'set', `port${i}`, 'master', 'br0', 'up');
      ip('-n', name, 'addr', 'add', `${host.ipv4}/24`, 'dev', 'eth0');
      ip('-n', name, 'addr', 'add', `${host.ipv6}/64`, 'dev', 'eth0', 'nodad');
      ip('-n', name, 'link', 'set', 'lo', 'up');
      ip('-n', name, 'link', 'set', 'eth0', 'up');
      host.command = ['ip', 'netns', 'exec', name, process.execPath];
      return host;
    });
    return { hosts, [Symbol.dispose]: remove };
  } catch (error) {
    remove();
    throw error;
  }
}
