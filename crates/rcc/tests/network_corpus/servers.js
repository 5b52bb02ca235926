// Servers of the corpus on the address of allowed.example. Each says what it was asked.
const crypto = require('crypto'), fs = require('fs'), http = require('http'), http2 = require('http2'), net = require('net');

const address = '203.0.113.10';
const say = (request, response) => {
  const host = request.headers[':authority'] || request.headers.host;
  response.end(`spoke ${request.httpVersion} with ${host}\n`);
};
const tls = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') };

// RFC 6455: the answer's key, then every short frame of the client unmasked and sent back.
const socket = http.createServer(say).on('upgrade', (request, stream) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  stream.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  stream.on('error', () => {});
  stream.on('end', () => stream.end());
  stream.on('data', (frame) => {
    const length = frame[1] & 127, mask = frame.subarray(2, 6), payload = frame.subarray(6, 6 + length);
    const plain = Buffer.from(payload.map((byte, index) => byte ^ mask[index % 4]));
    stream.write(Buffer.concat([Buffer.from([0x81, length]), plain]));
  });
});
const redirect = http.createServer((request, response) => {
  response.writeHead(302, { location: decodeURIComponent(request.url.slice(1)) });
  response.end('elsewhere\n');
});
const proxy = http.createServer(say).on('connect', (request, stream) => {
  const end = request.url.lastIndexOf(':');
  const upstream = net.connect(Number(request.url.slice(end + 1)), request.url.slice(0, end), () => {
    stream.write('HTTP/1.1 200 OK\r\n\r\n');
    stream.pipe(upstream).pipe(stream);
  });
  upstream.on('error', () => stream.destroy());
  stream.on('error', () => upstream.destroy());
});

const servers = [
  [http2.createSecureServer({ ...tls, allowHTTP1: true }, say), 9443],
  [http2.createServer(say), 9081],
  [socket, 9080],
  [redirect, 9082],
  [proxy, 3128],
];
let left = servers.length;
for (const [server, port] of servers) {
  server.on('sessionError', () => {});
  server.listen(port, address, () => { if (--left === 0) console.log('all listen'); });
}
