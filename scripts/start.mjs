// `npm start`: set-up, then the first example. What follows `--` goes to the example.
import { die } from './lib.mjs';
import { runTypeScript } from './run-ts.mjs';
import { setup } from './setup.mjs';

try {
  await setup();
  await runTypeScript('examples/01-dp-engine/main.ts', process.argv.slice(2));
} catch (error) {
  die(error);
}
