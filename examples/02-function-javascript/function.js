// Greets whoever asks, and counts the visits of each name in the store `visits`.
import { get as configuration } from 'wasi:config/store@0.2.0-rc.1';
import { increment } from 'wasi:keyvalue/atomics@0.2.0-draft2';
import { open } from 'wasi:keyvalue/store@0.2.0-draft2';

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const name = new URL(request.url).pathname.split('/').pop() || 'world';
  const greeting = configuration('greeting') ?? 'hello';
  const visits = increment(open('visits'), name, 1n);
  return new Response(`${greeting} ${name}, from JavaScript, visit ${visits}\n`, {
    headers: { 'content-type': 'text/plain' },
  });
}
