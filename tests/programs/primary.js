// Node's own cluster as the primary of a program, with the words of `mcluster start`.
//
// The tests can be held against it (MCLUSTER_TESTS_PRIMARY names this file), which shows that their
// scenarios are right and what Node's primary gets wrong; benches/start.sh measures it. It does what an
// application that uses `node:cluster` does: it replaces who dies, and on SIGHUP all, one by one.
'use strict'
const cluster = require('node:cluster')

const words = process.argv.slice(2)
const app = words[words.indexOf('start') + 1]
const flag = (name, otherwise) => {
  const at = words.indexOf(name)
  return at < 0 ? otherwise : words[at + 1]
}
const rest = words.includes('--') ? words.slice(words.indexOf('--') + 1) : []
const count = Number(flag('-i', '1'))
const time = (text) => Number.parseFloat(text) * (text.endsWith('ms') ? 1 : 1000)
const drain = time(flag('--drain-timeout', '30s'))

cluster.schedulingPolicy = flag('--schedule', 'rr') === 'rr' ? cluster.SCHED_RR : cluster.SCHED_NONE
cluster.setupPrimary({ exec: app, args: rest, silent: true })

const log = (text) => process.stderr.write(`${text}\n`)
const name = (worker) => `worker ${worker.id} (pid ${worker.process.pid})`
let stopping = false
const places = []
const alive = new Set()

function fork (place) {
  const worker = cluster.fork({ NODE_APP_INSTANCE: String(place) })
  worker.place = place
  alive.add(worker)
  for (const stream of [worker.process.stdout, worker.process.stderr]) {
    let partial = ''
    stream.setEncoding('utf8').on('data', (text) => {
      const lines = (partial + text).split('\n')
      partial = lines.pop()
      for (const line of lines) log(`${worker.id}| ${line}`)
    })
  }
  worker.on('online', () => log(`${name(worker)} is online`))
  worker.once('listening', () => log(`${name(worker)} is listening`))
  worker.on('message', (it) => log(`worker ${worker.id} says ${JSON.stringify(it)}`))
  places[place] = worker
  return worker
}

function leave (worker) {
  worker.disconnect()
  worker.once('disconnect', () => {
    setTimeout(() => worker.kill('SIGTERM'), 1000).unref()
  })
  setTimeout(() => worker.process.kill('SIGKILL'), drain).unref()
}

cluster.on('exit', (worker, code, signal) => {
  alive.delete(worker)
  const how = signal ? `signal ${require('node:os').constants.signals[signal]} (${signal})` : `code ${code}`
  const verb = code === 0 ? 'exited' : 'died'
  if (places[worker.place] === worker && !stopping) {
    const next = fork(worker.place)
    log(`${name(worker)} ${verb}: ${how}; forking worker ${next.id}`)
  } else {
    log(`${name(worker)} ${verb}: ${how}`)
  }
  if (stopping && alive.size === 0) process.exit(0)
})

async function reload () {
  for (const old of [...places]) {
    const next = fork(old.place)
    await new Promise((resolve) => next.once('listening', resolve))
    leave(old)
  }
  log('reloaded: all workers are new')
}

function stop () {
  if (stopping) process.exit(1)
  stopping = true
  for (const worker of alive) leave(worker)
}

process.on('SIGHUP', reload)
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
for (let place = 0; place < count; place++) fork(place)
