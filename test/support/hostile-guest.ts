/** Misuses the HTTP server on port 80 of an address, and prints the successful attacks as JSON. */
import { once } from 'node:events';
import { get } from 'node:http';
import { createConnection, type Socket } from 'node:net';
import { until } from './eventually.ts';
import { socketClosed } from './socket-closed.ts';

const [host = ''] = process.argv.slice(2);

const connect = (): Socket => createConnection({ host, port: 80 }).on('error', () => {});

/** Returns the status of the answer to these bytes; 0 if the connection ended without an answer. */
async function status(...bytes: readonly string[]): Promise<number> {
  const socket = connect().setEncoding('latin1');
  let answer = '';
  socket.on('data', (text) => {
    answer += text;
  });
  for (const part of bytes) socket.write(part);
  await socketClosed(socket);
  return Number(answer.split(' ')[1] ?? 0);
}

/** Returns the status as soon as the server has noticed that earlier connections are closed, and accepts this one. */
const statusOnceLetIn = (...bytes: readonly string[]): Promise<number> =>
  until('an answer', async () => (await status(...bytes)) || undefined);

/** Returns the number of silent connections that stay open. */
async function openConnections(): Promise<number> {
  const sockets = Array.from({ length: 50 }, connect);
  await Promise.all(
    sockets.map((socket) => Promise.race([once(socket, 'connect').catch(() => {}), socketClosed(socket)])),
  );
  // The server has refused some connections by now, or refuses them in the answer to the next request.
  await status('GET / HTTP/1.0\r\n\r\n');
  const open = () => sockets.filter((socket) => !socket.destroyed && socket.readyState === 'open').length;
  await until('too many are closed', () => open() <= 8, 5).catch(() => {});
  const left = open();
  for (const socket of sockets) socket.destroy();
  return left;
}

const request = (): Promise<number> =>
  new Promise((resolve) => {
    get({ host, path: '/', agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    }).on('error', () => resolve(0));
  });

const connections = await openConnections();
const garbage = await statusOnceLetIn('\x16\x03\x01\0\xff garbage\r\n\r\n');
const headers = await statusOnceLetIn('GET / HTTP/1.1\r\nHost: x\r\n', `X: ${'y'.repeat(20_000)}\r\n\r\n`);
let limited = 0;
for (let i = 0; i < 200; i++) if ((await request()) === 429) limited++;
console.log(JSON.stringify({ connections, garbage, headers, limited }));
