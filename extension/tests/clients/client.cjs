// An ordinary client: client.cjs WAY METHOD URL. It knows of no proxy, and prints the body of the answer.
'use strict';

const http = require('http');
const https = require('https');

const [way, method, url] = process.argv.slice(2);
const body = method === 'POST' ? 'hello' : undefined;

function library(address) {
  return address.startsWith('https:') ? https : http;
}

// With options and address in the two ways that there are.
function request(address) {
  const { hostname, port, pathname } = new URL(address);
  const options = { method, headers: { 'x-own': '1' } };
  if (way === 'agent') {
    options.agent = new (library(address).Agent)({ keepAlive: true });
    Object.assign(options, { hostname, port, path: pathname });
    return library(address).request(options, answered);
  }
  return method === 'GET' ? library(address).get(address, answered) : library(address).request(new URL(address), options, answered);

  function answered(answer) {
    if (answer.statusCode === 302) {
      send(new URL(answer.headers.location, address).href);
      answer.resume();
      return;
    }
    answer.pipe(process.stdout);
    answer.on('end', () => options.agent && options.agent.destroy());
  }
}

function send(address) {
  request(address).end(body);
}

if (way === 'fetch') {
  fetch(url, { method, body })
    .then((answer) => answer.text())
    .then((text) => console.log(text));
} else {
  send(url);
}
