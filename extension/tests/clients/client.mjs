// An ordinary client as an ES module: client.mjs WAY METHOD URL.
import { request as plain } from 'node:http';
import { request as secure } from 'node:https';

const [, method, url] = process.argv.slice(2);

function send(address) {
  const request = (address.startsWith('https:') ? secure : plain)(address, { method }, (answer) => {
    if (answer.statusCode === 302) {
      answer.resume();
      send(new URL(answer.headers.location, address).href);
    } else {
      answer.pipe(process.stdout);
    }
  });
  request.end(method === 'POST' ? 'hello' : undefined);
}

send(url);
