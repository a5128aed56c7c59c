// Answers every request with a greeting.
addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname } = new URL(request.url);
  return new Response(`hello from JavaScript, you asked for ${pathname}\n`, {
    headers: { 'content-type': 'text/plain' },
  });
}
