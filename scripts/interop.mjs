// Our store against PyTorch's, with the real thing: `npm run test:interop -- --python PATH` (default
// python3). PATH may be a wrapper, e.g. `#!/bin/sh` and `exec chroot /some/root python3 "$@"`.
import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { torchClient, torchServer } from '../test/interop/checks.mjs';
import { findTorch } from '../test/interop/python.mjs';
import { die, ScriptError } from './lib.mjs';
import { compiled } from './run-ts.mjs';
import { setup } from './setup.mjs';

async function main() {
  const { values } = parseArgs({ options: { python: { type: 'string', default: 'python3' } } });
  const torch = findTorch(values.python);
  if (torch.missing) {
    console.log(`interop: skipped, no PyTorch >= 2.4 under ${values.python} (${torch.missing})`);
    return;
  }
  await setup();
  const module = compiled('src/store/tcp-store.ts');
  if (!existsSync(module)) throw new ScriptError(`interop: ${module} is missing; npm run build`);
  const { TcpStore } = await import(pathToFileURL(module).href);

  console.log(`interop: PyTorch ${torch.version}`);
  const passed = await torchClient(values.python, TcpStore);
  console.log(`  PyTorch's client, our server: ${passed} checks passed`);
  for (const kind of ['legacy', 'libuv']) {
    const result = await torchServer(values.python, TcpStore, kind);
    if (typeof result === 'number') {
      console.log(`  our client, PyTorch's ${kind} server: ${result} checks passed`);
    } else {
      console.log(`  our client, PyTorch's ${kind} server: not in this build (${result})`);
    }
  }
}

main().catch(die);
