// Makes the component: the JavaScript engine, app.js and what the world `function` imports.
import { readFile, mkdir, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const { component } = await componentize(await readFile('app.js', 'utf8'), {
  sourceName: 'app.js',
  witPath: 'wit',
  worldName: 'function',
});
await mkdir('dist', { recursive: true });
await writeFile('dist/app.wasm', component);
