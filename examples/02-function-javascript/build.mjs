// Puts function.js and a JavaScript engine into one component: `node build.mjs [WIT]`.
import { mkdir, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const witPath = process.argv[2] ?? '../../wit/functions';
const { component } = await componentize({ sourcePath: 'function.js', witPath, worldName: 'function' });
await mkdir('dist', { recursive: true });
await writeFile('dist/function.wasm', component);
