// Runs benches/start/app.js under each primary in turn, in alternating rounds, and prints a table of medians.
//
// All by what any of them has from outside: its process in /proc, its port, and its own command or signal
// for a reload. Every contestant gets the same port, free when it is chosen, one after the other.
'use strict'
const { spawn, execFileSync } = require('node:child_process')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')

const { MCLUSTER, PM2 } = process.env
const [WORKERS, ROUNDS, CONNECTIONS] = ['WORKERS', 'ROUNDS', 'CONNECTIONS'].map((name) => Number(process.env[name]))
const APP = path.join(__dirname, 'app.js')
const NODE_PRIMARY = path.join(__dirname, '../../tests/programs/primary.js')
const KEPT = 64
const PATIENCE = 60_000

const work = fs.mkdtempSync(path.join(os.tmpdir(), 'mcluster-bench-'))
const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function until (what, check) {
  const end = Date.now() + PATIENCE
  for (;;) {
    const found = await check()
    if (found) return found
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`)
    await rest(2)
  }
}

function freePort () {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

// One request on a connection of its own: who answers.
function ask (port) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1')
    let text = ''
    socket.setEncoding('latin1').on('data', (more) => { text += more })
    socket.on('connect', () => socket.write('GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n'))
    socket.on('error', reject)
    socket.setTimeout(5000, () => socket.destroy(new Error('no answer')))
    socket.on('close', () => {
      const pid = /\r\n\r\n(?:\w+\r\n)?(\d+)/.exec(text)
      pid ? resolve(Number(pid[1])) : reject(new Error(`answer ${JSON.stringify(text)}`))
    })
  })
}

// Asks, four at a time, until so many workers have answered that were not among `others`. One that is never
// answered keeps nobody waiting.
async function answering (port, count, others = new Set()) {
  const found = new Set()
  let stop = false
  const one = async () => {
    while (!stop) {
      const pid = await ask(port).catch(() => 0)
      if (pid && !others.has(pid)) found.add(pid)
      if (!pid) await rest(1)
    }
  }
  for (let number = 0; number < 4; number++) one()
  try {
    return await until(`${count} workers`, () => found.size >= count && found)
  } finally {
    stop = true
  }
}

const read = (file) => fs.readFileSync(file, 'latin1')
const kilobytes = (text, name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)

function memory (pid) {
  const rollup = read(`/proc/${pid}/smaps_rollup`)
  return {
    rss: kilobytes(rollup, 'Rss'),
    pss: kilobytes(rollup, 'Pss'),
    own: kilobytes(rollup, 'Private_Clean') + kilobytes(rollup, 'Private_Dirty')
  }
}

// CPU time of all threads of a process, in microseconds.
function cpu (pid) {
  let all = 0
  for (const task of fs.readdirSync(`/proc/${pid}/task`)) {
    try {
      all += Number(read(`/proc/${pid}/task/${task}/schedstat`).split(' ')[0]) / 1000
    } catch {}
  }
  return all
}

const alive = (pid) => {
  try { return !/\) Z /.test(read(`/proc/${pid}/stat`)) } catch { return false }
}

// What is started, and how it is reloaded and stopped. `primary` is the process that is measured.
function child (command, args, port, reload) {
  const env = { ...process.env, PORT: String(port), MCLUSTER_CONTROL: 'off' }
  const log = fs.openSync(path.join(work, 'log'), 'a')
  const process_ = spawn(command, args, { env, stdio: ['ignore', log, log], cwd: work })
  fs.closeSync(log)
  return {
    primary: () => process_.pid,
    reload: () => process.kill(process_.pid, 'SIGHUP'),
    stop: async () => {
      process_.kill('SIGTERM')
      await until('its end', () => process_.exitCode !== null || process_.signalCode !== null)
    }
  }
}

function pm2 (port) {
  const home = fs.mkdtempSync(path.join(work, 'pm2-'))
  const env = { ...process.env, PORT: String(port), PM2_HOME: home, PM2_DISABLE_VERSION_CHECK: 'true' }
  const run = (...args) => execFileSync(process.execPath, [PM2, ...args], { env, stdio: 'ignore', cwd: work, timeout: PATIENCE })
  run('start', APP, '-i', String(WORKERS), '--name', 'bench')
  const pid = Number(read(path.join(home, 'pm2.pid')))
  return {
    primary: () => pid,
    reload: () => spawn(process.execPath, [PM2, 'reload', 'bench'], { env, stdio: 'ignore', cwd: work }),
    stop: async () => {
      run('kill')
      await until('its end', () => !alive(pid))
    }
  }
}

const ours = (policy) => (port) =>
  child(MCLUSTER, ['start', APP, '-i', String(WORKERS), '--schedule', policy], port)
const nodes = (policy) => (port) =>
  child(process.execPath, [NODE_PRIMARY, 'start', APP, '-i', String(WORKERS), '--schedule', policy], port)

const contestants = new Map([
  ['mcluster, rr', ours('rr')],
  ['mcluster, reuseport', ours('reuseport')],
  ["Node's cluster, rr", nodes('rr')],
  ["Node's cluster, shared", nodes('shared')],
  ...(PM2 ? [['PM2', pm2]] : [])
])

// New connections, 32 at a time: the primary's CPU time for each, in microseconds.
async function perConnection (primary, port) {
  await Promise.all(Array.from({ length: 32 }, () => ask(port)))
  const before = cpu(primary)
  let left = CONNECTIONS
  const one = async () => { while (left-- > 0) await ask(port) }
  await Promise.all(Array.from({ length: 32 }, one))
  return (cpu(primary) - before) / CONNECTIONS
}

// From the end of a worker until another answers in its place, in milliseconds.
async function replaced (port) {
  const before = await answering(port, WORKERS)
  const start = performance.now()
  process.kill([...before][0], 'SIGKILL')
  await answering(port, 1, before)
  return performance.now() - start
}

// Connections that are kept, all busy, through a reload: what is lost, and what had to be sent again since
// its connection was closed while nothing of an answer had come.
async function reloaded (one, port) {
  const before = await answering(port, WORKERS)
  const count = { answers: 0, again: 0, lost: 0 }
  let stop = false
  const client = async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    while (!stop) {
      await new Promise((resolve) => {
        let begun = false
        const fail = () => {
          request.reusedSocket && !begun ? count.again++ : count.lost++
          resolve()
        }
        const request = http.get({ port, host: '127.0.0.1', agent, timeout: 10_000 }, (response) => {
          begun = true
          response.on('error', fail).on('data', () => {}).on('end', () => {
            response.statusCode === 200 ? count.answers++ : count.lost++
            resolve()
          })
        })
        request.on('error', fail).on('timeout', () => request.destroy(new Error('no answer')))
      })
    }
    agent.destroy()
  }
  const clients = Array.from({ length: KEPT }, client)
  await until('load', () => count.answers > 20 * KEPT)
  one.reload()
  await answering(port, WORKERS, before)
  await until('the old ones gone', () => [...before].every((pid) => !alive(pid)))
  const answers = count.answers
  await until('load', () => count.answers > answers + 2 * KEPT)
  stop = true
  await Promise.all(clients)
  return count
}

const median = (all) => {
  const sorted = [...all].sort((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
}

async function measure (start) {
  const port = await freePort()
  const from = performance.now()
  const one = start(port)
  try {
    await answering(port, WORKERS)
    const started = performance.now() - from
    const primary = one.primary()
    const idle = memory(primary)
    const spent = await perConnection(primary, port)
    const missed = await replaced(port)
    const { again, lost, answers } = await reloaded(one, port)
    return { started, ...idle, spent, missed, again, lost, answers }
  } finally {
    await one.stop()
  }
}

async function main () {
  const all = new Map([...contestants.keys()].map((name) => [name, []]))
  for (let round = 0; round < ROUNDS; round++) {
    // Who went first goes last in the next round.
    const names = [...contestants.keys()]
    if (round % 2) names.reverse()
    for (const name of names) {
      process.stderr.write(`round ${round + 1} of ${ROUNDS}: ${name}\n`)
      all.get(name).push(await measure(contestants.get(name)))
    }
  }
  console.log(`Node ${process.version}, ${WORKERS} workers, ${os.cpus().length} CPUs, ${CONNECTIONS} connections, ` +
    `medians of ${ROUNDS} rounds; of a reload under ${KEPT} kept connections the sum of all.\n`)
  console.log('| | RSS, MB | PSS, MB | private, MB | CPU a connection, µs | all answer, ms | killed to replaced, ms | lost in reloads | sent again |')
  console.log('|---|---:|---:|---:|---:|---:|---:|---:|---:|')
  for (const [name, rows] of all) {
    const of = (key, by = 1, digits = 0) => (median(rows.map((row) => row[key])) / by).toFixed(digits)
    const sum = (key) => rows.reduce((before, row) => before + row[key], 0)
    const cells = [of('rss', 1024, 1), of('pss', 1024, 1), of('own', 1024, 1), of('spent', 1, 1), of('started'), of('missed'), sum('lost'), sum('again')]
    console.log(`| ${name} | ${cells.join(' | ')} |`)
  }
}

main().then(
  () => fs.rmSync(work, { recursive: true, force: true }),
  (error) => {
    console.error(error)
    console.error(read(path.join(work, 'log')).split('\n').slice(-20).join('\n'))
    fs.rmSync(work, { recursive: true, force: true })
    process.exit(1)
  }
)
