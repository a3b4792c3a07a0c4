// node client.mjs HOST PORT CA VERSION VISITS: comes back with the last session it was given.
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';

const [host, port, ca, version, visits] = process.argv.slice(2);
let session;

function visit() {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      servername: 'localhost',
      ca: readFileSync(ca),
      minVersion: `TLSv${version}`,
      maxVersion: `TLSv${version}`,
      session,
    });
    socket.on('session', (given) => (session = given));
    socket.on('secureConnect', () => {
      console.log(socket.isSessionReused() ? 'reused' : 'new');
      socket.write('hello\n');
    });
    socket.on('data', () => socket.end());
    socket.on('close', resolve);
    socket.on('error', reject);
  });
}

for (let number = 0; number < visits; number += 1) {
  await visit();
}
