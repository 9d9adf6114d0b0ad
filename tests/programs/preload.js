// What tests/it/node_preload.rs asks of a worker whose answers are looked at on their way: each path answers
// in another of the ways that Node has for heads.
'use strict'
const childProcess = require('node:child_process')
const fs = require('node:fs')
const http = require('node:http')
const { Worker, isMainThread, parentPort } = require('node:worker_threads')

const OTHER = 'other=1'
const MINE = 'at=mine'

// What the application can see of whoever started it.
const seen = () => JSON.stringify([Object.keys(process.env).filter((name) => name.startsWith('MCLUSTER_PRELOAD')), process.execArgv])

const heads = {
  none () {},
  object: (res) => res.writeHead(200, { 'X-A': '1' }),
  object_other: (res) => res.writeHead(200, { 'X-A': '1', 'set-cookie': OTHER }),
  object_two: (res) => res.writeHead(200, { 'Set-Cookie': [OTHER, 'more=2'], 'X-A': '1' }),
  object_own: (res) => res.writeHead(200, { 'Set-Cookie': MINE, 'X-A': '1' }),
  object_public: (res) => res.writeHead(200, { 'cache-control': 'max-age=9, Public', 'X-A': '1' }),
  frozen: (res) => res.writeHead(200, Object.freeze({ 'X-A': '1' })),
  reason: (res) => res.writeHead(200, 'Fine', { 'X-A': '1' }),
  reason_alone: (res) => res.setHeader('X-A', '1').writeHead(200, 'Fine'),
  undefined: (res) => res.writeHead(200, undefined, { 'X-A': '1' }),
  undefined_last: (res) => res.writeHead(200, { 'X-A': '1', 'Set-Cookie': OTHER }, undefined),
  array: (res) => res.writeHead(200, ['X-A', '1']),
  array_other: (res) => res.writeHead(200, ['X-A', '1', 'set-cookie', OTHER]),
  array_own: (res) => res.writeHead(200, ['X-A', '1', 'set-cookie', MINE]),
  pairs: (res) => res.writeHead(200, [['X-A', '1']]),
  pairs_other: (res) => res.writeHead(200, [['X-A', '1'], ['Set-Cookie', OTHER]]),
  pairs_own: (res) => res.writeHead(200, [['X-A', '1'], ['Set-Cookie', MINE]]),
  set: (res) => res.setHeader('X-A', '1'),
  set_other: (res) => res.setHeader('X-A', '1').setHeader('Set-Cookie', OTHER),
  set_two: (res) => res.setHeader('X-A', '1').setHeader('Set-Cookie', [OTHER, 'more=2']),
  set_own: (res) => res.setHeader('X-A', '1').setHeader('set-cookie', [OTHER, MINE]),
  set_public: (res) => res.setHeader('X-A', '1').setHeader('Cache-Control', 's-maxage=9'),
  set_private: (res) => res.setHeader('X-A', '1').setHeader('Cache-Control', 'private, max-age=9'),
  both: (res) => res.setHeader('Set-Cookie', OTHER).writeHead(200, { 'X-A': '1' }),
  both_array: (res) => res.setHeader('Set-Cookie', OTHER).writeHead(200, ['X-A', '1']),
  both_public: (res) => res.setHeader('Cache-Control', 'public').writeHead(200, { 'X-A': '1' }),
  flushed (res) {
    res.setHeader('X-A', '1')
    res.flushHeaders()
  },
  // What it says about its connection does not keep that here.
  keeps_set: (res) => res.setHeader('Connection', 'keep-alive'),
  keeps_object: (res) => res.writeHead(200, { connection: 'keep-alive' }),
  keeps_array: (res) => res.writeHead(200, ['Connection', 'keep-alive'])
}

function hear (child, answer) {
  child.on('error', (error) => answer(`failed: ${error.message}`))
  child.on('message', answer)
}

function serve (server, what) {
  server.on('upgrade', (req, socket) => {
    if (req.url === '/raw') return socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\nraw')
    const res = new http.ServerResponse(req)
    res.assignSocket(socket)
    res.writeHead(101, { Connection: 'Upgrade', Upgrade: 'x' })
    res.end('', () => socket.end())
  })
  server.listen(0, '127.0.0.1', () => console.log(`${what} ${server.address().port}`))
}

// What waits for the word to go on.
const waiting = []

function answer (req, res) {
  const name = req.url.slice(1)
  const end = (text) => res.end(String(text))
  if (name === 'seen') return end(seen())
  if (name === 'fork') return hear(childProcess.fork(__filename), end)
  if (name === 'thread') return hear(new Worker(__filename), end)
  if (name === 'headed') {
    res.writeHead(200, { 'Content-Length': 2 }).write('a')
    return waiting.push(() => end('b'))
  }
  if (name === 'waits') return waiting.push(() => end(process.pid))
  if (name === 'go') {
    end(waiting.length)
    return waiting.splice(0).forEach((go) => go())
  }
  heads[name](res)
  end(name)
}

if (!isMainThread) parentPort.postMessage(seen())
else if (!require('node:cluster').isWorker) {
  process.send(seen())
  process.disconnect()
} else {
  process.on('internalMessage', (message) => {
    if (message.act === 'disconnect') console.log('told to go')
  })
  serve(http.createServer(answer), 'listening on port')
  if (process.env.KEYS) {
    const [key, cert] = ['key.pem', 'cert.pem'].map((name) => fs.readFileSync(`${process.env.KEYS}/${name}`))
    serve(require('node:https').createServer({ key, cert }, answer), 'secure on port')
  }
}
